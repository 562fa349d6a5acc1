"""Training of the unit HiFi-GAN: whose gradients are whose, layer dropout, and what is exported. On noise and tones."""

from __future__ import annotations

import copy
import json
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.HifiGAN import (
    DiscriminatorLoss,
    GeneratorLoss,
    L1SpecLoss,
    MelganFeatureLoss,
    MSEDLoss,
    MSEGLoss,
    ResBlock1,
    UnitHifiganGenerator,
)

from models.released import read_vocoder
from models.unit_hifigan.export import generator_arguments
from models.unit_hifigan.task import TokenVocoding
from models.unit_hifigan.vocoder import MISSING, UnitHifiGAN, load_vocoder
from modules.discriminators import Discriminators
from modules.losses import feature_matching_loss, lsgan_discriminator_loss, lsgan_generator_loss
from modules.mel import MelDistance
from tests.no_sync import NoSync
from tests.toy import REFERENCE, ROOT, StopAfter, call, run, stop_after_first_save, write_corpus
from utils.checkpoint import flatten
from utils.descent import Descent
from utils.progress import Averages, StopRequest
from utils.recipe import Recipe
from utils.seed import seed_everything

CPU = torch.device("cpu")
RECIPE = ROOT / "config/unit_hifigan.yaml"
LAYERS, V, FRAMES = [1, 7, 23], 10, 8
ARGUMENTS = dict(
    in_channels=16,
    out_channels=1,
    resblock_type="1",
    resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    resblock_kernel_sizes=[3, 7, 11],
    upsample_kernel_sizes=[11, 8, 8, 4, 4],
    upsample_initial_channel=32,
    upsample_factors=[5, 4, 4, 2, 2],
    vocab_size=len(LAYERS) * V + 1,
    embedding_dim=16,
    attn_dim=8,
)
TOY = {
    "gpus": "cpu",
    "num_workers": 0,
    "log_interval": 1,
    "wavlm_path": REFERENCE / "wavlm",
    "kmeans_path": REFERENCE / "kmeans",
    "num_clusters": 50,
    "embedding_dim": 16,
    "attn_dim": 8,
    "upsample_initial_channel": 32,
    "discriminator_width": 0.05,
    "discriminator_periods": "[2, 3]",
    "discriminator_scales": 1,
    "frames": FRAMES,
    "valid_frames": 60,
    "batch_size": 4,
    "batch_size_eval": 2,
    "epoch": 2,
}


@pytest.fixture(scope="module")
def discriminator() -> Discriminators:
    torch.manual_seed(0)
    return Discriminators(width=0.05, periods=[2, 3], scales=1)


@pytest.fixture(scope="module")
def period_discriminators() -> Discriminators:
    """Without the spectral norm, which takes a step of its own in each pass."""
    torch.manual_seed(0)
    return Discriminators(width=0.05, periods=[2, 3], scales=0)


def make(discriminator: torch.nn.Module | None, **more: object) -> TokenVocoding:
    """A task with weights of its own, the same each time."""
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=0.002, betas=(0.8, 0.99), fused=True)
    settings = dict(
        generator=UnitHifiganGenerator(**ARGUMENTS),
        discriminator=copy.deepcopy(discriminator),
        layers=LAYERS,
        vocab_size=V,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        mel=MelDistance(),
    )
    return TokenVocoding(**{**settings, **more})


