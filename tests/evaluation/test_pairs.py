"""Pairs of which a unit language model should prefer one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import evaluate
from evaluation.pairs import compare, find_files, markdown, read_pairs

LEXICAL = """id,filename,voice,frequency,word,phones,length_phones,correct
1,aa,f1,0,cat,k ae t,3,1
1,ab,f1,0,dat,d ae t,3,0
1,ac,m1,0,cat,k ae t,3,1
1,ad,m1,0,dat,d ae t,3,0
2,ba,f1,57,dog,d oh g,3,1
2,bb,f1,57,tog,t oh g,3,0
"""
SYNTACTIC = """id,filename,voice,type,subtype,transcription,correct
1,aa,f1,agreement,number,these cats,1
1,ab,f1,agreement,number,these cat,0
"""
SCORES = {"aa": -10.0, "ab": -12.0, "ac": -9.0, "ad": -8.0, "ba": -7.0, "bb": -7.0}


def written(folder: Path, text: str) -> Path:
    (folder / "gold.csv").write_text(text)
    return folder


def test_the_lexical_form_has_pairs_by_voice_and_words_by_frequency(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, LEXICAL))
    assert [(pair.id, pair.right, pair.wrong) for pair in pairs] == [
        ("1", "aa", "ab"),
        ("1", "ac", "ad"),
        ("2", "ba", "bb"),
    ]
    assert [pair.categories["frequency"] for pair in pairs] == ["oov", "oov", "21-100"]
    found = compare(pairs, {name: (score, 4) for name, score in SCORES.items()})
    # id 1 is right in one voice of two, id 2 is a tie: both count one half
    assert found["accuracy"]["all"]["sum"]["mean"] == 50.0 and found["accuracy"]["all"]["sum"]["count"] == 2
    assert found["equal"] == 1 and found["ids"] == 2 and not found["missing"]
    assert found["accuracy"]["frequency: 21-100"]["sum"]["mean"] == 50.0
    assert "| frequency: oov | 2 |" in markdown(found)


def test_the_mean_of_a_unit_can_prefer_another_than_the_sum(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, SYNTACTIC) / "gold.csv")
    found = compare(pairs, {"aa": (-10.0, 5), "ab": (-9.0, 3)})["accuracy"]
    assert (found["all"]["sum"]["mean"], found["all"]["mean"]["mean"]) == (0.0, 100.0)
    assert "type: agreement" in found and "subtype: number" in found


def test_members_without_a_score_are_named_and_their_pairs_left_out(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, LEXICAL))
    found = compare(pairs, {name: (score, 4) for name, score in SCORES.items() if name != "ad"})
    assert found["missing"] == ["ad"] and found["pairs"] == 2 and "ad" in markdown(found)


@pytest.mark.parametrize(
    "text, named",
    [
        (LEXICAL.replace("correct", "right", 1), "correct"),
        (LEXICAL.replace("dat,d ae t,3,0", "dat,d ae t,3,1", 1), "1 in the voice f1"),
        (LEXICAL.replace("3,0", "3,maybe", 1), "line 3"),
        (LEXICAL.splitlines()[0] + "\n", "no pairs"),
    ],
)
def test_a_table_of_another_form_says_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_pairs(written(tmp_path, text))


def test_files_are_found_as_units_or_audio(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, SYNTACTIC))
    np.save(tmp_path / "aa.npy", np.zeros(3, np.int16))
    (tmp_path / "ab.wav").write_bytes(b"")
    assert find_files(pairs, tmp_path) == {"aa": str(tmp_path / "aa.npy"), "ab": str(tmp_path / "ab.wav")}


def test_the_command_reads_scores_that_are_there_and_tells_what_is_missing(tmp_path: Path, capsys) -> None:
    written(tmp_path, LEXICAL)
    rows = [{"name": name, "tokens": 4, "log_likelihood": score} for name, score in SCORES.items()]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["--pairs", str(tmp_path / "gold.csv"), "--output", str(tmp_path)]
    assert evaluate.main(command) == 0
    assert json.loads((tmp_path / "pairs.json").read_text())["pairs"] == 3
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    assert evaluate.main(command) == 1 and "aa" in capsys.readouterr().out
    (tmp_path / "scores.jsonl").unlink()
    assert evaluate.main(command) == 2
