"""Values against annotations, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Optional, Union

import pytest
import torch

from utils.values import Misfit, describe, fit


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("hint", "given", "meant"),
    [
        (bool, "Off", False),
        (bool, "y", True),
        (bool, 0, False),
        (int, 4.0, 4),
        (int, "1e3", 1000),
        (int, "-7", -7),
        (float, "1e-4", 1e-4),
        (float, ".5", 0.5),
        (float, 3, 3),
        (float | None, "None", None),
        (Optional[bool], "null", None),  # noqa: UP045  as many libraries write it
        (Union[float, torch.Tensor], "2.5", 2.5),  # noqa: UP007
        (str | None, "None", "None"),
        (bool | str, "no", "no"),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (Sequence[int], ["1", 2.0], [1, 2]),
        (Sequence[Sequence[int]], [["1"], [2]], [[1], [2]]),
        (tuple[float, float], ["0.9", 0.98], [0.9, 0.98]),
        (Sequence[str | int], ["x", 1], ["x", 1]),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (Any, "x", "x"),
        (object, None, None),
        (Colour, "RED", "RED"),  # not known here: its class may read text
        ("a name that nothing is known of", 3, 3),
    ],
)
def test_what_is_understood(hint: Any, given: Any, meant: Any) -> None:
    found = fit(given, hint)
    assert found == meant and type(found) is type(meant)


@pytest.mark.parametrize(
    ("hint", "given", "wanted"),
    [
        (bool, "maybe", "true or false"),
        (bool, 2, "true or false"),
        (bool, 0.5, "true or false"),
        (int, True, "a whole number"),
        (int, 4.5, "a whole number"),
        (int, "4.5", "a whole number"),
        (float, "nan", "a number"),
        (float, "1_000", "a number"),
        (float, "", "a number"),
        (float, float("nan"), "a number"),
        (float, float("inf"), "a number"),
        (float, "1e999", "a number"),
        (os.PathLike, "", "a path"),
        (str | os.PathLike, "", "text or a path"),
        (Union[float, torch.Tensor], [1.0], "a number"),  # noqa: UP007
        (float, None, "a number"),
        (float, [1.0], "a number"),
        (float, {"a": 1}, "a number"),
        (str, 4, "text"),
        (str | os.PathLike, 4, "text or a path"),
        (Union[float, torch.Tensor], "fast", "a number"),  # noqa: UP007
        (Literal["a", "b"], "c", "one of a, b"),
        (Literal["a", "b"], None, "one of a, b"),
        (Sequence[int], "12", "a list of whole numbers"),
        (Sequence[int], 3, "a list of whole numbers"),
        (Sequence[Sequence[int]], [1], "a list of (a list of whole numbers)"),
        (tuple[float, float], [0.9], "a list of numbers"),
        (Mapping[str, int], [1], "a mapping"),
        (torch.nn.Module, "x", "an object (Module)"),
        (torch.nn.Module, None, "an object (Module)"),
        (Callable[..., int], "x", "an object (Callable)"),
    ],
)
def test_what_is_refused(hint: Any, given: Any, wanted: str) -> None:
    with pytest.raises(Misfit) as error:
        fit(given, hint)
    assert str(error.value) == describe(hint) == wanted


def test_what_fits_is_the_very_object() -> None:
    for hint, value in ((Sequence[int], [1, 2]), (float, 0.1), (str, "x" * 99), (Sequence[int], (1, 2))):
        assert fit(value, hint) is value


def test_text_becomes_a_path_only_where_one_is_asked_for() -> None:
    def found(value: Any, hint: Any) -> Any:
        return fit(value, hint, path="/{}".format)

    assert found("", str | os.PathLike | None) is None
    assert found("a", str | os.PathLike | None) == "/a" and found(["a"], Sequence[os.PathLike]) == ["/a"]
    assert found("a", str) == "a" and found(None, os.PathLike | None) is None
