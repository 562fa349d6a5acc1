"""Values that are not finite, or are nothing: the step is skipped and counted, and nothing is poisoned by it."""

from __future__ import annotations

import torch

from tests.torture.attack import Place, attack
from tests.torture.programs import run
from tests.torture.systems import TRAININGS, saved

FAULTS = ("overflow", "nan_batch", "exploding", "silence")


@attack("values that are not finite in a step", promise="bad numbers", over=list(TRAININGS), short=1, long=len(FAULTS))
def poison(place: Place, number: int, name: str) -> None:
    """In the forward pass, in the batch, by its size; and a batch of silence, from which a step may be taken."""
    fault, folder = FAULTS[number], place.fresh("run")
    before = f"tests.torture.faults.{fault}"
    run(*TRAININGS[name].command(place, folder), said=folder / "said.txt", before=before)
    content = saved(folder)
    bad = [key for key, x in content["model"].items() if x.is_floating_point() and not bool(torch.isfinite(x).all())]
    assert not bad, f"not finite after {fault}: {bad[:5]}"
    skipped = content["state"]["progress"]["skipped"]
    place.count("skipped", skipped)
    through_tokens = name in ("DP-SLM", "TSELM")  # the loss hears symbols alone
    if fault == "overflow" or fault == "nan_batch" and not through_tokens:
        assert skipped, f"{fault}: no step was counted as skipped"
