"""Speaker similarity, against the library called directly."""

from __future__ import annotations

import shutil

import pytest
import torch
import transformers

from evaluation.metric import Signals, Unavailable
from evaluation.speech_models import SpeakerSimilarity
from tests.speech_models import RATE, loaded, tone


def test_similarity_is_the_cosine_of_x_vectors(xvector) -> None:
    model = transformers.AutoModelForAudioXVector.from_pretrained(xvector).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(xvector)

    def cosine(output, target, prepare) -> float:
        with torch.no_grad():
            vectors = [model(prepare(wav)).embeddings[0] for wav in (output, target)]
        return torch.cosine_similarity(*vectors, dim=0).item()

    output, target = tone(0), tone(1)
    score = loaded(SpeakerSimilarity(source=str(xvector))).score(Signals(output, target=target))
    prepared = cosine(output, target, lambda wav: extractor(wav, sampling_rate=RATE, return_tensors="pt").input_values)
    assert score == {"similarity": pytest.approx(prepared, abs=1e-6)}
    raw = cosine(output, target, lambda wav: torch.tensor(wav)[None])
    for other in (1.0, raw):
        assert abs(prepared - other) > 1e-3


def test_similarity_does_without_the_weights_of_its_training(xvector, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(xvector, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    signals = Signals(tone(0), target=tone(1))
    expected = loaded(SpeakerSimilarity(source=str(folder))).score(signals)
    del weights["objective.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert loaded(SpeakerSimilarity(source=str(folder))).score(signals) == expected
    del weights["projector.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Unavailable, match=f"{folder}.*projector.weight"):
        loaded(SpeakerSimilarity(source=str(folder)))
