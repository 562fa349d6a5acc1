"""The toy system from nothing: voices, encoder, codebooks, vocoder and TSELM, trained, measured and packed with a card.

`make toy`, or `python -m pretrained.toy.make --help`, from the project's root. It takes hours on a CPU. What is
finished stays finished: after Ctrl-C, or a kill, the same command goes on, and ends with the same weights. The weights
that lie beside this file were made by it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pretrained.making import Making
from utils.commands import overrides, run

METRICS = ("predicted_tokens", "talker", "dnsmos", "stoi", "estoi", "pesq", "si_sdr", "si_sdri")  # need no download
PARTS = {"wavlm_path": "wavlm", "kmeans_path": "kmeans", "hifi_gan_path": "vocoder"}  # recipes' keys, and folders
INPUTS = {"tokens": False, "continuous features": True}  # what the mixture enters TSELM as: mix_continuous
# Of TSELM's trainings, which so take four fifths of the time; one token in 200 is another. Extraction stays in fp32.
FAST_TOKENS = {"tokenizer_precision": "auto"}
SPEAKERS_AN_HOUR = 80  # twice as many as usual, of 45 s each: what is heard has to fit voices that never were


def main(argv: list[str] | None = None) -> int:
    return Toy.main(argv, about=__doc__, output="exp/toy", hours=10.0, shipped="pretrained/toy")


class Toy(Making):
    """The stages, and where each leaves what it makes.

    ``DIR/parts`` holds what is shipped, in half precision; whatever is trained on a part is trained on that very file.
    """

    def stages(self) -> dict[str, Callable[[], None]]:
        return {
            "data": lambda: self.make_data(speakers=self.speakers(SPEAKERS_AN_HOUR)),
            "mel_units": lambda: self.train("mel_units", export=True, **self.speech()),
            "encoder": self.train_encoder,
            "kmeans": lambda: self.train("kmeans", export=True, **self.speech(), wavlm_path=self.parts / "wavlm"),
            "tokens": self.tokenize,
            "unit_hifigan": lambda: self.train("unit_hifigan", export=True, part="vocoder", **self.segments()),
            "inputs": self.compare_inputs,
            "tselm": lambda: self.train("tselm", **self.lists(), **self.frozen(), **FAST_TOKENS),
            "pack": self.pack,
            "test": self.test,
            "subsets": self.measure_subsets,
            "card": self.write_card,
        }

    # -- the stages ------------------------------------------------------------------------------------------------

    def train_encoder(self) -> None:
        lists = {"train_path": self.data / "train.json", "valid_path": self.data / "dev.json"}
        self.train("encoder", export=True, part="wavlm", **lists, units_path=self.parts / "mel_units")

    def tokenize(self) -> None:
        for split in ("train", "dev"):
            run(
                "inference.py", "--tokenize", self.data / f"{split}.json", "-config", self.recipe("unit_hifigan"),
                "--output", self.folder / "tokens" / split, "-gpus", *self.devices(),
                *overrides({**self.frozen(), **self.changes_of("unit_hifigan")}),
            )  # fmt: skip

    def compare_inputs(self) -> None:
        """Short trainings at equal steps: the mixture as tokens or continuous, and frozen parts left in train mode."""
        short = {**self.lists(), **self.frozen(), "epoch": 2, "epoch_num": 1200, **FAST_TOKENS}
        for name, continuous in INPUTS.items():
            self.train("tselm", folder=f"inputs/{name.split()[0]}", mix_continuous=continuous, **short)
        self.train("tselm_awake", folder="inputs/awake", mix_continuous=False, **short)

    def pack(self) -> None:
        """Put together what is shipped: the parts, and the network in half precision."""
        import shutil

        from utils import checkpoint

        for part in PARTS.values():
            shutil.copytree(self.parts / part, self.release / part, dirs_exist_ok=True)
        best = checkpoint.load(self.folder / "tselm/ckpt/best.pth")
        best["model"] = {name: x.half() if x.is_floating_point() else x for name, x in best["model"].items()}
        checkpoint.save(self.release / "tselm.pth", best)
        size = sum(path.stat().st_size for path in self.release.rglob("*") if path.is_file())
        print(f"{size / 1e6:.1f} MB in {self.release}")

    def test(self) -> None:
        """Extract and evaluate the test mixtures, and again with the enrolment of the other talker."""
        from data.scp import read_scp, write_scp

        lists = {role: read_scp(self.data / f"test/{role}.scp") for role in ("mix_clean", "s1", "s2", "aux_s1")}
        enrolments = enrolments_of_interferers(lists["aux_s1"])
        swapped = self.folder / "test_swapped"
        for role, of in (("mix_clean", "mix_clean"), ("s1", "s2"), ("s2", "s1")):
            write_scp(swapped / f"{role}.scp", {name: lists[of][name] for name in enrolments})
        write_scp(swapped / "aux_s1.scp", enrolments)
        parts = {**self.frozen(self.release), "hifi_gan_path": self.release / "vocoder"}
        parts |= self.changes_of("tselm")
        for folder, output, more in (
            (self.data / "test", self.folder / "extracted", ["--floor-and-ceiling"]),
            (swapped, self.folder / "extracted_swapped", []),
        ):
            metrics = METRICS if more else ("talker", "stoi")
            # Intervals over the list's voices: what is wrong with one is so in all its mixtures.
            over = ("--cluster", "talker")
            where = ("-scp", folder, "-config", self.recipe("tselm"), "--output", output, "-gpus", *self.devices())
            run(
                "inference.py", *where, "-ckpt", self.release / "tselm.pth", "--save-tokens",
                *overrides(parts),
            )  # fmt: skip
            run("evaluate.py", *where, *more, *over, "--metrics", *metrics, *overrides(parts))

    def measure_subsets(self) -> None:
        """STOI of the targets' own tokens, decoded from every subset of the layers."""
        from data.scp import read_scp
        from utils.files import write_json

        files = list(read_scp(self.data / "test/s1.scp").values())[:20]
        write_json(self.folder / "subsets.json", subset_stoi(self.release, files))

    def write_card(self) -> None:
        from pretrained.toy.card import write_card

        write_card(self.release, self.folder)

    # -- the commands ----------------------------------------------------------------------------------------------

    def speech(self) -> dict[str, object]:
        return {"tr_data_scp_path": self.data / "train.json", "cv_data_scp_path": self.data / "dev.json"}

    def lists(self) -> dict[str, object]:
        dev = {"cv_mix_path": "mix_clean", "cv_ref_path": "aux_s1", "cv_clean_path": "s1"}
        found = {key: self.data / f"dev/{role}.scp" for key, role in dev.items()}
        return {"tr_data_scp_path": self.data / "train.json", **found}

    def segments(self) -> dict[str, object]:
        found = {}
        for role, split in (("train", "train"), ("valid", "dev")):
            found[f"{role}_path"] = self.data / f"{split}.json"
            found[f"{role}_tokens"] = self.folder / "tokens" / split
        return found

    def frozen(self, parts: Path | None = None) -> dict[str, object]:
        """Where a recipe finds the encoder and the codebooks."""
        parts = parts or self.parts
        return {"wavlm_path": parts / "wavlm", "kmeans_path": parts / "kmeans"}


