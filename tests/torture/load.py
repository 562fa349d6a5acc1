"""Many short files over two processes, some of them bad: none is lost, all bad ones are named, memory stays flat."""

from __future__ import annotations

import json
from pathlib import Path

from tests.torture import work
from tests.torture.attack import Place, attack
from tests.torture.programs import Program

FILES = {0: 300, 1: 3000}  # of the first try, and of the second
GROWTH = 1.25  # of the peak memory of a process, from the first to the second


@attack("thousands of short files, one in a hundred bad", promise="load", long=2)
def many(place: Place, number: int) -> None:
    folder, count = place.fresh(f"run{number}"), FILES[number]
    good = sorted(work.mixtures(place).glob("s1*.wav"))
    (folder / "bad.wav").write_bytes(b"this is no sound\n")
    names = {f"f{i}": folder / "bad.wav" if i % 100 == 7 else good[i % len(good)] for i in range(count)}
    (folder / "list.scp").write_text("".join(f"{name} {path}\n" for name, path in names.items()))
    name = "SpeechTokenizer tokenizes"
    command = work.command(place, name, folder / "out", processes=2, lists=folder / "list.scp")
    program = Program(*command, said=folder / "said.txt")
    status, text = program.wait(1200), program.text()
    bad = {key for key, path in names.items() if path.name == "bad.wav"}
    assert status == 1 and f"{len(bad)} of {count} files failed" in text, f"exit status {status}: {text[-1500:]}"
    assert {line.split(": ")[1] for line in text.splitlines() if line.startswith("failed: ")} == bad
    assert {path.stem for path in (folder / "out").rglob("*.npy")} == names.keys() - bad
    (run,) = [line["run"] for path in (folder / "out").glob("journal.*.jsonl") for line in lines(path) if "run" in line]
    peak = run["peak_memory_bytes"]
    place.count("files", count), place.count("most MB of a process", peak >> 20)
    (place.folder / f"peak{number}").write_text(str(peak))
    if number:
        assert peak < GROWTH * int((place.folder / "peak0").read_text()), "memory grows with the number of files"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]
