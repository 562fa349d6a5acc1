from __future__ import annotations

import pytest
import torch

from utils.schedule import Exponential, NewBob, Plateau, Schedule, WarmUpCosine


def scales_after(schedule: Schedule, metrics: list[float]) -> list[float]:
    """The scale after each epoch."""
    return [(schedule.end_epoch(metric), schedule.scale(0))[1] for metric in metrics]


def test_the_rate_falls_when_the_metric_no_longer_improves() -> None:
    bob = NewBob(factor=0.9, threshold=0.0025, patience=1)
    scales = scales_after(bob, [50.0, 40.0, 39.95, 39.94, 39.93, 39.92, 30.0])
    # 40 -> 39.95 is too little, and is let pass once; then every second such epoch counts
    assert scales == pytest.approx([1, 1, 1, 0.9, 0.9, 0.81, 0.81])


def test_its_state_continues_it() -> None:
    metrics = [50.0, 49.99, 49.98, 49.97, 49.96, 49.95]
    whole, first, second = NewBob(), NewBob(), NewBob()
    want = scales_after(whole, metrics)
    scales_after(first, metrics[:3])
    second.load_state_dict(first.state_dict())
    assert scales_after(second, metrics[3:]) == want[3:]


def test_exponential_decay_goes_by_epochs_and_continues() -> None:
    whole, again = Exponential(factor=0.5), Exponential(factor=0.5)
    assert whole.scale(7) == 1 and scales_after(whole, [1.0, 9.0]) == [0.5, 0.25]
    again.load_state_dict(whole.state_dict())
    assert again.scale(99) == 0.25
    with pytest.raises(ValueError, match="got 1.1"):
        Exponential(factor=1.1)


def test_warm_up_and_cosine_are_a_function_of_the_step() -> None:
    schedule = WarmUpCosine(steps=12, warm_up=0.333, end=0.1)
    assert [schedule.scale(step) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert schedule.scale(8) == pytest.approx(0.55)
    assert schedule.scale(12) == schedule.scale(99) == pytest.approx(0.1)
    assert WarmUpCosine(steps=1).scale(0) == 1
    with pytest.raises(ValueError, match="got 4 and 1"):
        WarmUpCosine(steps=4, warm_up=1)


def test_a_plateau_is_torchs() -> None:
    metrics = [5.0, 4.0, 4.1, 3.99999, 4.2, 4.0, 3.0, 3.1, 3.1, 3.1, 3.1, 3.1, 2.0, 2.0, 2.0, 2.0, 2.0]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=2, min_lr=0.005)
    ours, want = Plateau(factor=0.1, patience=2, lowest=0.005), []
    for metric in metrics:
        theirs.step(metric)
        want.append(optimizer.param_groups[0]["lr"])
    assert scales_after(ours, metrics) == pytest.approx(want) and want[-1] == 0.005
    whole, first, second = Plateau(patience=2), Plateau(patience=2), Plateau(patience=2)
    want = scales_after(whole, metrics)
    scales_after(first, metrics[:5])
    second.load_state_dict(first.state_dict())
    assert scales_after(second, metrics[5:]) == want[5:]


def test_a_plateau_of_a_metric_below_zero() -> None:
    """As minus a signal-to-noise ratio: what is a little worse is no improvement."""
    plateau = Plateau(factor=0.5, patience=1)
    assert scales_after(plateau, [-10.0, -9.9995, -9.9996, -10.0005, -10.002]) == [1, 1, 0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="got 1, 1"):
        Plateau(factor=1, patience=1)


def test_a_cosine_falls_to_zero_and_says_when_its_end_moved(caplog) -> None:
    cosine = WarmUpCosine(steps=10, warm_up=0.0)
    assert [cosine.scale(s) for s in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])
    WarmUpCosine(steps=10).load_state_dict(cosine.state_dict())
    assert not caplog.records
    WarmUpCosine(steps=20).load_state_dict(cosine.state_dict())
    assert "its end at step 10, and now does at step 20" in caplog.text
