"""How the codec trains: losses as the public code has them, and what a step may and may not change."""

from __future__ import annotations

import copy
import functools

import pytest
import torch

from models.speechtokenizer.files import released_state
from models.speechtokenizer.losses import Distillation, Reconstruction
from models.speechtokenizer.network import CodecNetwork
from models.speechtokenizer.task import SpeechCoding
from models.speechtokenizer.teacher import Teacher
from modules.discriminators import Discriminators
from tests.codec import REFERENCE, architecture, expected, train_batch, weights
from utils.descent import Descent
from utils.progress import Averages

CPU = torch.device("cpu")
ADAM = functools.partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
SMALL = {"width": 1 / 32, "periods": [2], "scales": 0, "stft_sizes": [256], "stft_filters": 4}


@functools.cache
def teacher() -> Teacher:
    return Teacher(REFERENCE / "teacher")


def make(*, released: bool = True, with_discriminator: bool = False, dead_code_share: float = 0.0, **more: object):
    more.setdefault("teacher", teacher())  # before the seed: the first time it is made, it draws
    torch.manual_seed(0)
    codec = CodecNetwork(architecture=architecture("elu"), dead_code_share=dead_code_share)
    task = SpeechCoding(
        codec=codec,
        reconstruction=more.pop("reconstruction", Reconstruction()),
        distillation=more.pop("distillation", Distillation()),
        teacher=more.pop("teacher"),
        discriminator=Discriminators(**SMALL) if with_discriminator else None,
        codec_optimizer=ADAM,
        discriminator_optimizer=ADAM,
        steps=more.pop("steps", 100),
        **more,
    )
    if released:
        adopted = task.adopt(weights("elu"))
        codec.load_state_dict({name.removeprefix("codec."): x for name, x in adopted.items()})
    return task


def batch(rows: slice = slice(None)) -> dict[str, torch.Tensor]:
    wav = train_batch()
    return {
        name: x[rows] for name, x in {"wav": wav, "length": torch.full((8,), 16000), "index": torch.arange(8)}.items()
    }


def step(task: SpeechCoding, *batches: dict[str, torch.Tensor], number: int = 0) -> dict[str, float]:
    descent, averages = Descent(task.optimizers(), CPU, accumulate=len(batches)), Averages()
    task.train()
    task.begin_step(number)
    descent.step(task, task.networks(), iter(batches), averages)
    task.end_step(lambda values: values)
    return averages.pop()


def state(task: SpeechCoding) -> dict[str, torch.Tensor]:
    return copy.deepcopy(task.codec.state_dict())


def test_losses_and_a_step_are_as_the_public_code_has_them() -> None:
    task = make(
        commitment_weight=50, distill_weight=40,
        reconstruction=Reconstruction(l1_weight=5, mel_weights=[1, 1, 1, 1]),
    )  # fmt: skip
    before = released_state(state(task))
    found = step(task, batch())
    want = {name: float(expected()[f"losses/{name}"]) for name in ("time", "commitment", "distill", "cosine")}
    want |= {f"mel_{k}": float(expected()[f"losses/mel_{k}"]) for k in range(4)}
    assert found["l1"] == pytest.approx(want["time"], rel=5e-4)
    assert found["mel"] == pytest.approx(want["mel_0"], rel=5e-4)
    assert found["commitment"] == pytest.approx(want["commitment"], rel=5e-4)
    assert found["distill"] == pytest.approx(want["distill"], rel=2e-4)
    assert found["cosine"] == pytest.approx(want["cosine"], abs=3e-4)
    mels = sum(want[f"mel_{k}"] for k in range(4))
    total = 5 * want["time"] + mels + 50 * want["commitment"] + 40 * want["distill"]
    assert found["loss"] == pytest.approx(total, rel=5e-4)
    after = released_state(state(task))
    for key in [key for key in expected() if key.startswith("step_mixed/")]:
        name = key.split("/")[1]
        same = (after[name] - before[name]).sign() == (expected()[key] - before[name]).sign()
        assert same.float().mean() > 0.985, name


@pytest.mark.parametrize(
    ("wanted", "more"),
    [
        ("distill_layer_2", {"teacher": Teacher(REFERENCE / "teacher", layer=2)}),
        ("t_axis", {"distillation": Distillation(axis="t_axis")}),
    ],
)
def test_other_ways_to_distil(wanted: str, more: dict) -> None:
    found = make(**more).evaluate(batch())
    total, count = found["distill"]
    assert float(total) / count == pytest.approx(float(expected()[f"losses/{wanted}"]), rel=5e-4)


