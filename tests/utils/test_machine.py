"""What a figure was measured on."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from utils import machine

CPU = torch.device("cpu")


def test_the_peak_of_a_process_is_its_own() -> None:
    """It began with the memory of the process that started it: what a large one started was called large."""
    large = np.ones(2**28 // 8 * 6)  # 1.5 GiB, touched
    code = "from utils.machine import peak_memory; x = b'x' * 2**28; print(peak_memory())"
    peak = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 2**28 < peak < large.nbytes


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are those of x86")
def test_torch_still_tells_of_the_instructions_that_are_asked_for() -> None:
    found = torch.cpu.get_capabilities()
    for name in ("avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16"):
        assert name in found, f"torch.cpu.get_capabilities() says nothing of {name} any more: see utils/machine.py"


@pytest.fixture
def processor(monkeypatch):
    """A processor with all instructions, in place of this one."""
    for name in machine._ONEDNN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    everything = dict.fromkeys(("avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16"), True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: everything)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    return everything


def test_bf16_needs_its_instructions(processor) -> None:
    assert machine.multiplies(torch.bfloat16, CPU) and machine.multiplies(torch.float16, CPU)
    assert machine.instructions(CPU) == "AVX512, bf16 in hardware, fp16 in hardware"
    processor["avx512_bf16"] = processor["avx512_fp16"] = False
    assert machine.multiplies(torch.bfloat16, CPU)  # by AMX
    processor.clear()
    assert not machine.multiplies(torch.bfloat16, CPU) and machine.multiplies(torch.float32, CPU)
    assert machine.instructions(CPU) == "AVX512, bf16 emulated, fp16 emulated"
    assert not machine.multiplies(torch.float8_e5m2, CPU)


def test_variables_that_keep_torch_from_instructions_are_heeded(processor, monkeypatch) -> None:
    for allowed, native in (("avx2", False), ("AVX512_CORE", False), ("AVX512_CORE_BF16", True), ("DEFAULT", True)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed)
        assert machine.multiplies(torch.bfloat16, CPU) == native
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")  # as with ATEN_CPU_CAPABILITY=avx2
    assert not machine.multiplies(torch.bfloat16, CPU)
