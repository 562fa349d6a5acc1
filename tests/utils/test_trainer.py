"""The loop, on tasks that have never heard of speech: a regression with dropout, and a GAN."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from data.loading import EvalBatches, TrainBatches
from tests.no_sync import NoSync
from tests.toy import StopAfter
from utils import distributed, launch
from utils.descent import Descent
from utils.errors import Diverged
from utils.schedule import NewBob, WarmUpCosine
from utils.task import Media, Objective, Task
from utils.trainer import Trainer, _Run

CPU = torch.device("cpu")


class Numbers(Dataset):
    """x of (epoch, index), and y = x summed; a row can be poisoned."""

    def __init__(self, size: int, poison: tuple = ()) -> None:
        self.size, self.poison = size, poison

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key) -> dict[str, torch.Tensor]:
        seed = key if isinstance(key, int) else 1000 * (key[0] + 1) + key[1]
        x = torch.randn(4, generator=torch.Generator().manual_seed(seed))
        return {"x": x * (float("nan") if key in self.poison else 1), "y": x.sum(dim=0, keepdim=True)}


class Regression(Task):
    def __init__(self, dropout: float = 0.3, lr: float = 0.01, fused: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(dropout), nn.ReLU(), nn.Linear(16, 1))
        self.lr = lr
        self.fused = fused
        self.micro_batches: list[int] = []

    def networks(self):
        return {"net": self.net}

    def optimizers(self):
        return {"net": torch.optim.AdamW(self.net.parameters(), lr=self.lr, fused=self.fused)}

    def objectives(self, batch, networks):
        self.micro_batches.append(len(batch["x"]))
        loss = (networks["net"](batch["x"]) - batch["y"]).square().mean()
        yield Objective("net", loss, {"loss": loss.detach()})

    def evaluate(self, batch):
        squares = (self.net(batch["x"]) - batch["y"]).square()
        return {"loss": (squares.sum(), len(squares))}

    def media(self, batch):
        return Media(audio={"x": batch["x"][0].clamp(-1, 1)}, images={"x": torch.rand(3, 4, 4)})


class Gan(Task):
    """Two networks, two optimizers; the fake is computed once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.generator, self.discriminator = nn.Linear(4, 1), nn.Linear(1, 1)
        self.fakes = 0

    def networks(self):
        return {"generator": self.generator, "discriminator": self.discriminator}

    def optimizers(self):
        return {name: torch.optim.SGD(net.parameters(), lr=0.1) for name, net in self.networks().items()}

    def objectives(self, batch, networks):
        fake = networks["generator"](batch["x"])
        self.fakes += 1
        before = self.discriminator.weight.detach().clone()
        real, made = networks["discriminator"](batch["y"]), networks["discriminator"](fake.detach())
        yield Objective("discriminator", (real - 1).square().mean() + made.square().mean())
        assert not torch.equal(self.discriminator.weight, before), "the discriminator steps before the generator"
        yield Objective("generator", (networks["discriminator"](fake) - 1).square().mean())

    def evaluate(self, batch):
        return {"loss": (self.generator(batch["x"]).square().sum(), len(batch["x"]))}


def fit(
    folder: Path, task: Task | None = None, *, workers: int = 0, data=None, valid=10, stop=None, init=None, **more
) -> Task:
    task = task or Regression()
    settings = dict(epochs=2, seed=1, schedule=NewBob(), log_interval=1)
    trainer = Trainer(**{**settings, **more})
    train = TrainBatches(dataset=data or Numbers(26), batch_size=8, num_workers=workers)
    evaluation = EvalBatches(dataset=Numbers(valid), batch_size=4)
    log, ckpt = folder / "log", folder / "ckpt"
    where = dict(device=CPU, log_path=log, ckpt_path=ckpt, init=init, stop=stop)
    task.finished = trainer.fit(task, train, evaluation, **where)
    return task


def lines(folder: Path, kind: str) -> list[dict]:
    text = (folder / "log/metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == kind]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop_after", [1, 3, 4, 5])
@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, workers: int, stop_after: int) -> None:
    """6 steps in two epochs; after 3 the first epoch is over, after 4 and 5 the run is in mid-epoch."""
    whole = fit(tmp_path / "whole", workers=workers)
    part = fit(tmp_path / "part", workers=workers, stop=StopAfter(stop_after))
    assert whole.finished and not part.finished and not same(whole.net, part.net)
    again = fit(tmp_path / "part", workers=workers)
    assert again.finished and same(whole.net, again.net)
    a, b = (torch.load(tmp_path / n / "ckpt/last.pth", weights_only=True) for n in ("whole", "part"))
    assert a["state"]["progress"] == b["state"]["progress"] and a["state"]["schedule"] == b["state"]["schedule"]
    moments = [s["state"]["optimizer.net"]["state"][0]["exp_avg"] for s in (a, b)]
    assert torch.equal(*moments)
    best = [torch.load(tmp_path / n / "ckpt/best.pth", weights_only=True)["model"] for n in ("whole", "part")]
    assert all(torch.equal(best[0][k], best[1][k]) for k in best[0])


