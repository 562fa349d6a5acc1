"""The search that pays for every change of the unit, against all paths, the published units and itself."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modules.dpdp import Trellis, count_of_neighbors, dpdp
from tests.toy import REFERENCE

PROBLEMS = json.loads((REFERENCE / "dpslm/dims.json").read_text())["problems"]


def squared(x: torch.Tensor, book: torch.Tensor) -> np.ndarray:
    return (x.double()[:, None] - book.double()[None]).square().sum(-1).numpy()


def least_cost(x: torch.Tensor, book: torch.Tensor, lmbda: float) -> float:
    """Over all paths, in float64."""
    rows = squared(x, book)
    costs = rows[0]
    for row in rows[1:]:
        costs = row + np.minimum(costs - lmbda, costs.min())
    return float(costs.min())


def cost_of(x: torch.Tensor, book: torch.Tensor, units: np.ndarray, lmbda: float) -> float:
    return float(squared(x, book)[np.arange(len(units)), units].sum() - lmbda * (units[1:] == units[:-1]).sum())


@pytest.mark.parametrize("number", range(len(PROBLEMS)))
def test_published_units_and_costs_come_out(number: int) -> None:
    expected = load_file(REFERENCE / "dpslm/expected.safetensors")
    features, codebook, units, cost = (
        expected[f"dpdp/{number}/{name}"] for name in ("features", "codebook", "units", "cost")
    )
    found, costs = dpdp(features[None], codebook, **PROBLEMS[number])
    assert found.dtype == torch.int64 and torch.equal(found[0], units)
    assert costs.dtype == torch.float64 and costs[0].item() == pytest.approx(cost.item(), rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("lmbda", [0.0, 0.7, 3.0, 1e9])
@pytest.mark.parametrize("neighbors", [None, 1, 2])
def test_no_path_is_cheaper(lmbda: float, neighbors: int | None) -> None:
    """All of them, of five frames and four centres, with only a frame's nearest centres allowed."""
    torch.manual_seed(1)
    for _ in range(5):
        x, book = torch.randn(5, 3), torch.randn(4, 3)
        nearest = squared(x, book).argsort(axis=1)[:, : neighbors or 4].tolist()
        paths = [np.array(path) for path in itertools.product(*nearest)]
        best = min(paths, key=lambda path: cost_of(x, book, path, lmbda))
        units, costs = dpdp(x[None], book, lmbda=lmbda, num_neighbors=neighbors)
        assert units[0].tolist() == best.tolist()
        assert costs[0].item() == pytest.approx(cost_of(x, book, best, lmbda), rel=1e-6)


def test_lmbda_0_is_the_nearest_centre() -> None:
    torch.manual_seed(0)
    x, book = torch.randn(1, 400, 6), torch.randn(30, 6)
    assert torch.equal(dpdp(x, book, lmbda=0.0)[0], torch.cdist(x.double(), book[None].double()).argmin(-1))


@pytest.mark.parametrize("neighbors", [None, 1, 2, 3])
def test_equal_costs_stay_or_else_take_the_lowest_index(neighbors: int | None) -> None:
    """In whole numbers, which float32 adds exactly."""
    book = torch.tensor([[2.0], [0.0], [0.0], [1.0]])
    assert dpdp(torch.zeros(1, 6, 1), book, lmbda=0.0, num_neighbors=neighbors)[0].tolist() == [[1] * 6]
    # From 0 to 1 the change costs as much as the error of staying, and the way ends in the first of the best.
    x = torch.tensor([[[0.0], [0.0], [1.0]]])
    assert dpdp(x, torch.tensor([[0.0], [1.0]]), lmbda=1.0)[0].tolist() == [[0, 0, 0]]
    x = torch.tensor([[[0.0], [1.0], [1.0]]])
    assert dpdp(x, torch.tensor([[1.0], [0.0]]), lmbda=1.0)[0].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("neighbors", [None, 4, 0.1])
