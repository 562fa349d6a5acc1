"""Extraction of any length, aligned sample for sample."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from models import load_extractor
from models.interfaces import Source, TargetExtractor, TokenExtractor, fulfils
from models.tselm.extractor import Extractor
from modules.frames import FrameGrid
from tests.toy import RECIPE, REFERENCE, expected, read, settings

SHORT = {"piece_seconds": 2}  # the reference's files are of a few seconds, and are to be cut


@pytest.fixture(scope="module")
def aligned() -> Extractor:
    return load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings(**SHORT))


# -- a system whose answer is known: the token of a frame is its loudness, and the network copies the mixture ----------


class LoudnessFrontEnd:
    """One codebook: the frame's first 320 samples, quantised to 1000 steps of their peak. A frame sees nothing else."""

    mix_continuous, concat_regi = False, True
    grid = FrameGrid()
    codebook_names = ("loudness",)
    sample_rate, hop_length, num_codebooks, vocab_size, dim = 16000, 320, 1, 1000, 1

    def __init__(self, concat_regi: bool) -> None:
        self.tokenizer, self.concat_regi = self, concat_regi

    def encode(self, wav: torch.Tensor) -> torch.Tensor:
        frames = wav.unfold(-1, 400, 320)[..., :320]
        return (frames.abs().amax(dim=-1) * 999).round().long()[..., None]

    def encode_mixture(self, mixture: torch.Tensor, enrolment: torch.Tensor) -> torch.Tensor:
        first, frames = 0, self.grid.frames(mixture.shape[-1])
        if self.concat_regi:
            first = enrolment.shape[-1] // 320
            mixture = torch.cat([enrolment, mixture, enrolment], dim=-1)
        return self.encode(mixture)[:, first : first + frames]


class CopyNetwork(nn.Module):
    """Answers with a frame's own token, or with the largest within ``reach`` frames."""

    num_codebooks, vocab_size, embedding_dim, mix_continuous, max_frames = 1, 1000, 1, False, 2000

    def __init__(self, reach: int = 0) -> None:
        super().__init__()
        self.head, self.reach = nn.Linear(1, 1), reach

    def forward(self, mixture: torch.Tensor, enrolment: torch.Tensor) -> torch.Tensor:
        wide = nn.functional.max_pool1d(mixture[..., 0].float()[:, None], 2 * self.reach + 1, 1, self.reach)
        return nn.functional.one_hot(wide[:, 0].long()[..., None], 1000)


class StepVocoder:
    """Every sample of a frame is its token's loudness."""

    sample_rate, hop_length, num_codebooks, vocab_size = 16000, 320, 1, 1000

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        return (tokens[..., 0].float() / 999).repeat_interleave(320, dim=1)

    def parts(self, tokens: torch.Tensor):
        yield from map(self.decode, tokens.split(1000, dim=1))


def known(*, concat: bool = True, reach: int = 0, **more: object) -> Extractor:
    front_end, network = LoudnessFrontEnd(concat), CopyNetwork(reach)
    return Extractor(network=network, front_end=front_end, vocoder=StepVocoder(), **more)


def clicks(samples: int, every: int) -> torch.Tensor:
    wav = torch.zeros(samples)
    wav[::every] = 1.0
    return wav


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("enrolment", [64080, 64000, 20001, 400])
def test_a_click_train_comes_out_where_it_went_in(concat: bool, enrolment: int) -> None:
    """Ten minutes: a drift of 5 ms a piece, as with published chunking, would be one of 1.5 seconds."""
    mixture = clicks(600 * 16000 + 123, every=3200 * 7)
    out = known(concat=concat).extract(mixture, 0.5 * torch.rand(enrolment))
    assert len(out) == len(mixture)
    frames = torch.nn.functional.pad(mixture, (0, -len(mixture) % 320)).view(-1, 320).amax(dim=1)
    want = frames.repeat_interleave(320)[: len(mixture)]
    assert torch.equal(out, want)


@pytest.mark.parametrize("piece_seconds", [0.02, 0.1, 0.5, 2.0, 7.3])
@pytest.mark.parametrize("concat", [True, False])
def test_any_piece_length_gives_the_same_within_the_contexts_reach(piece_seconds: float, concat: bool) -> None:
    torch.manual_seed(0)
    mixture, enrolment = torch.rand(314, 1).pow(20).expand(314, 320).flatten()[:100001], torch.rand(16000)
    whole = known(concat=concat, reach=25, piece_seconds=30.0).extract(mixture, enrolment)
    parts = known(concat=concat, reach=25, piece_seconds=piece_seconds, context_seconds=0.5)
    assert torch.equal(parts.extract(mixture, enrolment), whole)
    short = known(concat=concat, reach=25, piece_seconds=piece_seconds, context_seconds=0.1)
    assert (short.cutting.window > 313) == torch.equal(
        short.extract(mixture, enrolment), whole
    )  # it would show if it failed


