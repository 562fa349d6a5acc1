from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.no_sync import NoSync
from utils.descent import Descent, load_optimizer
from utils.progress import Averages
from utils.task import Objective, Task

CPU = torch.device("cpu")
MAKERS = {
    "fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "plain": lambda p: torch.optim.AdamW(p, lr=0.01),
    "fused SGD": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
}


class Sums(Task):
    def __init__(self, make=MAKERS["fused"]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 33), nn.ReLU(), nn.Linear(33, 1))
        self.make = make

    def networks(self):
        return {"net": self.net}

    def optimizers(self):
        return {"net": self.make(self.net.parameters())}

    def objectives(self, batch, networks):
        loss = (networks["net"](batch["x"]) - batch["x"].sum(dim=-1, keepdim=True)).square().mean()
        yield Objective("net", loss, {"loss": loss.detach()})

    def evaluate(self, batch):
        raise NotImplementedError


def batch(number: int, *, bad: bool = False) -> dict[str, torch.Tensor]:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
    return {"x": x * float("nan") if bad else x}


def steps(task: Task, bad: tuple[bool, ...], *, descent: Descent | None = None, **settings) -> Descent:
    if descent is None:
        descent = Descent(task.optimizers(), CPU, **settings)
        if descent.scaler.is_enabled():  # the scale that it would begin with is too large for the first steps
            descent.scaler.load_state_dict({**descent.scaler.state_dict(), "scale": 8.0})
    for number, is_bad in enumerate(bad):
        descent.step(task, task.networks(), iter([batch(number, bad=is_bad)]), Averages())
    return descent


def state(task: Task, descent: Descent) -> list[torch.Tensor]:
    """The weights, and all that the optimizer keeps."""
    kept = descent.optimizers["net"].state_dict()["state"]
    return [*task.net.state_dict().values(), *(x for values in kept.values() for x in values.values())]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("before", [0, 3])
def test_a_step_that_is_not_taken_changes_nothing(kind: str, precision: str, before: int) -> None:
    """Neither weights, nor moments, nor the count of steps; also as the first one."""
    task = Sums(MAKERS[kind])
    descent = steps(task, (False,) * before, precision=precision)
    found = copy.deepcopy(state(task, descent))
    steps(task, (True,), descent=descent)
    assert same(found, state(task, descent))
    assert descent.skipped.pop() == {"net": (1, 1)}
    steps(task, (False,), descent=descent)
    assert not same(found, state(task, descent))
    assert all(bool(x.isfinite().all()) for x in state(task, descent))


@pytest.mark.parametrize("kind", MAKERS)
def test_with_steps_that_are_not_taken_the_weights_are_those_without_them(kind: str) -> None:
    whole, parts = Sums(MAKERS[kind]), Sums(MAKERS[kind])
    a, b = Descent(whole.optimizers(), CPU), Descent(parts.optimizers(), CPU)
    for number in range(6):
        steps(parts, (True,) * (number % 3), descent=b)
        for task, descent in ((whole, a), (parts, b)):
            descent.step(task, task.networks(), iter([batch(number)]), Averages())
    assert same(state(whole, a), state(parts, b))


