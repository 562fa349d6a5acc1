"""What there is to evaluate: names from the lists, paired with the files that were extracted, and checked."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.published_lists import is_published, read_published
from data.scp import output_path, read_list
from evaluation.metric import SAMPLE_RATE, Signals
from running.record import read_journals, read_record

# role -> its list in the folder of lists; others, of faces for example, are not needed to score
LISTS = {"mixture": "mix_clean.scp", "target": "s1.scp", "enrolment": "aux_s1.scp", "interferer": "s2.scp"}
# job that made the outputs -> the lists that are missed where they are not there
NEEDED = {"extract": ("mixture", "target", "enrolment")}
NEEDED_OTHERWISE = ("target",)
FACES = "visual_s1.scp"  # where a talker is known by his face, there need not be enrolments


class Problem(ValueError):
    """An utterance that cannot be scored at all; the message names the file and says why."""


@dataclass(frozen=True)
class Item:
    """One utterance.

    Attributes:
        name: in the lists.
        output: the extracted file.
        paths: role -> file, of the lists that there are.
        stored: where files that the evaluation itself makes are kept: ``tokens`` and ``ceiling``; and ``predicted``,
            the tokens that inference kept.
        sample_rate: of the output and the ceiling, in Hz.
        presence: the score that inference kept of whether the talker is there; None: the system tells nothing of it.
    """

    name: str
    output: Path
    paths: Mapping[str, Path] = field(default_factory=dict)
    stored: Mapping[str, Path] = field(default_factory=dict)
    sample_rate: int = SAMPLE_RATE
    presence: float | None = None

    def may_be_silent(self, system: str) -> bool:
        """Whether the file of a system may hold zeros: the answer of one that found the talker absent."""
        return system == "extracted" and self.presence is not None

    def file(self, system: str) -> Path:
        """The audio file that a system stands for: ``extracted``, ``mixture`` or ``ceiling``."""
        if system == "extracted":
            return self.output
        return self.paths["mixture"] if system == "mixture" else self.stored["ceiling"]

    def stamps(self, system: str) -> list[tuple[str, int, int]]:
        """Name, size and time of change of the files that a system's scores follow from."""
        files = [path for role, path in sorted(self.paths.items()) if role != "enrolment"]
        files += [] if system == "mixture" else [self.file(system)]
        files += [self.stored["predicted"]] if system == "extracted" else []
        found = [(path.name, path.stat()) for path in files if path.exists()]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def read_items(
    lists: str | os.PathLike, output: str | os.PathLike, *, data_root: str | os.PathLike | None = None
) -> tuple[list[Item], dict[str, str], dict[str, str]]:
    """Pair the names of all lists, in alphabetical order, with the files in ``output``.

    A name has to be in every list that there is. Where inference.py left a record beside the outputs, it says which
    job made them, and at which rate, and a file that another system made is a problem.

    Args:
        lists: the folder of lists, a list of targets alone, or a ten-field list, see ``data.published_lists``.
        data_root: what the paths of a ten-field list are relative to; None: what the record says, else its own folder.

    Returns:
        The items that are whole; name -> problem of all others; and list -> problem of lists that are missing.

    Raises:
        FileNotFoundError: there is no such folder, or not one list in it.
        ValueError: a list that is not one.
    """
    lists, output = Path(lists), Path(output)
    if not lists.exists():
        raise FileNotFoundError(f"no such folder of lists: {lists}")
    if not output.is_dir():
        raise FileNotFoundError(f"no such folder of outputs: {output}")
    record = read_record(output / "inference.json") if (output / "inference.json").is_file() else {}
    lines, is_strict = read_journals(output / "inference.json")
    job, data_root = record.get("job", "extract"), data_root or record.get("settings", {}).get("data_root") or None
    tables, problems, missing_lists = _read_tables(lists, NEEDED.get(job, NEEDED_OTHERWISE), data_root)
    items = []
    owners: dict[Path, str] = {}
    for name in sorted(set().union(*tables.values()) - problems.keys()):
        if absent := [LISTS[role] for role, table in tables.items() if name not in table]:
            problems[name] = f"no partner in {', '.join(absent)}"
            continue
        try:
            path = output_path(output, name)
            stored = {
                "tokens": output_path(output / "evaluation/tokens", name, ".npz"),
                "ceiling": output_path(output / "evaluation/ceiling", name),
                "predicted": output_path(output / "tokens", name, ".npy"),
            }
        except ValueError as error:
            problems[name] = str(error)
            continue
        if path in owners:
            problems[name] = f"{owners[path]} has the same output, {path}"
            continue
        owners[path] = name
        paths = {role: table[name] for role, table in tables.items()}
        missing = [f"no output: {path}"] * (not path.is_file())
        missing += [f"no file for the {role}: {p}" for role, p in paths.items() if not p.is_file()]
        made_by = lines.get(name, {}).get("by", None if is_strict else record.get("by"))
        if made_by != record.get("by"):
            missing.append(f"{path} was made by another system than {output / 'inference.json'} tells of")
        if missing:
            problems[name] = "; ".join(missing)
        else:
            presence = score_in(lines.get(name, {}).get("row"))
            items.append(Item(name, path, paths, stored, record.get("sample_rate", SAMPLE_RATE), presence))
    return items, problems, missing_lists


