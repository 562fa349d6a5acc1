"""Speech resynthesis by the programs: audio to audio in any voice, manifests, and both trainings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.resynthesis import F0_RECIPE, RECIPE, REFERENCE, UTTERANCE, encoder, overrides, units, wav, write_voices
from tests.toy import call

WHERE = ("-gpus", "cpu", "-proc", "1")


def flags(keys: list[str]) -> list[str]:
    return [text for key in keys for text in ("--override", key)]


def infer(job: str, what, out, *more: object, mode: str = "quantised", **keys: object):
    given = overrides(mode, **{**(encoder() if job != "--decode" else {}), **keys})
    ckpt = () if job == "--tokenize" else ("-ckpt", REFERENCE / mode)
    return call("inference.py", job, what, "-config", RECIPE, *ckpt, "--output", out, *WHERE, *more, *flags(given))


@pytest.fixture
def scp(tmp_path):
    (tmp_path / "list.scp").write_text(f"{UTTERANCE} {REFERENCE}/wav/{UTTERANCE}.wav\n")
    return tmp_path / "list.scp"


def test_everybody_says_it_at_the_length_and_level_of_the_input(tmp_path, scp) -> None:
    done = infer("--resynthesise", scp, tmp_path / "out", "--speaker", "all")
    assert done.returncode == 0, done.stderr
    made = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.wav")}
    assert made == {f"{who}/{UTTERANCE}.wav" for who in ("p1", "p2", "p3")}
    assert {sf.info(tmp_path / "out" / name).frames for name in made} == {len(wav())}


def test_another_voice_under_the_same_name_is_never_taken_for_done(tmp_path, scp) -> None:
    """A second run with another --speaker once found its files there, in the first one's voice."""
    assert infer("--resynthesise", scp, tmp_path / "out", "--speaker", "p1").returncode == 0
    first = (tmp_path / f"out/{UTTERANCE}.wav").read_bytes()
    done = infer("--resynthesise", scp, tmp_path / "out", "--speaker", "p2")
    assert done.returncode == 2 and "--speaker: p1, now p2" in done.stderr, done.stderr
    assert (tmp_path / f"out/{UTTERANCE}.wav").read_bytes() == first
    assert infer("--resynthesise", scp, tmp_path / "out", "--speaker", "all").returncode == 0  # other names
    done = infer("--resynthesise", scp, tmp_path / "out", "--speaker", "p2", "--overwrite")
    assert done.returncode == 0 and (tmp_path / f"out/{UTTERANCE}.wav").read_bytes() != first


def test_a_limit_holds_for_every_list(tmp_path) -> None:
    lines = [f"{name} {REFERENCE}/wav/{UTTERANCE}.wav\n" for name in "abc"]
    (tmp_path / "list.scp").write_text("".join(lines))
    for job in ("--tokenize", "--resynthesise"):
        out = tmp_path / job.strip("-")
        more = () if job == "--tokenize" else ("--speaker", "p1")
        done = infer(job, tmp_path / "list.scp", out, *more, limit=2)
        assert done.returncode == 0, done.stderr
        assert {p.stem for p in out.iterdir() if p.suffix in (".wav", ".npy")} == {"a", "b"}


def test_units_are_tokens(tmp_path, scp) -> None:
    assert infer("--tokenize", scp, tmp_path / "t", alignment="published").returncode == 0
    assert np.array_equal(np.load(tmp_path / f"t/{UTTERANCE}.npy")[:, 0], units().numpy())


def test_a_manifest_is_decoded_without_a_unit_encoder(tmp_path) -> None:
    line = {"audio": str(REFERENCE / f"wav/{UTTERANCE}.wav"), "hubert": " ".join(map(str, units().tolist()))}
    (tmp_path / "m.txt").write_text(json.dumps(line))
    done = infer("--decode", tmp_path / "m.txt", tmp_path / "out", "--speaker", "p1")
    assert done.returncode == 0, done.stderr
    assert sf.info(tmp_path / f"out/{UTTERANCE}.wav").frames == len(wav())


