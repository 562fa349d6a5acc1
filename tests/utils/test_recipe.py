from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from tests.toy import ROOT
from utils.recipe import ROOTS, Recipe

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
OWN_ROOTS = ("model", "task", "width")


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def read(path, *overrides: str) -> Recipe:
    return Recipe(path, overrides=overrides, roots=OWN_ROOTS)


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
    variant.write_text("base: base.yaml\nmodel: !new:builtins.dict {name: plain}\n")
    assert "rate" not in read(variant).text() and "size" in read(variant).text()
    with pytest.raises(ValueError, match="override rate"):
        read(variant, "rate=3")
    variant.write_text("base: base.yaml\nmodel: !new:builtins.dict {name: plain}\nrate: 3\n")
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
    with pytest.raises(ValueError, match="wrong.*Fraction"):
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


NESTED = """
width: 4
sizes: [512, 1024]
network: !new:tests.utils.test_recipe.Part
    width: !ref <width>
    rate: 0.5
mel: !new:builtins.dict
    sizes: !ref <sizes>
    own: [1, 2]
plain: !new:builtins.dict
    settings: {a: 1, b: {c: 2}}
model: !new:builtins.dict
    network: !ref <network>
    mel: !ref <mel>
    plain: !ref <plain>
    make: !name:tests.utils.test_recipe.Part
        width: 3
task: !new:builtins.dict
    network: !ref <network>
"""


class Part:
    """What recipes of these tests build."""

    def __init__(
        self,
        *,
        width: int,
        rate: float = 1.0,
        on: bool = False,
        kind: Literal["a", "b"] = "a",
        sizes: Sequence[int] = (1,),
        limit: int | None = None,
        folder: str | os.PathLike | None = None,
        inner: Part | None = None,
    ):
        if width < 0:
            raise ValueError(f"the width must not be below 0, got {width}")
        if folder is not None and not Path(folder).exists():
            raise FileNotFoundError(f"no such folder: {folder}")
        self.given = dict(width=width, rate=rate, on=on, kind=kind, sizes=sizes, limit=limit, folder=folder)
        self.inner = inner


@pytest.fixture
def nested(tmp_path):
    path = tmp_path / "nested.yaml"
    path.write_text(NESTED)
    return path


def test_a_dotted_override_reaches_into_a_block_through_references_and_into_lists(nested) -> None:
    built = read(nested, "network.width=5", "mel.sizes.1=7", "mel.own.0=9", "plain.settings.b.c=3").build("model")
    model = built["model"]
    assert model["network"].given["width"] == 5
    assert model["mel"] == {"sizes": [512, 7], "own": [9, 2]}
    assert model["plain"] == {"settings": {"a": 1, "b": {"c": 3}}}
    built = read(nested, "model.network.rate=2", "model.make.rate=3", "plain.settings={b: {d: 4}}").build(
        "model", "task"
    )
    assert built["task"]["network"] is built["model"]["network"] and built["task"]["network"].given["rate"] == 2
    assert built["model"]["make"]().given["rate"] == 3
    assert built["model"]["plain"]["settings"] == {"a": 1, "b": {"c": 2, "d": 4}}


def test_a_parameter_that_the_recipe_does_not_spell_may_be_given(nested) -> None:
    assert read(nested, "network.on=true").build("model")["model"]["network"].given["on"] is True


def test_a_flat_key_that_a_dotted_override_leaves_unused_is_gone(nested) -> None:
    assert "\nsizes:" in read(nested).text() and "\nsizes:" not in read(nested, "mel.sizes=[5]").text()


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("network.witdh", "network.witdh (did you mean width?)"),
        ("network.limt", "network.limt (did you mean limit?)"),
        ("netwrok.width", "netwrok.width (did you mean network?)"),
        ("rate", "rate (did you mean network.rate?)"),
        ("width.a", "width.a (width is no block)"),
        ("mel.sizes.2", "mel.sizes.2 (mel.sizes has 2 items)"),
        ("nothing.like.it", "nothing.like.it"),
    ],
)
def test_a_dotted_key_that_nobody_knows_is_an_error_with_the_nearest(nested, key: str, named: str) -> None:
    with pytest.raises(ValueError) as error:
        read(nested, f"{key}=3", "another=4")
    assert f"override {named};" in str(error.value) and "override another" in str(error.value)


