"""WavTokenizer against the published code's numbers, at any length."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf
import torch

from models.dpslm.codec import WavTokenizer
from models.interfaces import Recording
from tests.dpslm import CLIPS, REFERENCE, codec, expected


def clip(name: str) -> torch.Tensor:
    return torch.from_numpy(sf.read(REFERENCE / f"wavs24/{name}.wav", dtype="float32")[0])


@pytest.mark.parametrize("name", CLIPS)
def test_codes_and_speech_are_the_published_ones(name: str) -> None:
    assert torch.equal(codec().encode(clip(name)[None])[0], expected()[f"codec/codes/{name}"])
    speech = codec().decode(expected()[f"codec/codes/{name}"][None])[0]
    torch.testing.assert_close(speech, expected()[f"codec/wav/{name}"].flatten(), rtol=0.0, atol=1e-5)


def test_every_length_has_its_codes_and_a_padded_row_those_that_it_has_alone() -> None:
    wav = clip("clip0")
    lengths = [1, 2, 599, 600, 601, 1200, len(wav)]
    batch = torch.full((len(lengths), len(wav)), 0.5)
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = wav[:length]
    together = codec().encode(batch, torch.tensor(lengths))
    for row, length in zip(together, lengths, strict=True):
        alone = codec().encode(wav[None, :length])[0]
        assert len(alone) == -(-length // 600) and torch.equal(row[: len(alone)], alone)
        assert not row[len(alone) :].any()


def test_windows_meet_without_a_seam() -> None:
    """Codes of a long file are mostly those of the whole, and its speech has the same length everywhere."""
    path = REFERENCE / "wavtokenizer.ckpt"
    short = WavTokenizer(path=path, window_seconds=1.0, context_seconds=0.25)
    wav = clip("clip0").repeat(3)
    (pieces,) = short.encode_files([Recording.of(wav)])
    whole = codec().encode(wav[None])[0]
    assert pieces.shape == whole.shape and float((pieces == whole).float().mean()) > 0.9
    speech = short.decode(whole[None])[0]
    assert len(speech) == 600 * len(whole)
    # parts are what the whole is
    assert torch.equal(torch.cat(list(short.parts(whole[None])), dim=1)[0], speech)
    jump = (speech[1:] - speech[:-1]).abs()
    assert float(jump.max()) < 2 * float((codec().decode(whole[None])[0].diff()).abs().max())


@pytest.mark.parametrize(
    "tokens",
    [torch.zeros(1, 0, 1, dtype=torch.int64), torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 1), 64)],
)
def test_what_are_no_codes_is_refused(tokens: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"tokens|codebook"):
        codec().decode(tokens)


def test_a_window_that_is_all_context_is_refused() -> None:
    with pytest.raises(ValueError, match="window_seconds"):
        WavTokenizer(path=REFERENCE / "wavtokenizer.ckpt", window_seconds=1.0, context_seconds=0.5)


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda state: state.pop("backbone.pos_net.2.q.weight"), r"backbone\.pos_net\.2\.q\.weight"),
        (lambda state: state.update({"head.surplus": torch.zeros(1)}), r"head\.surplus"),
        (lambda state: state["head.out.bias"].fill_(float("nan")), r"head\.out\.bias"),
        (lambda state: state.clear(), "missing"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, change, named: str) -> None:
    content = torch.load(REFERENCE / "wavtokenizer.ckpt", weights_only=True)
    change(content["state_dict"])
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=named) as error:
        WavTokenizer(path=tmp_path / "other.ckpt")
    assert "other.ckpt" in str(error.value)


def test_the_sibling_of_other_strides_loads_by_its_shapes(tmp_path) -> None:
    """75 codes a second: all sizes follow from the tensors."""
    content = torch.load(REFERENCE / "wavtokenizer.ckpt", weights_only=True)
    state = content["state_dict"]
    generator = torch.Generator().manual_seed(0)
    for place, stride in zip((3, 6, 9, 12), (2, 4, 5, 8), strict=True):
        name = f"feature_extractor.encodec.encoder.model.{place}.conv.conv.weight_v"
        state[name] = torch.randn(*state[name].shape[:2], 2 * stride, generator=generator)
    width = state["head.out.weight"].shape[1]
    state["head.out.weight"] = torch.randn(1282, width, generator=generator) / 100
    state["head.out.bias"] = torch.zeros(1282)
    state["head.istft.window"] = torch.hann_window(1280)
    torch.save(content, tmp_path / "sibling.ckpt")
    sibling = WavTokenizer(path=tmp_path / "sibling.ckpt")
    codes = sibling.encode(clip("clip2")[None])
    assert sibling.hop_length == 320 and codes.shape[1] == -(-len(clip("clip2")) // 320)
    assert sibling.decode(codes).shape == (1, 320 * codes.shape[1])
    assert np.isfinite(sibling.decode(codes).numpy()).all()
