"""The card of the toy codec: what it is, how it was made and how well it does, from the files that its making left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pretrained.cards import draw_curve, file_rows, how_made, last_valid, read_log, section, weights, write_log
from utils.files import write_text
from utils.machine import device_name

# metric -> what it is
CURVES = {
    "mel": "distance of log-mel spectra",
    "distill": "-log sigmoid of the cosine with the teacher (0.31 is perfect, 0.69 nothing)",
    "commitment": "mean square of what the codebooks leave",
    "usage": "codes in use, %",
}
CODECS = {
    "release": "this codec",
    "distilled": "short training, with its teacher",
    "plain": "the same without one",
    "teacher": "k-means of the teacher's features, as many centres as a codebook has codes",
}

HEAD = """# A toy SpeechTokenizer

A SpeechTokenizer of toy size ({size:.1f} MB, half precision), trained by this project's own recipe on synthetic voices
(espeak-ng) with `make codec`. It shows that every part trains and what the method does: the first codebook learns from
a teacher, so that it says more of what is spoken and less of who speaks. It knows no real speech, and its numbers
compare with nothing else. It was trained without discriminators.

```bash
python inference.py --resynthesise LIST --config_path config/toy/speechtokenizer.yaml \\
  -ckpt pretrained/speechtokenizer/SpeechTokenizer.pt --output OUT --override codebooks=4
```
"""


def write_card(release: Path, folder: Path) -> None:
    """Write ``README.md``, its curves and the training's log into ``release``.

    Args:
        release: the files that are shipped.
        folder: where make.py made them: stages.json, the logs, scores.json, probe.json.
    """
    import torch

    log = read_log(folder / "speechtokenizer/log/metrics.jsonl")
    valid = last_valid(log)
    for metric, what in CURVES.items():
        draw_curve(release / f"curves/{metric}.svg", log, metric, title=f"{metric}: {what}")
    write_log(release / "logs/speechtokenizer.jsonl", log)
    scores, probed = (json.loads((folder / f"{name}.json").read_text()) for name in ("scores", "probe"))
    compared = {
        name: last_valid(read_log(folder / f"compared/{name}/log/metrics.jsonl")) for name in ("distilled", "plain")
    }
    parts = [
        HEAD.format(size=sum(path.stat().st_size for path in weights(release)) / 1e6),
        *section("What it gives, by the number of codebooks (held-out voices)", score_rows(scores)),
        "The file of median STOI, to hear in `examples/` and to see:",
        "",
        "![spectrograms of the speech and of what 1, 2, 4 and 8 codebooks make of it](example.png)",
        "",
        *section("What the tokens of a codebook tell", probe_rows(probed)),
        "Phonemes: frames of held-out talkers whose phoneme a linear classifier tells from the tokens two frames "
        "before, of, and two frames after it. Information: mutual information of token and phoneme, as a part of the "
        "phonemes' entropy. Talkers: utterances whose talker, one of 40, one tells from how often each token occurs. "
        "Phonemes and talkers are known from the synthesis. " + verdict(probed),
        "",
        *section("The two that are compared, at the end of equally many steps, on dev", compared_rows(compared)),
        *section("The training, at its end, on dev", valid_rows(valid)),
        how_made(folder, device_name(torch.device("cpu"))),
        "",
        *[f"![{metric}](curves/{metric}.svg)" for metric in CURVES],
        "",
        "The lines of the training's log: [speechtokenizer](logs/speechtokenizer.jsonl).",
        "",
        *section("Files", file_rows(release)),
    ]
    write_text(release / "README.md", "\n".join(parts))


def score_rows(scores: Sequence[Mapping]) -> list[list[str]]:
    lines = [["codebooks", "bit/s", "STOI", "mel distance"]]
    return lines + [
        [f"{row['codebooks']}", f"{row['bits_per_second']:.0f}", f"{row['stoi']:.3f}", f"{row['mel']:.3f}"]
        for row in scores
    ]


def probe_rows(probed: Sequence[Mapping]) -> list[list[str]]:
    lines = [["codec", "codebook", "phonemes, %", "information, %", "talkers, %"]]
    return lines + [
        [CODECS[row["codec"]], f"{row['codebook']}", *(f"{row[k]:.1f}" for k in ("phonemes", "information", "talkers"))]
        for row in probed
    ]


def verdict(probed: Sequence[Mapping]) -> str:
    """Whether the first codebook is split off as the method wants it, in words."""
    first = {row["codec"]: row for row in probed if row["codebook"] in (1, "–")}
    more, less = first["distilled"], first["plain"]
    content = more["phonemes"] - less["phonemes"]
    talker = more["talkers"] - less["talkers"]
    why = ""
    if (teacher := first.get("teacher")) and not content > 0 > talker:
        why = (
            f" The teacher itself does not split them: clusters of its features tell {teacher['talkers']:.1f} % of the "
            f"talkers, and what a codebook learns of it, it learns of both."
        )
    return (
        f"With the teacher, the first codebook tells {abs(content):.1f} points {'more' if content > 0 else 'fewer'} of "
        f"the phonemes and {abs(talker):.1f} points {'fewer' if talker < 0 else 'more'} of the talkers than without: "
        + ("the split that the method is for." if content > 0 > talker else "not the split that the method is for.")
        + why
    )


def compared_rows(compared: Mapping[str, Mapping]) -> list[list[str]]:
    lines = [["training", "steps", "mel", "l1", "distill"]]
    for name, row in compared.items():
        told = [f"{row['distill']:.3f}" if row.get("distill") is not None else "–"]
        lines.append([CODECS[name], f"{row['step']}", f"{row['mel']:.3f}", f"{row['l1']:.4f}", *told])
    return lines


def valid_rows(valid: Mapping) -> list[list[str]]:
    names = ("mel", "l1", "commitment", "distill", "cosine", "usage", "perplexity", "usage_rvq_1", "perplexity_rvq_1")
    return [["measure", "value"], ["steps", f"{valid['step']}"]] + [[n, f"{valid[n]:.4g}"] for n in names if n in valid]