def score_in(row: object) -> float | None:
    """What an extractor that tells presence said in its row; None where there is none."""
    score = row.get("score") if isinstance(row, dict) else None
    return float(score) if isinstance(score, int | float) else None


def _read_tables(
    lists: Path, needed: Collection[str], data_root: str | os.PathLike | None
) -> tuple[dict[str, dict[str, Path]], dict[str, str], dict[str, str]]:
    """role -> name -> file, of the lists that there are; name -> problem; and list -> problem of missing ones."""
    if lists.is_file() and is_published(lists):
        rows = read_published(lists, data_root=data_root)
        tables = {role: {row.name: Path(getattr(row, role)) for row in rows} for role in ("mixture", "target")}
        enrolments = {row.name: Path(row.enrolment) for row in rows}
        # To be listened to. Who has the voiceprints need not have what they were made of.
        return tables | ({"enrolment": enrolments} if all(map(Path.is_file, enrolments.values())) else {}), {}, {}
    tables, problems, missing_lists = {}, {}, {}
    for role, file in LISTS.items():
        path = lists / file if lists.is_dir() else lists
        if path.is_file() and (lists.is_dir() or role == "target"):
            listed = read_list(path)
            tables[role] = {name: Path(entry) for name, entry in listed.entries.items()}
            problems |= listed.problems
        elif role in needed and not (role == "enrolment" and (lists / FACES).is_file()):
            missing_lists[file] = f"no such list: {path}"
    if not tables:
        raise FileNotFoundError(f"{lists} holds none of {', '.join(LISTS.values())}")
    return tables, problems, missing_lists


def read_signals(item: Item, system: str, *, tolerance: float = 0.0) -> Signals:
    """Read and check what a metric may need of an utterance.

    Args:
        system: whose file is scored: ``extracted``, ``mixture`` or ``ceiling``.
        tolerance: seconds by which lengths may differ; all signals are cut to the shortest.

    Raises:
        Problem: a file that cannot be read, is not at 16 kHz, is empty, silent (but for the output of a system that
            tells presence), of another length, or holds samples that are not finite; or an output that is not mono. Of
            other files with several channels, the first counts.
    """
    rates = (SAMPLE_RATE, item.sample_rate)
    wavs = {
        role: read_strictly(path, rates=rates, first_of_several=True)
        for role, path in item.paths.items()
        if role != "enrolment"
    }
    # "output" last, so that a length that differs is told of the output, not of the lists' files
    if system == "mixture":
        wavs["output"] = wavs["mixture"]
    else:
        may_be_silent = item.may_be_silent(system)
        wavs["output"] = read_strictly(item.file(system), rates=(item.sample_rate,), may_be_silent=may_be_silent)
    lengths = {role: len(wav) for role, wav in wavs.items()}
    reference = next(iter(lengths))
    for role, length in lengths.items():
        if abs(length - lengths[reference]) > tolerance * SAMPLE_RATE:
            path = item.file(system) if role == "output" else item.paths[role]
            raise Problem(
                f"{path} has {length} samples, the {reference} has {lengths[reference]}; --length-tolerance SECONDS "
                "allows a difference"
            )
    wavs = {role: wav[: min(lengths.values())] for role, wav in wavs.items()}
    interferer = wavs.get("interferer")
    if interferer is None and "mixture" in wavs and "target" in wavs:
        interferer = wavs["mixture"] - wavs["target"]
    return Signals(
        output=wavs["output"],
        target=wavs.get("target"),
        mixture=wavs.get("mixture"),
        interferer=interferer,
        name=item.name,
        presence=item.presence if system == "extracted" else None,
    )


def read_strictly(
    path: Path,
    *,
    rates: Collection[int] = (SAMPLE_RATE,),
    first_of_several: bool = False,
    may_be_silent: bool = False,
) -> np.ndarray:
    """A file that has to be mono, and of one of a few rates, already: a conversion would change what is measured.

    Args:
        first_of_several: it may have several channels, of which the first is taken, that of microphone 0.
        may_be_silent: it may hold zeros.

    Returns:
        [T] float32 at 16 kHz, which is what all metrics are defined at.

    Raises:
        Problem: it is not, cannot be read, holds less than it promises, or can hold no speech: see ``data.audio``.
    """
    from data import audio

    try:
        header = audio.header(path)
        if header.sample_rate not in rates or (header.channels != 1 and not first_of_several):
            channels = f"{header.channels} channel{'s' if header.channels > 1 else ''}"
            needed = " or ".join(str(rate) for rate in sorted(set(rates)))
            raise Problem(f"{path} has {header.sample_rate} Hz and {channels}; {needed} Hz and 1 channel are needed")
        wav = audio.read_microphones(path)[0]
        return wav if may_be_silent and len(wav) and not wav.any() else audio.require_speech(wav, path)
    except Problem:
        raise
    except (ValueError, OSError) as error:
        raise Problem(str(error)) from error
