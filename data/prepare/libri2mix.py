"""A folder of Libri2Mix mixtures to the lists that validation, testing and batch extraction read.

    python -m data.prepare.libri2mix libri2mix_test
    python -m data.prepare.libri2mix Libri2Mix/wav16k/min/test --enrolment enrolment.scp --output lists/test

The folder holds ``mix_clean``, ``s1`` (the target), ``aux_s1`` (the enrolment) and perhaps ``s2``, with wav or flac
files of the same names. The lists are ``mix_clean.scp``, ``s1.scp``, ``aux_s1.scp`` and perhaps ``s2.scp``, with the
file name, extension included, as the name. Folders made by the LibriMix scripts have no ``aux_s1``: their enrolment
comes from a list. No audio is written or changed, and no list is written before everything fits.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile as sf
from tqdm import tqdm

from data.audio import SAMPLE_RATE
from data.scp import read_aligned, write_scp
from utils.errors import first_few, report_errors

ENROLMENT = "aux_s1"
_REQUIRED = ("mix_clean", "s1", ENROLMENT)
_OPTIONAL = ("s2",)
_SAME_LENGTH = ("mix_clean", "s1", "s2")
_SUFFIXES = (".wav", ".flac")
_SHOWN = 5  # how many files of each kind an error shows
_THREADS = 8  # headers are small and far apart: on a network drive nearly all the time is waiting


def collect(
    folder: str | os.PathLike, *, enrolment: str | os.PathLike | None = None
) -> list[tuple[str, dict[str, Path]]]:
    """The utterances of a folder, matched by name.

    Args:
        folder: holds mix_clean, s1, aux_s1 and perhaps s2.
        enrolment: a list, ``name path``, that takes the place of aux_s1.

    Returns:
        (name, {"mix_clean": path, "s1": path, "aux_s1": path, ...}), sorted by name, as absolute paths.

    Raises:
        FileNotFoundError: the folder, one of its folders or the enrolment list is missing.
        ValueError: an empty folder, or names that are not the same everywhere: the first few of each kind are shown.
    """
    folder = Path(folder).absolute()
    roles = _roles(folder, with_list=enrolment is not None)
    # read_aligned matches lists, so it is given the lists as they would be written.
    with tempfile.TemporaryDirectory() as drafts:
        lists: dict[str, str | os.PathLike] = {}
        for role in roles:
            if role == ENROLMENT and enrolment is not None:
                lists[role] = enrolment
            else:
                lists[role] = Path(drafts, f"{role}.scp")
                _write_draft(lists[role], folder / role)
        try:
            return [
                (name, {role: Path(os.path.abspath(path)) for role, path in paths.items()})
                for name, paths in read_aligned(lists)
            ]
        except ValueError as error:
            problems = str(error).replace(f"{drafts}{os.sep}", "")
            raise ValueError(
                f"{folder}: {problems}\nNothing was written. Every name must be in every folder: add the files that "
                "are missing, or move the others out."
            ) from error


def check(utterances: Sequence[tuple[str, Mapping[str, Path]]]) -> tuple[float, list[str]]:
    """Open every header.

    Returns:
        The length of all mixtures in seconds, and a line for each audio file that is not at 16 kHz.

    Raises:
        ValueError: files that cannot be read or hold no samples, and sources that are not as long as their mixture;
            one error shows the first few of each kind.
    """
    paths = [path for _, roles in utterances for path in roles.values()]
    with ThreadPoolExecutor(_THREADS) as pool:
        results = tqdm(pool.map(_header, paths), total=len(paths), desc="headers", unit=" files", disable=None)
        headers = dict(zip(paths, results, strict=True))

    unreadable = [header for header in headers.values() if isinstance(header, str)]
    unequal, other_rate, seconds = [], [], 0.0
    for _, roles in utterances:
        found = {role: headers[path] for role, path in roles.items() if not isinstance(headers[path], str)}
        other_rate += [f"{roles[role]} ({rate} Hz)" for role, (_, rate) in found.items() if rate != SAMPLE_RATE]
        if "mix_clean" not in found:
            continue
        length, rate = found["mix_clean"]
        seconds += length / rate
        for role in _SAME_LENGTH[1:]:
            if role in found and found[role][0] * rate != length * found[role][1]:
                lasts = f"{found[role][0] / found[role][1]:.4f} s, its mixture {length / rate:.4f} s"
                unequal.append(f"{roles[role]} lasts {lasts}")
    problems = []
    if unreadable:
        problems += [f"{len(unreadable)} files cannot be used; replace them:", *_first(unreadable)]
    if unequal:
        problems += [f"{len(unequal)} sources are not as long as their mixture; make both again:", *_first(unequal)]
    if problems:
        raise ValueError("\n  ".join(["nothing was written", *problems]))
    return seconds, other_rate


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where something does not fit and nothing was written."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.libri2mix",
        description="Write mix_clean.scp, s1.scp, aux_s1.scp (and s2.scp) for a folder of Libri2Mix mixtures, after "
        "checking that names, headers and lengths fit. Lists of the same names are replaced.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="holds mix_clean, s1, aux_s1 and perhaps s2")
    parser.add_argument(
        "--output", metavar="DIR", help="where the lists go, with absolute paths (default: FOLDER, relative paths)"
    )
    parser.add_argument(
        "--enrolment", metavar="LIST", help="a list, 'name path', in place of the folder aux_s1 (paths relative to it)"
    )
    args = parser.parse_args(argv)
    with report_errors() as outcome:
        _run(Path(args.folder), args.output, args.enrolment)
    return outcome.status


def _run(folder: Path, output: str | None, enrolment: str | None) -> None:
    utterances = collect(folder, enrolment=enrolment)
    seconds, other_rate = check(utterances)
    if other_rate:
        print(
            f"warning: {len(other_rate)} files are not at {SAMPLE_RATE} Hz and are resampled each time they are read: "
            + first_few(other_rate),
            file=sys.stderr,
        )
    target = Path(output or folder).absolute()
    for role in utterances[0][1]:
        write_scp(target / f"{role}.scp", {name: paths[role] for name, paths in utterances})
    written = ", ".join(f"{role}.scp" for role in utterances[0][1])
    print(f"{len(utterances)} utterances, {seconds / 3600:.2f} h of mixtures; written to {target}: {written}")


def _roles(folder: Path, *, with_list: bool) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    missing = [role for role in _REQUIRED if not (folder / role).is_dir() and not (with_list and role == ENROLMENT)]
    if missing == [ENROLMENT]:
        raise FileNotFoundError(
            f"{folder} has no folder {ENROLMENT}, so there is no enrolment speech (the LibriMix scripts make none). "
            "Either give a list, --enrolment LIST, with a line 'name path' for each mixture; or use the published dev "
            "and test folders, which have it: python -m data.prepare.download --what testsets"
        )
    if missing:
        below = [str(path.parent) for depth in (1, 2, 3) for path in sorted(folder.glob("*/" * depth + "mix_clean"))]
        hint = f"; such folders are {first_few(below)}" if below else ""
        raise FileNotFoundError(
            f"{folder} has no folder {' or '.join(missing)}: give the folder that holds mix_clean and s1{hint}"
        )
    return [*_REQUIRED, *(role for role in _OPTIONAL if (folder / role).is_dir())]


def _write_draft(path: Path, folder: Path) -> None:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
    if not files:
        raise ValueError(f"no wav or flac file in {folder}")
    spaced = [str(p) for p in files if any(c.isspace() for c in p.name)]
    if spaced:
        raise ValueError(f"names in lists hold no white space; rename {first_few(spaced)}")
    write_scp(path, {p.name: p for p in files})


def _header(path: Path) -> tuple[int, int] | str:
    """Length in samples and sample rate in Hz, or why the file cannot be used."""
    if not path.is_file():
        return f"no such file: {path}"
    try:
        info = sf.info(str(path))
    except sf.SoundFileError as error:
        return f"cannot read {path} as audio ({error})"
    return (info.frames, info.samplerate) if info.frames else f"{path} holds no samples"


def _first(lines: Sequence[str]) -> list[str]:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [*lines[:_SHOWN], *more]


if __name__ == "__main__":
    sys.exit(main())
