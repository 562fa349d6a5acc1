"""The bitrate of a folder of units: the entropy of all of them together, repeats removed, times how many a second.

    python -m evaluation.bitrate FOLDER [--utterances LIST]

Visser and Kamper (arXiv 2505.23494). A unit that lasts is one unit, so units without their durations are counted.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data import arrays
from data.lengths import measure
from data.scp import output_paths, read_scp
from utils.errors import first_few, report_errors

RECORD = "tokens.json"
FRAME_RATE = 50.0  # units a second, where no record beside them says another

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bitrate:
    """What a set of units says of its speech.

    Attributes:
        files: how many.
        units: how many, where repeats within a file are one.
        seconds: of speech.
        units_per_second: the ratio of the two.
        entropy_bits: of the distribution of the units of all files together.
        bitrate: bits a second.
    """

    files: int
    units: int
    seconds: float
    units_per_second: float
    entropy_bits: float
    bitrate: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.bitrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of NAME.npy, frame-aligned units, in any depth")
    parser.add_argument(
        "--utterances", type=Path, help="list `name path` of the audio: only these, and the seconds of their audio"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with report_errors() as outcome:
        print(json.dumps(asdict(bitrate(args.folder, utterances=args.utterances))))
    return outcome.status


def bitrate(folder: Path, *, utterances: Path | None = None) -> Bitrate:
    """Measure a folder of units.

    Args:
        folder: of ``NAME.npy``, integers [N, 1] or [N], one a frame; hidden folders in it are left out.
        utterances: list of audio; the units of its names are measured, over the seconds of the audio. None: all units,
            over the seconds of their frames, at the rate that ``tokens.json`` in the folder says, else 50 a second.

    Raises:
        FileNotFoundError: there is no such folder or list, or no units of a name in the list.
        ValueError: there are no units; a file holds something else; or audio cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of units: {folder}")
    found = [
        p for p in sorted(folder.rglob("*.npy")) if not any(x.startswith(".") for x in p.relative_to(folder).parts)
    ]
    if utterances is None:
        files, seconds = found, None
    else:
        files, seconds = _listed(folder, utterances)
        if surplus := set(found) - set(files):
            log.info("%d files of units are not in %s: %s", len(surplus), utterances, first_few(sorted(surplus)))
    if not files:
        raise ValueError(f"{folder} holds no .npy files of units")
    counts: Counter[int] = Counter()
    frames = 0
    for path in files:
        units = _read(path)
        frames += len(units)
        kept = units[np.r_[True, units[1:] != units[:-1]]]
        counts.update(dict(zip(*(x.tolist() for x in np.unique(kept, return_counts=True)), strict=True)))
    seconds = frames / _frame_rate(folder) if seconds is None else seconds
    total = counts.total()
    shares = np.array(sorted(counts.values())) / total
    entropy = float(-(shares * np.log2(shares)).sum()) + 0.0  # of one unit alone 0, not -0
    rate = total / seconds
    return Bitrate(len(files), total, seconds, rate, entropy, entropy * rate)


def _listed(folder: Path, utterances: Path) -> tuple[list[Path], float]:
    """The files of units of a list's names, and the seconds of its audio."""
    audio = read_scp(utterances)
    files = list(output_paths(folder, audio, ".npy").values())
    if missing := [path for path in files if not path.is_file()]:
        raise FileNotFoundError(f"{len(missing)} of {len(files)} names of {utterances} have no units: "
                                f"{first_few(missing)}")  # fmt: skip
    lengths, problems = measure(audio.values())
    if problems:
        raise ValueError(f"audio of {utterances} cannot be read: {first_few(problems.values())}")
    return files, sum(lengths[str(path)].samples / lengths[str(path)].sample_rate for path in audio.values())


def _read(path: Path) -> np.ndarray:
    array = arrays.read_tokens(path)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{path} holds an array {list(array.shape)}; units are [N] or [N, 1], N above 0")
    if array.min() < 0:
        raise ValueError(f"{path} holds the unit {array.min()}; units are 0 or above")
    return array


def _frame_rate(folder: Path) -> float:
    path = folder / RECORD
    if not path.is_file():
        return FRAME_RATE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rate = record["sample_rate"] / record["hop_length"]
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"{path} does not tell sample_rate and hop_length ({error!r})") from error
    if not rate > 0:
        raise ValueError(f"{path} tells sample_rate {record['sample_rate']} and hop_length {record['hop_length']}")
    return rate


if __name__ == "__main__":
    sys.exit(main())
