from __future__ import annotations

import copy
import functools
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WavLMConfig, WavLMModel

from models.wavlm import WavLM
from tests.toy import LAYERS, REFERENCE, read


@pytest.fixture(scope="module")
def wavs() -> torch.Tensor:
    return torch.cat([read("s1", "utt0", 9000), read("s1", "utt1", 9000)])


@pytest.fixture(scope="module")
def transformers_states(wavs):
    model = WavLMModel.from_pretrained(REFERENCE / "wavlm").eval()
    with torch.no_grad():
        out = model(torch.nn.functional.layer_norm(wavs, wavs.shape[-1:]), output_hidden_states=True)
    # Releases of transformers differ in whether the last hidden state has the final LayerNorm; this one always has.
    return [*out.hidden_states[:24], out.last_hidden_state]


def tiny_wavlm(folder: Path, *, norm: str) -> None:
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7)
    positions = dict(num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)
    config = WavLMConfig(feat_extract_norm=norm, do_stable_layer_norm=norm == "layer", **sizes, **positions)
    WavLMModel(config).save_pretrained(folder)


@pytest.mark.parametrize("layers", [[0], [1], [23], [24], [7, 3], LAYERS, list(range(25))], ids=str)
def test_hidden_states_are_those_of_transformers(wavs, transformers_states, layers: list[int]) -> None:
    ours = WavLM(REFERENCE / "wavlm", layers=layers)(wavs)
    for layer, hidden in zip(layers, ours, strict=True):
        torch.testing.assert_close(hidden, transformers_states[layer], rtol=0, atol=1e-5)


def test_layers_above_the_highest_are_not_there() -> None:
    model = WavLM(REFERENCE / "wavlm", layers=[1, 7]).model
    assert len(model.encoder.layers) == 7


@pytest.mark.parametrize("layers", [[0], [3, 1], LAYERS, [24]], ids=str)
@pytest.mark.parametrize("kept", [slice(5, 17), slice(0, 1), slice(None)], ids=str)
def test_frames_that_are_not_kept_are_left_out(wavs, layers: list[int], kept: slice) -> None:
    encoder = WavLM(REFERENCE / "wavlm", layers=layers)
    for some, every in zip(encoder(wavs, kept=kept), encoder(wavs), strict=True):
        torch.testing.assert_close(some, every[:, kept], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mixture", [6400, 4000, 4080, 4005, 4001], ids=lambda samples: f"{samples} samples")
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_what_is_repeated_is_heard_once(tmp_path, wavs, mixture: int, norm: str, monkeypatch) -> None:
    """Wherever the repetition falls among the frames of the convolutions, and also where it cannot be shared."""
    tiny_wavlm(tmp_path, norm=norm)
    encoder = WavLM(tmp_path, layers=[0, 1])
    enrolment = wavs[:, :1600]
    heard = torch.cat([enrolment, wavs[:, 2000 : 2000 + mixture], enrolment], dim=1)
    frames = []
    product = encoder._convolutions[0]

    def counted(x: torch.Tensor) -> torch.Tensor:
        frames.append(x.shape[1])
        return product(x)

    monkeypatch.setattr(encoder, "_convolutions", [counted, *encoder._convolutions[1:]])
    whole = encoder(heard)
    shared = encoder(heard, repeats_from=1600 + mixture)
    for a, b in zip(shared, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert (frames[1] < frames[0]) == (norm == "layer" and mixture % 5 == 0)


@pytest.mark.slow
def test_compiled_it_gives_the_same(tmp_path, wavs, monkeypatch) -> None:
    """Traced in one piece; what torch's compiler then makes of it, which takes a minute, is torch's own."""
    traced = functools.partial(torch.compile, WavLM._hidden_states, backend="aot_eager", fullgraph=True, dynamic=False)
    monkeypatch.setattr("models.wavlm._compiled_hidden_states", functools.cache(traced))
    tiny_wavlm(tmp_path, norm="layer")
    plain = WavLM(tmp_path, layers=[0, 1])
    compiled = copy.deepcopy(WavLM(tmp_path, layers=[0, 1], compiled=True))
    for again in range(2):
        for a, b in zip(compiled(wavs + again, kept=slice(3, 20)), plain(wavs + again), strict=True):
            torch.testing.assert_close(a, b[:, 3:20], rtol=0, atol=1e-5)
    torch.compiler.reset()


def test_train_mode_changes_nothing(wavs) -> None:
    """The reference's config has dropout, layer drop and SpecAugment on."""
    encoder = WavLM(REFERENCE / "wavlm", layers=LAYERS)
    before = encoder(wavs)
    torch.nn.Sequential(encoder).train()
    assert all(torch.equal(a, b) for a, b in zip(before, encoder(wavs), strict=True))


def test_the_input_is_not_written_to(wavs) -> None:
    before = wavs.clone()
    WavLM(REFERENCE / "wavlm", layers=[1])(wavs, torch.tensor([9000, 5000]))
    assert torch.equal(wavs, before)


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_padding_changes_nothing(tmp_path, wavs, norm: str) -> None:
    """Also in a model whose group norm over time would see the padding."""
    tiny_wavlm(tmp_path, norm=norm)
    encoder = WavLM(tmp_path, layers=[0, 2])
    lengths = torch.tensor([9000, 4321])
    batch = encoder(wavs, lengths)
    for row, length in enumerate(lengths.tolist()):
        for together, alone in zip(batch, encoder(wavs[row : row + 1, :length]), strict=True):
            torch.testing.assert_close(together[row : row + 1, : alone.shape[1]], alone, rtol=0, atol=1e-5)


def test_errors_name_the_folder_and_the_value(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        WavLM(tmp_path / "nowhere", layers=[1])
    with pytest.raises(ValueError, match=str(tmp_path)):
        WavLM(tmp_path, layers=[1])
    with pytest.raises(ValueError, match="24 layers, layer 25"):
        WavLM(REFERENCE / "wavlm", layers=[25])
    with pytest.raises(ValueError, match=r"\[1, 1\]"):
        WavLM(REFERENCE / "wavlm", layers=[1, 1])
    with pytest.raises(ValueError, match="at least 400 samples.*got 399"):
        WavLM(REFERENCE / "wavlm", layers=[1])(torch.zeros(1, 399))


def test_missing_weights_are_an_error(tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(REFERENCE / "wavlm", tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layers.0.attention.q_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="q_proj"):
        WavLM(tmp_path, layers=[1])


def test_weights_that_are_not_finite_are_an_error(tmp_path) -> None:
    """They were found by the first file, whose features they spoil, as a fault of that file."""
    tiny_wavlm(tmp_path / "wavlm", norm="layer")
    weights = load_file(tmp_path / "wavlm/model.safetensors")
    weights["encoder.layers.0.attention.k_proj.weight"].fill_(torch.nan)
    save_file(weights, tmp_path / "wavlm/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"wavlm are not finite: encoder\.layers\.0\.attention\.k_proj\.weight"):
        WavLM(tmp_path / "wavlm", layers=[1])


def test_a_missing_original_file_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(FileNotFoundError, match="no such file: nowhere/WavLM-Large.pt"):
        WavLM("nowhere/WavLM-Large.pt", layers=[1])


def test_a_pickle_in_a_wavlm_folder_does_not_run(tmp_path) -> None:
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    shutil.copy(REFERENCE / "wavlm/config.json", tmp_path)
    torch.save({"encoder.layer_norm.weight": Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=str(tmp_path)):
        WavLM(tmp_path, layers=[1])
    assert not (tmp_path / "ran").exists()
