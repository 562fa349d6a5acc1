"""Curves as SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from evaluation.curves import curves_svg

SVG = "{http://www.w3.org/2000/svg}"


def draw(curves, **more) -> ET.Element:
    return ET.fromstring(curves_svg(curves, title="Error < 1", x_title="steps", y_title="%", **more))


def test_points_lie_where_their_values_are() -> None:
    picture = draw({"dev": [(0, 80.0), (50, 70.0), (100, 60.0)]}, levels={"copying": 75.0})
    (curve,) = [path for path in picture.iter(f"{SVG}path") if "L" in path.get("d")]
    places = [tuple(map(float, point.split())) for point in curve.get("d")[1:].split("L")]
    assert places[0][0] == 56 and places[-1][0] == 470 and places[1][0] == pytest.approx((56 + 470) / 2)
    assert places[0][1] < places[1][1] < places[2][1]  # down the page is down the scale
    (level,) = [path for path in picture.iter(f"{SVG}path") if path.get("stroke-dasharray")]
    height = float(level.get("d").split()[1].split("H")[0])
    assert height == pytest.approx((places[0][1] + places[1][1]) / 2, abs=0.2)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"Error < 1", "steps", "%", "dev", "copying", "60", "80"} <= set(texts)


def test_nothing_leaves_the_picture_and_one_point_or_an_empty_curve_is_no_fault() -> None:
    for curves in ({"a": [(5, 1.0)]}, {"a": [(1, 2.0), (3, 2.0)], "b": []}, {"a": [(0, -1e-3), (1e6, 1e3)]}):
        picture = draw(curves)
        numbers = [
            float(x)
            for path in picture.iter(f"{SVG}path")
            for x in path.get("d").replace("M", " ").replace("L", " ").replace("H", " ").replace("h", " ").split()
        ]
        assert 0 <= min(numbers) and max(numbers) <= 640
    with pytest.raises(ValueError, match="nothing to draw"):
        draw({"a": []})