def test_a_finished_run_does_nothing_more(tmp_path) -> None:
    first = fit(tmp_path)
    assert same(first.net, fit(tmp_path).net)
    assert len(lines(tmp_path, "train")) == 6
    fit(tmp_path, epochs=3)
    assert [line["step"] for line in lines(tmp_path, "train")] == list(range(1, 10))


def test_a_resumed_run_does_not_repeat_a_learning_rate(tmp_path) -> None:
    settings = dict(schedule=NewBob(factor=0.5, threshold=10.0, patience=0), epochs=4)
    fit(tmp_path / "whole", **settings)
    for epochs in (1, 2, 3, 4):
        schedule = NewBob(factor=0.5, threshold=10.0, patience=0)
        fit(tmp_path / "parts", **{**settings, "schedule": schedule, "epochs": epochs})
    rates = [[line["lr_net"] for line in lines(tmp_path / n, "train")][::3] for n in ("whole", "parts")]
    assert rates[0] == rates[1] == [0.01, 0.01, 0.005, 0.0025]


def test_micro_batches_add_up_to_the_batch(tmp_path) -> None:
    whole, parts = Regression(dropout=0.0), Regression(dropout=0.0)
    fit(tmp_path / "whole", whole)
    fit(tmp_path / "parts", parts, accumulate=4)
    assert set(parts.micro_batches) == {2} and set(whole.micro_batches) == {8}
    for a, b in zip(whole.net.parameters(), parts.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def run_in_process(device: torch.device, folder: str) -> int:
    task = fit(Path(folder), Regression(dropout=0.0), valid=5)
    torch.save(task.net.state_dict(), Path(folder) / f"rank{distributed.rank()}.pth")
    distributed.leave()
    return 0


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path) -> None:
    """At the same total batch; and five validation items over two processes average rightly."""
    for count in (1, 2, 4):
        (tmp_path / str(count)).mkdir()
        assert launch.launch([CPU] * count, run_in_process, str(tmp_path / str(count))) == 0
    one = torch.load(tmp_path / "1/rank0.pth")
    for count in (2, 4):
        for rank in range(count):
            for name, value in torch.load(tmp_path / f"{count}/rank{rank}.pth").items():
                torch.testing.assert_close(value, one[name], rtol=0, atol=1e-5)
        got, want = (lines(tmp_path / str(n), "valid") for n in (count, 1))
        assert [v["loss"] for v in got] == pytest.approx([v["loss"] for v in want], abs=1e-5)


def test_validation_averages_by_counts(tmp_path) -> None:
    task = fit(tmp_path, epochs=1)
    batch = torch.utils.data.default_collate([Numbers(10)[i] for i in range(10)])
    with torch.no_grad():
        total, count = task.eval().evaluate(batch)["loss"]
    assert lines(tmp_path, "valid")[0]["loss"] == pytest.approx(float(total) / count, rel=1e-6)  # batches of 4, 4, 2


def test_a_gan_trains_in_the_same_loop(tmp_path) -> None:
    task = fit(tmp_path, Gan(), epochs=2, schedule=None)
    assert task.fakes == 6
    saved = torch.load(tmp_path / "ckpt/last.pth", weights_only=True)
    assert {"optimizer.generator", "optimizer.discriminator"} <= saved["state"].keys()
    part = fit(tmp_path / "part", Gan(), schedule=None, stop=StopAfter(2))
    again = fit(tmp_path / "part", Gan(), schedule=None)
    assert not part.finished and same(again.generator, task.generator)


@pytest.mark.parametrize("fused", [True, False])
def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path, fused: bool) -> None:
    task = fit(tmp_path, Regression(fused=fused), data=Numbers(26, poison=((0, 9),)))
    assert all(bool(p.isfinite().all()) for p in task.net.parameters())
    assert [line["skipped"] for line in lines(tmp_path, "train")] == [0, 1, 1, 1, 1, 1]
    assert [line["grad_norm_net"] is None for line in lines(tmp_path, "train")] == [False, True] + [False] * 4


