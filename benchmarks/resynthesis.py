"""Speech resynthesis of published sizes: decoding, F0 and training against the plain way, in one run.

The plain way: the generator with its weight norm; F0 tracked for each voice that a file is said in, and of each crop
that is trained on; a training step whose discriminators hear speech and fake one after the other. Weights are random:
speed does not depend on them.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import Row, matmul_peak, parser, prepare, show, side_by_side, where_time_goes
from benchmarks.parts import speech
from data.manifest import write_manifest
from data.pitch import PitchTracker
from models.resynthesis.model import Resynthesizer
from models.resynthesis.task import VoiceVocoding
from modules.losses import lsgan_discriminator_loss, lsgan_generator_loss
from utils.descent import Descent
from utils.progress import Averages
from utils.recipe import Recipe

RECIPE = Path("config/resynthesis/vocoder.yaml")
SEGMENT = 8960
TOY = {
    "embedding_dim": 8, "f0_dim": 8, "f0_width": 8, "f0_depth": 1, "upsample_initial_channel": 32,
    "resblock_kernel_sizes": "[3]", "resblock_dilation_sizes": "[[1]]", "discriminator_width": 0.03,
    "discriminator_periods": "[2]", "discriminator_scales": 1,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=5.12, help="of a file (%(default)s)")
    options.add_argument("--voices", type=int, default=4, help="that a file is said in (%(default)s)")
    options.add_argument("--batch", type=int, default=4, help="items of a training step (%(default)s)")
    args = options.parse_args(argv)
    device = prepare(args)
    peaks = {"fp32": matmul_peak(device)}
    rows, goes = [], []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        recipe = make_recipe(Path(name), toy=args.toy)
        model, plain = (recipe.build("model")["model"].to(device) for _ in range(2))
        plain.load_state_dict(model.state_dict())
        task = recipe.build("task")["task"].to(device)
        wav = speech(1, round(16000 * args.seconds) // 1280 * 1280)[0].numpy()
        tracker, cached = PitchTracker(), PitchTracker(cache=Path(name) / "f0")
        f0 = torch.from_numpy(cached(wav).f0)[None]
        units = torch.randint(model.vocab_size, (1, len(wav) // model.hop_length, 1))
        model.network.generator.fold_weight_norm()
        once = args.seconds * generator_operations(model)

        def decode(voices: int, model: Resynthesizer = model, tracker: PitchTracker | None = None) -> None:
            for _ in range(voices):
                contour = f0 if tracker is None else torch.from_numpy(tracker(wav).f0)[None]
                model.decode(units, f0=contour, speaker="A")

        def train(ours: bool):
            step = our_step if ours else plain_step
            return step(task, make_batch(model, f0, args.batch, device), device)

        ways = {
            f"decode 1 x {args.seconds:g} s": (lambda: decode(1, plain), lambda: decode(1), once),
            f"{args.seconds:g} s in {args.voices} voices, F0 with it": (
                lambda: decode(args.voices, plain, tracker),
                lambda: decode(args.voices, model, cached),
                args.voices * once,
            ),
            "F0 of a crop": (lambda: tracker(wav[:SEGMENT]), lambda: cached(wav), 0.0),
            f"training step, batch {args.batch}": (train(False), train(True), 0.0),
        }
        for work, (baseline, ours, operations) in ways.items():
            seconds = side_by_side(baseline, ours, device=device, repeats=args.repeats)
            note = f"{args.batch / seconds[1]:.2f} items/s" if work.startswith("training") else ""
            rows.append(Row(work, *seconds, operations, note))
            if operations or note:
                goes.append(f"{work}: {where_time_goes(ours, device=device)}")
        difference = (plain.decode(units, f0=f0, speaker="A") - model.decode(units, f0=f0, speaker="A")).abs().max()
    show(rows, peaks=peaks)
    print("\nwhere the time goes:\n" + "\n".join(goes))
    print(f"largest difference of the speech: {difference:.1e}")
    return 0


def make_recipe(folder: Path, *, toy: bool) -> Recipe:
    """The published recipe, for one speaker, with a quantiser of F0 and weights of nobody."""
    for split in ("train", "val"):  # which the recipe names, and nothing here reads
        write_manifest(folder / f"{split}.txt", [{"audio": str(folder / "none.wav"), "hubert": "0"}])
    keys = {
        "train_path": folder / "train.txt", "valid_path": folder / "val.txt", "speaker_from": "single",
        "f0_source": "utterance", **(TOY if toy else {}),
    }  # fmt: skip
    return Recipe(RECIPE, overrides=[f"{key}={value}" for key, value in keys.items()])


def make_batch(model: Resynthesizer, f0: torch.Tensor, items: int, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch as the data set makes it."""
    batch = {
        "wav": speech(items, SEGMENT),
        "units": torch.randint(model.vocab_size, (items, SEGMENT // model.hop_length)),
        "f0": f0[:, : SEGMENT // 80].expand(items, -1),
        "f0_stats": torch.tensor([[120.0, 20.0]]).expand(items, -1),
        "f0_median": torch.full((items,), 120.0),
        "speaker": torch.zeros(items, dtype=torch.int64),
        "index": torch.arange(items),
    }
    return {name: x.to(device) for name, x in batch.items()}


def our_step(task: VoiceVocoding, batch: dict[str, torch.Tensor], device: torch.device):
    """What the trainer does in a step."""
    descent, averages = Descent(task.optimizers(), device, precision="fp32"), Averages()
    task.train()
    return lambda: descent.step(task, task.networks(), iter([batch]), averages)


def plain_step(task: VoiceVocoding, batch: dict[str, torch.Tensor], device: torch.device):
    """The same step in the published order: the discriminators hear speech and fake one after the other, twice."""
    task = copy.deepcopy(task).train()
    network, discriminator = task.network, task.discriminator
    optimizers = task.optimizers()

    def step() -> None:
        real = batch["wav"]
        fake, _ = task._speech(network, batch)
        of_real, of_fake = discriminator(real[:, None])[0], discriminator(fake.detach()[:, None])[0]
        optimizers["discriminator"].zero_grad()
        lsgan_discriminator_loss(of_real, of_fake).backward()
        optimizers["discriminator"].step()
        loss = task.mel_weight * task.mel(fake, real)
        _, real_features = discriminator(real[:, None])
        scores, fake_features = discriminator(fake[:, None])
        features = sum(
            (a - b).abs().mean()
            for real_layers, fake_layers in zip(real_features, fake_features, strict=True)
            for a, b in zip(real_layers, fake_layers, strict=True)
        )
        loss = loss + lsgan_generator_loss(scores) + task.feature_weight * features
        optimizers["vocoder"].zero_grad()
        loss.backward()
        optimizers["vocoder"].step()

    return step


def generator_operations(model: Resynthesizer, frames: int = 64) -> float:
    """Floating-point operations of the generator over so many frames, counted on a pass, for a second."""
    from torch.utils.flop_counter import FlopCounterMode

    network = model.network
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.generator(torch.zeros(1, network.channels, frames, device=next(network.parameters()).device))
    return counter.get_total_flops() / frames * model.sample_rate / network.frame


if __name__ == "__main__":
    sys.exit(main())
