"""What an evaluation found, made up: for the tests of its reports."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from evaluation.page import Example
from evaluation.statistics import in_words

NASTY = '<script>alert(1)</script>&"x"'


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of a few harmonics, with some noise."""
    time = np.arange(round(16000 * seconds)) / 16000
    wav = sum(np.sin(2 * np.pi * 140 * n * time) / n for n in range(1, 30)) * np.sin(2 * np.pi * 1.5 * time) ** 2
    return (0.2 * wav + 0.01 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def column(title: str, unit: str = "", better: str = "higher", metric: str = "m", **means: float) -> dict:
    systems = {
        name: {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "count": 38, "failed": 0}
        for name, mean in means.items()
    }
    definition = f"Exactly how {title} is computed, with every detail that changes the number."
    models = {"an/encoder": "5c" * 32}
    return {
        "title": title,
        "definition": definition,
        "better": better,
        "unit": unit,
        "metric": metric,
        "models": models,
        "systems": systems,
    }


def report() -> tuple[dict, list[dict], list[Example]]:
    """Summary, rows and examples with everything in them."""
    rng = np.random.default_rng(0)
    metrics = {
        "si_sdr": column("SI-SDR", "dB", metric="si_sdr", extracted=-12.312, mixture=0.004),
        "stoi": column("STOI", metric="stoi", extracted=0.8124, mixture=0.7131, ceiling=0.9302),
        "dwer": column("dWER", better="lower", metric="dwer", extracted=0.2973, mixture=0.7924, ceiling=0.101),
        "token_error": column("Token error", "%", "lower", metric="tokens", extracted=61.34),
    }
    metrics["stoi"]["systems"]["extracted"]["failed"] = 2
    rows = []
    for index in range(38):
        row = {"name": f"{index}.wav", "failed": {"extracted": {"stoi": "too short"}} if index < 2 else {}}
        for system in ("extracted", "mixture", "ceiling"):
            of = {name: result["systems"].get(system) for name, result in metrics.items()}
            row[system] = {name: float(rng.normal(result["mean"], 0.1)) for name, result in of.items() if result}
            row[system]["dwer"] = [int(rng.integers(0, 9)), 11]
        rows.append(row)
    problems = [{"name": NASTY, "problem": f"no output: {NASTY}.wav"}, {"name": "b.wav", "problem": "is silent"}]
    examples = [
        Example(
            name=NASTY if why == "worst" else f"{why}-61-70968-0000_8455-210777-0012.wav",
            why=why,
            value="STOI 0.871",
            signals={
                role: voice(seconds, seed) for seed, role in enumerate(("mixture", "enrolment", "target", "extracted"))
            },
            scores={"SI-SDR (dB)": "9.31", "STOI": "0.871", "dWER": "0.250"},
        )
        for why, seconds in (("best", 3.2), ("median", 5.0), ("worst", 17.5))
    ]
    examples[0].signals["ceiling"] = voice(0.9)
    published = {
        "columns": ["STOI", "dWER"],
        "keys": ["stoi", "dwer"],
        "rows": [["Theirs", None, 0.297]],
        "source": "Quoted from a paper.",
    }
    run = {"device": "NVIDIA H200", "processes": 2, "threads": 1, "files": 40, "audio_seconds": 310.2}
    run |= {"work_seconds_per_second": 0.41, "wall_seconds_per_second": 0.22}
    run |= {"peak_memory_bytes": 1.2e9, "peak_gpu_bytes": None}
    summary = {
        "folder": "exp/out",
        "lists": "data/test",
        "files": 40,
        "scored": 38,
        "problems": problems + [{"name": f"{n}.wav", "problem": "no output"} for n in range(100, 160)],
        "systems": ["extracted", "mixture", "ceiling"],
        "metrics": metrics,
        "unavailable": {"nisqa": f"weights not found at {'/a/very/long/path' * 6}/nisqa.tar"},
        "interval": in_words(),
        "remark": "SI-SDR compares sample by sample.",
        "codebooks": {
            "layer_1": {"extracted": {"used": 0.431, "perplexity": 17.2}, "target": {"used": 0.5, "perplexity": 20.0}}
        },
        "speed": [run],
        "published": published,
        "versions": {"torch": "2.11.0"},
    }
    return summary, rows, examples


def bare() -> tuple[dict, list[dict], list[Example]]:
    """The same of one file, with everything left out that may be."""
    summary, rows, _ = report()
    summary |= {"problems": [], "systems": ["extracted"], "unavailable": {}, "remark": "", "codebooks": {}, "speed": []}
    summary |= {"metrics": {"stoi": column("STOI", extracted=0.8)}, "files": 1, "scored": 1, "versions": {}}
    summary["metrics"]["stoi"]["systems"]["extracted"] |= {"low": None, "high": None, "count": 1}
    summary["published"] = {"columns": [], "keys": [], "rows": [], "source": ""}
    return summary, [{"name": "a.wav", "extracted": {"stoi": 0.8}}], []


class Page(HTMLParser):
    """What a page says (``text``, its pieces joined by spaces), and what it would load."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.loads, self.pieces = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.text = " ".join(" ".join(self.pieces).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset", "poster", "data")]

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.pieces.append(data)
