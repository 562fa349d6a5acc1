"""Finding and loading pretrained models: every way in which it can fail is one line that says where and what to do."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import socket
import threading
from logging import Handler

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertModel
from transformers.utils import logging

from evaluation.metric import Unavailable
from evaluation.pretrained import Pretrained, one_line
from tests.data.prepare.file_server import CLOSED, Server, serve_hub, set_endpoint

ID = "someone/some-hubert"
CLASSES = {"hubert": "HubertModel"}
LOST = "encoder.layers.0.attention.q_proj.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hubert")
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7)
    torch.manual_seed(0)
    model = HubertModel(HubertConfig(num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, **sizes))
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture(autouse=True)
def hub_cache(monkeypatch, tmp_path):
    """An empty cache of the hub; no name may be looked up but this machine's."""
    cache, asked, real = tmp_path / "hub-cache", [], socket.getaddrinfo

    def look_up(host, *args, **kwargs):
        if host != "127.0.0.1":
            asked.append(host)
            raise OSError("there is no network in tests")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield cache
    assert asked == []


@pytest.fixture
def server():
    disable_progress_bars()
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    enable_progress_bars()


def serve_model(server, monkeypatch, names) -> None:
    serve_hub(server, monkeypatch, names, repository=ID)
    for path, served in server.files.items():
        if path.endswith("/config.json"):
            served.body = json.dumps({"model_type": "hubert"}).encode()
        elif "/tree/" in path:
            tree = json.loads(served.body)
            next(entry for entry in tree if entry["path"] == "config.json")["size"] = len('{"model_type": "hubert"}')
            served.body = json.dumps(tree).encode()


def test_a_folder_is_used_as_it_is(folder) -> None:
    model = Pretrained(str(folder), classes=CLASSES)
    assert model.folder == folder
    assert model.digest == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_model_is_in_eval_mode_and_fp32_whatever_the_file_has(folder) -> None:
    weights = {key: value.half() for key, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config))
    model = pickle.loads(pickle.dumps(Pretrained(str(folder), classes=CLASSES))).load("cpu")
    assert not any(module.training for module in model.modules())
    for key, value in model.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, weights[key].float())


def test_loading_is_quiet_and_leaves_the_settings_of_logging(folder, capfd) -> None:
    """Of weights that have no place in the model, transformers would make a report."""
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"head.weight": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    model, told = Pretrained(str(folder), classes=CLASSES), []
    handler, verbosity, bar = Handler(), logging.get_verbosity(), logging.is_progress_bar_enabled()
    handler.emit = told.append
    logging.add_handler(handler)
    try:
        for level, show in (
            (logging.INFO, logging.enable_progress_bar),
            (logging.WARNING, logging.disable_progress_bar),
        ):
            logging.set_verbosity(level)
            show()
            shown = logging.is_progress_bar_enabled()
            model.load("cpu")
            assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, shown)
    finally:
        logging.remove_handler(handler)
        logging.set_verbosity(verbosity)
        (logging.enable_progress_bar if bar else logging.disable_progress_bar)()
    assert told == [] and capfd.readouterr() == ("", "")


