"""What the tests of metrics with pretrained models share: signals, and sizes of small random models."""

from __future__ import annotations

import pickle

import numpy as np
import torch
from transformers.utils import logging

from evaluation.metric import Signals

RATE = 16000
SIZES = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7)
SSL = dict(feat_extract_norm="layer", conv_bias=True, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)
WORDS = "Colour color of Cats. cats grey gray Mister one day Night, blue".split()
SPECIAL = [f"<|{name}|>" for name in "endoftext startoftranscript en transcribe startofprev notimestamps".split()]
END, START, EN, TRANSCRIBE, _, NO_TIMES = range(len(WORDS) + 256, len(WORDS) + 256 + len(SPECIAL))
SPELLINGS = {"colour": "color", "grey": "gray"}
NISQA_ARGS = dict(
    cnn_kernel_size=[3, 3], cnn_pool_1=[24, 7], cnn_pool_2=[12, 5], cnn_pool_3=[6, 3], cnn_dropout=0.2,
    cnn_c_out_1=2, cnn_c_out_2=3, cnn_c_out_3=4, td_sa_d_model=8, td_sa_nhead=1, td_sa_num_layers=2, td_sa_h=8,
    td_sa_dropout=0.1, pool_att_h=8, pool_att_dropout=0.1, ms_seg_length=15, ms_seg_hop_length=4, ms_max_segments=40,
    ms_n_fft=4096, ms_hop_length=0.01, ms_win_length=0.02, ms_n_mels=48, ms_fmax=20000,
)  # fmt: skip


def tone(seed: int, length: int = 9000) -> np.ndarray:
    """A few harmonics, some noise, and an offset that a normalisation would take away."""
    random = np.random.default_rng(seed)
    phase = np.cumsum(random.uniform(0.02, 0.2) * (1 + 0.3 * np.sin(np.arange(length) / 2000)))
    wav = sum(random.uniform(0, 0.1) * np.sin(k * phase) for k in range(1, 5)) + 0.02
    return (wav + random.normal(0, 0.01, length)).astype(np.float32)


def save(model, folder) -> None:
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()


def make(kind, settings):
    """A model, the same in every run."""
    torch.manual_seed(0)
    return shake(kind(settings), 0.1)


def shake(model, scale: float):
    """Change all weights, also the biases, which transformers leaves at 0."""
    with torch.no_grad():
        for weight in model.parameters():
            weight += scale * torch.randn_like(weight)
    return model.eval()


def loaded(metric):
    metric = pickle.loads(pickle.dumps(metric))
    metric.load("cpu")
    return metric


TARGET, OUTPUT = tone(1), tone(0)
BOTH = Signals(OUTPUT, target=TARGET)