def make_batch(items: int = 3, *, frames: int = FRAMES, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tones of changing loudness and a little noise, with tokens that say nothing of them."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(items * frames * 320).view(items, -1) / 16000
    pitch = 120 + 300 * torch.rand(items, 1, generator=generator)
    wav = 0.2 * torch.sin(2 * torch.pi * pitch * time) * (1 + torch.sin(2 * torch.pi * 5 * time))
    wav = wav + 0.01 * torch.randn(wav.shape, generator=generator)
    return {"tokens": torch.randint(0, V, (items, frames, len(LAYERS)), generator=generator), "wav": wav}


def gradients(network: torch.nn.Module) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


# -- the losses --------------------------------------------------------------------------------------------------------


def test_the_losses_are_speechbrains() -> None:
    random = torch.Generator().manual_seed(0)
    real, fake = ([torch.randn(2, n, generator=random) for n in (5, 40, 7)] for _ in range(2))
    layers = [[torch.randn(2, c, n, generator=random) for c, n in ((4, 50), (8, 9), (1, 3))] for _ in range(6)]
    wav, made = make_batch(2)["wav"], make_batch(2, seed=1)["wav"]
    theirs = GeneratorLoss(
        mseg_loss=MSEGLoss(),
        mseg_loss_weight=1,
        feat_match_loss=MelganFeatureLoss(),
        feat_match_loss_weight=10,
        l1_spec_loss=L1SpecLoss(sample_rate=16000, hop_length=256, win_length=1024, n_mel_channels=80, n_fft=1024),
        l1_spec_loss_weight=45,
    )(None, made[:, None], wav[:, None], fake, layers[:3], layers[3:])
    ours = (
        45 * MelDistance()(made, wav) + lsgan_generator_loss(fake) + 10 * feature_matching_loss(layers[3:], layers[:3])
    )
    torch.testing.assert_close(ours, theirs["G_loss"], rtol=1e-5, atol=1e-5)
    theirs = DiscriminatorLoss(MSEDLoss())(fake, real)["D_loss"]
    torch.testing.assert_close(lsgan_discriminator_loss(real, fake), theirs)


def test_the_losses_are_float32_and_reach_their_weights(discriminator) -> None:
    """The generator's is the weighted sum of what it logs, also where the networks compute in bfloat16."""
    task = make(discriminator, mel_weight=2.0, adversarial_weight=3.0, feature_weight=5.0).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = task.objectives(make_batch(), task.networks())
    assert first.loss.dtype == second.loss.dtype == torch.float32
    parts = second.metrics
    torch.testing.assert_close(
        second.loss.detach(), 2 * parts["mel"] + 3 * parts["adversarial"] + 5 * parts["features"]
    )
    (first.loss + second.loss).backward()
    for p in task.parameters():
        assert p.grad.dtype == torch.float32 and p.grad.isfinite().all()


# -- objectives and gradients ------------------------------------------------------------------------------------------


def test_the_discriminators_step_first_and_the_fake_is_computed_once(discriminator) -> None:
    task = make(discriminator).train()
    calls = []
    task.generator.register_forward_hook(lambda *_: calls.append(1))
    objectives = task.objectives(make_batch(), task.networks())
    first = next(objectives)
    assert first.optimizer == "discriminator"
    first.loss.backward()
    assert all(g is None for g in gradients(task.generator))  # they learn on the detached fake
    before = gradients(task.discriminator)
    assert all(g is not None and g.abs().sum() > 0 for g in before)
    second = next(objectives)
    assert second.optimizer == "generator"
    second.loss.backward()
    assert all(g is not None and g.isfinite().all() for g in gradients(task.generator))
    for a, b in zip(gradients(task.discriminator), before, strict=True):
        assert torch.equal(a, b)
    assert all(p.requires_grad for p in task.parameters())
    assert next(objectives, None) is None and len(calls) == 1


def test_the_generator_meets_the_discriminators_that_have_stepped(period_discriminators) -> None:
    """Between the objectives their scores become 0, which is 1 away from what the generator wants of each."""
    task = make(period_discriminators, mel_weight=0.0, feature_weight=0.0).train()
    objectives = task.objectives(make_batch(), task.networks())
    next(objectives)
    with torch.no_grad():
        for part in task.discriminator.mpd.discriminators:
            part.conv_post.conv.parametrizations.weight.original0.zero_()
            part.conv_post.conv.bias.zero_()
    assert float(next(objectives).loss.detach()) == pytest.approx(2.0)


def test_with_accumulation_the_gradients_are_those_of_each_objective_alone(period_discriminators) -> None:
    task = make(period_discriminators, layer_dropout=False).train()
    optimizers = {name: torch.optim.SGD(net.parameters(), lr=0.0) for name, net in task.networks().items()}
    parts = [make_batch(2, seed=1), make_batch(2, seed=2)]
    wanted: dict[str, list[torch.Tensor]] = {}
    for number, name in enumerate(("discriminator", "generator")):
        parameters = list(task.networks()[name].parameters())
        each = [torch.autograd.grad(list(task.objectives(b, task.networks()))[number].loss, parameters) for b in parts]
        wanted[name] = [(a + b) / 2 for a, b in zip(*each, strict=True)]
    for _ in range(2):  # and nothing is left of a step in the next one
        Descent(optimizers, CPU, accumulate=2).step(task, task.networks(), iter(parts), Averages())
        for name, network in task.networks().items():
            for got, want in zip(gradients(network), wanted[name], strict=True):
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_without_discriminators_the_mel_loss_trains_alone() -> None:
    task = make(None).train()
    assert list(task.networks()) == list(task.optimizers()) == ["generator"]
    (objective,) = task.objectives(make_batch(), task.networks())
    torch.testing.assert_close(objective.loss.detach(), 45 * objective.metrics["mel"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_batch_is_learnt(period_discriminators, precision: str) -> None:
    """The mel distance falls to a quarter, in some tens of steps."""
    task = make(period_discriminators).train()
    descent = Descent(task.optimizers(), CPU, precision=precision)
    batch, distances = make_batch(1), []
    while len(distances) < 100 and (len(distances) < 2 or distances[-1] > 0.25 * distances[0]):
        averages = Averages()
        descent.step(task, task.networks(), iter([batch]), averages)
        distances.append(averages.pop()["mel"])
    assert distances[-1] <= 0.25 * distances[0]


def test_the_host_does_not_wait_for_the_device(discriminator) -> None:
    task = make(discriminator).train()
    batch = make_batch()
    with NoSync():
        for objective in task.objectives(batch, task.networks()):
            objective.loss.backward()


# -- layer dropout -----------------------------------------------------------------------------------------------------


def test_layer_dropout_takes_every_number_of_layers_but_all_from_whole_items() -> None:
    task = make(None).train()
    tokens = torch.randint(0, V, (6000, 4, 3))
    ids = task.ids(tokens)
    missing = ids == 0
    assert torch.equal(missing, missing[:, :1].expand_as(missing))  # of the whole item
    assert torch.equal(ids[~missing], (tokens + 1 + V * torch.arange(3))[~missing])
    count = missing[:, 0].sum(dim=1)
    shares = torch.bincount(count, minlength=4) / len(count)
    torch.testing.assert_close(shares, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]), rtol=0, atol=0.03)
    torch.testing.assert_close(missing[:, 0].float().mean(dim=0), torch.full((3,), 1 / 3), rtol=0, atol=0.03)


def test_layer_dropout_follows_torchs_seed() -> None:
    task = make(None).train()
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(task.ids(torch.zeros(50, 1, 3, dtype=torch.int64)))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_validation_keeps_all_layers() -> None:
    tokens = torch.randint(0, V, (500, 1, 3))
    assert (make(None).eval().ids(tokens) > 0).all()
    assert (make(None, layer_dropout=False).train().ids(tokens) > 0).all()


# -- validation --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_validation_sums_over_items(discriminator) -> None:
    task = make(discriminator).eval()
    batch = make_batch(3, frames=60)
    together = task.evaluate(batch)
    alone = [task.evaluate({name: x[i : i + 1] for name, x in batch.items()}) for i in range(3)]
    assert together.keys() == {"mel", "stoi"}
    for name, (total, count) in together.items():
        assert count == 3
        assert float(total) == pytest.approx(sum(float(one[name][0]) for one in alone), rel=1e-4)


@torch.no_grad()
def test_validation_is_in_float32_whatever_training_is_in() -> None:
    """Rounded to bfloat16, the waveform would have noise that the exported vocoder's has not."""
    task, batch = make(None).eval(), make_batch(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = task.evaluate(batch)["mel"], task.media(batch).audio["resynthesised"]
    outside = task.evaluate(batch)["mel"], task.media(batch).audio["resynthesised"]
    assert torch.equal(inside[0][0], outside[0][0]) and torch.equal(inside[1], outside[1])


@torch.no_grad()
def test_stoi_is_of_items_with_speech(discriminator) -> None:
    task = make(discriminator).eval()
    batch = make_batch(3, frames=60)
    batch["wav"][1, 1000:] = 0
    assert task.evaluate(batch)["stoi"][1] == 2 and task.evaluate(batch)["mel"][1] == 3
    assert "stoi" not in task.evaluate(make_batch(2, frames=10))  # too short
    task.generator.forward = lambda ids: (batch["wav"][:1, None], None)
    total, count = task.evaluate({name: x[:1] for name, x in batch.items()})["stoi"]
    assert float(total) / count == pytest.approx(1.0, abs=1e-3)  # of the signal itself


def test_media_are_what_was_and_what_is_made(discriminator) -> None:
    batch = make_batch(2, frames=20)
    media = make(discriminator).eval().media(batch)
    assert torch.equal(media.audio["real"], batch["wav"][0])
    assert media.audio["resynthesised"].shape == (6400,) and not media.audio["resynthesised"].requires_grad
    assert media.images.keys() == media.audio.keys() and media.sample_rate == 16000


# -- export ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("export_format", ["released", "safetensors"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_exported_sounds_as_what_was_trained(tmp_path, discriminator, export_format: str, dtype: str) -> None:
    task = make(discriminator, export_format=export_format, export_dtype=dtype)
    before = copy.deepcopy(task.generator.state_dict())
    files = task.export(tmp_path)
    names = {"released": ["generator.ckpt", "hyperparams.yaml"], "safetensors": ["vocoder.json", "vocoder.safetensors"]}
    assert sorted(file.name for file in files) == sorted(p.name for p in tmp_path.iterdir()) == names[export_format]
    state = task.generator.state_dict()
    assert state.keys() == before.keys() and all(torch.equal(state[n], before[n]) for n in state)  # still trains on

    kept = UnitHifiganGenerator(**ARGUMENTS)
    kept.load_state_dict({name: value.to(getattr(torch, dtype)).float() for name, value in before.items()})
    settings = dict(vocab_size=V, trained_layers=LAYERS, layers=LAYERS)
    ours, loaded = UnitHifiGAN(generator=kept, **settings), load_vocoder(tmp_path, **settings)
    tokens = make_batch(2, frames=30)["tokens"]
    tokens[1, :, 1] = MISSING
    assert torch.equal(loaded.decode(tokens), ours.decode(tokens))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_the_vocoder_and_the_task_agree_on_rows(discriminator) -> None:
    task = make(discriminator).eval()
    generator = UnitHifiganGenerator(**ARGUMENTS)
    generator.load_state_dict(task.generator.state_dict())
    vocoder = UnitHifiGAN(generator=generator, vocab_size=V, trained_layers=LAYERS, layers=LAYERS)
    batch = make_batch(2)
    with torch.no_grad():
        wav, _ = task.generator(task.ids(batch["tokens"]))
    torch.testing.assert_close(vocoder.decode(batch["tokens"]), wav[:, 0], rtol=0, atol=1e-6)


def test_speechbrain_reads_the_released_layout(tmp_path, discriminator) -> None:
    task = make(discriminator)
    task.export(tmp_path)
    text = (tmp_path / "hyperparams.yaml").read_text()
    assert text.startswith("# Unit HiFi-GAN: tokens of the layers [1, 7, 23], 10 clusters each")
    generator = load_hyperpyyaml(text)["generator"]
    generator.load_state_dict(torch.load(tmp_path / "generator.ckpt", weights_only=True))
    ids = torch.randint(0, 31, (1, 8, 3))
    assert torch.equal(generator(ids)[0], task.generator(ids)[0])


@pytest.mark.parametrize(
    "more", [{}, dict(resblock_type="2", resblock_dilation_sizes=[[1, 3]] * 2, resblock_kernel_sizes=[3, 5])]
)
def test_the_arguments_are_read_from_the_layers(more: dict) -> None:
    given = {**ARGUMENTS, **more, "conv_post_bias": not more, "inference_padding": 3}
    found = generator_arguments(UnitHifiganGenerator(**given))
    assert {name: found[name] for name in given} == given
    reference, _ = read_vocoder(REFERENCE / "hifigan")
    read = generator_arguments(UnitHifiganGenerator(**reference))
    assert read == {name: reference[name] for name in read}


def test_a_folder_with_the_other_format_is_refused(tmp_path, discriminator) -> None:
    make(discriminator, export_format="safetensors").export(tmp_path)
    with pytest.raises(ValueError, match="holds a vocoder in another format, vocoder.json"):
        make(discriminator).export(tmp_path)


# -- the recipe --------------------------------------------------------------------------------------------------------


def test_the_recipe_is_the_published_one() -> None:
    built = Recipe(RECIPE).build("task", "trainer")
    task, trainer = built["task"], built["trainer"]
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in task.networks().items()}
    assert sizes == {"generator": 22_745_858, "discriminator": 70_724_591}
    assert len(task.generator.state_dict()) == 295 and task.hop_length == 320
    assert task.generator.unit_embedding.num_embeddings == 6001
    assert all(isinstance(block, ResBlock1) for block in task.generator.resblocks)
    assert (task.mel_weight, task.adversarial_weight, task.feature_weight) == (45, 1, 10) and task.layer_dropout
    for optimizer in task.optimizers().values():
        (group,) = optimizer.param_groups
        assert isinstance(optimizer, torch.optim.AdamW) and (group["lr"], group["betas"]) == (2e-4, (0.8, 0.99))
    assert trainer.epochs == 150 and trainer.best_metric == "mel"
    trainer.schedule.end_epoch(0.0)
    assert trainer.schedule.scale(0) == 0.9999


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """The recipe's paths, the tokens made by the program that makes them."""
    folder = tmp_path_factory.mktemp("data")
    corpus = write_corpus(folder, seconds=1.3)
    paths = {"train_path": corpus["tr_data_scp_path"], "valid_path": corpus["cv_clean_path"]}
    paths |= {"train_tokens": folder / "train_tokens", "valid_tokens": folder / "valid_tokens"}
    for part in ("train", "valid"):
        done = call(
            "inference.py", "--tokenize", paths[f"{part}_path"], "-config", RECIPE,
            "--output", paths[f"{part}_tokens"], "-gpus", "cpu", "-proc", "1", *flags(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return paths


def overrides(**more: object) -> list[str]:
    return [f"{key}={value}" for key, value in {**TOY, **more}.items()]


def flags(**more: object) -> list[str]:
    return [part for text in overrides(**more) for part in ("--override", text)]


def command(folder: Path, **more: object) -> list[object]:
    where = ["--config_path", RECIPE, "--log", folder / "log", "--ckpt_path", folder / "ckpt"]
    return ["train.py", *where, *flags(**more)]


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / f"ckpt/{name}.pth", weights_only=True)["model"]


def test_the_real_recipe_trains_at_toy_size_and_exports_a_vocoder(tmp_path, data) -> None:
    done = call(*command(tmp_path, **data, precision="bf16", accumulate=2), "--export", tmp_path / "vocoder")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log/metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["kind"] == "train"]
    assert len(train) == 4
    assert {"loss", "loss_discriminator", "mel", "adversarial", "features", "grad_norm_generator"} <= train[0].keys()
    assert all({"mel", "stoi"} <= line.keys() for line in lines if line["kind"] == "valid")
    best = {n.removeprefix("generator."): x for n, x in weights(tmp_path, "best").items() if n.startswith("generator.")}
    _, exported = read_vocoder(tmp_path / "vocoder")
    assert best.keys() == exported.keys() and all(torch.equal(best[name], exported[name]) for name in best)
    layers = [1, 3, 7, 12, 18, 23]
    vocoder = load_vocoder(tmp_path / "vocoder", vocab_size=50, trained_layers=layers, layers=layers)
    assert vocoder.decode(torch.zeros(1, 10, 6, dtype=torch.int64)).shape == (1, 3200)


def fit(folder: Path, data: dict[str, Path], *, stop: StopRequest | None = None, **more: object) -> bool:
    torch.manual_seed(3)
    built = Recipe(RECIPE, overrides=overrides(**data, **more)).build("task", "train_data", "valid_data", "trainer")
    return built["trainer"].fit(
        built["task"], built["train_data"], built["valid_data"],
        device=CPU, log_path=folder / "log", ckpt_path=folder / "ckpt", stop=stop,
    )  # fmt: skip


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, data) -> None:
    """Bit for bit: both networks, the scale discriminator's spectral norm, and both optimizers."""
    assert fit(tmp_path / "whole", data)
    for stop_after in (1, 3):  # each in the middle of an epoch of two steps
        assert not fit(tmp_path / str(stop_after), data, stop=StopAfter(stop_after))
        assert fit(tmp_path / str(stop_after), data)
        states = [torch.load(tmp_path / n / "ckpt/last.pth", weights_only=True) for n in ("whole", str(stop_after))]
        a, b = (state["model"] for state in states)
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
        assert any(name.endswith("weight_u") for name in a)
        for name in ("optimizer.generator", "optimizer.discriminator"):
            a, b = (state["state"][name]["state"] for state in states)
            assert all(torch.equal(a[i][m], b[i][m]) for i in a for m in ("exp_avg", "exp_avg_sq", "step"))


