import copy
import functools
import os
import pickle
import struct
import tracemalloc
import warnings
from pathlib import Path

import joblib
import joblib.numpy_pickle
import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans

import utils.safe_joblib
from utils.safe_joblib import load_joblib
from utils.safe_load import Inert, UnsafeFile

REFERENCE = sorted((Path(__file__).parents[1] / "reference/kmeans").glob("*.pt"))
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@functools.cache
def fitted(dtype="f8", random_state=0, kind=MiniBatchKMeans, **options):
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(4, random_state=random_state, n_init=1, **options).fit(x)


def assert_same(model, found):
    """``found`` holds every attribute of the live model, of the same type and value."""
    assert isinstance(found, Inert) and found.name == f"sklearn.cluster._kmeans.{type(model).__name__}"
    assert found.attributes.keys() - {"_sklearn_version"} == vars(model).keys()
    for name, value in vars(model).items():
        other = found.attributes[name]
        if isinstance(value, np.random.RandomState):
            state = value.get_state(legacy=False)
            assert isinstance(other, Inert) and other.attributes["bit_generator"] == state["bit_generator"]
            if "key" in state["state"]:
                np.testing.assert_array_equal(other.attributes["state"]["key"], state["state"]["key"])
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other, strict=True)
            assert value.flags.f_contiguous == other.flags.f_contiguous
        else:
            assert value == other and type(value) is type(other)


@pytest.mark.parametrize("path", REFERENCE, ids=lambda p: p.stem)
def test_the_reference_files_read_as_joblib_reads_them(path):
    assert_same(joblib.load(path), load_joblib(path))


@pytest.mark.parametrize("dump", [joblib.dump, lambda x, p, protocol: p.write_bytes(pickle.dumps(x, protocol))])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "f4"},
        {"random_state": np.random.RandomState(3)},
        {"random_state": np.random.RandomState()},
        {"random_state": np.random.RandomState(np.random.PCG64(3))},
        {"dtype": "f4", "kind": KMeans},
    ],
    ids=["float32", "random state", "seeded by the system", "another bit generator", "KMeans"],
)
def test_models_of_every_kind_read_as_joblib_reads_them(tmp_path, dump, protocol, options):
    model = fitted(**options)
    dump(model, tmp_path / "m.pt", protocol=protocol)
    assert_same(model, load_joblib(tmp_path / "m.pt"))


def test_centres_in_fortran_order(tmp_path):
    model = copy.copy(fitted())
    model.cluster_centers_ = np.asfortranarray(model.cluster_centers_)
    joblib.dump(model, tmp_path / "m.pt")
    assert_same(model, load_joblib(tmp_path / "m.pt"))


def test_arrays_of_every_layout(tmp_path):
    for array in (
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(12, dtype=">f4").reshape(3, 2, 2),
        np.zeros((0, 3)),
        np.array(2.5),
        np.array([True, False]),
        np.arange(3, dtype="c16"),
    ):
        for protocol in PROTOCOLS:
            joblib.dump(array, tmp_path / "a.pt", protocol=protocol)
            found = load_joblib(tmp_path / "a.pt")
            np.testing.assert_array_equal(array, found)
            assert found.shape == array.shape and found.flags.f_contiguous == array.flags.f_contiguous


def test_an_array_that_is_referred_to_twice(tmp_path):
    array = np.arange(3.0)
    for protocol in PROTOCOLS:
        (tmp_path / "a.pt").write_bytes(pickle.dumps([array, {"again": array}], protocol))
        first, second = load_joblib(tmp_path / "a.pt")
        assert isinstance(first, np.ndarray) and first is second["again"]


