"""Inputs in the memory order that matrix products want, for modules of libraries that turn time and batch around."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def order_inputs(module: nn.Module) -> None:
    """Let every linear layer and attention in ``module`` read contiguous inputs, and attention be one fused step.

    SpeechBrain hands [B, N, D] on as a view [N, B, D]. Where no gradient is asked for, torch multiplies such a view
    frame by frame, with a copy of the weights for each; and where query, key and value are three views of one tensor,
    it does not see that they are one, and projects three times. The results are the same but for rounding. The weights
    of an attention over its keys are no longer returned: None stands in their place.
    """
    for part in module.modules():
        if isinstance(part, nn.MultiheadAttention):
            part.register_forward_pre_hook(_order_attention, with_kwargs=True)
        elif isinstance(part, nn.Linear):
            part.register_forward_pre_hook(_order_linear)


def _order_linear(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].contiguous(),)


def _order_attention(
    _: nn.Module, inputs: tuple[torch.Tensor, ...], settings: dict[str, Any]
) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
    query, *others = inputs
    ordered = query.contiguous()
    same = [ordered if _is_same(query, other) else other.contiguous() for other in others]
    return (ordered, *same), {**settings, "need_weights": False}


def _is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a is b or (a.data_ptr(), a.shape, a.stride(), a.dtype) == (b.data_ptr(), b.shape, b.stride(), b.dtype)
