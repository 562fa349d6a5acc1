"""Self-supervised training of an encoder: what is predicted, from what, and what comes out."""

from __future__ import annotations

import pytest
import torch
from transformers import WavLMConfig

from models.masked_prediction.network import MaskedUnitPredictor
from models.masked_prediction.task import MaskedPrediction
from models.mel_encoder import MelEncoder
from models.ssl_tokenizer import SSLTokenizer
from models.wavlm import WavLM


def config(**more) -> WavLMConfig:
    settings = dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, feat_extract_norm="layer", layerdrop=0.0,
        do_stable_layer_norm=True, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        feat_proj_dropout=0.0,
    )  # fmt: skip
    return WavLMConfig(**{**settings, **more})


def make_task(**more) -> MaskedPrediction:
    torch.manual_seed(0)
    encoder = MelEncoder()
    centroids = [torch.randn(6, encoder.dim) - 3]
    tokenizer = SSLTokenizer(encoder=encoder, centroids=centroids, vocab_size=6)
    network = MaskedUnitPredictor(encoder=config(), vocab_size=6, head_dim=8)
    return MaskedPrediction(
        network=network, tokenizer=tokenizer, optimizer=lambda p: torch.optim.AdamW(p, lr=0.01), **more
    )


def make_batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    target = torch.randn(3, 8000) * (1 + torch.sin(torch.linspace(0, 60, 8000)))
    target[1, 6000:] = 0
    mixture = target.clone()
    mixture[:, 2000:4000] += torch.randn(3, 2000)
    return {"target": target, "mixture": mixture, "length": torch.tensor([8000, 6000, 8000])}


def test_a_hidden_frame_is_not_heard() -> None:
    task = make_task().eval()
    batch = make_batch()
    hidden = torch.zeros(3, 24, dtype=torch.bool)
    hidden[:, 10:14] = True
    with torch.no_grad():
        want = task.network(batch["mixture"], batch["length"], hidden)
        # frames 10 to 13 see samples 3200 to 4560, which frames 9 and 14 overlap: change what is in none of those
        changed = batch["mixture"].clone()
        changed[:, 3300:4400] = changed[:, 3300:4400].flip(-1)
        assert torch.allclose(task.network(changed, batch["length"], hidden), want, atol=1e-5)
        heard = task.network(changed, batch["length"], torch.zeros_like(hidden))
    assert not torch.allclose(heard, want, atol=1e-2)


def test_the_units_are_those_of_the_clean_target_alone() -> None:
    task, batch = make_task(), make_batch()
    units = task.tokenizer.encode(batch["target"], batch["length"])[..., 0]
    torch.manual_seed(5)
    (objective,) = task.objectives(batch, task.networks())
    torch.manual_seed(5)
    other = {**batch, "mixture": batch["target"]}
    (alone,) = task.objectives(other, task.networks())
    assert objective.loss != alone.loss and objective.loss.requires_grad
    assert units.unique().numel() > 1


def test_validation_hides_the_same_frames_every_time_and_counts_only_own_ones() -> None:
    task, batch = make_task().eval(), make_batch()
    with torch.no_grad():
        first, second = task.evaluate(batch), task.evaluate(batch)
    assert first == second
    counted = first["error"][1] + first["heard_error"][1]
    assert counted == int(task.network.grid.frames(batch["length"]).sum())


def test_it_learns_one_batch() -> None:
    task, batch = make_task(), make_batch()
    optimizer = task.optimizers()["network"]
    losses = []
    for _ in range(60):
        (objective,) = task.objectives(batch, task.networks())
        optimizer.zero_grad()
        objective.loss.backward()
        optimizer.step()
        losses.append(float(objective.loss.detach()))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-2)])
def test_the_exported_encoder_is_read_as_any_wavlm(tmp_path, dtype: str, tolerance: float) -> None:
    task = make_task(export_dtype=dtype).eval()
    files = task.export(tmp_path / "wavlm")
    assert {path.name for path in files} == {"config.json", "model.safetensors"}
    assert sorted(path.name for path in (tmp_path / "wavlm").iterdir()) == sorted(path.name for path in files)
    frozen = WavLM(tmp_path / "wavlm", layers=[1, 2])
    wav = make_batch()["mixture"][:1]
    with torch.no_grad():
        nothing = torch.zeros(1, 24, dtype=torch.bool)
        x = task.network.encoder(torch.nn.functional.layer_norm(wav, wav.shape[-1:]), mask_time_indices=nothing)
    assert next(task.network.encoder.parameters()).dtype == torch.float32
    assert torch.allclose(frozen(wav)[1], x.last_hidden_state, atol=tolerance)
    assert task.export(tmp_path / "wavlm") == files  # over an older one


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedUnitPredictor(encoder=config(layerdrop=0.1), vocab_size=6), "layerdrop.*got 0.1"),
        # it switched the hiding of frames off without a word
        (
            lambda: MaskedUnitPredictor(encoder=config(apply_spec_augment=False), vocab_size=6),
            "apply_spec_augment True",
        ),
        (lambda: make_task(export_dtype="int8"), "export_dtype.*int8"),
    ],
)
def test_wrong_settings_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
