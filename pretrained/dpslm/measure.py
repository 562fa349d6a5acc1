"""What the toy of DP-SLM has learned: bits and phonemes of its units, word orders, what comes back of said units."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.commands import overrides, run

LMBDAS = (0.0, 100.0, 200.0, 400.0, 800.0, 1600.0)
NEIGHBORS = 0.1
PROBE = {"talkers": 12, "utterances": 6}
PAIRS = 200
KINDS = ("scrambled", "swapped")  # all words in another order; two neighbours
LEVEL = 0.05  # RMS of the speech of pairs
SAID = 24  # utterances that are resynthesised
PIECE, CONTEXT = 60, 20  # units, where the voice over the borders of pieces is measured
BORDER_SECONDS = 1.5  # of sound on either side of a border
SPEECH, UNITS, CODEC = (f"config/toy/dpslm_{name}.yaml" for name in ("resynthesis", "units", "codec"))
UNIT_LM, ACOUSTIC = (f"config/toy/dpslm_{name}.yaml" for name in ("unit_lm", "acoustic"))


def measure(
    folder: Path, release: Path, *, data: Path, codebooks: Mapping[int, Path], devices: Sequence[object]
) -> None:
    """All of it, into ``folder/test``.

    Args:
        folder: where all goes.
        release: what is shipped.
        data: the synthetic corpus.
        codebooks: K -> its folder.
        devices: of the inference.
    """
    from utils.files import write_json

    test = folder / "test"
    shipped = {"codebook_path": release / "codebook"}
    write_json(test / "settings.json", measure_units(test / "probe", codebooks))
    write_pairs(test / "pairs")
    run(
        "evaluate.py", "--pairs", test / "pairs", "--output", test / "scores", "-config", UNIT_LM,
        "-ckpt", release / "unit_lm.pth", "-gpus", *devices, *overrides(shipped),
    )  # fmt: skip
    files = listed(data / "test/s1.scp", SAID, test / "said.scp")
    common = ("-gpus", *devices)
    run(
        "inference.py", "--resynthesise", test / "said.scp", "-config", SPEECH, "-ckpt", release / "acoustic.pth",
        "--output", test / "resynthesised", *common, *overrides(shipped),
    )  # fmt: skip
    run("inference.py", "--resynthesise", test / "said.scp", "-config", CODEC, "--output", test / "codec", *common)
    run(
        "inference.py", "--continue", test / "said.scp", "-config", UNIT_LM, "-ckpt", release / "unit_lm.pth",
        "--output", test / "continued", *common,
        *overrides({**shipped, "acoustic_path": release / "acoustic.pth", "include_prompt": True}),
    )  # fmt: skip
    write_json(test / "unit_error.json", unit_errors(test, files, release / "codebook"))
    write_json(test / "borders.json", measure_borders(test, release))


def measure_units(probe_folder: Path, codebooks: Mapping[int, Path]) -> list[dict[str, float]]:
    """Of each K and lmbda the bitrate, and how many phonemes a linear classifier does not tell from the units."""
    import torch

    from data import audio
    from data.scp import read_scp
    from models.load import load_model
    from modules.dpdp import dpdp
    from pretrained.probe import measure, read_labels, write_probe

    write_probe(probe_folder, **PROBE)
    labels = read_labels(probe_folder)
    wavs = {name: torch.from_numpy(audio.read(path)) for name, path in read_scp(probe_folder / "list.scp").items()}
    found, features = [], {}
    for num_clusters, path in codebooks.items():
        settings = {"codebook_path": path, "num_clusters": num_clusters}
        units = load_model(UNITS, overrides=[f"{key}={value}" for key, value in settings.items()])
        features = features or {name: units.features(wav[None]) for name, wav in wavs.items()}
        for lmbda in LMBDAS:
            settings = {"lmbda": lmbda, "num_neighbors": NEIGHBORS}
            tokens = {name: dpdp(x, units.codebook, **settings)[0][0].numpy() for name, x in features.items()}
            told = measure(tokens, labels, frame_rate=50.0)
            row = {"num_clusters": num_clusters, "lmbda": lmbda, "error": 100 - told["phonemes"]}
            found.append({**row, "talkers": told["talkers"], **bits(tokens.values())})
    return found


def bits(tokens: Sequence[np.ndarray]) -> dict[str, float]:
    """Units a second, and bits a second, of units at 50 a second."""
    collapsed = [units[np.r_[True, units[1:] != units[:-1]]] for units in tokens]
    shares = np.bincount(np.concatenate(collapsed))
    shares = shares[shares > 0] / shares.sum()
    rate = 50 * sum(map(len, collapsed)) / sum(map(len, tokens))
    return {"units_per_second": rate, "bitrate": float(-(shares * np.log2(shares)).sum() * rate)}


def write_pairs(folder: Path, *, seed: int = 0) -> None:
    """Sentences, and their words in a wrong order, in held-out voices: ``ID-right.flac``, ``ID-wrong.flac``, gold.csv.

    The sentences are those that no training has.
    """
    from data import audio
    from data.prepare.sentences import sentences
    from data.prepare.voices import draw_voices, rms, speak
    from utils.files import write_text

    rng = random.Random(f"pairs {seed}")
    voices, texts = draw_voices("test", 8, seed=seed), sentences("test", f"pairs {seed}")
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["id", "filename", "voice", "category", "correct"])
    for number in range(PAIRS):
        talker = list(voices)[number % len(voices)]
        kind, words = KINDS[number % len(KINDS)], next(texts).rstrip(".?").replace(",", "").split()
        wrong = in_wrong_order(words, kind, rng)
        for correct, said in ((1, words), (0, wrong)):
            name = f"{number:03d}-{'right' if correct else 'wrong'}"
            wav = speak(voices[talker], " ".join(said).lower() + ".", seed=seed)
            audio.write(folder / f"{name}.flac", wav * min(LEVEL / rms(wav), 0.9 / np.abs(wav).max()))
            rows.writerow([number, name, talker, kind, correct])
    write_text(folder / "gold.csv", table.getvalue())


def in_wrong_order(words: Sequence[str], kind: str, rng: random.Random) -> list[str]:
    """The same words otherwise."""
    wrong = list(words)
    while wrong == list(words):
        if kind == "scrambled":
            rng.shuffle(wrong)
        else:
            place = rng.randrange(len(words) - 1)
            wrong = [*words[:place], words[place + 1], words[place], *words[place + 2 :]]
    return wrong


def listed(source: Path, count: int, where: Path) -> dict[str, Path]:
    """The first so many files of a list, as a list of their own."""
    from data.scp import read_scp, write_scp

    files = {Path(name).stem: path for name, path in list(read_scp(source).items())[:count]}
    write_scp(where, files)
    return files


def unit_errors(test: Path, files: Mapping[str, Path], codebook: Path) -> dict[str, Any]:
    """Errors of units that are made again of what was said: insertions, deletions and exchanges, over the units.

    ``resynthesised``: of the toy; ``codec``: of its codec alone, the ceiling; ``another``: of the next recording, the
    floor.
    """
    import torch

    from data import audio
    from evaluation.statistics import estimate
    from models.load import load_model

    units = load_model(UNITS, overrides=[f"codebook_path={codebook}"])

    def of(path: Path) -> list[int]:
        wav = torch.from_numpy(audio.read(path))[None]
        return torch.unique_consecutive(units.encode(wav)[0, :, 0]).tolist()

    names = list(files)
    said = {name: of(path) for name, path in files.items()}
    others = {
        "resynthesised": {name: of(test / f"resynthesised/{name}.wav") for name in names},
        "codec": {name: of(test / f"codec/{name}.wav") for name in names},
        "another": {name: said[names[place - 1]] for place, name in enumerate(names)},
    }
    return {
        what: estimate([(100.0 * edits(said[n], made[n]), float(len(said[n]))) for n in names]).as_dict()
        for what, made in others.items()
    }


def edits(one: Sequence[int], other: Sequence[int]) -> int:
    """Insertions, deletions and exchanges that make one of the other (Levenshtein)."""
    row = np.arange(len(other) + 1)
    symbols = np.asarray(other)
    for number, symbol in enumerate(one, start=1):
        least = np.minimum(row[1:] + 1, row[:-1] + (symbols != symbol))
        whole = np.r_[number, least]
        # an insertion costs 1 a place: the running minimum, less what a place costs
        row = np.minimum.accumulate(whole - np.arange(len(whole))) + np.arange(len(whole))
    return int(row[-1])


def measure_borders(test: Path, release: Path) -> dict[str, Any]:
    """How far apart the voices on both sides of a border of pieces are, with a context and without, and within pieces.

    The distance of mean cepstra (``pretrained.timbre``), each coefficient divided by its deviation over all stretches.
    """
    import torch

    from data import audio
    from data.scp import read_scp
    from models.load import load_model
    from pretrained.timbre import timbre

    units = load_model(UNITS, overrides=[f"codebook_path={release / 'codebook'}"])
    codec = load_model(CODEC)
    files = list(read_scp(test / "said.scp").values())
    spoken = [units.encode(torch.from_numpy(audio.read(path))[None])[0, :, 0] for path in files]
    long = [torch.cat(spoken[place : place + 4]) for place in range(0, len(spoken), 4)]
    stretches: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"context": [], "none": [], "within": []}
    for kind, context in (("context", CONTEXT), ("none", 0)):
        settings = [f"piece_units={PIECE}", f"context_units={context}"]
        model = load_model(ACOUSTIC, release / "acoustic.pth", overrides=settings)
        for utterance in model.say(long, seeds=range(len(long))):
            wav = codec.decode(torch.tensor(utterance.codes)[None, :, None])[0].numpy()
            ends = np.cumsum([len(codes) for _, codes in utterance.said]) * codec.hop_length
            first, step = PIECE, PIECE - context
            for border in range(first, len(ends) - 1, step):
                stretches[kind] += _sides(wav, ends[border - 1])
                stretches["within"] += _sides(wav, ends[border - 1 - step // 2])
    return estimates({kind: [(timbre(a), timbre(b)) for a, b in pairs] for kind, pairs in stretches.items()})


def estimates(vectors: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> dict[str, Any]:
    """The mean distance of the pairs of each kind; each element is divided by its deviation over all."""
    from evaluation.statistics import estimate

    scale = np.std([x for pairs in vectors.values() for pair in pairs for x in pair], axis=0) + 1e-9
    found = {
        kind: estimate([float(np.linalg.norm((a - b) / scale)) for a, b in pairs]) for kind, pairs in vectors.items()
    }
    return {kind: value and value.as_dict() for kind, value in found.items()}


def _sides(wav: np.ndarray, border: int, *, sample_rate: int = 16000) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is before and behind a place, if there is enough of it."""
    reach = round(BORDER_SECONDS * sample_rate)
    return [(wav[border - reach : border], wav[border : border + reach])] if reach <= border <= len(wav) - reach else []
