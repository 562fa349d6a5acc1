"""Reading torch files so that nothing in them can run: tensors and plain values come back, anything else is refused.

joblib files have a reader of their own in :mod:`utils.safe_joblib`.
"""

from __future__ import annotations

import os
import pickle
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from utils.files import require_file
from utils.pickle_bounds import Unbounded, require_bounded

_lock = threading.Lock()
_REPEATED = 1 << 20  # values that a tensor may have by repeating fewer: a mask, say
_WAY_OUT = (
    "Nothing in it was run. Ask whoever made it for a file of tensors and plain values, or, if you trust where it "
    "comes from, open it where its code is at hand and torch.save only its state_dict"
)
# what torch says of content that it understands and will not build
_FORBIDDEN = re.compile(r"GLOBAL|unrecognized function|Can only (create|build)|persistent_load|must be imported")


class UnsafeFile(ValueError):
    """A file asks for something that could run code, or that has no business in a file of its kind."""


class Inert:
    """Stands where a file names a class: it keeps what the file would have set, and does nothing.

    Attributes:
        name: the dotted name that the file asks for, such as ``"schedulers.NewBob"``.
        arguments: what the file would have called it with.
        attributes: the state that the file would have given it, as a plain dict; a state that is not a dict is kept
            under ``"__state__"``.
    """

    name = ""

    def __new__(cls, *arguments: Any) -> Inert:
        self = super().__new__(cls)
        self.arguments = arguments
        self.attributes = {}
        return self

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if type(state) is dict else {"__state__": state}

    def __repr__(self) -> str:
        return f"<inert {self.name}>"  # never its contents: they may refer to themselves


def load_torch(path: str | os.PathLike, *, stand_ins: Sequence[str] = (), mmap: bool = False) -> Any:
    """Read a ``torch.save`` file onto the CPU: ``torch.load`` with ``weights_only=True``, and clear errors.

    Args:
        path: a zip file, as torch writes since 1.6, or the older format. TorchScript and .tar archives are refused.
        stand_ins: dotted names of classes, ``"scheduler.schedulers.NewBobScheduler"``, whose pickled objects come
            back as :class:`Inert`. The classes themselves are neither imported nor needed.
        mmap: map the file rather than read it, so that only tensors in use take memory. The older format cannot be
            mapped and is read. The file must not change while its tensors live.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFile: the file asks for a class or function that is neither torch's own nor among ``stand_ins``.
        ValueError: the file is broken, or is no torch file.
    """
    path = os.fspath(path)
    require_file(path)
    with open(path, "rb") as file:  # a file one may not read is an OSError that says so
        head = file.read(16)
    if head and not head.strip(b"\0"):  # torch takes zeros for a .tar archive
        raise ValueError(_broken(path, head, "zeros"))
    try:
        require_bounded(path)
    except Unbounded as reason:
        raise UnsafeFile(f"{path} is not read: {reason}. {_WAY_OUT}") from None
    except ValueError as error:
        raise ValueError(_broken(path, head, str(error))) from error
    mmap = mmap and head.startswith(b"PK\x03\x04")
    classes = [(type("StandIn", (Inert,), {"name": name}), name) for name in stand_ins]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not classes:
                return _with_its_values(torch.load(path, map_location="cpu", weights_only=True, mmap=mmap), path)
            # torch keeps the admitted names in one set for the whole process, so one thread at a time
            with _lock, torch.serialization.safe_globals(classes):
                return _with_its_values(torch.load(path, map_location="cpu", weights_only=True, mmap=mmap), path)
    except pickle.UnpicklingError as error:
        said = _what_torch_says(error)
        if not _FORBIDDEN.search(said):
            raise ValueError(_broken(path, head, said)) from None
        asked = re.search(r"GLOBAL (.+?) (was not an allowed|whose module)", said)
        wants = f"asks for {asked[1]}, which" if asked else f"asks for something ({said}) that"
        raise UnsafeFile(f"{path} {wants} could run code. {_WAY_OUT}") from None
    except UnsafeFile:
        raise
    except Exception as error:
        said = _what_torch_says(error)
        if "Cannot use ``weights_only=True``" in said:
            kind = "a TorchScript archive" if "TorchScript" in said else "a .tar archive"
            raise UnsafeFile(f"{path} is {kind}, which cannot be read without running code. {_WAY_OUT}") from None
        raise ValueError(_broken(path, head, said)) from error


def _with_its_values(content: Any, path: str) -> Any:
    """What was read, if each of its tensors has its values in the file.

    Raises:
        UnsafeFile: one has more values than the file has for it, as a view can say of itself, and who copies it, or
            only looks whether it is finite, takes the memory and the time of all.
    """
    todo = [content]
    while todo:
        value = todo.pop()
        if isinstance(value, torch.Tensor):
            if value.layout == torch.strided and not value.is_meta and value.numel() > _REPEATED:
                held = value.untyped_storage().nbytes() // value.element_size()
                if value.numel() > held:
                    raise UnsafeFile(
                        f"{path} is not read: a tensor of {list(value.shape)} repeats the {held} values that it has. "
                        f"{_WAY_OUT}"
                    )
        elif isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, Inert):
            todo += [value.arguments, value.attributes]
    return content


def _what_torch_says(error: Exception) -> str:
    """The cause alone: torch wraps it in advice to switch the protection off."""
    text = str(error).partition("\n\nCheck the documentation")[0].rpartition("WeightsUnpickler error:")[2]
    if text.startswith("Weights only load failed"):
        text = text.rpartition("\n\n")[2]
    text = text.strip().partition("\n")[0]
    return ascii(text)[1:-1][:300] if text else type(error).__name__  # names in it are the file's: print them plainly


def _broken(path: str, head: bytes, said: str) -> str:
    return (
        f"{path} cannot be read as a torch file ({said}). Is it complete, and what its name says? It begins with "
        f"{head!r}"
    )
