"""Reading joblib files of scikit-learn models so that nothing in them can run.

A joblib file is a pickle with the bytes of each numpy array placed between the opcodes, right after the object that
describes the array. The reader is Python's own ``pickle._Unpickler`` with every way to code taken out: a name in the
file is looked up in a list and never imported, what it would have built is an inert record of what the file says, and
arrays are made here from their described type, shape and bytes. joblib.load is never called.

A hostile file cannot exhaust memory either: lengths and shapes are checked against what remains of the file, the number
of opcodes is bounded, and nothing that the file can ask for again and again makes a copy.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from utils.files import require_file
from utils.safe_load import Inert, UnsafeFile

# The names found in k-means files of scikit-learn 0.18 to 1.9, written by joblib or pickle, protocols 0 to 5.
_MODELS = {
    f"sklearn.cluster.{module}.{name}" for module in ("_kmeans", "k_means_") for name in ("KMeans", "MiniBatchKMeans")
}
_WRAPPERS = {f"{module}.numpy_pickle.NumpyArrayWrapper" for module in ("joblib", "sklearn.externals.joblib")}
_RECORDS = _MODELS | {  # kept as a record of name, arguments and state
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
    "numpy.random.__RandomState_ctor",  # numpy before 1.17
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._pickle.__generator_ctor",
    *(f"numpy.random._{module}.{module.upper()}" for module in ("mt19937", "pcg64", "sfc64")),
    "numpy.random._pcg64.PCG64DXSM",
    "numpy.random._philox.Philox",
    "numpy.random.bit_generator.SeedSequence",
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
}
_ARRAY_CLASSES = {"numpy.ndarray", "numpy.memmap", "numpy.core.memmap.memmap"}
_OBJECT = {"builtins.object", "__builtin__.object"}  # protocols 0 and 1 name the base of a class
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}

_OPCODES = """PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4
    FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE BINUNICODE8 SHORT_BINUNICODE BINBYTES BINBYTES8
    SHORT_BINBYTES BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT
    SETITEM SETITEMS GLOBAL STACK_GLOBAL NEWOBJ REDUCE BUILD GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT
    MEMOIZE""".split()
# Opcodes: a k-means file has a few hundred, and each makes at most some 100 bytes. A large dict of arrays has more;
# each of its arrays takes some 20 opcodes and 2,000 bytes.
_MAX_STEPS = 1_000_000
_BYTES_A_STEP = 64
_COMPRESSED = {
    b"x\x01": "zlib",
    b"x^": "zlib",
    b"x\x9c": "zlib",
    b"x\xda": "zlib",
    b"ZF": "zlib",  # joblib before 0.10
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x5d\x00\x00": "lzma",
    b"\xfd7zXZ": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}


def load_joblib(path: str | os.PathLike, *, what: str = "joblib file") -> Any:
    """Read a k-means model of scikit-learn, saved by joblib or pickle, without running anything that is in the file.

    Args:
        what: the file is expected to be, for the messages: a pickle of plain values and arrays is read too.

    Returns:
        An :class:`~utils.safe_load.Inert` whose ``attributes`` are the model's: plain values, numpy arrays (numeric,
        read-only, in the file's byte order) and further inert records, such as a random state's. A file of plain
        values or of one array gives that. Do not walk through it blindly: it may refer to itself.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFile: the file asks for a name or an operation that such a file has no need of, or holds objects in an
            array, or is compressed: what it would grow to cannot be known before.
        ValueError: the file is broken, or is no joblib file.
    """
    path = os.fspath(path)
    require_file(path)
    with open(path, "rb") as file:
        head = file.read(16)
        for magic, kind in _COMPRESSED.items():
            if head.startswith(magic):
                raise UnsafeFile(
                    f"{path} is compressed ({kind}), and compressed files are not read: they can unfold to any size. "
                    "If you trust where it comes from, save it again with joblib.dump(joblib.load(path), new_path)"
                )
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _Reader(_Bounded(file, os.fstat(file.fileno()).st_size)).load()
        except UnsafeFile as error:
            raise UnsafeFile(
                f"{path} {error}. Nothing in it was run. If you trust where it comes from, open it with joblib where "
                "its packages are installed and save the arrays you need, as safetensors for example"
            ) from None
        except OSError:
            raise
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as a {what} ({ascii(str(error))[1:-1][:200] or type(error).__name__}). Is "
                f"it complete, and what its name says? It begins with {head!r}"
            ) from error


class _Bounded:
    """A file that never makes room for more than it holds."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        left = self.size - self._file.tell()
        if not 0 <= count <= left:
            raise ValueError(f"{count} bytes should follow where {left} are left")
        return self._file.read(count)


class _Name(Inert):
    """A name on its own, not yet called."""


