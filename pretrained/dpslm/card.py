"""The card of the toy of DP-SLM, from the files that its making left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import format
from evaluation.bitrate_figure import draw
from evaluation.media import draw_spectrograms
from pretrained.cards import draw_curve, file_rows, how_made, last_valid, read_log, section, weights, write_log
from utils.files import write_text
from utils.machine import device_name

# training -> what its loss is
CURVES = {"unit_lm": "nats a unit", "acoustic": "nats a code, EOP or EOS"}
ERROR = "phonemes not told (%)"

HEAD = """# A toy of DP-SLM

Duration-penalised units, a language model of them, and an acoustic model that says them ({size:.1f} MB, half
precision), trained by this project's own recipes on {talkers} synthetic voices (espeak-ng) with `make units`. It shows
that every part trains and what each does. It knows no real speech, and its numbers compare with nothing else. **Its
voice is invented, and differs from sample to sample**: nothing here knows who speaks.

```bash
python inference.py --resynthesise LIST -config config/toy/dpslm_resynthesis.yaml \\
  -ckpt pretrained/dpslm/acoustic.pth --output OUT
python inference.py --continue LIST -config config/toy/dpslm_unit_lm.yaml \\
  -ckpt pretrained/dpslm/unit_lm.pth --output MORE
```

Units: layer 2 of the toy's encoder (`pretrained/toy/wavlm`), {clusters} clusters, lmbda {lmbda:g}. Codes: the first
codebook of the toy codec (`pretrained/speechtokenizer`), the one that its training leads to hold what is said. A
WavTokenizer that was trained is not small enough to be shipped; with one codebook the toy codec's own STOI is 0.63,
which nothing here can pass.
"""


def write_card(release: Path, folder: Path) -> None:
    """Write ``README.md``, its pictures, examples and the trainings' logs into ``release``.

    Args:
        release: the files that are shipped.
        folder: where make.py made them: stages.json, the logs, what measure.py left.
    """
    import torch

    from utils.recipe import Recipe

    logs = {name: read_log(folder / f"{name}/log/metrics.jsonl") for name in CURVES}
    for name, what in CURVES.items():
        draw_curve(release / f"curves/{name}.svg", logs[name], "loss", title=f"{name}: {what}")
        write_log(release / f"logs/{name}.jsonl", logs[name])
    test = folder / "test"
    found = {name: json.loads((test / f"{name}.json").read_text()) for name in ("settings", "unit_error", "borders")}
    pairs = json.loads((test / "scores/pairs.json").read_text())
    write_text(release / "bitrates.svg", draw(found["settings"], error=ERROR))
    example = draw_example(release, test)
    recipe = Recipe("config/toy/dpslm_units.yaml")
    data = json.loads((folder / "data/synthetic.json").read_text())
    head = HEAD.format(
        size=sum(path.stat().st_size for path in weights(release)) / 1e6, talkers=data["train"]["speakers"],
        clusters=recipe.get("num_clusters"), lmbda=recipe.get("lmbda"),
    )  # fmt: skip
    parts = [
        head,
        *section("Units: bits and phonemes", bitrate_rows(found["settings"])),
        "Of held-out voices and sentences, 0.1 of the clusters allowed to a frame. Phonemes: of the frames of other "
        "talkers, how many a linear classifier does not tell from the units around them; talkers: of further "
        "utterances, whose talker one tells from how often each unit occurs (of 12).",
        "",
        "![bitrate against error](bitrates.svg)",
        "",
        *section("Which word order is likelier", pair_rows(pairs)),
        f"{pairs['pairs']} sentences that no training has, in held-out voices, against the same words in a wrong "
        "order: all of them scrambled, or two neighbours swapped. Share in % whose right member scores higher; equal "
        f"scores ({pairs['equal']}) count one half. A coin has 50. Brackets: 95 % bootstrap intervals over the pairs.",
        "",
        *section("What comes back", unit_rows(found["unit_error"])),
        f"Units of what is said again against those of the recording, for {found['unit_error']['codec']['count']} "
        "utterances of held-out voices: insertions, deletions and exchanges, over the units. One codebook of the codec "
        "loses most of them, also where the codes are the recording's own. No recogniser was at hand for word errors.",
        "",
        *section("The voice over the borders of pieces", border_rows(found["borders"])),
        "Distance of mean cepstra of 1.5 s on either side, each coefficient divided by its deviation, where long "
        "sequences are said in pieces of 60 units: with 20 units of the piece before as context, without, and in the "
        "middle of pieces.",
        "",
        f"One utterance ({example}), said again, and continued; to hear in `examples/`:",
        "",
        "![spectrograms of speech, of its units said again, and of a continuation](example.png)",
        "",
        *section("The trainings, at their end, on dev", valid_rows(logs)),
        "Dev is of voices and sentences that the training has not.",
        "",
        how_made(folder, device_name(torch.device("cpu"))),
        "",
        *[f"![{name}](curves/{name}.svg)" for name in CURVES],
        "",
        "The lines of the trainings' logs: " + ", ".join(f"[{name}](logs/{name}.jsonl)" for name in CURVES) + ".",
        "",
        *section("Files", file_rows(release)),
    ]
    write_text(release / "README.md", "\n".join(parts))


def bitrate_rows(settings: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["K", "lmbda", "units a second", "bit/s", ERROR, "talkers told (%)"]]
    for row in settings:
        numbers = (f"{row['units_per_second']:.1f}", f"{row['bitrate']:.0f}", f"{row['error']:.1f}")
        rows.append([f"{row['num_clusters']}", f"{row['lmbda']:g}", *numbers, f"{row['talkers']:.1f}"])
    return rows


def pair_rows(pairs: Mapping[str, Any]) -> list[list[str]]:
    rows = [["pairs", "count", "log-likelihood", "log-likelihood a unit"]]
    for name, row in pairs["accuracy"].items():
        rows.append([name, f"{row['pairs']}", format.mean(row["sum"], "%"), format.mean(row["mean"], "%")])
    return rows


def unit_rows(errors: Mapping[str, Any]) -> list[list[str]]:
    titles = {
        "resynthesised": "the toy",
        "codec": "its codec alone: the recording's own codes",
        "another": "another utterance: chance",
    }
    return [["", "unit error (%)"], *([titles[name], format.mean(row, "%")] for name, row in errors.items())]


def border_rows(borders: Mapping[str, Any]) -> list[list[str]]:
    titles = {"context": "border, with context", "none": "border, without", "within": "within a piece"}
    rows = [["", "distance", "places"]]
    return [*rows, *([titles[name], format.mean(row, ""), f"{row['count']}"] for name, row in borders.items())]


def valid_rows(logs: Mapping[str, Sequence[Mapping]]) -> list[list[str]]:
    rows = [["training", "steps", "loss", "nats a second of speech"]]
    for name, log in logs.items():
        valid = last_valid(log)
        rows.append([name, f"{valid['step']}", f"{valid['loss']:.3f}", f"{valid['loss_per_second']:.1f}"])
    return rows


def draw_example(release: Path, test: Path) -> str:
    """Sounds and pictures of the first utterance; returns its name."""
    from data import audio
    from data.scp import read_scp

    name, path = next(iter(read_scp(test / "said.scp").items()))
    name = Path(name).stem
    signals = {
        "speech": audio.read(path),
        "said again": audio.read(test / f"resynthesised/{name}.wav"),
        "continued": audio.read(test / f"continued/{name}.wav"),
    }
    for title, wav in signals.items():
        audio.write(release / f"examples/{title.replace(' ', '_')}.flac", wav)
    draw_spectrograms(release / "example.png", signals)
    return name