def test_a_skipped_step_names_its_items_and_a_task_warns_once(tmp_path, caplog) -> None:
    class Named(Numbers):
        def name(self, key) -> str:
            return f"file{key[1]}"

    class Warning(Regression):
        def warnings(self, values):
            return ["far off"] if values["loss"] > 0 else []

    with caplog.at_level("INFO", logger="utils.trainer"):
        fit(tmp_path, Warning(), data=Named(26, poison=((0, 9),)), log_interval=3)
    said = [record.getMessage() for record in caplog.records]
    items = ", ".join(f"file{i}" for i in range(8, 16))
    text = "step 2 of epoch 1 was not taken: its gradient was not finite; its items were "
    assert [line for line in said if "not taken" in line] == [text + items]
    assert said.count("far off") == 1


def test_a_checkpoint_between_two_lines_of_the_log_counts_what_was_skipped(tmp_path) -> None:
    """Also of a run that was stopped there: in steps 2, 4 and 5 of 6."""
    settings = dict(data=Numbers(50, poison=((0, 9), (0, 25), (0, 33))), epochs=1, log_interval=3)
    whole = fit(tmp_path / "whole", **settings)
    fit(tmp_path / "part", stop=StopAfter(4), **settings)
    assert torch.load(tmp_path / "part/ckpt/last.pth", weights_only=True)["state"]["progress"]["skipped"] == 2
    part = fit(tmp_path / "part", **settings)
    assert same(whole.net, part.net)
    assert [line["skipped"] for line in lines(tmp_path / "whole", "train")] == [1, 3]
    assert [line["skipped"] for line in lines(tmp_path / "part", "train")] == [1, 3]


@pytest.mark.parametrize(
    ("more", "seen", "saved"),
    [
        (dict(log_interval=1), 3, None),
        (dict(log_interval=5), 5, None),
        (dict(log_interval=50), 7, None),
        (dict(log_interval=5, save_interval=2), 4, 2),
        (dict(log_interval=5, save_interval=4), 4, None),
        (dict(log_interval=5, stop=StopAfter(4)), 4, None),
    ],
)
def test_too_many_such_steps_in_a_row_are_an_error(tmp_path, more: dict, seen: int, saved: int | None) -> None:
    """Steps 2 and 3 of 7: it is seen with the next line of the log, and no checkpoint is written beyond."""
    data = Numbers(58, poison=tuple((0, i) for i in range(8, 24)))
    with pytest.raises(FloatingPointError, match=f"2 steps in a row, as seen at step {seen}:"):
        fit(tmp_path, data=data, max_skipped=2, **more)
    last = tmp_path / "ckpt/last.pth"
    assert last.exists() is (saved is not None)
    if saved:
        progress = torch.load(last, weights_only=True)["state"]["progress"]
        assert (progress["step"], progress["skipped"]) == (saved, 1)


@pytest.mark.parametrize("fused", [True, False])
def test_the_host_waits_for_the_device_only_where_it_logs(tmp_path, monkeypatch, fused: bool) -> None:
    """A fused optimizer's first step aside."""
    guard = NoSync(active=False)
    step, look = Descent.step, _Run.count_skipped
    taken = []

    def guarded(self, *args):
        guard.active = bool(taken)
        taken.append(1)
        return step(self, *args)

    def at_interval(self):
        guard.active = False
        look(self)

    monkeypatch.setattr(Descent, "step", guarded)
    monkeypatch.setattr(_Run, "count_skipped", at_interval)
    expected = contextlib.nullcontext() if fused else pytest.raises(AssertionError, match="would wait")
    with guard, expected:
        data = Numbers(58, poison=((0, 17), (0, 40)))
        fit(tmp_path, Regression(fused=fused), data=data, epochs=1, log_interval=3, accumulate=2, clip_norm=1.0)
    assert len(taken) == (7 if fused else 2)


def test_a_checkpoint_of_a_plain_optimizer_is_continued_with_a_fused_one(tmp_path) -> None:
    whole, part = fit(tmp_path / "whole", Regression(fused=False)), Regression(fused=False)
    fit(tmp_path / "part", part, stop=StopAfter(4))
    again = fit(tmp_path / "part", Regression(fused=True))
    saved = torch.load(tmp_path / "part/ckpt/last.pth", weights_only=True)["state"]["optimizer.net"]
    assert saved["param_groups"][0]["fused"] is True
    for a, b in zip(whole.net.parameters(), again.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_tf32_is_fp32_on_a_cpu(tmp_path) -> None:
    assert same(fit(tmp_path / "tf32", precision="tf32").net, fit(tmp_path / "fp32").net)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_and_continues(tmp_path, precision: str) -> None:
    whole = fit(tmp_path / "whole", precision=precision)
    fit(tmp_path / "part", precision=precision, stop=StopAfter(4))
    assert same(fit(tmp_path / "part", precision=precision).net, whole.net)
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in whole.net.parameters())
    assert not same(whole.net, fit(tmp_path / "fp32").net)


