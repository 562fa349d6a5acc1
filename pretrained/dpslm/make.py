"""The toy of DP-SLM from nothing: voices, codebooks, units and codes, both language models, measured, with a card.

`make units`, or `python -m pretrained.dpslm.make --help`, from the project's root. What is finished stays finished:
after Ctrl-C, or a kill, the same command goes on, and ends with the same weights. The units are of the toy's encoder
(pretrained/toy/wavlm), the codes of the toy codec (pretrained/speechtokenizer).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pretrained.making import Making
from utils.commands import overrides, run

UNITS, CODEC = "config/toy/dpslm_units.yaml", "config/toy/dpslm_codec.yaml"
UNIT_LM, SPEECH = "config/toy/dpslm_unit_lm.yaml", "config/toy/dpslm_resynthesis.yaml"
SPEAKERS = 24
FEWER = {"dev": 24, "test": 24}  # mixtures, of which only the single talkers are heard here
CLUSTERS = (50, 100, 200)  # K of the codebooks whose bitrates are measured; the models are of the second
SHIPPED = 100
LAYER = 2
PARTS = ("train", "dev")


def main(argv: list[str] | None = None) -> int:
    return ToyUnits.main(argv, about=__doc__, output="exp/dpslm", hours=6.0, shipped="pretrained/dpslm")


class ToyUnits(Making):
    """The stages, and where each leaves what it makes."""

    def stages(self) -> dict[str, Callable[[], None]]:
        return {
            "data": lambda: self.make_data(speakers=SPEAKERS, **FEWER),
            "codebook": lambda: self.make_codebook(SHIPPED),
            "units": self.make_units,
            "codes": self.make_codes,
            "unit_lm": lambda: self.train("dpslm_unit_lm", folder="unit_lm", **self.tokens("units")),
            "acoustic": lambda: self.train(
                "dpslm_acoustic", folder="acoustic", **self.tokens("units"), **self.tokens("codes")
            ),
            "codebooks": lambda: [self.make_codebook(k) for k in CLUSTERS if k != SHIPPED],
            "pack": self.pack,
            "test": self.test,
            "card": self.write_card,
        }

    def make_codebook(self, num_clusters: int) -> None:
        keys = {
            "tr_data_scp_path": self.data / "train.json", "cv_data_scp_path": self.data / "dev.json",
            "wavlm_path": "pretrained/toy/wavlm", "ssl_layers": f"[{LAYER}]", "num_clusters": num_clusters,
            "num_workers": 1, "tr_utterances": 2000, "crop_length": 80000, "batch_size": 64, "batch_size_eval": 64,
            "accumulate": 1,
        }  # fmt: skip
        where = self.folder / f"k{num_clusters}"
        changes = {**keys, "gpus": self.gpus, **self.changes_of("codebook")}
        run(
            "train.py", "--config_path", "config/dpslm/codebook.yaml", "--log", where / "log",
            "--ckpt_path", where / "ckpt", "--export", self.codebook(num_clusters), *overrides(changes),
        )  # fmt: skip

    def make_units(self) -> None:
        self.tokenise(UNITS, "units", {"codebook_path": self.codebook(SHIPPED), **self.changes_of("dpslm_units")})

    def make_codes(self) -> None:
        self.tokenise(CODEC, "codes", {})

    def tokenise(self, recipe: str, what: str, changes: dict[str, object]) -> None:
        for part in PARTS:
            run(
                "inference.py", "--tokenize", self.data / f"{part}.json", "-config", recipe,
                "--output", self.folder / what / part, "-gpus", *self.devices(), *overrides(changes),
            )  # fmt: skip

    def pack(self) -> None:
        """What is shipped: the codebook, and both models in half precision, which keep what made their units."""
        import shutil

        from utils import checkpoint

        shutil.copytree(self.codebook(SHIPPED), self.release / "codebook", dirs_exist_ok=True)
        for name in ("unit_lm", "acoustic"):
            best = checkpoint.load(self.folder / name / "ckpt/best.pth")
            best["model"] = {n: x.half() if x.is_floating_point() else x for n, x in best["model"].items()}
            checkpoint.save(self.release / f"{name}.pth", best)
        size = sum(path.stat().st_size for path in self.release.rglob("*") if path.is_file())
        print(f"{size / 1e6:.1f} MB in {self.release}")

    def test(self) -> None:
        """Bitrates, the pairs, and what comes back of units that were said."""
        from pretrained.dpslm.measure import measure

        measure(self.folder, self.release, data=self.data, codebooks={k: self.codebook(k) for k in CLUSTERS},
                devices=self.devices())  # fmt: skip

    def write_card(self) -> None:
        from pretrained.dpslm.card import write_card

        write_card(self.release, self.folder)

    # -- what they share -----------------------------------------------------------------------------------------------

    def codebook(self, num_clusters: int) -> Path:
        return self.parts / f"codebook_{num_clusters}"

    def tokens(self, what: str) -> dict[str, Path]:
        return {
            f"{part}_{what}": self.folder / what / name for part, name in zip(("train", "valid"), PARTS, strict=True)
        }


if __name__ == "__main__":
    sys.exit(main())
