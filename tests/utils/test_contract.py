"""The training contract, on small tasks: however a step is divided, the same is trained."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from data.loading import EvalBatches, TrainBatches
from tests.toy import StopAfter
from utils import checkpoint, distributed, launch
from utils.errors import Diverged
from utils.schedule import Exponential, Plateau
from utils.task import Objective, Task
from utils.trainer import Trainer

CPU = torch.device("cpu")


class Sequences(Dataset):
    """x [4, 3], of which ``length`` rows count: 1 to 4, and none in item 5; every item under 1000 differs."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key) -> dict[str, torch.Tensor]:
        index = key if isinstance(key, int) else key[1]
        seed = 500 + index if isinstance(key, int) else 1000 * (key[0] + 1) + index
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
        return {"x": x, "length": torch.tensor(0 if index == 5 else 1 + index % 4), "index": torch.tensor(index)}


class Rows(Sequences):
    """The same without padding: items of unequal length."""

    def __getitem__(self, key) -> dict[str, torch.Tensor]:
        item = super().__getitem__(key)
        return {**item, "x": item["x"][: int(item["length"])]}

    @staticmethod
    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        x = nn.utils.rnn.pad_sequence([item["x"] for item in items], batch_first=True)
        return {"x": x, **{name: torch.stack([item[name] for item in items]) for name in ("length", "index")}}


class Lengths(Task):
    """A regression over rows that count; a branch is used for items from 12 on only; running means are kept."""

    leaves_unused = True

    def __init__(self, *, forget_to_sum: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.ModuleDict({"body": nn.Linear(3, 1), "branch": nn.Linear(3, 1), "never": nn.Linear(3, 1)})
        self.net.register_buffer("mean", torch.zeros(3))
        self.forget_to_sum = forget_to_sum
        self.seen: list[torch.Tensor] = []
        self.epochs: list[int] = []
        self.steps: list[int] = []

    def networks(self):
        return {"net": self.net}

    def optimizers(self):
        return {"net": torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)}

    def begin_epoch(self, epoch):
        self.epochs.append(epoch)

    def begin_step(self, step):
        self.steps.append(step)

    def objectives(self, batch, networks):
        mask = torch.arange(batch["x"].shape[1]) < batch["length"][:, None]
        x = batch["x"][mask]
        self.seen.append(x.sum(dim=0))
        squares = (self.net["body"](x) - x.sum(dim=-1, keepdim=True)).square()
        total, count = squares.sum(), mask.sum()
        if (late := batch["index"] >= 12).any():
            total = total + self.net["branch"](batch["x"][late, 0]).square().sum()
        yield Objective("net", total, {"loss": (total.detach(), count)}, count)

    def end_step(self, sum_over_processes):
        total = torch.stack(self.seen).sum(dim=0)
        self.seen.clear()
        self.net.mean.mul_(0.5).add_(total if self.forget_to_sum else sum_over_processes(total))

    def evaluate(self, batch):
        squares = (self.net["body"](batch["x"]) - 1).square()
        found = {"loss": (squares.sum(), squares.numel())}
        odd = batch["index"] % 2 == 1  # of two processes, the main one has none
        return found | ({"odd": (batch["x"][odd].sum(), int(odd.sum()))} if odd.any() else {})


class Gan(Task):
    """A discriminator's half and a generator's, not linear in either; the fake is computed once, or twice."""

    def __init__(self, *, recompute: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.generator, self.discriminator = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.recompute = recompute
        self.fakes = 0

    def networks(self):
        return {"generator": self.generator, "discriminator": self.discriminator}

    def optimizers(self):
        return {name: torch.optim.SGD(net.parameters(), lr=0.3) for name, net in self.networks().items()}

    def fake(self, x):
        self.fakes += 1
        return self.generator(x)

    def objectives(self, batch, networks):
        x = batch["x"]
        with torch.set_grad_enabled(not self.recompute):
            fake = self.fake(x)
        real, made = networks["discriminator"](x.flip(-1)), networks["discriminator"](fake.detach())
        yield Objective("discriminator", (real - 1).square().mean() + made.square().mean())
        if self.recompute:
            fake = self.fake(x)
        yield Objective("generator", (networks["discriminator"](fake) - 1).square().mean())

    def evaluate(self, batch):
        return {"loss": (self.generator(batch["x"]).square().sum(), batch["x"].numel())}


class Twice(Gan):
    """Two objectives of one optimizer."""

    def optimizers(self):
        return {"generator": torch.optim.SGD(self.generator.parameters(), lr=0.3)}

    def objectives(self, batch, networks):
        yield Objective("generator", self.generator(batch["x"]).square().mean())
        yield Objective("generator", (self.generator(batch["x"]) - 1).pow(4).mean())


def fit(folder: Path, task: Task, *, data: Dataset | None = None, valid: Dataset | None = None, **more) -> Task:
    where = {name: more.pop(name) for name in ("stop", "init") if name in more}
    trainer = Trainer(**{**dict(epochs=1, seed=1, log_interval=2), **more})
    train = TrainBatches(dataset=data or Sequences(16), batch_size=8)
    evaluation = EvalBatches(dataset=valid or Sequences(6), batch_size=4)
    where |= dict(device=CPU, log_path=folder / "log", ckpt_path=folder / "ckpt")
    task.finished = trainer.fit(task, train, evaluation, **where)
    return task


def close(a: Task, b: Task) -> None:
    theirs = b.state_dict()
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-6)


