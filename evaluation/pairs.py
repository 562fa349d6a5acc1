"""Pairs of which a language model should prefer one: words and non-words, sentences and wrong ones.

The files are those of the ZeroSpeech 2021 challenge (sWUGGY and sBLIMP; arXiv 2011.11588): a ``gold.csv`` with a line
for each recording, of which two with the same ``id`` and ``voice`` make a pair; ``correct`` is 1 for the one to prefer.
Anything else of that form does as well, with a column ``category`` if there are kinds of pairs.
"""

from __future__ import annotations

import csv
import json
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.scp import AUDIO_SUFFIXES
from evaluation.statistics import Estimate, estimate
from utils.errors import first_few

NEEDED = ("id", "filename", "correct")
CATEGORIES = ("category", "type", "subtype", "frequency", "length", "length_phones")
# Of a word's count in the training texts, as the challenge divides them.
_BINS, _BIN_NAMES = (1, 6, 21, 101), ("oov", "1-5", "6-20", "21-100", ">100")
MEASURES = {"sum": "log-likelihood", "mean": "log-likelihood a unit"}


@dataclass(frozen=True)
class Pair:
    """Two recordings.

    Attributes:
        id: of what is said; several voices may say it.
        right, wrong: names.
        categories: column -> what it says of the pair.
    """

    id: str
    right: str
    wrong: str
    categories: Mapping[str, str] = field(default_factory=dict)


def gold_file(path: str | os.PathLike) -> Path:
    """The table of a folder, or itself.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    found = path / "gold.csv" if path.is_dir() else path
    if not found.is_file():
        raise FileNotFoundError(f"no such table of pairs: {found}")
    return found


def read_pairs(path: str | os.PathLike) -> list[Pair]:
    """The pairs of a ``gold.csv``, or of a folder that holds one.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a column is missing, or an id has not one right and one wrong member in a voice.
    """
    table = gold_file(path)
    with open(table, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if lacking := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{table} has no column {', '.join(lacking)}; it has {', '.join(reader.fieldnames or ())}")
        rows = list(reader)
    members: dict[tuple[str, str], dict[str, list[dict[str, str]]]] = {}
    for number, row in enumerate(rows, start=2):
        if row["correct"] not in ("0", "1") or not row["filename"]:
            raise ValueError(f"{table}, line {number}: correct must be 0 or 1, and filename a name")
        key = (row["id"], row.get("voice") or "")
        members.setdefault(key, {"1": [], "0": []})[row["correct"]].append(row)
    if wrong := [" in the voice ".join(filter(None, key)) for key, two in members.items() if _counts(two) != (1, 1)]:
        raise ValueError(f"{table}: not one right and one wrong member each: {first_few(wrong)}")
    if not members:
        raise ValueError(f"{table} holds no pairs")
    return [
        Pair(key[0], _stem(two["1"][0]["filename"]), _stem(two["0"][0]["filename"]), _categories(two["1"][0]))
        for key, two in members.items()
    ]


def find_files(pairs: Sequence[Pair], folder: str | os.PathLike) -> dict[str, str]:
    """name -> file of each member that lies in a folder, as units (.npy) or audio."""
    found = {}
    for name in dict.fromkeys(name for pair in pairs for name in (pair.right, pair.wrong)):
        there = (os.path.join(folder, name + suffix) for suffix in (".npy", *AUDIO_SUFFIXES))
        if (path := next(filter(os.path.isfile, there), None)) is not None:
            found[name] = path
    return found


def read_scores(path: str | os.PathLike) -> dict[str, tuple[float, int]]:
    """name -> its log-likelihood, and of how many units, of a ``scores.jsonl``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is something else.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no scores: {path}; inference.py --score makes them")
    found = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                found[row["name"]] = (float(row["log_likelihood"]), int(row["tokens"]))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: no name, tokens and log_likelihood ({type(error).__name__})"
                ) from error
    return found


def compare(pairs: Sequence[Pair], scores: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    """How often the right member has the higher score; equal scores count one half.

    What several voices say counts once, with the mean over the voices. The intervals are over ids.

    Returns:
        ``all`` and the categories -> measure -> accuracy in percent with its interval; ``pairs``, ``ids``; ``equal``,
        pairs with equal scores; ``missing``, names of members without a score, whose pairs are left out.
    """
    missing = [name for pair in pairs for name in (pair.right, pair.wrong) if name not in scores]
    scored = [pair for pair in pairs if pair.right in scores and pair.wrong in scores]
    table: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[Pair]] = {"all": scored}
    for pair in scored:
        for column, value in pair.categories.items():
            groups.setdefault(f"{column}: {value}", []).append(pair)
    for name, some in groups.items():
        found = {measure: _accuracy(some, scores, measure) for measure in MEASURES}
        table[name] = {measure: value and value.as_dict() for measure, value in found.items()}
        table[name]["pairs"] = len(some)
    equal = sum(scores[pair.right] == scores[pair.wrong] for pair in scored)
    return {
        "accuracy": table, "pairs": len(scored), "ids": len({pair.id for pair in scored}), "equal": equal,
        "missing": list(dict.fromkeys(missing)),
    }  # fmt: skip


def markdown(found: Mapping[str, Any]) -> str:
    """The table to paste."""
    lines = ["| pairs | count | " + " | ".join(MEASURES.values()) + " |", "|---|---|" + "---|" * len(MEASURES)]
    for name, row in found["accuracy"].items():
        lines.append(f"| {name} | {row['pairs']} | " + " | ".join(_shown(row[measure]) for measure in MEASURES) + " |")
    text = (
        "\n\nShare of pairs, in percent, whose right member scores higher; equal scores count one half "
        f"({found['equal']} pairs). {found['pairs']} pairs of {found['ids']} ids; brackets: 95 % bootstrap intervals "
        "over ids.\n"
    )
    if found["missing"]:
        text += f"\nLeft out, as members have no score: {first_few(found['missing'], 20)}.\n"
    return "\n".join(lines) + text


def _accuracy(pairs: Sequence[Pair], scores: Mapping[str, tuple[float, int]], measure: str) -> Estimate | None:
    by_id: dict[str, list[float]] = {}
    for pair in pairs:
        right, wrong = (_measured(scores[name], measure) for name in (pair.right, pair.wrong))
        by_id.setdefault(pair.id, []).append(100.0 * ((right > wrong) + (right == wrong) / 2))
    return estimate([sum(values) / len(values) for _, values in sorted(by_id.items())])


def _measured(score: tuple[float, int], measure: str) -> float:
    return score[0] if measure == "sum" else score[0] / score[1]


def _shown(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "–"
    interval = "" if value["low"] is None else f" [{value['low']:.1f}, {value['high']:.1f}]"
    return f"{value['mean']:.1f}{interval}"


def _counts(two: Mapping[str, Sequence[Any]]) -> tuple[int, int]:
    return len(two["1"]), len(two["0"])


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in (".npy", *AUDIO_SUFFIXES) else name


def _categories(row: Mapping[str, str]) -> dict[str, str]:
    found = {name: row[name] for name in CATEGORIES if row.get(name)}
    if "frequency" in found:
        try:
            found["frequency"] = _BIN_NAMES[bisect_right(_BINS, float(found["frequency"]))]
        except ValueError:
            pass  # a word of its own for how frequent it is
    return found