def test_a_run_that_goes_on_in_another_precision_says_so(tmp_path, caplog) -> None:
    """``auto`` is another one on another kind of machine."""
    fit(tmp_path, precision="bf16", stop=StopAfter(4))
    with caplog.at_level("WARNING", logger="utils.run_state"):
        fit(tmp_path, precision="fp32")
    assert "until now it was trained in bf16, from here on in fp32" in caplog.text


def test_weights_that_are_not_finite_are_never_saved(tmp_path) -> None:
    """They once took the place of those that were saved before."""
    fit(tmp_path, epochs=1)
    before = (tmp_path / "ckpt/last.pth").read_bytes()

    class Poisoned(Regression):
        def end_step(self, sum_over_processes) -> None:
            with torch.no_grad():
                self.net[0].weight[0, 0] = float("nan")

        def evaluate(self, batch):  # tells nothing of it
            return {"loss": (torch.ones(()), 1)}

    with pytest.raises(Diverged, match="1 of 4 tensors are no longer finite"):
        fit(tmp_path, Poisoned(), epochs=2)
    assert (tmp_path / "ckpt/last.pth").read_bytes() == before


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"clip_norm": 0.0}, {"clip_norm": -1.0}])
def test_settings_that_train_nothing_are_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Trainer(**{"epochs": 1, "seed": 0, **setting})


def test_the_gradient_is_clipped(tmp_path) -> None:
    """With plain descent a step is rate times gradient, so its length shows the clipping."""

    class Plain(Regression):
        def optimizers(self):
            return {"net": torch.optim.SGD(self.net.parameters(), lr=1.0)}

    task, start = Plain(), Plain()
    fit(tmp_path, task, clip_norm=0.01, epochs=1, data=Numbers(8), schedule=None)
    pairs = zip(task.parameters(), start.parameters(), strict=True)
    moved = sum((a.detach() - b.detach()).square().sum() for a, b in pairs).sqrt()
    assert moved.item() == pytest.approx(0.01, rel=1e-3)
    assert lines(tmp_path, "train")[0]["grad_norm_net"] > 0.01


def test_the_logs_hold_what_people_look_at(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tmp_path)
    line = lines(tmp_path, "train")[0]
    assert {"step", "epoch", "loss", "lr_net", "grad_norm_net", "items_per_second", "skipped"} <= line.keys()
    assert [line["step"] for line in lines(tmp_path, "valid")] == [3, 6]
    assert lines(tmp_path, "first evaluation")[0]["step"] == 0
    board = EventAccumulator(str(tmp_path / "log/tensorboard")).Reload()
    assert {"train/loss", "train/lr_net", "train/grad_norm_net", "valid/loss"} <= set(board.Tags()["scalars"])
    assert board.Tags()["audio"] == ["x"] and board.Tags()["images"] == ["x"]


def test_checkpoints_within_an_epoch(tmp_path, monkeypatch) -> None:
    from utils import checkpoint

    saved = []
    original = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda path, content: (saved.append(path.name), original(path, content)))
    fit(tmp_path, epochs=1, save_interval=2)
    assert saved == ["last.pth", "best.pth", "last.pth"]


def test_the_middle_of_an_epoch_of_another_length_is_refused(tmp_path) -> None:
    fit(tmp_path, stop=StopAfter(2))
    with pytest.raises(ValueError, match="middle of an epoch of 3 steps, the recipe now gives 5"):
        fit(tmp_path, data=Numbers(40))


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path) -> None:
    fit(tmp_path, stop=StopAfter(2))
    with pytest.raises(ValueError, match="last.pth.*missing: discriminator.bias"):
        fit(tmp_path, Gan())


class Centred(Regression):
    """Sets its last bias to the mean of the first two batches, before it trains."""

    def prepare(self, batches, *, loaded):
        self.seen = [next(batches)["y"] for _ in range(2)]
        self.drawn = torch.rand(1)
        self.loaded = loaded
        if "net" not in loaded:
            self.net[3].bias.data.copy_(torch.cat(self.seen).mean(dim=0))


