"""The toy SpeechTokenizer from nothing: voices, its teacher's features, the codec, measured and packed with a card.

`make codec`, or `python -m pretrained.speechtokenizer.make --help`, from the project's root. It takes 70
minutes on two cores. What is finished stays finished: after Ctrl-C, or a kill, the same command goes on, and ends with
the same weights. The teacher is the toy's encoder (pretrained/toy/wavlm), which `make toy` makes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pretrained.making import Making
from utils.commands import overrides, run

if TYPE_CHECKING:
    import torch

    from models.speechtokenizer.codec import SpeechTokenizer

RECIPE = "config/toy/speechtokenizer.yaml"
SPEAKERS_AN_HOUR = 80  # twice as many as usual, of 45 s each
COUNTS = (1, 2, 4, 8)  # numbers of codebooks that are measured
WITHOUT = {"distill_weight": 0}
# Trainings that are compared, shorter than the codec's own: folder -> what differs.
COMPARED: Mapping[str, Mapping[str, object]] = {"distilled": {}, "plain": WITHOUT}
SHORT = {"epoch": 4, "steps": 1000}
PROBE = {"talkers": 40, "utterances": 9}


def main(argv: list[str] | None = None) -> int:
    return ToyCodec.main(argv, about=__doc__, output="exp/codec", hours=3.0, shipped="pretrained/speechtokenizer")


class ToyCodec(Making):
    """The stages, and where each leaves what it makes."""

    def stages(self) -> dict[str, Callable[[], None]]:
        return {
            "data": lambda: self.make_data(speakers=self.speakers(SPEAKERS_AN_HOUR), dev=60, test=60),
            "features": self.make_features,
            "speechtokenizer": lambda: self.train("speechtokenizer", export=True, **self.lists()),
            "pack": self.pack,
            "compared": self.compare,
            "test": self.test,
            "probe": self.probe,
            "card": self.write_card,
        }

    def make_features(self) -> None:
        """The teacher's, of all speech, once."""
        for split in ("train", "dev"):
            run(
                "-m", "models.speechtokenizer.teacher_features", self.data / f"{split}.json",
                "--output", self.features(split), "-config", RECIPE, "-gpus", *self.devices(),
                *overrides(self.changes_of("speechtokenizer")),
            )  # fmt: skip

    def compare(self) -> None:
        """The same short training with its teacher and without one."""
        for folder, keys in COMPARED.items():
            self.train("speechtokenizer", folder=f"compared/{folder}", **self.lists(), **keys, **SHORT)

    def pack(self) -> None:
        """What is shipped: the released layout, in half precision."""
        import json

        import torch

        from models.speechtokenizer.files import CONFIG, WEIGHTS
        from utils.files import whole_file, write_json

        made = self.parts / "speechtokenizer"
        state = torch.load(made / WEIGHTS, weights_only=True)
        half = {name: x.half() for name, x in state.items()}
        if broken := [name for name, x in half.items() if not x.isfinite().all()]:
            raise ValueError(f"too large for half precision: {', '.join(broken)}")
        with whole_file(self.release / WEIGHTS) as temporary:
            torch.save(half, temporary)
        write_json(self.release / CONFIG, json.loads((made / CONFIG).read_text()))
        print(f"{(self.release / WEIGHTS).stat().st_size / 1e6:.1f} MB in {self.release}")

    def test(self) -> None:
        """What each number of codebooks gives on held-out voices, and examples of it."""
        from data import audio
        from data.scp import read_scp
        from utils.files import write_json

        files = dict(list(read_scp(self.data / "test/s1.scp").items())[:40])
        codec = self.load_release()
        signals = {name: audio.read(path) for name, path in files.items()}
        scores = measure(codec, list(signals.values()))
        write_json(self.folder / "scores.json", scores)
        by_stoi = sorted(range(len(signals)), key=lambda i: scores[-1]["of_files"][i])
        median = list(signals.values())[by_stoi[len(by_stoi) // 2]]
        write_examples(self.release, codec, median)

    def probe(self) -> None:
        """What the codebooks of the codec, and of the two that are compared, say of phonemes and talkers."""
        from pretrained import probe
        from utils.files import write_json
        from utils.recipe import Recipe

        folder = self.folder / "probe"
        if not (folder / "list.scp").exists():
            probe.write_probe(folder, **PROBE)
        labels = probe.read_labels(folder)
        checkpoints = {name: self.folder / f"compared/{name}/ckpt/best.pth" for name in COMPARED}
        found = []
        for name, checkpoint in {"release": self.release_file(), **checkpoints}.items():
            where = folder / "tokens" / name
            run(
                "inference.py", "--tokenize", folder / "list.scp", "-config", RECIPE, "-ckpt", checkpoint,
                "--output", where, "-gpus", *self.devices(), *overrides(self.changes_of("speechtokenizer")),
            )  # fmt: skip
            for codebook in (0, 1):
                tokens = probe.read_tokens(where, codebook)
                row = {"codec": name, "codebook": codebook + 1, **probe.measure(tokens, labels, frame_rate=50.0)}
                print(row, flush=True)
                found.append(row)
        keys = [f"{key}={value}" for key, value in self.changes_of("speechtokenizer").items()]
        recipe = Recipe(RECIPE, overrides=keys)
        teacher, clusters = recipe.build("teacher")["teacher"], recipe.get("codebook_size")
        tokens = probe.teacher_tokens(folder / "list.scp", teacher, clusters)
        found.append({"codec": "teacher", "codebook": "–", **probe.measure(tokens, labels, frame_rate=50.0)})
        write_json(self.folder / "probe.json", found)

    def write_card(self) -> None:
        from pretrained.speechtokenizer.card import write_card

        write_card(self.release, self.folder)

    # -- what they share ---------------------------------------------------------------------------------------------

    def lists(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for role, split in (("train", "train"), ("valid", "dev")):
            found |= {f"{role}_path": self.data / f"{split}.json", f"{role}_features": self.features(split)}
        return found

    def features(self, split: str) -> Path:
        return self.folder / "features" / split

    def release_file(self) -> Path:
        from models.speechtokenizer.files import WEIGHTS

        return self.release / WEIGHTS

    def load_release(self) -> SpeechTokenizer:
        from models import load_model

        changes = [f"{key}={value}" for key, value in self.changes_of("speechtokenizer").items()]
        return load_model(RECIPE, self.release_file(), device="cpu", overrides=changes)


def measure(codec: SpeechTokenizer, signals: Sequence[np.ndarray]) -> list[dict[str, object]]:
    """Of each number of codebooks the bits a second, and the means of STOI and of the distance of log-mel spectra."""
    from pystoi import stoi

    from models.speechtokenizer.losses import Reconstruction

    mel = Reconstruction(mel_weights=[1], mel_sizes=[1024], mel_hops=[240])
    rows = []
    for count in (k for k in COUNTS if k <= codec.num_codebooks):
        pairs = [(wav, resynthesise(codec, wav, count)) for wav in signals]
        of_files = [float(stoi(wav, made.numpy(), codec.sample_rate)) for wav, made in pairs]
        distances = [float(mel(made[None], _tensor(wav)[None])[1]["mel"]) for wav, made in pairs]
        bits = codec.sample_rate / codec.hop_length * count * np.log2(codec.vocab_size)
        rows.append(
            {
                "codebooks": count,
                "bits_per_second": float(bits),
                "stoi": float(np.mean(of_files)),
                "mel": float(np.mean(distances)),
                "of_files": of_files,
            }
        )
        print(f"{count} codebooks: STOI {rows[-1]['stoi']:.3f}, mel {rows[-1]['mel']:.3f}", flush=True)
    return rows


def resynthesise(codec: SpeechTokenizer, wav: np.ndarray, codebooks: int) -> torch.Tensor:
    """[T] -> [T], from its tokens of the first ``codebooks``."""
    return codec.decode(codec.encode(_tensor(wav)[None])[..., :codebooks], length=len(wav))[0]


def write_examples(release: Path, codec: SpeechTokenizer, wav: np.ndarray) -> None:
    """One recording and what numbers of codebooks make of it, to hear and to see."""
    from data import audio
    from evaluation.media import draw_spectrograms

    made = {count: resynthesise(codec, wav, count).numpy() for count in COUNTS if count <= codec.num_codebooks}
    titles = {count: f"{count} codebook{'s' * (count > 1)}" for count in made}
    draw_spectrograms(release / "example.png", {"speech": wav, **{titles[k]: x for k, x in made.items()}})
    audio.write(release / "examples/speech.flac", wav)
    for count, signal in made.items():
        audio.write(release / f"examples/{count}.flac", signal.clip(-1, 1))


def _tensor(wav: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.asarray(wav, np.float32))


if __name__ == "__main__":
    sys.exit(main())
