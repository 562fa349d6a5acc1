"""The numbers of the reference implementation, stage by stage, in all three modes and both namings."""

from __future__ import annotations

import pytest
import torch

from models import load_extractor
from modules.losses import token_cross_entropy, wrong_tokens
from tests.toy import DIMS, RECIPE, REFERENCE, UTTERANCES, VARIANTS, expected, read, settings

CHECKPOINTS = ("tselm.pth", "tselm_weight_norm_names.pth")


@pytest.fixture(scope="module", params=[(v, c) for v in VARIANTS for c in CHECKPOINTS], ids=lambda p: f"{p[0]}-{p[1]}")
def system(request):
    variant, checkpoint = request.param
    overrides = settings(chunking="published", **VARIANTS[variant])
    return variant, load_extractor(RECIPE, REFERENCE / checkpoint, overrides=overrides)


def close(ours: torch.Tensor, reference: torch.Tensor, tolerance: float) -> None:
    assert ours.shape == reference.shape
    assert float((ours - reference).abs().max()) < tolerance


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_forward_pass(system, utterance: str) -> None:
    variant, extractor = system
    want = {key.split("/", 2)[2]: v for key, v in expected().items() if key.startswith(f"{variant}/{utterance}/")}
    mixture = read("mix_clean", utterance, DIMS["mix_samples"])
    target = read("s1", utterance, DIMS["mix_samples"])
    enrolment = read("aux_s1", utterance, DIMS["regi_samples"])
    stages: dict[str, torch.Tensor] = {}
    network = extractor.network
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: stages.update({name: output}))
        for name, module in (
            ("fusion", network.cross_attention),
            ("film", network.film),
            ("fusion_norm", network.norm),
            ("lm", network.lm),
        )
    ]
    front_end = extractor.front_end
    with torch.no_grad():
        clean = front_end.encode(target)
        logits = network(front_end.encode_mixture(mixture, enrolment), front_end.encode(enrolment))
    for hook in hooks:
        hook.remove()
    close(logits, want["logits"], 1e-4)
    assert torch.equal(logits.argmax(dim=-1), want["tokens_out"])
    close(token_cross_entropy(logits, clean)[None], want["loss"], 1e-5)
    error = 100 * wrong_tokens(logits.argmax(dim=-1), clean).sum() / clean.numel()
    close(error[None].float(), want["error_percent"].float(), 1e-4)
    if variant == "l":
        assert torch.equal(clean, want["tokens_clean"])
        assert torch.equal(front_end.encode(enrolment), want["tokens_regi"])
        whole = torch.cat([enrolment, mixture, enrolment], dim=1)
        assert torch.equal(front_end.encode(whole), want["tokens_regi_mix_regi"])
        hidden = torch.stack([x[0, :20] for x in extractor.tokenizer.features(target)])
        close(hidden, want["hidden_states_clean"], 1e-4)
        for name in ("fusion", "film", "fusion_norm"):
            close(stages[name], want[name], 1e-4)
        close(stages["lm"][0], want["lm"], 1e-4)
        close(extractor.vocoder.decode(want["tokens_clean"]), want["wav_vocoded_clean_tokens"], 1e-4)


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_whole_file_with_published_chunking(system, utterance: str) -> None:
    variant, extractor = system
    want = expected()[f"{variant}/{utterance}/wav_extracted"]
    close(extractor.extract(read("mix_clean", utterance), read("aux_s1", utterance)), want, 1e-4)
