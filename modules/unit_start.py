"""A start for networks with weight norm, from data (Salimans and Kingma, arXiv 1602.07868, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from modules.seanet import PaddedConv1d, UpConv1d

FLAT = 1e-5  # a channel that varies less has nothing to be scaled by


@torch.no_grad()
def start_at_unit_variance(
    network: nn.Module, run: Callable[[], object], *, deviations: Mapping[nn.Module, float] | None = None
) -> None:
    """Scale and shift every convolution so that each of its channels has mean 0 and deviation 1 on some data.

    With torch's initial weights a signal shrinks from layer to layer, until biases are all that is left of it, and a
    deep network takes thousands of steps to hear anything.

    Args:
        network: its ``PaddedConv1d`` and ``UpConv1d`` are changed.
        run: passes the data through it, once.
        deviations: of the outputs of some layers, where it is not to be 1.
    """
    wanted = dict(deviations or {})

    def settle(layer: PaddedConv1d | UpConv1d, _: object, output: torch.Tensor) -> torch.Tensor:
        is_up = isinstance(layer, UpConv1d)
        conv = layer.convtr if is_up else layer.conv
        mean, deviation = output.mean((0, 2)), output.std((0, 2))
        scale = torch.where(deviation > FLAT, wanted.get(layer, 1.0) / deviation.clamp(min=FLAT), 1.0)
        conv.weight = conv.weight * (scale[None, :, None] if is_up else scale[:, None, None])
        conv.bias.copy_((conv.bias - mean) * scale)
        return (output - mean[:, None]) * scale[:, None]

    hooks = [m.register_forward_hook(settle) for m in network.modules() if isinstance(m, PaddedConv1d | UpConv1d)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
