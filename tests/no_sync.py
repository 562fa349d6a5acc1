"""A guard that shows, on a CPU, where the host would wait for a GPU."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode

from benchmarks.floor import TorchDispatchMode

# What the host reads to go on: a value, as in ``if loss.isnan()``, or a size, as that of ``x[x > 0]``.
READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
# On a CPU these need no operation that the dispatcher sees. ``torch.tensor`` on a GPU waits for its copy.
CALLS = {torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.__array__, torch.tensor}


class NoSync:
    """In this context, and while ``active``, an operation that would make the host wait is an AssertionError.

    It sees torch's operations, not what their CUDA kernels do inside.
    """

    def __init__(self, active: bool = True) -> None:
        self.active = active
        self._modes = (_Calls(self), _Operations(self))

    def __enter__(self) -> NoSync:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def check(self, waits: bool, what: object) -> None:
        assert not (self.active and waits), f"the host would wait for the device: {what}"


class _Calls(TorchFunctionMode):
    def __init__(self, guard: NoSync) -> None:
        super().__init__()
        self.guard = guard

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.guard.check(function in CALLS, function)
        return function(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __init__(self, guard: NoSync) -> None:
        super().__init__()
        self.guard = guard

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = not READS.isdisjoint(function.tags)
        if function.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_):  # only masks have to be read
            waits = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        self.guard.check(waits, function)
        return function(*args, **(kwargs or {}))
