"""The card of the toy of speech resynthesis, from the files that its making left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation import format
from evaluation.curves import curves_svg
from evaluation.media import draw_spectrograms
from pretrained.cards import draw_curve, file_rows, how_made, last_valid, read_log, section, weights, write_log
from utils.files import write_text
from utils.machine import device_name

# training -> metric -> what it is
CURVES = {
    "f0_vqvae": {"mse": "mean squared error of the normalised contour"},
    "resynthesis": {"mel": "distance of log-mel spectra"},
}
WAYS = {"kept": "F0 kept", "flat": "F0 flat: all frames 0"}
UNITS_A_SECOND, F0_CODES_A_SECOND = 50, 12.5

HEAD = """# A toy of speech resynthesis

Units, F0 and voice, taken apart and put together again ({size:.1f} MB, half precision), trained by this project's own
recipes on {talkers} synthetic voices (espeak-ng) with `make voices`. It shows that every part trains and what the
method does: the same words and intonation, in any of the voices. It knows no real speech, and its numbers compare with
nothing else. The vocoder was trained without discriminators.

```bash
python inference.py --resynthesise LIST -config config/toy/resynthesis.yaml \\
  -ckpt pretrained/resynthesis/vocoder.pth --output OUT --speaker {voice}
```

Bitrate: {bits:.1f} bit/s: {units} units need {unit_bits} bits {units_a_second} times a second, and {codes} codes of F0
{code_bits} bits {codes_a_second} times.
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
    for name, metrics in CURVES.items():
        for metric, what in metrics.items():
            draw_curve(release / f"curves/{name}.svg", logs[name], metric, title=f"{name}: {what}")
        write_log(release / f"logs/{name}.jsonl", logs[name])
    summaries = {way: json.loads((folder / way / "summary.json").read_text()) for way in WAYS}
    conversion = json.loads((folder / "conversion.json").read_text())
    example = draw_example(release, folder, conversion["pairs"])
    recipe = Recipe("config/toy/resynthesis.yaml")
    units, codes = recipe.get("num_units"), recipe.get("f0_codes")
    unit_bits, code_bits = ((count - 1).bit_length() for count in (units, codes))
    talkers = sorted({pair["target"] for pair in conversion["pairs"]})
    head = HEAD.format(
        size=sum(path.stat().st_size for path in weights(release)) / 1e6,
        talkers=len(talkers), voice=talkers[0], units=units, codes=codes, unit_bits=unit_bits, code_bits=code_bits,
        units_a_second=UNITS_A_SECOND, codes_a_second=F0_CODES_A_SECOND,
        bits=unit_bits * UNITS_A_SECOND + code_bits * F0_CODES_A_SECOND,
    )  # fmt: skip
    parts = [
        head,
        *section("Held-out utterances in their own voice", resynthesis_rows(summaries)),
        f"{summaries['kept']['scored']} utterances of the talkers that were trained on; none of the utterances was. "
        "VDE: share of frames that are voiced in one of the two only; FFE: that, or F0 off by a fifth. With flat F0, "
        "what is left of it comes from the units. Brackets: 95 % bootstrap intervals over files.",
        "",
        *section("In another voice", conversion_rows(conversion)),
        f"{len(conversion['pairs'])} pairs: an utterance of each of "
        f"{len({pair['source'] for pair in conversion['pairs']})} talkers in the voices of all others. Timbre: "
        "distance of the means of 19 cepstral coefficients over frames that are not quiet, each divided by its "
        "deviation over all recordings. F0: distance of the means of log F0. A talker's own means are of its "
        "other held-out recordings. Brackets: 95 % bootstrap intervals over the source talkers.",
        "",
        f"One utterance of {example['source']}, resynthesised, and in the voice of {example['target']}; to hear in "
        "`examples/`:",
        "",
        "![spectrograms of speech, of its resynthesis, and of it in another voice](example.png)",
        "",
        "![F0 of the three](contours.svg)",
        "",
        *section("The trainings, at their end, on dev", valid_rows(logs)),
        how_made(folder, device_name(torch.device("cpu"))),
        "",
        *[f"![{name}](curves/{name}.svg)" for name in CURVES],
        "",
        "The lines of the trainings' logs: " + ", ".join(f"[{name}](logs/{name}.jsonl)" for name in CURVES) + ".",
        "",
        *section("Files", file_rows(release)),
    ]
    write_text(release / "README.md", "\n".join(parts))


def resynthesis_rows(summaries: Mapping[str, Mapping]) -> list[list[str]]:
    rows = [["measure", *WAYS.values()]]
    for name, column in summaries["kept"]["metrics"].items():
        means = [summaries[way]["metrics"][name]["systems"]["extracted"] for way in WAYS]
        title = format.heading(column["title"], unit=column["unit"], better=column["better"])
        rows.append([title, *(format.mean(mean, column["unit"]) for mean in means)])
    return rows


def conversion_rows(conversion: Mapping) -> list[list[str]]:
    rows = [["", "nearer to the target than to the source, %", "distance to the target", "to the source"]]
    for what, title in (("timbre", "timbre"), ("semitones", "F0, in semitones")):
        keys = (f"{what}_nearer", f"{what}_to_target", f"{what}_to_source")
        rows.append(
            [title, *(format.mean(conversion[key], unit) for key, unit in zip(keys, ("%", "", ""), strict=True))]
        )
    return rows


def valid_rows(logs: Mapping[str, Sequence[Mapping]]) -> list[list[str]]:
    rows = [["training", "steps", "measure", "value"]]
    for name, log in logs.items():
        valid = last_valid(log)
        for metric in ("mse", "commit", "used_codes", "mel"):
            if metric in valid:
                rows.append([name, f"{valid['step']}", metric, f"{valid[metric]:.4g}"])
    return rows


def draw_example(release: Path, folder: Path, pairs: Sequence[Mapping]) -> Mapping:
    """A pair whose talkers are as far apart in F0 as three quarters of the pairs are: sounds and pictures of it."""
    from data import audio
    from data.pitch import HOP, SAMPLE_RATE, PitchTracker
    from data.scp import read_scp

    by_distance = sorted(pairs, key=lambda pair: pair["semitones_to_source"])
    pair = by_distance[3 * len(by_distance) // 4]
    sources = read_scp(folder / "test/sources.scp")
    name = next(name for name in sources if Path(sources[name]).parent.parent.name == pair["source"])
    signals = {
        "speech": audio.read(sources[name]),
        "resynthesised": audio.read(folder / f"kept/{name}.wav"),
        f"in the voice of {pair['target']}": audio.read(folder / f"converted/{pair['target']}/{name}.wav"),
    }
    for title, wav in zip(("speech", "resynthesised", "converted"), signals.values(), strict=True):
        audio.write(release / f"examples/{title}.flac", wav)
    draw_spectrograms(release / "example.png", signals)
    tracker = PitchTracker()
    curves = {}
    for title, wav in signals.items():
        f0 = tracker(wav, what=title).f0
        hertz = np.where(f0 > 0, f0, np.nan)
        curves[title] = [(frame * HOP / SAMPLE_RATE, float(value)) for frame, value in enumerate(hertz)]
    text = curves_svg(curves, title=f"F0 of {name}", x_title="seconds", y_title="Hz")
    write_text(release / "contours.svg", text)
    return pair
