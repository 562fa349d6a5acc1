"""A module that never trains: no gradients, and always in eval mode, whatever its owner does."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

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
        """SHA-256 of all parameters and buffers that are saved: which weights these are."""
        return tensor_digest(self.state_dict())


@contextlib.contextmanager
def without_gradients(network: nn.Module) -> Iterator[None]:
    """Within this context the network's parameters are constants to what is computed: no work for their gradients."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def tensor_digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the SHA-256 of each tensor's dtype, shape and bytes, in the order of those digests.

    Neither the device nor the names matter: libraries rename the parts of a model from one version to the next.
    """
    return hashlib.sha256("".join(sorted(map(_digest, tensors.values()))).encode()).hexdigest()


def _digest(tensor: torch.Tensor) -> str:
    tensor = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
