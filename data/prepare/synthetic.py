"""A corpus of synthetic speech, to try everything without downloading anything: espeak-ng's voices, our own sentences.

    python -m data.prepare.synthetic --output synthetic --hours 1

This is formant synthesis, not recorded speech: the voices differ (accent, timbre, fundamental frequency, length of the
vocal tract, speed), but one machine makes them all, and there is neither room nor noise. Scores on it say that the
machinery works; they say nothing about real speech.

    DIR/train/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac, <speaker>-<chapter>.trans.txt   as LibriSpeech
    DIR/train.json                                      speaker index, for training on mixtures made on the fly
    DIR/dev, DIR/test: mix_clean s1 s2 aux_s1           two-talker mixtures as in Libri2Mix, one name in all four
                       mix_clean.scp s1.scp ...         lists of these files
                       transcripts.json                 what s1, s2 and aux_s1 say, in full: s1 and s2 are cut to
                                                        the shorter of the two
    DIR/SPEAKERS.TXT                                    the voices' settings
    DIR/synthetic.json                                  the arguments; written last

Training, dev and test share no voice, no timbre (espeak-ng's "variant") and no sentence. The bytes depend on the
arguments and the versions of the packages, not on --jobs. espeak-ng is under the GPL, version 3, so it is an optional
package, and is loaded here and nowhere else. Tried on Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
from scipy.signal import resample_poly
from tqdm import tqdm

from data import audio
from data.prepare.sentences import SPLITS, sentences, transcript
from data.scp import write_scp
from data.speakers import write_speakers

ROLES = ("mix_clean", "s1", "s2", "aux_s1")
LEVEL_RANGE_DB = 5.0  # s1 is up to so much louder or quieter than s2
MANIFEST = "synthetic.json"
_UNFINISHED = ".synthetic.unfinished.json"  # there while the corpus is being made
_VERSION = 1  # of what this file makes of its arguments; a change of the audio raises it

# espeak-ng's timbres that sound like a voice. Left out: whispers, croaks and robots (hardly periodic, or with an echo),
# those that overload the synthesizer, near copies (long-term spectra closer than about 1 dB) and those whose F0 cannot
# be moved far enough. The numbers, (base, range) in Hz, give the median F0 at espeak-ng's settings of pitch and range:
#     base * 2 ** ((pitch - 50) / 50) + range * (0.58 + 0.42 * pitch_range / 50)
# They were fitted to statements in three accents, and are right within 2 %.
_TIMBRES = {
    "F": {
        "Andrea": (188, 57), "anika": (194, 78), "aunty": (198, -24), "belinda": (190, 38), "f1": (128, 51),
        "f2": (132, 63), "f3": (129, 82), "f5": (149, 56), "grandma": (105, 98), "linda": (190, 38),
        "shelby": (88, 91), "steph": (160, 24), "steph2": (160, 24),
    },
    "M": {
        "Alex": (96, 8), "Andy": (75, 21), "Denis": (69, 30), "Diogo": (73, 32), "Gene2": (91, 23), "Lee": (75, 21),
        "Mario": (64, 44), "Michael": (63, 44), "Reed": (75, 41), "adam": (70, 31), "ed": (80, 46), "edward": (71, 31),
        "gustave": (69, 37), "iven2": (65, 35), "iven4": (65, 35), "john": (72, 30), "kaukovalta": (59, 42),
        "klatt4": (70, 32), "m3": (69, 36), "m6": (72, 29), "m7": (64, 42), "m8": (55, 30), "marcelo": (51, 46),
        "max": (69, 33), "miguel": (71, 40), "mike2": (56, 34), "norbert": (72, 31), "paul": (60, 25),
        "quincy": (55, 31), "robert": (50, 48), "sandro": (68, 31), "travis": (64, 38), "victor": (69, 26),
    },
}  # fmt: skip
_HELD_OUT = {"F": 3, "M": 6}  # how many timbres only dev, and only test, has
_ACCENTS = "en en-029 en-GB-scotland en-GB-x-gbclan en-GB-x-gbcwmd en-GB-x-rp en-US en-US-nyc".split()
_F0 = {"F": (160, 182, 208, 237, 270), "M": (82, 95, 111, 129, 150)}  # Hz, in steps of 14 to 16 %
# Formants are moved by taking espeak-ng's 22,050 Hz for another rate, as a longer or shorter vocal tract would do.
# These rates, 9 % less to 9 % more, make short resampling filters.
_RATES = (20000, 20800, 21600, 22400, 23200, 24000)
_ESPEAK_RATE = 22050
_FIRST_ID = {"train": 1001, "dev": 5001, "test": 7001}
_CHAPTER = 20  # utterances


@dataclass(frozen=True)
class Voice:
    """All that makes a speaker: the same settings, the same voice."""

    sex: str  # F or M
    accent: str  # espeak-ng's language file
    timbre: str  # espeak-ng's variant file
    source_rate: int  # Hz; one of _RATES
    words_per_minute: int
    pitch: int  # espeak-ng's scale, 0 to 99
    pitch_range: int  # the same

    @property
    def stretch(self) -> float:
        """What taking one rate for another does to formants, F0 and speed."""
        return self.source_rate / _ESPEAK_RATE

    @property
    def f0(self) -> float:
        """The median F0 of its statements in Hz."""
        base, spread = _TIMBRES[self.sex][self.timbre]
        return self.stretch * (base * 2 ** ((self.pitch - 50) / 50) + spread * (0.58 + 0.42 * self.pitch_range / 50))


@dataclass(frozen=True)
class Size:
    """How much is made: hours of training speech, numbers of training speakers, and of dev and test mixtures."""

    hours: float
    speakers: int
    dev: int
    test: int

    @classmethod
    def of(cls, hours: float, *, speakers: int | None = None, dev: int | None = None, test: int | None = None) -> Size:
        """Fill in what is not given: 90 s a speaker, 120 mixtures an hour, neither too few nor too many.

        Raises:
            ValueError: a value that makes no corpus.
        """
        if not (math.isfinite(hours) and hours > 0):
            raise ValueError(f"--hours must be positive, got {hours}")
        mixtures = min(max(round(120 * hours), 24), 200)
        size = cls(
            float(hours),
            min(max(round(40 * hours), 16), 400) if speakers is None else speakers,
            mixtures if dev is None else dev,
            mixtures if test is None else test,
        )
        most = num_voices("train")
        if not 2 <= size.speakers <= most:
            raise ValueError(f"--speakers must be 2 to {most}, which is how many voices there are, got {size.speakers}")
        for name in ("dev", "test"):
            if getattr(size, name) < 1:
                raise ValueError(f"--{name} must be at least 1 mixture, got {getattr(size, name)}")
        return size

    def num_speakers(self, split: str) -> int:
        """Voices of a split; a dev or test voice is the target of about six mixtures."""
        return self.speakers if split == "train" else min(max(getattr(self, split) // 6, 4), 30)


def num_voices(split: str) -> int:
    """How many voices there are that differ in more than accent, speed and pitch range."""
    timbres = min(len(_timbres(sex, split, seed=0)) for sex in _TIMBRES)
    return len(_TIMBRES) * timbres * len(_F0["F"]) * len(_RATES)


def draw_voices(split: str, number: int, *, seed: int) -> dict[str, Voice]:
    """The voices of a split, women and men in turn; no two splits share a timbre.

    Each timbre serves once before one serves twice, then with another F0 and another vocal tract.

    Returns:
        speaker ID (a number, as in LibriSpeech) -> voice.
    """
    rng = random.Random(f"voices {seed} {split}")
    streams = {sex: _combinations(_timbres(sex, split, seed=seed), rng) for sex in _TIMBRES}
    voices = {}
    for index, sex in zip(range(number), itertools.cycle(_TIMBRES), strict=False):
        timbre, level, source_rate = next(streams[sex])
        # espeak-ng is asked for this F0, which the change of rate will then shift.
        f0 = _F0[sex][level] * rng.uniform(0.97, 1.03) * _ESPEAK_RATE / source_rate
        base, spread = _TIMBRES[sex][timbre]
        # A range that grows with F0 is about the same in semitones, as people's is.
        pitch_range = min(max(round(rng.uniform(35, 70) * f0 / (base + spread)), 20), 90)
        ratio = (f0 - spread * (0.58 + 0.42 * pitch_range / 50)) / base
        voices[str(_FIRST_ID[split] + index)] = Voice(
            sex=sex,
            accent=rng.choice(_ACCENTS),
            timbre=timbre,
            source_rate=source_rate,
            words_per_minute=rng.randint(150, 195),
            pitch=min(round(50 + 50 * math.log2(max(ratio, 0.5))), 97),
            pitch_range=pitch_range,
        )
    return voices


def speak(voice: Voice, text: str, *, seed: int) -> np.ndarray:
    """Say a sentence. A pure function of its arguments, whatever was said before.

    Rate and pitch vary a little from sentence to sentence, and a short silence is put before and after.

    Returns:
        [T] float64 at 16 kHz, of RMS 1.

    Raises:
        ModuleNotFoundError: espeakng-loader is not installed.
        RuntimeError: espeak-ng fails, or lacks the voice.
    """
    rng = random.Random(f"{seed} {voice} {text}")
    wav = _espeak(
        text,
        voice=f"{voice.accent}+{voice.timbre}",
        words_per_minute=round(voice.words_per_minute * rng.uniform(0.95, 1.05) / voice.stretch),
        pitch=max(voice.pitch + rng.randint(-2, 2), 0),
        pitch_range=voice.pitch_range,
        seed=rng.getrandbits(31),
    )
    divisor = math.gcd(voice.source_rate, audio.SAMPLE_RATE)
    wav = _trim(resample_poly(wav, audio.SAMPLE_RATE // divisor, voice.source_rate // divisor))
    wav = np.pad(wav, [round(rng.uniform(0.05, longest) * audio.SAMPLE_RATE) for longest in (0.3, 0.4)])
    return wav / _rms(wav)


def make(
    output: str | os.PathLike, size: Size, *, seed: int = 0, jobs: int | None = None, progress: bool = True
) -> dict | None:
    """Make the corpus in ``output``.

    Returns:
        the manifest; None if the corpus is there already.

    Raises:
        ValueError: ``output`` holds something else; the message names the way out.
        ModuleNotFoundError: espeakng-loader is not installed.
    """
    output = Path(output).resolve()  # as write_scp and write_speakers do; else they would write absolute paths
    if jobs is not None and jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    arguments = {**asdict(size), "seed": seed, "version": _VERSION}
    if _is_there(output, arguments):
        return None
    _loader()
    output.mkdir(parents=True, exist_ok=True)
    _write_json(output / _UNFINISHED, {"arguments": arguments})
    _remove_leftovers(output)

    voices = {split: draw_voices(split, size.num_speakers(split), seed=seed) for split in SPLITS}
    share = size.hours * 3600 / size.speakers
    tasks: list[Callable[[], object]] = [
        partial(_write_speaker, output / "train", speaker, voice, seconds=share, seed=seed)
        for speaker, voice in voices["train"].items()
    ]
    plans = {split: _plan_mixtures(split, voices[split], getattr(size, split), seed=seed) for split in ("dev", "test")}
    for split, plan in plans.items():
        tasks += [partial(_write_mixture, output / split, mixture, voices[split], seed=seed) for mixture in plan]
    results = _run_all(tasks, jobs=jobs or _num_cores(), progress=progress)

    seconds = dict(zip(voices["train"], (sum(lengths.values()) for lengths in results[: size.speakers]), strict=True))
    index = {speaker: list(lengths) for speaker, lengths in zip(voices["train"], results, strict=False)}
    write_speakers(output / "train.json", index)
    for split, plan in plans.items():
        for role in ROLES:
            write_scp(output / split / f"{role}.scp", {m.name: output / split / role / m.name for m in plan})
        _write_json(output / split / "transcripts.json", {m.name: m.transcripts for m in plan})
    _write_text(output / "SPEAKERS.TXT", _speakers_table(voices, seconds))
    manifest = {
        "what": "synthetic speech by espeak-ng, made by data/prepare/synthetic.py",
        "arguments": arguments,
        "espeak_ng": _espeak_version(),
        "train": {
            "speakers": size.speakers,
            "utterances": sum(map(len, index.values())),
            "hours": round(sum(seconds.values()) / 3600, 4),
        },
        **{split: {"speakers": len(voices[split]), "mixtures": len(plan)} for split, plan in plans.items()},
    }
    _write_json(output / MANIFEST, manifest)
    (output / _UNFINISHED).unlink()
    return manifest


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 2 for a wrong argument, a folder in use or a missing package; 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.synthetic",
        description="Make a corpus of synthetic speech (espeak-ng) for training, validating and testing target speaker "
        "extraction: single voices in a tree like LibriSpeech's with a speaker index, train.json, and two folders of "
        "two-talker mixtures like Libri2Mix's, dev and test, with lists. Voices and sentences of the three are "
        "disjoint. Not real speech: for trying things out, not for results. An hour takes half a minute on two cores, "
        "and 0.15 GB. After an interruption, run the same command again.",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--hours", type=float, default=1.0, help="hours of training speech (default: 1)")
    parser.add_argument("--speakers", type=int, help="training speakers (default: 40 an hour, 16 to 400)")
    parser.add_argument("--dev", type=int, help="dev mixtures (default: 120 an hour, 24 to 200)")
    parser.add_argument("--test", type=int, help="test mixtures (default: 120 an hour, 24 to 200)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other voices and sentences (default: 0)")
    parser.add_argument("--jobs", type=int, help="processes (default: the cores); the corpus does not depend on it")
    args = parser.parse_args(argv)
    try:
        size = Size.of(args.hours, speakers=args.speakers, dev=args.dev, test=args.test)
        manifest = make(args.output, size, seed=args.seed, jobs=args.jobs)
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: run the same command again to complete {args.output}", file=sys.stderr)
        return 130
    if manifest is None:
        print(f"{args.output} is there already, made with the same arguments")
        return 0
    train, dev, test = (manifest[split] for split in SPLITS)
    print(
        f"{args.output}: synthetic speech. train: {train['hours']:.2f} h, {train['utterances']} utterances of "
        f"{train['speakers']} speakers; dev: {dev['mixtures']} mixtures of {dev['speakers']} other speakers; "
        f"test: {test['mixtures']} of {test['speakers']} others"
    )
    return 0


@dataclass(frozen=True)
class _Mixture:
    """Who says what; ``texts`` are those of s1, s2 and aux_s1."""

    name: str
    target: str
    interferer: str
    texts: tuple[str, str, str]

    @property
    def transcripts(self) -> dict[str, str]:
        return dict(zip(ROLES[1:], map(transcript, self.texts), strict=True))


def _plan_mixtures(split: str, voices: Mapping[str, Voice], number: int, *, seed: int) -> list[_Mixture]:
    """Every voice is the target about as often as any other, with all others as interferers."""
    rng = random.Random(f"mixtures {seed} {split}")
    texts = sentences(split, f"sentences {seed} {split}")
    said = dict.fromkeys(voices, 0)
    mixtures = []
    for target in itertools.islice(itertools.cycle(voices), number):
        interferer = rng.choice([speaker for speaker in voices if speaker != target])
        ids = []
        for speaker in (target, interferer):
            ids.append(f"{speaker}-{1 + said[speaker] // _CHAPTER}-{said[speaker] % _CHAPTER:04d}")
            said[speaker] += 1
        name = "_".join(ids) + ".wav"
        mixtures.append(_Mixture(name, target, interferer, (next(texts), next(texts), next(texts))))
    return mixtures


def _write_mixture(folder: Path, mixture: _Mixture, voices: Mapping[str, Voice], *, seed: int) -> None:
    rng = random.Random(f"levels {seed} {mixture.name}")
    target, interferer = voices[mixture.target], voices[mixture.interferer]
    said = zip((target, interferer, target), mixture.texts, strict=True)
    s1, s2, enrolment = (speak(voice, text, seed=seed) for voice, text in said)
    length = min(len(s1), len(s2))
    s1, s2 = s1[:length], s2[:length]
    level, ratio = rng.uniform(-30, -25), rng.uniform(-LEVEL_RANGE_DB, LEVEL_RANGE_DB)
    s1, s2 = s1 / _rms(s1) * _gain(level + ratio / 2), s2 / _rms(s2) * _gain(level - ratio / 2)
    # All three get the same factor, so that the ratio stays; rounded first and added then, so that the sum is exact.
    scale = min(1.0, 0.9 / max(np.abs(signal).max() for signal in (s1, s2, s1 + s2)))
    s1, s2 = np.rint(s1 * scale * 32768), np.rint(s2 * scale * 32768)
    enrolment = np.rint(_at_level(enrolment, rng.uniform(-28, -24)) * 32768)
    for role, samples in zip(ROLES, (s1 + s2, s1, s2, enrolment), strict=True):
        audio.write(folder / role / mixture.name, samples / 32768)


def _write_speaker(folder: Path, speaker: str, voice: Voice, *, seconds: float, seed: int) -> dict[Path, float]:
    """Utterances until there are ``seconds`` of them, and two at least; file -> seconds."""
    rng = random.Random(f"levels {seed} {speaker}")
    lengths: dict[Path, float] = {}
    lines: dict[Path, list[str]] = {}
    for index, text in enumerate(sentences("train", f"sentences {seed} {speaker}")):
        if len(lengths) >= 2 and sum(lengths.values()) >= seconds:
            break
        chapter = str(1 + index // _CHAPTER)
        name = f"{speaker}-{chapter}-{index % _CHAPTER:04d}"
        path = folder / speaker / chapter / f"{name}.flac"
        wav = _at_level(speak(voice, text, seed=seed), rng.uniform(-28, -24))
        audio.write(path, wav)
        lengths[path] = len(wav) / audio.SAMPLE_RATE
        lines.setdefault(path.with_name(f"{speaker}-{chapter}.trans.txt"), []).append(f"{name} {transcript(text)}\n")
    for path, chapter_lines in lines.items():
        _write_text(path, "".join(chapter_lines))
    return lengths


def _run_all(tasks: Sequence[Callable[[], object]], *, jobs: int, progress: bool) -> list:
    """Results in the order of the tasks."""
    hidden = None if progress else True  # None: shown on a terminal only
    with tqdm(total=len(tasks), desc="speakers and mixtures", disable=hidden) as bar:
        if jobs == 1:
            results = []
            for task in tasks:
                results.append(task())
                bar.update()
            return results
        # Spawned, not forked: this process may have threads by now, and a fork of it may hang.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context, initializer=_leave_interrupts_alone)
        try:
            futures = [pool.submit(task) for task in tasks]
            for future in as_completed(futures):
                future.result()
                bar.update()
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_interrupts_alone() -> None:
    """Ctrl-C goes to all processes of a terminal: the first one ends the others, which then need no tracebacks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _timbres(sex: str, split: str, *, seed: int) -> list[str]:
    names = random.Random(f"timbres {seed}").sample(sorted(_TIMBRES[sex]), len(_TIMBRES[sex]))
    held_out = _HELD_OUT[sex]
    return {"dev": names[:held_out], "test": names[held_out : 2 * held_out], "train": names[2 * held_out :]}[split]


