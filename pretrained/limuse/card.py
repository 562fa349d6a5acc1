"""The card of the toy of LiMuSE, from the files that its making left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import format
from evaluation.media import draw_spectrograms
from pretrained.cards import draw_curve, file_rows, how_made, last_valid, read_log, section, weights, write_log
from pretrained.limuse.measure import APART, LONG_SECONDS
from utils.files import write_text
from utils.machine import device_name

CURVES = {"limuse": "full precision", "quantised": "3-bit weights, 8-bit activations"}
GOAL = 8.0  # dB, of talkers with distinct directions
TITLES = {
    "all cues": "all cues",
    "no voiceprint": "no voiceprint (zeros)",
    "no face": "no face (zeros)",
    "neither": "neither: nothing says who is meant",
    "wrong voiceprint, face": "the other talker's voiceprint, the right face",
    "wrong voiceprint, no face": "the other talker's voiceprint, no face",
    "second microphone silent": "second microphone silent",
    "second microphone like the first": "second microphone like the first",
    "second microphone 3 dB quieter": "second microphone 3 dB quieter",
    "channels swapped": "channels swapped",
    "3.5 cm": "3.5 cm between the microphones (trained with 7)",
    "14 cm": "14 cm between the microphones",
    "30 dB quieter": "the recording 30 dB quieter",
    "quantised": "all cues, quantised",
}

HEAD = """# A toy of LiMuSE

One of two talkers before two microphones 7 cm apart, by where he is, his voiceprint, and what stands for his face
({size:.1f} MB with its speaker encoder), trained by this project's own recipes on {talkers} synthetic voices
(espeak-ng) in the open with `make limuse`. It shows that both stages train and what each cue gives. It knows no real
speech, no room and **no faces**: what it has seen are levels of the target's sound in five bands, which tell more than
lips would. Its numbers compare with nothing else.

```bash
python inference.py -scp LISTS -config config/toy/limuse.yaml -ckpt pretrained/limuse/limuse.pth \\
  --override visual_dim=32 --output OUT
python inference.py -scp LISTS -config config/toy/limuse_quantised.yaml \\
  -ckpt pretrained/limuse/limuse_packed.safetensors --override visual_dim=32 --output OUT
```

