"""Mixtures of two talkers before two microphones, made of single utterances, with stand-ins for faces.

    python -m data.prepare.two_microphones --speakers synthetic/train.json --output pairs/train --mixtures 1000

    DIR/mix_clean, s1, s2, aux_s1    mixture (2 channels), target and interferer at microphone 0, enrolment
    DIR/visual_s1                    what stands for the target's face, [frames, 256] at 25 a second
    DIR/mix_clean.scp ...            lists of these files
    DIR/geometry.jsonl               where the talkers were, and which utterances they said
    DIR/README.md                    what this is
    DIR/two_microphones.json         the arguments; written last

Microphone 0 hears s1 + s2, whose levels differ by up to --sir; microphone 1 each of them a little earlier or later, and
louder or quieter, as its talker's place says. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data import audio
from data.prepare.corpus_folder import CorpusFolder
from data.prepare.microphones import SPEED, Place, Room, free_field, pyroomacoustics
from data.prepare.stand_in_faces import BANDS, stand_in_face
from data.scp import write_scp
from data.speakers import read_index
from utils.errors import first_few, report_errors
from utils.files import file_digest, write_array, write_text
from utils.folder_lock import folder_lock

NAME = "two_microphones"
SOUNDS = ("mix_clean", "s1", "s2", "aux_s1")
FACES = "visual_s1"
SHORT = "An utterance shorter than --seconds is followed by silence; of a longer one, a random part is taken."
LOUDEST = 0.9  # of full scale, where a mixture would otherwise be louder
LONGEST_ENROLMENT = 30  # seconds
_TRIES = 50  # draws of an utterance and a place in it that is not silent
_QUIETEST = 1e-4  # RMS, below which a cut counts as silent
_VERSION = 1  # of what is made of the arguments; a change of it raises it


@dataclass(frozen=True)
class Settings:
    """What mixtures are made by.

    Attributes:
        seconds: of a mixture.
        sir: the target is up to so many dB louder or quieter than the interferer.
        spacing: metres between the microphones.
        distance: the nearest and the furthest that a talker can be, in metres.
        visual_dim: numbers of a frame of a face.
        reverberation: the shortest and the longest RT60 of rooms, in seconds; None: the open.
        seed: of all draws.

    Raises:
        ValueError: a value that makes no mixtures; it names the option.
    """

    seconds: float = 3.0
    sir: float = 5.0
    spacing: float = 0.07
    distance: tuple[float, float] = (1.0, 5.0)
    visual_dim: int = 256
    reverberation: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        near, far = self.distance
        shortest, longest = self.reverberation or (0.1, 0.1)
        for option, value, is_right, rule in (
            ("seconds", self.seconds, 0.02 <= self.seconds <= 3600, "0.02 to 3600"),
            ("sir", self.sir, 0 <= self.sir <= 60, "0 to 60 dB"),
            ("spacing", self.spacing, 0 < self.spacing <= 10, "above 0 m, at most 10"),
            ("distance", self.distance, self.spacing / 2 < near <= far <= 100,
             "two numbers, the nearer first, beyond the microphones and up to 100 m"),
            ("visual-dim", self.visual_dim, self.visual_dim > 0, "above 0"),
            ("reverberation", self.reverberation, 0 < shortest <= longest <= 2, "two numbers, above 0 and up to 2 s"),
            ("seed", self.seed, self.seed >= 0, "0 or more"),
        ):  # fmt: skip
            if not is_right:
                raise ValueError(f"--{option} must be {rule}, got {value}")


class Mixture(NamedTuple):
    """One mixture: its signals by folder, its face, and its row of geometry.jsonl."""

    sounds: dict[str, np.ndarray]
    face: np.ndarray
    row: dict[str, object]


def make(output: str | os.PathLike, speakers: str | os.PathLike, mixtures: int, settings: Settings) -> bool:
    """Make ``mixtures`` of them in ``output``; False: they are there already.

    Raises:
        OSError: the index or an utterance is missing, or nothing can be written.
        ValueError: ``output`` holds something else or is in use; an index that makes no mixtures.
    """
    if mixtures < 1:
        raise ValueError(f"--mixtures must be at least 1, got {mixtures}")
    talkers = read_talkers(speakers)
    arguments = {**asdict(settings), "mixtures": mixtures, "speakers": file_digest(speakers), "version": _VERSION}
    arguments = json.loads(json.dumps(arguments))  # as they will be read: lists for tuples
    folder = CorpusFolder(output, NAME)
    if folder.is_there(arguments):
        return False
    if settings.reverberation:
        pyroomacoustics()  # before anything is made, because it may be missing
    with folder_lock(folder.path, name=folder.lock):
        folder.begin(arguments)
        _make_all(folder.path, talkers, mixtures, settings)
        folder.finish({"what": "two talkers before two microphones", "arguments": arguments})
    return True


def _make_all(output: Path, talkers: Mapping[str, Sequence[Path]], mixtures: int, settings: Settings) -> None:
    files: dict[str, dict[str, Path]] = {role: {} for role in (*SOUNDS, FACES)}
    rows = []
    for index in tqdm(range(mixtures), desc="mixtures", disable=None):
        name = f"{index:06d}.wav"
        made = make_mixture(talkers, index, settings)
        for role, wav in made.sounds.items():
            files[role][name] = output / role / name
            audio.write(files[role][name], wav)
        files[FACES][name] = output / FACES / f"{index:06d}.npy"
        write_array(files[FACES][name], made.face)
        rows.append(json.dumps({"name": name, **made.row}) + "\n")
    for role, paths in files.items():
        write_scp(output / f"{role}.scp", paths)
    write_text(output / "geometry.jsonl", "".join(rows))
    write_text(output / "README.md", _readme(settings))


def read_talkers(speakers: str | os.PathLike) -> dict[str, list[Path]]:
    """A speaker index all of whose talkers can be a target.

    Raises:
        OSError, ValueError: as ``data.speakers.read_index``; or there are fewer than two talkers, or one has no second
            utterance to be an enrolment.
    """
    talkers = read_index(speakers)
    if len(talkers) < 2:
        raise ValueError(f"{speakers}: two talkers are needed, {len(talkers)} found")
    if alone := [talker for talker, utterances in talkers.items() if len(utterances) < 2]:
        raise ValueError(
            f"{speakers}: {first_few(alone)} without a second utterance, which an enrolment needs: leave them out of "
            "the index"
        )
    return talkers


def make_mixture(talkers: Mapping[str, Sequence[Path]], index: int, settings: Settings) -> Mixture:
    """The mixture of an index: a function of its arguments, whatever was made before.

    Raises:
        OSError, ValueError: an utterance that cannot be read, or a talker whose utterances are silent.
    """
    rng = np.random.default_rng([settings.seed, index])
    names = list(talkers)
    target, interferer = (names[i] for i in rng.choice(len(names), size=2, replace=False))
    places = [Place(float(rng.uniform(-math.pi, math.pi)), float(rng.uniform(*settings.distance))) for _ in range(2)]
    ratio = float(rng.uniform(-settings.sir, settings.sir))
    room = Room.draw(rng, places, rt60=settings.reverberation) if settings.reverberation else None
    heard, sources = [], []
    for talker, place in zip((target, interferer), places, strict=True):
        source, wav = _cut(talker, talkers[talker], rng, round(settings.seconds * audio.SAMPLE_RATE))
        hear = room.hear if room else free_field
        heard.append(hear(wav, place, spacing=settings.spacing))
        sources.append(source)
    energies = [np.square(at_both[0]).sum() for at_both in heard]
    heard[1] *= math.sqrt(energies[0] / energies[1]) * 10 ** (-ratio / 20)
    mixture = heard[0] + heard[1]
    scale = LOUDEST / max(LOUDEST, *(np.abs(x).max() for x in (mixture, heard[0][0], heard[1][0])))
    enrolment, speech = _enrolment(target, [path for path in talkers[target] if path != sources[0]], rng)
    sounds = {"mix_clean": scale * mixture, "s1": scale * heard[0][0], "s2": scale * heard[1][0], "aux_s1": speech}
    row = {
        "target_azimuth": places[0].azimuth,
        "target_distance": places[0].distance,
        "interferer_azimuth": places[1].azimuth,
        "interferer_distance": places[1].distance,
        "sir_db": ratio,
        "target_speaker": target,
        "interferer_speaker": interferer,
        "target": os.path.abspath(sources[0]),
        "enrolment": os.path.abspath(enrolment),
        **({"room": asdict(room)} if room else {}),
    }
    return Mixture(sounds, stand_in_face(sounds["s1"], size=settings.visual_dim, rng=rng), row)


def _cut(talker: str, utterances: Sequence[Path], rng: np.random.Generator, length: int) -> tuple[Path, np.ndarray]:
    """An utterance and a part of it that is not silent, [length] float64."""
    for _ in range(_TRIES):
        path = utterances[rng.integers(len(utterances))]
        wav = audio.read_crop(path, length=length, position=float(rng.random())).astype(np.float64)
        if np.sqrt(np.square(wav).mean()) > _QUIETEST:
            return path, wav
    raise ValueError(f"{_TRIES} cuts of {talker} were silent ({first_few(utterances, 2)}): leave it out of the index")


def _enrolment(talker: str, others: Sequence[Path], rng: np.random.Generator) -> tuple[Path, np.ndarray]:
    """One of a talker's other utterances that is not silent, up to 30 s of it."""
    for chosen in rng.permutation(len(others)):
        wav = audio.read(others[chosen], length=LONGEST_ENROLMENT * audio.SAMPLE_RATE)
        if audio.why_no_speech(wav) is None:
            return others[chosen], wav
    raise ValueError(f"no other utterance of {talker} is an enrolment, all are silent: leave it out of the index")


