"""Extraction: windows, levels, batches, and what it refuses."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from models.interfaces import Recording
from models.limuse.extractor import Extractor, Source
from models.limuse.windows import Window, Windows
from tests.limuse import inputs, network


class Loud(torch.nn.Module):
    """Half of the first channel, turned over if asked for."""

    cues, channels, voiceprint_dim, visual_dim, gain = ("visual",), 2, 512, 4, 0.5

    def __init__(self):
        super().__init__()
        self.decoder = torch.nn.Linear(1, 1)

    def forward(self, mixture, voiceprint, visual):
        assert visual.shape[1] == -(-mixture.shape[-1] // 640)
        return self.gain * mixture[:, 0]


def extractor(**more) -> Extractor:
    return Extractor(network=Loud(), **{"piece_seconds": 1.0, "overlap_seconds": 0.1, **more})


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("samples", [1, 15999, 16000, 16001, 30000, 30400, 30401, 77777])
def test_windows_cover_a_recording(samples: int) -> None:
    windows = Windows(piece_seconds=1.0, overlap_seconds=0.1, sample_rate=16000)
    cut = windows.cut(samples)
    assert cut[0].start == 0 and cut[-1].start + cut[-1].length == samples
    assert all(window.start % 640 == 0 and window.length <= 16000 for window in cut)
    assert all(a.start + a.length - b.start >= 1600 for a, b in zip(cut, cut[1:], strict=False))
    wav = torch.randn(samples)
    parts = list(windows.join(cut, (wav[w.start : w.start + w.length] for w in cut)))
    assert torch.allclose(torch.cat(parts), wav, atol=1e-6)
    assert max(len(part) for part in parts) <= 16000 + 640


def test_windows_are_faded_linearly() -> None:
    windows = Windows(piece_seconds=0.08, overlap_seconds=0.04, sample_rate=16000)
    cut = windows.cut(1920)
    assert cut == [Window(0, 1280), Window(640, 1280)]
    joined = torch.cat(list(windows.join(cut, (torch.zeros(1280), torch.ones(1280)))))
    assert torch.allclose(joined[640:1280], torch.arange(1, 641) / 641) and not joined[:640].any()


@pytest.mark.parametrize(("piece", "overlap"), [(1.0, 1.0), (0.5, 1.0), (0.03, 0.0), (float("nan"), 0.1), (1.0, -1.0)])
def test_windows_that_cannot_be_are_refused_by_key(piece: float, overlap: float) -> None:
    with pytest.raises(ValueError, match="piece_seconds.*overlap_seconds"):
        extractor(piece_seconds=piece, overlap_seconds=overlap)


def test_long_recordings_are_read_in_windows_and_keep_their_level() -> None:
    wav = noise(100_007)
    asked: list[int] = []

    def read(start: int, length: int) -> torch.Tensor:
        asked.append(length)
        return wav[:, start : start + length]

    source = Source(Recording(read, wav.shape[1]), None, torch.zeros(157, 4))
    made = torch.cat(list(extractor().stream([source])[0]))
    assert torch.allclose(made, wav[0], atol=1e-6)  # <x, y> / <y, y> is 2
    assert max(asked) <= 16640
    assert torch.allclose(extractor(level="raw").extract(wav), 0.5 * wav[0], atol=1e-6)


@pytest.mark.parametrize("samples", [9000, 50_001])  # one window, several
def test_outputs_lose_their_mean_where_that_is_asked_for(samples: int) -> None:
    """SI-SDR leaves it open, and some outputs of a trained network had one of a tenth of their level."""
    wav, face = noise(samples), torch.zeros(-(-samples // 640), 4)
    wav[0] -= wav[0].mean()
    made = {}
    for name, keys in {
        "kept": {},
        "removed": {"remove_mean": True},
        "raw": {"remove_mean": True, "level": "raw"},
    }.items():
        model = extractor(**keys)
        model.network.forward = lambda mixture, voiceprint, visual: 0.5 * mixture[:, 0] + 0.02
        made[name] = torch.cat(list(model.stream([Source(Recording.of(wav), None, face)])[0]))
        assert torch.allclose(model.extract(wav), made[name], atol=1e-7)
    assert float(made["kept"].mean()) > 0.01
    assert torch.allclose(made["removed"], wav[0], atol=1e-6)  # and the level is the recording's
    assert torch.allclose(made["raw"], 0.5 * wav[0] + 0.02, atol=1e-6)


def test_a_constant_output_without_its_mean_is_silent_and_no_noise_made_loud() -> None:
    model = extractor(remove_mean=True)
    model.network.forward = lambda mixture, voiceprint, visual: torch.full_like(mixture[:, 0], 0.3)
    made = model.extract(noise(3001))
    assert float(made.abs().max()) < 1e-6


def test_several_recordings_keep_their_order() -> None:
    wavs = [noise(n, seed=n) for n in (5000, 40_000, 700, 5000)]
    sources = [Source(Recording.of(wav), None, torch.zeros(-(-wav.shape[1] // 640), 4)) for wav in wavs]
    for wav, parts in zip(wavs, extractor().stream(sources), strict=True):
        assert torch.allclose(torch.cat(list(parts)), wav[0], atol=1e-6)


def test_an_output_that_is_turned_over_keeps_its_level_and_is_named(caplog) -> None:
    model = extractor()
    model.network.gain = -0.5
    wav = noise(3000)
    source = Source(Recording.of(wav), None, torch.zeros(5, 4), "talk.wav")
    with caplog.at_level(logging.WARNING):
        made = torch.cat(list(model.stream([source])[0]))
    assert torch.allclose(made, -0.5 * wav[0]) and "talk.wav" in caplog.text
    caplog.clear()
    assert not model.extract(torch.zeros(2, 3000)).any() and not caplog.records


def test_inputs_are_checked() -> None:
    model = Extractor(network=network())
    x, v = inputs("utt0")["mixture"], inputs("utt0")["voiceprint"]
    for given, words in (
        ({"mixture": x[:1], "voiceprint": v}, "1 channel, 2 are needed"),
        ({"mixture": x[0], "voiceprint": v}, r"\[C, T\]"),
        ({"mixture": x.long(), "voiceprint": v}, "floating point"),
        ({"mixture": x * torch.nan, "voiceprint": v}, "not finite"),
        ({"mixture": x[:, :0], "voiceprint": v}, "no samples"),
        ({"mixture": x}, "either an enrolment or its voiceprint"),
        ({"mixture": x, "enrolment": x[0]}, "speaker_encoder"),
        ({"mixture": x, "voiceprint": v[:5]}, r"\[512\]"),
        ({"mixture": x, "voiceprint": v * torch.inf}, "not finite"),
        ({"mixture": x, "voiceprint": v, "visual": torch.zeros(99, 256)}, "99 frames.*18"),
        ({"mixture": x, "voiceprint": v, "visual": torch.zeros(18, 25)}, "visual_dim"),
        ({"mixture": torch.stack([x, x]), "voiceprint": v}, "2 mixtures need as many voiceprints"),
    ):
        with pytest.raises(ValueError, match=words):
            model.extract(**given)
    with pytest.raises(ValueError, match="visual is not among"):
        Extractor(network=network("no_codec", cues=["voiceprint"])).extract(
            x, voiceprint=v, visual=torch.zeros(18, 256)
        )
    with pytest.raises(ValueError, match="level must be one of mixture, raw"):
        extractor(level="loud")


def test_numpy_arrays_short_faces_and_constants() -> None:
    model = Extractor(network=network())
    v = inputs("utt0")["voiceprint"].numpy()
    made = model.extract(np.zeros((2, 3000), np.float32), voiceprint=v, visual=np.zeros((3, 256), np.float32))
    assert made.shape == (3000,) and made.dtype == torch.float32 and made.isfinite().all()
    assert model.extract(np.full((2, 1), 0.1), voiceprint=v).isfinite().all()


def test_one_microphone_takes_the_first_channel_of_any_file() -> None:
    model = Extractor(network=network(channels=1))
    x, v = inputs("utt0")["mixture"][:, :2000], inputs("utt0")["voiceprint"]
    assert torch.equal(model.extract(x, voiceprint=v), model.extract(x[:1], voiceprint=v))
