from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.load import offered
from page.systems import by_title, find_systems, own_systems, read_system
from tests.toy import ROOT
from utils.recipe import Recipe

LEAST = """
title = "A system"
says = "What it does."
button = "Do it"
result = "what came of it"
job = "resynthesise"
recipe = "config/toy/speechtokenizer.yaml"
inputs = {audio = "The recording"}
"""


def test_what_is_shipped_is_there_with_all_its_files() -> None:
    systems = find_systems(ROOT / "pretrained")
    assert [Path(one.recipe).name for one in systems][0] == "tselm.yaml" and len(systems) >= 5
    assert len(by_title(systems)) == len(systems)
    for system in systems:
        assert os.path.exists(ROOT / system.checkpoint)
        assert set(system.example) == set(system.inputs)
        assert all(os.path.exists(path) for path in system.example.values())
        for way in system.ways:
            recipe = Recipe(ROOT / system.recipe, overrides=list(way.overrides))
            assert system.job in offered(recipe)
        assert any(way.chosen for way in system.ways)


def test_a_file_says_enough_in_seven_lines(tmp_path) -> None:
    path = tmp_path / "page.toml"
    path.write_text(LEAST)
    system = read_system(path)
    assert [way.name for way in system.ways] == ["what came of it"]
    assert system.checkpoint is None and not system.example


@pytest.mark.parametrize(
    "change, said",
    [
        (("title", "tittle"), "tittle"),
        (('job = "resynthesise"', ""), "job"),
        (("inputs = {", "inputs = {a = '1', b = '2', "), "inputs must be one or two"),
        (('"A system"', '"A system'), "line 2"),
        (("inputs", "ways = []\ninputs"), "ways is empty"),
        (("inputs", "example = {mixture = 'a.wav'}\ninputs"), "example"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, change, said) -> None:
    path = tmp_path / "page.toml"
    path.write_text(LEAST.replace(*change))
    with pytest.raises(ValueError, match=f"page.toml.*{said}"):
        read_system(path)


def test_one_s_own_recipe_is_shown_by_its_jobs() -> None:
    systems = own_systems(str(ROOT / "config/speechtokenizer.yaml"), "codec.pt", ["codebooks=2"])
    assert [system.title for system in systems] == ["speechtokenizer: resynthesise"]
    assert systems[0].setup(systems[0].ways[0], threads=1).overrides == ("codebooks=2",)
    with pytest.raises(ValueError, match="kmeans.yaml offers nothing to run, which the page cannot show"):
        own_systems(str(ROOT / "config/kmeans.yaml"), None, [])


def test_without_any_system_it_says_what_to_do(tmp_path) -> None:
    with pytest.raises(ValueError, match="start it from the project's folder, or give -config FILE"):
        by_title(find_systems(tmp_path))
