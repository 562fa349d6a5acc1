"""Extraction over lists and of one file, as inference.py runs it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from models.limuse.speaker_encoders import load_speaker_encoder, origin_of
from models.load import load_model
from tests.limuse import DIMS, RECIPE, REFERENCE, UTTERANCES, checkpoint, expected, flags, inputs, overrides
from tests.toy import call
from utils import checkpoint as ours


def run(output: Path, where: Path | None = REFERENCE / "test", *more: object, which: str = "full", **values) -> int:
    command = ["-config", RECIPE, "-ckpt", values.pop("ckpt", checkpoint(which)), "--output", output, "-gpus", "cpu"]
    command += ["-scp", where] if where else []
    done = call("inference.py", *command, "-proc", 1, *more, *flags(which, **values))
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def wav(path: Path) -> torch.Tensor:
    found, rate = sf.read(path, dtype="float32")
    assert rate == 16000 and found.ndim == 1
    return torch.from_numpy(found)


def copied(folder: Path) -> Path:
    """The test lists with real files beside them."""
    for kind in ("mix_clean", "aux_s1", "visual_s1"):
        lines = []
        (folder / kind).mkdir(parents=True)
        for line in (REFERENCE / f"test/{kind}.scp").read_text().splitlines():
            name, path = line.split(maxsplit=1)
            to = folder / kind / (Path(name).stem + Path(path).suffix)
            shutil.copy(REFERENCE / "test" / path, to)
            lines.append(f"{name} {to.relative_to(folder)}\n")
        (folder / f"{kind}.scp").write_text("".join(lines))
    return folder


def test_a_folder_of_lists_gives_the_published_waveforms(tmp_path) -> None:
    assert run(tmp_path / "out") == 0
    for utterance in ("utt1", "utt2"):
        assert (wav(tmp_path / f"out/{utterance}.wav") - expected()[f"full/{utterance}/wav"]).abs().max() < 1e-4
    assert all((tmp_path / f"out/{utterance}.wav").exists() for utterance in UTTERANCES)


@pytest.mark.parametrize("pickled", ["grid_vp.pkl", "grid_vp_protocol5.pkl"])
def test_a_ten_field_list_with_pickled_voiceprints(tmp_path, pickled: str) -> None:
    released = REFERENCE / "released"
    more = {"voiceprint_path": released / pickled}
    assert run(tmp_path / "a", released / "datalist_2mix_test.txt", **more) == 0
    assert run(tmp_path / "b", released / "datalist_2mix_test.txt", voiceprint_of="target", **more) == 0
    name = f"{DIMS['names']['utt1']}.wav"
    assert (wav(tmp_path / "a" / name) - expected()["full/utt1/wav"]).abs().max() < 1e-4
    assert (wav(tmp_path / "b" / name) - expected()["full_target_voiceprint/utt1/wav"]).abs().max() < 1e-4


def test_one_file(tmp_path) -> None:
    folder, out = copied(tmp_path / "lists"), tmp_path / "one.wav"
    mixture, enrolment, face = (folder / x for x in ("mix_clean/utt1.wav", "aux_s1/utt1.npy", "visual_s1/utt1.npy"))
    assert run(out, None, "--mixture", mixture, "--enrolment", enrolment, "--visual", face) == 0
    assert (wav(out) - expected()["full/utt1/wav"]).abs().max() < 1e-4
    assert run(tmp_path / "two.wav", None, "--mixture", mixture, "--enrolment", enrolment) == 0  # a face may be missing
    assert run(out, None, "--mixture", mixture, "--visual", face) == 2
    kept = mixture.read_bytes()
    assert run(mixture, None, "--mixture", mixture, "--enrolment", enrolment) == 2
    assert mixture.read_bytes() == kept


def test_an_enrolment_is_not_overwritten_by_its_result(tmp_path, capsys) -> None:
    folder = copied(tmp_path / "lists")
    voice = folder / "voice.wav"
    shutil.copy(folder / "mix_clean/utt0.wav", voice)
    kept = voice.read_bytes()
    assert run(voice, None, "--mixture", folder / "mix_clean/utt1.wav", "--enrolment", voice) == 2
    assert voice.read_bytes() == kept and "overwrite" in capsys.readouterr().err


def test_without_a_voiceprint_among_the_cues_no_enrolment_is_asked_for(tmp_path) -> None:
    folder = copied(tmp_path / "lists")
    (folder / "aux_s1.scp").write_text("nothing good\n")  # not read
    assert run(tmp_path / "out", folder, which="no_voiceprint") == 0
    assert (wav(tmp_path / "out/utt2.wav") - expected()["no_voiceprint/utt2/wav"]).abs().max() < 1e-4
    mixture = folder / "mix_clean/utt2.wav"
    assert run(tmp_path / "one.wav", None, "--mixture", mixture, which="no_voiceprint") == 0
    enrolment = folder / "aux_s1/utt2.npy"
    more = ("--mixture", mixture, "--enrolment", enrolment)
    assert run(tmp_path / "two.wav", None, *more, which="no_voiceprint") == 2


def test_bad_files_fail_alone_and_are_named(tmp_path, capsys) -> None:
    folder = copied(tmp_path / "lists")
    mixture, rate = sf.read(folder / "mix_clean/utt0.wav")
    sf.write(folder / "mix_clean/utt0.wav", mixture[:, 0], rate)
    np.save(folder / "aux_s1/utt1.npy", np.zeros(77, "float32"))
    np.save(folder / "visual_s1/utt3.npy", np.zeros((400, 256), "float32"))
    assert run(tmp_path / "out", folder) == 1
    said = capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").glob("*.wav")] == ["utt2.wav"]
    for words in ("utt0.wav: the mixture has 1 channel, 2 are needed", "utt1.npy has 77", "512", "utt3.npy has 400"):
        assert words in said


def test_equal_and_silent_channels_are_told_and_extracted(tmp_path, capsys) -> None:
    folder = copied(tmp_path / "lists")
    for name, gains in (("utt0", (1, 1)), ("utt1", (1, 0))):
        mixture, rate = sf.read(folder / f"mix_clean/{name}.wav")
        sf.write(folder / f"mix_clean/{name}.wav", mixture[:, :1] * np.array(gains), rate)
    assert run(tmp_path / "out", folder) == 0
    said = capsys.readouterr().err
    assert "utt0.wav: channels 1 and 2 are equal" in said
    assert "utt1.wav: channel 2 is silent" in said
    assert "utt2.wav: channel" not in said


def test_nothing_is_clipped_unseen(tmp_path, capsys) -> None:
    """The reference's random weights give outputs beyond full scale where they are made louder."""
    state = torch.load(checkpoint(), weights_only=True)
    state["model_state_dict"]["decoder.weight"] *= 1000
    torch.save(state, tmp_path / "loud.pt")
    assert run(tmp_path / "out", ckpt=tmp_path / "loud.pt") == 0
    said = capsys.readouterr().err
    assert "utt0.wav: peak" in said and "clipped" in said


