"""The floor: floating-point operations, and bytes of weights, that a piece of work cannot do without."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


def tokenizing(tokenizer: torch.nn.Module, *, rows: int, samples: int) -> float:
    """Operations of the encoder and of the comparison with the centroids, from their sizes, where nothing is shared."""
    config = tokenizer.encoder.model.config
    length, channels, total = samples, 1, 0.0
    for width, size, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = (length - size) // stride + 1
        total += 2 * length * size * channels * width
        channels = width
    dim, frames = config.hidden_size, length
    total += 2 * frames * channels * dim
    groups = config.num_conv_pos_embedding_groups
    total += 2 * frames * config.num_conv_pos_embeddings * dim * dim / groups
    layer = 2 * frames * (4 * dim * dim + 2 * dim * config.intermediate_size) + 4 * frames * frames * dim
    total += layer * config.num_hidden_layers
    total += 2 * frames * dim * tokenizer.vocab_size * tokenizer.num_codebooks
    return rows * total


def counted(function: Callable[[], object]) -> float:
    """Operations of products, convolutions and attention in one call without gradients, counted as they are made."""
    with torch.no_grad():
        return counted_with_gradients(function)


def counted_with_gradients(function: Callable[[], object]) -> float:
    """The same of a call that may compute gradients, a training step."""
    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def moved(function: Callable[[], object]) -> float:
    """Bytes that the operations of one call read and write, each of them by itself: what passes through memory."""
    with _Bytes() as counter:
        function()
    return float(counter.total)


class _Bytes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = {id(x): x for x in _tensors((args, kwargs, made))}
            self.total += sum(map(_bytes, tensors.values()))
        return made


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _bytes(x: torch.Tensor) -> int:
    """Of the elements that differ in memory: an expanded tensor's are read once."""
    if x.layout != torch.strided:
        return x.nbytes
    return x.element_size() * math.prod(size for size, step in zip(x.shape, x.stride(), strict=True) if step)


def network(network: torch.nn.Module, *, rows: int, frames: int, enrolment_frames: int) -> float:
    """Operations of one forward pass of a TSELM network that reads tokens."""
    device = network.head.weight.device
    mixture, enrolment = (
        torch.zeros(rows, length, network.num_codebooks, dtype=torch.int64, device=device)
        for length in (frames, enrolment_frames)
    )
    return counted(lambda: network(mixture, enrolment))


def weights(*modules: torch.nn.Module) -> int:
    """Bytes of all parameters, each of which is read at least once."""
    return sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
