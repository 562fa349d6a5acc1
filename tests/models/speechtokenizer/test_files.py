"""The released files: all their forms, what does not fit, and what carries code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from models.speechtokenizer.architecture import Architecture, make_architecture, read_config
from models.speechtokenizer.codec import SpeechTokenizer
from models.speechtokenizer.files import read_weights, released_state, write_released
from models.speechtokenizer.network import CodecNetwork
from tests.codec import REFERENCE, VARIANTS, architecture, config, load, read, weights
from utils import checkpoint


def from_file(path: Path, variant: str = "elu") -> SpeechTokenizer:
    codec = SpeechTokenizer(architecture=architecture(variant))
    codec.load_checkpoint(path)
    return codec


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_has_the_released_names_and_shapes(variant: str) -> None:
    listed = (REFERENCE / variant / "state_dict_keys.txt").read_text().splitlines()
    state = released_state(CodecNetwork(architecture=architecture(variant)).state_dict())
    assert sorted(f"{name} {list(value.shape)}" for name, value in state.items()) == sorted(listed)
    assert list(state) == [line.split()[0] for line in listed] or set(state) == set(weights(variant))


def test_a_network_of_released_sizes_has_the_published_size() -> None:
    sizes = dict(sample_rate=16000, n_filters=64, strides=[8, 5, 4, 2], dimension=1024, semantic_dimension=768)
    sizes |= dict(lstm_layers=2, bidirectional=True, n_residual_layers=1, residual_kernel_size=3, dilation_base=2)
    for activation, entries, more in (("ELU", 166, 0), ("Snake", 192, 4448 + 3424)):
        with torch.device("meta"):
            network = CodecNetwork(architecture=Architecture(**sizes, activation=activation, codebook_size=1024, n_q=8))
        assert sum(p.numel() for p in network.parameters()) == 103_675_586 + more
        assert sum(b.numel() for b in network.buffers()) == 16_785_416
        assert len(released_state(network.state_dict())) == entries


def test_equal_widths_need_no_transform() -> None:
    sizes = {**config("elu"), "semantic_dimension": 16}
    sizes = Architecture(**{key: sizes[key] for key in Architecture.__dataclass_fields__})
    network = CodecNetwork(architecture=sizes)
    assert not any("transform" in name for name in released_state(network.state_dict()))
    assert network(torch.zeros(1, 640)).semantic.shape == (1, 2, 16)


def newer(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): value
        for name, value in state.items()
    }


def package(state: dict[str, torch.Tensor]) -> dict[str, object]:
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {
        "generator": state,
        "discriminators": {"mpd": {"discriminators.0.convs.0.bias": torch.zeros(3)}},
        "optim_g": optimizer,
        "scheduler_g": {"T_max": 10, "base_lrs": [1e-4]},
        "best_dev_mel_loss": 0.3,
    }


@pytest.mark.parametrize("form", ["newer", "prefixed", "package", "checkpoint", "export"])
def test_every_form_gives_the_same_codec(tmp_path: Path, form: str) -> None:
    state, codec = weights("elu"), load("elu")
    path = tmp_path / "SpeechTokenizerTrainer_00000010"
    if form == "checkpoint":
        model = checkpoint.flatten({"codec": codec.network.state_dict(), "discriminator": {"x": torch.zeros(2)}})
        checkpoint.save(path, {"model": model})
    elif form == "export":
        path, settings = write_released(tmp_path / "export", codec.network)
        assert read_config(settings) == architecture("elu")
        written = torch.load(path, weights_only=True)
        assert written.keys() == state.keys() and all(torch.equal(written[name], state[name]) for name in state)
    else:
        made = {"newer": newer(state), "prefixed": {f"module.{n}": v for n, v in state.items()}}
        torch.save(made.get(form, package(state)), path)
    wav = read("utt0")[None]
    tokens = codec.encode(wav)
    again = from_file(path)
    assert torch.equal(again.encode(wav), tokens) and torch.equal(again.decode(tokens), codec.decode(tokens))
    assert again.digest() == codec.digest()


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = weights("elu")
    gone, extra, shape = "decoder.model.0.conv.conv.bias", "decoder.model.99.bias", "transform.weight"
    nan = "encoder.model.0.conv.conv.weight_g"
    broken = {name: value for name, value in state.items() if name != gone}
    broken |= {extra: torch.zeros(2), shape: torch.zeros(2, 2), nan: torch.full_like(state[nan], torch.nan)}
    torch.save(broken, tmp_path / "broken.pt")
    with pytest.raises(ValueError) as caught:
        from_file(tmp_path / "broken.pt")
    told = str(caught.value)
    for fact in (
        "broken.pt",
        f"1 missing: {gone}",
        f"1 unexpected: {extra}",
        f"1 of another shape: {shape} [2, 2] instead of [12, 16]",
        f"1 not finite (NaN or infinite): {nan}",
    ):
        assert fact in told, (fact, told)


def test_a_refused_file_leaves_the_codec_as_it_was(tmp_path: Path) -> None:
    codec = load("elu")
    before = codec.digest()
    state = weights("elu")
    state["transform.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(ValueError):
        codec.load_checkpoint(tmp_path / "broken.pt")
    assert codec.digest() == before


def test_a_quantiser_that_was_never_initialised_is_refused(tmp_path: Path) -> None:
    state = weights("elu")
    name = "quantizer.vq.layers.3._codebook.inited"
    torch.save({**state, name: torch.zeros(1)}, tmp_path / "empty.pt")
    with pytest.raises(ValueError, match=rf"empty.pt.*no training has filled their codebook: {name}"):
        from_file(tmp_path / "empty.pt")


class Payload:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("form", ["state", "package"])
def test_a_file_that_carries_code_is_refused_and_nothing_runs(tmp_path: Path, form: str) -> None:
    state, evil = weights("elu"), Payload(tmp_path / "ran")
    torch.save({**state, "extra": evil} if form == "state" else {"generator": state, "s": evil}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt"):
        from_file(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "tselm.pth", {"model": {"network.x": torch.zeros(1)}})
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"epoch": 3, "model": {}}, tmp_path / "other.pt")
    torch.save({}, tmp_path / "nothing.pt")
    torch.save({**weights("elu"), **newer(weights("elu"))}, tmp_path / "both.pt")
    for name, message in (
        ("tselm.pth", "a checkpoint of another system: it holds no codec"),
        ("list.pt", "holds no codec, but a list"),
        ("other.pt", "a dict of tensors is expected, found epoch, model"),
        ("nothing.pt", "found nothing"),
        ("both.pt", "twice, under both of torch's names"),
    ):
        with pytest.raises(ValueError, match=rf"{name}.*{message}"):
            read_weights(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="ghost.pt"):
        read_weights(tmp_path / "ghost.pt")


# --- config.json ---


def test_a_config_is_thirteen_keys_among_any_others(tmp_path: Path) -> None:
    assert architecture("snake").activation == "Snake" and architecture("snake").hop_length == 320
    text = json.dumps(config("elu"))[:-1] + f', "x": "!apply:os.system [touch {tmp_path / "ran"}]"}}'
    (tmp_path / "config.json").write_text(text)
    assert read_config(tmp_path / "config.json") == architecture("elu") and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_filters": None}, "config.json lacks n_filters"),
        ({"activation": "Gelatine"}, "config.json: activation must be one of ELU, Snake, got 'Gelatine'"),
        ({"n_q": 0, "strides": [8, 0]}, "strides must be whole numbers above 0, got .8, 0.; n_q must be"),
        ({"bidirectional": 1}, "bidirectional must be true or false, got 1"),
        ({"dimension": "16"}, "dimension must be a whole number above 0, got '16'"),
        ({"n_filters": 1}, "n_filters must be 2 or more"),
    ],
)
def test_a_config_that_cannot_be_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    changed = {key: value for key, value in {**config("elu"), **change}.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path / "config.json")


def test_a_config_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{not json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match="broken.json is not JSON"):
        read_config(tmp_path / "broken.json")
    with pytest.raises(ValueError, match="list.json must hold an object"):
        read_config(tmp_path / "list.json")
    with pytest.raises(FileNotFoundError, match="ghost.json"):
        make_architecture(codec_config=tmp_path / "ghost.json")
    with pytest.raises(ValueError, match="without codec_config, n_filters, strides"):
        make_architecture(sample_rate=16000)
