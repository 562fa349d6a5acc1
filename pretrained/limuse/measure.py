"""What the toy of LiMuSE has learned: SI-SDR improvement with its cues, without them, with wrong ones, and from
recordings that are not as its training's were."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data import arrays, audio
from data.prepare.microphones import SPEED, Place, free_field
from data.scp import read_scp
from models.limuse.extractor import Extractor
from models.limuse.report import costs
from models.limuse.windows import Windows
from models.load import load_model
from modules.si_sdr import si_sdr
from utils.commands import run
from utils.files import write_json
from utils.recipe import Recipe

RECIPE, QUANTISED = "config/toy/limuse.yaml", "config/toy/limuse_quantised.yaml"
SPACING = 0.07  # metres, of the training
OTHER_SPACINGS = {"3.5 cm": 0.035, "14 cm": 0.14}
TOGETHER = 10  # mixtures
SEED = 2  # of the test mixtures, as make.py draws them
LONG, LONG_SECONDS = 24, 36
SEAM = 0.2  # seconds on either side
APART = 1.0  # samples by which the ways of two talkers to the second microphone differ, to be told apart by place


@dataclass(frozen=True)
class Case:
    """A mixture with what belongs to it.

    Attributes:
        mixture: [2, T].
        target: [T], at microphone 0.
        voiceprint: [voiceprint_dim].
        face: [V, visual_dim].
        row: of geometry.jsonl.
    """

    mixture: np.ndarray
    target: np.ndarray
    voiceprint: np.ndarray
    face: np.ndarray
    row: Mapping[str, Any]


Change = Callable[[Case], Case]


def measure(
    test: Path,
    release: Path,
    *,
    unpacked: Path,
    data: Path,
    pairs: Path,
    lists: Path,
    count: int,
    devices: Sequence[object],
    sizes: Mapping[str, object] | None = None,
) -> None:
    """All of it, into ``test/results.json``.

    Args:
        release: what is shipped.
        unpacked: the checkpoint that the packed file was made of.
        data: the synthetic corpus.
        pairs: the test mixtures, as data.prepare.two_microphones left them; ``count`` of them.
        lists: their lists, with voiceprints.
        devices: of the programs that are called.
        sizes: keys of the recipes, where they are changed.
    """
    changed = {"speaker_encoder_path": release / "speaker_encoder", **(sizes or {})}
    keys = [f"{key}={value}" for key, value in changed.items()]
    full = load_model(RECIPE, release / "limuse.pth", overrides=keys)
    cases = read_cases(pairs, voiceprints(lists))
    wrong = wrong_voiceprints(cases)
    rows: dict[str, list[float]] = {}
    outputs: dict[str, list[np.ndarray]] = {}
    for name, change in changes(wrong).items():
        others = [change(case) for case in cases]
        outputs[name] = extract(full, others)
        rows[name] = improvements(outputs[name], others)
    for name, spacing in OTHER_SPACINGS.items():
        others = spaced(test / f"pairs_{spacing:g}", data / "test.json", count, spacing, cases)
        rows[name] = improvements(extract(full, others), others)
    quantised = load_model(QUANTISED, unpacked, overrides=keys)
    of_hard = extract(quantised, cases)
    rows["quantised"] = improvements(of_hard, cases)
    packed = load_model(QUANTISED, release / "limuse_packed.safetensors", overrides=keys)
    differ = max(np.abs(a - b).max() for a, b in zip(of_hard, extract(packed, cases), strict=True))
    apart = [separation(case.row) >= APART for case in cases]
    found = {
        "rows": {name: estimated(values) for name, values in rows.items()},
        "apart": {name: estimated([x for x, is_apart in zip(rows[name], apart, strict=True) if is_apart])
                  for name in ("all cues", "no face", "no voiceprint", "quantised")},
        "alike": {name: estimated([x for x, is_apart in zip(rows[name], apart, strict=True) if not is_apart])
                  for name in ("all cues", "no face", "no voiceprint", "quantised")},
        "followed": {name: share_followed(rows[name]) for name in rows},
        "signs": signs(outputs["all cues"], cases),
        "packed_difference": float(differ),
        "long": measure_long(test, full, data / "test.json", devices, keys),
        "costs": measure_costs(keys),
        "speed": {"float": real_time_factor(full, cases), "quantised": real_time_factor(quantised, cases)},
        "talkers_told": tell_voices(release, data / "test.json"),
    }  # fmt: skip
    keep_examples(test / "examples", cases, outputs)
    write_json(test / "results.json", found)


def changes(wrong: Mapping[str, np.ndarray]) -> dict[str, Change]:
    """What is done to recordings and cues."""

    def but(**values: Callable[[Case], np.ndarray]) -> Change:
        return lambda case: dataclasses.replace(case, **{name: make(case) for name, make in values.items()})

    def no_voice(case: Case) -> np.ndarray:
        return np.zeros_like(case.voiceprint)

    def no_face(case: Case) -> np.ndarray:
        return np.zeros_like(case.face)

    def gains(first: float, second: float) -> Callable[[Case], np.ndarray]:
        return lambda case: case.mixture * np.float32([[first], [second]])

    quiet = 10 ** (-30 / 20)
    return {
        "all cues": but(),
        "no voiceprint": but(voiceprint=no_voice),
        "no face": but(face=no_face),
        "neither": but(voiceprint=no_voice, face=no_face),
        "wrong voiceprint, face": but(voiceprint=lambda case: wrong[case.row["name"]]),
        "wrong voiceprint, no face": but(voiceprint=lambda case: wrong[case.row["name"]], face=no_face),
        "second microphone silent": but(mixture=gains(1.0, 0.0)),
        "second microphone like the first": but(mixture=lambda case: case.mixture[[0, 0]]),
        "second microphone 3 dB quieter": but(mixture=gains(1.0, 10 ** (-3 / 20))),
        "channels swapped": but(mixture=lambda case: case.mixture[[1, 0]], target=at_second_microphone),
        "30 dB quieter": but(mixture=gains(quiet, quiet), target=lambda case: np.float32(quiet) * case.target),
    }


def read_cases(pairs: Path, prints: Mapping[str, np.ndarray]) -> list[Case]:
    """The mixtures of a folder that data.prepare.two_microphones made."""
    lists = {role: read_scp(pairs / f"{role}.scp") for role in ("mix_clean", "s1", "visual_s1")}
    rows = [json.loads(line) for line in (pairs / "geometry.jsonl").read_text().splitlines()]
    return [
        Case(
            audio.read_microphones(lists["mix_clean"][row["name"]], count=2),
            audio.read(lists["s1"][row["name"]]),
            prints[row["name"]],
            arrays.read(lists["visual_s1"][row["name"]]),
            row,
        )
        for row in rows
    ]


def voiceprints(lists: Path) -> dict[str, np.ndarray]:
    return {name: arrays.read(path) for name, path in read_scp(lists / "aux_s1.scp").items()}


def wrong_voiceprints(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """Of each mixture a voiceprint of its interferer, from a mixture where he is the target; else of a third talker."""
    of_talker = {case.row["target_speaker"]: case.voiceprint for case in cases}
    found = {}
    for case in cases:
        others = [x for talker, x in of_talker.items() if talker != case.row["target_speaker"]]
        found[case.row["name"]] = of_talker.get(case.row["interferer_speaker"], others[0])
    return found


def at_second_microphone(case: Case) -> np.ndarray:
    """[T]: the target as the other microphone hears it, what is asked for where the channels are swapped."""
    place = Place(case.row["target_azimuth"], case.row["target_distance"])
    return free_field(case.target.astype(np.float64), place, spacing=SPACING)[1].astype(np.float32)


def separation(row: Mapping[str, Any]) -> float:
    """By how many samples the talkers' delays between the microphones differ."""
    ways = [Place(row[f"{who}_azimuth"], row[f"{who}_distance"]).to_microphones(SPACING)
            for who in ("target", "interferer")]  # fmt: skip
    (near, far), (other_near, other_far) = ways
    return abs((far - near) - (other_far - other_near)) / SPEED * audio.SAMPLE_RATE