def test_killed_and_continued_it_ends_with_the_same_weights(tmp_path, data) -> None:
    """From the command line, by a signal that nothing can catch."""
    assert call(*command(tmp_path / "whole", **data)).returncode == 0
    arguments = command(tmp_path / "killed", **data, save_interval=1)
    stopped = stop_after_first_save(*arguments, checkpoint=tmp_path / "killed/ckpt/last.pth")
    assert stopped.returncode == -signal.SIGKILL
    done = call(*arguments)
    assert done.returncode == 0 and "continuing from" in done.stderr, done.stderr
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_two_processes_equal_one(tmp_path, data) -> None:
    """To a hundredth of the way that the weights have gone.

    With all layers, since each process drops others; and with steps in proportion to the gradient, where Adam's equal
    steps would make much of the last bits of a small one.
    """
    settings = dict(**data, layer_dropout=False, epoch=1, lr=0.0003, optimizer="{eps: 1.0}")
    start = initial_weights(data)
    one = call(*command(tmp_path / "one", **settings))
    assert one.returncode == 0, one.stderr
    two = run(*command(tmp_path / "two", **{**settings, "gpus": "[cpu, cpu]"}))
    assert two.returncode == 0, two.stderr
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert a.keys() == b.keys() == start.keys()
    for network in ("generator", "discriminator"):  # less the spectral norm's vectors, which go far by themselves
        names = [name for name in a if name.startswith(network) and not name.endswith(("weight_u", "weight_v"))]
        moved = max(float((a[name] - start[name]).abs().max()) for name in names)
        apart = max(float((a[name] - b[name]).abs().max()) for name in names)
        assert apart < 0.01 * moved, (network, apart, moved)


