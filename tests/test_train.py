"""train.py from the command line, at toy size."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import joblib
import pytest
import torch

from tests.toy import REFERENCE, ROOT, SIZES, Payload, call, flags, run, stop_after_first_save, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> dict[str, Path]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def command(folder: Path, corpus: dict[str, Path], recipe: str = "tselm_toy", **more: object) -> list[str]:
    small = dict(epoch=2, epoch_num=12, batch_size=4, batch_size_eval=2, num_workers=1, precision="fp32")
    small |= dict(mix_length=8080, regi_length=8080, **corpus)
    where = ["--config_path", f"config/{recipe}.yaml", "--log", folder / "log", "--ckpt_path", folder / "ckpt"]
    return ["train.py", *map(str, where), *flags(**{**small, **more})]


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / f"ckpt/{name}.pth", weights_only=True)["model"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = call(*command(folder, corpus))
    assert done.returncode == 0, done.stderr
    return folder


def test_what_a_run_leaves(whole) -> None:
    assert sorted(p.name for p in (whole / "ckpt").iterdir()) == ["best.pth", "last.pth"]
    assert {p.name for p in (whole / "log").iterdir()} == {"metrics.jsonl", "tensorboard", "train.log"}
    saved = torch.load(whole / "ckpt/last.pth", weights_only=True)
    assert saved["settings"]["concat_regi"] is True and len(saved["frozen"]["tokenizer"]) == 64
    assert "wavlm_path" in saved["recipe"]
    assert not any("encoder.model" in name or "generator" in name for name in saved["model"])
    steps = [json.loads(line) for line in (whole / "log/metrics.jsonl").read_text().splitlines()]
    valid = [line for line in steps if line["kind"] == "valid"]
    assert len(valid) == 2 and all({"loss", "error", "copy_error", "error_layer_7"} <= line.keys() for line in valid)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, corpus, whole, number) -> None:
    arguments = command(tmp_path, corpus, save_interval=1)
    stopped = stop_after_first_save(*arguments, checkpoint=tmp_path / "ckpt/last.pth", number=number)
    if number == signal.SIGKILL:
        assert stopped.returncode == -signal.SIGKILL
    else:
        assert stopped.returncode == 130 and "Traceback" not in stopped.stderr
        assert "the same command continues" in stopped.stderr
    state = torch.load(tmp_path / "ckpt/last.pth", weights_only=True)["state"]["progress"]
    assert 1 <= state["step"] < 6
    done = call(*arguments)
    assert done.returncode == 0 and "continuing from" in done.stdout + done.stderr, done.stderr
    a, b = weights(whole), weights(tmp_path)
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert sorted(p.name for p in (tmp_path / "ckpt").iterdir()) == ["best.pth", "last.pth"]


STEADY = dict(epoch=1, dropout=0.0, num_workers=0, lr=0.00005)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, corpus) -> Path:
    """A run with nothing random in its steps."""
    folder = tmp_path_factory.mktemp("one")
    done = call(*command(folder, corpus, **STEADY))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gpus", "torchrun"])
def test_two_processes_equal_one(tmp_path, corpus, one_process, how: str) -> None:
    if how == "gpus":
        two = run(*command(tmp_path / "two", corpus, gpus="[cpu, cpu]", **STEADY))
    else:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        arguments = command(tmp_path / "two", corpus, **STEADY)
        two = run(*launcher, *("--log_path" if part == "--log" else part for part in arguments))
    assert two.returncode == 0, two.stderr
    a, b = weights(one_process), weights(tmp_path / "two")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5)


def measured(folder: Path) -> list[dict[str, object]]:
    """What a run logged, but for the time that it took."""
    lines = [json.loads(line) for line in (folder / "log/metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "items_per_second")} for line in lines]


@pytest.mark.slow
def test_with_tokens_of_an_earlier_run_all_numbers_are_the_same(tmp_path, corpus, whole) -> None:
    """And with those that the run itself has kept."""
    kept = None
    for name in ("cold", "warm"):
        done = call(*command(tmp_path / name, corpus, token_cache=tmp_path / "tokens"))
        assert done.returncode == 0, done.stderr
        assert measured(tmp_path / name) == measured(whole)
        a, b = weights(tmp_path / name), weights(whole)
        assert all(torch.equal(a[n], b[n]) for n in b)
        files = {path: path.stat().st_mtime_ns for path in (tmp_path / "tokens").rglob("*.npz")}
        assert len(files) == 3 and kept in (None, files)
        kept = files


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["tselm_l", "tselm_l_hybrid", "tselm_l_nocat"])
def test_every_recipe_trains_at_toy_size(tmp_path, corpus, recipe: str) -> None:
    """From its real file; and its checkpoint is one that inference.py reads."""
    done = call(*command(tmp_path, corpus, recipe, epoch=1, epoch_num=4, log_vocoder="!ref <vocoder>"))
    assert done.returncode == 0, done.stderr
    speech = Path(corpus["cv_mix_path"]).parent
    extracted = call(
        "inference.py", "-scp", speech, "-config", f"config/{recipe}.yaml", "-ckpt", tmp_path / "ckpt/best.pth",
        "--output", tmp_path / "out", "-gpus", "cpu", "-proc", "1", *flags(),
    )  # fmt: skip
    assert extracted.returncode == 0, extracted.stderr
    assert len(list((tmp_path / "out").glob("*.wav"))) == 3
    other = "tselm_l_nocat" if recipe == "tselm_l" else "tselm_l"
    wrong = call(
        "inference.py", "-scp", speech, "-config", f"config/{other}.yaml", "-ckpt", tmp_path / "ckpt/best.pth",
        "--output", tmp_path / "wrong", "-gpus", "cpu", "-proc", "1", *flags(),
    )  # fmt: skip
    assert wrong.returncode == 2 and "was trained with something else" in wrong.stderr


def test_a_task_without_parts_has_nothing_to_export(tmp_path, corpus, whole) -> None:
    shutil.copytree(whole, tmp_path / "done")
    done = call(*command(tmp_path / "done", corpus), "--export", tmp_path / "out")
    assert done.returncode == 2 and "nothing to export" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_clusterz=3), "num_clusterz (did you mean num_clusters?)"),
        (dict(wavlm_path="/nowhere/wavlm"), "/nowhere/wavlm"),
        (dict(tr_data_scp_path="/nowhere/train.json"), "/nowhere/train.json"),
        (dict(num_clusters=51), "num_clusters is 51, but the k-means files have 50 centres"),
        (dict(num_heads=5), "got 5 heads and width 48"),
        (dict(gpus="cuda:7"), "this machine has"),
        pytest.param(dict(gpus="[cpu, cpu, cpu]"), "cannot be divided over 3 processes", marks=pytest.mark.slow),
        (dict(precision="fp12"), "fp12"),
        (dict(seed=-1), "a seed must not be negative, got -1"),
        (dict(num_workers=-1), "num_workers must not be negative, got -1"),
        (dict(lr=".inf"), "lr must be a number, got inf"),
        (dict(lr="[1]"), "lr must be a number, got [1]"),
        (dict(mix_length=10**12), "there is not enough memory"),
        (dict(token_cache="/dev/null/tokens"), "token_cache: cannot write into /dev/null/tokens"),
    ],
)
def test_mistakes_are_one_line_that_names_them(tmp_path, corpus, change: dict, message: str) -> None:
    done = (run if "[cpu" in str(change) else call)(*command(tmp_path, corpus, **change))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith("error: ")


def test_paths_that_are_not_set_are_all_named(tmp_path) -> None:
    done = call("train.py", "--config_path", "config/tselm_l.yaml", "--log", tmp_path, "--ckpt_path", tmp_path)
    assert done.returncode == 2
    for key in ("tr_data_scp_path", "cv_mix_path", "cv_ref_path", "cv_clean_path", "wavlm_path", "kmeans_path"):
        assert key in done.stderr
    assert "hifi_gan_path" not in done.stderr  # no vocoder in training
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize("part", ["speaker index", "k-means", "vocoder", "last.pth"])
def test_files_that_carry_code_are_refused_and_nothing_runs(tmp_path, corpus, part: str) -> None:
    ran, keys = Payload(tmp_path / "ran"), {}
    if part == "speaker index":
        keys["tr_data_scp_path"] = tmp_path / "train_100_360.pt"
        torch.save({"19": ran}, keys["tr_data_scp_path"])
    elif part == "k-means":
        keys["kmeans_path"] = tmp_path / "kmeans"
        shutil.copytree(REFERENCE / "kmeans", tmp_path / "kmeans")
        joblib.dump(ran, next((tmp_path / "kmeans").glob("*_L7.pt")))
    elif part == "vocoder":
        keys |= {"hifi_gan_path": tmp_path / "hifigan", "log_vocoder": "!ref <vocoder>"}
        shutil.copytree(REFERENCE / "hifigan", tmp_path / "hifigan")
        torch.save({"x": ran}, tmp_path / "hifigan/generator.ckpt")
    else:
        (tmp_path / "ckpt").mkdir()
        torch.save({"format": "tse-checkpoint", "version": 1, "model": ran}, tmp_path / "ckpt/last.pth")
    done = call(*command(tmp_path, corpus, **keys))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "Nothing in it was run" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "ran").exists()


def test_one_batch_is_overfitted(tmp_path, corpus) -> None:
    """Below 5 % token error on the batch, which shows that gradients reach what they must."""
    from utils.recipe import Recipe

    overrides = [f"{k}={v}" for k, v in {**SIZES, **corpus, "lr": 0.003, "dropout": 0.0, "d_model": 96}.items()]
    built = Recipe(
        ROOT / "config/tselm_toy.yaml",
        overrides=[*overrides, "mix_length=8080", "regi_length=8080", "epoch_num=4", "batch_size=4"],
    ).build("task", "train_data")
    torch.manual_seed(0)
    task = built["task"].train()
    (batch,) = built["train_data"].epoch(0)
    optimizer = task.optimizers()["network"]
    error = 100.0
    for _ in range(400):
        (objective,) = task.objectives(batch, task.networks())
        optimizer.zero_grad()
        objective.loss.backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), 5.0)
        optimizer.step()
        error = float(objective.metrics["error"])
        if error < 5:
            break
    assert error < 5


@pytest.mark.parametrize("program", ["train.py", "inference.py", "evaluate.py", "pretrained/demo.py"])
def test_help_says_what_it_is_for(program: str) -> None:
    done = call(program, "--help")
    assert done.returncode == 0 and "--help" in done.stdout and len(done.stdout.splitlines()) > 8


@pytest.mark.parametrize("flag", ["--log", "--ckpt_path"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_made(tmp_path, corpus, flag: str) -> None:
    (tmp_path / "file").touch()
    for value, message in ((tmp_path / "file", "is no folder"), ("", "an empty text was given")):
        done = call(*command(tmp_path / "run", corpus), flag, value)
        assert done.returncode == 2 and message in done.stderr.splitlines()[-1] and not (tmp_path / "run").exists()


def test_the_best_weights_are_no_state_to_go_on_from(tmp_path, corpus, whole) -> None:
    """best.pth under the name of last.pth was a KeyError."""
    (tmp_path / "ckpt").mkdir()
    shutil.copy(whole / "ckpt/best.pth", tmp_path / "ckpt/last.pth")
    before = (tmp_path / "ckpt/last.pth").read_bytes()
    done = call(*command(tmp_path, corpus))
    assert done.returncode == 2 and "holds weights alone" in done.stderr and "--init" in done.stderr
    assert (tmp_path / "ckpt/last.pth").read_bytes() == before
