"""Voices as vectors: a command makes them, whose a name is, and a voice that is missing is told before the work."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file

from models.resynthesis.voice_vectors import write_vectors
from tests.resynthesis import RECIPE, REFERENCE, UTTERANCE, SpectrumOfVoice, encoder, overrides, wav
from tests.toy import call
from utils import checkpoint
from utils.recipe import Recipe

WHERE = ("-gpus", "cpu", "-proc", "1")


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """A recipe with a speaker encoder, random weights for it, and a list."""
    folder = tmp_path_factory.mktemp("voices")
    recipe = folder / "mine.yaml"
    recipe.write_text(f"base: {RECIPE}\nspeaker_encoder: !new:tests.resynthesis.SpectrumOfVoice\n")
    keys = {"speaker_mode": "embedding", "speaker_dim": 4, "f0_source": "utterance", "f0_stats": "null"}
    told = [*overrides("quantised", **encoder(), **keys)]
    told = [text for text in told if not text.startswith("speakers=")]
    network = Recipe(recipe, overrides=told).build("network")["network"]
    network.quantizer.vq.inited.fill_(1)
    checkpoint.save(folder / "random.pth", {"model": checkpoint.flatten({"vocoder": network.state_dict()})})
    (folder / "list.scp").write_text("".join(f"{name} {REFERENCE}/wav/{UTTERANCE}.wav\n" for name in "ab"))
    return folder, recipe, [text for key in told for text in ("--override", key)]


def infer(setup, out, *more):
    folder, recipe, keys = setup
    where = ("-config", recipe, "-ckpt", folder / "random.pth", "--output", out, *WHERE)
    return call("inference.py", "--resynthesise", folder / "list.scp", *where, *keys, *more)


def test_vectors_are_made_and_heard(setup, tmp_path) -> None:
    folder, recipe, keys = setup
    command = ("models/resynthesis/voice_vectors", folder / "list.scp", "-config", recipe, *WHERE, *keys)
    done = call(*command, "--output", tmp_path / "vectors.safetensors")
    assert done.returncode == 0, done.stderr
    vectors = load_file(tmp_path / "vectors.safetensors")
    own = SpectrumOfVoice().embed(torch.from_numpy(wav())[None])[0]
    assert sorted(vectors) == ["a", "b"]
    torch.testing.assert_close(vectors["a"], own)
    made = infer(setup, tmp_path / "own", "--override", f"speaker_embeddings={tmp_path / 'vectors.safetensors'}")
    assert made.returncode == 0, made.stderr
    enrolled = infer(setup, tmp_path / "enrolled", "--enrolment", REFERENCE / f"wav/{UTTERANCE}.wav")
    assert enrolled.returncode == 0, enrolled.stderr
    sounds = [sf.read(tmp_path / where / "a.wav")[0] for where in ("own", "enrolled")]
    np.testing.assert_allclose(*sounds, atol=1e-3)


def test_a_voice_that_is_missing_is_told_before_the_work(setup, tmp_path) -> None:
    """With a speaker encoder it was told by each file, after hours of others."""
    done = infer(setup, tmp_path / "out")
    assert done.returncode == 2 and "--enrolment FILE" in done.stderr and "a: no speaker" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_enrolment_without_speech_is_refused(setup, tmp_path) -> None:
    sf.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    done = infer(setup, tmp_path / "out", "--enrolment", tmp_path / "silence.wav")
    assert done.returncode != 0 and "no voiced speech" in done.stderr, done.stderr


def test_a_speakers_vector_is_the_mean_of_its_utterances(tmp_path) -> None:
    rows = [{"name": name, "speaker": name[0], "vector": [float(i), 1.0]} for i, name in enumerate(("a1", "a2", "b1"))]
    write_vectors(tmp_path / "v.safetensors", rows, by="speaker")
    found = load_file(tmp_path / "v.safetensors")
    assert {name: x.tolist() for name, x in found.items()} == {"a": [0.5, 1.0], "b": [2.0, 1.0]}


def test_without_a_speaker_encoder_the_command_says_what_is_missing(setup, tmp_path) -> None:
    folder, _, _ = setup
    done = call("models/resynthesis/voice_vectors", folder / "list.scp", "-config", RECIPE, "--output",
                tmp_path / "v.safetensors", *WHERE)  # fmt: skip
    assert (
        done.returncode == 2
        and "speaker_encoder must be set" in done.stderr
        and not (tmp_path / "v.safetensors").exists()
    )