def test_arrays_are_decoded_where_no_f0_is_needed(tmp_path) -> None:
    np.save(tmp_path / "a.npy", units().numpy())
    (tmp_path / "t.scp").write_text("a a.npy\n")
    assert infer("--decode", tmp_path / "t.scp", tmp_path / "out", mode="units").returncode == 0
    assert sf.info(tmp_path / "out/a.wav").frames == 320 * len(units())
    done = infer("--decode", tmp_path / "t.scp", tmp_path / "no")
    assert done.returncode == 2 and "f0_policy=flat" in done.stderr
    done = infer("--decode", tmp_path / "t.scp", tmp_path / "flat", "--speaker", "p2", f0_policy="flat")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("more", "keys", "said"),
    [
        (["--speaker", "nobody"], {}, "p1, p2, p3"),
        ([], {"speaker_from": "parent_name"}, "'wav'"),
        ([], {"ssl_path": "null", "kmeans_path": "null"}, "ssl_path"),
        ([], {"f0_stats": "null"}, "f0_source=utterance"),
        ([], {"upsample_factors": "[5, 4, 4, 2]"}, "upsample_factors"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(tmp_path, scp, more, keys, said) -> None:
    done = infer("--resynthesise", scp, tmp_path / "out", *more, **keys)
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list((tmp_path / "out").rglob("*.wav"))


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    write_voices(folder)
    return folder


CODEC = {"f0_codes": 8, "f0_dim": 8, "f0_width": 8, "f0_depth": 1}
SHORT = {
    "gpus": "cpu",
    "num_workers": 0,
    "batch_size": 8,
    "batch_size_eval": 2,
    "epoch": 2,
    "lr": 0.002,
    "f0_source": "utterance",
}
TINY = {
    "num_units": 8, "embedding_dim": 8, "speaker_rows": 4, "upsample_factors": "[5, 4, 4, 4]", "resblock_type": '"2"',
    "upsample_kernel_sizes": "[11, 8, 8, 8]", "upsample_initial_channel": 32, "resblock_kernel_sizes": "[3]",
    "resblock_dilation_sizes": "[[1]]", "discriminator_width": 0.03, "discriminator_periods": "[2]",
    "discriminator_scales": 0,
}  # fmt: skip


LEARNED_UNITS = {
    "f0_mode": "none", "unit_mode": "learned", "unit_dim": 8, "unit_width": 8, "unit_depth": 1, "code_hop": 320,
    "unit_strides": "[2, 2, 2, 2, 4, 5]",
}  # fmt: skip


def train(recipe, voices, name: str, *more: object, **keys: object):
    lists = {"train_path": voices / "train.txt", "valid_path": voices / "valid.txt", "f0_cache": voices / "f0"}
    told = [f"{key}={value}" for key, value in {**lists, **SHORT, **CODEC, **keys}.items()]
    where = (
        "--log",
        voices / name / "log",
        "--ckpt_path",
        voices / name / "ckpt",
        "--export",
        voices / name / "public",
    )
    return call("train.py", "--config_path", recipe, *where, *more, *flags(told))


@pytest.mark.slow
def test_both_train_and_what_they_export_is_read(voices, tmp_path) -> None:
    done = train(F0_RECIPE, voices, "f0vq", epoch=8)  # eight items a step, of four files
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (voices / "f0vq/log/metrics.jsonl").read_text().splitlines()]
    losses = [row["mse"] for row in rows if row["kind"] in ("first evaluation", "valid")]
    assert losses[-1] < losses[0] and rows[-1].get("used_codes", 1) >= 1
    done = train(RECIPE, voices, "no", **TINY)
    assert done.returncode == 2 and "f0_quantizer_path must be set" in done.stderr
    done = train(RECIPE, voices, "vocoder", **TINY, f0_quantizer_path=voices / "f0vq/public")
    assert done.returncode == 0, done.stderr
    assert (voices / "vocoder/public/speakers.txt").read_text() == "high\nlow\n"
    state = torch.load(next((voices / "vocoder/public").glob("g_*")), weights_only=True)["generator"]
    assert {"conv_pre.weight_g", "quantizer.vq.level_blocks.0.k", "resblocks.0.convs.0.weight_v"} <= state.keys()
    sounds = []
    keys = {key: value for key, value in TINY.items() if not key.startswith("discriminator")}
    for checkpoint in ("ckpt/best.pth", "public"):
        named = {} if checkpoint == "ckpt/best.pth" else {"speakers": voices / "vocoder/public/speakers.txt"}
        given = [f"{key}={value}" for key, value in {**keys, **CODEC, **named, "f0_source": "utterance"}.items()]
        out = tmp_path / checkpoint.replace("/", "-")
        where = ("-config", RECIPE, "-ckpt", voices / "vocoder" / checkpoint, "--output", out, *WHERE)
        done = call("inference.py", "--decode", voices / "valid.txt", *where, *flags(given))
        assert done.returncode == 0, done.stderr
        sounds.append(sf.read(out / "low_4.wav")[0])
    assert np.abs(sounds[0] - sounds[1]).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{"f0_mode": "learned"}, LEARNED_UNITS], ids=["f0", "units"])
def test_codes_that_are_learned_along(voices, keys) -> None:
    name = "learned-" + "-".join(keys)
    done = train(RECIPE, voices, name, **{**TINY, **keys, "epoch": 1})
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (voices / name / "log/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["commit"] >= 0
