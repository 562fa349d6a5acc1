"""Models of the hub: what is fetched of one, and where to put it by hand."""

from __future__ import annotations

import json

import huggingface_hub
import pytest

from data.prepare.fetch import Ledger
from data.prepare.hub import fetch_model, is_model, model_size
from tests.data.prepare.file_server import CLOSED, serve_hub, set_endpoint

MODEL = "microsoft/wavlm-large"


@pytest.mark.parametrize("safe", [True, False])
def test_settings_and_one_file_of_weights(server, out, monkeypatch, safe):
    weights = ["pytorch_model.bin", *(["model.safetensors"] if safe else [])]
    serve_hub(server, monkeypatch, ["README.md", "config.json", "preprocessor_config.json", "tf_model.h5", *weights])
    chosen = "model.safetensors" if safe else "pytorch_model.bin"
    wanted = sorted(["config.json", "preprocessor_config.json", chosen])
    assert model_size(MODEL) == sum(map(len, wanted)) and not is_model(out / "wavlm")
    fetch_model(MODEL, out / "wavlm", Ledger(out))
    assert sorted(p.name for p in (out / "wavlm").iterdir() if p.is_file()) == wanted and is_model(out / "wavlm")
    record = json.loads((out / "sha256.json").read_text())
    assert list(record) == [f"wavlm/{name}" for name in wanted]
    assert all(entry["address"].startswith(f"{server.address}/{MODEL}/resolve/0123") for entry in record.values())
    set_endpoint(monkeypatch, CLOSED)
    fetch_model(MODEL, out / "wavlm", Ledger(out))  # it is there
    (out / "wavlm" / chosen).write_bytes(b"other")
    with pytest.raises(ValueError, match="records"):
        fetch_model(MODEL, out / "wavlm", Ledger(out))


def test_out_of_reach_says_where_to_put_the_model(server, out, monkeypatch):
    set_endpoint(monkeypatch, CLOSED)
    assert model_size(MODEL) is None
    with pytest.raises(OSError, match="HF_ENDPOINT") as error:
        fetch_model(MODEL, out / "wavlm", Ledger(out))
    assert f"{CLOSED}/{MODEL}" in str(error.value) and str(out / "wavlm") in str(error.value)
    (out / "wavlm").mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "pytorch_model.bin"):
        (out / "wavlm" / name).write_bytes(b"")
    fetch_model(MODEL, out / "wavlm", Ledger(out))


def test_without_weights_is_an_error(server, out, monkeypatch):
    serve_hub(server, monkeypatch, ["README.md", "config.json"])
    with pytest.raises(OSError, match="no config.json with"):
        fetch_model(MODEL, out / "wavlm", Ledger(out))


def test_hub_that_goes_away_in_between_is_an_error(server, out, monkeypatch):
    def goes_away(*args, dry_run=False, **kwargs):
        return real(*args, dry_run=True, **kwargs) if dry_run else str(out)

    real = huggingface_hub.snapshot_download
    serve_hub(server, monkeypatch, ["config.json", "pytorch_model.bin"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", goes_away)
    with pytest.raises(OSError, match="not all files arrived"):
        fetch_model(MODEL, out / "wavlm", Ledger(out))