def test_ten_passes_leave_the_references_codebooks() -> None:
    task = make(teacher=None, distill_weight=0.0)
    rows = {**batch(slice(2)), "wav": batch()["wav"][:1].expand(2, -1)}
    task.train()
    for number in range(10):
        task.begin_step(number)
        with torch.no_grad():
            list(task.objectives(rows, task.networks()))
        task.end_step(lambda values: values)
    for name in ("embed", "cluster_size", "embed_avg"):
        found, want = getattr(task.codec.quantizer, name), expected()[f"ema/{name}"]
        assert ((found - want).abs() / (want.abs() + 0.05 * want.abs().max())).max() < 2e-3, name


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.slow
def test_however_a_step_is_divided_the_same_is_learned(recompute: bool) -> None:
    whole, parts = (make(with_discriminator=True, dead_code_share=0.5, recompute=r) for r in (False, recompute))
    of_whole = step(whole, batch())
    of_parts = step(parts, batch(slice(4)), batch(slice(4, 8)))
    losses = ("loss", "l1", "mel", "commitment", "distill", "adversarial", "features", "loss_discriminator")
    for name in losses:
        assert of_parts[name] == pytest.approx(of_whole[name], rel=1e-4), name
    for name, value in parts.codec.quantizer.state_dict().items():
        want = whole.codec.quantizer.state_dict()[
            name
        ]  # sums of up to a hundred vectors: fp32's steps are of their size
        torch.testing.assert_close(value, want, rtol=1e-4, atol=3e-6 * float(want.abs().max()))


def test_before_their_start_the_discriminators_take_no_part() -> None:
    task = make(with_discriminator=True, discriminator_start=3)
    before = copy.deepcopy(task.discriminator.state_dict())
    found = step(task, batch(slice(2)), number=2)
    assert not {"adversarial", "features", "loss_discriminator"} & found.keys()
    assert all(torch.equal(x, before[name]) for name, x in task.discriminator.state_dict().items())
    found = step(task, batch(slice(2)), number=3)
    # the first scores are near 0, so (1 - D)^2 is near 1 in each of two
    assert 1.4 < found["adversarial"] < 2.6 and 1.4 < found["loss_discriminator"] < 2.6 and found["features"] > 0
    assert not all(torch.equal(x, before[name]) for name, x in task.discriminator.state_dict().items())


def test_hinge_is_the_other_adversarial_loss() -> None:
    found = step(make(with_discriminator=True, adversarial="hinge"), batch(slice(2)))
    # of scores near 0: 1, and 1 + 1; the mean over the discriminators and not the sum
    assert 0.7 < found["adversarial"] < 1.3 and 1.5 < found["loss_discriminator"] < 2.5
    with pytest.raises(ValueError, match="adversarial must be one of lsgan, hinge"):
        make(adversarial="wgan")


def test_the_decoder_alone_leaves_all_else_bit_for_bit() -> None:
    task = make(with_discriminator=True, decoder_only=True)
    before = state(task)
    found = step(task, batch(slice(2)))
    moved = {name for name, x in state(task).items() if not torch.equal(x, before[name])}
    assert moved and all(name.startswith("decoder.") for name in moved)
    assert task.teacher is None and not {"distill", "commitment", "usage"} & found.keys()
    fresh = make(released=False, decoder_only=True)
    with pytest.raises(ValueError, match="decoder_only .* --init"):
        fresh.prepare(iter([batch()]), loaded=frozenset())


@pytest.mark.parametrize("what", ["wav", "features"])
def test_a_batch_that_is_not_finite_touches_nothing(what: str) -> None:
    """Neither the weights nor the codebooks: the latents may be sound where the teacher's features are not."""
    task, rows = make(teacher=None), batch(slice(2))
    rows |= {"features": torch.randn(2, 50, 12), "frames": torch.tensor([50, 50])}
    rows[what] = rows[what].clone()
    rows[what][1, 3] = float("nan")
    before = state(task)
    step(task, rows)
    assert all(torch.equal(x, before[name]) for name, x in state(task).items())


def test_codebooks_start_on_what_the_encoder_makes_of_speech() -> None:
    task = make(released=False)
    task.prepare(iter([batch(), batch()]), loaded=frozenset())
    quantizer = task.codec.quantizer
    assert (quantizer.inited == 1).all()
    torch.testing.assert_close(quantizer.embed_avg, quantizer.embed * quantizer.cluster_size[..., None])
    latents = task.codec.encode(batch()["wav"]).detach()
    left = latents - quantizer.dequantise(quantizer.encode(latents))
    assert left.var() < 0.05 * latents.var()
    loaded = make()
    before = state(loaded)
    loaded.prepare(iter([]), loaded=frozenset({"codec"}))
    assert all(torch.equal(x, before[name]) for name, x in state(loaded).items())


