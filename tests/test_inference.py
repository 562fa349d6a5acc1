"""inference.py from the command line, on the reference's test folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile as sf
import torch

from tests.toy import REFERENCE, ROOT, UTTERANCES, VARIANTS, Payload, call, expected, flags


def extract(
    output: Path,
    *more: object,
    scp: Path = REFERENCE / "test",
    ckpt: Path = REFERENCE / "tselm.pth",
    processes: int = 1,
    **keys: object,
):
    """inference.py with the reference's sizes."""
    where = ("-config", "config/tselm_l.yaml", "-ckpt", ckpt, "--output", output, "-gpus", "cpu", "-proc", processes)
    return call("inference.py", "-scp", scp, *where, *more, *flags(**keys))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    done = extract(folder, processes=1)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_published_chunking_gives_the_references_waveforms(tmp_path, variant: str) -> None:
    done = extract(tmp_path, processes=2, chunking="published", **VARIANTS[variant])
    assert done.returncode == 0, done.stderr
    for utterance in UTTERANCES:
        wav, rate = sf.read(tmp_path / f"{utterance}.wav", dtype="float32")
        want = expected()[f"{variant}/{utterance}/wav_extracted"][0].numpy()
        assert rate == 16000 and len(wav) == len(want)
        np.testing.assert_allclose(wav, want, atol=1e-4 + 1 / 32768)  # 16-bit files


@pytest.mark.slow
def test_the_results_do_not_depend_on_the_number_of_processes(tmp_path, one_process) -> None:
    """In the published code the enrolment was cut at random, so two runs differed."""
    assert extract(tmp_path, processes=3).returncode == 0
    for utterance in UTTERANCES:
        assert (tmp_path / f"{utterance}.wav").read_bytes() == (one_process / f"{utterance}.wav").read_bytes()


@pytest.mark.slow
def test_outputs_are_as_long_as_the_mixtures(one_process) -> None:
    for utterance in UTTERANCES:
        mixture = sf.info(REFERENCE / f"test/mix_clean/{utterance}.wav")
        assert sf.info(one_process / f"{utterance}.wav").frames == mixture.frames