def moved(task: Task, fresh: Task) -> bool:
    pairs = zip(task.parameters(), fresh.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("make", [Gan, Twice, Lengths])
def test_accumulation_changes_nothing(tmp_path, make) -> None:
    """The generator's gradients of all but the last micro-batch were against the discriminator of the step before; of
    two objectives on one optimizer the first one's gradient was lost; and unequal micro-batches weighed the same."""
    whole = fit(tmp_path / "whole", make())
    assert moved(whole, make())
    for accumulate in (2, 8):
        close(fit(tmp_path / str(accumulate), make(), accumulate=accumulate), whole)


def test_the_generator_meets_the_discriminator_that_all_micro_batches_have_stepped(tmp_path) -> None:
    met: list[torch.Tensor] = []

    class Watched(Gan):
        def objectives(self, batch, networks):
            for objective in super().objectives(batch, networks):
                met.append(self.discriminator[0].weight.detach().clone())
                yield objective

    fit(tmp_path, Watched(), accumulate=4, data=Sequences(8))
    before, after = met[:4], met[4:]
    assert all(torch.equal(x, before[0]) for x in before) and all(torch.equal(x, after[0]) for x in after)
    assert not torch.equal(before[0], after[0])


def test_the_fake_is_computed_once_or_twice_with_the_same_result(tmp_path) -> None:
    once = fit(tmp_path / "once", Gan(), accumulate=2)
    twice = fit(tmp_path / "twice", Gan(recompute=True), accumulate=2)
    assert (once.fakes, twice.fakes) == (4, 8)
    close(once, twice)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_gan_and_two_objectives_train_in_mixed_precision(tmp_path, precision: str) -> None:
    for make in (Gan, Twice):
        task = fit(tmp_path / make.__name__, make(), accumulate=2, precision=precision, max_skipped=30, epochs=12)
        assert moved(task, make()) and all(p.isfinite().all() for p in task.parameters())


def test_micro_batches_with_other_objectives_are_a_fault(tmp_path) -> None:
    class Uneven(Twice):
        def objectives(self, batch, networks):
            for objective in super().objectives(batch, networks):
                yield objective
                if batch["index"][0]:
                    return

    with pytest.raises(RuntimeError, match="the same objectives, in the same order"):
        fit(tmp_path, Uneven(), accumulate=2)


def run_in_process(device: torch.device, folder: str) -> int:
    for make in (Lengths, Gan, Normed):
        task = fit(Path(folder) / make.__name__, make())
        torch.save(task.state_dict(), Path(folder) / f"{make.__name__}{distributed.rank()}.pth")
    if distributed.world_size() > 1:
        for make, message in (
            (lambda: Lengths(forget_to_sum=True), "1 buffers differ from process to process: net.mean"),
            (Used, "4 of 6 parameters of the optimizer net have no gradient"),
        ):
            with pytest.raises(RuntimeError, match=message):
                fit(Path(folder) / message[:8], make())
        split = Path(folder) / f"node{distributed.rank()}"
        if distributed.rank() == 0:
            fit_alone(split)
        distributed.barrier()
        with pytest.raises(ValueError, match=r"last.pth .it exists: .* must lie on a disk that all nodes share"):
            fit(split, Gan())
        with pytest.raises(ValueError, match="the third item is bad"):  # which the other process reads
            fit(Path(folder) / "bad", Gan(), valid=Bad(6))
    distributed.leave()
    return 0


def fit_alone(folder: Path) -> None:
    """A checkpoint that only one node has."""
    model = checkpoint.flatten({name: net.state_dict() for name, net in Gan().networks().items()})
    checkpoint.save(folder / "ckpt/last.pth", {"model": model})


class Used(Lengths):
    leaves_unused = False


class Normed(Gan):
    """With batch normalisation, whose running means follow from what a process has had."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(4), nn.Linear(3, 3))


class Bad(Sequences):
    def __getitem__(self, key):
        if key == 3:
            raise ValueError("the third item is bad")
        return super().__getitem__(key)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path) -> None:
    """Also where a process has fewer rows, does not use a network, or has no item of a metric; buffers agree, and what
    cannot be agreed on is refused in both."""
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
        assert launch.launch([CPU] * count, run_in_process, str(tmp_path / str(count))) == 0
    for name in ("Lengths", "Gan"):
        one = torch.load(tmp_path / f"1/{name}0.pth")
        for rank in range(2):
            for key, value in torch.load(tmp_path / f"2/{name}{rank}.pth").items():
                torch.testing.assert_close(value, one[key], rtol=1e-5, atol=1e-6)
    a, b = (torch.load(tmp_path / f"2/Normed{rank}.pth") for rank in range(2))
    assert all(torch.equal(a[key], b[key]) for key in a) and a["generator.1.running_mean"].abs().sum() > 0
    one, two = (told(tmp_path / n / "Lengths") for n in ("1", "2"))
    assert [line["kind"] for line in one] == [line["kind"] for line in two] == ["first evaluation", "train", "valid"]
    for x, y in zip(one, two, strict=True):
        del x["kind"], y["kind"]
        assert y == pytest.approx(x, rel=1e-4, abs=1e-6)
    assert "odd" in two[-1]  # the main process has no such item


def told(folder: Path) -> list[dict]:
    """The lines of the log, without times."""
    lines = map(json.loads, (folder / "log/metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in ("time", "items_per_second")} for line in lines]


def test_a_data_set_may_bring_its_own_collate(tmp_path) -> None:
    close(fit(tmp_path / "own", Lengths(), data=Rows(16)), fit(tmp_path / "padded", Lengths()))


def test_a_task_knows_the_epoch_and_the_step_also_when_it_continues(tmp_path) -> None:
    first = fit(tmp_path, Lengths(), epochs=2, stop=StopAfter(3))
    assert first.epochs == [0, 1] and first.steps == [0, 1, 2]
    second = fit(tmp_path, Lengths(), epochs=2)
    assert second.epochs == [1] and second.steps == [3]


def test_a_task_adopts_what_it_starts_from(tmp_path) -> None:
    class Other(Gan):
        def adopt(self, tensors):
            return {f"generator.{name.split('.')[-1]}": x for name, x in tensors.items() if name.startswith("codec.")}

        def optimizers(self):
            return {name: torch.optim.SGD(net.parameters(), lr=0.0) for name, net in self.networks().items()}

    weights = {"weight": torch.full((3, 3), 2.0), "bias": torch.ones(3)}
    torch.save({"codec": weights, "steps": 7}, tmp_path / "released.pt")
    task = fit(tmp_path, Other(), init=tmp_path / "released.pt")
    assert all(torch.equal(task.generator.state_dict()[n], x) for n, x in weights.items())


def test_each_optimizer_may_have_its_schedule(tmp_path) -> None:
    def schedules():
        return {"generator": Exponential(factor=0.5), "discriminator": Exponential(factor=0.1)}

    whole = fit(tmp_path / "whole", Gan(), epochs=3, schedule=schedules())
    fit(tmp_path / "part", Gan(), epochs=3, schedule=schedules(), stop=StopAfter(3))
    part = fit(tmp_path / "part", Gan(), epochs=3, schedule=schedules())
    close(whole, part)
    lines = [json.loads(line) for line in (tmp_path / "part/log/metrics.jsonl").read_text().splitlines()]
    rates = [(x["lr_generator"], x["lr_discriminator"]) for x in lines if x["kind"] == "train"]
    assert rates == [pytest.approx(pair) for pair in ((0.3, 0.3), (0.15, 0.03), (0.075, 0.003))]
    with pytest.raises(ValueError, match="a schedule is for encoder, the optimizers are generator, discriminator"):
        fit(tmp_path / "wrong", Gan(), schedule={"encoder": Exponential(factor=0.5)})


class Scripted(Gan):
    """Validation losses as told."""

    def __init__(self, *losses: float) -> None:
        super().__init__()
        self.losses = list(losses)

    def evaluate(self, batch):
        return {"loss": (torch.tensor(self.losses.pop(0) if self.losses else 9.0), 1)}


def test_training_ends_early_when_nothing_improves_and_stays_ended(tmp_path, caplog) -> None:
    settings = dict(epochs=9, early_stop=2, first_evaluation=0, valid=Sequences(1))
    task = fit(tmp_path, Scripted(5.0, 4.0, 4.5, 4.0, 1.0), **settings)
    assert task.finished and task.losses == [1.0]
    again = fit(tmp_path, Scripted(0.0), **settings)
    assert again.finished and again.losses == [0.0] and not moved(again, task)
    part = tmp_path / "part"
    fit(part, Scripted(5.0, 4.0, 4.5), **settings, stop=StopAfter(7))
    assert fit(part, Scripted(4.0, 1.0), **settings).losses == [1.0]
    fit(tmp_path / "late", Gan(), early_stop=2, schedule=Plateau(patience=2))
    assert "early_stop (2) is not above the schedule's patience (2)" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_validation_that_is_not_finite_is_a_divergence_and_never_the_best(tmp_path, value: float) -> None:
    """Minus infinity became the best, and with NaN the training went on to its end."""
    settings = dict(epochs=4, first_evaluation=0, valid=Sequences(1))
    with pytest.raises(Diverged, match="loss of the valid at step 4 is"):
        fit(tmp_path, Scripted(5.0, value, 4.0), **settings)
    saved = torch.load(tmp_path / "ckpt/last.pth", weights_only=True)["state"]["progress"]
    best = torch.load(tmp_path / "ckpt/best.pth", weights_only=True)["progress"]
    assert saved["step"] == 2 and saved["best"] == best["best"] == 5.0


def test_a_stop_during_validation_saves_and_repeats_it(tmp_path) -> None:
    class StopIn(StopAfter):
        asked = 0

        def due(self, step):
            self.asked += 1
            return self.asked > 6  # two batches of the first evaluation and an answer, two steps; so in the validation

    whole = fit(tmp_path / "whole", Gan())
    part = fit(tmp_path / "part", Gan(), stop=StopIn(0))
    assert not part.finished and not (tmp_path / "part/ckpt/best.pth").exists()
    progress = torch.load(tmp_path / "part/ckpt/last.pth", weights_only=True)["state"]["progress"]
    assert (progress["step"], progress["epoch"]) == (2, 0)
    again = fit(tmp_path / "part", Gan())
    close(again, whole)
    assert again.finished and (tmp_path / "part/ckpt/best.pth").exists()


class Broken(Sequences):
    """Items that cannot be read."""

    def __init__(self, size: int, bad: set[int]) -> None:
        super().__init__(size)
        self.bad = bad

    def __getitem__(self, key):
        if not isinstance(key, int) and key[1] in self.bad:
            raise ValueError(f"file{key[1] // 10}.wav is no sound")
        return super().__getitem__(key)


def test_a_bad_file_is_named_once_counted_and_replaced(tmp_path, caplog) -> None:
    """It ended the training."""

    class Next(Sequences):
        def __getitem__(self, key):
            return super().__getitem__({(0, 3): (0, 5), (0, 4): (0, 5)}.get(key, key))

    task = fit(tmp_path / "bad", Gan(), data=Broken(40, {3, 4}), epochs=1)
    assert caplog.text.count("file0.wav is no sound") == 1 and "2 items of this part of the epoch" in caplog.text
    close(task, fit(tmp_path / "good", Gan(), data=Next(40), epochs=1))


def test_too_many_bad_files_end_the_training_and_what_was_trained_is_saved(tmp_path) -> None:
    data = Broken(80, {32, 33, 34, 35, 36})
    with pytest.raises(ValueError, match=r"file3.wav is no sound .5 items could not be read; 4 of"):
        fit(tmp_path, Gan(), data=data)
    assert torch.load(tmp_path / "ckpt/last.pth", weights_only=True)["state"]["progress"]["step"] == 4
    mended = fit(tmp_path, Gan(), data=Sequences(80))
    close(mended, fit(tmp_path / "whole", Gan(), data=Sequences(80)))


def test_a_second_training_on_the_same_folder_is_refused(tmp_path) -> None:
    class Meanwhile(Gan):
        def begin_step(self, step):
            with pytest.raises(ValueError, match="ckpt is in use by process"):
                fit(tmp_path, Gan())

    assert fit(tmp_path, Meanwhile()).finished
    before = copy.deepcopy(fit(tmp_path, Gan()).state_dict())
    assert before
