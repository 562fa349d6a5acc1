"""Right before fast: what the shipped systems give on the device and on the CPU, and every precision in training."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import soundfile as sf
import torch

from benchmarks import codec as codec_benchmark
from benchmarks.gpu import codecs
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.steps import our_step
from benchmarks.parts import speech, write_parts
from models.load import load_model
from utils.recipe import Recipe
from utils.task import Batch, Task

CPU = torch.device("cpu")
EXAMPLE = Path("pretrained/speechtokenizer/examples/speech.flac")
TOY = ("config/toy/tselm.yaml", "pretrained/toy/tselm.pth")
CODEC = ("config/toy/speechtokenizer.yaml", "pretrained/speechtokenizer/SpeechTokenizer.pt")


def agreement(bench: Bench) -> None:
    wav = torch.from_numpy(sf.read(EXAMPLE, dtype="float32")[0])
    with bench.apart("TSELM, toy", "against the CPU"):
        extraction(bench, wav)
    with bench.apart("SpeechTokenizer, toy", "against the CPU"):
        codec(bench, wav)
    with bench.apart("resynthesis, random", "against the CPU"):
        resynthesis(bench)


@torch.no_grad()
def extraction(bench: Bench, wav: torch.Tensor) -> None:
    system = "TSELM, toy"
    here, there = load_model(*TOY), load_model(*TOY, device=bench.device)
    enrolment = wav[:32000]
    mixture = (wav + 0.7 * wav.roll(len(wav) // 3).flip(0))[: 16000 * 8]
    batch = wav[: len(wav) // 4 * 4].view(4, -1)
    features = [model.tokenizer.features(batch.to(model.device)) for model in (here, there)]
    distances = [
        torch.stack([-torch.cdist(x.double().cpu(), c.double().cpu()) for x, c in zip(of, centroids, strict=True)])
        for of, centroids in zip(features, [m.tokenizer.quantizer.centroids for m in (here, there)], strict=True)
    ]
    encoded = [model.tokenizer.encode(batch.to(model.device)).cpu() for model in (here, there)]
    bench.found(system, "tokens of speech against the CPU's", choices(*distances), equal(*encoded))
    inputs = here.front_end.encode_mixture(mixture[None], enrolment[None]), here.front_end.encode(enrolment[None])
    logits = [model.network(*(x.to(model.device) for x in inputs)).double().cpu() for model in (here, there)]
    bench.found(system, "the network's choices against the CPU's, on the same inputs", choices(*logits))
    made = [model.extract_with_tokens(mixture, enrolment) for model in (here, there)]
    found = f"largest difference {difference(*(one.wav for one in made)):.1e}"
    bench.found(system, "extracted speech against the CPU's", found, equal(*(one.tokens for one in made)))
    tokens = made[0].tokens[None]
    sounds = [model.vocoder.decode(tokens.to(model.device)) for model in (here, there)]
    found = f"largest difference {difference(*sounds):.1e}"
    bench.found("unit HiFi-GAN, toy", "speech of the same tokens against the CPU's", found)


@torch.no_grad()
def codec(bench: Bench, wav: torch.Tensor) -> None:
    system = "SpeechTokenizer, toy"
    here, there = load_model(*CODEC), load_model(*CODEC, device=bench.device)
    where, wav = [(model, model.codebooks.device) for model in (here, there)], wav[None]
    latents = [model.encode_latents(wav.to(device)).double().cpu() for model, device in where]
    distances = [-torch.cdist(x, here.codebooks[0].double()[None]) for x in latents]
    tokens = [model.encode(wav.to(device)).cpu() for model, device in where]
    note = f"of all codebooks, each of which follows from those before it, {equal(*tokens)}"
    bench.found(system, "tokens of the first codebook against the CPU's", choices(*distances), note)
    sounds = [model.decode(tokens[0].to(device)) for model, device in where]
    bench.found(system, "speech of the same tokens against the CPU's", f"largest difference {difference(*sounds):.1e}")


@torch.no_grad()
def resynthesis(bench: Bench) -> None:
    names = bench.folder / "speakers.txt"
    names.write_text("p0\np1\n")
    keys = [*codecs.voice_keys(True), f"speakers={names}", "f0_policy=flat"]
    here, there = (Recipe(codecs.VOICE_RECIPE, overrides=keys).build("model")["model"] for _ in range(2))
    for model in (here, there):
        codecs.start_quantiser(model.network)
    there.network.load_state_dict(here.network.state_dict())
    there.to(bench.device)
    units = torch.randint(here.vocab_size, (1, 200, 1))
    sounds = [model.decode(units, f0=torch.zeros(1, 800), speaker="p0") for model in (here, there)]
    found = f"largest difference {difference(*sounds):.1e}"
    bench.found("resynthesis, random", "speech of the same units against the CPU's", found)


def choices(here: torch.Tensor, there: torch.Tensor) -> str:
    """How many of the best [..., V] are the same; and of the others, whether they are as good up to rounding.

    Where two scores of the CPU are nearer than twice what the device's scores differ from the CPU's by, where both
    choose the same, rounding can turn their order.
    """
    first, second = here.argmax(dim=-1), there.argmax(dim=-1)
    other = first != second
    text = f"{int((~other).sum()):,} of {other.numel():,} equal"
    if not other.any():
        return text
    gaps = (here.gather(-1, first[..., None]) - here.gather(-1, second[..., None]))[other].squeeze(-1)
    rounding = 2 * (here - there).abs().amax(dim=-1)[~other].max() if not other.all() else 0.0
    within = int((gaps <= rounding).sum())
    scale = here.gather(-1, first[..., None])[other].abs().squeeze(-1)
    return f"{text}; {within} of the {len(gaps)} others within rounding (at most {(gaps / scale).max():.1e} apart)"


def equal(here: torch.Tensor, there: torch.Tensor) -> str:
    return f"{int((here == there).sum()):,} of {here.numel():,} tokens equal"


def difference(here: torch.Tensor, there: torch.Tensor) -> float:
    return (here.cpu() - there.cpu()).abs().max().item()


# -- training in each precision ----------------------------------------------------------------------------------------


def precisions(bench: Bench) -> None:
    """The loss after some steps of small systems, in each precision beside fp32's."""
    steps = 2 if bench.toy else 25
    makers: dict[str, tuple[Callable[[str], tuple[Task, Batch]], str]] = {
        "TSELM": (lambda precision: tselm_task(bench, precision), "loss"),
        codecs.CODEC: (lambda _: codecs.codec_task(bench, toy=True), "mel"),
        codecs.UNITS: (lambda _: codecs.unit_task(bench, toy=True), "mel"),
        codecs.VOICES: (lambda _: codecs.voice_task(bench, toy=True), "mel"),
    }
    for system, (make, metric) in makers.items():
        found = {}
        for precision in bench.precisions:
            with bench.apart(system, f"training in {precision}"):
                found[precision] = trained(bench, make, precision, metric, steps)
        begin = ", ".join(f"{first:.4g}" for first, _ in list(found.values())[:1])
        ends = ", ".join(f"{precision} {last:.4g}" for precision, (_, last) in found.items())
        bench.found(
            system, f"{metric} after {steps} steps of a small network, in each precision", ends, f"at first {begin}"
        )


def trained(
    bench: Bench, make: Callable[[str], tuple[Task, Batch]], precision: str, metric: str, steps: int
) -> tuple[float, float]:
    """A metric in the first step, and its mean over the last ones, three at most."""
    torch.manual_seed(0)
    task, batch = make(precision)
    if hasattr(task, "codec"):
        codec_benchmark.fill(task.codec)
    step = our_step(task, batch, precision, bench.device)
    values = []
    for _ in range(steps):
        told = step().pop()
        values.append(next(value for name, value in told.items() if name.startswith(metric)))
    return values[0], statistics.mean(values[-3:])


def tselm_task(bench: Bench, precision: str) -> tuple[Task, Batch]:
    recipe, paths = write_parts(bench.folder / "parts-toy", toy=True)
    keys = [*paths, f"tokenizer_precision={precision}", "log_vocoder=null"]
    task = Recipe(recipe, overrides=keys).build("task")["task"].to(bench.device)
    batch = {name: speech(4, 32080) for name in ("mixture", "target", "enrolment")}
    return task, {name: wav.to(bench.device) for name, wav in batch.items()}
