"""The system for people's voices from nothing: natural voices, recordings, all parts trained and measured, a card.

`make people`, or `python -m pretrained.people.make --help`, from the project's root. It takes hours on a CPU. What is
finished stays finished: after Ctrl-C, or a kill, the same command goes on, and ends with the same weights. The parts
are those of the toy (pretrained/toy/make.py); what they hear is not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pretrained.making import flags
from pretrained.toy.make import FAST_TOKENS, Toy
from utils.commands import overrides, run
from utils.recipe import Recipe

SPEAKERS_AN_HOUR = 80
DEV_TEST = {"dev": 40, "test": 160}  # mixtures of natural voices; of these, talkers a quarter
RECORDED = {"dev": 40, "test": 120}  # mixtures of recordings
METRICS = (
    "predicted_tokens", "talker", "dnsmos", "stoi", "estoi", "presence", "resemblyzer", "dwer_tiny", "si_sdri",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    return People.main(argv, about=__doc__, output="exp/people", hours=2.0, shipped="pretrained/people")


class People(Toy):
    """The stages, and where each leaves what it makes. ``DIR/data`` holds the lists of what both sources have."""

    def stages(self) -> dict[str, Callable[[], None]]:
        return {
            "voices": self.make_voices,
            "recordings": self.make_recordings,
            "data": self.join_data,
            "mel_units": lambda: self.train("mel_units", export=True, **self.speech()),
            "encoder": self.train_encoder,
            "kmeans": lambda: self.train("kmeans", export=True, **self.speech(), wavlm_path=self.parts / "wavlm"),
            "tokens": self.tokenize,
            "unit_hifigan": lambda: self.train("unit_hifigan", export=True, part="vocoder", **self.segments()),
            "tselm": lambda: self.train("tselm", **self.lists(), **self.frozen(), **FAST_TOKENS),
            "pack": self.pack,
            "test": self.test,
            "card": self.write_card,
        }

    # -- the stages ------------------------------------------------------------------------------------------------

    def make_voices(self) -> None:
        run(
            "-m", "data.prepare.synthetic", "--voices", "natural", "--output", self.sets()["natural"],
            "--hours", self.hours, "--speakers", self.speakers(SPEAKERS_AN_HOUR), *flags(DEV_TEST),
        )  # fmt: skip

    def make_recordings(self) -> None:
        run("-m", "data.prepare.recordings", "--output", self.sets()["recordings"], *flags(RECORDED))

    def join_data(self) -> None:
        """Training talkers and dev mixtures of both sources, and enrolments of talkers who are not in the mixtures."""
        from data.scp import read_scp, write_scp
        from data.speakers import read_index, write_speakers

        folders = self.sets().values()
        for split in ("train", "dev"):
            write_speakers(self.data / f"{split}.json", joined(read_index(f / f"{split}.json") for f in folders))
        for role in ("mix_clean", "s1", "s2", "aux_s1"):
            lists = joined(read_scp(folder / f"dev/{role}.scp") for folder in folders)
            write_scp(self.data / f"dev/{role}.scp", lists)
        for folder, output in (
            (self.data / "dev", self.data / "dev_absent"),
            *((folder / "test", self.absent_lists(name)) for name, folder in self.sets().items()),
        ):
            run("-m", "data.prepare.absent", folder, "--output", output)

    def test(self) -> None:
        """Extract and evaluate the test mixtures of both sources, also with enrolments of talkers who are not there."""
        parts = {**self.frozen(self.release), "hifi_gan_path": self.release / "vocoder", **self.changes_of("tselm")}
        for name, folder in self.sets().items():
            for lists, output in (
                (folder / "test", self.extracted(name)),
                (self.absent_lists(name), self.extracted(f"{name}_absent")),
            ):
                run(
                    "inference.py", "-scp", lists, "-config", self.recipe("tselm"), "-ckpt", self.release / "tselm.pth",
                    "--output", output, "-gpus", *self.devices(), "--save-tokens", *overrides(parts),
                )  # fmt: skip
            run(
                "evaluate.py", "-scp", folder / "test", "-config", self.recipe("tselm"), "-gpus", *self.devices(),
                "--output", self.extracted(name), "--absent", self.extracted(f"{name}_absent"),
                "--floor-and-ceiling", "--cluster", "talker", "--metrics", *METRICS, *overrides(parts),
            )  # fmt: skip

    def write_card(self) -> None:
        from pretrained.people.card import write_card

        write_card(self.release, self.folder, self.sets(), self.recipe)

    # -- what they share -------------------------------------------------------------------------------------------

    def train(self, recipe: str, **keys: Any) -> None:
        """With as many epochs as the recipe's steps take, where it has any: how much speech there is decides it."""
        known = Recipe(self.recipe(recipe))
        super().train(recipe, **({"epoch": self.epochs(known)} if "steps" in known else {}), **keys)

    def epochs(self, recipe: Recipe) -> int:
        from data.speakers import read_index

        wanted = recipe.build("steps", "batch_size")
        utterances = sum(map(len, read_index(self.data / "train.json").values()))
        return -(-wanted["steps"] * wanted["batch_size"] // utterances)

    def recipe(self, name: str) -> str:
        own = Path(f"config/people/{name}.yaml")
        return str(own) if own.exists() else super().recipe(name)

    def lists(self) -> dict[str, object]:
        return {**super().lists(), "cv_absent_path": self.data / "dev_absent/aux_s1.scp"}

    def sets(self) -> dict[str, Path]:
        """Sources of speech, by name."""
        return {name: self.folder / name for name in ("natural", "recordings")}

    def absent_lists(self, name: str) -> Path:
        return self.folder / "absent" / name

    def extracted(self, name: str) -> Path:
        return self.folder / "extracted" / name


def joined(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All entries of several tables.

    Raises:
        ValueError: two have the same name.
    """
    found: dict[str, Any] = {}
    for table in tables:
        if twice := found.keys() & table.keys():
            raise ValueError(f"two sources have entries of the same name: {', '.join(sorted(twice)[:3])}")
        found |= table
    return found


if __name__ == "__main__":
    sys.exit(main())
