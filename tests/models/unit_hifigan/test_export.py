"""What a trained unit HiFi-GAN is exported as."""

from __future__ import annotations

import copy

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.HifiGAN import (
    UnitHifiganGenerator,
)

from models.released import read_vocoder
from models.unit_hifigan.export import generator_arguments
from models.unit_hifigan.vocoder import MISSING, UnitHifiGAN, load_vocoder
from tests.toy import REFERENCE
from tests.unit_hifigan import ARGUMENTS, LAYERS, V, make, make_batch


@pytest.mark.parametrize("export_format", ["released", "safetensors"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.slow
def test_what_is_exported_sounds_as_what_was_trained(tmp_path, discriminator, export_format: str, dtype: str) -> None:
    task = make(discriminator, export_format=export_format, export_dtype=dtype)
    before = copy.deepcopy(task.generator.state_dict())
    files = task.export(tmp_path)
    names = {"released": ["generator.ckpt", "hyperparams.yaml"], "safetensors": ["vocoder.json", "vocoder.safetensors"]}
    assert sorted(file.name for file in files) == sorted(p.name for p in tmp_path.iterdir()) == names[export_format]
    state = task.generator.state_dict()
    assert state.keys() == before.keys() and all(torch.equal(state[n], before[n]) for n in state)  # still trains on

    kept = UnitHifiganGenerator(**ARGUMENTS)
    kept.load_state_dict({name: value.to(getattr(torch, dtype)).float() for name, value in before.items()})
    settings = dict(vocab_size=V, trained_layers=LAYERS, layers=LAYERS)
    ours, loaded = UnitHifiGAN(generator=kept, **settings), load_vocoder(tmp_path, **settings)
    tokens = make_batch(2, frames=30)["tokens"]
    tokens[1, :, 1] = MISSING
    assert torch.equal(loaded.decode(tokens), ours.decode(tokens))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_the_vocoder_and_the_task_agree_on_rows(discriminator) -> None:
    task = make(discriminator).eval()
    generator = UnitHifiganGenerator(**ARGUMENTS)
    generator.load_state_dict(task.generator.state_dict())
    vocoder = UnitHifiGAN(generator=generator, vocab_size=V, trained_layers=LAYERS, layers=LAYERS)
    batch = make_batch(2)
    with torch.no_grad():
        wav, _ = task.generator(task.ids(batch["tokens"]))
    torch.testing.assert_close(vocoder.decode(batch["tokens"]), wav[:, 0], rtol=0, atol=1e-6)


def test_speechbrain_reads_the_released_layout(tmp_path, discriminator) -> None:
    task = make(discriminator)
    task.export(tmp_path)
    text = (tmp_path / "hyperparams.yaml").read_text()
    assert text.startswith("# Unit HiFi-GAN: tokens of the layers [1, 7, 23], 10 clusters each")
    generator = load_hyperpyyaml(text)["generator"]
    generator.load_state_dict(torch.load(tmp_path / "generator.ckpt", weights_only=True))
    ids = torch.randint(0, 31, (1, 8, 3))
    assert torch.equal(generator(ids)[0], task.generator(ids)[0])


@pytest.mark.parametrize(
    "more", [{}, dict(resblock_type="2", resblock_dilation_sizes=[[1, 3]] * 2, resblock_kernel_sizes=[3, 5])]
)
def test_the_arguments_are_read_from_the_layers(more: dict) -> None:
    given = {**ARGUMENTS, **more, "conv_post_bias": not more, "inference_padding": 3}
    found = generator_arguments(UnitHifiganGenerator(**given))
    assert {name: found[name] for name in given} == given
    reference, _ = read_vocoder(REFERENCE / "hifigan")
    read = generator_arguments(UnitHifiganGenerator(**reference))
    assert read == {name: reference[name] for name in read}


def test_a_folder_with_the_other_format_is_refused(tmp_path, discriminator) -> None:
    make(discriminator, export_format="safetensors").export(tmp_path)
    with pytest.raises(ValueError, match="holds a vocoder in another format, vocoder.json"):
        make(discriminator).export(tmp_path)