LISTS: a folder that `data.prepare.two_microphones --visual-dim 32` made. The speaker encoder is a linear discriminant
over layer 4 of the toy's WavLM (`pretrained/toy/wavlm`), fitted to the training voices; of the test voices, the nearest
voiceprint is of the same talker in {told:.1f} % of utterances.
"""


def write_card(release: Path, folder: Path) -> None:
    """Write ``README.md``, its picture, examples and the trainings' logs into ``release``.

    Args:
        release: the files that are shipped.
        folder: where make.py made them: stages.json, the logs, what measure.py left.
    """
    import torch

    logs = {name: read_log(folder / f"{name}/log/metrics.jsonl") for name in CURVES}
    for name, what in CURVES.items():
        draw_curve(release / f"curves/{name}.svg", logs[name], "si_sdri", title=f"SI-SDR improvement (dB): {what}")
        write_log(release / f"logs/{name}.jsonl", logs[name])
    found = json.loads((folder / "test/results.json").read_text())
    draw_example(release, folder / "test/examples")
    data = json.loads((folder / "data/synthetic.json").read_text())
    head = HEAD.format(
        size=sum(path.stat().st_size for path in weights(release)) / 1e6, talkers=data["train"]["speakers"],
        told=found["talkers_told"],
    )  # fmt: skip
    rows, signs = found["rows"], found["signs"]
    count = rows["all cues"]["count"]
    parts = [
        head,
        *section("What comes of it", improvement_rows(found)),
        f"SI-SDR improvement over the first microphone, of {count} mixtures of held-out voices and sentences; the "
        "target is up to 5 dB louder or quieter. Brackets: 95 % bootstrap intervals over the mixtures. Followed: % of "
        "mixtures with an improvement above 0.",
        "",
        *section("Talkers whose directions differ", direction_rows(found)),
        f"Apart: the talkers' delays between the microphones differ by {APART:g} sample or more "
        f"({found['apart']['all cues']['count']} of {count}). {against_goal(found['apart']['all cues'])} "
        f"Of the second microphone the network has learned little: without it {lost(rows):.1f} dB are lost.",
        "",
        *section(f"Recordings of {LONG_SECONDS} s", long_rows(found["long"])),
        f"{found['long']['whole']['count']} mixtures of the test talkers, with their voiceprints and faces, in windows "
        "of 12 s that overlap by 1 s. Seams: 0.2 s on either side; between: as much in the middle of windows; both "
        "where the target speaks.",
        "",
        f"Signs: {signs['upright']} of {signs['of']} outputs have the mixture's sign, and no mean is above "
        f"{signs['largest_mean_db']:.0f} dB of its output's rms.",
        "",
        *section("What it costs", cost_rows(found)),
        f"Seconds of one thread for a second of sound, 3 s at a time, on {device_name(torch.device('cpu'))}, with "
        "whatever else that machine did. Rounded weights and activations are computed in fp32: they make the file "
        f"small, not the work. The packed file gives the quantised checkpoint's output (largest difference "
        f"{found['packed_difference']:g}).",
        "",
        "One mixture, to hear in `examples/`:",
        "",
        "![spectrograms of a mixture, its target, and what was extracted](example.png)",
        "",
        *section("The trainings, at their best, on dev", valid_rows(logs)),
        how_made(folder, device_name(torch.device("cpu"))),
        "",
        *[f"![{name}](curves/{name}.svg)" for name in CURVES],
        "",
        "The lines of the trainings' logs: " + ", ".join(f"[{name}](logs/{name}.jsonl)" for name in CURVES) + ".",
        "",
        *section("Files", file_rows(release)),
    ]
    write_text(release / "README.md", "\n".join(parts))


def improvement_rows(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [["", "SI-SDRi (dB)", "followed (%)"]]
    for name, title in TITLES.items():
        rows.append([title, format.mean(found["rows"][name], "dB"), f"{found['followed'][name]:.1f}"])
    return rows


def direction_rows(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [["", "apart (dB)", "alike (dB)"]]
    for name, row in found["apart"].items():
        rows.append([TITLES[name], format.mean(row, "dB"), format.mean(found["alike"][name], "dB")])
    return rows


def against_goal(row: Mapping[str, Any]) -> str:
    missing = GOAL - row["mean"]
    if missing <= 0:
        return f"With all cues they are above the {GOAL:g} dB that were aimed at."
    return f"They are {missing:.1f} dB below the {GOAL:g} dB that were aimed at."


def lost(rows: Mapping[str, Any]) -> float:
    return rows["all cues"]["mean"] - rows["second microphone silent"]["mean"]


def long_rows(found: Mapping[str, Any]) -> list[list[str]]:
    return [["", "SI-SDRi (dB)"], *([name, format.mean(row, "dB")] for name, row in found.items())]


def cost_rows(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [["", "parameters", "MB", "million multiplications a second", "real-time factor"]]
    for name, cost in found["costs"].items():
        row = [f"{cost['parameters']:,}", f"{cost['size_bytes'] / 1e6:.2f}", f"{cost['macs'] / 1e6:.0f}"]
        rows.append([name, *row, f"{found['speed'][name]:.3f}"])
    return rows


def valid_rows(logs: Mapping[str, Sequence[Mapping]]) -> list[list[str]]:
    rows = [["training", "steps", "SI-SDRi (dB) at the best", "at the end"]]
    for name, log in logs.items():
        best = max(line["si_sdri"] for line in log if line["kind"] == "valid")
        last = last_valid(log)
        rows.append([CURVES[name], f"{last['step']}", f"{best:.2f}", f"{last['si_sdri']:.2f}"])
    return rows


def draw_example(release: Path, examples: Path) -> None:
    """Sounds and picture of one mixture."""
    from data import audio

    shutil.copytree(examples, release / "examples", dirs_exist_ok=True)
    names = ("mixture", "target", "extracted", "with the other voice")
    signals = {name: audio.read(examples / f"{name.replace(' ', '_')}.flac") for name in names}
    draw_spectrograms(release / "example.png", signals)
