"""What a process does with a group, where the memory of a GPU is too small for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from models.interfaces import Recording, Role
from models.ssl_tokenizer import encode_files
from running.jobs import Group, Job
from running.work import do_group
from tests.toy import RECIPE, read, settings
from utils import halves
from utils.recipe import Recipe


@pytest.fixture(autouse=True)
def said_anew():
    halves._say_so.cache_clear()


class Small:
    """A program whose device holds so many items."""

    inputs = {"audio": Role("audio", "audio.scp", sample_rate=16000)}
    results = {"tokens": Role("tokens", ".npy", sample_rate=50)}

    def __init__(self, holds: int) -> None:
        self.holds = holds
        self.done: list[list[str]] = []

    def __call__(self, items: Sequence) -> list[dict[str, np.ndarray]]:
        if len(items) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        self.done.append([item.name for item in items])
        return [{"tokens": np.array([[item["audio"].samples]])} for item in items]


def group(folder: Path, count: int) -> Group:
    jobs = []
    for i in range(count):
        sf.write(folder / f"{i}.wav", np.zeros(100 + i), 16000)
        jobs.append(Job(f"u{i}", {"audio": str(folder / f"{i}.wav")}, {f"u{i}": {"tokens": str(folder / f"{i}.npy")}}))
    return Group(tuple(jobs), frozenset(job.name for job in jobs))


def test_a_group_that_does_not_fit_is_done_in_halves(tmp_path, caplog) -> None:
    program = Small(holds=2)
    outcome = do_group(program, group(tmp_path, 7))
    assert not outcome.failed
    assert [int(np.load(tmp_path / f"{i}.npy")[0, 0]) for i in range(7)] == [100 + i for i in range(7)]
    assert [name for some in program.done for name in some] == [f"u{i}" for i in range(7)]
    assert len([record for record in caplog.records if "in halves" in record.message]) == 1


def test_an_item_that_does_not_fit_alone_fails_by_its_name_and_the_others_do_not(tmp_path) -> None:
    class Refusing(Small):
        def __call__(self, items):
            if any(item.name == "u1" for item in items):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return super().__call__(items)

    outcome = do_group(Refusing(holds=4), group(tmp_path, 4))
    assert list(outcome.failed) == ["u1"]
    assert "1.wav" in outcome.failed["u1"] and "batch_seconds" in outcome.failed["u1"]
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["0.npy", "2.npy", "3.npy"]


def test_pieces_of_one_mixture_are_done_in_halves(monkeypatch) -> None:
    keys = settings(piece_seconds=0.3, context_seconds=0.1)
    extractor = Recipe(RECIPE, overrides=keys).build("model")["model"]
    mixture, enrolment = read("mix_clean", "utt0")[0], read("aux_s1", "utt0")[0]
    whole = extractor.extract_with_tokens(mixture, enrolment)
    forward, rows = extractor.network.forward, []

    def small(encoded: torch.Tensor, followed: torch.Tensor) -> torch.Tensor:
        if len(encoded) > 2:
            raise torch.OutOfMemoryError("no room")
        rows.append(len(encoded))
        return forward(encoded, followed)

    monkeypatch.setattr(extractor.network, "forward", small)
    again = extractor.extract_with_tokens(mixture, enrolment)
    assert max(rows) <= 2 and len(rows) > 1
    assert torch.equal(again.tokens, whole.tokens)
    torch.testing.assert_close(again.wav, whole.wav, rtol=0, atol=1e-5)


def test_files_that_are_tokenised_together_are_done_in_halves(tokenizer, monkeypatch) -> None:
    recordings = [Recording.of(read("s1", f"utt{i}", 8000)[0]) for i in range(4)]
    whole = encode_files(tokenizer, recordings)
    encode = tokenizer.encode

    def small(wav: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if len(wav) > 1:
            raise torch.OutOfMemoryError("no room")
        return encode(wav, lengths)

    monkeypatch.setattr(tokenizer, "encode", small)
    assert all(torch.equal(a, b) for a, b in zip(encode_files(tokenizer, recordings), whole, strict=True))
