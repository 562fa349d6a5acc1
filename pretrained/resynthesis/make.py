"""The toy of speech resynthesis from nothing: voices, units, F0, its quantiser, the vocoder, measured, with a card.

`make voices`, or `python -m pretrained.resynthesis.make --help`, from the project's root. What is finished stays
finished: after Ctrl-C, or a kill, the same command goes on, and ends with the same weights. The units are those of the
toy's encoder (pretrained/toy/wavlm), which `make toy` makes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pretrained.making import Making
from utils.commands import overrides, run

VOCODER = "config/toy/resynthesis.yaml"
SPEAKERS = 24  # of three minutes each, all of which the vocoder learns
FEWER = {"dev": 24, "test": 24}  # mixtures, which nothing here hears
RULE = "parent_parent_name"  # who speaks: TALKER/CHAPTER/FILE.flac
LAYER, UNITS = 2, 50
SPLITS = ("train", "val", "test")
SHARES = {"valid": 0.04, "test": 0.1}


def main(argv: list[str] | None = None) -> int:
    return ToyVoices.main(argv, about=__doc__, output="exp/resynthesis", hours=1.2, shipped="pretrained/resynthesis")


class ToyVoices(Making):
    """The stages, and where each leaves what it makes."""

    def stages(self) -> dict[str, Callable[[], None]]:
        return {
            "data": lambda: self.make_data(speakers=SPEAKERS, **FEWER),
            "kmeans": self.make_codebook,
            "units": self.make_units,
            "f0": self.track_f0,
            "f0_vqvae": lambda: self.train("f0_vqvae", export=True, **self.contours()),
            "resynthesis": self.train_vocoder,
            "pack": self.pack,
            "test": self.test,
            "card": self.write_card,
        }

    def make_codebook(self) -> None:
        speech = {"tr_data_scp_path": self.data / "train.json", "cv_data_scp_path": self.data / "dev.json"}
        layers = {"ssl_layers": f"[{LAYER}]", "num_clusters": UNITS, "wavlm_path": "pretrained/toy/wavlm"}
        self.train("kmeans", export=True, **speech, **layers)

    def make_units(self) -> None:
        """Units of all speech, and the manifests of three parts that share all talkers and no utterance."""
        tokens = self.folder / "tokens"
        changes = {"kmeans_path": self.parts / "kmeans", "f0_stats": "null", **self.changes_of("resynthesis")}
        run(
            "inference.py", "--tokenize", self.data / "train.json", "-config", VOCODER, "--output", tokens,
            "-gpus", *self.devices(), *overrides(changes),
        )  # fmt: skip
        run(
            "-m", "data.prepare.units", "--utterances", self.data / "train.json", "--tokens", tokens,
            "--output", self.manifests, "--speaker_from", RULE,
            *(text for name, share in SHARES.items() for text in (f"--{name}", share)),
        )  # fmt: skip

    def track_f0(self) -> None:
        """Contours of all speech, and the talkers' statistics, which are of what is trained on."""
        for splits, statistics in ((SPLITS[1:], self.folder / "held_out_f0.json"), (SPLITS[:1], self.statistics)):
            run(
                "-m", "data.prepare.f0", "--manifest", *(self.manifests / f"{split}.txt" for split in splits),
                "--output", self.folder / "f0", "--statistics", statistics, "--speaker_from", RULE,
            )  # fmt: skip

    def train_vocoder(self) -> None:
        parts = {"kmeans_path": self.parts / "kmeans", "f0_quantizer_path": self.parts / "f0_vqvae"}
        self.train("resynthesis", export=True, **self.contours(), **parts)

    def pack(self) -> None:
        """What is shipped: checkpoint and k-means in half precision, the quantiser, statistics and names."""
        import shutil

        from utils import checkpoint

        shutil.copytree(self.parts / "kmeans", self.release / "kmeans", dirs_exist_ok=True)
        shutil.copy(self.statistics, self.release / "f0_stats.json")
        best = checkpoint.load(self.folder / "resynthesis/ckpt/best.pth")
        best["model"] = {
            name: x.half() if x.is_floating_point() and ".quantizer." not in name else x
            for name, x in best["model"].items()
        }
        checkpoint.save(self.release / "vocoder.pth", best)
        size = sum(path.stat().st_size for path in self.release.rglob("*") if path.is_file())
        print(f"{size / 1e6:.1f} MB in {self.release}")

    def test(self) -> None:
        """Held-out utterances in their own voice, and one of each talker in all voices."""
        from pretrained.resynthesis.measure import measure

        told = {"recipe": VOCODER, "devices": self.devices(), "changes": self.changes_of("resynthesis")}
        measure(self.folder, self.release, manifests=self.manifests, **told)

    def write_card(self) -> None:
        from pretrained.resynthesis.card import write_card

        write_card(self.release, self.folder)

    # -- what they share -----------------------------------------------------------------------------------------------

    @property
    def manifests(self) -> Path:
        return self.folder / "manifests"

    @property
    def statistics(self) -> Path:
        return self.folder / "f0_stats.json"

    def contours(self) -> dict[str, object]:
        return {
            "train_path": self.manifests / "train.txt",
            "valid_path": self.manifests / "val.txt",
            "f0_stats": self.statistics,
            "f0_cache": self.folder / "f0",
        }


if __name__ == "__main__":
    sys.exit(main())
