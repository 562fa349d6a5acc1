"""The codec: rows as they are alone, pieces as one pass, the public code's numbers, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from models.interfaces import Recording, Tokenizer, Vocoder, fulfils
from models.speechtokenizer.codec import SpeechTokenizer
from tests.codec import LONG_SAMPLES, UTTERANCES, VARIANTS, architecture, expected, largest, load, read


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def codec(variant: str) -> SpeechTokenizer:
    return load(variant)


# --- properties ---


def test_it_is_tokenizer_and_vocoder(codec) -> None:
    assert fulfils(codec, Tokenizer) and fulfils(codec, Vocoder)
    assert (codec.sample_rate, codec.hop_length, codec.num_codebooks) == (16000, 320, 8)
    assert codec.codebook_names == tuple(f"rvq_{k}" for k in range(1, 9))
    assert codec.codebooks.shape == (8, codec.vocab_size, codec.network.architecture.dimension)
    codec.train()
    assert not codec.training and not any(p.requires_grad for p in codec.parameters())


def test_a_padded_row_has_the_tokens_that_it_has_alone(codec) -> None:
    rows = [read(u) for u in UTTERANCES] + [read("utt1")[:n] for n in (1, 319, 321, 960)]
    size = max(map(len, rows)) + 777
    noise = torch.Generator().manual_seed(0)  # which must not be heard
    batch = torch.stack([torch.cat([r, 0.3 * torch.randn(size - len(r), generator=noise)]) for r in rows])
    before = batch.clone()
    tokens = codec.encode(batch, torch.tensor([len(r) for r in rows]))
    latents = codec.encode_latents(batch, torch.tensor([len(r) for r in rows]))
    assert tokens.shape[1] == -(-size // 320) and torch.equal(batch, before)
    for i, row in enumerate(rows):
        frames = -(-len(row) // 320)
        assert torch.equal(tokens[i, :frames], codec.encode(row[None])[0])
        assert not tokens[i, frames:].any() and not latents[i, frames:].any()
        assert largest(latents[i, :frames], codec.encode_latents(row[None])[0]) < 1e-5


def test_a_padded_row_of_tokens_sounds_as_it_does_alone(codec) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(codec.vocab_size, (3, 40, 8), generator=generator)
    wav = codec.decode(tokens, lengths=torch.tensor([40, 7, 1]))
    for row, frames in enumerate([40, 7, 1]):
        alone = codec.decode(tokens[row : row + 1, :frames])
        assert largest(wav[row : row + 1, : 320 * frames], alone) < 1e-5
        assert not wav[row, 320 * frames :].any()


@pytest.mark.parametrize("piece_seconds", [0.02, 0.5])
def test_pieces_are_as_one_pass(variant: str, codec, piece_seconds: float) -> None:
    wav = read("utt1")[None]
    pieces = load(variant, piece_seconds=piece_seconds)
    assert largest(pieces.encode_latents(wav), codec.encode_latents(wav)) < 1e-5
    tokens = codec.encode(wav)
    assert torch.equal(pieces.encode(wav), tokens)
    assert largest(pieces.decode(tokens), codec.decode(tokens)) < 1e-5
    parts = list(pieces.parts(tokens))
    assert len(parts) == -(-76 // round(50 * piece_seconds))
    assert largest(torch.cat(parts, dim=1), codec.decode(tokens)) < 1e-5


def test_a_signal_is_read_as_it_is_needed(variant: str) -> None:
    asked = []

    def reader(start: int, length: int) -> torch.Tensor:
        asked.append(length)
        return wav[:, start : start + length]

    wav = read("utt0")[None].repeat(1, 5)
    few = load(variant, piece_seconds=0.4)
    (latents,) = few.latents_of([reader], [wav.shape[1]])
    assert largest(latents[None], few.encode_latents(wav)) == 0
    assert max(asked) < 0.7 * 16000 and len(asked) == 13


def test_files_are_encoded_together_as_each_alone(codec) -> None:
    waves = [read(u) for u in ("utt0", "utt1", "utt2")]
    recordings = [Recording(lambda start, n, x=x: x[start : start + n].numpy(), len(x)) for x in waves]
    for wav, tokens in zip(waves, codec.encode_files(recordings), strict=True):
        assert torch.equal(tokens, codec.encode(wav[None])[0])


def test_a_range_is_a_slice_of_the_whole_cascade(variant: str, codec) -> None:
    wav = read("utt0")[None]
    few = load(variant, codebooks=2)
    assert few.num_codebooks == 2 and few.codebook_names == ("rvq_1", "rvq_2")
    tokens = codec.encode(wav)
    assert torch.equal(few.encode(wav), tokens[..., :2])
    assert torch.equal(few.dequantise(tokens), codec.dequantise(tokens))  # which binds only what is encoded
    rows = codec.codebooks[1][tokens[..., 1]] + codec.codebooks[2][tokens[..., 2]]
    assert torch.equal(codec.dequantise(tokens[..., 1:3], 1), rows)


def test_speech_is_cut_to_the_length_that_is_asked_for(codec) -> None:
    tokens = expected()["elu/utt2/tokens"].long() % codec.vocab_size
    whole = codec.decode(tokens)
    assert whole.shape == (1, 32 * 320) and torch.equal(codec.decode(tokens, length=9999), whole[:, :9999])
    assert torch.equal(codec.decode(tokens.to(torch.uint8)), whole)


def test_other_weights_replace_the_prepared_ones() -> None:
    codec, other = load("elu"), load("elu")
    wav = read("utt0")[None]
    wanted = codec.encode_latents(wav)
    with torch.no_grad():
        for parameter in other.network.encoder.parameters():
            parameter.mul_(1.1)
    other._encoder.forget()
    assert largest(other.encode_latents(wav), wanted) > 1e-3
    other.load_checkpoint("tests/reference/speechtokenizer/elu/SpeechTokenizer.pt")
    assert largest(other.encode_latents(wav), wanted) == 0


# --- the public code's numbers ---


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_every_stage_is_the_public_codes(variant: str, codec, utterance: str) -> None:
    want = {key: expected()[f"{variant}/{utterance}/{key}"] for key in ("latents", "quantised", "semantic", "wav")}
    wav = read(utterance)[None]
    tokens = codec.encode(wav)
    assert tokens.dtype == torch.int64 and torch.equal(tokens, expected()[f"{variant}/{utterance}/tokens"].long())
    assert largest(codec.encode_latents(wav), want["latents"]) < 2e-4
    assert largest(codec.dequantise(tokens), want["quantised"]) < 1e-5
    assert largest(codec.semantic_features(tokens), want["semantic"]) < 1e-4
    assert largest(codec.decode(tokens), want["wav"]) < 2e-4
    assert codec.decode(tokens, length=wav.shape[1]).shape == wav.shape


def test_the_training_pass_is_the_public_codes(variant: str, codec) -> None:
    """Whole layers, and not the products that use computes with."""
    with torch.no_grad():
        coded = codec.network(read("utt0")[None])
    assert torch.equal(coded.tokens, expected()[f"{variant}/utt0/tokens"].long())
    assert largest(coded.semantic, expected()[f"{variant}/utt0/semantic"]) < 1e-4
    assert largest(coded.wav, expected()[f"{variant}/utt0/wav"]) < 2e-4


@pytest.mark.parametrize(
    ("key", "columns", "first"),
    [("wav_1", slice(0, 1), 0), ("wav_from_2", slice(1, None), 1), ("wav_range", slice(1, 3), 1)],
)
def test_ranges_are_the_public_codes(variant: str, codec, key: str, columns: slice, first: int) -> None:
    tokens = expected()[f"{variant}/utt0/tokens"].long()[..., columns]
    assert largest(codec.decode(tokens, first_codebook=first), expected()[f"{variant}/utt0/{key}"]) < 2e-4


@pytest.mark.parametrize("samples", [1, 7, 319, 321, 1000])
def test_a_few_samples_are_as_the_public_codes(variant: str, codec, samples: int) -> None:
    tokens = codec.encode(read("utt1")[None, :samples])
    assert torch.equal(tokens, expected()[f"{variant}/short/{samples}/tokens"].long())
    assert largest(codec.decode(tokens), expected()[f"{variant}/short/{samples}/wav"]) < 2e-4


def test_a_long_file_in_pieces_is_as_the_public_codes(variant: str) -> None:
    pieces = load(variant, piece_seconds=3.0)
    wav = read("utt2").repeat(LONG_SAMPLES // 9999 + 1)[None, :LONG_SAMPLES]
    tokens = expected()[f"{variant}/long/tokens"].long()
    assert (pieces.encode(wav) != tokens).float().mean() < 0.003
    assert largest(pieces.decode(tokens)[0, ::97], expected()[f"{variant}/long/wav_every_97th"]) < 2e-4


# --- refusals ---


def test_tokens_that_cannot_be_are_refused(codec) -> None:
    tokens = torch.zeros(1, 5, 8, dtype=torch.int64)
    for message, wrong, first in (
        (r"integers \[B, N, k\].*got torch.float32", tokens.float(), 0),
        (r"got torch.int64 \[1, 5\]", tokens[..., 0], 0),
        (r"got torch.int64 \[1, 0, 8\]", tokens[:, :0], 0),
        (rf"0 to {codec.vocab_size - 1}, they are {codec.vocab_size}", tokens + codec.vocab_size, 0),
        ("they are -1 to -1", tokens - 1, 0),
        ("7 codebooks from codebook 1 on, the tokens have 8 columns", tokens, 1),
        ("first_codebook must be 0 to 7, got 8", tokens[..., :1], 8),
        ("first_codebook must be 0 to 7, got -1", tokens[..., :1], -1),
    ):
        with pytest.raises(ValueError, match=message):
            codec.decode(wrong, first_codebook=first)
    with pytest.raises(ValueError, match="length must be 0 to 1600, the samples of 5 frames, got 1601"):
        codec.decode(tokens, length=1601)
    with pytest.raises(ValueError, match="from 1 to 5, got .6."):
        codec.decode(tokens, lengths=torch.tensor([6]))


def test_waves_that_cannot_be_are_refused(codec) -> None:
    for wav in (torch.zeros(5), torch.zeros(1, 0), torch.zeros(1, 5, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"floats \[B, T\]"):
            codec.encode(wav)
    for lengths in ([0], [6], [5, 5]):
        with pytest.raises(ValueError, match="lengths must be 1 numbers of samples from 1 to 5"):
            codec.encode(torch.zeros(1, 5), torch.tensor(lengths))


def test_settings_that_cannot_be_are_refused() -> None:
    sizes = architecture("elu")
    for message, settings in (
        ("codebooks must be 1 to 8.*got 9", dict(codebooks=9)),
        ("codebooks must be 1 to 8.*got 0", dict(codebooks=0)),
        ("piece_seconds must be above 0, got 0", dict(piece_seconds=0)),
        ("precision must be one of", dict(precision="int8")),
    ):
        with pytest.raises(ValueError, match=message):
            SpeechTokenizer(architecture=sizes, **settings)
