"""Cores that may be used, and what a figure was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from utils import machine
from utils.distributed import process_devices


@pytest.mark.slow
def test_the_peak_of_a_process_is_its_own() -> None:
    """It began with the memory of the process that started it: what a large one started was called large."""
    large = np.ones(2**28 // 8 * 6)  # 1.5 GiB, touched
    code = "from utils.machine import peak_memory; x = b'x' * 2**28; print(peak_memory())"
    peak = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 2**28 < peak < large.nbytes


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a setting of the GNU C library")
def test_memory_that_was_freed_is_used_again_and_not_asked_of_the_system_page_by_page() -> None:
    """A LiMuSE of published size trained at half the speed: 64 MB of an activation are 16,384 pages to be zeroed."""
    code = """
import resource, sys
import numpy as np
from utils.machine import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(2**26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(2**26, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "give back")
    }
    assert faults["keep"] < 100 and faults["keep"] * 10 < faults["give back"]


def test_cores_are_those_that_this_process_may_use(monkeypatch) -> None:
    """It counted the machine's: a job of one core of two started two processes, each with two threads."""
    monkeypatch.setattr(machine, "_quotas", lambda *_: [])
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.available_cores() == 1
        assert len(process_devices(["cpu"], None, jobs=9)) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert machine.available_cores() == len(before)
    for quota, cores in (([0.5], 1), ([1.5, 1.0], 1), ([1e9], len(before))):
        monkeypatch.setattr(machine, "_quotas", lambda *_, quota=quota: quota)
        assert machine.available_cores() == cores


def test_a_control_group_limits_what_is_below_it(tmp_path) -> None:
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    inner = root / "job" / "step"
    inner.mkdir(parents=True)
    membership.write_text("0::/job/step\n")
    assert machine._quotas(membership, root) == []
    (inner / "cpu.max").write_text("max 100000\n")
    (root / "job" / "cpu.max").write_text("250000 100000\n")
    assert machine._quotas(membership, root) == [2.5]
    (root / "cpu.max").write_text("100000 100000\n")
    membership.write_text("0::/\n")
    assert machine._quotas(membership, root) == [1.0]
    membership.write_text("0::/named/from/outside\n")
    assert machine._quotas(membership, root) == [1.0]
    old = root / "cpu,cpuacct"
    old.mkdir()
    (old / "cpu.cfs_quota_us").write_text("150000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    membership.write_text("5:memory:/\n4:cpu,cpuacct:/\n")
    assert machine._quotas(membership, root) == [1.5]
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    assert machine._quotas(membership, root) == []