def initial_weights(data: dict[str, Path]) -> dict[str, torch.Tensor]:
    """Those that train.py makes."""
    recipe = Recipe(RECIPE, overrides=overrides(**data))
    seed_everything(recipe.build("seed")["seed"])
    networks = recipe.build("task", "train_data", "valid_data", "trainer")["task"].networks()
    return flatten({name: network.state_dict() for name, network in networks.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_clusters=40), "vocab_size 50 there, 40 in the recipe"),
        (dict(ssl_layers="[1, 3]"), "codebooks ['layer_1', 'layer_3', 'layer_7', 'layer_12', 'layer_18', 'layer_23']"),
        (dict(train_tokens="/nowhere/tokens"), "no tokens in /nowhere/tokens: there is no tokens.json; make them once"),
        (dict(frames=5), "the generator needs 6 frames or more, got 5"),
        (dict(valid_frames=600), "has 600 frames"),
        (dict(discriminator_width=2), "at most 1, got 2"),
        (dict(discriminator_scales=7), "and 7 scales"),
        (dict(export_format="onnx"), "export_format must be one of released, safetensors, got 'onnx'"),
        (dict(export_dtype="int8"), "export_dtype must be one of float32, float16, got 'int8'"),
        (dict(mel_sizes="[]"), "one size of FFT or more, got none"),
    ],
)
def test_mistakes_are_one_line_that_names_them(tmp_path, data, change: dict, message: str) -> None:
    done = call(*command(tmp_path, **{**data, **change}))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and message in last, last


