"""Bits a second of folders of units."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile as sf

from evaluation.bitrate import main
from tests.dpslm import DIMS, REFERENCE


def measured(capsys, *arguments: object) -> dict:
    assert main([str(argument) for argument in arguments]) == 0
    return json.loads(capsys.readouterr().out)


def write(folder, **units: list) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in units.items():
        np.save(folder / f"{name}.npy", np.array(values, dtype=np.int16))


def test_the_published_figure_comes_out(capsys) -> None:
    found = measured(capsys, REFERENCE / "units")
    assert list(found) == ["files", "units", "seconds", "units_per_second", "entropy_bits", "bitrate"]
    assert {key: found[key] for key in DIMS["bitrate"]} == pytest.approx(DIMS["bitrate"], rel=1e-7)
    assert found["entropy_bits"] * found["units_per_second"] == pytest.approx(found["bitrate"])


def test_with_a_list_the_seconds_are_those_of_the_audio(capsys) -> None:
    found = measured(capsys, REFERENCE / "units", "--utterances", REFERENCE / "wavs.scp")
    seconds = sum(sf.info(REFERENCE / f"wavs/utt{number}.wav").duration for number in range(4))
    wanted = DIMS["bitrate"]
    assert found["seconds"] == pytest.approx(seconds) and found["seconds"] > wanted["seconds"]
    assert found["bitrate"] == pytest.approx(wanted["bitrate"] * wanted["seconds"] / seconds, rel=1e-7)


def test_repeats_go_within_a_file_and_distributions_are_pooled(tmp_path, capsys) -> None:
    """1 2 1 and 1 3: 1 three times, 2 and 3 once. The end of one file is no repeat of the next one's beginning."""
    write(tmp_path, a=[[1], [1], [2], [2], [1]])
    write(tmp_path / "deeper", b=[1, 1, 1, 3, 3])
    found = measured(capsys, tmp_path)
    entropy = -(0.6 * math.log2(0.6) + 2 * 0.2 * math.log2(0.2))
    assert (found["files"], found["units"], found["seconds"]) == (2, 5, 0.2)
    assert found["entropy_bits"] == pytest.approx(entropy) and found["bitrate"] == pytest.approx(25 * entropy)


def test_the_record_tells_how_many_frames_a_second_has(tmp_path, capsys) -> None:
    write(tmp_path, a=[0, 1] * 20)
    (tmp_path / "tokens.json").write_text(json.dumps({"sample_rate": 24000, "hop_length": 600}))
    found = measured(capsys, tmp_path)
    assert (found["seconds"], found["bitrate"]) == (1.0, 40.0)


def test_one_unit_alone_has_no_bits(tmp_path, capsys) -> None:
    write(tmp_path, a=[[7]] * 50)
    found = measured(capsys, tmp_path)
    assert (found["units"], found["seconds"]) == (1, 1.0)
    assert math.copysign(1, found["entropy_bits"]) == 1 and found["entropy_bits"] == found["bitrate"] == 0


def test_what_another_run_has_not_finished_is_left_out(tmp_path, capsys) -> None:
    write(tmp_path, a=[[7]] * 50)
    (tmp_path / ".partial-0123456789abcdef.npy").write_bytes(b"half of")
    write(tmp_path / ".corpus", b=[1, 2])
    assert measured(capsys, tmp_path)["files"] == 1


def test_files_that_are_no_units_are_named(tmp_path, capsys) -> None:
    for number, array in enumerate([np.zeros((3, 2), np.int16), np.zeros((0, 1), np.int16), np.ones((3, 1), np.float32),
                                    np.array([1, -1], np.int16)]):  # fmt: skip
        folder = tmp_path / str(number)
        write(folder, good=[1, 2])
        np.save(folder / "wrong.npy", array)
        assert main([str(folder)]) == 2
        assert "wrong.npy" in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "more", utt0=[1, 2], utt9=[1])
    for arguments, said in (
        ([tmp_path / "nowhere"], "nowhere"),
        ([tmp_path / "empty"], "no .npy files"),
        ([tmp_path / "more", "--utterances", REFERENCE / "wavs.scp"], "utt9"),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "more/tokens.json").write_text("{}")
    assert main([str(tmp_path / "more")]) == 2
    assert "tokens.json" in capsys.readouterr().err
