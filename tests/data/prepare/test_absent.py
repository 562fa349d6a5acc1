"""Enrolments of talkers who are not in the mixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.prepare.absent import absent_enrolments, main, read_talkers
from data.scp import read_scp, write_scp
from data.speakers import write_speakers

NAMES = [
    f"{a}-1-{n:04d}_{b}-1-{n:04d}.wav" for n, (a, b) in enumerate([(1, 2), (2, 1), (3, 4), (1, 4), (4, 3), (2, 3)])
]


def talkers(name: str) -> tuple[str, str]:
    return tuple(part.split("-")[0] for part in name.split("_"))


def folder(path: Path) -> Path:
    for role in ("mix_clean", "aux_s1"):
        write_scp(path / f"{role}.scp", {name: path / role / name for name in NAMES})
    return path


def test_the_talker_is_in_no_mixture_whatever_the_order_of_the_list() -> None:
    who = {name: talkers(name) for name in NAMES}
    chosen = absent_enrolments(who, seed=3)
    assert chosen.keys() == set(NAMES)
    assert all(talkers(other)[0] not in talkers(name) for name, other in chosen.items())
    turned = dict(reversed(who.items()))
    assert absent_enrolments(turned, seed=3) == chosen != absent_enrolments(who, seed=4)
    assert len({talkers(other)[0] for seed in range(9) for other in absent_enrolments(who, seed=seed).values()}) == 4


def test_names_or_the_index_beside_the_folder_tell_who_talks(tmp_path) -> None:
    assert read_talkers(tmp_path / "dev", NAMES) == {name: talkers(name) for name in NAMES}
    assert read_talkers(tmp_path / "dev", [f"all/{NAMES[0]}"]) == {f"all/{NAMES[0]}": ("1", "2")}
    files = {role: {f"x{n}.wav": tmp_path / role / f"{n}.wav" for n in range(3)} for role in ("s1", "s2")}
    for role, entries in files.items():
        write_scp(tmp_path / f"dev/{role}.scp", entries)
    one, two = files["s1"], files["s2"]
    index = {"an-na": [one["x0.wav"], two["x1.wav"]], "b_b": [one["x1.wav"], two["x0.wav"]], "c": [one["x2.wav"]]}
    write_speakers(tmp_path / "dev.json", {**index, "d": [two["x2.wav"]]})
    found = read_talkers(tmp_path / "dev", list(one))
    assert found == {"x0.wav": ("an-na", "b_b"), "x1.wav": ("b_b", "an-na"), "x2.wav": ("c", "d")}
    write_speakers(tmp_path / "dev.json", index)
    with pytest.raises(ValueError, match=r"dev.json and the lists .* do not tell .* 1 of 3 mixtures: x2.wav.* by hand"):
        read_talkers(tmp_path / "dev", list(one))


def test_lists_are_written_and_no_others_touched(tmp_path, capsys) -> None:
    given = folder(tmp_path / "dev")
    before = {path: path.read_bytes() for path in given.iterdir()}
    assert main([str(given), "--output", str(tmp_path / "absent")]) == 0
    assert "6 mixtures" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "absent").iterdir()} == {"mix_clean.scp", "aux_s1.scp"}
    assert read_scp(tmp_path / "absent/mix_clean.scp") == {name: given / "mix_clean" / name for name in NAMES}
    for name, path in read_scp(tmp_path / "absent/aux_s1.scp").items():
        assert path.parent == given / "aux_s1" and talkers(path.name)[0] not in talkers(name)
    assert {path: path.read_bytes() for path in given.iterdir()} == before


def test_what_cannot_be_is_said_and_nothing_written(tmp_path, capsys) -> None:
    given = folder(tmp_path / "dev")
    assert main([str(given), "--output", str(given)]) == 2
    assert "choose another folder" in capsys.readouterr().err
    with pytest.raises(ValueError, match="do not tell who talks in 1 of 7 mixtures: utt0.wav.*by hand"):
        read_talkers(given, ["utt0.wav", *NAMES])
    with pytest.raises(ValueError, match=r"all talkers that are enrolled .* are in 1-1-0000_2-1-0000.wav"):
        absent_enrolments({name: talkers(name) for name in NAMES[:2]})
    assert main([str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2 and not (tmp_path / "out").exists()
