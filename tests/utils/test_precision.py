"""The settings can be read without a GPU; what they do needs one."""

from __future__ import annotations

import platform

import pytest
import torch

from utils import precision as module
from utils.precision import (
    DTYPES,
    autocast,
    float32_products,
    instructions,
    is_native,
    require_known,
    resolve_precision,
)

CPU = torch.device("cpu")
PRODUCTS = {"fp32": "ieee", "tf32": "tf32", "bf16": "ieee", "fp16": "ieee"}
BACKENDS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)


def found() -> list[str]:
    return [backend.fp32_precision for backend in BACKENDS]


@pytest.fixture(params=["as torch has it", "all", "none", "from above"])
def outside(request):
    """Settings that a program may have made before: with either of torch's two interfaces, or with none."""
    before, above = found(), torch.backends.fp32_precision
    if request.param in ("all", "none"):  # what some libraries do when they are imported, and what undoes it
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request.param == "all"
    elif request.param == "from above":
        for backend in BACKENDS:
            backend.fp32_precision = "none"
        torch.backends.fp32_precision = "tf32"
    yield found()
    torch.backends.fp32_precision = above
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    for backend, setting in zip(BACKENDS, before, strict=True):
        backend.fp32_precision = setting


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("around", DTYPES)
def test_a_context_says_how_to_compute_whatever_holds_around_it(outside, around: str, precision: str) -> None:
    x = torch.ones(2, 2)
    with autocast(CPU, around):
        assert found() == [PRODUCTS[around]] * 3 and (x @ x).dtype == DTYPES[around]
        with autocast(CPU, precision):
            assert found() == [PRODUCTS[precision]] * 3 and (x @ x).dtype == DTYPES[precision]
        assert found() == [PRODUCTS[around]] * 3 and (x @ x).dtype == DTYPES[around]
    assert found() == outside and (x @ x).dtype == torch.float32


def test_an_error_in_it_leaves_the_settings_as_they_were(outside) -> None:
    for context in (autocast(CPU, "tf32"), float32_products("tf32")):
        with pytest.raises(ZeroDivisionError), context:
            raise ZeroDivisionError
        assert found() == outside


def test_a_generator_computes_in_it_and_its_caller_does_not(outside) -> None:
    """As the extractor decodes: the context is entered and left around each part."""

    def parts():
        for _ in range(2):
            with torch.inference_mode(), autocast(CPU, "tf32"):
                settings = found()
            yield settings

    for inside in parts():
        assert inside == ["tf32"] * 3 and found() == outside


def test_what_older_programs_read_is_the_same_after_it(outside) -> None:
    def legacy() -> list[object]:
        read = []
        for backend in (torch.backends.cuda.matmul, torch.backends.cudnn):
            try:
                read.append(backend.allow_tf32)
            except RuntimeError:  # torch refuses where the two interfaces were mixed
                read.append("mixed")
        return read

    before = legacy()
    with autocast(CPU, "tf32"):
        pass
    assert legacy() == before


def test_on_a_cpu_tf32_is_fp32() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 64), torch.randn(1, 8, 64)
    weight = torch.randn(8, 8, 5)
    results = []
    for precision in ("fp32", "tf32"):
        with autocast(CPU, precision):
            results.append((x @ x, torch.nn.functional.conv1d(y, weight)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("wrong", [None, True], ids=["as this machine is", "as with AMX"])
@pytest.mark.parametrize("channels", [1, 2, 8, 12, 16])
@pytest.mark.parametrize("kind", ["Conv1d", "ConvTranspose1d", "Conv2d"])
def test_convolutions_of_few_channels_are_right_in_bf16(monkeypatch, kind: str, channels: int, wrong) -> None:
    """oneDNN 3.10.2 gives nonsense for them on a CPU with AMX: a toy WavLM's tokens were other ones there."""
    if wrong:
        monkeypatch.setattr(module, "narrow_convolutions_are_wrong", lambda: True)
    torch.manual_seed(0)
    layer = getattr(torch.nn, kind)(channels, channels, (3, 16) if kind == "Conv2d" else 16)
    x = torch.randn(2, channels, *((32, 48) if kind == "Conv2d" else (48,)), requires_grad=True)

    def results() -> list[torch.Tensor]:
        y = layer(x).float()
        return [y, *torch.autograd.grad((y * torch.ones_like(y).cumsum(dim=-1)).sum(), [x, *layer.parameters()])]

    expected = results()
    with autocast(CPU, "bf16"):
        found = results()
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 0.02 * b.norm()


def test_no_other_type_is_changed_where_convolutions_of_few_channels_are_wrong(monkeypatch) -> None:
    monkeypatch.setattr(module, "narrow_convolutions_are_wrong", lambda: True)
    layer = torch.nn.Conv1d(8, 8, 16).double()
    with autocast(CPU, "bf16"):
        assert layer(torch.randn(1, 8, 20, dtype=torch.float64)).dtype == torch.float64


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="one of fp32, tf32, bf16, fp16, auto, got 'fp8'"):
        require_known("fp8")
    with pytest.raises(ValueError, match="fp8"):
        resolve_precision("fp8", "cpu")


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_what_the_device_multiplies(monkeypatch, native: bool) -> None:
    monkeypatch.setattr(module, "is_native", lambda name, device: native or DTYPES[name] == torch.float32)
    require_known("auto")
    became = "bf16" if native else "fp32"
    assert resolve_precision("auto", "cpu") == became
    x = torch.ones(2, 2)
    with autocast(CPU, "auto"):
        assert (x @ x).dtype == DTYPES[became]
    assert [resolve_precision(name, CPU) for name in DTYPES] == list(DTYPES)


def test_an_emulated_precision_is_said_once(monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "is_native", lambda name, device: DTYPES[name] == torch.float32)
    module._warn_of_emulation.cache_clear()
    for _ in range(2):
        resolve_precision("bf16", "cpu")
        resolve_precision("fp32", "cpu")
    assert [record.message for record in caplog.records] == [
        "precision bf16 is emulated here: this CPU has no instructions for it, and fp32 is faster (auto chooses)"
    ]
    module._warn_of_emulation.cache_clear()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are those of x86")
def test_torch_still_tells_of_the_instructions_that_are_asked_for() -> None:
    found = torch.cpu.get_capabilities()
    for name in ("avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16"):
        assert name in found, f"torch.cpu.get_capabilities() says nothing of {name} any more: see utils/precision.py"


@pytest.fixture
def processor(monkeypatch):
    """A processor with all instructions, in place of this one."""
    for name in module._ONEDNN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    everything = dict.fromkeys(("avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16"), True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: everything)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    return everything


def test_bf16_needs_its_instructions(processor) -> None:
    assert is_native("bf16", CPU) and is_native("fp16", CPU)
    assert instructions(CPU) == "AVX512, bf16 in hardware, fp16 in hardware"
    processor["avx512_bf16"] = processor["avx512_fp16"] = False
    assert is_native("bf16", CPU)  # by AMX
    processor.clear()
    assert not is_native("bf16", CPU) and is_native("fp32", CPU)
    assert instructions(CPU) == "AVX512, bf16 emulated, fp16 emulated"


def test_variables_that_keep_torch_from_instructions_are_heeded(processor, monkeypatch) -> None:
    for allowed, native in (("avx2", False), ("AVX512_CORE", False), ("AVX512_CORE_BF16", True), ("DEFAULT", True)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed)
        assert is_native("bf16", CPU) == native
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")  # as with ATEN_CPU_CAPABILITY=avx2
    assert not is_native("bf16", CPU)