def _readme(settings: Settings) -> str:
    near, far = settings.distance
    if settings.reverberation:
        where = (
            f"Each mixture is in a box-shaped room of its own with an RT60 of {settings.reverberation[0]:g} to "
            f"{settings.reverberation[1]:g} s (`room` in geometry.jsonl), computed by the method of images with "
            "pyroomacoustics. `s1` and `s2` are what microphone 0 hears of each talker, **with** the room: the target "
            "is reverberant speech, and dereverberation is not asked for. Time begins when the direct sound of a "
            "talker would begin at microphone 0."
        )
    else:
        where = (
            "There is no room: `s1` and `s2` are the talkers' utterances, which microphone 0 hears as they are, and "
            "microphone 1 quieter and later, or louder and earlier, as the way to it is longer or shorter."
        )
    paragraphs = (
        f"Made by `python -m data.prepare.two_microphones`; the arguments are in `{NAME}.json`. Nothing here was "
        "recorded with two microphones.",
        f"The microphones are {100 * settings.spacing:g} cm apart, at (+-{settings.spacing / 2:g}, 0) m, channel 0 at "
        "the plus. A talker is at distance * (cos azimuth, sin azimuth), azimuth in radians and uniform, distance "
        f"uniform in {near:g} to {far:g} m. Sound travels {SPEED:g} m/s. {where}",
        "`mix_clean` has two channels. Its channel 0 is `s1` + `s2`; the target `s1` is up to "
        f"{settings.sir:g} dB louder or quieter than `s2` (`sir_db`). `aux_s1` is another utterance of the target's "
        f"talker, without room or microphones. {SHORT}",
        "`visual_s1` is **not a face**. It stands for one, so that a system that sees can be tried: log levels of the "
        f"target in {len(BANDS)} bands, standardised, through a fixed random matrix to {settings.visual_dim} numbers, "
        "with a little noise, at 25 frames a second. It tells more of the target's loudness than lips would. Results "
        "with it say nothing about videos.",
    )
    return "# Two talkers before two microphones\n" + "".join(f"\n{fill(text, 100)}\n" for text in paragraphs)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 2 for a wrong argument, a folder in use or a missing package; 130 if interrupted."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.two_microphones",
        description=__doc__,
        epilog=SHORT + " After an interruption, run the same command again.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--speakers", required=True, metavar="INDEX", help="speaker index, JSON or .pt: speaker -> its utterances")
    add("--output", required=True, metavar="DIR", help="a new or empty folder")
    add("--mixtures", required=True, type=int, metavar="N", help="how many")
    add("--seconds", type=float, default=defaults.seconds, help="length of a mixture (default: %(default)s)")
    add("--seed", type=int, default=defaults.seed, help="another seed, other mixtures (default: %(default)s)")
    add("--sir", type=float, default=defaults.sir, metavar="DB",
        help="the target is up to so much louder or quieter (default: %(default)s)")  # fmt: skip
    add("--spacing", type=float, default=defaults.spacing, metavar="METRES",
        help="between the microphones (default: %(default)s)")  # fmt: skip
    add("--distance", type=float, nargs=2, default=defaults.distance, metavar=("NEAR", "FAR"),
        help="of the talkers, in metres (default: 1 5)")  # fmt: skip
    add("--visual-dim", type=int, default=defaults.visual_dim, metavar="N",
        help="numbers of a frame of a face (default: %(default)s)")  # fmt: skip
    add("--reverberation", type=float, nargs=2, metavar=("SHORT", "LONG"),
        help="rooms with an RT60 so long, in seconds; needs requirements-rooms.txt (default: the open)")  # fmt: skip
    args = parser.parse_args(argv)
    with report_errors() as outcome:
        settings = Settings(
            seconds=args.seconds,
            sir=args.sir,
            spacing=args.spacing,
            distance=tuple(args.distance),
            visual_dim=args.visual_dim,
            reverberation=tuple(args.reverberation) if args.reverberation else None,
            seed=args.seed,
        )
        made = make(args.output, args.speakers, args.mixtures, settings)
        there = f"{args.output}: {args.mixtures} mixtures of {settings.seconds:g} s"
        print(there if made else f"{there} are there already, made with the same arguments")
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
