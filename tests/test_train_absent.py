"""A training that meets absent talkers, from the command line, and what its checkpoint extracts."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.test_train import command, measured, weights
from tests.toy import LAYERS, call, flags, run, stop_after_first_save, write_corpus

KEYS = dict(presence=True, absent_share=0.5, dropout=0.0, lr=0.0005)
HEARD = dict(presence=True, vocoder_layers=LAYERS)  # the reference's vocoder was trained on six layers


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("corpus")
    found = write_corpus(folder)
    absent = folder / "dev_absent"
    absent.mkdir()
    (absent / "aux_s1.scp").write_text("".join(f"item{n}.wav {folder / f'train/2-{n}.wav'}\n" for n in range(3)))
    (absent / "mix_clean.scp").write_text("".join(f"item{n}.wav ../dev/mix_clean{n}.wav\n" for n in range(3)))
    return {**found, "cv_absent_path": absent / "aux_s1.scp"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = call(*command(folder, corpus, **KEYS))
    assert done.returncode == 0, done.stderr
    return folder


def test_what_is_told_of_absent_talkers(whole) -> None:
    assert {name for name in weights(whole) if not name.startswith("network.")} == {
        "presence.evidence.weight",
        "presence.evidence.bias",
        "presence.weight.weight",
    }
    for line in measured(whole):
        if line["kind"] == "valid":
            assert {"absent_found", "present_silenced", "presence_loss", "error", "copy_error"} <= line.keys()
            assert 0 <= line["absent_found"] <= 100 and np.isfinite(line["loss"])


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, corpus, whole) -> None:
    arguments = command(tmp_path, corpus, save_interval=1, **KEYS)
    stopped = stop_after_first_save(*arguments, checkpoint=tmp_path / "ckpt/last.pth")
    assert stopped.returncode == -signal.SIGKILL
    done = call(*arguments)
    assert done.returncode == 0 and "continuing from" in done.stdout + done.stderr, done.stderr
    a, b = weights(whole), weights(tmp_path)
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.slow
def test_two_processes_and_micro_batches_equal_one(tmp_path, corpus) -> None:
    """Which of them has the absent ones does not matter."""
    keys = KEYS | dict(epoch=1, num_workers=0, lr=0.00005)
    one, two = command(tmp_path / "one", corpus, **keys), command(tmp_path / "two", corpus, gpus="[cpu, cpu]", **keys)
    parts = command(tmp_path / "parts", corpus, accumulate=4, **keys)
    for arguments in (one, parts):
        assert (done := call(*arguments)).returncode == 0, done.stderr
    assert (done := run(*two)).returncode == 0, done.stderr
    for other in ("two", "parts"):
        a, b = weights(tmp_path / "one"), weights(tmp_path / other)
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5)


def test_it_starts_from_the_weights_of_a_training_without(tmp_path, corpus) -> None:
    plain = {key: value for key, value in corpus.items() if key != "cv_absent_path"}
    assert (done := call(*command(tmp_path / "plain", plain, epoch=1, epoch_num=4))).returncode == 0, done.stderr
    keys = KEYS | dict(epoch=1, epoch_num=4, lr=1e-12)
    started = call(*command(tmp_path / "more", corpus, **keys), "--init", tmp_path / "plain/ckpt/best.pth")
    assert started.returncode == 0, started.stderr
    assert "presence: not in it, so with initial weights" in started.stdout + started.stderr
    before, after = weights(tmp_path / "plain", "best"), weights(tmp_path / "more")
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-8)


def test_mistakes_are_told_with_the_way_out(tmp_path, corpus) -> None:
    for keys, message in (
        (dict(presence=True), "absent_share and presence go together"),
        (dict(absent_share=0.5), "absent_share and presence go together"),
        (dict(presence=True, absent_share=1.5), "absent_share must be in [0, 1), got 1.5"),
        (dict(presence=True, absent_share=0.5, presence_threshold=2), "presence_threshold must be in [0, 1], got 2"),
        (dict(presence=True, absent_share=0.5, presence_weight=-1), "presence_weight must not be negative, got -1"),
    ):
        done = call(*command(tmp_path, corpus, **keys))
        assert done.returncode == 2 and message in done.stderr.splitlines()[-1], done.stderr


def extract(lists: Path, output: Path, ckpt: Path, *more: object, **keys: object):
    return call(
        "inference.py", "-scp", lists, "-config", "config/tselm_toy.yaml", "-ckpt", ckpt, "--output", output,
        "-gpus", "cpu", "-proc", "1", *more, *flags(**HEARD, **keys),
    )  # fmt: skip


def test_the_record_tells_scores_and_a_threshold_makes_silence(tmp_path, corpus, whole) -> None:
    lists, ckpt = Path(corpus["cv_mix_path"]).parent, whole / "ckpt/best.pth"
    done = extract(lists, tmp_path / "all", ckpt, presence_threshold=0)
    assert done.returncode == 0, done.stderr
    scores = {name: row["score"] for name, row in record(tmp_path / "all").items()}
    assert list(scores) == ["item0.wav", "item1.wav", "item2.wav"] and all(0 < s < 1 for s in scores.values())
    assert all(sf.read(tmp_path / f"all/item{n}.wav")[0].any() for n in range(3))
    before = (tmp_path / "all/inference.json").read_bytes()
    assert extract(lists, tmp_path / "all", ckpt, presence_threshold=0).returncode == 0  # what is done stays done
    assert (tmp_path / "all/inference.json").read_bytes() == before
    (tmp_path / "all/item1.wav").unlink()
    assert extract(lists, tmp_path / "all", ckpt, presence_threshold=0).returncode == 0
    assert (tmp_path / "all/inference.json").read_bytes() == before
    refused = extract(lists, tmp_path / "all", ckpt, presence_threshold=1)
    assert refused.returncode == 2 and "presence_threshold: 0, now 1" in refused.stderr
    done = extract(lists, tmp_path / "none", ckpt, presence_threshold=1)
    assert done.returncode == 0, done.stderr
    for n in range(3):
        wav = sf.read(tmp_path / f"none/item{n}.wav")[0]
        assert not wav.any() and len(wav) == sf.info(lists / f"mix_clean{n}.wav").frames
    assert {name: row["score"] for name, row in record(tmp_path / "none").items()} == scores


def record(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "inference.json").read_text())["results"]["presence"]


def test_one_file_says_its_score(tmp_path, corpus, whole) -> None:
    dev = Path(corpus["cv_mix_path"]).parent
    done = call(
        "inference.py", "-config", "config/tselm_toy.yaml", "-ckpt", whole / "ckpt/best.pth", "-gpus", "cpu",
        "--mixture", dev / "mix_clean0.wav", "--enrolment", dev / "aux_s10.wav", "--output", tmp_path / "c.wav",
        *flags(**HEARD, presence_threshold=1),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "score 0." in done.stdout + done.stderr and not sf.read(tmp_path / "c.wav")[0].any()


@pytest.mark.slow
def test_shards_and_processes_leave_the_record_of_one_run(tmp_path, corpus, whole) -> None:
    lists, ckpt = Path(corpus["cv_mix_path"]).parent, whole / "ckpt/best.pth"
    assert extract(lists, tmp_path / "one", ckpt, presence_threshold=0).returncode == 0
    for part in ("--shard=1/2", "--shard=2/2", "--shard=1/1"):
        done = extract(lists, tmp_path / "parts", ckpt, part, presence_threshold=0)
        assert done.returncode == 0, done.stderr
    assert record(tmp_path / "parts") == record(tmp_path / "one")
    two = run(
        "inference.py", "-scp", lists, "-config", "config/tselm_toy.yaml", "-ckpt", ckpt, "--output", tmp_path / "two",
        "-gpus", "cpu", "-proc", "2", *flags(**HEARD, presence_threshold=0),
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    assert record(tmp_path / "two") == record(tmp_path / "one")


@pytest.mark.slow
def test_evaluation_says_how_often_silence_came(tmp_path, corpus, whole) -> None:
    """With a threshold above all scores of one set everything is silenced, and still scored."""
    for package in ("pystoi", "torchmetrics", "jinja2"):
        pytest.importorskip(package, reason="requirements-eval.txt is not installed")
    lists, ckpt = Path(corpus["cv_mix_path"]).parent, whole / "ckpt/best.pth"
    absent = Path(corpus["cv_absent_path"]).parent
    assert extract(lists, tmp_path / "out", ckpt, presence_threshold=0).returncode == 0
    assert extract(absent, tmp_path / "absent", ckpt, presence_threshold=1).returncode == 0
    assert extract(lists, tmp_path / "none", ckpt, presence_threshold=1).returncode == 0
    what = ("evaluate.py", "-scp", lists, "-gpus", "cpu", "-proc", "1", "--metrics", "stoi", "presence")
    done = call(*what, "--output", tmp_path / "out", "--absent", tmp_path / "absent")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/summary.json").read_text())["metrics"]
    means = {name: column["systems"]["extracted"]["mean"] for name, column in found.items()}
    present, others = (np.array([row["score"] for row in record(tmp_path / f).values()]) for f in ("out", "absent"))
    assert means["presence"] == pytest.approx(present.mean(), abs=1e-6)
    assert means["silenced"] == 0 and means["absent_silenced"] == 100
    pairs = [(a > b) + 0.5 * (a == b) for a in present for b in others]
    assert means["presence_auc"] == pytest.approx(np.mean(pairs), abs=1e-6)
    page = (tmp_path / "out/report.html").read_text()
    assert "Presence score" in page and "Absent target silenced" in page
    done = call(*what, "--output", tmp_path / "none")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "none/summary.json").read_text())
    assert found["problems"] == [] and found["metrics"]["silenced"]["systems"]["extracted"]["mean"] == 100
    assert found["metrics"]["stoi"]["systems"]["extracted"]["count"] == 0
