"""Scores of many files over several processes, each kept as soon as it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from evaluation.items import Item, Problem, read_signals
from evaluation.metric import Metric, Unavailable, Unscorable
from evaluation.rows import Rows
from evaluation.tokens import read_tokens
from utils.errors import describe
from utils.workers import run_jobs

if TYPE_CHECKING:
    import torch

DIGITS = 9  # after the point, of a score that is kept


@dataclass(frozen=True)
class Job:
    """What is missing of one file: system -> names of metrics; and why there are no tokens of it, if so."""

    item: Item
    missing: Mapping[str, Sequence[str]]
    without_tokens: str | None = None


@dataclass
class Outcome:
    """What came out of the scoring of all files.

    Attributes:
        rows: one a file.
        problems: name -> why a file could not be scored at all.
        unavailable: metric -> why it could not run.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def score_all(
    items: Sequence[Item],
    wanted: Mapping[str, Sequence[Metric]],
    rows: Rows,
    *,
    devices: Sequence[torch.device | str],
    cpu_processes: int,
    problems: Mapping[str, str],
    without_tokens: Mapping[str, str],
    tolerance: float = 0.0,
    talkers: Mapping[str, str] | None = None,
) -> Outcome:
    """Score what is not scored yet.

    Args:
        items: the files.
        wanted: system -> its metrics.
        rows: where results are kept.
        devices: of the processes for metrics with networks.
        cpu_processes: for all others.
        problems: of names that are no items; they get rows too.
        without_tokens: name -> why an item could not be tokenised.
        tolerance: seconds by which lengths may differ.
        talkers: name -> talker, kept in the rows.
    """
    outcome = Outcome(problems=dict(problems))
    files = {(item.name, system): _digest([item.stamps(system), tolerance]) for item in items for system in wanted}
    metrics = {metric.name: metric for group in wanted.values() for metric in group}
    keys = {name: metric_key(metric) for name, metric in metrics.items()}
    for on_device in (False, True):
        group = {name: metric for name, metric in metrics.items() if metric.on_device == on_device}
        jobs = []
        for item in items:
            missing = {}
            for system, asked in wanted.items():
                known = {metric.name: keys[metric.name] for metric in asked if metric.name in group}
                if found := rows.missing(item.name, system, files[item.name, system], known):
                    missing[system] = found
            if missing and item.name not in outcome.problems:
                jobs.append(Job(item, missing, without_tokens.get(item.name)))
        processes = list(devices) if on_device else ["cpu"] * cpu_processes
        title = f"scoring: {', '.join(group)}"
        with tqdm(total=len(items), initial=len(items) - len(jobs), desc=title, unit="file", disable=not jobs) as bar:
            for done in run_jobs(jobs, start, processes, list(group.values()), tolerance):
                bar.update()
                name = done.job.item.name
                if done.error:
                    outcome.problems[name] = done.error
                    continue
                outcome.unavailable |= done.result.pop("unavailable")
                for system, found in done.result["keys"].items():
                    found["files"] = files[name, system]
                    found |= {metric: keys[metric] for metric in found if metric != "files"}
                rows.add(name, done.result)
    outcome.rows = rows.finish((item.name for item in items), lambda *key: files.get(key), outcome.problems, talkers)
    return outcome


def start(device: torch.device | str, metrics: Sequence[Metric], tolerance: float) -> Callable[[Job], dict[str, Any]]:
    """Load the metrics in this process; returns what scores a job, for ``run_jobs``."""
    import torch

    from utils.distributed import select

    select(torch.device(device))
    torch.set_num_threads(1)  # the processes share the cores; and the last digits must not follow from their number
    ready, unavailable = {}, {}
    for metric in metrics:
        try:
            metric.load(str(device))
            ready[metric.name] = metric
        except Unavailable as error:
            unavailable[metric.name] = str(error)

    def score(job: Job) -> dict[str, Any]:
        asked = {name for names in job.missing.values() for name in names}
        wants_tokens = any(metric.reads_tokens for name, metric in ready.items() if name in asked)
        kept = read_tokens(job.item) if wants_tokens and not job.without_tokens else {}
        row: dict[str, Any] = {"keys": {}, "failed": {}, "unavailable": unavailable}
        for system, names in job.missing.items():
            row[system], row["keys"][system], row["failed"][system] = {}, {}, {}
            broken = job.without_tokens if system == "ceiling" else None
            try:
                signals = None if broken else read_signals(job.item, system, tolerance=tolerance)
            except Problem as problem:
                if system != "ceiling":  # of the ceiling, the user's files are not to blame
                    raise
                broken = str(problem)
            if not broken:
                tokens = {"output": kept[system]} if system in kept else {}
                tokens |= {role: kept[role] for role in ("target", "predicted") if role in kept}
                signals = replace(signals, tokens=tokens, without_tokens=job.without_tokens)
            for metric in (ready[name] for name in names if name in ready):
                scores, reason = nothing(metric, broken) if broken else score_one(metric, signals)
                row[system] |= scores
                if reason is None:
                    row["keys"][system][metric.name] = None  # the main process knows it
                else:
                    row["failed"][system][metric.name] = reason
        return row

    return score


def score_one(metric: Metric, signals) -> tuple[dict[str, Any], str | None]:
    """The scores of one metric; each None, and the reason, if it has none for this file."""
    if absent := [need for need in metric.needs if getattr(signals, need) is None]:
        return nothing(metric, f"no {' and no '.join(absent)}")
    if not metric.takes_silence and not signals.output.any():
        return {column.name: None for column in metric.columns}, None
    try:
        scores = metric.score(signals)
    except Unscorable as error:
        return nothing(metric, str(error))
    except Exception as error:  # whatever the library finds wrong with this file is told of this file
        return nothing(metric, f"{type(error).__name__}: {describe(error)}")
    found = {}
    for column in metric.columns:
        value = scores[column.name]
        if value is None:  # this file has none, and that is no fault
            found[column.name] = None
            continue
        parts = value if isinstance(value, tuple) else (value,)
        if not all(abs(part) < float("inf") for part in parts):  # neither NaN nor infinite
            return nothing(metric, f"{column.name} is {value}")
        # Where an array lies in memory moves the last of its digits from one run to the next.
        rounded = [round(part, DIGITS) for part in parts]
        found[column.name] = rounded if isinstance(value, tuple) else rounded[0]
    return found, None


def nothing(metric: Metric, reason: str) -> tuple[dict[str, Any], str]:
    return {column.name: None for column in metric.columns}, reason


def metric_key(metric: Metric) -> str:
    """Stands for what a metric computes, and with which models."""
    columns = [[column.name, column.definition] for column in metric.columns]
    return _digest([metric.name, columns, sorted(metric.models.items())])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
