"""NISQA, against torchmetrics."""

from __future__ import annotations

import hashlib
import shutil
import threading

import pytest
import torch
from huggingface_hub import constants
from torchmetrics.functional.audio import nisqa as torchmetrics_nisqa

from data.prepare import fetch
from evaluation import nisqa
from evaluation.metric import Signals, Unavailable, Unscorable
from evaluation.nisqa import NISQA
from tests.data.prepare.file_server import Served, Server
from tests.speech_models import RATE, loaded, tone


def test_nisqa_is_that_of_torchmetrics(nisqa_tar, home) -> None:
    (home / ".torchmetrics/NISQA").mkdir(parents=True)
    shutil.copy(nisqa_tar, home / ".torchmetrics/NISQA")
    wav = tone(0, 16000)
    expected = torchmetrics_nisqa.non_intrusive_speech_quality_assessment(torch.tensor(wav), RATE).tolist()
    assert min(abs(a - b) for i, a in enumerate(expected) for b in expected[:i]) > 1e-4
    names = ["nisqa_mos", "nisqa_noisiness", "nisqa_discontinuity", "nisqa_coloration", "nisqa_loudness"]
    for source in (None, str(nisqa_tar), str(nisqa_tar.parent)):
        metric = loaded(NISQA(source=source))
        score = metric.score(Signals(wav))
        assert score == {name: pytest.approx(value, abs=1e-6) for name, value in zip(names, expected, strict=True)}
        assert list(score) == [column.name for column in metric.columns]
        assert list(metric.models.values()) == [hashlib.sha256(nisqa_tar.read_bytes()).hexdigest()]
    assert metric.needs == () and metric.columns[0].title == "NISQA"


def test_nisqa_keeps_its_weights_where_torchmetrics_does() -> None:
    assert nisqa._FOLDER == torchmetrics_nisqa.NISQA_DIR


@pytest.mark.parametrize("length, why", [(1600, "too short"), (5 * RATE, "exceeded")])
def test_nisqa_of_a_file_too_short_or_too_long(nisqa_tar, length: int, why: str) -> None:
    with pytest.raises(Unscorable, match=f"NISQA.*{why}"):
        loaded(NISQA(source=str(nisqa_tar))).score(Signals(tone(0, length)))


def test_nisqa_offline_is_an_error_that_names_the_place(home) -> None:
    path = home / ".torchmetrics/NISQA/nisqa.tar"
    with pytest.raises(Unavailable, match=f"not found at {path}, and this is offline.*nisqa.tar or.* with --nisqa$"):
        NISQA(flag="--nisqa")
    with pytest.raises(Unavailable, match=f"not found at {home}/nisqa.tar"):
        NISQA(source=str(home))
    with pytest.raises(Unavailable, match=f"not found at {home}/other.tar"):
        NISQA(source=f"{home}/other.tar")


def test_nisqa_refuses_other_weights(nisqa_tar, tmp_path) -> None:
    path = tmp_path / "nisqa.tar"
    path.write_bytes(nisqa_tar.read_bytes()[:-1000])
    with pytest.raises(Unavailable, match=f"cannot load NISQA from {path}"):
        loaded(NISQA(source=str(path)))
    checkpoint = torch.load(nisqa_tar, weights_only=True)
    del checkpoint["model_state_dict"]["pool_layers.4.model.linear3.bias"]
    torch.save(checkpoint, path)
    with pytest.raises(Unavailable, match="pool_layers.4.model.linear3.bias") as error:
        loaded(NISQA(source=str(path)))
    assert "\n" not in str(error.value)


@pytest.fixture
def server(monkeypatch):
    """A server in place of the one that has the weights, and no waiting for another attempt."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    with Server() as server:
        monkeypatch.setattr(nisqa, "_ADDRESS", f"{server.address}/nisqa.tar")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_nisqa_is_fetched_once(nisqa_tar, home, server) -> None:
    server.files["/nisqa.tar"] = Served(nisqa_tar.read_bytes())
    first = loaded(NISQA()).score(Signals(tone(0)))
    assert (home / ".torchmetrics/NISQA/nisqa.tar").read_bytes() == nisqa_tar.read_bytes()
    server.asked.clear()
    assert loaded(NISQA()).score(Signals(tone(0))) == first and server.asked == []


@pytest.mark.parametrize("fault", ["cut", "absent", "page"])
def test_nisqa_that_does_not_arrive_leaves_nothing_under_its_name(nisqa_tar, home, server, fault: str) -> None:
    path = home / ".torchmetrics/NISQA/nisqa.tar"
    if fault == "cut":
        server.files["/nisqa.tar"] = Served(nisqa_tar.read_bytes(), ranges=False, cut=[100] * 20)
    elif fault == "page":
        server.files["/nisqa.tar"] = Served(b"<html>log in</html>", {"Content-Type": "text/html"})
    with pytest.raises(Unavailable, match=f"not found at {path}: cannot fetch {server.address}/nisqa.tar") as error:
        NISQA()
    assert "\n" not in str(error.value) and server.asked and not path.exists()