@pytest.mark.parametrize("batch_seconds", [0, 300])
@pytest.mark.slow
def test_the_batch_of_pieces_changes_nothing_but_rounding(aligned, batch_seconds: int) -> None:
    mixture, enrolment = read("mix_clean", "utt3")[0, :120000], read("aux_s1", "utt3")[0]
    before = aligned.extract(mixture, enrolment)
    aligned.batch_samples, kept = 16000 * batch_seconds, aligned.batch_samples
    out = aligned.extract(mixture, enrolment)
    aligned.batch_samples = kept
    torch.testing.assert_close(out, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seconds", [0.3, 1 / 16000, 0.02, 3.0, 3.005, 5.3456])
def test_the_output_is_as_long_as_the_mixture(aligned, seconds: float) -> None:
    samples = round(seconds * 16000)
    out = aligned.extract(0.1 * torch.randn(samples), read("aux_s1", "utt0")[0])
    assert out.shape == (samples,) and out.isfinite().all()


def test_same_input_same_output_and_the_input_is_not_written_to(aligned) -> None:
    mixture, enrolment = read("mix_clean", "utt0")[0], read("aux_s1", "utt0")[0]
    copies = mixture.clone(), enrolment.clone()
    first = aligned.extract(mixture, enrolment)
    torch.rand(17)  # whatever happens to the random state in between
    assert torch.equal(aligned.extract(mixture, enrolment), first)
    assert torch.equal(mixture, copies[0]) and torch.equal(enrolment, copies[1])


def test_only_the_start_of_a_long_enrolment_is_used(aligned) -> None:
    mixture, enrolment = read("mix_clean", "utt0")[0], read("aux_s1", "utt0")[0]
    assert len(enrolment) > aligned.regi_length
    cut = aligned.extract(mixture, enrolment[: aligned.regi_length])
    assert torch.equal(aligned.extract(mixture, enrolment), cut)


def test_a_batch_and_numpy_give_the_same(aligned) -> None:
    mixtures = torch.cat([read("mix_clean", u, 50000) for u in ("utt0", "utt1")])
    enrolments = torch.cat([read("aux_s1", u, 56000) for u in ("utt0", "utt1")])
    batch = aligned.extract(mixtures.numpy(), enrolments.numpy().astype(np.float64))
    assert isinstance(batch, torch.Tensor) and batch.shape == mixtures.shape
    for row in range(2):
        alone = aligned.extract(mixtures[row], enrolments[row])
        torch.testing.assert_close(batch[row], alone, rtol=0, atol=1e-4)


def test_silence_stays_silence(aligned) -> None:
    out = aligned.extract(torch.zeros(2, 20000), torch.rand(2, 16000))
    assert out.shape == (2, 20000) and not out.any()


def test_published_chunking_runs_short(aligned) -> None:
    published = known(chunking="published")
    assert len(published.extract(torch.rand(48080), torch.rand(64080))) == 48000
    assert len(published.extract(torch.rand(48081), torch.rand(64080))) == 48081
    assert expected()["l/utt2/wav_extracted"].shape == (1, 48000)


@pytest.mark.parametrize(
    ("mixture", "enrolment", "message"),
    [
        (torch.rand(0), torch.rand(16000), "no samples"),
        (torch.rand(16000), torch.rand(399), "at least 400 samples, got 399"),
        (torch.rand(16000), torch.zeros(16000), "silent"),
        (torch.rand(16000) / 0, torch.rand(16000), "mixture holds samples that are not finite"),
        (torch.rand(16000), torch.rand(16000).log() - torch.inf, "enrolment holds samples that are not finite"),
        (torch.ones(16000, dtype=torch.int16), torch.rand(16000), "got torch.int16"),
        (torch.rand(2, 16000), torch.rand(16000), "2 mixtures need as many enrolments, got 1"),
        (torch.rand(1, 1, 16000), torch.rand(16000), r"got \[1, 1, 16000\]"),
    ],
)
def test_bad_input_is_named(mixture, enrolment, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        known().extract(mixture, enrolment)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="2100 frames.*ends at 2000"):
        known(piece_seconds=40.0, context_seconds=1.0)
    with pytest.raises(ValueError, match="got 'whole'"):
        known(chunking="whole")
    with pytest.raises(ValueError, match="got 0, 0.5 and 24"):
        known(piece_seconds=0)


def test_the_recipe_and_the_constructor_cut_alike_and_longer_than_in_training() -> None:
    system = load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings())
    assert system.cutting.window == known().cutting.window == 450  # 9 s


def test_it_is_an_extractor(aligned) -> None:
    assert fulfils(aligned, TargetExtractor)