def test_what_does_not_fit_is_refused(discriminator) -> None:
    with pytest.raises(ValueError, match="3 layers of 11 clusters, .* need 34 embeddings; the generator's .* is 31"):
        make(discriminator, vocab_size=11)
    with pytest.raises(ValueError, match="a discriminator needs a discriminator_optimizer"):
        make(discriminator, discriminator_optimizer=None)
    with pytest.raises(ValueError, match="built without duration_predictor"):
        make(discriminator, generator=UnitHifiganGenerator(**ARGUMENTS, duration_predictor=True))
    task, batch = make(discriminator), make_batch()
    for wrong in ({"wav": batch["wav"][:, :-1]}, {"tokens": batch["tokens"][..., :2]}):
        with pytest.raises(ValueError, match="makes 320 samples of each frame of 3 tokens; got"):
            next(task.objectives({**batch, **wrong}, task.networks()))


def test_paths_that_are_not_set_are_all_named(tmp_path) -> None:
    done = call("train.py", "--config_path", RECIPE, "--log", tmp_path, "--ckpt_path", tmp_path)
    assert done.returncode == 2
    assert all(key in done.stderr for key in ("train_path", "train_tokens", "valid_path", "valid_tokens"))
    assert "wavlm_path" not in done.stderr  # no tokenizer in training
