"""SpeechBERTScore, against the library called directly."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import transformers

from evaluation.metric import Signals, Unavailable
from evaluation.speech_models import SpeechBERTScore
from tests.speech_models import loaded, tone


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_speechbert_is_the_precision_of_greedy_matching(ssl, layer: int) -> None:
    model = transformers.AutoModel.from_pretrained(ssl).eval()

    def greedy(output, target) -> float:
        with torch.no_grad():
            output, target = (
                model(torch.tensor(wav)[None], output_hidden_states=True).hidden_states[layer][0].double().numpy()
                for wav in (output, target)
            )
        best = [max(x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in target) for x in output]
        return float(np.mean(best))

    output, target = tone(0), tone(1)
    score = loaded(SpeechBERTScore(source=str(ssl), layer=layer)).score(Signals(output, target=target))
    assert score == {"speechbert": pytest.approx(greedy(output, target), abs=1e-6)}
    # the example tells it from what it must not be
    others = [greedy(target, output), greedy(*((wav - wav.mean()) / wav.std() for wav in (output, target)))]
    for other in [1.0, *others]:
        assert abs(score["speechbert"] - other) > 1e-3


def test_speechbert_names_model_and_layer(ssl) -> None:
    metric = SpeechBERTScore(source=str(ssl), layer=2)
    (column,) = metric.columns
    assert "hidden_states[2]" in column.definition and str(ssl) in column.definition and column.better == "higher"
    assert metric.models == {str(ssl): hashlib.sha256((ssl / "model.safetensors").read_bytes()).hexdigest()}


@pytest.mark.parametrize("layer", [4, -1])
def test_speechbert_refuses_a_layer_that_is_not_there(ssl, layer: int) -> None:
    with pytest.raises(Unavailable, match=f"{ssl} has layers 0 to 3, layer {layer} "):
        SpeechBERTScore(source=str(ssl), layer=layer)
