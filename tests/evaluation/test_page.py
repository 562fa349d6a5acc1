"""The report's page: what it says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from evaluation import format
from evaluation.media import audio_url, spectrogram_url
from evaluation.page import Example, write_page
from tests.report import NASTY, Page, bare, report, voice


def written(tmp_path: Path, content) -> Page:
    write_page(tmp_path / "report.html", *content)
    assert os.listdir(tmp_path) == ["report.html"]
    return Page(tmp_path / "report.html")


def test_everything_is_said(tmp_path):
    page = written(tmp_path, report())
    for said in (
        "38 of 40 files of data/test scored",
        "STOI ↑ 0.812 [0.802, 0.822] 2 not scored 0.713 [0.703, 0.723] 0.930 [0.920, 0.940] 38",
        "SI-SDR (dB) ↑ -12.31 [-12.32, -12.30] 0.00 [-0.01, 0.01] – 38",
        "Token error (%) ↓ 61.3 [61.3, 61.4]",
        "nisqa not computed: weights not found at",
        "SI-SDR compares sample by sample.",
        "62 problems",
        "and 12 more.",
        "STOI of extracted: 2 files, for instance 0.wav : too short",
        "worst STOI 0.871",
        "mixture 17.5 s, of which the first 15 s are here",
        "resynthesised target (ceiling) 0.9 s",
        "mean 61.3 %",
        "overall 0.297",
        "layer_1 43.1 17.2 50.0 20.0",
        "NVIDIA H200 2 1 40 310.2 0.410 0.220 1.20 GB –",
        "extracted measured here 0.812 0.297",
        "Theirs quoted – 0.297",
        "Exactly how dWER is computed",
        "5c" * 32,
        "torch 2.11.0",
    ):
        assert said in page.text, said
    assert page.text.count(" no output") == 49  # of the 62, 50 are listed, of which one has another problem


@pytest.mark.slow
def test_nothing_is_loaded_or_run(tmp_path):
    page = written(tmp_path, report())
    assert {re.match(r"#|data:(image/png|audio/flac);base64,", load)[0] for load in page.loads} == {
        "#",
        "data:image/png;base64,",
        "data:audio/flac;base64,",
    }
    source = (tmp_path / "report.html").read_text()
    assert "script" not in page.tags and "default-src 'none'" in source
    assert not re.search(r"@import|url\(", source)
    assert page.text.count(NASTY) >= 3  # two in the list of problems, one heads an example


def test_the_least_page(tmp_path):
    page = written(tmp_path, bare())
    assert "1 of 1 file of data/test scored." in page.text
    assert "STOI ↑ 0.800 1 " in page.text  # no interval
    assert "STOI of 1 file: 0.800 to 0.800, mean 0.800" in page.text
    for absent in ("Problems", "Examples", "Codebooks", "Speed", "Published"):
        assert absent not in page.text


def test_failed_scores_without_problems(tmp_path):
    summary, rows, _ = report()
    page = written(tmp_path, (summary | {"problems": []}, rows, []))
    assert "Files that a metric could not score STOI of extracted: 2 files" in page.text
    assert "0 problems" not in page.text


@pytest.mark.parametrize("score", [0.0, 1.0, -3.0, 1e-9, 12345.0, [3, 11]])
def test_histogram_of_constant_values(tmp_path, score):
    summary, _, _ = bare()
    summary["metrics"]["stoi"]["systems"]["extracted"]["mean"] = format.value(score)
    page = written(tmp_path, (summary, [{"name": f"{n}.wav", "extracted": {"stoi": score}} for n in range(5)], []))
    assert "of 5 files" in page.text
    assert "beyond the axis" not in page.text


def test_few_far_values_do_not_hide_the_rest(tmp_path):
    summary, _, _ = bare()
    rows = [{"name": f"{n}.wav", "extracted": {"stoi": 1000.0 if n < 3 else n / 500}} for n in range(500)]
    page = written(tmp_path, (summary, rows, []))
    assert "3 beyond the axis" in page.text and " 1.0 " in page.text


def test_what_is_not_a_number_is_never_shown(tmp_path):
    summary, _, _ = bare()
    summary["metrics"]["stoi"]["systems"]["extracted"] |= {"mean": float("nan"), "low": float("nan"), "high": 1.0}
    scores = [float("nan"), float("inf"), None, [0, 0], 0.5]
    rows = [{"name": f"{n}.wav", "extracted": {"stoi": score}} for n, score in enumerate(scores)]
    rows += [{"name": "p.wav", "problem": "is silent"}, {"name": "q.wav", "extracted": {}}]
    page = written(tmp_path, (summary, rows, []))
    assert "STOI of 1 file" in page.text
    assert not re.search(r"\b(nan|inf)\b", (tmp_path / "report.html").read_text(), re.I)
    assert "None" not in page.text


def test_signals_that_are_missing_silent_or_short(tmp_path):
    summary, rows, _ = bare()
    signals = {"extracted": np.zeros(8000, np.float32), "target": voice(0.01), "mixture": np.zeros(0, np.float32)}
    page = written(tmp_path, (summary, rows, [Example("a.wav", "best", "", signals, {})]))
    assert "0.5 s" in page.text and page.tags.count("img") == page.tags.count("audio") == 2


def test_examples_are_small():
    wav = voice(5.0)
    assert 12 * (len(spectrogram_url(wav)) + len(audio_url(wav))) < 4e6


def test_a_name_that_is_not_utf_8(tmp_path):
    summary, rows, _ = bare()
    summary["problems"] = [{"name": os.fsdecode(b"\xff.wav"), "problem": "is silent"}]
    assert r"\udcff.wav" in written(tmp_path, (summary, rows, [])).text


def test_numbers():
    assert [format.number(x, "dB") for x in (-12.345, -0.004, None)] == ["-12.35", "0.00", "–"]
    assert [format.number(x) for x in ([3, 11], (1, 0), 0.81249)] == ["0.273", "–", "0.812"]
    assert format.mean({"mean": 61.34, "low": 60, "high": 62}, "%") == "61.3 [60.0, 62.0]"
    assert format.mean({"mean": 0.5, "low": None, "high": None}) == "0.500"
    assert [format.memory(size) for size in (None, 12.4e6, 1.2e9)] == ["–", "12 MB", "1.20 GB"]
