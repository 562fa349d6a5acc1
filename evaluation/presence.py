"""What comes out where the talker is not in the mixture, and how often one who is there is silenced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.scp import output_path
from evaluation.items import score_in
from evaluation.metric import SAMPLE_RATE, Column, Metric, Score, Signals, Unavailable, Unscorable
from running.record import read_journals

FLOOR_DB = -40.0  # below the mixture: silence
_ALLOWED = (0.0, 1.0, 2.0, 5.0)  # percent of present talkers that a threshold may silence


class Presence(Metric):
    """How loud the output is beside the mixture, and what an extractor says of whether the talker is there.

    Args:
        absent: folder of outputs for the same mixtures and enrolments of talkers who are not in them; None: there are
            none.

    Raises:
        Unavailable: there is no such folder.
    """

    name = "presence"
    needs = ("mixture",)
    takes_silence = True
    floor_and_ceiling = "never"

    def __init__(self, *, absent: Path | None = None):
        self.absent = absent
        self.columns = (
            Column("presence", "Presence score", "mean of the score that the system gave, 1: the talker is there"),
            Column(
                "silenced",
                "Present target silenced",
                f"share of the files whose output has less than {FLOOR_DB:g} dB of the mixture's power",
                "lower",
                "%",
            ),
        )
        if absent is None:
            return
        if not absent.is_dir():
            raise Unavailable(f"no such folder of outputs: {absent}")
        scores = scores_of(absent)
        self._scores = np.sort(list(scores.values()))
        self.models = {"outputs of absent talkers": _digest(absent, scores)}
        self.columns += (
            Column(
                "absent_silenced",
                "Absent target silenced",
                "share of the files whose output, of the same mixture and the enrolment of a talker who is not in it, "
                f"has less than {FLOOR_DB:g} dB of the mixture's power",
                unit="%",
            ),
            Column(
                "presence_auc",
                "Presence AUC",
                "area under the ROC curve of the presence scores: the chance that a file has a higher one than a file "
                "of an absent talker, equal ones counted one half; the interval is over the files of present talkers",
            ),
        )

    def score(self, signals: Signals) -> dict[str, Score | None]:
        found: dict[str, Score | None] = {
            "presence": signals.presence,
            "silenced": 100.0 * is_silenced(signals.output, signals.mixture),
        }
        if self.absent is not None:
            found["absent_silenced"] = 100.0 * is_silenced(self._absent_output(signals), signals.mixture)
            found["presence_auc"] = None
            if signals.presence is not None and len(self._scores):
                below = np.searchsorted(self._scores, signals.presence, side="left")
                up_to = np.searchsorted(self._scores, signals.presence, side="right")
                found["presence_auc"] = float(below + up_to) / 2 / len(self._scores)
        return found

    def _absent_output(self, signals: Signals) -> np.ndarray:
        from data import audio

        path = output_path(self.absent, signals.name)
        if not path.is_file():
            raise Unscorable(f"no output: {path}")
        return audio.read(path, sample_rate=SAMPLE_RATE)


def is_silenced(output: np.ndarray, mixture: np.ndarray) -> bool:
    """Whether the output is below -40 dB of the mixture, by the mean powers of all samples."""
    powers = [np.mean(np.square(wav, dtype=np.float64)) for wav in (output, mixture)]
    return bool(powers[0] <= powers[1] * 10 ** (FLOOR_DB / 10))


def scores_of(folder: Path) -> dict[str, float]:
    """name -> what an extractor said of whether the talker is there, as its journal beside the outputs keeps it."""
    found = {name: score_in(line.get("row")) for name, line in read_journals(folder / "inference.json")[0].items()}
    return {name: score for name, score in found.items() if score is not None}


def operating_points(present: Sequence[float], absent: Sequence[float]) -> list[dict[str, float]]:
    """What thresholds would do to these files, to choose ``presence_threshold`` by: on a validation set.

    Returns:
        Of each ``threshold``, ``present_silenced`` and ``absent_found`` in percent: the highest thresholds that silence
        no more than 0, 1, 2 and 5 % of the present. Each lies in the middle between two scores.
    """
    if not len(present) or not len(absent):
        return []
    scores = np.unique([0.0, *present, *absent, 1.0])
    thresholds = (scores[1:] + scores[:-1]) / 2
    silenced, found = (100 * (np.asarray(s)[:, None] < thresholds).mean(axis=0) for s in (present, absent))
    places = dict.fromkeys(int(np.flatnonzero(silenced <= allowed)[-1]) for allowed in _ALLOWED)
    return [
        {"threshold": float(thresholds[i]), "present_silenced": float(silenced[i]), "absent_found": float(found[i])}
        for i in places
    ]


def _digest(folder: Path, rows: object) -> str:
    """Stands for the outputs of a folder, and what is said of them."""
    files = [(str(path.relative_to(folder)), path.stat()) for path in sorted(folder.rglob("*.wav"))]
    stamps = [(name, status.st_size, status.st_mtime_ns) for name, status in files]
    return hashlib.sha256(json.dumps([stamps, rows], sort_keys=True).encode()).hexdigest()
