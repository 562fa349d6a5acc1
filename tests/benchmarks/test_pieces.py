"""The study of the pieces' length: what it extracts from, how it judges, and that it runs."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch

from benchmarks import pieces
from data import audio
from data.prepare.utterances import ROLES
from data.scp import write_scp
from evaluation.tokens import TokenSystem
from models.interfaces import Extraction

for package in ("espeakng_loader", "torchmetrics", "pystoi"):
    pytest.importorskip(package, reason="requirements-synthetic.txt or requirements-eval.txt is not installed")


@pytest.fixture(scope="module")
def mixtures() -> list[tuple[np.ndarray, ...]]:
    return list(pieces.long_mixtures(2, (6.0, 6.5), split="test", seed=3))


def test_mixtures_are_long_and_at_the_corpus_levels(mixtures) -> None:
    for mixture, target, interferer, enrolment in mixtures:
        assert 6.0 <= len(mixture) / 16000 <= 6.5 and len(enrolment) > 16000
        assert np.allclose(mixture, target + interferer, atol=1e-6)
        power = [np.square(wav).mean() for wav in (target, interferer)]
        assert abs(10 * np.log10(power[0] / power[1])) < 6.5  # 5 dB, before both were cut
    assert not np.array_equal(mixtures[0][0][16000:32000], mixtures[1][0][16000:32000])


def test_the_same_seed_gives_the_same_mixtures(mixtures) -> None:
    again = next(pieces.long_mixtures(2, (6.0, 6.5), split="test", seed=3))
    assert all(map(np.array_equal, again, mixtures[0]))


def test_an_extraction_is_judged_by_what_it_holds(mixtures) -> None:
    mixture, target, interferer, _ = mixtures[0]
    system, tokens = TokenSystem(("a", "b"), 10, ""), np.arange(200).reshape(100, 2) % 10
    known = {"whole": tokens, "own": np.where(np.arange(100)[:, None] < 25, 11, tokens)}
    right = pieces.judge(
        Extraction(torch.from_numpy(target), torch.from_numpy(tokens)), known, target, interferer, system
    )
    assert right["error"] == (0.0, 200) and right["own"] == (5000.0, 200)
    assert right["stoi"] > 0.999 and right["talker"] == 100 and right["stretches"] == (300.0, 3)
    half = torch.from_numpy(np.concatenate([target[:48000], interferer[48000:]]))
    mixed = pieces.judge(Extraction(half, torch.from_numpy(tokens)), known, target, interferer, system)
    assert mixed["stoi"] < 0.9 and 0 < mixed["stretches"][0] < 300


@pytest.mark.parametrize("where", ["made", "lists"])
@pytest.mark.slow
def test_it_prints_each_way_beside_the_first(tmp_path, capsys, mixtures, where: str) -> None:
    for role, number in itertools.product(ROLES, range(2)):
        audio.write(tmp_path / f"{role}{number}.wav", mixtures[number][ROLES.index(role)])
    for role in ROLES:
        write_scp(tmp_path / f"{role}.scp", {f"m{number}": tmp_path / f"{role}{number}.wav" for number in range(2)})
    threads, options = torch.get_num_threads(), ["--mixtures", "2", "--seconds", "1", "4", "--context_seconds", "0.25"]
    options += ["--lists", str(tmp_path)] if where == "lists" else ["--length", "5", "5.5"]
    try:
        assert pieces.main(options) == 0
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    cell = r"-?\d+\.\d+ \[-?\d+\.\d+, -?\d+\.\d+\]"
    for way in ("1", "4"):
        assert re.search(rf"^\| {way} s \+ 2 x 0.25 s( \| {cell}){{5}} \| \d\.\d+ \| \d+\.\d\d \|$", printed, re.M), (
            printed
        )
    assert len(re.findall(rf"^\| difference to the first( \| {cell}){{5}}", printed, re.M)) == 1
    assert f"2 mixtures of {'6' if where == 'lists' else '5'}." in printed
