"""What the length of the pieces costs and gains: extraction from long mixtures, cut in several ways.

Held-out synthetic voices (needs requirements-synthetic.txt and requirements-eval.txt) talk without a break; levels are
those of data.prepare.synthetic. A longer piece saves context and enrolment that are heard again, but a network was
trained on windows of one length. Every way is compared with the first.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import once, prepare
from data import audio
from data.prepare.sentences import sentences
from data.prepare.utterances import ROLES, plan_mixtures, write_mixture
from data.prepare.voices import draw_voices
from data.scp import read_scp
from evaluation import format
from evaluation.metric import SAMPLE_RATE, Column, Score, Signals
from evaluation.signal_metrics import STOI, CorrectTalker
from evaluation.statistics import estimate, paired_difference
from evaluation.summary import table
from evaluation.tokens import TokenError, TokenSystem
from models import load_extractor
from models.interfaces import Extraction, Recording
from models.tselm.extractor import Extractor

VOICES = 30  # of a split, as the toy's test has them
WORDS_A_SECOND = 3.6  # more than the quickest voice says
Wav = np.ndarray  # float32 at 16 kHz
STRETCH = 2 * SAMPLE_RATE  # samples over which the talker is judged, beside the whole

COLUMNS = {
    "error": Column("error", "Predicted token error", "of the target's tokens, heard as a whole", "lower", "%", True),
    "own": Column(
        "own", "the same, target cut so too", "of the target's tokens, cut as the mixture", "lower", "%", True
    ),
    "stoi": Column("stoi", "STOI", "of the target"),
    "talker": Column("talker", "Correct talker (log-mel)", "of whole files", unit="%"),
    "stretches": Column("stretches", "the same, of stretches of 2 s", "of stretches of 2 s", unit="%", is_ratio=True),
}


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    device = prepare(args)
    model = load_extractor(args.config, args.checkpoint, device=device)
    system = TokenSystem(tuple(model.tokenizer.codebook_names), model.tokenizer.vocab_size, "")
    ways = {
        f"{piece:g} s + 2 x {context:g} s": recut(model, piece, context).to(device)
        for context, piece in itertools.product(args.context_seconds, args.seconds)
    }
    scores: dict[str, dict[str, list[Score]]] = {name: {key: [] for key in COLUMNS} for name in ways}
    if args.lists:
        mixtures, of = listed_mixtures(args.lists, args.mixtures), str(args.lists)
    else:
        mixtures = long_mixtures(args.mixtures, args.length, split=args.split, seed=args.seed)
        of = f"{args.split} voices, seed {args.seed}"
    spent, lengths = dict.fromkeys(ways, 0.0), []
    for number, (mixture, target, interferer, enrolment) in enumerate(mixtures):
        lengths.append(len(mixture) / SAMPLE_RATE)
        whole = model.tokenizer.encode_files([Recording.of(target)])[0].numpy()
        for name, way in ways.items():  # in turns, so that a slow moment of the machine meets all of them
            if number == 0:  # what is done once, is done now
                way.extract(mixture, enrolment)
            made, seconds = timed(way, mixture, enrolment, device)
            spent[name] += seconds
            tokens = {"whole": whole, "own": way.encode(target).numpy()}
            for key, score in judge(made, tokens, target, interferer, system).items():
                scores[name][key].append(score)
        print(f"{number + 1} mixtures", file=sys.stderr, flush=True)
    print(f"\n{len(lengths)} mixtures of {min(lengths):.1f} to {max(lengths):.1f} s, {of}; {args.config}.", end=" ")
    show(scores, {name: seconds / sum(lengths) for name, seconds in spent.items()})
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = options.add_argument
    add("--seconds", type=float, nargs="+", default=[2, 4, 8, 12], help="of a piece (%(default)s)")
    add("--context_seconds", type=float, nargs="+", default=[0.5], help="on either side (%(default)s)")
    add("--mixtures", type=int, default=24, help="(%(default)s)")
    add("--length", type=float, nargs=2, default=[20, 24], metavar="S", help="of a mixture, from and to (%(default)s)")
    add("--lists", type=Path, metavar="DIR", help="its mix_clean, s1, s2 and aux_s1.scp, in place of made mixtures")
    add("--split", default="test", choices=("dev", "test"), help="whose voices and sentences (%(default)s)")
    add("--seed", type=int, default=1, help="of voices, sentences and levels (%(default)s)")
    add("--config", default="config/toy/tselm.yaml", help="recipe (%(default)s)")
    add("--checkpoint", default="pretrained/toy/tselm.pth", help="trained weights (%(default)s)")
    add("--device", default="cpu", help="cpu or cuda:0 (%(default)s)")
    add("--threads", type=int, default=1, help="on the CPU (%(default)s)")
    return options.parse_args(argv)


def recut(model: Extractor, piece: float, context: float) -> Extractor:
    """The same system, which cuts a mixture otherwise."""
    return Extractor(
        network=model.network,
        front_end=model.front_end,
        vocoder=model.vocoder,
        regi_length=model.regi_length,
        piece_seconds=piece,
        context_seconds=context,
        batch_seconds=model.batch_seconds,
        precision=model.precision,
    )


def long_mixtures(number: int, length: tuple[float, float], *, split: str, seed: int) -> Iterator[tuple[Wav, ...]]:
    """Mixture, target and interferer, [T] each, and an enrolment [R] that says something else.

    Args:
        length: seconds of a mixture, uniform between the two.
    """
    voices = draw_voices(split, VOICES, seed=seed)
    texts, rng = sentences(split, f"pieces {seed} {split}"), random.Random(f"pieces {seed} {split}")

    def talk(seconds: float) -> str:
        said = ""
        while len(said.split()) < WORDS_A_SECOND * seconds:
            said = f"{said} {next(texts)}".strip()
        return said

    for plan in plan_mixtures(split, voices, number, seed=seed):
        seconds = rng.uniform(*length)
        mixture = dataclasses.replace(plan, texts=(talk(seconds), talk(seconds), next(texts)))
        with tempfile.TemporaryDirectory(prefix="pieces-") as name:
            write_mixture(Path(name), mixture, voices, seed=seed)
            found = {role: audio.read(Path(name) / role / mixture.name) for role in ROLES}
        cut = (found[role][: round(seconds * SAMPLE_RATE)] for role in ("mix_clean", "s1", "s2"))
        yield *cut, found["aux_s1"]


def listed_mixtures(folder: Path, number: int) -> Iterator[tuple[Wav, ...]]:
    """The first ``number`` mixtures of a folder of lists, in the same order of signals."""
    lists = [read_scp(folder / f"{role}.scp") for role in ROLES]
    for name in itertools.islice(lists[0], number):
        yield tuple(audio.read(paths[name]) for paths in lists)


def timed(way: Extractor, mixture: Wav, enrolment: Wav, device: torch.device) -> tuple[Extraction, float]:
    """An extraction, and its seconds."""
    made: list[Extraction] = []
    seconds = once(lambda: made.append(way.extract_with_tokens(mixture, enrolment)), device=device)
    return made[0], seconds


def judge(
    made: Extraction, tokens: dict[str, np.ndarray], target: Wav, interferer: Wav, system: TokenSystem
) -> dict[str, Score]:
    """The scores of one extraction, by column; ``tokens`` are the target's, heard ``whole`` and cut as its ``own``."""
    output = made.wav.numpy()
    error, talker = TokenError(system, source="predicted"), CorrectTalker()

    def errors(of: str) -> Score:
        pair = Signals(output, tokens={"predicted": made.tokens.numpy(), "target": tokens[of]})
        return error.score(pair)["predicted_token_error"]

    def right(part: slice) -> Score:
        pair = Signals(output[part], target=target[part], interferer=interferer[part])
        return talker.score(pair)["correct_talker_mel"]

    stretches = [right(slice(at, at + STRETCH)) for at in range(0, max(len(output) - STRETCH, 0) + 1, STRETCH)]
    return {
        "error": errors("whole"),
        "own": errors("own"),
        **STOI().score(Signals(output, target=target)),
        "talker": right(slice(None)),
        "stretches": (sum(stretches), len(stretches)),
    }


def show(scores: dict[str, dict[str, list[Score]]], cost: dict[str, float]) -> None:
    """Print the table: means with intervals, below each its difference to the first way's, and the time."""
    first = next(iter(scores))
    headings = [format.heading(c.title, unit=c.unit, better=c.better) for c in COLUMNS.values()]
    rows = [["piece + context", *headings, "s a second of audio", "times the first's speed"]]
    for name, of in scores.items():
        cells, differences = [], []
        for key, column in COLUMNS.items():
            cells.append(format.mean(estimate(of[key]).as_dict(), column.unit))
            differences.append(format.mean(paired_difference(of[key], scores[first][key]).as_dict(), column.unit))
        rows.append([name, *cells, f"{cost[name]:.3f}", f"{cost[first] / cost[name]:.2f}"])
        if name != first:
            rows.append(["difference to the first", *differences, "", ""])
    print("Brackets: 95 % bootstrap intervals over the files, of differences paired.\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    sys.exit(main())
