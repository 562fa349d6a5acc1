"""What a torch file would unfold to, found before torch builds any of it.

``torch.load`` with ``weights_only=True`` runs no code, but it builds whatever it is told to: a file of 400 bytes can
ask for gigabytes, name one dict twice in each of forty others, so that who walks through them never ends, or nest a key
so deeply that hashing it overflows the stack and the process dies. Here the pickle's opcodes are followed with the
depth and the number of values alone.
"""

from __future__ import annotations

import os
import pickletools
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

DEEPEST = 100  # levels; checkpoints have some five
# Values that a file may unfold to, and opcodes that it may have; a speaker index has two for each file, and LibriSpeech
# 281,241 of these.
MOST = 2_000_000
_SCALARS = set(
    """NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING
    SHORT_BINSTRING UNICODE BINUNICODE BINUNICODE8 SHORT_BINUNICODE BINBYTES BINBYTES8 SHORT_BINBYTES GLOBAL""".split()
)
_EMPTY = {"EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
_OF_MARK = {"TUPLE", "LIST", "DICT", "FROZENSET"}
_OF_LAST = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1, "STACK_GLOBAL": 2}
_INTO_LAST = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
_INTO_OF_MARK = {"APPENDS", "SETITEMS", "ADDITEMS"}
_ZIP = b"PK\x03\x04"
# It makes as many bytes as a number says.
_REFUSED = {"__builtin__ bytearray", "builtins bytearray"}


class Unbounded(Exception):
    """The file would unfold to more than any checkpoint does; the text says to what."""


class _Value:
    """A value that is not built: how deep it is, how many values it unfolds to, and whether another one holds it."""

    __slots__ = ("depth", "count", "is_held")

    def __init__(self, parts: list[_Value]) -> None:
        self.depth, self.count, self.is_held = 0, 1, False
        self.take(parts)

    def take(self, parts: list[_Value]) -> None:
        """Raises Unbounded if with these parts it is too deep, too large, or holds itself."""
        if parts and self.is_held:  # what has no way back to itself is complete before another one holds it
            raise Unbounded("it holds values that hold themselves")
        for part in parts:
            if part is self:
                raise Unbounded("it holds values that hold themselves")
            part.is_held = True
            self.depth = max(self.depth, part.depth + 1)
            self.count += part.count
        if self.depth > DEEPEST:
            raise Unbounded(f"its values lie more than {DEEPEST} levels deep in each other")
        if self.count > MOST:
            raise Unbounded(f"it unfolds to more than {MOST} values")


def require_bounded(path: str | os.PathLike) -> None:
    """Follow the pickles of a torch file, of the zip form or the older one.

    What of the older form cannot be followed is left to torch, which knows further forms and refuses them by name.

    Raises:
        Unbounded: they unfold to too much, or parts of the zip file are compressed or overlap.
        ValueError: it is no whole zip file, or its pickles cannot be followed.
    """
    with open(path, "rb") as file:
        if file.read(4) == _ZIP:  # as torch tells the two apart
            try:
                _follow_zip(file)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, IndexError, OSError) as error:
                raise ValueError(str(error) or type(error).__name__) from error
            return
        file.seek(0)
        for _ in range(5):  # magic number, protocol, system, content, keys of the storages that follow
            if not _follow(file):
                return


def _follow_zip(file: BinaryIO) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if any(part.filename.endswith("constants.pkl") for part in parts):
            return  # TorchScript, which is refused as such
        if packed := [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]:
            raise Unbounded(f"{len(packed)} of its parts are compressed, which torch never does")
        held, size = sum(part.file_size for part in parts), file.seek(0, os.SEEK_END)
        if held > size:
            raise Unbounded(f"its parts say that they are {held} bytes, the file has {size}")
        for part in parts:
            if part.filename.endswith(".pkl"):
                with archive.open(part) as pickled:
                    if not _follow(pickled):
                        raise ValueError(f"{ascii(part.filename)[:100]} is no pickle as torch writes it")


def _follow(file: BinaryIO) -> bool:
    """Follow one pickle to its end; whether it could be followed."""
    stack: list[_Value | None] = []
    memo: dict[int, _Value] = {}
    try:
        for steps, (opcode, argument) in enumerate(_opcodes(file)):
            if steps > MOST:
                raise Unbounded(f"it has more than {MOST} opcodes")
            if opcode == "GLOBAL" and argument in _REFUSED:
                raise Unbounded("it asks for a bytearray, which can be of any size")
            _step(stack, memo, opcode, argument)
    except (IndexError, KeyError, AttributeError, ValueError, EOFError):
        return False
    return True


def _opcodes(file: BinaryIO) -> Iterator[tuple[str, object]]:
    for opcode, argument, _ in pickletools.genops(file):
        yield opcode.name, argument


def _step(stack: list[_Value | None], memo: dict[int, _Value], opcode: str, argument: object) -> None:
    """Do to the depths what the opcode would do to the values. ``None`` on the stack is a mark."""
    if opcode in _SCALARS or opcode in _EMPTY:
        stack.append(_Value([]))
    elif opcode == "MARK":
        stack.append(None)
    elif opcode in _OF_MARK:
        stack.append(_Value(_above_mark(stack)))
    elif opcode in _OF_LAST:
        stack.append(_Value(_last(stack, _OF_LAST[opcode])))
    elif opcode in _INTO_LAST:
        parts = _last(stack, _INTO_LAST[opcode])
        stack[-1].take(parts)
    elif opcode in _INTO_OF_MARK:
        parts = _above_mark(stack)
        stack[-1].take(parts)
    elif opcode in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
    elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = stack[-1]
    elif opcode == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif opcode == "POP":
        stack.pop()
    elif opcode == "POP_MARK":
        _above_mark(stack)
    elif opcode not in ("PROTO", "FRAME", "STOP"):
        raise ValueError(f"{opcode} is none that torch reads")


def _last(stack: list[_Value | None], count: int) -> list[_Value]:
    parts = stack[-count:]
    if len(parts) < count or None in parts:
        raise ValueError("a value is missing")
    del stack[-count:]
    return parts


def _above_mark(stack: list[_Value | None]) -> list[_Value]:
    place = len(stack) - 1 - stack[::-1].index(None)
    parts = stack[place + 1 :]
    del stack[place:]
    return parts
