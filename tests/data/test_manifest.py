"""Manifests, speakers and their F0, as strangers' files bring them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import soundfile as sf
import torch

from data.manifest import names_of, read_manifest, speaker_of, write_manifest
from data.voices import F0Statistics, VoiceLists, read_names
from tests.resynthesis import REFERENCE


def tone(path, samples: int = 6400) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.1 * np.sin(np.arange(samples) / 20), 16000)
    return str(path)


def test_bad_lines_are_told_together_by_number_and_nothing_runs(tmp_path) -> None:
    good = {"audio": tone(tmp_path / "a.wav"), "hubert": "1 " * 20}
    lines = [
        "{'audio': __import__('os').system('touch %s')}" % (tmp_path / "ran"),
        str({**good, "hubert": "1 " * 19 + "25"}),
        str({**good, "hubert": "1 2 3"}),
        str({"audio": good["audio"]}),
        str({**good, "audio": "ghost.wav"}),
        good["audio"],
        str(good),
    ]
    (tmp_path / "m.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"(?s)6 bad lines.*line 1: .*line 2: .*25.*line 3: .*line 4: .*and 1 more"):
        read_manifest(tmp_path / "m.txt", vocab_size=25, hop=320)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["it's.wav", '{"x"}.wav', "a b.wav", "\N{GRINNING FACE}.wav", "a\u2028b.wav", "é.wav"])
def test_any_name_survives_a_manifest(tmp_path, name: str) -> None:
    path = tone(tmp_path / "wav" / name)
    write_manifest(tmp_path / "m.txt", [{"audio": path, "hubert": "1 2 3", "duration": 0.4}] * 2)
    lines = (tmp_path / "m.txt").read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[0])["hubert"] == "1 2 3"
    assert read_manifest(tmp_path / "m.txt", vocab_size=4)[0].audio == path


def test_names_lie_below_the_common_folder() -> None:
    assert names_of(["/d/one/a.wav", "/d/two/a.wav"]) == ["one/a", "two/a"]
    assert names_of(["/d/one/a.wav"]) == ["a"]
    with pytest.raises(ValueError, match="the same name"):
        names_of(["/d/a.wav", "/d/a.flac"])


def test_who_speaks() -> None:
    path = "/d/p1/book/p225_003.wav"
    rules = ("_", "parent_name", "parent_parent_name", "single")
    assert [speaker_of(path, rule) for rule in rules] == ["p225", "book", "p1", "A"]
    assert speaker_of(path, "manifest", named="x") == "x"
    with pytest.raises(ValueError, match="no spk"):
        speaker_of(path, "manifest")


def test_public_statistics_are_read_and_by_name() -> None:
    found = F0Statistics(REFERENCE / "f0_stats.th", names=REFERENCE / "speakers.txt")
    assert found.of("p2")[0] == pytest.approx(242.04, abs=0.01) and found.of("nobody") is None
    assert F0Statistics(REFERENCE / "f0_stats_global.pth").of("anybody")[0] == pytest.approx(127.82, abs=0.01)


def test_another_count_of_ids_than_of_names_is_an_error(tmp_path) -> None:
    torch.save({i: {"f0_mean": 100.0, "f0_std": 10.0} for i in range(5)}, tmp_path / "f0.th")
    with pytest.raises(ValueError, match="of 5 speakers, and there are 3 names"):
        F0Statistics(tmp_path / "f0.th", names=REFERENCE / "speakers.txt")


class Payload:
    def __reduce__(self):
        return print, ("ran",)


def test_code_in_statistics_does_not_run(tmp_path, capsys) -> None:
    torch.save({0: Payload()}, tmp_path / "f0.th", pickle_protocol=pickle.DEFAULT_PROTOCOL)
    with pytest.raises(ValueError, match="f0.th"):
        F0Statistics(tmp_path / "f0.th")
    assert "ran" not in capsys.readouterr().out


def test_a_name_twice_is_an_error(tmp_path) -> None:
    (tmp_path / "speakers.txt").write_text("a\nb\na\n")
    with pytest.raises(ValueError, match="a more than once"):
        read_names(tmp_path / "speakers.txt")


def test_an_index_says_who_speaks(tmp_path) -> None:
    tone(tmp_path / "x.wav"), tone(tmp_path / "y.wav")
    (tmp_path / "index.json").write_text(json.dumps({"low": ["x.wav"], "high": ["y.wav"]}))
    entries, _ = VoiceLists(speaker_from="_", num_units=4, code_hop=320).audio(tmp_path / "index.json")
    assert {name: entry["source"] for name, entry in entries.items()} == {"x": "low", "y": "high"}
