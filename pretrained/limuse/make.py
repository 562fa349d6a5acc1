"""The toy of LiMuSE from nothing: voices, a speaker encoder, pairs before two microphones, both stages, and a card.

`make limuse`, or `python -m pretrained.limuse.make --help`, from the project's root. What is finished stays finished:
after Ctrl-C, or a kill, the same command goes on, and ends with the same weights. The speaker encoder stands on the
toy's encoder (pretrained/toy/wavlm).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pretrained.making import Making
from utils.commands import overrides, run

TALKERS = 160
DEV_TEST = {"dev": 100, "test": 200}  # Libri2Mix-like mixtures, of which only the single talkers are heard here
PAIRS = {"train": 6000, "dev": 100, "test": 200}
VOICEPRINT = 64  # numbers; those of the recipe
FACE = 32  # numbers of a frame; the stand-in has five levels to tell
SIZES = ("num_filters", "filter_length", "groups", "context_hidden", "context_layers", "layers", "voiceprint_dim")
RECIPE, QUANTISED = "config/toy/limuse.yaml", "config/toy/limuse_quantised.yaml"


def main(argv: list[str] | None = None) -> int:
    return ToyLiMuSE.main(argv, about=__doc__, output="exp/limuse", hours=4.0, shipped="pretrained/limuse")


class ToyLiMuSE(Making):
    """The stages, and where each leaves what it makes."""

    def stages(self) -> dict[str, Callable[[], None]]:
        return {
            "data": lambda: self.make_data(speakers=TALKERS, **DEV_TEST),
            "speaker_encoder": self.make_speaker_encoder,
            "pairs": self.make_pairs,
            "voiceprints": self.make_voiceprints,
            "limuse": lambda: self.train("limuse", folder="limuse", **self.keys()),
            "quantised": self.train_quantised,
            "pack": self.pack,
            "test": self.test,
            "card": self.write_card,
        }

    def make_speaker_encoder(self) -> None:
        from data.speakers import read_index
        from pretrained.limuse.voiceprints import make_encoder

        voices = read_index(self.data / "train.json")
        dim = int(self.sizes().get("voiceprint_dim", VOICEPRINT))
        make_encoder(self.encoder(), "pretrained/toy/wavlm", voices, dim=dim)

    def make_pairs(self) -> None:
        for seed, (part, count) in enumerate(self.pairs().items()):
            run(
                "-m", "data.prepare.two_microphones", "--speakers", self.data / f"{part}.json",
                "--output", self.folder / "pairs" / part, "--mixtures", count, "--seed", seed, "--visual-dim", FACE,
            )  # fmt: skip

    def make_voiceprints(self) -> None:
        for part in PAIRS:
            run(
                "-m", "models.limuse.voiceprints", self.folder / "pairs" / part, "--output", self.lists(part),
                "--config_path", RECIPE, "-gpus", *self.devices(), *overrides({**self.encoder_keys(), **self.sizes()}),
            )  # fmt: skip

    def train_quantised(self) -> None:
        where = self.folder / "quantised"
        changes = {**self.keys(), "gpus": self.gpus, **self.changes_of("limuse_quantised")}
        run(
            "train.py", "--config_path", QUANTISED, "--log", where / "log", "--ckpt_path", where / "ckpt",
            "--init", self.folder / "limuse/ckpt/best.pth", "--export", self.parts / "packed", *overrides(changes),
        )  # fmt: skip

    def pack(self) -> None:
        """What is shipped: the speaker encoder, the first stage in half precision, and the second one packed."""
        import shutil

        from utils import checkpoint

        shutil.rmtree(self.release, ignore_errors=True)  # of an earlier attempt
        shutil.copytree(self.encoder(), self.release / "speaker_encoder")
        best = checkpoint.load(self.folder / "limuse/ckpt/best.pth")
        best["model"] = {n: x.half() if x.is_floating_point() else x for n, x in best["model"].items()}
        checkpoint.save(self.release / "limuse.pth", best)
        shutil.copyfile(self.parts / "packed/limuse.safetensors", self.release / "limuse_packed.safetensors")
        size = sum(path.stat().st_size for path in self.release.rglob("*") if path.is_file())
        print(f"{size / 1e6:.1f} MB in {self.release}")

    def test(self) -> None:
        """Extraction with all cues, without each, with wrong ones, and from recordings of other kinds."""
        from pretrained.limuse.measure import measure

        measure(
            self.folder / "test", self.release, unpacked=self.folder / "quantised/ckpt/best.pth", data=self.data,
            pairs=self.folder / "pairs/test",
            lists=self.lists("test"), count=self.pairs()["test"], devices=self.devices(), sizes=self.sizes(),
        )  # fmt: skip

    def write_card(self) -> None:
        from pretrained.limuse.card import write_card

        write_card(self.release, self.folder)

    # -- what they share -----------------------------------------------------------------------------------------------

    def pairs(self) -> dict[str, int]:
        """So many mixtures of each part; fewer of little speech."""
        share = min(self.hours / 4.0, 1.0)
        return {part: max(round(count * share), 8) for part, count in PAIRS.items()}

    def encoder(self) -> Path:
        return self.parts / "speaker_encoder"

    def encoder_keys(self) -> dict[str, object]:
        return {"speaker_encoder_path": self.encoder()}

    def sizes(self) -> dict[str, str]:
        """Of the network, where they are not the recipe's; both stages have them."""
        changed = {key: value for key, value in self.changes_of("limuse").items() if key in SIZES}
        return {"visual_dim": str(FACE), **changed}

    def lists(self, part: str) -> Path:
        return self.folder / "lists" / part

    def keys(self) -> dict[str, object]:
        lists = {"tr_data_path": self.lists("train"), "cv_data_path": self.lists("dev")}
        return {**self.encoder_keys(), **self.sizes(), **lists}


if __name__ == "__main__":
    sys.exit(main())
