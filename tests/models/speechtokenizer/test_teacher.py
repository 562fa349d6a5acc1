"""The teacher: in step with the codec's frames, each row as alone, and what cannot be one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import HubertModel

from models.speechtokenizer.teacher import Teacher, load_teacher, require_same_frames
from tests.codec import REFERENCE, architecture, largest, read, train_batch

FOLDER = REFERENCE / "teacher"


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(FOLDER)


def changed(tmp_path: Path, **settings: object) -> Path:
    folder = tmp_path / "teacher"
    shutil.copytree(FOLDER, folder)
    config = json.loads((FOLDER / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def test_a_frame_lies_around_the_middle_of_the_codecs(teacher) -> None:
    """Whole, by hand: unit variance, 40 zeros before, and after it as many as N frames need."""
    wav = read("utt0")[None, :3200]
    unit = (wav - wav.mean()) / (wav.var(unbiased=False) + 1e-7).sqrt()
    heard = torch.cat([torch.zeros(1, 40), unit, torch.zeros(1, 40)], dim=1)
    with torch.no_grad():
        states = HubertModel.from_pretrained(FOLDER).eval()(heard, output_hidden_states=True).hidden_states
    assert len(states) == 4
    found = teacher(wav, torch.tensor([3200]))
    assert found.shape == (1, 10, 12) and largest(found, torch.stack(states).mean(0)) < 1e-5
    assert largest(Teacher(FOLDER, layer=2)(wav, torch.tensor([3200])), states[2]) < 1e-5


def test_a_row_does_not_hear_the_padding_behind_it(teacher) -> None:
    wav = train_batch()[:3].clone()
    wav[1, 7000:] = 5.0
    lengths = torch.tensor([16000, 7000, 1])
    found = teacher(wav, lengths)
    assert found.shape == (3, 50, 12)
    for row, length in enumerate(lengths.tolist()):
        frames = -(-length // 320)
        alone = teacher(wav[row : row + 1, :length], torch.tensor([length]))
        assert largest(found[row, :frames], alone[0]) < 1e-5 and not found[row, frames:].any()


def test_it_stays_asleep_while_others_train(teacher) -> None:
    teacher.train()
    wav = train_batch()[:2]
    lengths = torch.tensor([16000, 16000])
    assert torch.equal(teacher(wav, lengths), teacher(wav, lengths))


def test_silence_has_features_that_are_finite(teacher) -> None:
    assert teacher(torch.zeros(1, 3200), torch.tensor([3200])).isfinite().all()


def test_a_folder_may_say_that_speech_is_taken_as_it_is(tmp_path: Path, teacher) -> None:
    folder = changed(tmp_path)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    wav, lengths = train_batch()[:1], torch.tensor([16000])
    assert largest(Teacher(folder)(wav, lengths), teacher(wav, lengths)) > 1e-3
    (folder / "preprocessor_config.json").unlink()
    assert largest(Teacher(folder)(wav, lengths), teacher(wav, lengths)) == 0


def test_at_24_khz_it_hears_the_speech_at_16(teacher) -> None:
    time = torch.arange(24000) / 24000
    tone = (torch.sin(2 * torch.pi * 300 * time) * (0.2 + time))[None]
    slow = (torch.sin(2 * torch.pi * 300 * torch.arange(16000) / 16000) * (0.2 + torch.arange(16000) / 16000))[None]
    fast = Teacher(FOLDER, sample_rate=24000, hop_length=480)
    a, b = fast(tone, torch.tensor([24000])), teacher(slow, torch.tensor([16000]))
    assert largest(a[:, 2:-2], b[:, 2:-2]) < 0.05 * float(b.std())


def test_facts_tell_teachers_and_layers_apart(teacher) -> None:
    assert teacher.facts() == {
        "teacher": teacher.digest(),
        "teacher_layer": "avg",
        "zeros_before": 40,
        "sample_rate": 16000,
        "hop_length": 320,
    }
    assert Teacher(FOLDER, layer=2).facts()["teacher_layer"] == "2"


def test_a_recipe_may_name_none_and_not_one_of_another_width() -> None:
    settings = dict(teacher_layer="avg", architecture=architecture("elu"))
    assert load_teacher(teacher_path=None, **settings) is None
    assert load_teacher(teacher_path=str(FOLDER), **settings).dim == 12
    wide = dataclasses.replace(architecture("elu"), semantic_dimension=15)
    with pytest.raises(ValueError, match="semantic_dimension is 15, but the teacher in .* has 12 channels"):
        load_teacher(teacher_path=str(FOLDER), teacher_layer="avg", architecture=wide)


@pytest.mark.parametrize("layer", [4, -1, "last", 2.0])
def test_layers_that_there_are_not_are_refused(layer: object) -> None:
    with pytest.raises(ValueError, match=f"teacher_layer must be avg, or 0 to 3.*got {layer!r}"):
        Teacher(FOLDER, layer=layer)


def test_teachers_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="teacher_path .*ghost"):
        Teacher(tmp_path / "ghost")
    with pytest.raises(ValueError, match="is a whisper; a teacher must take waveforms: hubert, wavlm, wav2vec2"):
        Teacher(changed(tmp_path / "a", model_type="whisper"))
    with pytest.raises(ValueError, match="a frame of 800 samples every 640 samples.* of 400 every 320"):
        Teacher(changed(tmp_path / "b", conv_stride=[10, 2, 2, 2, 2, 2, 2], conv_kernel=[20, 3, 3, 3, 3, 2, 2]))
    folder = changed(tmp_path / "c")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot load teacher_path"):
        Teacher(folder)


def test_a_codec_with_other_frames_is_refused() -> None:
    require_same_frames(24000, 480)
    with pytest.raises(ValueError, match=r"the codec has 75 a second \(320 samples at 24000 Hz\), the teacher 50 a s"):
        require_same_frames(24000, 320)
