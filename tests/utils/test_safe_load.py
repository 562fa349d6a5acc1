import io
import os
import pickle
import sys
import tarfile
import threading
import types
import warnings

import pytest
import torch

from utils.safe_load import Inert, UnsafeFile, load_torch

NAME = "some.package.schedulers.NewBob"


class NewBob:
    """Pickled under NAME, as the scheduler of a training script would be."""

    __module__, __qualname__ = NAME.rsplit(".", 1)

    def __init__(self):
        self.value, self.history = 0.5, [1.0, 2.0]


class Runs:
    """Runs when unpickled: makes the folder ``mark``."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def save_with_scheduler(path, monkeypatch, **options):
    """Write a file whose pickle names a class that no module has."""
    module, name = NAME.rsplit(".", 1)
    for part in ("some", "some.package", module):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    setattr(sys.modules[module], name, NewBob)
    torch.save({"weight": torch.arange(4.0), "new_bob": NewBob()}, path, **options)
    for part in ("some", "some.package", module):
        monkeypatch.delitem(sys.modules, part)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("mmap", [True, False])
def test_tensors_and_plain_values_come_back(tmp_path, zipped, mmap):
    content = {"a": torch.arange(6.0).view(2, 3), "b": [1, "x", None, {"c": (True, 0.5)}]}
    torch.save(content, tmp_path / "f.pt", _use_new_zipfile_serialization=zipped)
    found = load_torch(tmp_path / "f.pt", mmap=mmap)
    assert torch.equal(found.pop("a"), content.pop("a")) and found == content


@pytest.mark.parametrize("zipped", [True, False])
def test_stand_ins_keep_what_the_file_says(tmp_path, monkeypatch, zipped):
    path = tmp_path / "f.pth"
    save_with_scheduler(path, monkeypatch, _use_new_zipfile_serialization=zipped)
    found = load_torch(path, stand_ins=["other.Name", NAME])["new_bob"]
    assert isinstance(found, Inert) and found.name == NAME
    assert found.attributes == {"value": 0.5, "history": [1.0, 2.0]}
    assert repr(found) == f"<inert {NAME}>"


def test_a_name_that_was_not_admitted_is_refused_also_after_it_was_admitted_once(tmp_path, monkeypatch):
    path = tmp_path / "f.pth"
    save_with_scheduler(path, monkeypatch)
    before = set(torch.serialization.get_safe_globals())
    load_torch(path, stand_ins=[NAME])
    with pytest.raises(UnsafeFile, match=f"f.pth asks for {NAME}, which could run code.*trust"):
        load_torch(path)
    assert set(torch.serialization.get_safe_globals()) == before


def test_threads_do_not_take_each_others_stand_ins_away(tmp_path, monkeypatch):
    path = tmp_path / "f.pth"
    save_with_scheduler(path, monkeypatch)
    found = []

    def load():
        for _ in range(10):
            found.append(load_torch(path, stand_ins=[NAME])["new_bob"].attributes["value"])

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0.5] * 40


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["alone", "attribute", "stand-in"])
def test_code_is_refused_and_does_not_run(tmp_path, monkeypatch, zipped, where):
    payload = Runs(tmp_path / "ran")
    if where == "stand-in":
        monkeypatch.setattr(NewBob, "__getstate__", lambda self: {"value": payload}, raising=False)
        save_with_scheduler(tmp_path / "f.pt", monkeypatch, _use_new_zipfile_serialization=zipped)
    else:
        content = payload if where == "alone" else {"model_state_dict": {}, "new_bob": payload}
        torch.save(content, tmp_path / "f.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeFile, match="f.pt asks for (posix|nt).mkdir"):
        load_torch(tmp_path / "f.pt", stand_ins=[NAME])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "payload",
    [
        Calls(eval, "1"),
        Calls(exec, "1"),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(__import__, "os"),
        Calls(pickle.loads, pickle.dumps(1)),
        Calls(torch.hub.load, "a", "b"),
    ],
)
def test_callables_of_many_kinds_are_refused(tmp_path, payload):
    torch.save({"x": [payload]}, tmp_path / "f.pt")
    with pytest.raises(UnsafeFile, match="f.pt asks for"):
        load_torch(tmp_path / "f.pt")


def test_archives_with_code_are_refused_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what writes such files
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "script.pt")
    with pytest.raises(UnsafeFile, match="TorchScript"):
        load_torch(tmp_path / "script.pt")
    with tarfile.open(tmp_path / "old.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    with pytest.raises(UnsafeFile, match=r"\.tar archive"):
        load_torch(tmp_path / "old.tar")


@pytest.mark.parametrize("zipped", [True, False])
def test_broken_files_are_named(tmp_path, zipped):
    path = tmp_path / "f.pt"
    torch.save({"a": torch.zeros(100)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 300):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="f.pt cannot be read as a torch file"):
            load_torch(path)
    path.write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(ValueError, match="begins with b'<!DOCTYPE html"):
        load_torch(path)


def test_what_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file.*gone.pt"):
        load_torch(tmp_path / "gone.pt")
    with pytest.raises(IsADirectoryError):
        load_torch(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_flipped_bytes_raise_value_errors_only(tmp_path, zipped):
    path = tmp_path / "f.pt"
    torch.save({"a": torch.zeros(5), "b": [1.0, "text"]}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    random = torch.Generator().manual_seed(0)
    for _ in range(150):
        broken = bytearray(whole)
        for place in torch.randint(len(broken), (3,), generator=random):
            broken[place] = int(torch.randint(256, (), generator=random))
        path.write_bytes(broken)
        try:
            load_torch(path)
        except ValueError as error:
            assert "f.pt" in str(error)


def test_a_file_of_zeros_is_no_archive(tmp_path) -> None:
    (tmp_path / "x.pth").write_bytes(bytes(5000))
    with pytest.raises(ValueError, match="x.pth cannot be read as a torch file .zeros"):
        load_torch(tmp_path / "x.pth")
