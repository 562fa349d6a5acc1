"""WavLM's original files: the same network as the folder, and nothing in them runs or fills the memory."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from models.wavlm import WavLM
from models.wavlm_original import conv_layers, load_original
from tests.dpslm import REFERENCE
from tests.toy import Payload

LARGE = [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2


@pytest.fixture
def content() -> dict:
    return torch.load(REFERENCE / "wavlm.pt", weights_only=True)


def written(folder: Path, content: dict) -> Path:
    torch.save(content, folder / "WavLM-Toy.pt")
    return folder / "WavLM-Toy.pt"


@pytest.mark.parametrize("layers", [[0, 2, 4], [5]])
def test_it_computes_what_the_folder_does(layers: list[int]) -> None:
    wav = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    original, folder = (WavLM(REFERENCE / name, layers=layers)(wav) for name in ("wavlm.pt", "wavlm"))
    for one, other in zip(original, folder, strict=True):
        assert torch.equal(one, other)


def test_both_names_of_weight_norm_are_read(tmp_path, content) -> None:
    turned = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for newer, older in turned.items():
        content["model"][f"encoder.pos_conv.0.{older}"] = content["model"].pop(f"encoder.pos_conv.0.{newer}")
    model, total = load_original(written(tmp_path, content), highest=2)
    whole, _ = load_original(REFERENCE / "wavlm.pt", highest=2)
    assert total == 5 and len(model.encoder.layers) == 2
    assert all(torch.equal(x, whole.state_dict()[name]) for name, x in model.state_dict().items())


def test_equal_widths_need_no_projection(tmp_path, content) -> None:
    """Here of 16 channels, which is what the convolutions have: all other tensors are cut to fit."""
    content["cfg"] |= {"encoder_embed_dim": 16, "encoder_layers": 1, "conv_pos_groups": 4}
    model = {name: x for name, x in content["model"].items() if not name.startswith(("post_extract", "encoder.layers"))}
    weight = "encoder.pos_conv.0.parametrizations.weight.original1"
    for name in ("encoder.layer_norm.weight", "encoder.layer_norm.bias", "encoder.pos_conv.0.bias", weight, "mask_emb"):
        model[name] = model[name][:16]
    found, _ = load_original(written(tmp_path, {**content, "model": model}), highest=0)
    x = torch.randn(3, 16)
    assert torch.equal(found.feature_projection.projection(x), x)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["model"].pop("encoder.layers.0.self_attn.grep_a"), ["1 missing", "layers.0.self_attn.grep_a"]),
        (lambda f: f["model"].update({"encoder.surplus.weight": torch.zeros(2)}), ["1 unexpected", "encoder.surplus"]),
        (lambda f: f["model"].update({"layer_norm.weight": torch.zeros(2)}), ["layer_norm.weight [2] instead of [16]"]),
        (lambda f: f["model"]["layer_norm.bias"].fill_(torch.nan), ["not finite", "layer_norm.bias"]),
        (lambda f: f["model"].update({"encoder.layers.9.fc1.bias": torch.zeros(2)}), ["encoder.layers.9.fc1.bias"]),
        (lambda f: f["cfg"].pop("num_buckets"), ["num_buckets"]),
        (lambda f: f["cfg"].update(encoder_layers=0), ["encoder_layers"]),
        (lambda f: f["cfg"].update(extractor_mode="default"), ["extractor_mode", "'default'"]),
        (lambda f: f["cfg"].update(conv_feature_layers="[512]"), ["conv_feature_layers", "[512]"]),
        (lambda f: f.pop("cfg"), ["no original WavLM"]),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, content, change, said: list[str]) -> None:
    change(content)
    with pytest.raises(ValueError) as error:
        load_original(written(tmp_path, content), highest=4)
    assert all(part in str(error.value) for part in [*said, "WavLM-Toy.pt"]), error.value


def test_what_is_above_the_layers_asked_for_is_not_read(tmp_path, content) -> None:
    content["model"]["encoder.layers.4.fc1.bias"].fill_(torch.nan)
    del content["model"]["encoder.layers.4.fc2.bias"]
    model, total = load_original(written(tmp_path, content), highest=4)
    assert total == 5 and len(model.encoder.layers) == 4
    with pytest.raises(ValueError, match="has 5 layers, layer 6 was asked for"):
        load_original(REFERENCE / "wavlm.pt", highest=6)


def test_code_in_a_file_does_not_run(tmp_path, content) -> None:
    with pytest.raises(ValueError, match="could run code"):
        load_original(written(tmp_path, {**content, "extra": Payload(tmp_path / "ran")}), highest=1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    ["[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2", " [(512, 10, 5)] + 4 * [(512, 3, 2)] + [(512,2,2),(512,2,2)]"],
)
def test_the_convolutions_are_read(text: str) -> None:
    assert conv_layers(text) == LARGE


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch ran')", "[(512,10,5)] or 1", "[(512,10)]", "[(512,10,5)] * -1",
        "[(512,10,5)] * 0", "[(512,10,0)]", "[(512,10,5.0)]", "[(True,10,5)]", "(512,10,5)", "[]", "", "[(x,10,5)]",
        "[(512,10,5)] - [1]", "[(512,10,5)] * 101", "[" * 5000, "(" * 900, "[(512,10,5)", "9**9**9", None, 3,
        [(512, 10, 5)],
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="conv_feature_layers must be"):
        conv_layers(text)


def test_repetitions_of_repetitions_do_not_fill_the_memory() -> None:
    """Of ten times a hundred, each allowed, a text of 60 characters asked for more than any machine has."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for text in ("[(1,1,1)]" + "*100" * 4, "([(1,1,1)]*100+[(1,1,1)]*100)" + "*100" * 3):
        with pytest.raises(ValueError, match="conv_feature_layers"):
            conv_layers(text)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"encoder_layers": None}, "no numbers from 1 to 65536, or missing: encoder_layers"),
        ({"conv_pos": 0, "num_buckets": "64"}, "or missing: conv_pos, num_buckets"),
        ({"encoder_embed_dim": 320_000}, "or missing: encoder_embed_dim"),
        ({"encoder_ffn_embed_dim": 65536}, r"fc1.weight \[48, 32\] instead of \[65536, 32\]"),
        ({"encoder_attention_heads": 5}, "the sizes of its cfg do not fit together"),
    ],
)
def test_sizes_that_cannot_be_take_no_memory_and_name_the_file(tmp_path, content, cfg: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load_original(written(tmp_path, {**content, "cfg": {**content["cfg"], **cfg}}), highest=2)
    assert "WavLM-Toy.pt" in str(caught.value)
