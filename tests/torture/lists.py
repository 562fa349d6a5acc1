"""Lists as editors and strangers write them: nothing is written outside the output folder, and each fault is named."""

from __future__ import annotations

from pathlib import Path

from tests.torture import work
from tests.torture.attack import Place, attack
from tests.torture.programs import Program

OUTSIDE = ("../out", "/tmp/torture-out", "a/../../out", "..", "a/..", "x/../../../../tmp/torture-out")
STRANGE = ("caf\u00e9.wav", "\u8a9e/a.wav", "a.b.c.wav", "UPPER.WAV", "with%20percent.wav", "-rf.wav", "$(touch).wav")
ON_LISTS = [name for name, job in work.JOBS.items() if job.flag not in ("-scp", "--score")]  # scores have no names


def renamed(place: Place, job: str, names: list[str], *, end: str = "\n", begin: str = "") -> str:
    """The text of a job's list with other names for its first items."""
    path = work.JOBS[job].lists(place)
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
    files = [str((path.parent / file).resolve()) for _, file in lines]
    return begin + end.join(f"{name}\t{file}" for name, file in zip(names, files, strict=False)) + end


@attack("names that lead out of the output folder", promise="bad lists", over=ON_LISTS)
def leading_out(place: Place, number: int, name: str) -> None:
    for outside in OUTSIDE:
        folder = place.fresh("run")
        (folder / "list.scp").write_text(renamed(place, name, ["good", outside]))
        before = sorted(folder.iterdir())
        command = work.command(place, name, folder / "made/results", lists=folder / "list.scp")
        program = Program(*command, said=place.folder / "said.txt")
        status, text = program.wait(), program.text()
        place.count("names")
        assert status == 2 and "Traceback" not in text, f"{outside}: exit status {status}: {text[-2000:]}"
        there = [path for path in folder.rglob("*") if path not in before and "results" not in str(path)]
        assert not [path for path in there if path.name != "made"], there
        assert not Path("/tmp/torture-out.wav").exists() and not Path("/tmp/torture-out.npy").exists()


@attack("names and lines as editors write them", promise="bad lists", over=ON_LISTS)
def strange(place: Place, number: int, name: str) -> None:
    """CRLF, tabs, blank lines, comments, a byte order mark, names in UTF-8 and names that a shell would run."""
    folder = place.fresh("run")
    text = renamed(place, name, list(STRANGE), end="\r\n", begin="\ufeff# a comment\r\n\r\n")
    (folder / "list.scp").write_bytes(text.encode())
    command = work.command(place, name, folder / "out", lists=folder / "list.scp")
    program = Program(*command, said=folder / "said.txt")
    assert program.wait() == 0, program.text()[-3000:]
    place.count("names", len(STRANGE))
    made = work.results(folder / "out")
    if name != "DP-SLM scores":
        assert len({file.rpartition(".")[0] for file in made} - {"continued"}) >= len(STRANGE), sorted(made)