def test_the_older_format_and_names_of_weights(folder) -> None:
    """Checkpoints of the hub are pickles, with the names that weight norm had before parametrizations; not all have the
    weight that only training needs."""
    weights = load_file(folder / "model.safetensors")
    del weights["masked_spec_embed"]
    part = "parametrizations.weight.original"
    old = {key.replace(f"{part}0", "weight_g").replace(f"{part}1", "weight_v"): value for key, value in weights.items()}
    assert old.keys() != weights.keys()
    (folder / "model.safetensors").unlink()
    torch.save(old, folder / "pytorch_model.bin")
    model = Pretrained(str(folder), classes=CLASSES)
    assert model.digest == hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    loaded = model.load("cpu").state_dict()
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_what_is_lacking_is_named_with_the_folder_and_the_way_out(folder, tmp_path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(Unavailable, match=f"not found at {nowhere}.*Name a local folder with --hubert$"):
        Pretrained(str(nowhere), classes=CLASSES, flag="--hubert")
    with pytest.raises(Unavailable, match=f"{folder}: there is no tokenizer.json. Name a local folder instead$"):
        Pretrained(str(folder), classes=CLASSES, files=("config.json", "tokenizer.json"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(Unavailable, match=f"{folder}: there is no model.safetensors or pytorch_model.bin"):
        Pretrained(str(folder), classes=CLASSES)


def test_another_type_of_model_is_refused(folder) -> None:
    with pytest.raises(Unavailable, match=f"{folder}/config.json.*type hubert, not whisper"):
        Pretrained(str(folder), classes={"whisper": "WhisperForConditionalGeneration"})
    (folder / "config.json").write_text("{")
    with pytest.raises(Unavailable, match=f"cannot read {folder}/config.json"):
        Pretrained(str(folder), classes=CLASSES)


def test_missing_weights_are_an_error_unless_they_are_of_no_use(folder) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[LOST]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = Pretrained(str(folder), classes=CLASSES, flag="--hubert")
    with pytest.raises(Unavailable, match=rf"{folder} \(it lacks weights: {LOST}\).*with --hubert$"):
        model.load("cpu")
    with pytest.raises(Unavailable, match=LOST):
        model.load("cpu", unused=("objective.",))
    model.load("cpu", unused=("objective.", "encoder.layers.0.attention.q_proj."))


@pytest.mark.parametrize("damage", ["cut", "other size", "pickle"])
def test_broken_weights_are_one_line(folder, tmp_path, damage: str) -> None:
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    path = folder / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "other size":
        save_file(load_file(path) | {LOST: torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    else:
        path.unlink()
        torch.save({LOST: Payload()}, folder / "pytorch_model.bin")
    model = Pretrained(str(folder), classes=CLASSES)
    with pytest.raises(Unavailable, match=f"cannot load a HubertModel from {folder}") as error:
        model.load("cpu")
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert not (tmp_path / "ran").exists()


def test_offline_is_an_error_that_names_the_model_and_the_cache(monkeypatch, hub_cache, server) -> None:
    serve_model(server, monkeypatch, ["config.json", "model.safetensors"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match=rf"^{ID} is neither.*{hub_cache}\), and this is offline.*with --hubert$"):
        Pretrained(ID, classes=CLASSES, flag="--hubert")
    assert server.asked == []


def test_a_hub_out_of_reach_is_an_error_that_says_so(monkeypatch, hub_cache) -> None:
    set_endpoint(monkeypatch, CLOSED)
    with pytest.raises(Unavailable, match=rf"^{ID} is neither.*{hub_cache}.*cannot be fetched from {CLOSED}") as error:
        Pretrained(ID, classes=CLASSES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("safe", [True, False])
def test_settings_and_one_file_of_weights_come_from_the_hub(server, monkeypatch, safe: bool) -> None:
    weights = ["pytorch_model.bin", *(["model.safetensors"] if safe else [])]
    serve_model(server, monkeypatch, ["README.md", "config.json", "normalizer.json", "tf_model.h5", *weights])
    chosen = "model.safetensors" if safe else "pytorch_model.bin"
    extras = ("normalizer.json", "added_tokens.json")
    model = Pretrained(ID, classes=CLASSES, extras=extras)
    assert sorted(path.name for path in model.folder.iterdir()) == sorted(["config.json", "normalizer.json", chosen])
    assert model.digest == hashlib.sha256(chosen.encode()).hexdigest()  # each file there holds its own name
    # from then on without the hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Pretrained(ID, classes=CLASSES, extras=extras).folder == model.folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    set_endpoint(monkeypatch, CLOSED)
    assert Pretrained(ID, classes=CLASSES, extras=extras).folder == model.folder


def test_a_complete_model_in_the_cache_is_not_asked_for(server, monkeypatch) -> None:
    serve_model(server, monkeypatch, ["config.json", "model.safetensors"])
    Pretrained(ID, classes=CLASSES)
    server.asked.clear()
    Pretrained(ID, classes=CLASSES)
    assert server.asked == []


def test_what_the_cache_lacks_is_fetched(server, monkeypatch) -> None:
    """Other programs cache the settings alone."""
    serve_model(server, monkeypatch, ["config.json", "model.safetensors"])
    huggingface_hub.snapshot_download(ID, allow_patterns=["config.json"])
    assert (Pretrained(ID, classes=CLASSES).folder / "model.safetensors").read_text() == "model.safetensors"


def test_a_model_of_the_hub_without_weights_is_an_error(server, monkeypatch) -> None:
    serve_model(server, monkeypatch, ["config.json", "tf_model.h5"])
    with pytest.raises(Unavailable, match=f"^{ID} .*has not all of config.json and model.safetensors or pytorch_model"):
        Pretrained(ID, classes=CLASSES)


def test_an_unknown_model_is_an_error(server, monkeypatch) -> None:
    set_endpoint(monkeypatch, server.address)
    with pytest.raises(Unavailable, match=f"^{ID} .*cannot be fetched from {server.address}.*404") as error:
        Pretrained(ID, classes=CLASSES)
    assert "\n" not in str(error.value)


def test_an_error_without_words_is_its_kind() -> None:
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("a\n  b")) == "a b"
    assert len(one_line(ValueError("word" * 1000))) == 300