def _combinations(timbres: Sequence[str], rng: random.Random) -> Iterator[tuple[str, int, int]]:
    """All (timbre, number of the F0, rate): each timbre once, then each once again with both others changed, ..."""
    levels = len(_F0["F"])
    starts = [(timbre, rng.randrange(levels), rng.randrange(len(_RATES))) for timbre in timbres]
    # 5 levels and 6 rates have no common divisor, so stepping through both at once meets all 30 pairs.
    for turn in range(levels * len(_RATES)):
        for timbre, level, rate in starts:
            yield timbre, (level + 2 * turn) % levels, _RATES[(rate + turn) % len(_RATES)]


def _trim(wav: np.ndarray, *, floor_db: float = -45.0) -> np.ndarray:
    """Cut espeak-ng's own silences, long and always the same, leaving 30 ms with a fade."""
    frame, margin = 160, 480  # samples at 16 kHz
    energy = np.square(wav[: len(wav) // frame * frame]).reshape(-1, frame).sum(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (floor_db / 10))
    wav = wav[max(loud[0] * frame - margin, 0) : (loud[-1] + 1) * frame + margin].copy()
    ramp = np.linspace(0, 1, frame)
    wav[:frame] *= ramp
    wav[-frame:] *= ramp[::-1]
    return wav


def _rms(wav: np.ndarray) -> float:
    return math.sqrt(np.square(wav).mean())


def _gain(decibels: float) -> float:
    return 10 ** (decibels / 20)


def _at_level(wav: np.ndarray, decibels: float) -> np.ndarray:
    """``wav`` of RMS 1 at a level below full scale, or less where its peak would pass 0.9."""
    return wav * min(_gain(decibels), 0.9 / np.abs(wav).max())


# --- espeak-ng -------------------------------------------------------------------------------------------------------

_SYNCHRONOUS, _NEVER_EXIT = 2, 0x8000  # espeak_Initialize: output to a callback; return an error, do not exit
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_SetParameter
_CHARACTERS, _UTF8 = 1, 1  # espeak_Synth: how position is counted; encoding
_QUIET = 50  # volume; at espeak-ng's 100 some timbres clip
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError as error:
        raise ModuleNotFoundError(
            "synthetic speech needs espeak-ng, an optional package (GPL): pip install -r requirements-synthetic.txt"
        ) from error
    return espeakng_loader


@contextlib.contextmanager
def _library() -> Iterator[ctypes.CDLL]:
    """espeak-ng, loaded anew, and unloaded at the end.

    It keeps its state (phase, flutter, random numbers) in static variables that neither a new voice nor
    espeak_Initialize resets, so that a sentence depends on those before it. Loading takes 3 ms.
    """
    import _ctypes  # for dlclose: ctypes has no public way to unload

    loader = _loader()
    library = ctypes.CDLL(loader.get_library_path())
    with _short(loader.get_data_path()) as data:
        if library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _NEVER_EXIT) != _ESPEAK_RATE:
            raise RuntimeError(f"espeak-ng cannot read its data in {data}: pip install -r requirements-synthetic.txt")
        try:
            yield library
        finally:
            library.espeak_Terminate()  # ends its thread, which must not outlive the code
            _ctypes.dlclose(library._handle)


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """The path, or a link to it: espeak-ng has room for fewer than 160 characters."""
    if len(os.fsencode(path)) < 140:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "data")
        link.symlink_to(path)
        yield str(link)