def spaced(folder: Path, index: Path, count: int, spacing: float, cases: Sequence[Case]) -> list[Case]:
    """The same mixtures before microphones at another distance."""
    run(
        "-m", "data.prepare.two_microphones", "--speakers", index, "--output", folder, "--mixtures", count,
        "--seed", SEED, "--visual-dim", cases[0].face.shape[1], "--spacing", spacing,
    )  # fmt: skip
    others = read_cases(folder, {case.row["name"]: case.voiceprint for case in cases})
    for case, other in zip(cases, others, strict=True):
        if case.row["enrolment"] != other.row["enrolment"]:
            raise ValueError(f"{folder} holds other mixtures than the test's")
    return others


def extract(model: Extractor, cases: Sequence[Case]) -> list[np.ndarray]:
    """[T] each."""
    made = []
    for start in range(0, len(cases), TOGETHER):
        some = cases[start : start + TOGETHER]
        wavs = model.extract(
            torch.from_numpy(np.stack([case.mixture for case in some])),
            voiceprint=torch.from_numpy(np.stack([case.voiceprint for case in some])),
            visual=torch.from_numpy(np.stack([case.face for case in some])),
        )
        made += list(wavs.numpy())
    return made


def improvements(made: Iterable[np.ndarray], cases: Iterable[Case]) -> list[float]:
    """SI-SDR of each output less that of the first channel, dB."""
    return [gain(wav, case.mixture[0], case.target) for wav, case in zip(made, cases, strict=True)]


def gain(wav: np.ndarray, mixture: np.ndarray, target: np.ndarray) -> float:
    both = torch.from_numpy(np.stack([wav, mixture]))
    after, before = si_sdr(both, torch.from_numpy(target).expand(2, -1)).tolist()
    return after - before


def estimated(values: Sequence[float]) -> dict[str, Any] | None:
    from evaluation.statistics import estimate

    found = estimate(values)
    return found and found.as_dict()


def share_followed(values: Sequence[float]) -> float:
    """% of the mixtures from which more of the target came than was in them."""
    return 100 * float(np.mean(np.asarray(values) > 0))


