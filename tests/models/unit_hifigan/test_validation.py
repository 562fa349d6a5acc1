"""What a validation of the unit HiFi-GAN measures and shows."""

from __future__ import annotations

import pytest
import torch

from tests.unit_hifigan import make, make_batch


@torch.no_grad()
def test_validation_sums_over_items(discriminator) -> None:
    task = make(discriminator).eval()
    batch = make_batch(3, frames=60)
    together = task.evaluate(batch)
    alone = [task.evaluate({name: x[i : i + 1] for name, x in batch.items()}) for i in range(3)]
    assert together.keys() == {"mel", "stoi"}
    for name, (total, count) in together.items():
        assert count == 3
        assert float(total) == pytest.approx(sum(float(one[name][0]) for one in alone), rel=1e-4)


@torch.no_grad()
def test_validation_is_in_float32_whatever_training_is_in() -> None:
    """Rounded to bfloat16, the waveform would have noise that the exported vocoder's has not."""
    task, batch = make(None).eval(), make_batch(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = task.evaluate(batch)["mel"], task.media(batch).audio["resynthesised"]
    outside = task.evaluate(batch)["mel"], task.media(batch).audio["resynthesised"]
    assert torch.equal(inside[0][0], outside[0][0]) and torch.equal(inside[1], outside[1])


@torch.no_grad()
def test_stoi_is_of_items_with_speech(discriminator) -> None:
    task = make(discriminator).eval()
    batch = make_batch(3, frames=60)
    batch["wav"][1, 1000:] = 0
    assert task.evaluate(batch)["stoi"][1] == 2 and task.evaluate(batch)["mel"][1] == 3
    assert "stoi" not in task.evaluate(make_batch(2, frames=10))  # too short
    task.generator.forward = lambda ids: (batch["wav"][:1, None], None)
    total, count = task.evaluate({name: x[:1] for name, x in batch.items()})["stoi"]
    assert float(total) / count == pytest.approx(1.0, abs=1e-3)  # of the signal itself


def test_media_are_what_was_and_what_is_made(discriminator) -> None:
    batch = make_batch(2, frames=20)
    media = make(discriminator).eval().media(batch)
    assert torch.equal(media.audio["real"], batch["wav"][0])
    assert media.audio["resynthesised"].shape == (6400,) and not media.audio["resynthesised"].requires_grad
    assert media.images.keys() == media.audio.keys() and media.sample_rate == 16000
