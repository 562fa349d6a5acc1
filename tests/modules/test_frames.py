from __future__ import annotations

import pytest
import torch

from modules.frames import FrameGrid, length_mask

GRID = FrameGrid()


@pytest.mark.parametrize(("samples", "frames"), [(48080, 150), (64080, 200), (176240, 550), (400, 1), (399, 0), (0, 0)])
def test_frame_law(samples: int, frames: int) -> None:
    assert GRID.frames(samples) == frames
    assert GRID.frames(torch.tensor([samples])).tolist() == [frames]


@pytest.mark.parametrize("frames", [1, 2, 150, 2000])
def test_samples_is_the_fewest_that_give_the_frames(frames: int) -> None:
    assert GRID.frames(GRID.samples(frames)) == frames
    assert GRID.frames(GRID.samples(frames) - 1) == frames - 1


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (320, 1), (321, 2), (48000, 150)])
def test_cover(samples: int, frames: int) -> None:
    assert GRID.cover(samples) == frames


def test_a_grid_with_gaps_is_refused() -> None:
    with pytest.raises(ValueError, match="hop 320 and window 300"):
        FrameGrid(window=300, hop=320)


def test_length_mask() -> None:
    assert length_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]
