"""The files that the page shows: which they are, and what is said of them."""

from __future__ import annotations

import soundfile as sf

from evaluation.examples import choose
from evaluation.items import Item
from evaluation.page import write_page
from tests.report import Page, column, report, voice


def test_an_example_is_headed_by_the_metric_that_chose_it(tmp_path) -> None:
    """Its heading was the bare number of the last metric: ``best 45.16129032258065``."""
    summary, _, _ = report()
    summary["metrics"] = {
        "stoi": column("STOI", extracted=0.8),
        "token_error": column("Token error", "%", extracted=50),
    }
    rows, items = [], []
    for name, stoi, error in (("a", 0.7, 100 * 14 / 31), ("b", 0.9, 100 * 15 / 31), ("c", 0.8, 100 * 16 / 31)):
        path = tmp_path / f"{name}.wav"
        sf.write(path, voice(0.5), 16000)
        rows.append({"name": name, "extracted": {"stoi": stoi, "token_error": error}})
        stored = {kind: tmp_path / f"no {kind}" for kind in ("ceiling", "predicted", "tokens")}
        items.append(Item(name, path, {"mixture": path, "target": path}, stored))
    examples = choose(summary, rows, items, by="stoi")
    assert [(x.name, x.why, x.value) for x in examples] == [
        ("b", "best", "STOI 0.900"),
        ("c", "median", "STOI 0.800"),
        ("a", "worst", "STOI 0.700"),
    ]
    assert examples[0].scores == {"STOI": "0.900", "Token error (%)": "48.4"}
    write_page(tmp_path / "report.html", summary, rows, examples)
    text = Page(tmp_path / "report.html").text
    assert "best STOI 0.900" in text and "worst STOI 0.700" in text and "48.3870" not in text