def test_a_task_sees_data_before_it_trains_and_is_told_what_was_loaded(tmp_path) -> None:
    whole = fit(tmp_path / "whole", Centred(lr=0.0), epochs=1)
    assert [len(y) for y in whole.seen] == [8, 8]
    assert torch.equal(whole.net[3].bias, torch.cat(whole.seen).mean(dim=0))
    fit(tmp_path / "part", Centred(), stop=StopAfter(2), epochs=1)
    part = fit(tmp_path / "part", Centred(), epochs=1)
    again = fit(tmp_path / "again", Centred(), epochs=1)
    assert same(part.net, again.net) and torch.equal(part.drawn, again.drawn)
    assert whole.loaded == again.loaded == frozenset() and part.loaded == {"net"}
    init = tmp_path / "whole/ckpt/best.pth"
    started = fit(tmp_path / "started", Centred(lr=0.0), epochs=1, init=init)
    assert started.loaded == {"net"} and same(started.net, whole.net)


def test_a_run_can_start_from_the_weights_of_another(tmp_path) -> None:
    first = fit(tmp_path / "first")
    best = tmp_path / "first/ckpt/best.pth"
    second = fit(tmp_path / "second", Regression(lr=0.0), init=best)
    saved = torch.load(best, weights_only=True)["model"]
    assert all(torch.equal(x, saved[f"net.{name}"]) for name, x in second.net.state_dict().items())
    assert lines(tmp_path / "second", "train")[0]["step"] == 1
    # what is there already continues, whatever it once started from
    third = fit(tmp_path / "first", init=tmp_path / "nowhere.pth")
    assert same(third.net, first.net)
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        fit(tmp_path / "fourth", init=tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="best.pth holds none of this recipe's networks .generator, discriminator"):
        fit(tmp_path / "fifth", Gan(), init=best)


def test_the_rate_of_a_step_is_what_the_schedule_says_for_it(tmp_path) -> None:
    fit(tmp_path, schedule=WarmUpCosine(steps=6, warm_up=0.5, end=0.1))
    rates = [line["lr_net"] for line in lines(tmp_path, "train")]
    assert rates == pytest.approx([0.01 * s for s in (1 / 3, 2 / 3, 1, 1, 0.775, 0.325)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(precision="fp8"), "got 'fp8'"),
        (dict(accumulate=0), "got 0, 1 and None"),
        (dict(best_metric="error"), "one of loss, got 'error'"),
        (dict(accumulate=3), "cannot be divided over 1 processes and 3"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, **settings)


class Large(Regression):
    """Its device holds so many items."""

    def __init__(self, holds: int) -> None:
        super().__init__()
        self.holds = holds

    def objectives(self, batch, networks):
        if len(batch["x"]) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        yield from super().objectives(batch, networks)

    def evaluate(self, batch):
        if len(batch["x"]) > self.holds + 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().evaluate(batch)


@pytest.mark.parametrize(("holds", "accumulate", "advice"), [(5, 1, 2), (3, 1, 4), (1, 2, 8)])
def test_a_batch_that_does_not_fit_says_which_would_and_how(tmp_path, holds: int, accumulate: int, advice: int) -> None:
    settings = dict(first_evaluation=0, accumulate=accumulate)
    with pytest.raises(MemoryError, match=rf"one of {8 // advice} fits.*accumulate={advice} .*batch_size") as raised:
        fit(tmp_path / "large", Large(holds), **settings)
    assert "Tried to allocate" not in str(raised.value)
    fit(tmp_path / "advised", Large(max(holds, 2)), **{**settings, "accumulate": advice})


def test_a_single_item_that_does_not_fit_is_said(tmp_path) -> None:
    with pytest.raises(MemoryError, match="nor one of a single item"):
        fit(tmp_path, Large(0), first_evaluation=0)


def test_a_validation_that_does_not_fit_names_its_key(tmp_path) -> None:
    with pytest.raises(MemoryError, match="batch_size_eval"):
        fit(tmp_path, Large(1), first_evaluation=2)


def test_a_log_that_cannot_be_written_ends_the_training_and_all_is_saved(tmp_path, monkeypatch) -> None:
    """A full disk under the log was an error without a path, raised between two saves: all steps since were lost."""
    from utils.logging import RunLog

    metrics = RunLog.metrics

    def full(self, kind: str, values: dict, *, step: int, epoch: int) -> None:
        if step >= 2:
            raise OSError("cannot write metrics.jsonl (no space); 0 bytes are free on its disk")
        metrics(self, kind, values, step=step, epoch=epoch)

    monkeypatch.setattr(RunLog, "metrics", full)
    with pytest.raises(OSError, match="cannot write metrics.jsonl"):
        fit(tmp_path)
    assert list(tmp_path.rglob("last.pth"))
    monkeypatch.setattr(RunLog, "metrics", metrics)
    fit(tmp_path)
