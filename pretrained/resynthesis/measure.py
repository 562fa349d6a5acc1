"""How well the toy of speech resynthesis keeps what is said and how, and how well it changes who says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pretrained.timbre import timbre
from utils.commands import overrides, run

METRICS = ("pitch", "stoi", "estoi", "pesq", "dnsmos")
WAYS: Mapping[str, Mapping[str, object]] = {"kept": {}, "flat": {"f0_policy": "flat"}}  # of F0
SOURCES = 12  # talkers whose speech is converted, to the voices of all


def measure(
    folder: Path,
    release: Path,
    *,
    manifests: Path,
    recipe: str,
    devices: Sequence[object],
    changes: Mapping[str, object],
) -> None:
    """Held-out utterances in their own voice, evaluated; and some of them in all voices.

    Args:
        folder: where all goes: ``kept`` and ``flat`` with their summary.json, ``converted``, conversion.json.
        release: what is shipped.
        manifests: test.txt holds the utterances.
        recipe, devices, changes: of the inference; the last are keys of the recipe.
    """
    from data.manifest import read_manifest, speaker_of
    from data.scp import write_scp
    from utils.files import write_json

    lines = read_manifest(manifests / "test.txt")
    files = {Path(one.audio).stem: Path(one.audio) for one in lines}
    talkers = {name: speaker_of(path, "parent_parent_name") for name, path in files.items()}
    lists = folder / "test"
    write_scp(lists / "s1.scp", files)
    parts = {"kmeans_path": release / "kmeans", "f0_stats": release / "f0_stats.json", "f0_cache": folder / "f0"}
    parts |= changes
    common = ("-config", recipe, "-ckpt", release / "vocoder.pth", "-gpus", *devices)
    for way, keys in WAYS.items():
        run(
            "inference.py", "--resynthesise", lists / "s1.scp", *common, "--output", folder / way,
            *overrides({**parts, **keys}),
        )  # fmt: skip
        run("evaluate.py", "-scp", lists, "--output", folder / way, "--metrics", *METRICS)
    chosen = one_of_each(talkers, SOURCES)
    write_scp(lists / "sources.scp", {name: files[name] for name in chosen})
    run(
        "inference.py", "--resynthesise", lists / "sources.scp", *common, "--output", folder / "converted",
        "--speaker", "all", *overrides(parts),
    )  # fmt: skip
    write_json(folder / "conversion.json", measure_conversion(folder / "converted", files, talkers, chosen))


def one_of_each(talkers: Mapping[str, str], count: int) -> list[str]:
    """An utterance of each of so many talkers, evenly spread over the sorted names of those who have another one."""
    own: dict[str, list[str]] = {}
    for name in sorted(talkers):
        own.setdefault(talkers[name], []).append(name)
    names = [own[talker][0] for talker in sorted(own) if len(own[talker]) > 1]
    return [names[i * len(names) // min(count, len(names))] for i in range(min(count, len(names)))]


@dataclass(frozen=True)
class Heard:
    """What is measured of a signal.

    Attributes:
        timbre: mean of cepstral coefficients over the frames that are not quiet.
        pitch: mean of log2 F0 over the voiced frames; NaN where there are none.
    """

    timbre: np.ndarray
    pitch: float


def measure_conversion(
    converted: Path, files: Mapping[str, Path], talkers: Mapping[str, str], sources: Sequence[str]
) -> dict[str, object]:
    """Whether converted speech is nearer to its target than to its source.

    A talker's timbre and F0 are the means over its held-out recordings, but for the one that is converted. Timbre:
    distance of the mean cepstra, each coefficient divided by its deviation over all talkers. F0: distance of the means
    of log2 F0, in semitones.

    Pairs with a talker of whom there is no other recording are left out.

    Returns:
        ``pairs`` with the four distances of each, and estimates over the source talkers of the share that is nearer to
        the target, of both, and of the mean distances.
    """
    paths = {name: path for name, path in files.items()}
    made = {(name, path.name): path / f"{name}.wav" for path in sorted(converted.iterdir()) if path.is_dir()
            for name in sources}  # fmt: skip
    found = hear_all([*paths.values(), *made.values()])
    recordings = dict(zip(paths, found, strict=False))
    voices = dict(zip(made, found[len(paths) :], strict=True))
    scale = np.std([one.timbre for one in recordings.values()], axis=0) + 1e-9

    def talker(name: str, *, without: str) -> Heard | None:
        own = [recordings[other] for other in files if talkers[other] == name and other != without]
        if not own:
            return None
        return Heard(np.mean([one.timbre for one in own], axis=0), float(np.nanmean([one.pitch for one in own])))

    pairs = []
    for (name, target), voice in voices.items():
        if (source := talkers[name]) == target:
            continue
        references = {"target": talker(target, without=name), "source": talker(source, without=name)}
        if None in references.values():
            continue
        pair: dict[str, object] = {"source": source, "target": target}
        for role, other in references.items():
            pair[f"timbre_to_{role}"] = float(np.linalg.norm((voice.timbre - other.timbre) / scale))
            pair[f"semitones_to_{role}"] = abs(12 * (voice.pitch - other.pitch))
        pairs.append(pair)
    return {"pairs": pairs, **summarise(pairs)}


def summarise(pairs: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Means over the pairs, with intervals for which source talkers are drawn, each with all of its pairs."""
    from evaluation.statistics import estimate

    of_source: dict[str, list[Mapping]] = {}
    for pair in pairs:
        of_source.setdefault(pair["source"], []).append(pair)

    def over_talkers(value) -> dict[str, object]:
        return estimate([(sum(map(value, group)), float(len(group))) for group in of_source.values()]).as_dict()

    found: dict[str, object] = {}
    for what in ("timbre", "semitones"):
        target, source = f"{what}_to_target", f"{what}_to_source"
        found[f"{what}_nearer"] = over_talkers(lambda pair, t=target, s=source: 100.0 * (pair[t] < pair[s]))
        found[target] = over_talkers(lambda pair, t=target: pair[t])
        found[source] = over_talkers(lambda pair, s=source: pair[s])
    return found


def hear_all(paths: Sequence[Path]) -> list[Heard]:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(hear, paths, chunksize=4))


def hear(path: Path) -> Heard:
    from data import audio
    from data.pitch import PitchTracker

    wav = audio.read(path)
    f0 = PitchTracker()(wav, what=str(path)).f0
    voiced = f0[f0 > 0].astype(np.float64)
    return Heard(timbre(wav), float(np.log2(voiced).mean()) if len(voiced) else float("nan"))