@pytest.mark.parametrize("kind", ["xvector", "ecapa"])
def test_enrolments_in_audio(tmp_path, kind: str) -> None:
    encoder = load_speaker_encoder(kind, REFERENCE / kind, 48, ["voiceprint"])
    settings = {"speaker_encoder": kind, "speaker_encoder_path": REFERENCE / kind, "voiceprint_dim": 48}
    weights = trained(tmp_path, origin_of(encoder))
    assert run(tmp_path / "out", REFERENCE / "test_audio", ckpt=weights, **settings) == 0
    model = load_model(RECIPE, weights, overrides=overrides(**settings))
    line = (REFERENCE / "test_audio/aux_s1.scp").read_text().splitlines()[1]
    enrolment, _ = sf.read(REFERENCE / "test_audio" / line.split(maxsplit=1)[1], dtype="float32")
    given = {**inputs("utt1"), "voiceprint": encoder.embed(torch.from_numpy(enrolment)[None])[0]}
    made = model.extract(**given)
    assert (wav(tmp_path / "out/utt1.wav") - made.clamp(-1, 1)).abs().max() < 1e-4
    del given["voiceprint"]
    assert torch.allclose(model.extract(**given, enrolment=enrolment), made, atol=1e-5)


def trained(folder: Path, voiceprints: str) -> Path:
    """A checkpoint of this project for voiceprints of 48 numbers, which says where they came from."""
    from tests.limuse import network

    net = network(voiceprint_dim=48)
    content = {"model": ours.flatten({"network": net.state_dict()}), "settings": {"voiceprints": voiceprints}}
    ours.save(folder / "ours.pth", content)
    return folder / "ours.pth"


def test_voiceprints_of_another_encoder_are_refused_or_told(tmp_path, caplog) -> None:
    xvector = origin_of(load_speaker_encoder("xvector", REFERENCE / "xvector", 48, ["voiceprint"]))
    ecapa = {"speaker_encoder": "ecapa", "speaker_encoder_path": REFERENCE / "ecapa"}
    with pytest.raises(ValueError, match=r"voiceprints of xvector \(.*\), the recipe names ecapa \("):
        load_model(RECIPE, trained(tmp_path, xvector), overrides=overrides(voiceprint_dim=48, **ecapa))
    for then, more in ((xvector, {}), ("files", ecapa)):
        caplog.clear()
        load_model(RECIPE, trained(tmp_path, then), overrides=overrides(voiceprint_dim=48, **more))
        assert "xvector" in caplog.text or "ecapa" in caplog.text
    assert "files" in caplog.text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"speaker_encoder": "xvector"}, "speaker_encoder_path"),
        ({"speaker_encoder": "dvector"}, "files, xvector, ecapa"),
        ({"speaker_encoder": "ecapa", "speaker_encoder_path": "nowhere"}, "nowhere"),
        (
            {"speaker_encoder": "xvector", "speaker_encoder_path": REFERENCE / "xvector"},
            "48 numbers, voiceprint_dim is 512",
        ),
        ({"piece_seconds": 1.0}, "piece_seconds"),
        ({"level": "loud"}, "level must be one of"),
        ({"grups": 3}, "grups"),
        ({"weight_bits": 2.5, "quantised": True}, "weight_bits"),
        ({"weight_bits": 9, "quantised": True}, "weight_bits"),
    ],
)
def test_wrong_values_are_named(values: dict, words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        load_model(RECIPE, checkpoint(), overrides=overrides(**values))


def test_an_encoder_folder_with_code_is_refused(tmp_path) -> None:
    folder = shutil.copytree(REFERENCE / "ecapa", tmp_path / "ecapa")
    text = (folder / "hyperparams.yaml").read_text()
    (folder / "hyperparams.yaml").write_text(text + f"\nextra: !apply:os.system ['touch {tmp_path / 'ran'}']\n")
    with pytest.raises(ValueError, match="!apply"):
        load_speaker_encoder("ecapa", folder, 48, ["voiceprint"])
    assert not (tmp_path / "ran").exists()
    assert load_speaker_encoder("ecapa", folder, 48, ["visual"]) is None
