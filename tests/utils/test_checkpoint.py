from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from utils import checkpoint


def test_written_and_read_back_without_running_code(tmp_path) -> None:
    content = {"model": {"a.weight": torch.arange(3.0)}, "state": {"step": 3, "names": ["x"]}}
    checkpoint.save(tmp_path / "new/last.pth", content)
    loaded = torch.load(tmp_path / "new/last.pth", weights_only=True)
    assert loaded["format"] == checkpoint.FORMAT and loaded["version"] == 1
    assert torch.equal(checkpoint.load(tmp_path / "new/last.pth")["model"]["a.weight"], torch.arange(3.0))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["last.pth"]


@pytest.mark.parametrize("at", ["save", "fsync", "replace"])
def test_the_old_file_stays_when_writing_the_new_one_fails(tmp_path, monkeypatch, at: str) -> None:
    path = tmp_path / "last.pth"
    checkpoint.save(path, {"model": {"old": torch.zeros(1)}})

    def fail(*args, **more):
        raise OSError("disk full")

    monkeypatch.setattr(torch if at == "save" else os, at, fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {"model": {}})
    monkeypatch.undo()
    assert "old" in checkpoint.load(path)["model"]
    assert [p.name for p in tmp_path.iterdir()] == ["last.pth"]


def test_what_is_not_a_checkpoint(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="none.pth"):
        checkpoint.load(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(ValueError, match="text.pth"):
        checkpoint.load(tmp_path / "text.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="list.pth is not a checkpoint"):
        checkpoint.load(tmp_path / "list.pth")
    torch.save({"format": checkpoint.FORMAT, "version": 99}, tmp_path / "later.pth")
    with pytest.raises(ValueError, match="version 99"):
        checkpoint.load(tmp_path / "later.pth")


def test_loading_is_strict_and_lists_what_is_wrong() -> None:
    modules = {"net": nn.Linear(2, 3)}
    tensors = checkpoint.flatten({"net": modules["net"].state_dict()})
    checkpoint.load_tensors(modules, tensors, "x.pth")
    wrong = {"net.weight": torch.zeros(2, 2), "net.extra": torch.zeros(1), "other.bias": torch.zeros(1)}
    with pytest.raises(ValueError) as error:
        checkpoint.load_tensors(modules, wrong, "x.pth")
    text = str(error.value)
    assert "x.pth" in text and "1 missing: net.bias" in text and "2 unexpected: net.extra, other.bias" in text
    assert "net.weight [2, 2] instead of [3, 2]" in text


def test_other_frozen_weights_or_another_mode_are_an_error() -> None:
    saved = {"frozen": {"tokenizer": "a" * 64}, "settings": {"concat": True}}
    checkpoint.require_same(saved, frozen={"tokenizer": "a" * 64}, settings={"concat": True}, source="x.pth")
    checkpoint.require_same({}, frozen={"tokenizer": "b" * 64}, settings={"concat": False}, source="converted.pth")
    with pytest.raises(ValueError, match="x.pth.*tokenizer was aaaa.*is bbbb"):
        checkpoint.require_same(saved, frozen={"tokenizer": "b" * 64}, settings={}, source="x.pth")
    with pytest.raises(ValueError, match="concat was True, is False"):
        checkpoint.require_same(saved, frozen={}, settings={"concat": False}, source="x.pth")


def test_of_settings_that_are_mappings_only_what_differs_is_told() -> None:
    """Both were cut off before the part that differed."""
    then = {"making": {"units": {"tokenizer": "a" * 64, "lmbda": 3.0}, "codes": {}}, "old": {"a": None}}
    here = {"making": {"units": {"tokenizer": "a" * 64, "lmbda": 4.5}, "codes": {"hop": 600}}, "old": {}}
    with pytest.raises(ValueError) as error:
        checkpoint.require_same({"settings": then}, frozen={}, settings=here, source="x.pth")
    text = str(error.value)
    for part in ("making.units.lmbda was 3.0, is 4.5", "making.codes.hop was nothing, is 600",
                 "old.a was None, is nothing"):  # fmt: skip
        assert part in text
    assert "tokenizer" not in text
    checkpoint.require_same({"settings": then}, frozen={}, settings=then, source="x.pth")


def test_weights_that_are_not_finite_are_refused() -> None:
    """They were loaded, and trained or extracted on without a word."""
    modules = {"net": nn.Linear(2, 3)}
    tensors = checkpoint.flatten({"net": {n: x.clone() for n, x in modules["net"].state_dict().items()}})
    tensors["net.bias"][1] = float("nan")
    before = modules["net"].bias.detach().clone()
    with pytest.raises(ValueError, match="1 of 2 tensors of x.pth are not finite: net.bias"):
        checkpoint.load_tensors(modules, tensors, "x.pth")
    assert torch.equal(before, modules["net"].bias)


def test_tensors_are_found_wherever_they_are() -> None:
    content = {"generator": {"a.weight": torch.zeros(1)}, "optim": [{"x": torch.ones(2)}], "step": 3}
    assert list(checkpoint.find_tensors(content)) == ["generator.a.weight", "optim.0.x"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "1"}, "its version is '1'"),
        ({"version": None}, "its version is None"),
        ({"model": None}, "holds no state dict"),
        ({"model": [1]}, "holds no state dict"),
        ({"model": {"a": None}}, "not tensors: a"),
        ({"model": {3: torch.zeros(1)}}, "not tensors: 3"),
        ({"frozen": None}, "frozen must be a mapping"),
        ({"settings": 5}, "settings must be a mapping"),
    ],
)
def test_parts_of_a_checkpoint_of_another_kind_are_named(tmp_path, change: dict, message: str) -> None:
    """They came as KeyErrors, TypeErrors and AttributeErrors of whoever used them."""
    torch.save({"format": checkpoint.FORMAT, "version": 1, "model": {}} | change, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="x.pth") as error:
        checkpoint.load(tmp_path / "x.pth")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda x: x.long(), "whole numbers"),
        (lambda x: x > 0, "truth values"),
        (lambda x: x.to(torch.complex64), "complex"),
        (lambda x: x.to_sparse(), "torch.sparse_coo"),
        (lambda x: x.to("meta"), "without values"),
    ],
)
def test_values_of_another_kind_are_refused(make, kind: str) -> None:
    """Truth values were taken for weights of 0 and 1."""
    module = nn.Linear(2, 3)
    tensors = {f"net.{name}": value for name, value in module.state_dict().items()}
    tensors["net.weight"] = make(tensors["net.weight"])
    with pytest.raises(ValueError, match=f"1 of another kind: net.weight .{kind}"):
        checkpoint.load_tensors({"net": module}, tensors, "x.pth")
    tensors["net.weight"] = module.weight.detach().double()
    checkpoint.load_tensors({"net": module}, tensors, "x.pth")


def test_a_full_disk_is_told_with_the_file(tmp_path, no_room) -> None:
    """torch makes a RuntimeError of it."""
    with no_room(2000), pytest.raises(OSError, match="cannot write .*x.pth .* bytes are free on its disk"):
        checkpoint.save(tmp_path / "x.pth", {"model": {"a": torch.zeros(9000)}})
    assert not list(tmp_path.iterdir())