def _espeak(text: str, *, voice: str, words_per_minute: int, pitch: int, pitch_range: int, seed: int) -> np.ndarray:
    """``voice`` is accent+timbre. Returns [T] float64 in [-1, 1] at 22,050 Hz."""
    chunks = []

    def collect(samples: int | None, number: int, _events: int | None) -> int:
        if samples and number > 0:
            chunks.append(ctypes.string_at(samples, 2 * number))
        return 0  # go on

    callback = _CALLBACK(collect)
    with _library() as library:
        # espeak-ng says nothing if only the timbre is missing, and takes its standard one.
        timbre = Path(_loader().get_data_path(), "voices", "!v", voice.partition("+")[2])
        if library.espeak_SetVoiceByName(f"gmw/{voice}".encode()) != 0 or not timbre.is_file():
            raise RuntimeError(f"this espeak-ng lacks the voice {voice}: pip install -r requirements-synthetic.txt")
        library.espeak_SetSynthCallback(callback)
        settings = {_RATE: words_per_minute, _VOLUME: _QUIET, _PITCH: pitch, _RANGE: pitch_range}
        for parameter, value in settings.items():
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))  # two sources of breath noise: its own, and libc's
        ctypes.CDLL(None).srand(ctypes.c_uint(seed))
        encoded = text.encode() + b"\0"
        if library.espeak_Synth(encoded, len(encoded), 0, _CHARACTERS, 0, _UTF8, None, None) != 0 or not chunks:
            raise RuntimeError(f"espeak-ng said nothing for {text!r} with the voice {voice}")
    return np.frombuffer(b"".join(chunks), dtype="<i2") / 32768