def test_one_file_equals_the_same_file_of_a_list(tmp_path, one_process) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/c.wav").write_bytes(b"from another day")
    done = call(
        "inference.py", "-config", "config/tselm_l.yaml", "-ckpt", REFERENCE / "tselm.pth", "-gpus", "cpu",
        "--mixture", REFERENCE / "test/mix_clean/utt1.wav", "--enrolment", REFERENCE / "test/aux_s1/utt1.wav",
        "--output", tmp_path / "new/c.wav", *flags(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new/c.wav").read_bytes() == (one_process / "utt1.wav").read_bytes()


def test_the_python_interface_gives_the_same(one_process) -> None:
    from models import load_extractor
    from tests.toy import RECIPE, read, settings

    extractor = load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings())
    wav = extractor.extract(read("mix_clean", "utt0")[0].numpy(), read("aux_s1", "utt0")[0].numpy())
    written = sf.read(one_process / "utt0.wav", dtype="float32")[0]
    np.testing.assert_allclose(written, wav.numpy(), atol=1e-4 + 1 / 32768)


@pytest.mark.slow
def test_a_second_run_does_only_what_is_missing(tmp_path, one_process) -> None:
    out = tmp_path / "out"
    shutil.copytree(one_process, out)
    (out / "utt0.wav").unlink()
    times = {u: (out / f"{u}.wav").stat().st_mtime_ns for u in UTTERANCES[1:]}
    done = extract(out)
    assert done.returncode == 0 and "3 of 4 files are there already" in done.stdout + done.stderr
    assert (out / "utt0.wav").read_bytes() == (one_process / "utt0.wav").read_bytes()
    assert times == {u: (out / f"{u}.wav").stat().st_mtime_ns for u in UTTERANCES[1:]}
    assert extract(out, "--overwrite").returncode == 0
    assert all((out / f"{u}.wav").stat().st_mtime_ns > t for u, t in times.items())


def test_outputs_of_another_system_are_not_mixed_with_these(tmp_path, one_process) -> None:
    out = tmp_path / "out"
    shutil.copytree(one_process, out)
    (out / "utt0.wav").unlink()
    done = extract(out, chunking="published")
    assert done.returncode == 2 and "outputs of another recipe" in done.stderr and not (out / "utt0.wav").exists()
    record = json.loads((out / "inference.json").read_text())
    assert record["checkpoint"].endswith("tselm.pth") and len(record["sha256"]) == 64


@pytest.mark.slow
def test_ctrl_c_leaves_no_half_file_and_the_rest_can_be_done(tmp_path, one_process) -> None:
    where = ("-config", "config/tselm_l.yaml", "-ckpt", REFERENCE / "tselm.pth", "--output", tmp_path, "-gpus", "cpu")
    arguments = ["inference.py", "-scp", REFERENCE / "test", *where, "-proc", 2, *flags()]
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("*.wav")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (130, 0) and "Traceback" not in stderr, stderr
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert extract(tmp_path).returncode == 0
    for utterance in UTTERANCES:
        assert (tmp_path / f"{utterance}.wav").read_bytes() == (one_process / f"{utterance}.wav").read_bytes()


@pytest.mark.slow
def test_a_bad_file_fails_alone(tmp_path) -> None:
    scp = tmp_path / "test"
    shutil.copytree(REFERENCE / "test", scp)
    (scp / "mix_clean/utt1.wav").write_bytes(b"not audio")
    sf.write(scp / "aux_s1/utt2.wav", np.zeros(16000), 16000)
    done = extract(tmp_path / "out", processes=2, scp=scp)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    text = done.stdout + done.stderr
    assert "failed: utt1.wav" in text and "failed: utt2.wav" in text and "silent" in text
    assert sorted(p.name for p in (tmp_path / "out").glob("*.wav")) == ["utt0.wav", "utt3.wav"]


def test_names_with_other_suffixes_folders_and_dots(tmp_path) -> None:
    scp = tmp_path / "test"
    scp.mkdir()
    names = ["a.flac", "b_1.5dB", "deep/c.WAV"]
    for kind in ("mix_clean", "aux_s1"):
        sf.write(scp / f"{kind}.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)
        (scp / f"{kind}.scp").write_text("".join(f"{name} {kind}.wav\n" for name in names))
    done = extract(tmp_path / "out", scp=scp)
    assert done.returncode == 0, done.stderr
    made = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.wav"))
    assert made == ["a.wav", "b_1.5dB.wav", "deep/c.wav"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("../../escaped.wav", "outside"), ("/escaped.wav", "outside"), ("utt1.flac", "written to the same file")],
)
def test_names_that_cannot_be_outputs(tmp_path, name: str, message: str) -> None:
    scp = tmp_path / "test"
    shutil.copytree(REFERENCE / "test", scp)
    for kind in ("mix_clean", "aux_s1"):
        path = scp / f"{kind}.scp"
        path.write_text(path.read_text().replace("utt0.wav ", f"{name} ", 1))
    done = extract(tmp_path / "o/o/out", scp=scp)
    assert done.returncode == 2 and message in done.stderr and not list(tmp_path.rglob("escaped.wav"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(num_clusterz=3), "num_clusterz"),
        (dict(wavlm_path="/nowhere/wavlm"), "/nowhere/wavlm"),
        (dict(kmeans_path="/nowhere/kmeans"), "/nowhere/kmeans"),
        (dict(hifi_gan_path="/nowhere/hifigan"), "/nowhere/hifigan"),
        (dict(num_clusters=51), "51"),
        (dict(d_model=64), "another shape"),
        (dict(num_layers=3), "missing"),
        (dict(ssl_layers=[1, 3, 7, 12, 18, 22]), "22"),
        (dict(piece_seconds=60), "2000"),
        (dict(batch_seconds="short"), "batch_seconds"),
        (dict(batch_seconds=-1), "batch_seconds"),
    ],
)
def test_mistakes_are_one_line_that_names_them(tmp_path, keys: dict, message: str) -> None:
    done = extract(tmp_path / "out", processes=1, **keys)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_lists_that_do_not_match(tmp_path) -> None:
    scp = tmp_path / "test"
    shutil.copytree(REFERENCE / "test", scp)
    (scp / "aux_s1.scp").write_text("utt0.wav aux_s1/utt0.wav\nghost.wav aux_s1/ghost.wav\n")
    done = extract(tmp_path / "out", scp=scp)
    assert done.returncode == 2 and "ghost.wav" in done.stderr and "utt2.wav" in done.stderr
    (scp / "aux_s1.scp").unlink()
    done = extract(tmp_path / "out", scp=scp)
    assert done.returncode == 2 and "aux_s1.scp" in done.stderr


