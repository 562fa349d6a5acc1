from __future__ import annotations

import pytest

from pretrained import demo
from tests.toy import call, in_this_process


@pytest.mark.slow
def test_it_runs_to_its_end_with_the_shipped_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(demo, "run", in_this_process)
    size = ("--mixtures", "2", "--hours", "0.01", "--steps", "1")
    done = call("pretrained/demo.py", "--output", tmp_path, *size)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split("== what 2 mixtures gave")[1]
    assert "STOI" in said and "as shipped" in said and "after 1 steps" in said and "after 3 steps" in said
    assert (tmp_path / "example.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "extracted/report.html").is_file()


def test_without_weights_it_says_how_to_get_them(tmp_path) -> None:
    done = call("pretrained/demo.py", "--output", tmp_path / "out", "--toy", tmp_path / "nowhere")
    assert done.returncode == 2 and "nowhere/tselm.pth" in done.stderr and "make toy" in done.stderr
    assert not (tmp_path / "out").exists()
