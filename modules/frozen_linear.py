"""Matrix products with weights that never change, and so can be brought into the best layout once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


class FrozenLinear:
    """``x W^T + b`` for frozen weights, followed by a GELU if asked for.

    On a CPU, oneDNN packs the weights into its own layout at the first use, and applies the GELU while the result is
    still in the cache. That is about a third faster than the ordinary product, and takes the memory of the weights once
    more. Elsewhere, it is the ordinary product.

    It is no module: it owns no weights, so that the state of the model that does keeps its names.

    Args:
        weights: gives ([O, I] weight, [O] bias or None) in their present place.
        gelu: apply it to the result.
    """

    def __init__(self, weights: Callable[[], tuple[torch.Tensor, torch.Tensor | None]], *, gelu: bool = False):
        self._weights = weights
        self._gelu = gelu
        self._packed: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor | None]] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[..., I] -> [..., O]; in the precision of autocast, where that is on."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        if kind == "cpu" and _can_pack(dtype):
            weight, bias = self._pack(dtype)
            how = "gelu" if self._gelu else "none"
            # What torch.compile makes of a linear layer with frozen weights. There is no other way to it.
            return torch.ops.mkldnn._linear_pointwise(x.to(dtype), weight, bias, how, [], "none")
        weight, bias = self._weights()
        x = F.linear(x, weight, bias)
        return F.gelu(x) if self._gelu else x

    def _pack(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        if dtype not in self._packed:
            weight, bias = self._weights()
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype).contiguous())
            self._packed[dtype] = packed, None if bias is None else bias.detach().to(dtype)
        return self._packed[dtype]


def _can_pack(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