@pytest.mark.parametrize("part", ["checkpoint", "k-means", "vocoder weights", "vocoder settings"])
def test_files_that_carry_code_are_refused_and_nothing_runs(tmp_path, part: str) -> None:
    ran, keys, ckpt = tmp_path / "ran", {}, REFERENCE / "tselm.pth"
    if part == "checkpoint":
        ckpt = tmp_path / "evil.pth"
        torch.save({"model_state_dict": {}, "new_bob": Payload(ran)}, ckpt)
    elif part == "k-means":
        shutil.copytree(REFERENCE / "kmeans", tmp_path / "kmeans")
        joblib.dump(Payload(ran), next((tmp_path / "kmeans").glob("*_L7.pt")))
        keys["kmeans_path"] = tmp_path / "kmeans"
    else:
        shutil.copytree(REFERENCE / "hifigan", tmp_path / "hifigan")
        if part == "vocoder weights":
            torch.save({"x": Payload(ran)}, tmp_path / "hifigan/generator.ckpt")
        else:
            with open(tmp_path / "hifigan/hyperparams.yaml", "a") as file:
                file.write(f"\nextra: !apply:os.system ['touch {ran}']\n")
        keys["hifi_gan_path"] = tmp_path / "hifigan"
    done = extract(tmp_path / "out", processes=1, ckpt=ckpt, **keys)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "Nothing in it was run" in done.stderr.strip().splitlines()[-1]
    assert not ran.exists() and not list((tmp_path / "out").glob("*.wav"))


def test_frozen_weights_that_differ_from_the_folder_are_an_error(tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(REFERENCE / "wavlm", tmp_path / "wavlm")
    weights = load_file(tmp_path / "wavlm/model.safetensors")
    weights["encoder.layers.3.final_layer_norm.bias"] += 0.25
    save_file(weights, tmp_path / "wavlm/model.safetensors", metadata={"format": "pt"})
    done = extract(tmp_path / "out", processes=1, wavlm_path=tmp_path / "wavlm")
    assert done.returncode == 2 and "final_layer_norm.bias" in done.stderr and "0.25" in done.stderr


def test_what_the_command_line_needs() -> None:
    for arguments in (["-scp", "x", "--mixture", "a"], [], ["-scp", "x", "-proc", "0"], ["--mixture", "a", "--report"]):
        done = call("inference.py", "-config", "c", "-ckpt", "k", "--output", "o", *arguments)
        assert done.returncode == 2 and "usage:" in done.stderr


def one(folder: Path, *more: object, output: object = None):
    """Extraction of one short file."""
    for name, seed in (("m", 0), ("e", 1)):
        sf.write(folder / f"{name}.wav", 0.1 * np.random.default_rng(seed).standard_normal(4000), 16000)
    where = ("-config", "config/tselm_l.yaml", "-ckpt", REFERENCE / "tselm.pth", "-gpus", "cpu", "-proc", 1)
    given = ("--mixture", folder / "m.wav", "--enrolment", folder / "e.wav", "--output", output or folder / "o.wav")
    return call("inference.py", *where, *given, *flags(), *more)


@pytest.mark.parametrize("name", ["--mixture", "--enrolment", "--output", "-config", "-scp", "--tokenize"])
def test_an_empty_argument_is_told(tmp_path, name: str) -> None:
    """An empty mixture was a TypeError."""
    done = one(tmp_path, name, "")
    assert done.returncode == 2 and "an empty text was given" in done.stderr.splitlines()[-1]


def test_more_threads_than_can_be_started_are_refused(tmp_path) -> None:
    """The process ended by a segmentation fault."""
    done = one(tmp_path, "--threads", 1_000_000)
    assert done.returncode == 2 and "more than can be started" in done.stderr


def test_a_bad_enrolment_is_named_and_not_its_mixture(tmp_path) -> None:
    sf.write(tmp_path / "short.wav", np.ones(300) / 3, 16000)
    done = one(tmp_path, "--enrolment", tmp_path / "short.wav")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'short.wav'}: ")


