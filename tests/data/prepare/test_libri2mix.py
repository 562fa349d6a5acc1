"""Libri2Mix folders to aligned lists: what is written, and what is refused before anything is written."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data.prepare import libri2mix
from data.scp import read_aligned, read_scp

ROOT = Path(__file__).parents[3]
NAMES = [f"{i}-1-0001_9-2-000{i}.wav" for i in range(4)]


def add(path: Path, *, samples: int = 1600, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.zeros(samples, dtype=np.float32), rate)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        for role in ("mix_clean", "s1"):
            add(tmp_path / "test" / role / name, samples=1600 + number)
        add(tmp_path / "test" / "aux_s1" / name, samples=3000)
    return tmp_path / "test"


def run(*args) -> int:
    return libri2mix.main([str(arg) for arg in args])


def refused(capsys, folder: Path, *args) -> str:
    """The error of a run that is refused, after seeing that it wrote nothing."""
    before = sorted(folder.parent.rglob("*"))
    assert run(folder, *args) == 2
    assert sorted(folder.parent.rglob("*")) == before
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    return error


def test_lists_in_the_folder_are_relative(folder, capsys):
    assert run(folder) == 0
    assert (folder / "s1.scp").read_text() == "".join(f"{name} s1/{name}\n" for name in NAMES)
    aligned = read_aligned({role: folder / f"{role}.scp" for role in ("mix_clean", "s1", "aux_s1")})
    assert [name for name, _ in aligned] == NAMES
    assert not (folder / "s2.scp").exists()
    assert "4 utterances" in capsys.readouterr().out
    moved = shutil.move(folder, folder.parent / "moved")
    assert all(path.is_file() for path in read_scp(Path(moved, "aux_s1.scp")).values())


def test_relative_paths_also_through_a_link(folder):
    (folder.parent / "link").symlink_to(folder)
    assert run(folder.parent / "link") == 0
    assert (folder / "mix_clean.scp").read_text().startswith(f"{NAMES[0]} mix_clean/")


def test_lists_elsewhere_are_absolute(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("test", "--output", "lists/test") == 0
    assert (tmp_path / "lists" / "test" / "s1.scp").read_text().startswith(f"{NAMES[0]} {folder}/s1/{NAMES[0]}\n")
    assert not list(folder.glob("*.scp"))


def test_second_source_and_flac(tmp_path):
    for role in ("mix_clean", "s1", "s2", "aux_s1"):
        add(tmp_path / role / "a.flac")
    assert run(tmp_path) == 0
    assert read_scp(tmp_path / "s2.scp") == {"a.flac": tmp_path / "s2" / "a.flac"}


def test_names_that_do_not_match_are_one_error(folder, capsys):
    (folder / "s1" / NAMES[0]).unlink()
    add(folder / "aux_s1" / "extra.wav")
    error = refused(capsys, folder)
    assert str(folder) in error
    assert re.search(rf"^  s1.scp: {NAMES[0]} missing", error, re.MULTILINE)
    assert re.search(r"^  aux_s1.scp: extra.wav not in mix_clean.scp", error, re.MULTILINE)


def test_lengths_and_headers_are_one_error(folder, capsys):
    add(folder / "s1" / NAMES[1], samples=1599)
    (folder / "aux_s1" / NAMES[2]).write_bytes(b"no audio")
    add(folder / "mix_clean" / NAMES[3], samples=0)
    error = refused(capsys, folder)
    assert f"{NAMES[1]} lasts 0.0999 s, its mixture 0.1001 s" in error
    assert f"cannot read {folder / 'aux_s1' / NAMES[2]}" in error
    assert f"{folder / 'mix_clean' / NAMES[3]} holds no samples" in error


def test_length_is_duration_and_other_rates_are_a_warning(tmp_path, capsys):
    add(tmp_path / "mix_clean" / "a.wav", samples=1600)
    add(tmp_path / "s1" / "a.wav", samples=800, rate=8000)
    add(tmp_path / "aux_s1" / "a.wav")
    assert run(tmp_path) == 0
    error = capsys.readouterr().err
    assert (
        error.startswith("warning: 1 files are not at 16000 Hz") and f"{tmp_path / 's1' / 'a.wav'} (8000 Hz)" in error
    )


def test_without_enrolment_both_ways_out_are_named(folder, capsys):
    shutil.rmtree(folder / "aux_s1")
    error = refused(capsys, folder)
    assert "--enrolment LIST" in error and "data.prepare.download" in error and error.count("\n") == 1


def test_enrolment_from_a_list(folder, tmp_path):
    shutil.move(folder / "aux_s1", tmp_path / "voices")
    listed = tmp_path / "enrolment.scp"
    listed.write_text("".join(f"{name} voices/{name}\n" for name in reversed(NAMES)))
    assert run(folder, "--enrolment", listed) == 0
    assert read_scp(folder / "aux_s1.scp") == {name: tmp_path / "voices" / name for name in NAMES}
    # The list that was written is a list that can be given.
    assert run(folder, "--enrolment", folder / "aux_s1.scp") == 0


def test_enrolment_list_wins_over_the_folder_and_is_checked(folder, tmp_path, capsys):
    listed = tmp_path / "enrolment.scp"
    listed.write_text("".join(f"{name} test/s1/{NAMES[0]}\n" for name in NAMES))
    assert run(folder, "--enrolment", listed) == 0
    assert set(read_scp(folder / "aux_s1.scp").values()) == {folder / "s1" / NAMES[0]}
    for path in folder.glob("*.scp"):
        path.unlink()
    capsys.readouterr()
    listed.write_text(f"{NAMES[0]} nowhere.wav\n")
    assert f"{listed}: {NAMES[1]}, {NAMES[2]}, {NAMES[3]} missing" in refused(capsys, folder, "--enrolment", listed)
    listed.write_text("".join(f"{name} nowhere.wav\n" for name in NAMES))
    assert f"no such file: {tmp_path / 'nowhere.wav'}" in refused(capsys, folder, "--enrolment", listed)
    listed.unlink()
    assert f"no such list: {listed}" in refused(capsys, folder, "--enrolment", listed)


def test_a_folder_too_high_is_told_where_to_look(folder, capsys):
    error = refused(capsys, folder.parent)
    assert "no folder mix_clean or s1" in error and str(folder) in error
    assert "no such folder" in refused(capsys, folder / "nowhere")


def test_empty_folders_and_white_space(folder, capsys):
    add(folder / "s1" / "a b.wav")
    assert "rename" in refused(capsys, folder)
    shutil.rmtree(folder / "s1")
    (folder / "s1").mkdir()
    assert f"no wav or flac file in {folder / 's1'}" in refused(capsys, folder)


@pytest.mark.slow
def test_command_line(folder):
    command = [sys.executable, "-m", "data.prepare.libri2mix", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "4 utterances" in done.stdout, done.stderr
