from __future__ import annotations

import pytest

from utils.schedule import NewBob


def test_the_rate_falls_when_the_metric_no_longer_improves() -> None:
    bob = NewBob(factor=0.9, threshold=0.0025, patience=1)
    scales = [bob.step(metric) for metric in (50.0, 40.0, 39.95, 39.94, 39.93, 39.92, 30.0)]
    # 40 -> 39.95 is too little, and is let pass once; then every second such epoch counts
    assert scales == pytest.approx([1, 1, 1, 0.9, 0.9, 0.81, 0.81])


def test_its_state_continues_it() -> None:
    metrics = [50.0, 49.99, 49.98, 49.97, 49.96, 49.95]
    whole, first, second = NewBob(), NewBob(), NewBob()
    want = [whole.step(m) for m in metrics]
    for m in metrics[:3]:
        first.step(m)
    second.load_state_dict(first.state_dict())
    assert [second.step(m) for m in metrics[3:]] == want[3:]
