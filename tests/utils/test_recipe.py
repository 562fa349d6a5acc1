from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.toy import ROOT
from utils.recipe import Recipe

BASE = """
# a recipe
size: 3
rate: 1e-4
path: !PLACEHOLDER
other_path: !PLACEHOLDER
pair: (0.9, 0.98)
name: !ref <size> items
shared: !new:collections.Counter
    a: !ref <size>
model: !new:builtins.dict
    shared: !ref <shared>
    rate: !ref <rate>
    pair: !ref <pair>
    name: !ref <name>
    size: !ref <shared[a]>
task: !new:builtins.dict
    path: !ref <path>
    more: [!ref <other_path>]
    shared: !ref <shared>
"""
ROOTS = ("model", "task")


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def read(path, *overrides: str) -> Recipe:
    return Recipe(path, overrides=overrides, roots=ROOTS)


def test_only_what_is_asked_for_is_built(base) -> None:
    model = read(base).build("model")["model"]
    assert model == {"shared": {"a": 3}, "rate": 0.0001, "pair": (0.9, 0.98), "name": "3 items", "size": 3}


def test_all_values_that_must_be_set_are_named_together(base) -> None:
    with pytest.raises(ValueError, match="path, other_path must be set.*--override path=... --override other_path=..."):
        read(base).build("task")
    assert read(base, "path=/a b", "other_path=x").build("task")["task"]["path"] == "/a b"


def test_objects_are_built_once(base) -> None:
    built = read(base, "path=x", "other_path=y").build("model", "task")
    assert built["model"]["shared"] is built["task"]["shared"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("2.5e-7", 2.5e-7), ("1.0e+3", 1000.0), ("0.1", 0.1), ("true", True), ("[cpu, cpu]", ["cpu"] * 2)],
)
def test_override_values_are_yaml(base, text: str, value: object) -> None:
    rate = read(base, f"rate={text}").build("model")["model"]["rate"]
    assert rate == value and type(rate) is type(value)


def test_an_override_can_refer_to_another_key(base) -> None:
    assert read(base, "rate=!ref <shared>").build("model")["model"]["rate"] == {"a": 3}


def test_a_mapping_is_merged(base) -> None:
    assert read(base, "shared={b: 7}").build("model")["model"]["shared"] == {"a": 3, "b": 7}


def test_keys_that_nobody_knows_are_an_error_in_the_file_and_in_overrides(base) -> None:
    base.write_text(BASE + "siez: 4\n")
    with pytest.raises(ValueError) as error:
        read(base, "rat=3")
    assert "override rat (did you mean rate?)" in str(error.value) and "siez" in str(error.value)


@pytest.mark.parametrize("text", ["size", "=3", "size=[1", "size={a: 1}"])
def test_overrides_that_cannot_be_read(base, text: str) -> None:
    with pytest.raises(ValueError, match="override"):
        read(base, text)


def test_keys_of_a_base_that_a_variant_needs_no_more_are_gone(base, tmp_path) -> None:
    variant = tmp_path / "variant.yaml"
    variant.write_text("base: base.yaml\nmodel: {name: plain}\n")
    assert "rate" not in read(variant).text() and "size" in read(variant).text()
    with pytest.raises(ValueError, match="override rate"):
        read(variant, "rate=3")
    variant.write_text("base: base.yaml\nmodel: {name: plain}\nrate: 3\n")
    with pytest.raises(ValueError, match="nobody knows: rate"):
        read(variant)


def test_a_variant_is_a_few_lines_over_its_base(base, tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    variant = tmp_path / "deep/variant.yaml"
    variant.write_text("base: ../base.yaml\nsize: 5\n")
    assert read(variant).build("model")["model"]["name"] == "5 items"
    assert read(variant, "size=6").build("model")["model"]["size"] == 6
    variant.write_text("base: variant.yaml\n")
    with pytest.raises(ValueError, match="its own base"):
        read(variant)
    variant.write_text("base: none.yaml\n")
    with pytest.raises(FileNotFoundError, match="none.yaml"):
        read(variant)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "just text"])
def test_what_is_not_a_recipe(tmp_path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match="x.yaml"):
        read(tmp_path / "x.yaml")


def test_missing_and_wrong_classes_and_arguments_are_named(base) -> None:
    with pytest.raises(ValueError, match="lacks trainer"):
        read(base).build("trainer")
    base.write_text("model: !new:nowhere.Nothing\n")
    with pytest.raises(ValueError, match="nowhere.Nothing"):
        read(base).build("model")
    base.write_text("model: !new:fractions.Fraction\n    wrong: 1\n")
    with pytest.raises(ValueError, match="Fraction.*wrong"):
        read(base).build("model")


def test_the_text_holds_what_was_built(base) -> None:
    text = read(base, "size=9").text("model")
    assert "size: 9" in text and "other_path" not in text
    assert "other_path" in read(base).text()


@pytest.mark.slow
def test_a_tuple_stays_one_after_another_recipe_was_built(tmp_path) -> None:
    """HyperPyYAML changes ruamel.yaml for the whole process: what was read before is then written otherwise."""
    code = (
        "from utils.recipe import Recipe\n"
        "recipe = Recipe('x.yaml', roots=('a', 'b'))\n"
        "assert recipe.build('a')['a'] == 1\n"
        "assert recipe.build('b')['b'] == (0.9, 0.98)\n"
        "assert Recipe('x.yaml', roots=('a', 'b')).build('b')['b'] == (0.9, 0.98)\n"
    )
    (tmp_path / "x.yaml").write_text("a: 1\nb: (0.9, 0.98)\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