@pytest.mark.slow
def test_float32_is_true_float32_also_after_speechbrain_is_imported() -> None:
    """It allows TF32 everywhere as it is imported, which was after this project had forbidden it."""
    code = """
import torch
from models import load_extractor
from tests.toy import RECIPE, REFERENCE, settings
load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings())
backends = torch.backends
print(backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision, backends.mkldnn.matmul.fp32_precision)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "ieee ieee ieee\n", done.stderr


# -- tokens in and out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunking", ["aligned", "published"])
@pytest.mark.parametrize("samples", [3000, 48080, 100_000])
def test_a_signal_has_the_tokens_that_a_copying_network_predicts_for_it(chunking: str, samples: int) -> None:
    system = known(chunking=chunking, concat=False)
    wav = torch.rand(samples, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 1, samples)
    made = system.extract_with_tokens(wav, torch.rand(16000))
    assert torch.equal(system.encode(wav), made.tokens)
    again = system.resynthesise(wav)
    assert torch.equal(again.tokens, made.tokens) and torch.equal(again.wav, made.wav)
    assert made.tokens.shape[0] * 320 >= len(made.wav) and made.tokens.dtype == torch.int64


def test_a_batch_has_the_tokens_of_its_rows(aligned: Extractor) -> None:
    wavs = torch.cat([read("s1", name, 40000) for name in ("utt0", "utt1")])
    tokens = aligned.encode(wavs)
    assert tokens.shape == (2, 125, 6)
    assert (tokens[1] != aligned.encode(wavs[1])).float().mean() < 0.002  # a sum in another order may move one
    assert fulfils(aligned, TokenExtractor)


# -- in parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunking", ["aligned", "published"])
@pytest.mark.slow
def test_a_stream_gives_the_same_numbers_and_reads_a_batch_of_pieces_at_a_time(chunking: str) -> None:
    system = load_extractor(
        RECIPE, REFERENCE / "tselm.pth", overrides=settings(chunking=chunking, batch_seconds=6, **SHORT)
    )
    mixture, enrolment = read("mix_clean", "utt3")[0], read("aux_s1", "utt3")[0]
    whole = system.extract_with_tokens(mixture, enrolment)
    lengths = []

    def segment(start: int, length: int) -> torch.Tensor:
        lengths.append(length)
        return mixture[start : start + length]

    system.vocoder.piece_frames = 100
    ((tokens, parts),) = system.stream([Source(segment, len(mixture), enrolment)])
    assert torch.equal(tokens, whole.tokens) and max(lengths) <= 48080
    parts = list(parts)
    longest = 100 * 320 if chunking == "aligned" else 6 * 16000
    assert len(parts) >= 2 and max(len(part) for part in parts) <= longest
    torch.testing.assert_close(torch.cat(parts), whole.wav, rtol=0, atol=1e-4)
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("chunking", ["aligned", "published"])
@pytest.mark.slow
def test_mixtures_in_company_have_the_numbers_that_they_have_alone(chunking: str) -> None:
    """Of any lengths, of mixtures and of enrolments; those that can be computed together are."""
    system = load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings(chunking=chunking, **SHORT))
    lengths = {"utt0": (50000, 50000), "utt1": (61000, 50000), "utt2": (9000, 20000), "utt3": (48080, 64080)}
    pairs = [
        (read("mix_clean", name)[0, :mixture], read("aux_s1", name)[0, :enrolment])
        for name, (mixture, enrolment) in lengths.items()
    ]
    batches = []
    network = system.network.forward
    system.network.forward = lambda mixture, memory: (batches.append(len(mixture)), network(mixture, memory))[1]
    sources = [Source(lambda start, length, m=m: m[start : start + length], len(m), e) for m, e in pairs]
    together = [(tokens, torch.cat(list(parts))) for tokens, parts in system.stream(sources)]
    assert batches == ([4, 1, 2] if chunking == "aligned" else [6])
    for (tokens, wav), (mixture, enrolment) in zip(together, pairs, strict=True):
        alone = system.extract_with_tokens(mixture, enrolment)
        assert torch.equal(tokens, alone.tokens)
        torch.testing.assert_close(wav, alone.wav, rtol=0, atol=1e-4)


def test_a_silent_stream_stays_silent(aligned: Extractor) -> None:
    silence = Source(lambda start, length: torch.zeros(length), 100_000, read("aux_s1", "utt0")[0])
    speech = dataclasses.replace(silence, read=lambda start, length: read("mix_clean", "utt0")[0, start:][:length])
    (_, silent), (_, loud) = aligned.stream([silence, speech])
    assert not torch.cat(list(silent)).any() and torch.cat(list(loud)).any()


def test_lower_precision_is_close_and_only_where_it_is_asked_for(aligned: Extractor) -> None:
    low = load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings(inference_precision="bf16", **SHORT))
    target = read("s1", "utt0")[0]
    ours, theirs = low.resynthesise(target), aligned.resynthesise(target)
    assert torch.equal(ours.tokens, theirs.tokens)  # of the tokenizer, whose precision is its own
    assert 0 < (ours.wav - theirs.wav).abs().max() < 0.1 * theirs.wav.abs().max() + 0.01
    with pytest.raises(ValueError, match="bf15"):
        load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings(inference_precision="bf15"))


def test_the_contract_is_seen_where_parts_are_submodules(aligned) -> None:
    """Since Python 3.12 isinstance sees no submodule, and every list with --save-tokens failed there."""
    assert fulfils(aligned, TokenExtractor) and not fulfils(aligned.tokenizer, TokenExtractor)