def _espeak_version() -> str:
    with _library() as library:
        library.espeak_Info.restype = ctypes.c_char_p
        return library.espeak_Info(None).decode()


# --- files -----------------------------------------------------------------------------------------------------------


def _is_there(output: Path, arguments: Mapping[str, object]) -> bool:
    """True: complete. False: nothing there, or an unfinished run with the same arguments.

    Raises:
        ValueError: other arguments, or something else is there.
    """
    if not output.exists():
        return False
    if not output.is_dir():
        raise ValueError(f"--output {output} is a file: give a new or empty folder")
    for name in (MANIFEST, _UNFINISHED):
        found = _arguments_in(output / name)
        if found is None:
            continue
        changed = [
            f"{key} {found.get(key)}, not {value}" for key, value in arguments.items() if found.get(key) != value
        ]
        if changed:
            raise ValueError(
                f"{output} was made with other arguments ({'; '.join(changed)}): delete it, or give another --output"
            )
        return name == MANIFEST
    if any(output.iterdir()):
        raise ValueError(f"{output} is not empty, and not a corpus made here: give a new or empty folder as --output")
    return False


def _arguments_in(path: Path) -> dict | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["arguments"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or somebody else's of that name
        return None


def _remove_leftovers(output: Path) -> None:
    """Temporary files of a run that was killed; their names begin with a dot."""
    for path in output.rglob(".*"):
        if path.is_file() and path.name != _UNFINISHED:
            path.unlink()


def _speakers_table(voices: Mapping[str, Mapping[str, Voice]], seconds: Mapping[str, float]) -> str:
    lines = ["; Synthetic voices by espeak-ng, not people.\n", "; ID | SEX | SUBSET | MINUTES | VOICE\n"]
    for split, table in voices.items():
        for speaker, voice in table.items():
            minutes = f"{seconds[speaker] / 60:.2f}" if speaker in seconds else "-"
            lines.append(
                f"{speaker} | {voice.sex} | {split} | {minutes} | {voice.accent}+{voice.timbre}, F0 {voice.f0:.0f} Hz "
                f"(pitch {voice.pitch}, range {voice.pitch_range}), formants x {voice.stretch:.3f}, "
                f"{voice.words_per_minute} words/min\n"
            )
    return "".join(lines)


def _write_json(path: Path, value: object) -> None:
    _write_text(path, json.dumps(value, indent=1) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
