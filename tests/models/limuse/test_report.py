"""What a network costs, against the published table."""

from __future__ import annotations

import json

import pytest

from models.limuse import report
from models.limuse.report import main

RAW = {"groups": "null", "context_codec": "false", "filter_length": "16"}


@pytest.mark.parametrize(
    ("values", "parameters", "macs", "published"),
    [
        ({}, 1122947, 6989961216, 7503309184),
        ({"groups": 32}, 406147, 3461129216, 3969260544),
        ({"context_codec": "false"}, 970075, 11067249664, 11764868352),
        ({"cues": "[visual]"}, 601539, 3591409664, 4024331264),
        ({"cues": "[voiceprint]", "groups": 32}, 245987, 1807820800, 2236793088),
        (RAW, 8947237, 52506539008, 52985765248),
        ({**RAW, "channels": 1}, 8945189, 52494253056, 52973479296),
    ],
)
def test_rows_of_the_published_table(capsys, values: dict, parameters: int, macs: int, published: int) -> None:
    overrides = [part for key, value in values.items() for part in ("--override", f"{key}={value}")]
    assert main(["--config_path", "config/limuse.yaml", "--json", *overrides]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["parameters"], found["macs"]) == (parameters, macs)
    assert abs(found["macs_published"] / published - 1) < 1e-3
    assert found["size_bytes"] == 4 * parameters and found["quantised_tensors"] == 0


def test_quantised_sizes(capsys) -> None:
    assert main(["--config_path", "config/limuse_quantised.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["quantised_parameters"], found["quantised_tensors"]) == (1101888, 160)
    assert abs(found["size_bytes"] / 2**20 - 0.4756) < 1e-4


def test_people_read_it_too(capsys) -> None:
    assert main(["--config_path", "config/limuse.yaml", "--seconds", "1"]) == 0
    assert "1,122,947" in capsys.readouterr().out
    assert main(["--config_path", "config/limuse.yaml", "--seconds", "0"]) == 2
    assert "--seconds" in capsys.readouterr().err


def test_no_values_are_made(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(report, "costs", lambda network, **_: seen.append(network) or {"parameters": 0})
    main(["--config_path", "config/limuse.yaml", "--json"])
    assert all(p.is_meta for p in seen[0].parameters())
