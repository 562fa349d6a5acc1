"""A module that never trains: no gradients, and always in eval mode, whatever its owner does."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


class Frozen(nn.Module):
    """Base class of the parts that are loaded, not trained.

    Putting a system into train mode would otherwise wake the dropout, layer drop and SpecAugment of a pretrained
    encoder, and its outputs, among them the training targets, would be random.

    A subclass calls ``freeze()`` at the end of its ``__init__``.
    """

    def freeze(self) -> None:
        """Turn gradients off for good, and switch everything below to eval mode."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode, even when ``mode`` is True."""
        return super().train(False)

    def digest(self) -> str:
        """SHA-256 over the names, shapes and values of all parameters and buffers: which weights these are."""
        return tensor_digest(self.state_dict())


def tensor_digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names. The device does not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.view(torch.uint8).numpy().data if value.ndim else value.numpy().tobytes())
    return digest.hexdigest()