def test_a_variant_merges_into_the_blocks_of_its_base_and_a_tag_replaces(nested, tmp_path) -> None:
    variant = tmp_path / "variant.yaml"
    variant.write_text("base: nested.yaml\nnetwork: {rate: 0.25, limit: 3}\nplain: {settings: {b: {c: 5}}}\n")
    model = read(variant).build("model")["model"]
    assert model["network"].given | {"width": 4, "rate": 0.25, "limit": 3} == model["network"].given
    assert model["plain"] == {"settings": {"a": 1, "b": {"c": 5}}}
    variant.write_text(
        "base: nested.yaml\nmodel: {network: {width: 6}}\nplain: {settings: !new:builtins.dict {c: 5}}\n"
    )
    built = read(variant).build("model", "task")
    assert built["task"]["network"].given["width"] == 6
    assert built["model"]["plain"] == {"settings": {"c": 5}}
    variant.write_text("base: nested.yaml\nnetwork: !new:builtins.dict {size: 1}\nsizes: [3]\n")
    model = read(variant).build("model")["model"]
    assert model["network"] == {"size": 1} and model["mel"]["sizes"] == [3]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("on=no", False),
        ("on=off", False),
        ("on=N", False),
        ('on="False"', False),
        ("on=yes", True),
        ("on=1", True),
        ('rate="1e-4"', 1e-4),
        ("width=4.0", 4),
        ('width="12"', 12),
        ("limit=None", None),
        ("sizes=[1.0, '2']", [1, 2]),
    ],
)
def test_values_are_understood_where_they_are_used(nested, change: str, value: object) -> None:
    """mix_continuous=no trained the Hybrid, and a learning rate as text ended in a traceback."""
    built = read(nested, f"network.{change}").build("model")["model"]["network"]
    found = built.given[change.partition("=")[0]]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("on=maybe", "network.on must be true or false, got 'maybe'"),
        ("on=2", "network.on must be true or false, got 2"),
        ("rate=fast", "network.rate must be a number, got 'fast'"),
        ("rate=", "network.rate must be a number, got nothing (null)"),
        ("rate=true", "network.rate must be a number, got True"),
        ("width=4.5", "network.width must be a whole number, got 4.5"),
        ("kind=c", "network.kind must be one of a, b, got 'c'"),
        ("sizes=3", "network.sizes must be a list of whole numbers, got 3"),
        ("sizes=[x]", "network.sizes must be a list of whole numbers, got ['x']"),
        ("limit=many", "network.limit must be a whole number or null, got 'many'"),
        ("inner=text", "network.inner must be an object (Part) or null, got 'text'"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(nested, change: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        read(nested, f"network.{change}").build("model")


def test_a_flat_key_is_named_with_those_who_refer_to_it_and_keeps_what_it_means(nested) -> None:
    with pytest.raises(ValueError, match=r"width must be a whole number, got 'x' \(network.width refers to it\)"):
        read(nested, "width=x").build("model")
    recipe = read(nested, 'width="5"')
    assert recipe.build("width") == {"width": 5}  # a program may ask for it first
    assert recipe.build("model")["model"]["network"].given["width"] == 5 and "width: 5\n" in recipe.text()
    with pytest.raises(ValueError, match="width must be a whole number"):
        read(nested, "width=x").get("width")


def test_all_that_is_wrong_is_said_together(nested) -> None:
    nested.write_text(
        NESTED.replace("width: 4\n", "") + "    extra: !new:tests.utils.test_recipe.Part\n        witdh: 1\n"
    )
    with pytest.raises(ValueError) as error:
        read(nested, "network.rate=fast").build("model", "task")
    for part in (
        f"{nested}: width is missing, and network.width refers to it",
        "network.rate must be a number, got 'fast'",
        "task.extra.witdh is no parameter of tests.utils.test_recipe.Part (did you mean width?)",
        "task.extra lacks width, which tests.utils.test_recipe.Part needs",
    ):
        assert part in str(error.value)
    assert read(nested, "network.width=1").build("model")


def test_an_error_of_a_class_names_its_key_and_keeps_the_cause(nested) -> None:
    with pytest.raises(ValueError, match=r"^network: the width must not be below 0, got -1$") as error:
        read(nested, "width=-1").build("model")
    assert isinstance(error.value.__cause__, ValueError)
    with pytest.raises(FileNotFoundError, match=r"^network: no such folder: gone$"):
        read(nested, "network.folder=gone").build("model")
    with pytest.raises(ValueError, match=r"^task.inner: .*got -2$"):
        nested.write_text(NESTED + "    inner: !new:tests.utils.test_recipe.Part {width: -2}\n")
        read(nested).build("task")


def test_a_circle_is_an_error(nested) -> None:
    with pytest.raises(ValueError, match="width refers to itself"):
        read(nested, "width=!ref <sizes>", "sizes=!ref <width>").build("model")


def test_relative_paths_are_beside_the_recipe_or_in_the_current_folder(nested, tmp_path, monkeypatch) -> None:
    here, deep = tmp_path / "here", tmp_path / "deep"
    for folder in (here, deep, tmp_path / "part", here / "other", here / "part"):
        folder.mkdir()
    monkeypatch.chdir(here)
    nested.write_text(NESTED.replace("rate: 0.5", "folder: !ref <folder>") + "folder: part\n")
    found = [read(nested).build("model")["model"]["network"].given["folder"]]
    variant = deep / "variant.yaml"
    variant.write_text("base: ../nested.yaml\n")
    found += [read(variant).build("model")["model"]["network"].given["folder"]]  # beside the file where it is written
    assert [Path(path) for path in found] == [tmp_path / "part"] * 2
    assert "folder: part" in read(variant).text()
    variant.write_text("base: ../nested.yaml\nfolder: other\n")
    assert read(variant).build("model")["model"]["network"].given["folder"] == "other"
    assert read(nested, "folder=part").build("model")["model"]["network"].given["folder"] == "part"
    variant.write_text("base: ../nested.yaml\nfolder: gone\n")
    with pytest.raises(FileNotFoundError, match=f"network: no such folder: gone. gone .* {deep}, .* {here}$"):
        read(variant).build("model")


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda p: str(p.relative_to(ROOT)))
@pytest.mark.slow
def test_a_shipped_recipe_hands_over_what_its_classes_ask_for(path: Path) -> None:
    recipe = Recipe(path)
    names = [name for name in ROOTS if name in recipe]
    recipe._checked(names, recipe._closure(names))
    if "<seed>" in recipe.text():  # what nobody asks for has no kind
        with pytest.raises(ValueError, match="seed must be a whole number"):
            Recipe(path, overrides=["seed=x"]).build("seed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: 1\nb:\n\tc: 2\n", "is not YAML: while scanning"),
        (b"# caf\xe9\n", "is not text in UTF-8"),
        (b"a: " + b"[" * 3000, "is not YAML: maximum recursion"),
        (b"a: 1\na: 2\n", "found duplicate key"),
        (b"a: " + b"9" * 6000, "is not YAML: Exceeds the limit"),
        (b"5: 6\n~: 7\n", "keys must be text, got 5, None"),
        (b"base: [a, b]\n", "base must be a path, got ['a', 'b']"),
        (b"base:\n", "base must be a path, got None"),
        (b"task: !new:builtins.dict\n    x: !ref <a> / 0\na: 2.0\n", "float division by zero"),
        (b"task: !new:fractions.Fraction\n    numerator: !ref <a> / 0\na: 2.0\n", "'<a> / 0' cannot be worked out (f"),
        (b"task: !new:fractions.Fraction\n    numerator: !ref <a[b]>\na: 2.0\n", "task.numerator: '<a[b]>' cannot be"),
        (b"task: !apply:operator.getitem [[], 3]\n", "task: cannot be built of these values (IndexError"),
        (b"task: !apply:operator.truediv [1, 0]\n", "task: cannot be built of these values (ZeroDivisionError"),
        (b"task: !apply:getattr [5, x]\n", "task: cannot be built of these values (AttributeError"),
    ],
)
def test_every_broken_recipe_is_one_line(tmp_path, text: bytes, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(text)
    with pytest.raises(ValueError) as error:
        read(tmp_path / "x.yaml").build("task")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_override_that_is_no_yaml_is_one_line(base) -> None:
    with pytest.raises(ValueError, match="override size: '.*' is not YAML") as error:
        read(base, "size=[1")
    assert "\n" not in str(error.value)
