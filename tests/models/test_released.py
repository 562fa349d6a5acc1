import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.cluster import MiniBatchKMeans

from models import released
from models.kmeans import files as kmeans_files
from models.kmeans.files import read_kmeans
from models.tselm import released as tselm_released
from models.tselm.released import STAND_INS, compare_frozen, parse_checkpoint, read_checkpoint
from models.unit_hifigan import files as vocoder_files
from models.unit_hifigan.files import read_vocoder
from utils.recipe import Recipe
from utils.safe_load import UnsafeFile, load_torch
from utils.tensor_files import newer_names

REFERENCE = Path(__file__).parents[1] / "reference"
LAYERS = [1, 3, 7, 12, 18, 23]
NEWER = "parametrizations.weight."  # than weight_g and weight_v
BOTH = [REFERENCE / "tselm.pth", REFERENCE / "tselm_weight_norm_names.pth"]


class Runs:
    """Makes the folder ``mark`` when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


# --- k-means ---


def kmeans(centres, kind=MiniBatchKMeans):
    model = kind(len(centres))
    model.cluster_centers_ = centres
    return model


def test_kmeans_in_the_order_of_the_layers():
    centres = read_kmeans(REFERENCE / "kmeans", [23, 1, 12])
    for layer, found in zip([23, 1, 12], centres, strict=True):
        (path,) = (REFERENCE / "kmeans").glob(f"*_L{layer}.pt")
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), joblib.load(path).cluster_centers_)


def test_kmeans_of_any_precision_and_layout_and_of_macos(tmp_path):
    centres = np.random.default_rng(0).normal(size=(4, 3))
    joblib.dump(kmeans(centres), tmp_path / "a_L1.pt")
    joblib.dump(kmeans(np.asfortranarray(centres, dtype=">f4")), tmp_path / "a_L11.pt")
    (tmp_path / "._a_L1.pt").write_bytes(b"left by macOS")
    for found in read_kmeans(tmp_path, [1, 11]):
        assert found.dtype == torch.float32 and found.is_contiguous()
        np.testing.assert_array_equal(found.numpy(), centres.astype("f4"))
        found += 1  # the tensors belong to the caller


def test_kmeans_that_are_missing_double_or_wrong_are_named(tmp_path):
    good = np.ones((4, 3), "f4")
    with pytest.raises(FileNotFoundError, match="no such k-means folder"):
        read_kmeans(tmp_path / "gone", [1])
    joblib.dump(kmeans(good), tmp_path / "a_L1.pt")
    with pytest.raises(FileNotFoundError, match=r"no k-means for layers 3, 7 in .*Found a_L1\.pt"):
        read_kmeans(tmp_path, [1, 3, 7])
    joblib.dump(kmeans(good), tmp_path / "b_L1.pt")
    with pytest.raises(ValueError, match=r"more than one.*layer 1: a_L1\.pt, b_L1\.pt"):
        read_kmeans(tmp_path, [1])
    (tmp_path / "b_L1.pt").unlink()
    joblib.dump(kmeans(np.ones((5, 3), "f4")), tmp_path / "a_L2.pt")
    with pytest.raises(ValueError, match=r"layer 1: \[4, 3\], layer 2: \[5, 3\]"):
        read_kmeans(tmp_path, [1, 2])
    for centres in (np.full((4, 3), np.nan, "f4"), np.full((4, 3), 1e300)):
        joblib.dump(kmeans(centres), tmp_path / "a_L3.pt")
        with pytest.raises(ValueError, match=r"not finite.*a_L3\.pt \(layer 3\)"):
            read_kmeans(tmp_path, [3])
    for other, message in (
        (MiniBatchKMeans(3), "without centres"),
        ({"cluster_centers_": good}, "no k-means of scikit-learn, but dict"),
        (kmeans(good.astype(int)), "must be floats"),
        (kmeans(good[0]), "must be floats"),
    ):
        joblib.dump(other, tmp_path / "a_L4.pt")
        with pytest.raises(ValueError, match=message):
            read_kmeans(tmp_path, [4])


def test_kmeans_with_a_payload(tmp_path):
    for layer in LAYERS:
        joblib.dump(Runs(tmp_path / "ran"), tmp_path / f"a_L{layer}.pt")
    with pytest.raises(UnsafeFile, match=r"a_L1\.pt asks for (posix|nt)\.mkdir"):
        read_kmeans(tmp_path, LAYERS)
    assert not (tmp_path / "ran").exists()


def test_our_kmeans(tmp_path):
    save_file({f"layer_{n}": torch.full((2, 3), float(n)) for n in (1, 2)}, tmp_path / "kmeans.safetensors")
    assert [float(c[0, 0]) for c in read_kmeans(tmp_path, [2, 1])] == [2.0, 1.0]
    with pytest.raises(ValueError, match="no centres for layers 3; it has layer_1, layer_2"):
        read_kmeans(tmp_path, [1, 3])
    (tmp_path / "kmeans.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        read_kmeans(tmp_path, [1])


# --- vocoder ---


@pytest.fixture
def vocoder(tmp_path):
    folder = tmp_path / "hifigan"
    shutil.copytree(REFERENCE / "hifigan", folder)
    return folder


def edit(folder, pattern, replacement):
    path = folder / "hyperparams.yaml"
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count
    path.write_text(text)


def test_vocoder_builds_speechbrains_generator(vocoder):
    from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator

    arguments, state = read_vocoder(vocoder)
    assert arguments["resblock_type"] == "1" and arguments["vocab_size"] == 301
    assert arguments["upsample_factors"] == [5, 4, 4, 2, 2] and arguments["conv_post_bias"] is True
    assert arguments["pooling_type"] == "attention" and arguments["multi_speaker"] is False  # speechbrain's defaults
    generator = UnitHifiganGenerator(**arguments)
    generator.load_state_dict(state)
    assert_equal(generator.state_dict(), state)


def test_vocoder_of_older_files(vocoder, caplog):
    arguments, state = read_vocoder(vocoder)
    edit(vocoder, "vocab_size", "num_embeddings")
    edit(vocoder, 'resblock_type: "1"', "resblock_type: 1")
    older = {
        name.replace(f"{NEWER}original0", "weight_g").replace(f"{NEWER}original1", "weight_v"): value
        for name, value in state.items()
    }
    assert older.keys() != state.keys()
    torch.save(older, vocoder / "generator.ckpt")
    found, found_state = read_vocoder(vocoder)
    assert found == arguments and "resblock_type" in caplog.text
    assert_equal(found_state, state)
    edit(vocoder, "^    num_embeddings.*\n", "")  # named at the top alone
    assert read_vocoder(vocoder)[0] == arguments
    torch.save({**older, **state}, vocoder / "generator.ckpt")
    with pytest.raises(ValueError, match="twice"):
        read_vocoder(vocoder)


def test_vocoder_with_parts_that_are_not_needed(vocoder, caplog):
    expected = read_vocoder(vocoder)[0]
    with open(vocoder / "hyperparams.yaml", "a") as file:
        file.write(
            "\nmodules:\n    generator: !ref <generator>\npretrained_path: somewhere\n"
            "pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
            "    loadables:\n        generator: !ref <generator>\n"
            "    paths:\n        generator: !ref <pretrained_path>/generator.ckpt\n"
        )
    with caplog.at_level("INFO"):
        assert read_vocoder(vocoder)[0] == expected
    assert "modules, pretrainer not needed and not built" in caplog.text


@pytest.mark.parametrize(
    "line", ["extra: !apply:os.mkdir [{}]", "extra: !new:os.mkdir [{}]", "extra: !!python/object/apply:os.mkdir [{}]"]
)
def test_vocoder_with_a_payload_in_its_settings(vocoder, tmp_path, line):
    with open(vocoder / "hyperparams.yaml", "a") as file:
        file.write("\n" + line.format(tmp_path / "ran") + "\n")
    with pytest.raises(UnsafeFile, match=r"hyperparams\.yaml"):
        read_vocoder(vocoder)
    assert not (tmp_path / "ran").exists()


def test_vocoder_with_a_payload_in_its_weights(vocoder, tmp_path):
    torch.save({"a": Runs(tmp_path / "ran")}, vocoder / "generator.ckpt")
    with pytest.raises(UnsafeFile, match=r"generator\.ckpt asks for"):
        read_vocoder(vocoder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "pattern, replacement, message",
    [
        (r"^    attn_dim: .*", "    attn_dims: 16", "attn_dims is unknown"),
        (r"^    in_channels: .*\n", "", "in_channels is missing"),
        (r"^    in_channels: .*", "    in_channels: !ref <nowhere>", "in_channels is !ref <nowhere>, which is not"),
        (r"^    in_channels: .*", "    in_channels: !ref <attn_dim> * 2", "in_channels is !ref <attn_dim>"),
        (r"^    in_channels: .*", "    in_channels: many", "in_channels must be int, got 'many'"),
        (r"^    conv_post_bias: .*", "    conv_post_bias: yes", "conv_post_bias must be bool, got 'yes'"),
        (r"^upsample_factors: .*", "upsample_factors: [5, [4], a]", "upsample_factors must be list"),
        (r"^resblock_type: .*", "resblock_type: 3", 'resblock_type must be "1" or "2"'),
        (r"^    vocab_size: .*", "    vocab_size: 301\n    num_embeddings: 6001", "6001 contradicts vocab_size 301"),
        (r"^generator: .*", "generator: !new:speechbrain.lobes.models.HifiGAN.Other", "must have 'generator: !new:"),
        (r"^generator: .*", "generator:", "must have 'generator: !new:"),
    ],
)
def test_vocoder_with_settings_that_do_not_fit(vocoder, pattern, replacement, message):
    edit(vocoder, pattern, replacement)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_vocoder(vocoder)


def test_vocoder_files_that_are_missing_or_wrong(vocoder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such vocoder folder"):
        read_vocoder(tmp_path / "gone")
    torch.save({"a": torch.zeros(1), "step": 3}, vocoder / "generator.ckpt")
    with pytest.raises(ValueError, match=r"generator\.ckpt: not tensors: step"):
        read_vocoder(vocoder)
    torch.save([torch.zeros(1)], vocoder / "generator.ckpt")
    with pytest.raises(ValueError, match="holds no state dict, but a list"):
        read_vocoder(vocoder)
    (vocoder / "generator.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"Found hyperparams\.yaml"):
        read_vocoder(vocoder)
    (vocoder / "vocoder.json").write_text("[]")
    save_file({"a": torch.zeros(1)}, vocoder / "vocoder.safetensors")
    with pytest.raises(ValueError, match=r"vocoder\.json is not the settings"):
        read_vocoder(vocoder)


# --- checkpoint ---


@pytest.mark.parametrize("path", BOTH, ids=lambda p: p.stem)
def test_every_tensor_of_a_checkpoint_has_its_place(path):
    found = read_checkpoint(path)
    stored = load_torch(path, stand_ins=STAND_INS)["model_state_dict"]
    assert len(found.network) + len(found.wavlm) + len(found.vocoder) == len(stored) == 890
    assert found.facts == {"epoch": 3, "step": 40, "error": 49.98, "cv_log": {0: {"loss": 1.0, "error": 50.0}}}
    for ours, theirs in (
        ("mixture_embedding.table.weight", "embedding.embedding.weight"),
        ("enrolment_embedding.table.weight", "embedding_regi.embedding.weight"),
        ("mixture_pooling.score.0.bias", "attention_mlp.layers.0.bias"),
        ("enrolment_pooling.score.2.weight", "attention_mlp_regi.layers.2.weight"),
        ("cross_attention.layers.1.attention.in_proj_weight", "fusion.layers.1.self_att.att.in_proj_weight"),
        ("cross_attention.layers.0.attention.out_proj.bias", "fusion.layers.0.self_att.att.out_proj.bias"),
        ("cross_attention.layers.1.ffn.0.weight", "fusion.layers.1.pos_ffn.ffn.0.weight"),
        ("cross_attention.layers.1.ffn.2.bias", "fusion.layers.1.pos_ffn.ffn.3.bias"),
        ("cross_attention.layers.0.norm2.weight", "fusion.layers.0.norm2.norm.weight"),
        ("cross_attention.norm.bias", "fusion.norm.norm.bias"),
        ("film.scale.weight", "film.linear1.weight"),
        ("film.shift.bias", "film.linear2.bias"),
        ("norm.weight", "fusion_norm.weight"),
        ("lm.positional_encoding.pe", "lm.positional_encoding.pe"),
        ("head.bias", "head.bias"),
    ):
        assert torch.equal(found.network[ours], stored[theirs]), ours
    roots = {name.partition(".")[0] for name in found.network}
    assert roots == {
        *("mixture_embedding", "mixture_pooling", "enrolment_embedding", "enrolment_pooling"),
        *("cross_attention", "film", "norm", "lm", "head"),
    }


def test_both_namings_of_weight_norm_give_the_same_tensors():
    first, second = map(read_checkpoint, BOTH)
    for part in ("network", "wavlm", "vocoder"):
        assert_equal(getattr(first, part), getattr(second, part))
    assert_equal(read_vocoder(REFERENCE / "hifigan")[1], first.vocoder)
    assert_equal(newer_names(load_file(REFERENCE / "wavlm/model.safetensors"), "x"), first.wavlm)


def test_checkpoints_without_frozen_parts_or_from_several_devices():
    content = load_torch(BOTH[1], stand_ins=STAND_INS)
    whole = parse_checkpoint(content, "x.pth")
    state = content["model_state_dict"]
    several = parse_checkpoint({"model_state_dict": {f"module.{n}": v for n, v in state.items()}}, "x.pth")
    assert_equal(several.vocoder, whole.vocoder)
    trained = {n: v for n, v in state.items() if not n.startswith(("hifi_gan", "discrete_ssl"))}
    for form in ({"model_state_dict": trained, "epoch": torch.tensor(7)}, trained):
        found = parse_checkpoint(form, "x.pth")
        assert_equal(found.network, whole.network)
        assert found.wavlm == found.vocoder == {}
        assert found.facts == ({"epoch": 7} if form is not trained else {})


def test_facts_are_plain_whatever_is_in_the_file():
    log = [1.0]
    for _ in range(30):
        log = [log, log]
    content = {"model_state_dict": {"head.bias": torch.zeros(1)}, "epoch": 2, "error": object(), "cv_log": log}
    assert parse_checkpoint(content, "x.pth").facts == {"epoch": 2}


@pytest.mark.parametrize(
    "content, message",
    [
        ({"model_state_dict": {"head.bias": torch.zeros(1), "fusion.extra": torch.zeros(1)}}, "1 tensors that.*extra"),
        ({"model_state_dict": {"head.bias": torch.zeros(1), "hifi_gan.mel": torch.zeros(1)}}, "hifi_gan.mel"),
        ({"model_state_dict": {"head.bias": 3}}, "not tensors: head.bias"),
        ({"model_state_dict": {}}, "no tensor of a TSELM"),
        ({"model_state_dict": 5}, "no state dict, but a int"),
        ({"state_dict": {}, "epoch": 1}, "'model_state_dict' should be in it. Found state_dict, epoch"),
        ({}, "no tensor of a TSELM"),
        ([1], "no released checkpoint.*Found list"),
        ({"format": "tse-checkpoint", "version": 1, "model": {}}, "checkpoint of this project"),
    ],
)
def test_what_is_no_released_checkpoint(content, message):
    with pytest.raises(ValueError, match=f"x.pth.*{message}"):
        parse_checkpoint(content, "x.pth")


def test_checkpoint_with_a_payload(tmp_path):
    torch.save({"model_state_dict": {}, "new_bob": Runs(tmp_path / "ran")}, tmp_path / "x.pth")
    with pytest.raises(UnsafeFile, match=r"x\.pth asks for"):
        read_checkpoint(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


# --- frozen parts ---


def test_frozen_parts_are_compared(caplog):
    loaded = {
        "a": torch.tensor([1.0, -2.0]),
        "b.parametrizations.weight.original0": torch.zeros(3),
        "c": torch.ones(()),
    }
    inside = {"a": loaded["a"].clone(), "b.weight_g": torch.zeros(3), "c": torch.ones(()), "layers.23.x": torch.ones(1)}

    compare_frozen(inside, loaded, "WavLM", "x.pth")
    compare_frozen({**inside, "a": loaded["a"] + 1e-6}, loaded, "WavLM", "x.pth")
    compare_frozen({**inside, "a": loaded["a"].double()}, loaded, "WavLM", "x.pth")
    with pytest.raises(ValueError, match=r"the WavLM in x.pth is not the one in use: 1 of 3 .* a the most.*0\.01"):
        compare_frozen({**inside, "a": loaded["a"] + 0.01}, loaded, "WavLM", "x.pth")
    with pytest.raises(ValueError, match=r"2 of 3 .*b\.parametrizations.*0\.5\. Use the WavLM that it was trained"):
        changed = {**inside, "a": loaded["a"] + 0.01, "b.weight_g": torch.full((3,), 0.5)}
        compare_frozen(changed, loaded, "WavLM", "x.pth")
    with pytest.raises(ValueError, match="c the most, by up to nan"):
        changed = {**inside, "a": loaded["a"] + 9, "c": torch.tensor(float("nan"))}
        compare_frozen(changed, loaded, "WavLM", "x.pth")
    with pytest.raises(ValueError, match=r"lacks 1 tensors: c\. Use"):
        compare_frozen({n: v for n, v in inside.items() if n != "c"}, loaded, "WavLM", "x.pth")
    with pytest.raises(ValueError, match=r"another shape: a \[1\] instead of \[2\]"):
        compare_frozen({**inside, "a": torch.ones(1)}, loaded, "WavLM", "x.pth")
    with caplog.at_level("INFO"):
        compare_frozen({}, loaded, "WavLM", "x.pth")
    assert "x.pth carries no WavLM" in caplog.text


def test_frozen_parts_are_compared_when_weight_norm_is_folded_into_the_loaded_ones():
    norm = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 4, 5))
    inside = norm.state_dict()
    older = {"bias": inside["bias"], "weight_g": inside["parametrizations.weight.original0"]}
    older |= {"weight_v": inside["parametrizations.weight.original1"]}
    with torch.no_grad():
        torch.nn.utils.parametrize.remove_parametrizations(norm, "weight")
    for saved in (inside, {f".{name}": value for name, value in older.items()}):
        loaded = {f"{'' if saved is inside else '.'}{name}": value for name, value in norm.state_dict().items()}
        compare_frozen(saved, loaded, "vocoder", "x.pth")
        louder = {name: value * (2 if name.endswith(("original0", "_g")) else 1) for name, value in saved.items()}
        with pytest.raises(ValueError, match="1 of 2 tensors differ, .*weight the most"):
            compare_frozen(louder, loaded, "vocoder", "x.pth")


# --- conversion ---


def convert(capsys, *arguments):
    assert released.main(["convert", *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in lines:
        _, path, digest = re.fullmatch(r"(wrote) (.*)  sha256 ([0-9a-f]{64})", line).groups()
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
    return lines


def test_kmeans_and_vocoder_are_the_same_after_conversion(tmp_path, capsys):
    assert len(convert(capsys, "kmeans", REFERENCE / "kmeans", "--output", tmp_path / "new")) == 1
    before, after = (read_kmeans(folder, LAYERS) for folder in (REFERENCE / "kmeans", tmp_path / "new"))
    assert all(map(torch.equal, before, after))
    assert len(convert(capsys, "vocoder", REFERENCE / "hifigan", "--output", tmp_path / "new")) == 2
    (arguments, state), (again, state_again) = map(read_vocoder, (REFERENCE / "hifigan", tmp_path / "new"))
    assert arguments == again == json.loads((tmp_path / "new/vocoder.json").read_text())["arguments"]
    assert_equal(state_again, state)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "kmeans.safetensors",
        "vocoder.json",
        "vocoder.safetensors",
    ]


@pytest.mark.parametrize("path", BOTH, ids=lambda p: p.stem)
def test_a_checkpoint_is_the_same_after_conversion(tmp_path, capsys, path):
    lines = convert(capsys, "checkpoint", path, "--output", tmp_path / "a/x.pth")
    content = torch.load(tmp_path / "a/x.pth", weights_only=True)
    before = read_checkpoint(path)
    assert content.keys() == {"format", "version", "model", "facts"}
    assert content["format"] == "tse-checkpoint" and content["version"] == 1
    assert content["facts"] == before.facts
    assert_equal({n.removeprefix("network."): v for n, v in content["model"].items()}, before.network)
    again = convert(capsys, "checkpoint", path, "--output", tmp_path / "b/y.pth")
    assert lines[0].split()[-1] == again[0].split()[-1]  # the digest depends on the content alone


@pytest.mark.slow
def test_the_command_line_in_a_process_of_its_own(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "models.released", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=REFERENCE.parents[1])

    torch.save({"new_bob": Runs(tmp_path / "ran")}, tmp_path / "evil.pth")
    result = run("convert", "checkpoint", tmp_path / "evil.pth", "--output", tmp_path / "x.pth")
    assert result.returncode == 2 and result.stdout == ""
    assert re.fullmatch(r"error: .*evil\.pth asks for .*\n", result.stderr)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "x.pth").exists()


def test_errors_of_the_command_line_are_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    for arguments in (
        ["kmeans", tmp_path / "gone", "--output", tmp_path],
        ["kmeans", tmp_path, "--output", tmp_path],
        ["vocoder", REFERENCE / "hifigan", "--output", tmp_path / "file"],
        ["checkpoint", tmp_path, "--output", tmp_path / "x.pth"],
    ):
        assert released.main(["convert", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert re.fullmatch(r"error: [^\n]+\n", captured.err) and captured.out == ""
    for arguments in ([], ["convert"], ["convert", "kmeans", "x"], ["convert", "other", "x", "--output", "y"]):
        with pytest.raises(SystemExit, match="2"):
            released.main(arguments)


def test_help_names_what_is_converted(capsys):
    with pytest.raises(SystemExit, match="0"):
        released.main(["convert", "--help"])
    text = capsys.readouterr().out
    assert "kmeans.safetensors" in text and "vocoder.json" in text and "OUT.pth" in text


def test_what_users_have_read_from_here_still_can_be(tmp_path):
    """A recipe of a user's own names ``models.released.read_kmeans``, as the shipped ones did."""
    for module, names in (
        (kmeans_files, ("read_kmeans", "write_kmeans", "write_released_kmeans")),
        (vocoder_files, ("read_vocoder", "write_vocoder")),
        (tselm_released, ("read_checkpoint", "parse_checkpoint", "compare_frozen", "STAND_INS")),
    ):
        assert all(getattr(released, name) is getattr(module, name) for name in names)
    assert released.newer_names is newer_names
    with pytest.raises(AttributeError, match="read_kmean"):
        released.read_kmean  # noqa: B018
    recipe = tmp_path / "own.yaml"
    recipe.write_text(f"model: !apply:models.released.read_kmeans\n  folder: {REFERENCE}/kmeans\n  layers: [3]\n")
    assert torch.equal(Recipe(recipe).build("model")["model"][0], read_kmeans(REFERENCE / "kmeans", [3])[0])


def test_each_system_offers_its_kinds():
    assert released.conversions() == {
        "kmeans": kmeans_files.convert,
        "vocoder": vocoder_files.convert,
        "checkpoint": tselm_released.convert,
    }