def test_a_padded_row_has_the_units_that_it_has_alone(neighbors: float | None) -> None:
    torch.manual_seed(0)
    x, book = torch.randn(5, 90, 8), torch.randn(40, 8)
    lengths = torch.tensor([90, 1, 0, 55, 90])
    padded = x.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = torch.nan
    before = padded.clone()
    units, costs = dpdp(padded, book, lmbda=2.0, num_neighbors=neighbors, lengths=lengths)
    assert torch.equal(padded.nan_to_num(9), before.nan_to_num(9))
    for row, length in enumerate(lengths.tolist()):
        alone, cost = dpdp(x[row : row + 1, :length], book, lmbda=2.0, num_neighbors=neighbors)
        assert torch.equal(units[row, :length], alone[0]) and not units[row, length:].any()
        assert costs[row].item() == pytest.approx(cost[0].item())
    assert costs[2] == 0


def test_features_in_parts_are_the_whole() -> None:
    torch.manual_seed(0)
    x, book = torch.randn(3000, 4), torch.randn(700, 4)
    trellis = Trellis(book, lmbda=1.5, num_neighbors=0.1)
    for part in x.split([1, 749, 1250, 0, 1000]):
        trellis.add(part)
    assert torch.equal(trellis.units(), dpdp(x[None], book, lmbda=1.5, num_neighbors=0.1)[0][0])


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_a_long_signal_keeps_its_optimum(scale: float) -> None:
    """Sums of 20,000 frames lose in float32 what tells two paths apart, unless the least is taken off."""
    generator = torch.Generator().manual_seed(0)
    x, book = torch.randn(20000, 4, generator=generator), torch.randn(64, 4, generator=generator)
    x, book, lmbda = x * scale, book * scale, 2.0 * scale**2
    units, costs = dpdp(x[None], book, lmbda=lmbda)
    best = least_cost(x, book, lmbda)
    assert cost_of(x, book, units[0].numpy(), lmbda) - best < 1e-7 * abs(best)
    assert costs[0].item() == pytest.approx(best, rel=1e-6)


def test_a_large_lmbda_hides_no_small_difference() -> None:
    """Where no centre may stay, the nearest is still found: float32 has no digits for it beside 1e9."""
    book = torch.tensor([[0.0], [0.1], [10.0], [10.1]])
    x = torch.tensor([[[0.09], [10.09], [0.01], [10.01]]])
    assert dpdp(x, book, lmbda=1e9, num_neighbors=2)[0].tolist() == [[1, 3, 0, 2]]


@pytest.mark.parametrize(
    ("neighbors", "count"),
    [(None, 50), (0.05, 2), (0.001, 1), (0.999, 49), (1, 1), (3, 3), (3.0, 3), (50, 50), (99, 50)],
)
def test_neighbors_are_a_share_or_a_count(neighbors: float | None, count: int) -> None:
    assert count_of_neighbors(neighbors, 50) == count


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lmbda": -1.0}, "lmbda must be"),
        ({"lmbda": float("nan")}, "lmbda must be"),
        ({"lmbda": float("inf")}, "lmbda must be"),
        ({"num_neighbors": 0}, "num_neighbors must be"),
        ({"num_neighbors": -2}, "num_neighbors must be"),
        ({"num_neighbors": 2.5}, "num_neighbors must be"),
        ({"num_neighbors": True}, "num_neighbors must be"),
        ({"features": torch.zeros(4, 3)}, r"\[B, N, D\]"),
        ({"features": torch.zeros(1, 4, 2)}, r"\[B, N, D\]"),
        ({"codebook": torch.zeros(0, 3)}, r"\[K, D\]"),
        ({"lengths": torch.tensor([5])}, "lengths must be"),
        ({"lengths": torch.tensor([-1])}, "lengths must be"),
        ({"lengths": torch.tensor([4, 4])}, "lengths must be"),
        ({"features": torch.full((1, 4, 3), torch.nan)}, "not finite"),
        ({"features": torch.full((1, 4, 3), torch.inf)}, "not finite"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, said: str) -> None:
    given = {"features": torch.zeros(1, 4, 3), "codebook": torch.ones(5, 3), "lmbda": 1.0, **change}
    with pytest.raises(ValueError, match=said):
        dpdp(given.pop("features"), given.pop("codebook"), **given)


def test_back_pointers_take_a_bit_a_centre_and_an_index_a_frame() -> None:
    trellis = Trellis(torch.randn(500, 2), lmbda=1.0)
    for _ in range(4):
        trellis.add(torch.randn(1000, 2))
    kept = sum(array.nbytes for array in (*trellis._stays, *trellis._cheapest))
    assert kept == 4000 * (63 + 4)  # bytes