def signs(made: Sequence[np.ndarray], cases: Sequence[Case]) -> dict[str, float]:
    """How many outputs have the mixture's sign, and the largest mean, in dB below the output's rms."""
    upright = sum(float(wav @ case.mixture[0]) > 0 for wav, case in zip(made, cases, strict=True))
    means = [abs(wav.mean()) / (np.sqrt(np.square(wav).mean()) + 1e-12) for wav in made]
    return {"upright": upright, "of": len(made), "largest_mean_db": 20 * math.log10(max(means) + 1e-12)}


def measure_costs(keys: Sequence[str]) -> dict[str, dict[str, int]]:
    """Of networks without weights: in a loaded one the quantised weights are floating point again."""
    recipes = {"float": RECIPE, "quantised": QUANTISED}
    networks = {name: Recipe(path, overrides=keys).build("network")["network"] for name, path in recipes.items()}
    return {name: costs(network, seconds=1.0) for name, network in networks.items()}


def real_time_factor(model: Extractor, cases: Sequence[Case], *, repeats: int = 7) -> float:
    """Seconds of one thread for a second of a recording: the median over files, one at a time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        factors = []
        for case in cases[: repeats + 1]:
            since = time.perf_counter()
            extract(model, [case])
            factors.append((time.perf_counter() - since) / (len(case.target) / audio.SAMPLE_RATE))
    finally:
        torch.set_num_threads(threads)
    return float(np.median(factors[1:]))  # the first one warms up


def measure_long(
    test: Path, model: Extractor, index: Path, devices: Sequence[object], keys: Sequence[str]
) -> dict[str, Any]:
    """Of recordings that take several windows: SI-SDR improvement of all, of each window, about seams and between."""
    talkers = test / "long_talkers.json"
    join_utterances(test / "long_talkers", index, talkers)
    pairs, lists = test / "long_pairs", test / "long_lists"
    run(
        "-m", "data.prepare.two_microphones", "--speakers", talkers, "--output", pairs, "--mixtures", LONG,
        "--seconds", LONG_SECONDS, "--visual-dim", model.network.visual_dim,
    )  # fmt: skip
    run(
        "-m", "models.limuse.voiceprints", pairs, "--output", lists, "--config_path", RECIPE, "-gpus", *devices,
        *[part for text in keys for part in ("--override", text)],
    )  # fmt: skip
    cases = read_cases(pairs, voiceprints(lists))
    found: dict[str, list[float]] = {"whole": [], "seams": [], "between": []}
    for case in cases:
        wav = extract(model, [case])[0]
        found["whole"].append(gain(wav, case.mixture[0], case.target))
        for place, part, middle in stretches(model.windows, len(wav)):
            kind = f"window {place + 1}" if part is None else part
            values = [x[middle] for x in (wav, case.mixture[0], case.target)]
            if np.square(values[2]).mean() > 1e-6:  # what is silent has no SI-SDR
                found.setdefault(kind, []).append(gain(*values))
    return {kind: estimated(values) for kind, values in found.items()}


def stretches(plan: Windows, samples: int) -> list[tuple[int, str | None, slice]]:
    """Parts of a long recording: its windows, what is about their seams, and as much in the middle of windows."""
    reach = round(SEAM * audio.SAMPLE_RATE)
    windows = plan.cut(samples)
    found: list[tuple[int, str | None, slice]] = []
    for place, window in enumerate(windows):
        found.append((place, None, slice(window.start, window.start + window.length)))
        middle = window.start + window.length // 2
        found.append((place, "between", slice(middle - reach, middle + reach)))
        if place:
            before = windows[place - 1]
            seam = (window.start + before.start + before.length) // 2
            found.append((place, "seams", slice(seam - reach, seam + reach)))
    return found


def join_utterances(folder: Path, index: Path, joined: Path) -> None:
    """Two long utterances of each talker of an index, of half of his each, and an index of them."""
    from data.speakers import read_index

    long: dict[str, list[str]] = {}
    for talker, utterances in read_index(index).items():
        half = len(utterances) // 2
        for number, some in enumerate((utterances[:half], utterances[half:])):
            wavs = [audio.read(path) for path in some]
            need, wav = LONG_SECONDS * audio.SAMPLE_RATE, np.concatenate(wavs)
            path = folder / f"{talker}-{number}.flac"
            audio.write(path, np.tile(wav, -(-need // len(wav))))
            long.setdefault(talker, []).append(str(path.resolve()))
    write_json(joined, long)


def tell_voices(release: Path, index: Path) -> float:
    from data.speakers import read_index
    from pretrained.limuse.voiceprints import tell_apart

    return tell_apart(release / "speaker_encoder", read_index(index))


def keep_examples(folder: Path, cases: Sequence[Case], outputs: Mapping[str, Sequence[np.ndarray]]) -> None:
    """The sounds of the first mixture."""
    case = cases[0]
    shown = {"mixture": case.mixture[0], "target": case.target, "extracted": outputs["all cues"][0]}
    for name, wav in {**shown, "with the other voice": outputs["wrong voiceprint, no face"][0]}.items():
        audio.write(folder / f"{name.replace(' ', '_')}.flac", wav)
