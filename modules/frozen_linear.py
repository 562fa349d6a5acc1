"""Matrix products and norms with weights that never change, and so can be brought into the best form once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class FrozenLinear:
    """The product of one or more frozen linear layers with the same input, followed by a GELU if asked for.

    The weights are prepared at the first use on a device and in a precision: several layers become one, a strided
    convolution becomes a product with windows of k C samples, channels last, a transposed one of 2 r samples with a
    stride of r a product with pairs of neighbouring frames, and on a CPU oneDNN packs the result into its own layout
    and applies the GELU while the outputs are still in the cache. So they must not change afterwards, and where they
    are packed, cast or joined, they take their memory once more.

    It is no module: the state of the model that owns the layers keeps its names.

    Args:
        layers: linear layers of I inputs each, or one convolution. Of a transposed one the outputs of a pair of frames
            are the r samples where their windows overlap, channels last: [r * O].
        gelu: apply it to the result.
    """

    def __init__(self, *layers: nn.Linear | nn.Conv1d | nn.ConvTranspose1d, gelu: bool = False):
        self._layers = layers
        self._gelu = gelu
        self._prepared: dict[tuple[torch.device, torch.dtype, bool], tuple[torch.Tensor, torch.Tensor | None]] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[..., I] -> [..., O], O the outputs of all layers; in the precision of autocast, where that is on."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        packs = kind == "cpu" and not torch.compiler.is_compiling() and _can_pack(dtype)
        key = x.device, dtype, packs
        if key not in self._prepared:
            weight, bias = self._joined(dtype)
            self._prepared[key] = torch.ops.mkldnn._reorder_linear_weight(weight) if packs else weight, bias
        weight, bias = self._prepared[key]
        if packs:  # what torch.compile makes of a linear layer with frozen weights; there is no other way to it
            how = "gelu" if self._gelu else "none"
            return torch.ops.mkldnn._linear_pointwise(x.to(dtype), weight, bias, how, [], "none")
        x = F.linear(x.to(dtype), weight, bias)
        return F.gelu(x) if self._gelu else x

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to other layers, perhaps elsewhere, and prepares its own."""
        return {**self.__dict__, "_prepared": {}}

    def _joined(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[O, I] and [O] or None."""
        if isinstance(self._layers[0], nn.ConvTranspose1d):
            return self._of_pairs(self._layers[0], dtype)
        weights = [layer.weight.detach() for layer in self._layers]
        weights = [weight.transpose(1, 2).flatten(1) if weight.ndim == 3 else weight for weight in weights]
        biases = [layer.bias.detach() for layer in self._layers if layer.bias is not None]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        return weight.to(dtype).contiguous(), torch.cat(biases).to(dtype) if biases else None

    def _of_pairs(self, layer: nn.ConvTranspose1d, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The end of the window of a frame meets the beginning of the next one's."""
        beginning, end = layer.weight.detach().chunk(2, dim=2)  # [I, O, r]
        weight = torch.cat([end, beginning]).permute(2, 1, 0).flatten(0, 1)  # [r * O, 2 I]
        bias = None if layer.bias is None else layer.bias.detach().repeat(layer.stride[0]).to(dtype)
        return weight.to(dtype).contiguous(), bias


class FrozenNorm:
    """A frozen layer norm in the precision of what it is given: its sums are float32, its outputs are as its inputs.

    Autocast on CUDA would bring the inputs to float32 first, and products would bring the outputs back: at the widths
    and rates of an encoder's convolutions these copies take as long as the products. (On a CPU it does not.)

    It is no module, as ``FrozenLinear``.
    """

    def __init__(self, norm: nn.LayerNorm):
        self._norm = norm
        self._prepared: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[..., C] -> [..., C]."""
        key = x.device, x.dtype
        if key not in self._prepared:
            self._prepared[key] = self._norm.weight.detach().to(x.dtype), self._norm.bias.detach().to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self._norm.normalized_shape, *self._prepared[key], self._norm.eps)

    def __getstate__(self) -> dict[str, Any]:
        """See ``FrozenLinear``."""
        return {**self.__dict__, "_prepared": {}}


def _can_pack(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