def test_from_nothing_layers_begin_at_unit_variance_and_the_output_as_loud_as_the_speech() -> None:
    task = make(released=False, unit_start=True)
    wav = batch()["wav"]
    task.prepare(iter([batch(), batch()]), loaded=frozenset())
    latents = task.codec.encode(wav)
    torch.testing.assert_close(latents.std((0, 1)), torch.ones(16), rtol=1e-2, atol=1e-2)
    assert float(task.codec.decode(latents).detach().std()) == pytest.approx(float(wav.std()), rel=1e-2)
    loaded = make(unit_start=True)
    before = state(loaded)
    loaded.prepare(iter([batch()]), loaded=frozenset({"codec"}))
    assert all(torch.equal(x, before[name]) for name, x in state(loaded).items())


def test_silence_is_no_scale(tmp_path) -> None:
    task = make(released=False, unit_start=True)
    silent = {**batch(), "wav": torch.zeros(8, 16000)}
    task.prepare(iter([silent, batch()]), loaded=frozenset())
    assert all(x.isfinite().all() for x in state(task).values())


def test_validation_hears_each_file_as_it_is_alone() -> None:
    task = make().eval()
    rows = batch(slice(3))
    lengths = [16000, 9999, 200]
    noisy = {**rows, "wav": rows["wav"].clone(), "length": torch.tensor(lengths)}
    for row, length in enumerate(lengths):
        noisy["wav"][row, length:] = torch.randn(16000 - length)
    together = task.evaluate(noisy)
    alone = [
        task.evaluate({n: x[i : i + 1, :length] if n == "wav" else x[i : i + 1] for n, x in noisy.items()})
        for i, length in enumerate(lengths)
    ]
    assert together.keys() >= {"l1", "mel", "commitment", "distill", "cosine"}
    for name, (total, count) in together.items():
        assert count == 3
        assert float(total) == pytest.approx(sum(float(one[name][0]) for one in alone), rel=1e-5), name


def test_silence_has_finite_gradients() -> None:
    task = make(with_discriminator=True)
    silent = {**batch(slice(2)), "wav": torch.zeros(2, 16000)}
    assert step(task, silent)["grad_norm_codec"] < float("inf")
    assert all(x.isfinite().all() for x in state(task).values())


def test_what_fails_is_told_late_and_by_name() -> None:
    task = make(steps=10)
    poor = {"usage_rvq_1": 80.0, "usage_rvq_3": 5.0, "usage_rvq_8": 9.0, "distill": 0.65}
    assert task.warnings(poor) == []
    task.begin_step(6)
    use, distill = task.warnings(poor)
    assert "rvq_3, rvq_8" in use and "dead_code_share" in use and "distill is still above 0.6" in distill
    assert task.warnings({**poor, "usage_rvq_3": 50.0, "usage_rvq_8": 50.0, "distill": 0.5}) == []


def test_usage_is_told_of_each_codebook_once_it_is_known() -> None:
    task = make()
    assert torch.tensor(step(task, batch(slice(2)))["usage"]).isnan()
    found = step(task, batch(slice(2)), number=1)
    assert 0 < found["usage_rvq_1"] <= 100 and 1 <= found["perplexity_rvq_8"] <= 32
    assert found["usage"] == pytest.approx(sum(found[f"usage_rvq_{k}"] for k in range(1, 9)) / 8)
    assert {"usage_rvq_1", "perplexity_rvq_8"} <= task.evaluate(batch(slice(2))).keys()


@pytest.mark.slow
def test_init_takes_a_public_trainers_package_and_its_discriminators_if_asked() -> None:
    task = make(with_discriminator=True, init_discriminator=True)
    public = {f"generator.{name}": x for name, x in weights("elu").items()}
    own = task.discriminator.state_dict()
    for name, x in own.items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        if name.startswith("stft."):
            layer, last = name.removeprefix("stft.").rsplit(".", 1)
            public[f"discriminators.mstftd.discriminators.{layer}.conv.{last}"] = x
        else:
            kind, rest = name.split(".", 1)
            public[f"discriminators.{kind}.{rest.replace('.conv.', '.')}"] = x
    public["discriminators.mstftd.discriminators.0.spec_transform.window"] = torch.ones(256)
    public["optim_g.state.0.exp_avg"] = torch.zeros(3)
    adopted = task.adopt(public)
    assert {n for n in adopted if n.startswith("discriminator.")} == {f"discriminator.{n}" for n in own}
    assert {n for n in adopted if n.startswith("codec.")} == {f"codec.{n}" for n in task.codec.state_dict()}
    plain = make(with_discriminator=True).adopt(public)
    assert plain.keys() == {n for n in adopted if n.startswith("codec.")}
    ours = {f"codec.{n}": x for n, x in task.codec.state_dict().items()} | {
        f"discriminator.{n}": x for n, x in own.items()
    }
    assert task.adopt(ours).keys() == ours.keys()
