"""Enrolments of talkers who are not in the mixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.prepare.absent import absent_enrolments, main
from data.scp import read_scp, write_scp

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
    chosen = absent_enrolments(NAMES, seed=3)
    assert chosen.keys() == set(NAMES)
    assert all(talkers(other)[0] not in talkers(name) for name, other in chosen.items())
    assert absent_enrolments(NAMES[::-1], seed=3) == chosen != absent_enrolments(NAMES, seed=4)
    assert len({talkers(other)[0] for seed in range(9) for other in absent_enrolments(NAMES, seed=seed).values()}) == 4


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
    with pytest.raises(ValueError, match="do not say who talks.*utt0.*by hand"):
        absent_enrolments(["utt0.wav", *NAMES])
    with pytest.raises(ValueError, match=r"all talkers that are enrolled .* are in 1-1-0000_2-1-0000.wav"):
        absent_enrolments(NAMES[:2])
    assert main([str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2 and not (tmp_path / "out").exists()
