from __future__ import annotations

import pytest
import torch
from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator

from models.interfaces import Vocoder, fulfils, require_same_format
from models.unit_hifigan.files import read_vocoder
from models.unit_hifigan.vocoder import MISSING, UnitHifiGAN, load_vocoder
from tests.toy import LAYERS, REFERENCE, expected


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return expected()["l/utt0/tokens_clean"]


def test_it_is_a_vocoder_for_the_tokenizer(vocoder, tokenizer) -> None:
    assert fulfils(vocoder, Vocoder)
    require_same_format(tokenizer, vocoder)


@pytest.mark.parametrize("piece", [13, 50, 99])
def test_decoding_in_pieces_equals_decoding_whole(vocoder, tokens, piece: int) -> None:
    parts = _with_pieces(vocoder, piece).decode(tokens[:, :100])
    torch.testing.assert_close(parts, vocoder.decode(tokens[:, :100]), rtol=0, atol=1e-5)


def test_the_context_is_no_longer_than_it_must_be(vocoder, tokens) -> None:
    """A change at token 60 reaches no sample of tokens that are further away than the context."""
    other = tokens.clone()
    other[:, 60] = (other[:, 60] + 1) % 50
    change = (vocoder.decode(other) - vocoder.decode(tokens)).abs().view(150, 320).amax(dim=1)
    reached = change.nonzero().flatten()
    assert 60 - vocoder.CONTEXT <= reached.min() and reached.max() <= 60 + vocoder.CONTEXT


@pytest.mark.parametrize("frames", [0, 1, 2, 5, 6, 7])
def test_few_tokens(vocoder, tokens, frames: int) -> None:
    wav = vocoder.decode(tokens[:, :frames])
    assert wav.shape == (1, 320 * frames) and wav.isfinite().all()


def test_weight_norm_is_folded_in(tokens) -> None:
    """As it was trained, and as it is used: the same sound."""
    arguments, state = read_vocoder(REFERENCE / "hifigan")
    trained = UnitHifiganGenerator(**arguments).eval()
    trained.load_state_dict(state)
    used = load_vocoder(REFERENCE / "hifigan", vocab_size=50, trained_layers=LAYERS, layers=LAYERS)
    assert any("original0" in name for name in state)
    assert not any("original0" in name for name in used.state_dict())
    with torch.no_grad():
        wav = trained(tokens + used.offsets)[0][:, 0]
    torch.testing.assert_close(used.decode(tokens), wav, rtol=0, atol=1e-6)


def test_a_layer_that_is_not_given_counts_as_missing(tokens) -> None:
    part = load_vocoder(REFERENCE / "hifigan", vocab_size=50, trained_layers=LAYERS, layers=[3, 23])
    whole = load_vocoder(REFERENCE / "hifigan", vocab_size=50, trained_layers=LAYERS, layers=LAYERS)
    missing = torch.full_like(tokens, MISSING)
    missing[..., [1, 5]] = tokens[..., [1, 5]]
    assert part.num_codebooks == 2
    assert torch.equal(part.decode(tokens[..., [1, 5]]), whole.decode(missing))
    ids = torch.zeros_like(tokens)  # row 0 of the table is a missing layer, 1 + V * position the first of a layer
    ids[..., 1], ids[..., 5] = tokens[..., 1] + 1 + 50, tokens[..., 5] + 1 + 250
    with torch.no_grad():
        assert torch.equal(whole.generator(ids)[0][:, 0], whole.decode(missing))


def test_what_does_not_fit_is_refused(vocoder, tokens) -> None:
    with pytest.raises(ValueError, match="6 layers of 51 clusters has 307 embeddings, this one has 301"):
        load_vocoder(REFERENCE / "hifigan", vocab_size=51, trained_layers=LAYERS, layers=LAYERS)
    with pytest.raises(ValueError, match=r"not on \[2\]"):
        load_vocoder(REFERENCE / "hifigan", vocab_size=50, trained_layers=LAYERS, layers=[2])
    with pytest.raises(ValueError, match=r"\[1, 150, 5\]"):
        vocoder.decode(tokens[..., :5])


def _with_pieces(vocoder: UnitHifiGAN, frames: int) -> UnitHifiGAN:
    return UnitHifiGAN(
        generator=vocoder.generator, vocab_size=50, trained_layers=LAYERS, layers=LAYERS, piece_frames=frames
    )
