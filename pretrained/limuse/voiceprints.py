"""A speaker encoder of toy size: what a layer of the toy's WavLM says of a voice, through a linear discriminant.

No network is trained. Mean and deviation of a layer's features over an utterance are projected to where training
talkers differ most and one talker's utterances least (linear discriminant analysis). What comes is written as a
``WavLMForXVector``, the form of public speaker encoders, whose layers are set so that they compute just this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from data import audio
from models.limuse.speaker_encoders import XVector

SECONDS = 4.0  # of an utterance that is heard
LAYER = 4
_ONLY = 30.0  # weight of the layer among others, whose weights are 0: softmax gives it all


def make_encoder(
    folder: str | os.PathLike,
    wavlm: str | os.PathLike,
    talkers: Mapping[str, Sequence[Path]],
    *,
    dim: int,
    most: int = 20,
) -> None:
    """Write the speaker encoder to ``folder``.

    Args:
        wavlm: folder of the frozen encoder; only its layers up to ``LAYER`` are kept.
        talkers: speaker -> utterances that the discriminant is fitted to.
        dim: numbers of a voiceprint; fewer than talkers.
        most: utterances of a talker.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    from models.wavlm import quiet_transformers

    with quiet_transformers():
        model = _empty(wavlm, dim)
    head = model.eval().feature_extractor
    statistics, whose = [], []
    for talker, utterances in tqdm(talkers.items(), desc="voices", disable=None):
        for path in utterances[:most]:
            wav = audio.read(path, length=round(SECONDS * audio.SAMPLE_RATE))
            statistics.append(_statistics(model, wav))
            whose.append(talker)
    x = np.stack(statistics)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    fitted = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit((x - mean) / scale, whose)
    matrix = fitted.scalings_[:, :dim] / scale[:, None]
    deviation = ((x - mean) @ matrix).std(axis=0)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy((matrix / deviation).T))
        head.bias.copy_(torch.from_numpy(-(mean @ matrix) / deviation))
    _write(model, Path(folder))


def tell_apart(folder: str | os.PathLike, talkers: Mapping[str, Sequence[Path]], *, most: int = 10) -> float:
    """% of utterances whose nearest voiceprint (by cosine) of all other utterances is of the same talker."""
    encoder, prints, whose = XVector(folder), [], []
    for talker, utterances in talkers.items():
        for path in utterances[:most]:
            wav = torch.from_numpy(audio.read(path, length=round(SECONDS * audio.SAMPLE_RATE)))
            prints.append(encoder.embed(wav[None])[0])
            whose.append(talker)
    alike = nn.functional.normalize(torch.stack(prints))
    nearest = (alike @ alike.T).fill_diagonal_(-2.0).argmax(dim=1)
    return 100 * float(np.mean([whose[i] == whose[int(j)] for i, j in enumerate(nearest)]))


def _empty(wavlm: str | os.PathLike, dim: int) -> nn.Module:
    """The model without its discriminant: it pools the features of ``LAYER``, positive and negative parts apart."""
    from transformers import WavLMConfig, WavLMForXVector

    config = WavLMConfig.from_pretrained(wavlm, local_files_only=True)
    size = config.hidden_size
    config.num_hidden_layers = LAYER
    config.use_weighted_layer_sum = True
    config.tdnn_dim, config.tdnn_kernel, config.tdnn_dilation = [2 * size], [1], [1]
    config.xvector_output_dim = dim
    config.architectures = ["WavLMForXVector"]
    model = WavLMForXVector(config).float()
    known = model.wavlm.state_dict()
    model.wavlm.load_state_dict(
        {name: x.float() for name, x in load_file(Path(wavlm) / "model.safetensors").items() if name in known}
    )
    one = torch.eye(size)
    with torch.no_grad():
        model.layer_weights.copy_(torch.tensor([0.0] * LAYER + [_ONLY]))
        model.projector.weight.copy_(torch.cat([one, -one]))  # the TDNN's ReLU would lose what is negative
        model.projector.bias.zero_()
        model.tdnn[0].kernel.weight.copy_(torch.eye(2 * size))
        model.tdnn[0].kernel.bias.zero_()
    return model


@torch.no_grad()
def _statistics(model: nn.Module, wav: np.ndarray) -> np.ndarray:
    """[4 * hidden_size]: means and deviations, as the discriminant will hear them."""
    normal = (wav - wav.mean()) / np.sqrt(wav.var() + 1e-7)  # as Wav2Vec2FeatureExtractor does
    found: list[torch.Tensor] = []
    hook = model.feature_extractor.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    model(input_values=torch.from_numpy(normal)[None])
    hook.remove()
    return found[0][0].double().numpy()


def _write(model: nn.Module, folder: Path) -> None:
    import shutil

    from transformers import Wav2Vec2FeatureExtractor

    model.wavlm.half()  # the discriminant stays as exact as it is
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