class _Pending(Inert):
    """An array or a dtype whose state is still to come; ``value`` is what came of it."""

    value = None


class _Memo(dict):
    """What the file may refer back to: for a record that became an array, the array."""

    def __getitem__(self, index: int) -> Any:
        found = super().__getitem__(index)
        return found.value if type(found) is _Pending and found.value is not None else found


class _Steps(dict):
    """Opcode -> what to do; an opcode that is not there ends the reading."""

    def __missing__(self, key: int) -> Callable:
        opcode = pickletools.code2op.get(chr(key))
        if opcode is None:
            raise ValueError(f"byte {key:#04x} where an opcode should be")
        raise UnsafeFile(f"uses the pickle opcode {opcode.name}, which no such file needs")


class _Reader(pickle._Unpickler):
    def __init__(self, file: _Bounded) -> None:
        super().__init__(file, encoding="latin1")  # what a pickle of Python 2 needs: each byte a character
        self.file = file
        self.memo = _Memo()
        self.steps = 0
        self.max_steps = max(_MAX_STEPS, file.size // _BYTES_A_STEP)
        self.encoded = 0

    def load(self) -> Any:
        value = super().load()
        if isinstance(value, _Name | _Pending):
            raise ValueError(f"it ends with an unfinished {value.name}")
        return value

    # Names and calls: nothing is imported, nothing of the file's choice is called.

    def find_class(self, module: str, name: str) -> _Name:
        full = f"{module}.{name}"
        if full not in _ADMITTED:
            raise UnsafeFile(f"asks for {ascii(full)[1:-1][:200]}, which no such file needs")
        return _record(_Name, full)

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Name or type(arguments) is not tuple:
            raise UnsafeFile("calls something that is not a name with its arguments")
        if function.name in _CALLS:
            self.append(_CALLS[function.name](self, *arguments))
        else:
            self.append(_record(_Pending if function.name in _STATES else Inert, function.name, arguments))

    def load_newobj(self) -> None:
        if type(self.stack[-2]) is not _Name or self.stack[-2].name not in _RECORDS | _WRAPPERS:
            raise UnsafeFile("makes an object of something that is not a class")
        self.load_reduce()

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is _Pending and target.value is None:
            self.stack[-1] = target.value = _STATES[target.name](self, target, state)
        elif type(target) is Inert and not target.attributes:
            target.__setstate__(state)  # kept as it is: a copy each time would let a small file fill the memory
        else:
            raise UnsafeFile("sets the state of something that is not a new object")

    # Containers: plain lists and dicts only. Keys are simple, since hashing a deep tuple can overflow the C stack.

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def load_dict(self) -> None:
        items, target = self.pop_mark(), {}
        self._set(target, items)
        self.append(target)

    def load_bytearray8(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise UnsafeFile("appends to something that is not a list")
        self.stack[-1].extend(items)

    def _set(self, target: Any, items: list) -> None:
        if type(target) is not dict or len(items) % 2:
            raise UnsafeFile("sets an item of something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and not (type(key) is int and abs(key) < 2**63):
                raise UnsafeFile("has a dict with keys that are neither text nor numbers")
            target[key] = value

    # Arrays, from numpy's own description of them.

    def _encode(self, text: str, encoding: str) -> bytes:
        """``_codecs.encode``: how protocols 0 to 2 spell bytes."""
        if type(text) is not str or encoding != "latin1":
            raise UnsafeFile("encodes something other than bytes")
        self.encoded += len(text)
        if self.encoded > self.file.size:
            raise ValueError("the same bytes are encoded again and again")
        return text.encode("latin1")

    def _bytes(self, data: Any) -> bytes:
        return self._encode(data, "latin1") if type(data) is str else data

    def _reconstructor(self, kind: Any, base: Any, state: Any) -> Inert:
        """``copyreg._reconstructor``: how protocols 0 and 1 spell a new object."""
        if type(kind) is not _Name or kind.name not in _RECORDS | _WRAPPERS or state is not None:
            raise UnsafeFile("makes an object of something that is not a class")
        return _record(_Pending if kind.name in _STATES else Inert, kind.name)

    def _dtype(self, target: _Pending, state: Any) -> np.dtype:
        """``numpy.dtype(code, align, copy)`` with the state (3, byte order, five times nothing, flags)."""
        code = target.arguments[0] if target.arguments else None
        if type(code) is not str or code not in _DTYPES:
            kind = ascii(code)[:50] if type(code) is str else type(code).__name__  # printing a nest may take for ever
            raise UnsafeFile(f"holds values of the type {kind}; only numbers are read")
        if type(state) is not tuple or len(state) != 8 or type(state[1]) is not str or state[1] not in "<>|=":
            raise ValueError("a dtype without a byte order")
        if state[2:5] != (None, None, None):
            raise UnsafeFile("holds values of a compound type; only numbers are read")
        return np.dtype(code).newbyteorder(state[1]) if state[1] in "<>" else np.dtype(code)

    def _scalar(self, dtype: np.dtype, data: Any) -> np.generic:
        return self._array(self._bytes(data), dtype, (), "C")[()]

    def _frombuffer(self, data: Any, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
        return self._array(self._bytes(data), dtype, shape, order)

    def _array_state(self, target: _Pending, state: Any) -> np.ndarray:
        """``_reconstruct(class, (0,), b"b")`` with the state (1, shape, dtype, is it Fortran order, bytes)."""
        if type(state) is not tuple or len(state) != 5:
            raise ValueError("an array without a description")
        return self._array(self._bytes(state[4]), state[2], state[1], "F" if state[3] else "C")

    def _wrapped_array(self, target: _Pending, state: Any) -> np.ndarray:
        """joblib's ``NumpyArrayWrapper``: the array's bytes follow in the file, after some padding."""
        if type(state) is not dict:
            raise ValueError("an array without a description")
        subclass, alignment = state.get("subclass"), state.get("numpy_array_alignment_bytes")
        if type(subclass) is not _Name or subclass.name not in _ARRAY_CLASSES:
            raise UnsafeFile("holds an array of an unknown class")
        count = self._count(state.get("dtype"), state.get("shape"))
        if alignment is not None:  # since joblib 1.2: the padding's length in one byte, then the padding
            self.file.read(self.file.read(1)[0])
        return self._array(self.file.read(count), state["dtype"], state["shape"], state.get("order"))

    def _array(self, data: bytes, dtype: np.dtype, shape: tuple, order: Any) -> np.ndarray:
        """A view of ``data``, which the file holds in full. Views, since one block of bytes may be named often."""
        if type(data) is not bytes or len(data) != self._count(dtype, shape):
            raise ValueError("an array whose bytes do not fill its shape")
        if type(order) is not str or order not in ("C", "F"):
            raise ValueError("an array without an order")
        return np.frombuffer(data, dtype).reshape(shape, order=order) if data else np.empty(shape, dtype)

    def _count(self, dtype: Any, shape: Any) -> int:
        """How many bytes such an array has."""
        if not isinstance(dtype, np.dtype) or type(shape) is not tuple or len(shape) > 8:
            raise ValueError("an array without a numeric type and a shape")
        count = dtype.itemsize
        for size in shape:  # one by one, so that the product never grows large
            if type(size) is not int or not 0 <= size <= self.file.size or count > self.file.size:
                raise ValueError("an array that is larger than the file")
            count *= size
        return count


def _record(kind: type, name: str, arguments: tuple = ()) -> Any:
    record = kind()
    record.name, record.arguments = name, arguments  # not passed on as kind(*arguments), which would copy them
    return record


def _step(opcode: str) -> Callable[[_Reader], None]:
    run = _OURS.get(opcode) or pickle._Unpickler.dispatch[getattr(pickle, opcode)[0]]

    def step(reader: _Reader) -> None:
        reader.steps += 1
        if reader.steps > reader.max_steps:
            raise ValueError(f"more than {reader.max_steps} opcodes, where a model has a few hundred")
        run(reader)

    return step


_OURS = {
    "REDUCE": _Reader.load_reduce,
    "NEWOBJ": _Reader.load_newobj,
    "BUILD": _Reader.load_build,
    "APPEND": _Reader.load_append,
    "APPENDS": _Reader.load_appends,
    "SETITEM": _Reader.load_setitem,
    "SETITEMS": _Reader.load_setitems,
    "DICT": _Reader.load_dict,
    "BYTEARRAY8": _Reader.load_bytearray8,
}
_CALLS = {  # name -> what is done in its place when it is called
    "_codecs.encode": _Reader._encode,
    **{f"{module}._reconstructor": _Reader._reconstructor for module in ("copyreg", "copy_reg")},
    **{f"numpy.{core}.multiarray.scalar": _Reader._scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _Reader._frombuffer for core in ("core", "_core")},
}
_STATES = {  # name -> what is made of it once its state is known
    "numpy.dtype": _Reader._dtype,
    **{f"numpy.{core}.multiarray._reconstruct": _Reader._array_state for core in ("core", "_core")},
    **dict.fromkeys(_WRAPPERS, _Reader._wrapped_array),
}
_ADMITTED = _RECORDS | _ARRAY_CLASSES | _OBJECT | set(_CALLS) | set(_STATES)
_Reader.dispatch = _Steps({getattr(pickle, opcode)[0]: _step(opcode) for opcode in _OPCODES})
