"""Hostile files of each form that is read: huge by what they declare, endless to walk through, nested, or with code."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from tests.toy import Payload
from tests.utils.test_pickle_bounds import PICKLES, write

HUGE = 2**40


def safetensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def npy(header: object, body: bytes = b"", version: int = 1) -> bytes:
    text = (header if isinstance(header, bytes) else repr(header).encode()) + b" " * 20 + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + body


def described(shape: object, descr: str = "<f4") -> dict[str, object]:
    return {"descr": descr, "fortran_order": False, "shape": shape}


def wav(*, rate=16000, channels=1, bits=16, data=3200, kind=1, riff=2**32 - 2, block=None) -> bytes:
    block = channels * bits // 8 if block is None else block
    fields = (16, kind, channels, rate, rate * channels * bits // 8 & 0xFFFFFFFF, block & 0xFFFF, bits)
    begin = b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + struct.pack("<IHHIIHH", *fields)
    return begin + b"data" + struct.pack("<I", data) + b"\1\2" * 1600


def flac_of_no_end() -> bytes:
    """Its header promises 2^36 - 2 samples, of which a second is there."""
    held = io.BytesIO()
    sf.write(held, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000, format="FLAC")
    content = bytearray(held.getvalue())
    content[21] |= 0x0F
    content[22:26] = b"\xff\xff\xff\xfe"
    return bytes(content)


WAV = {
    "a length of 4 GB": wav(data=2**32 - 10),
    "65,535 channels": wav(channels=65535),
    "no channel": wav(channels=0),
    "no rate": wav(rate=0),
    "a rate of 4 GHz": wav(rate=2**32 - 1),
    "samples of no bits": wav(bits=0),
    "another kind": wav(kind=255),
    "ADPCM of nothing": wav(kind=2, bits=4),
    "GSM of nothing": wav(kind=49),
    "blocks of nothing": wav(block=0),
    "1,024 channels and 2 GB": wav(channels=1024, data=2**31),
    "text": b"this is no sound\n",
    "a header alone": wav()[:44],
    "half a header": wav()[:20],
    "nothing": b"",
    "FLAC of no end": flac_of_no_end(),
    "AU of 4 GB": b".snd" + struct.pack(">IIIII", 24, 2**32 - 2, 3, 16000, 1) + bytes(3200),
}
NPY = {
    "a shape of 2^60": npy(described((HUGE, 2**20))),
    "a negative shape": npy(described((-1,))),
    "true as a shape": npy(described((True, True)), bytes(4)),
    "70 axes": npy(described((1,) * 70), bytes(4)),
    "nothing by much": npy(described((0, 2**62))),
    "a nest": npy(b"(" * 60000),
    "a nest of version 2": npy(b"[" * 9000 + b"]" * 9000, version=2),
    "a sum": npy(b"{'descr':'<f4','fortran_order':False,'shape':(9**9**9,)}"),
    "minus minus": npy(b"-" * 60000),
    "values of no size": npy(described((HUGE,), "|V0")),
    "objects": npy(described((1,), "|O"), pickle.dumps([0])),
    "half a header": npy(described((1,)))[:30],
    "nothing": b"",
    "text": b"no array\n",
}
JSON = {
    "lists in lists": b"[" * 1_000_000,
    "objects in objects": b'{"a":' * 500_000,
    "a number of 5 MB": b'{"a": ' + b"9" * 5_000_000 + b"}",
    "no object": b"[1, 2]",
    "not UTF-8": b'{"a": "\xff"}',
    "nothing": b"",
    "null": b"null",
}
YAML = {
    "lists in lists": b"a: " + b"[" * 90_000,
    "keys in keys": b"? " * 40_000,
    "90,000 keys": b"".join(b"k%d: 1\n" % i for i in range(90_000)),
    "a billion laughs": b"a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 12)),
    "a number of 90 kB": b"a: 0x" + b"9" * 90_000,
    "a value in itself": b"a: &a [*a]\n",
    "nothing": b"",
    "no mapping": b"- 1\n",
    "code": b"a: !apply:os.system [touch MARK]\n",
    "code of Python's": b"a: !!python/object/apply:os.system [touch MARK]\n",
    "a class": b"a: !new:subprocess.Popen [[touch, MARK]]\n",
    "a module": b"a: !module:os\n",
    "a file": b"a: !include:/etc/passwd\n",
}
SAFETENSORS = {
    "a header of 2^60": struct.pack("<Q", 2**60) + b"{}",
    "a nest": safetensors(b'{"a":' * 200_000),
    "a tensor of 2^42 bytes": safetensors({"a": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}),
    "a shape that overflows": safetensors({"a": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 0]}}),
    "200,000 tensors": safetensors(
        {f"a{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)}
    ),
    "20,000 of the same bytes": safetensors(
        {f"a{i}": {"dtype": "F32", "shape": [2**18], "data_offsets": [0, 2**20]} for i in range(20_000)}, bytes(2**20)
    ),
    "nothing": b"",
    "text": b"no tensors\n",
}


def bomb() -> bytes:
    """A packed file of arrays, 2 MB, that unfolds to 2 GB of zeros."""
    held = io.BytesIO()
    with (
        zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as part,
    ):
        part.write(npy(described((2**29,))))
        for _ in range(128):
            part.write(bytes(2**24))
    return held.getvalue()


def torch_files(folder: Path, mark: Path) -> dict[str, Path]:
    """Each in both forms where both can be."""
    made = {}
    for name, pickled in PICKLES.items():
        for form in ("zip", "older"):
            made[f"{name}, {form}"] = write(folder / f"{len(made)}.pt", pickled, form)
    contents = {
        "code": {"model": Payload(mark)},
        "a tensor by repeating": {"model": {"a": torch.zeros(1).expand(2**20, 2**20)}},
        "a tensor without values": {"model": {"a": torch.empty(2**30, 2**10, device="meta")}},
        "a list": [torch.zeros(3)],
        "no tensors": {"model": {"a": "text"}},
        "a tensor": torch.zeros(3),
        "other names": {"model": {"a.b": torch.zeros(3)}},
    }
    for name, content in contents.items():
        for form in (True, False):
            if name == "a tensor without values" and not form:
                continue
            torch.save(content, path := folder / f"{len(made)}.pt", _use_new_zipfile_serialization=form)
            made[f"{name}, {'zip' if form else 'older'}"] = path
    for name, content in {"nothing": b"", "text": b"no tensors\n", "zeros": bytes(5000)}.items():
        made[name] = folder / f"{len(made)}.pt"
        made[name].write_bytes(content)
    return made


def joblib_files(folder: Path, mark: Path) -> dict[str, Path]:
    """Pickles, of both protocols that joblib and Python 2 write."""
    contents = {name: b"\x80\x02" + pickled + b"." for name, pickled in PICKLES.items()}
    contents |= {f"code, protocol {n}": pickle.dumps(Payload(mark), protocol=n) for n in (0, 2, 4, 5)}
    contents |= {"nothing": b"", "text": b"no pickle\n", "packed": b"x\x9c" + os.urandom(100)}
    contents["an array of 2^60"] = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n."
    made = {}
    for name, content in contents.items():
        made[name] = folder / f"{len(made)}.pkl"
        made[name].write_bytes(content)
    return made


def files(folder: Path, samples: dict[str, bytes], suffix: str, mark: Path) -> dict[str, Path]:
    made = {}
    for name, content in samples.items():
        made[name] = folder / f"{len(made)}{suffix}"
        made[name].write_bytes(content.replace(b"MARK", os.fsencode(mark)))
    return made
