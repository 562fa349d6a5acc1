"""SpeechTokenizer, unit HiFi-GAN and speech resynthesis: encoding, decoding, training steps with discriminators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import codec as codec_benchmark
from benchmarks import floor
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.steps import training_rows
from benchmarks.measure import Row, against
from benchmarks.parts import speech
from models.speechtokenizer.codec import SpeechTokenizer
from models.unit_hifigan.files import read_vocoder
from utils.precision import autocast
from utils.recipe import Recipe
from utils.task import Batch, Task

CODEC, UNITS, VOICES = "SpeechTokenizer", "unit HiFi-GAN", "resynthesis"
SMALL = ["discriminator_width=0.0625", "discriminator_periods=[2, 3]", "discriminator_scales=0"]


# -- SpeechTokenizer ---------------------------------------------------------------------------------------------------


def speechtokenizer(bench: Bench) -> None:
    sizes = codec_benchmark.TOY if bench.toy else codec_benchmark.RELEASED
    first = SpeechTokenizer(architecture=sizes).to(bench.device)
    with bench.apart(CODEC, "encoding and decoding"):
        codec_benchmark.fill(first.network)
        plain = codec_benchmark.Plain(first.network)
        wav = speech(1 if bench.toy else 16, round(16000 * (2.0 if bench.toy else 10.0))).to(bench.device)
        with torch.no_grad():
            tokens = first.encode(wav)
            encoder, decoder, book = codec_benchmark.macs(first.network, wav[:1], tokens[:1])
        encoding, decoding = 2 * len(wav) * (encoder + sizes.n_q * book), 2 * len(wav) * decoder
        encode_seconds = decode_seconds = None
        for precision in bench.precisions:
            made = SpeechTokenizer(architecture=sizes, precision=precision)
            made.network.load_state_dict(first.network.state_dict())
            made = made.to(bench.device)
            changed = (made.encode(wav) != tokens).float().mean(dim=(0, 1)) * 100
            note = "" if precision == "fp32" else f"changed: {changed[0]:.1f} % of the first codebook"
            encode_seconds = row(
                bench, CODEC, f"encoding {len(wav)} x {wav.shape[1] / 16000:g} s", precision, note=note,
                plain=encode_seconds or (lambda: plain.encode(wav)), ours=lambda made=made: made.encode(wav),
                operations=encoding, audio=wav.numel() / 16000,
            )  # fmt: skip
            decode_seconds = row(
                bench, CODEC, f"decoding {len(wav)} x {wav.shape[1] / 16000:g} s", precision,
                plain=decode_seconds or (lambda: plain.decode(tokens)), ours=lambda made=made: made.decode(tokens),
                operations=decoding, audio=wav.numel() / 16000,
            )  # fmt: skip
    with bench.apart(CODEC, "training step"):
        task, batch = codec_task(bench, toy=bench.toy)
        codec_benchmark.fill(task.codec)
        training_rows(bench, CODEC, task, batch)


def codec_task(bench: Bench, *, toy: bool) -> tuple[Task, Batch]:
    """With a random teacher, and all kinds of discriminators."""
    keys = ["recompute=False"]
    if toy:
        sizes = {"n_filters": 4, "dimension": 16, "codebook_size": 32, "n_q": 4, "lstm_layers": 1}
        keys += [f"{name}={value}" for name, value in sizes.items()]
        keys += [*SMALL, "stft_sizes=[256]", "stft_filters=4"]
    teacher = bench.folder / f"teacher{'-toy' * toy}"
    if not teacher.is_dir():
        write_teacher(teacher, toy=toy)
    keys += [f"teacher_path={teacher}", f"semantic_dimension={16 if toy else 768}"]
    task = Recipe(Path("config/speechtokenizer.yaml"), overrides=keys).build("task")["task"].to(bench.device)
    items, samples = (2, 8000) if toy else (8, 48000)
    batch = {
        "wav": speech(items, samples),
        "length": torch.full((items,), samples),
        "index": torch.arange(items),
    }
    return task, {name: value.to(bench.device) for name, value in batch.items()}


def write_teacher(folder: Path, *, toy: bool) -> None:
    """A HuBERT base of random weights."""
    from transformers import HubertConfig, HubertModel

    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[16] * 7,
                 num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)  # fmt: skip
    HubertModel(HubertConfig(**(sizes if toy else {}))).save_pretrained(folder)


# -- unit HiFi-GAN -----------------------------------------------------------------------------------------------------


def unit_hifigan(bench: Bench) -> None:
    from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator

    recipe, paths = bench.parts()
    vocoder = Recipe(recipe, overrides=paths).build("vocoder")["vocoder"].to(bench.device)
    with bench.apart(UNITS, "decoding"):
        arguments, state = read_vocoder(dict(text.split("=") for text in paths)["hifi_gan_path"])
        plain = UnitHifiganGenerator(**arguments).eval().requires_grad_(False)
        plain.load_state_dict(state)  # with its weight norm, as it is published
        plain.to(bench.device)
        frames = 100 if bench.toy else 1000
        tokens = torch.randint(vocoder.vocab_size, (1, frames, vocoder.num_codebooks), device=bench.device)
        decoding_rows(
            bench, UNITS, frames, plain=lambda: plain(tokens + vocoder.offsets), ours=lambda: vocoder.decode(tokens)
        )
    with bench.apart(UNITS, "training step"):
        task, batch = unit_task(bench, toy=bench.toy)
        training_rows(bench, UNITS, task, batch)


def unit_task(bench: Bench, *, toy: bool) -> tuple[Task, Batch]:
    layers, clusters = ([1, 3, 7], 50) if toy else ([1, 3, 7, 12, 18, 23], 1000)
    small = ["embedding_dim=16", "attn_dim=8", "upsample_initial_channel=32", "lr=0.002", *SMALL]
    keys = [f"ssl_layers={layers}", f"num_clusters={clusters}", *(small if toy else [])]
    task = Recipe(Path("config/unit_hifigan.yaml"), overrides=keys).build("task")["task"].to(bench.device)
    items, frames = (2, 28) if toy else (32, 28)
    batch = {"wav": speech(items, 320 * frames), "tokens": torch.randint(clusters, (items, frames, len(layers)))}
    return task, {name: value.to(bench.device) for name, value in batch.items()}


# -- resynthesis -------------------------------------------------------------------------------------------------------


def resynthesis(bench: Bench) -> None:
    with bench.apart(VOICES, "decoding"):
        names = bench.folder / "speakers.txt"
        names.write_text("p0\np1\n")
        keys = [*voice_keys(bench.toy), f"speakers={names}", "f0_policy=flat"]
        models = [Recipe(VOICE_RECIPE, overrides=keys).build("model")["model"].to(bench.device) for _ in range(2)]
        (plain, ours), frames = models, 100 if bench.toy else 1000
        for model in models:
            start_quantiser(model.network)
        ours.network.load_state_dict(plain.network.state_dict())
        ours.network.generator.fold_weight_norm()
        units = torch.randint(ours.vocab_size, (1, frames, 1), device=bench.device)
        f0 = torch.zeros(1, 4 * frames)
        speaker = torch.zeros(1, dtype=torch.int64, device=bench.device)

        def as_published() -> torch.Tensor:
            network = plain.network
            with torch.no_grad():
                rows = network.unit_rows(units[..., 0]), network.f0_rows(f0.to(bench.device)), speaker
                return network.generator(network.inputs(*rows))

        decoding_rows(bench, VOICES, frames, plain=as_published, ours=lambda: ours.decode(units, f0=f0, speaker="p0"))
    with bench.apart(VOICES, "training step"):
        task, batch = voice_task(bench, toy=bench.toy)
        training_rows(bench, VOICES, task, batch)


VOICE_RECIPE = Path("config/resynthesis/vocoder.yaml")


def voice_keys(toy: bool) -> list[str]:
    small = ["embedding_dim=16", "f0_dim=16", "f0_width=8", "f0_depth=2", "upsample_initial_channel=32", "lr=0.002"]
    return small if toy else []


def voice_task(bench: Bench, *, toy: bool) -> tuple[Task, Batch]:
    keys = [*voice_keys(toy), "task.speakers=null", *(SMALL if toy else [])]
    task = Recipe(VOICE_RECIPE, overrides=keys).build("task")["task"].to(bench.device)
    start_quantiser(task.network)
    items, units = (2, 28) if toy else (16, 28)
    f0 = 120 + 40 * torch.rand(items, 4 * units)
    batch = {
        "wav": speech(items, 320 * units),
        "units": torch.randint(100, (items, units)),
        "f0": f0,
        "f0_stats": torch.tensor([[130.0, 20.0]]).expand(items, 2).clone(),
        "f0_median": f0.median(dim=1).values,
        "speaker": torch.arange(items),
        "index": torch.arange(items),
    }
    return task, {name: value.to(bench.device) for name, value in batch.items()}


@torch.no_grad()
def start_quantiser(network: torch.nn.Module) -> None:
    """Codes of F0, as if they had been trained."""
    device = next(network.parameters()).device
    contours = torch.randn(4, 112, generator=torch.Generator().manual_seed(0)).to(device)
    network.quantizer.vq.start(network.quantizer.latents(contours).flatten(0, 1))


# -- what they share ---------------------------------------------------------------------------------------------------


def decoding_rows(
    bench: Bench, system: str, frames: int, *, plain: Callable[[], object], ours: Callable[[], object]
) -> None:
    """Lines of decoding one sequence, in each precision."""
    operations = floor.counted(ours)
    for precision in bench.precisions:

        def in_precision(precision=precision) -> object:
            with autocast(bench.device, precision):
                return ours()

        plain = row(
            bench, system, f"decoding 1 x {frames / 50:g} s", precision, plain=plain, ours=in_precision,
            operations=operations, audio=frames / 50,
        )  # fmt: skip


def row(
    bench: Bench, system: str, work: str, precision: str, *, plain: Callable[[], object] | float,
    ours: Callable[[], object], operations: float, audio: float, note: str = "",
) -> float:  # fmt: skip
    """A line; returns the plain way's seconds, for the lines after it."""
    seconds = against(plain, ours, device=bench.device, repeats=bench.repeats)
    made = Row(f"{work}, {precision}", *seconds, operations, note, precision=precision, audio=audio)
    bench.speed(system, made, ours)
    return seconds[0]
