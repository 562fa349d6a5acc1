"""What is scored: names of lists and the files of several microphones, of both forms of lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from evaluation.examples import choose
from evaluation.items import Problem, read_items, read_signals
from tests.toy import REFERENCE, call

LIMUSE = REFERENCE / "limuse"
LISTING = LIMUSE / "released/datalist_2mix_test.txt"
NAMES = [line.split()[0].rpartition("/")[2] for line in LISTING.read_text().splitlines()]


def channel0(kind: str, number: int) -> np.ndarray:
    line = LISTING.read_text().splitlines()[number].split()
    return sf.read(LIMUSE / "released" / line[("mixture", "target").index(kind)], dtype="float32")[0][:, 0]


def write_outputs(folder: Path, names: list[str]) -> Path:
    """Mono, between mixture and target."""
    folder.mkdir()
    for number, name in enumerate(names):
        wav = 0.9 * channel0("target", number) + 0.1 * channel0("mixture", number)
        sf.write(folder / name, wav, 16000, subtype="FLOAT")
    return folder


@pytest.mark.parametrize("form", ["folder", "ten fields", "ten fields elsewhere"])
def test_channel_0_of_mixtures_and_targets_is_scored_by_both_forms_of_lists(form: str, tmp_path) -> None:
    where, names, root = LIMUSE / "test", [f"utt{number}.wav" for number in range(4)], None
    if form != "folder":
        where, names = LISTING, NAMES
    if form == "ten fields elsewhere":
        where, root = Path(shutil.copy(LISTING, tmp_path / "list.txt")), LIMUSE / "released"
    items, problems, missing = read_items(where, write_outputs(tmp_path / "out", names), data_root=root)
    assert not problems and not missing and [item.name for item in items] == names
    for number, item in enumerate(items):
        signals = read_signals(item, "extracted")
        assert np.array_equal(signals.target, channel0("target", number))
        assert np.array_equal(signals.mixture, channel0("mixture", number))
        assert np.array_equal(signals.interferer, signals.mixture - signals.target)
        assert np.array_equal(read_signals(item, "mixture").output, signals.mixture)


def test_a_ten_field_list_lies_where_the_extraction_found_its_data(tmp_path) -> None:
    outputs, moved = write_outputs(tmp_path / "out", NAMES), shutil.copy(LISTING, tmp_path / "list.txt")
    assert len(read_items(moved, outputs)[1]) == 4
    record = {"job": "extract", "by": "x", "settings": {"data_root": str(LIMUSE / "released")}}
    (outputs / "inference.json").write_text(json.dumps(record))
    (outputs / "journal.inference.jsonl").write_text(
        "".join(json.dumps({"name": name, "by": "x"}) + "\n" for name in NAMES)
    )
    items, problems, _ = read_items(moved, outputs)
    assert not problems and len(items) == 4


def test_an_output_of_two_channels_is_still_a_problem(tmp_path) -> None:
    outputs = write_outputs(tmp_path / "out", NAMES)
    sf.write(outputs / NAMES[0], np.zeros((100, 2)) + 0.1, 16000)
    items, _, _ = read_items(LISTING, outputs)
    with pytest.raises(Problem, match="16000 Hz and 2 channels"):
        read_signals(items[0], "extracted")


def test_who_is_known_by_his_face_needs_no_list_of_enrolments(tmp_path) -> None:
    outputs = write_outputs(tmp_path / "out", [f"utt{number}.wav" for number in range(4)])
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("mix_clean", "s1"):
        text = (LIMUSE / f"test/{name}.scp").read_text()
        (lists / f"{name}.scp").write_text(text.replace("../", f"{LIMUSE}/"))
    assert "aux_s1.scp" in read_items(lists, outputs)[2]
    (lists / "visual_s1.scp").write_text("utt0.wav face.npy\n")
    assert not read_items(lists, outputs)[2]


def test_a_ten_field_list_with_a_broken_line_is_named(tmp_path) -> None:
    outputs = write_outputs(tmp_path / "out", NAMES)
    (tmp_path / "list.txt").write_text(LISTING.read_text().replace(" m f", " m", 1))
    with pytest.raises(ValueError, match=r"list.txt, line 1: 9 fields, 10 are needed"):
        read_items(tmp_path / "list.txt", outputs)


def test_a_voiceprint_is_no_example_to_listen_to(tmp_path) -> None:
    items, _, _ = read_items(LIMUSE / "test", write_outputs(tmp_path / "out", [f"utt{i}.wav" for i in range(4)]))
    rows = [{"name": item.name, "extracted": {"sdr": float(number)}} for number, item in enumerate(items)]
    column = {"sdr": {"better": "higher", "title": "SDR", "unit": "dB"}}
    shown = choose({"metrics": column, "systems": ["extracted"]}, rows, items)
    assert [example.signals.keys() for example in shown] == [{"mixture", "target", "extracted"}] * 3


@pytest.mark.slow
def test_the_columns_of_the_published_table_come_from_one_command(tmp_path) -> None:
    for package in ("torchmetrics", "jinja2"):
        pytest.importorskip(package, reason="requirements-eval.txt is not installed")
    outputs = write_outputs(tmp_path / "out", NAMES)
    moved = shutil.copy(LISTING, tmp_path / "list.txt")
    done = call(
        "evaluate.py", "-scp", moved, "--data-root", LIMUSE / "released", "--output", outputs, "-gpus", "cpu",
        "-proc", "1", "--metrics", "si_sdr", "si_sdri", "sdr", "sdri", "--floor-and-ceiling",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((outputs / "summary.json").read_text())["metrics"]
    means = {key: found[key]["systems"]["extracted"]["mean"] for key in ("si_sdr", "si_sdri", "sdr", "sdri")}
    floor = found["sdr"]["systems"]["mixture"]["mean"]
    assert means["sdr"] >= means["si_sdr"] > 15 and means["sdri"] == pytest.approx(means["sdr"] - floor, abs=1e-5)
    assert (outputs / "report.html").is_file()
