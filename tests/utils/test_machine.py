"""What a figure was measured on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np


def test_the_peak_of_a_process_is_its_own() -> None:
    """It began with the memory of the process that started it: what a large one started was called large."""
    large = np.ones(2**28 // 8 * 6)  # 1.5 GiB, touched
    code = "from utils.machine import peak_memory; x = b'x' * 2**28; print(peak_memory())"
    peak = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 2**28 < peak < large.nbytes