def test_an_output_that_cannot_be_written_is_told_before_anything_is_built(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("running.run.load_program", None)
    (tmp_path / "file").touch()
    done = one(tmp_path, output=tmp_path / "file/o.wav")
    assert done.returncode == 2 and "file is no folder" in done.stderr
    done = extract(tmp_path / "file")
    assert done.returncode == 2 and "file is no folder" in done.stderr


def test_a_full_disk_fails_its_file_alone(tmp_path, no_room) -> None:
    scp = tmp_path / "test"
    scp.mkdir()
    for name, samples in (("long", 16000), ("short", 4000)):
        sf.write(scp / f"{name}.wav", 0.1 * np.random.default_rng(0).standard_normal(samples), 16000)
    for kind in ("mix_clean", "aux_s1"):
        (scp / f"{kind}.scp").write_text("long long.wav\nshort short.wav\n")
    with no_room(20_000):
        done = extract(tmp_path / "out", scp=scp)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "failed: long: " in done.stderr and "bytes are free on its disk" in done.stderr
    assert [p.name for p in (tmp_path / "out").glob("*.wav")] == ["short.wav"]
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_a_file_that_comes_between_two_shards_is_told(tmp_path) -> None:
    scp = tmp_path / "test"
    scp.mkdir()

    def write(samples: dict[str, int]) -> None:
        for name, count in samples.items():
            sf.write(scp / f"{name}.wav", 0.1 * np.random.default_rng(0).standard_normal(count), 16000)
        for kind in ("mix_clean", "aux_s1"):
            (scp / f"{kind}.scp").write_text("".join(f"{name} {name}.wav\n" for name in samples))

    some = {"a": 1600, "b": 1700, "c": 1800, "d": 1900}
    write(some)
    assert "another list" not in extract(tmp_path / "out", "--shard", "1/2", scp=scp).stderr
    write(some | {"e": 3000})
    done = extract(tmp_path / "out", "--shard", "2/2", scp=scp)
    assert done.returncode == 0 and "shard 1/2 was a part of another list" in done.stderr
    assert extract(tmp_path / "out", scp=scp).returncode == 0
    assert len(list((tmp_path / "out").glob("*.wav"))) == 5


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("num_heads=0", "num_heads 0"),
        ("embedding_dim=-4", "embedding_dim -4"),
        ("num_layers=0", "num_layers 0"),
        ("regi_length=-1", "regi_length must be above 0"),
        ("batch_seconds=.inf", "batch_seconds"),
        ("context_seconds=.nan", "context_seconds"),
    ],
)
def test_sizes_and_seconds_that_nothing_can_be_built_of_are_named(tmp_path, key: str, message: str) -> None:
    done = one(tmp_path, "--override", key)
    assert done.returncode == 2 and "Traceback" not in done.stderr and message in done.stderr.splitlines()[-1]