def test_files_of_older_versions(tmp_path, monkeypatch):
    """scikit-learn before 0.22 and its own joblib used other names, joblib before 1.2 no padding."""
    model = copy.copy(fitted(random_state=np.random.RandomState(3)))
    model.inertia_ = np.float64(model.inertia_)
    create = joblib.numpy_pickle.NumpyArrayWrapper.__init__

    def without_alignment(self, *args, **options):
        create(self, *args, **options)
        del self.numpy_array_alignment_bytes

    monkeypatch.setattr(joblib.numpy_pickle.NumpyArrayWrapper, "__init__", without_alignment)
    joblib.dump(model, tmp_path / "m.pt", protocol=2)
    content = (tmp_path / "m.pt").read_bytes()
    for new, old in (
        (b"csklearn.cluster._kmeans\n", b"csklearn.cluster.k_means_\n"),
        (b"cjoblib.numpy_pickle\n", b"csklearn.externals.joblib.numpy_pickle\n"),
        (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"),
        (b"cnumpy.random._pickle\n__randomstate_ctor\n", b"cnumpy.random\n__RandomState_ctor\n"),
    ):
        assert new in content
        content = content.replace(new, old)
    (tmp_path / "m.pt").write_bytes(content)
    found = load_joblib(tmp_path / "m.pt")
    assert found.name == "sklearn.cluster.k_means_.MiniBatchKMeans"
    np.testing.assert_array_equal(found.attributes["cluster_centers_"], model.cluster_centers_, strict=True)
    assert found.attributes["inertia_"] == model.inertia_


def test_bytes_of_python_2_are_text(tmp_path):
    """Its pickles spell the bytes of an array as a string."""
    dtype = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNI-1\nI-1\nK\x00tb"
    value = b"U\x08" + struct.pack("<d", -1.7)
    (tmp_path / "m.pt").write_bytes(b"\x80\x02cnumpy.core.multiarray\nscalar\n(" + dtype + value + b"tR.")
    assert load_joblib(tmp_path / "m.pt") == -1.7


# --- what must not be read ---


class Calls:
    """Calls a function when unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class WithState(Calls):
    def __reduce__(self):
        return (*self.reduced[:1], (), self.reduced[1][0])


def payloads(mark):
    """Name -> an object that makes the folder ``mark``, or could do anything else, when it is unpickled."""
    runs = Calls(os.mkdir, str(mark))
    inside = copy.deepcopy(fitted())
    inside.verbose = {"a": [runs]}
    centres = copy.deepcopy(fitted())
    centres.cluster_centers_ = np.array([runs], dtype=object)
    return {
        "system": runs,
        "eval": Calls(eval, f"__import__('os').mkdir({str(mark)!r})"),
        "exec": Calls(exec, f"__import__('os').mkdir({str(mark)!r})"),
        "getattr": Calls(getattr, Calls(__import__, "os"), "mkdir"),
        "a function alone": os.mkdir,
        "in an attribute": inside,
        "in a list": [1, (2, [runs])],
        "in an object array": centres,
        "joblib itself": Calls(joblib.load, "/etc/passwd"),
        "numpy's loader": Calls(np.load, "x.npy", "r", True),
        "as a state": WithState(MiniBatchKMeans, {"cluster_centers_": runs}),
        "as a key": {runs.reduced: 1, (1,): Calls(eval, "1")},
        "a set": {1, 2},
        "another model": Calls(KMeans.__mro__[1]),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", payloads(Path()))
def test_payloads_are_refused_and_do_not_run(tmp_path, name, protocol):
    joblib.dump(payloads(tmp_path / "ran")[name], tmp_path / "m.pt", protocol=protocol)
    with pytest.raises(UnsafeFile, match=r"m\.pt .*Nothing in it was run.*trust"):
        load_joblib(tmp_path / "m.pt")
    assert not (tmp_path / "ran").exists()


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


KM = name("sklearn.cluster._kmeans", "KMeans")
DTYPE = name("numpy", "dtype")
SYSTEM = name("os", "system")


@pytest.mark.parametrize(
    "content",
    {
        "persistent id, text": b"Pos.system\n.",
        "persistent id": b"\x80\x02U\x01aQ.",
        "extension 1": b"\x80\x02\x82\x01.",
        "extension 2": b"\x80\x02\x83\x01\x01.",
        "extension 4": b"\x80\x02\x84\x01\x01\x01\x01.",
        "inst": b"(S'touch x'\nios\nsystem\n.",
        "inst of an admitted name": b"(isklearn.cluster._kmeans\nKMeans\n.",
        "obj": b"(" + KM + b"o.",
        "obj of os.system": b"(" + SYSTEM + b"S'touch x'\no.",
        "newobj_ex": b"\x80\x04" + KM + b")}\x92.",
        "out-of-band buffer": b"\x80\x05\x97.",
        "frozen set": b"\x80\x04(\x91.",
        "name with dots": b"\x80\x04\x8c\x05numpy\x8c\x09os.system\x93.",
        "attribute of an admitted name": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__call__\x93.",
        "call of a number": b"I1\n)R.",
        "call of a new object": KM + b")R)R.",
        "arguments that are no tuple": KM + b"]R.",
        "newobj of a function": name("numpy.core.multiarray", "_reconstruct") + b")\x81.",
        "newobj of an object": KM + b")\x81)\x81.",
        "state of a dict": b"}}b.",
        "state of a list": b"]}b.",
        "state of a name": KM + b"}b.",
        "state of an array": b"\x80\x04" + pickle.dumps(np.zeros(2), 4)[2:-1].replace(b"\x95", b"\x95", 1) + b"}b.",
        "state twice": KM + b")R}S'a'\nI1\nsb}b.",
        "item of an object": KM + b")RS'a'\nI1\ns.",
        "item of a list": b"]I0\nI1\ns.",
        "append to a dict": b"}I1\na.",
        "append to an object": KM + b")RI1\na.",
        "key that is a tuple": b"})I1\ns.",
        "object dtype": DTYPE + b"(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb.",
        "dtype that is a nest": b"]p0\n0"
        + b"](g0\ng0\nep0\n0" * 60
        + DTYPE
        + b"(g0\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb.",
        "text dtype": DTYPE + b"(S'U1000000000'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI8\ntb.",
        "compound dtype": DTYPE + b"(S'f8'\nI0\nI1\ntR(I3\nS'<'\nN(S'a'\nt}I-1\nI-1\nI0\ntb.",
        "reconstructor of another base": name("copy_reg", "_reconstructor") + b"(cnumpy\ndtype\ncnumpy\ndtype\nNtR.",
        "encoding": name("_codecs", "encode") + b"(Va\nS'zip'\ntR.",
    }.items(),
    ids=lambda item: item[0],
)
def test_operations_that_no_model_needs_are_refused(tmp_path, content):
    (tmp_path / "m.pt").write_bytes(content[1])
    with pytest.raises(UnsafeFile, match=r"m\.pt "):
        load_joblib(tmp_path / "m.pt")


@pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "lzma", "xz"])
def test_compressed_files_are_refused_with_a_way_out(tmp_path, compress):
    joblib.dump(fitted(), tmp_path / "m.pt", compress=(compress, 3))
    with pytest.raises(UnsafeFile, match=rf"m\.pt is compressed \({compress}\).*save it again"):
        load_joblib(tmp_path / "m.pt")


def test_lz4_is_told_by_its_magic(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"\x04\x22\x4d\x18" + bytes(20))
    with pytest.raises(UnsafeFile, match="lz4"):
        load_joblib(tmp_path / "m.pt")


def test_truncated_files_are_named(tmp_path):
    whole = REFERENCE[0].read_bytes()
    for length in [*range(40), *range(40, len(whole), 97), len(whole) - 1]:
        (tmp_path / "m.pt").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"m\.pt cannot be read as a joblib file"):
            load_joblib(tmp_path / "m.pt")


def test_other_files_are_told_by_how_they_begin(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match="begins with b'<!DOCTYPE"):
        load_joblib(tmp_path / "m.pt")
    with pytest.raises(FileNotFoundError, match="no such file.*gone.pt"):
        load_joblib(tmp_path / "gone.pt")
    with pytest.raises(IsADirectoryError):
        load_joblib(tmp_path)


@pytest.mark.parametrize(
    "shape", [(10**12,), (-1,), (2**62, 4), (1000,), (True,), (2.0,), 3, [3], None, (1,) * 70, (0, -1), (3, 10**30, 0)]
)
def test_shapes_that_the_file_cannot_hold(tmp_path, shape):
    wrapper = joblib.numpy_pickle.NumpyArrayWrapper(np.ndarray, shape, "C", np.dtype("f4"))
    content = pickle.dumps(wrapper, 2)[:-1] + b"\x00" + np.zeros(3, "f4").tobytes() + b"."
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.pt"), no_more_memory_than(1):
        load_joblib(tmp_path / "m.pt")


class no_more_memory_than:
    def __init__(self, megabytes):
        self.limit = megabytes * 2**20

    def __enter__(self):
        tracemalloc.start()

    def __exit__(self, *_):
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < self.limit, f"{peak / 2**20:.0f} MiB"


BIG = 2**40
BYTES = b"\x8e" + struct.pack("<Q", 10**6) + bytes(10**6)  # BINBYTES8
F8 = DTYPE + b"(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
ENCODE = name("_codecs", "encode") + b"(g0\nS'latin1'\ntR"
COPY = name("numpy.core.numeric", "_frombuffer") + b"(h\x00h\x01(I125000\ntS'C'\ntR0"


@pytest.mark.parametrize(
    "content, megabytes",
    {
        "bytes": (b"\x80\x04\x8e" + struct.pack("<Q", BIG) + b".", 1),
        "bytearray": (b"\x80\x05\x96" + struct.pack("<Q", BIG) + b".", 1),
        "text": (b"\x80\x04\x8d" + struct.pack("<Q", BIG) + b".", 1),
        "frame": (b"\x80\x04\x95" + struct.pack("<Q", BIG) + b".", 1),
        "number": (b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b".", 1),
        "memo index": (b"\x80\x02Nr\xff\xff\xff\xff0" + b"x", 1),
        "the same encoding again and again": (b"V" + b"a" * 10**5 + b"\np0\n0" + ENCODE * 100, 3),
        "the same tuple again and again": (b"(" + b"N" * 10**5 + b"tp0\n0" + (KM + b"g0\nR") * 500, 10),
        "the same state again and again": (
            b"}p0\n(" + b"".join(b"I%d\nN" % i for i in range(10**4)) + b"u0" + (KM + b")Rg0\nb") * 500,
            10,
        ),
        "the same array again and again": (b"\x80\x04" + BYTES + b"q\x000" + F8 + b"q\x010" + COPY * 100, 6),
    }.values(),
    ids=lambda value: None if isinstance(value, bytes) else f"{value} MiB",
)
def test_small_files_do_not_fill_the_memory(tmp_path, content, megabytes):
    (tmp_path / "m.pt").write_bytes(content)
    with no_more_memory_than(megabytes), pytest.raises(ValueError, match=r"m\.pt cannot be read"):
        load_joblib(tmp_path / "m.pt")


def test_the_number_of_opcodes_is_bounded(tmp_path, monkeypatch):
    (tmp_path / "m.pt").write_bytes(b"\x80\x04" + b"}" * 10_000 + b".")
    load_joblib(tmp_path / "m.pt")
    monkeypatch.setattr(utils.safe_joblib, "_MAX_STEPS", 1000)
    load_joblib(REFERENCE[0])
    with pytest.raises(ValueError, match="more than 1000 opcodes"):
        load_joblib(tmp_path / "m.pt")


def test_deep_nesting_does_not_overflow(tmp_path):
    deep = b"\x80\x04)" + b"\x85" * 200_000
    (tmp_path / "m.pt").write_bytes(deep + b".")
    assert isinstance(load_joblib(tmp_path / "m.pt"), tuple)
    (tmp_path / "m.pt").write_bytes(deep + b"\x94}h\x00Ns.")  # as a key: its hash would recurse in C
    with pytest.raises(UnsafeFile, match="keys"):
        load_joblib(tmp_path / "m.pt")


def test_a_list_may_hold_itself(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"]p0\ng0\na.")
    found = load_joblib(tmp_path / "m.pt")
    assert found[0] is found


def test_flipped_bytes_raise_value_errors_only(tmp_path):
    whole, path, random = REFERENCE[0].read_bytes(), tmp_path / "m.pt", np.random.default_rng(0)
    read = 0
    for i in range(240):
        broken = bytearray(whole)
        for _ in range(1 + i % 3):  # the first 2 kB are opcodes, the rest mostly values
            broken[random.integers(2000 if i % 2 else len(broken))] = random.integers(256)
        path.write_bytes(broken)
        try:
            load_joblib(path)
            read += 1
        except ValueError as error:
            assert "m.pt" in str(error)
    assert 0 < read < 240


def test_random_opcodes_raise_value_errors_only(tmp_path):
    random = np.random.default_rng(1)
    parts = [KM, DTYPE, F8, b"(", b"t", b")", b"R", b"b", b"}", b"]", b"N", b"s", b"u", b"a", b"e", b"I3\n", b"S'a'\n"]
    parts += [b"p0\n", b"g0\n", b"0", b"1", b"\x81", b"\x85", b"\x94", b"l", b"d", b"F1\n", b"L1L\n", b"h\x00", b"2"]
    for _ in range(300):
        content = b"".join(parts[i] for i in random.integers(len(parts), size=random.integers(1, 25))) + b"."
        (tmp_path / "m.pt").write_bytes(content)
        try:
            load_joblib(tmp_path / "m.pt")
        except ValueError as error:
            assert "m.pt" in str(error)
