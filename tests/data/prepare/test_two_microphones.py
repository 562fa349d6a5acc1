"""Mixtures before two microphones: what the lists and geometry.jsonl say is what the files hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data.prepare import two_microphones
from data.prepare.microphones import Place, free_field
from data.scp import read_scp
from tests.toy import write_corpus


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), seconds=1.0)["tr_data_scp_path"]


def command(index: Path, output: Path, *more: object, mixtures: int = 3) -> int:
    arguments = ["--speakers", index, "--output", output, "--mixtures", mixtures, "--seconds", 0.4, *more]
    return two_microphones.main([str(argument) for argument in arguments])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(index, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "pairs"
    assert command(index, folder) == 0
    return folder


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "geometry.jsonl").read_text().splitlines()]


def test_lists_signals_and_geometry_fit_together(made) -> None:
    lists = {role: read_scp(made / f"{role}.scp") for role in ("mix_clean", "s1", "s2", "aux_s1", "visual_s1")}
    assert [row["name"] for row in rows(made)] == list(lists["s1"])
    for row in rows(made):
        mixture, rate = sf.read(lists["mix_clean"][row["name"]])
        target, interferer = (sf.read(lists[role][row["name"]])[0] for role in ("s1", "s2"))
        assert rate == 16000 and mixture.shape == (6400, 2) and target.shape == interferer.shape == (6400,)
        assert np.abs(mixture[:, 0] - target - interferer).max() < 1e-4 and np.abs(mixture).max() < 1
        ratio = 10 * np.log10(np.square(target).sum() / np.square(interferer).sum())
        assert ratio == pytest.approx(row["sir_db"], abs=0.01) and abs(ratio) < 5
        places = (Place(row[f"{who}_azimuth"], row[f"{who}_distance"]) for who in ("target", "interferer"))
        heard = [free_field(x, place, spacing=0.07)[1] for x, place in zip((target, interferer), places, strict=True)]
        assert np.abs(mixture[:, 1] - sum(heard)).max() < 2e-4
        assert row["target_speaker"] != row["interferer_speaker"]
        assert row["target"] != row["enrolment"] and Path(row["target"]).parent == Path(row["enrolment"]).parent
        enrolment = sf.read(lists["aux_s1"][row["name"]])[0]
        assert np.array_equal(enrolment, sf.read(row["enrolment"])[0])
        face = np.load(lists["visual_s1"][row["name"]], allow_pickle=False)
        assert face.shape == (10, 256) and face.dtype == np.float32
    readme = " ".join((made / "README.md").read_text().split())
    assert "**not a face**" in readme and "7 cm apart" in readme and two_microphones.SHORT in readme


def test_the_same_arguments_give_the_same_bytes_and_fewer_mixtures_the_first_ones(made, index, tmp_path) -> None:
    assert command(index, tmp_path / "again") == 0
    assert files(tmp_path / "again") == files(made)
    assert command(index, tmp_path / "one", mixtures=1) == 0
    assert rows(tmp_path / "one") == rows(made)[:1]
    assert command(index, tmp_path / "other", "--seed", 1) == 0
    assert files(tmp_path / "other")["geometry.jsonl"] != files(made)["geometry.jsonl"]


def test_what_is_there_stays_and_other_arguments_are_refused(made, index, capsys) -> None:
    before = files(made)
    assert command(index, made) == 0 and "are there already" in capsys.readouterr().out
    assert command(index, made, "--spacing", 0.14) == 2
    assert "spacing 0.07, not 0.14" in capsys.readouterr().err
    assert files(made) == before


def test_a_run_that_was_stopped_is_made_whole_by_the_same_command(made, index, tmp_path, monkeypatch) -> None:
    def stop(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(two_microphones, "write_scp", stop)
    assert command(index, tmp_path / "cut") == 130
    assert not (tmp_path / "cut/two_microphones.json").exists()
    (tmp_path / "cut/s1/.partial-0000").write_bytes(b"left")
    monkeypatch.undo()
    assert command(index, tmp_path / "cut") == 0
    assert files(tmp_path / "cut") == files(made)


def test_a_shorter_utterance_is_followed_by_silence(index, tmp_path) -> None:
    assert two_microphones.main(
        ["--speakers", str(index), "--output", str(tmp_path / "out"), "--mixtures", "1", "--seconds", "1.5"]
    ) == 0  # fmt: skip
    (row,) = rows(tmp_path / "out")
    target, samples = sf.read(tmp_path / "out/s1" / row["name"])[0], sf.info(row["target"]).frames
    assert len(target) == 24000 and target[:samples].any() and not target[samples:].any()


def test_rooms_keep_length_and_sum_and_say_what_the_target_is(index, tmp_path) -> None:
    pytest.importorskip("pyroomacoustics", reason="requirements-rooms.txt is not installed")
    assert command(index, tmp_path / "rooms", "--reverberation", 0.2, 0.3, mixtures=1) == 0
    (row,) = rows(tmp_path / "rooms")
    mixture, target, other = (sf.read(tmp_path / "rooms" / role / row["name"])[0] for role in ("mix_clean", "s1", "s2"))
    assert mixture.shape == (6400, 2) and np.abs(mixture[:, 0] - target - other).max() < 1e-4
    assert 0.2 <= row["room"]["rt60"] <= 0.3
    assert "reverberant speech" in " ".join((tmp_path / "rooms/README.md").read_text().split())


def test_without_pyroomacoustics_reverberation_names_the_way_out(index, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(two_microphones.sys.modules, "pyroomacoustics", None)
    assert command(index, tmp_path / "rooms", "--reverberation", 0.2, 0.3) == 2
    assert "pip install -r requirements-rooms.txt" in capsys.readouterr().err
    assert not (tmp_path / "rooms").exists()


@pytest.mark.parametrize(
    ("talkers", "said"),
    [
        ({"a": ["0-0.wav", "0-1.wav"]}, "two talkers are needed, 1 found"),
        ({"a": ["0-0.wav", "0-1.wav"], "b": ["1-0.wav", "1-0.wav"]}, "b without a second utterance"),
        ({}, "two talkers are needed, 0 found"),
    ],
)
def test_too_few_talkers_or_utterances_are_refused_in_one_line(index, tmp_path, capsys, talkers, said) -> None:
    (tmp_path / "index.json").write_text(
        json.dumps({who: [str(index.parent / "train" / one) for one in own] for who, own in talkers.items()})
    )
    assert command(tmp_path / "index.json", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [("--seconds", "0"), ("--sir", "-1"), ("--spacing", "0"), ("--distance", "3", "2"), ("--distance", "0.01", "2"),
     ("--visual-dim", "0"), ("--mixtures", "0"), ("--seed", "-1"), ("--seconds", "nan"),
     ("--reverberation", "0.5", "0.2")],
)  # fmt: skip
def test_an_argument_that_makes_no_mixture_is_named(index, tmp_path, capsys, wrong) -> None:
    assert command(index, tmp_path / "out", *wrong) == 2
    assert wrong[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_talker_whose_utterances_are_silent_is_named(tmp_path, capsys) -> None:
    for who in "ab":
        for number in range(2):
            sf.write(tmp_path / f"{who}{number}.wav", np.full(8000, 0.2 * (who == "a")), 16000)
    (tmp_path / "index.json").write_text(json.dumps({who: [f"{who}0.wav", f"{who}1.wav"] for who in "ab"}))
    assert command(tmp_path / "index.json", tmp_path / "out") == 2
    assert "cuts of b were silent" in capsys.readouterr().err


def test_a_silent_utterance_is_no_enrolment(index, tmp_path, capsys) -> None:
    talkers = {
        who: [str(index.parent / f"train/{number}-{i}.wav") for i in range(2)] for number, who in enumerate("ab")
    }
    sf.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    for own in talkers.values():
        own.append(str(tmp_path / "silent.wav"))
    (tmp_path / "index.json").write_text(json.dumps(talkers))
    assert command(tmp_path / "index.json", tmp_path / "out", mixtures=6) == 0
    assert not any("silent" in row["enrolment"] or "silent" in row["target"] for row in rows(tmp_path / "out"))
    (tmp_path / "index.json").write_text(json.dumps({who: own[1:] for who, own in talkers.items()}))
    assert command(tmp_path / "index.json", tmp_path / "few") == 2
    assert "no other utterance of" in capsys.readouterr().err


def test_a_second_run_in_the_folder_is_refused_while_one_is_at_work(index, tmp_path, monkeypatch, capsys) -> None:
    found = []

    def meanwhile(*arguments) -> None:
        monkeypatch.undo()
        found.append(command(index, tmp_path / "out"))
        two_microphones.make_mixture(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(two_microphones, "make_mixture", meanwhile)
    assert command(index, tmp_path / "out") == 130
    assert found == [2] and "is in use by" in capsys.readouterr().err


def test_the_help_tells_the_rule_for_short_utterances(capsys) -> None:
    with pytest.raises(SystemExit):
        two_microphones.main(["--help"])
    assert two_microphones.SHORT in " ".join(capsys.readouterr().out.split())