def test_the_fused_optimizer_follows_the_plain_one() -> None:
    fused, plain = Sums(MAKERS["fused"]), Sums(MAKERS["plain"])
    steps(fused, (False,) * 50), steps(plain, (False,) * 50)
    for a, b in zip(fused.net.parameters(), plain.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_a_run_of_skipped_steps_is_counted() -> None:
    task = Sums()
    descent = steps(task, (True, False, True, True, False, True))
    assert descent.skipped.pop() == {"net": (4, 2)}
    steps(task, (True, True), descent=descent)
    assert descent.skipped.pop() == {"net": (2, 3)}  # with the one before the last reading
    assert descent.skipped.pop() == {"net": (0, 3)}


def test_the_mean_norm_is_that_of_steps_that_were_taken() -> None:
    def norms(bad: tuple[bool, ...]) -> dict[str, float]:
        task, averages = Sums(), Averages()
        descent = Descent(task.optimizers(), CPU)
        for is_bad in bad:
            descent.step(task, task.networks(), iter([batch(0, bad=is_bad)]), averages)
        return averages.pop()

    assert norms((True, False, True))["grad_norm_net"] == norms((False,))["grad_norm_net"]
    found = norms((True,))
    assert found["grad_norm_net"] != found["grad_norm_net"] and found["loss"] != found["loss"]


@pytest.mark.parametrize("saved", ["fused", "plain"])
@pytest.mark.parametrize("loaded", ["fused", "plain"])
def test_a_loaded_optimizer_stays_fused_or_not(saved: str, loaded: str) -> None:
    """A checkpoint of another time may say otherwise; its moments, rates and count of steps are kept."""
    before, after = Sums(MAKERS[saved]), Sums(MAKERS[loaded])
    old = steps(before, (False,) * 3)
    after.net.load_state_dict(before.net.state_dict())
    new = Descent(after.optimizers(), CPU)
    content = old.optimizers["net"].state_dict()
    content["param_groups"][0]["lr"] = 0.125
    load_optimizer(new.optimizers["net"], content)
    (group,) = new.optimizers["net"].param_groups
    assert group["fused"] is (True if loaded == "fused" else None) and group["lr"] == 0.125
    assert same(state(before, old), state(after, new))
    steps(after, (True,), descent=new)
    assert same(state(before, old), state(after, new))
    steps(after, (False,), descent=new)
    assert not same(state(before, old), state(after, new))


def test_the_state_of_other_parameters_is_refused() -> None:
    other = torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [nn.Parameter(torch.zeros(1))]}])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        load_optimizer(Sums().optimizers()["net"], other.state_dict())


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0}, {"precision": "bf16"}, {"precision": "fp16"}])
def test_the_host_does_not_wait_for_the_device(settings: dict) -> None:
    task = Sums()
    descent = steps(task, (False,), **settings)  # the first step makes the optimizer's state, and is looked at
    with NoSync():
        steps(task, (False, True, True, False), descent=descent)
    assert descent.skipped.pop()["net"][0] == 2


def test_with_an_optimizer_that_is_not_fused_it_does() -> None:
    task = Sums(MAKERS["plain"])
    descent = steps(task, (False,))
    with NoSync(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        steps(task, (False,), descent=descent)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x[0].item(),
        lambda x: float(x[0]),
        lambda x: bool(x[0] > 0),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: torch.tensor(1.0, device=x.device),
        lambda x: torch.equal(x, x),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.clone().index_put_((x > 0,), x[0]),
    ],
)
def test_the_guard_sees_what_makes_it_wait(wait) -> None:
    x = torch.arange(3.0)
    with NoSync() as guard:
        with pytest.raises(AssertionError, match="would wait"):
            wait(x)
        guard.active = False
        wait(x)
        guard.active = True
        x[torch.arange(2)], x.clone().masked_fill_(x > 0, 0.0), x.to(CPU, non_blocking=True)  # these do not


class Seen(torch.autograd.Function):
    """The identity, which writes down in what its backward pass computes."""

    @staticmethod
    def forward(ctx, x, seen):
        ctx.seen = seen
        seen.append(("forward", torch.backends.cuda.matmul.fp32_precision, torch.is_autocast_enabled("cpu")))
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.seen.append(("backward", torch.backends.cuda.matmul.fp32_precision, torch.is_autocast_enabled("cpu")))
        return gradient, None


@pytest.mark.parametrize(
    ("precision", "products", "is_cast"),
    [("fp32", "ieee", False), ("tf32", "tf32", False), ("bf16", "ieee", True), ("fp16", "ieee", True)],
)
def test_the_backward_pass_computes_as_the_forward_pass(precision: str, products: str, is_cast: bool) -> None:
    """But not under autocast, which has put its casts into the graph."""
    seen: list = []

    class Watched(Sums):
        def objectives(self, batch, networks):
            for objective in super().objectives(batch, networks):
                yield Objective("net", Seen.apply(objective.loss, seen), objective.metrics)

    before = torch.backends.cuda.matmul.fp32_precision
    steps(Watched(), (False,), precision=precision)
    assert seen == [("forward", products, is_cast), ("backward", products, False)]
    assert torch.backends.cuda.matmul.fp32_precision == before