def enrolments_of_interferers(enrolments: Mapping[str, Path]) -> dict[str, Path]:
    """For each mixture an enrolment of its other talker, from a mixture in which that one is the target.

    Mixtures are named ``target-..._interferer-....wav``.
    """
    of_speaker: dict[str, list[str]] = {}
    for name in enrolments:
        of_speaker.setdefault(name.split("-")[0], []).append(name)
    found = {}
    for number, name in enumerate(enrolments):
        others = of_speaker.get(name.split("_")[1].split("-")[0], [])
        if others:
            found[name] = enrolments[others[number % len(others)]]
    return found


def subset_stoi(parts: Path, files: list[Path]) -> list[dict[str, object]]:
    """Mean STOI over ``files`` of their own tokens, decoded from each subset of the layers, the largest first."""
    import itertools

    import numpy as np
    import torch
    from pystoi import stoi

    from data import audio
    from models.interfaces import Recording
    from models.unit_hifigan.vocoder import MISSING
    from utils.recipe import Recipe

    recipe = Recipe("config/toy/tselm.yaml", overrides=[f"{key}={parts / name}" for key, name in PARTS.items()])
    built = recipe.build("tokenizer", "vocoder", "ssl_layers")
    tokenizer, vocoder, layers = built["tokenizer"], built["vocoder"], built["ssl_layers"]
    speech = [audio.read(path) for path in files]
    tokens = [tokenizer.encode_files([Recording.of(wav)]) for wav in speech]
    rows = []
    for size in range(len(layers), 0, -1):
        for chosen in itertools.combinations(range(len(layers)), size):
            absent = torch.tensor([column not in chosen for column in range(len(layers))])
            scores = [
                stoi(wav, vocoder.decode(of_one[0].masked_fill(absent, MISSING)[None])[0, : len(wav)].numpy(), 16000)
                for wav, of_one in zip(speech, tokens, strict=True)
            ]
            rows.append({"layers": [layers[column] for column in chosen], "stoi": float(np.mean(scores))})
            print(f"layers {rows[-1]['layers']}: STOI {rows[-1]['stoi']:.3f}", flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
