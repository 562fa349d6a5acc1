"""Small data before two microphones, that tests of both forms of lists share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf

from tests.toy import REFERENCE

LIMUSE = REFERENCE / "limuse"
LISTING = LIMUSE / "released/datalist_2mix_test.txt"
PICKLE = LIMUSE / "released/grid_vp.pkl"


def write_pairs(folder: Path, seconds: list[float], *, faces: bool = True, size: int = 4) -> Path:
    """A folder of lists: sample t of item i is i + 1 + t / 2^17 in channel 0 (the target), half in channel 1; frame v
    of its face is v + 1; number j of its voiceprint is i + j."""
    lists: dict[str, list[str]] = {"mix_clean": [], "s1": [], "aux_s1": [], "visual_s1": []}
    folder.mkdir(parents=True)
    for number, length in enumerate(seconds):
        samples = round(16000 * length)
        wav = number + 1 + np.arange(samples) / 2**17
        sf.write(folder / f"m{number}.wav", np.stack([wav, wav / 2], axis=1), 16000, subtype="FLOAT")
        sf.write(folder / f"s{number}.wav", wav, 16000, subtype="FLOAT")
        np.save(folder / f"v{number}.npy", np.arange(6, dtype=np.float32)[None] + number)
        np.save(
            folder / f"f{number}.npy", np.arange(1, -(-samples // 640) + 1, dtype=np.float32)[:, None] * np.ones(size)
        )
        for role, file in zip(
            lists, (f"m{number}.wav", f"s{number}.wav", f"v{number}.npy", f"f{number}.npy"), strict=True
        ):
            lists[role].append(f"item{number}.wav {file}\n")
    for role, lines in lists.items():
        if role != "visual_s1" or faces:
            (folder / f"{role}.scp").write_text("".join(lines))
    return folder
