"""What only a GPU can show: ``python -m pytest -m cuda``. Without one each is skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import nn

from benchmarks.gpu.right import choices
from data.loading import EvalBatches, TrainBatches
from models.interfaces import Recording
from models.ssl_tokenizer import encode_files
from modules.frozen_linear import FrozenNorm
from running.work import do_group
from tests.running.test_work import Small, group
from tests.toy import RECIPE, ROOT, StopAfter, expected, read, settings
from tests.utils.test_trainer import Numbers, Regression
from utils.descent import Descent
from utils.halves import in_halves
from utils.progress import Averages
from utils.recipe import Recipe
from utils.seed import make_reproducible
from utils.trainer import Trainer

HAS_GPU = torch.cuda.is_available()
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not HAS_GPU, reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:.*deterministic.*"),  # torch says where it has no such algorithm
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype.*"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def alone():
    """What a test has set of the device is the next one's no more."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def there():
    """The reference's tokenizer on the GPU."""
    return Recipe(RECIPE, overrides=settings()).build("tokenizer")["tokenizer"].to(GPU)


def busy(milliseconds: int = 200) -> None:
    """Give the GPU something to do, so that what is asked of it next waits."""
    torch.cuda._sleep(1_500_000 * milliseconds)


# -- copies ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_batches_come_pinned_and_are_whole_when_the_device_is_behind() -> None:
    """Copies that do not wait read a batch after the loader has gone on: its memory must be its own until then."""
    batches = TrainBatches(dataset=Numbers(640), batch_size=16, num_workers=2)
    descent = Descent({}, GPU)
    busy()
    found = []
    for batch in batches.epoch(0, first_step=0, rank=0, world_size=1, accumulate=1):
        assert all(x.is_pinned() for x in batch.values())
        found.append(descent.to_device(batch)["x"])
        del batch
    wanted = [Numbers(640)[0, i]["x"] for i in range(640)]
    assert torch.equal(torch.cat(found).cpu(), torch.stack(wanted))


def test_tokens_of_files_are_right_when_the_device_is_behind(tokenizer, there) -> None:
    """The next files are read, and their lengths copied, while the device still has the last ones to do."""
    recordings = [Recording.of(read("s1", "utt0", 6000 + 700 * i)[0]) for i in range(6)]
    busy()
    for ours, theirs in zip(encode_files(there, recordings), encode_files(tokenizer, recordings), strict=True):
        assert (ours == theirs).float().mean() > 0.99


def test_another_stream_gives_the_same(there) -> None:
    wav = read("s1", "utt0", 16000).to(GPU)
    main = there.encode(wav)
    stream = torch.cuda.Stream(GPU)
    stream.wait_stream(torch.cuda.current_stream(GPU))
    with torch.cuda.stream(stream):
        aside = there.encode(wav)
    torch.cuda.current_stream(GPU).wait_stream(stream)
    assert torch.equal(main, aside)


# -- waiting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_makes_the_host_wait_for_nothing(precision: str) -> None:
    task = Recipe(RECIPE, overrides=settings(tokenizer_precision=precision)).build("task")["task"].to(GPU)
    batch = {name: read(kind, "utt0", 8080).to(GPU) for name, kind in
             (("mixture", "mix_clean"), ("target", "s1"), ("enrolment", "aux_s1"))}  # fmt: skip
    descent = Descent(task.optimizers(), GPU, precision=precision)
    task.train()
    for number in range(4):
        if number == 2 and precision != "fp16":  # a loss scaler looks at its own once a step
            torch.cuda.set_sync_debug_mode("error")
        descent.step(task, task.networks(), iter([batch]), Averages())


def test_tokenising_and_decoding_make_the_host_wait_for_nothing(there) -> None:
    vocoder = Recipe(RECIPE, overrides=settings()).build("vocoder")["vocoder"].to(GPU)
    wav, lengths = torch.cat([read("s1", f"utt{i}", 9000) for i in range(2)]).to(GPU), torch.tensor([9000, 5000])
    for number in range(2):
        torch.cuda.set_sync_debug_mode("error" if number else "default")  # once, weights are prepared
        vocoder.decode(there.encode(wav, lengths))


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_norm_stays_in_the_precision_of_autocast(dtype: torch.dtype) -> None:
    norm = nn.LayerNorm(64).to(GPU).requires_grad_(False)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = torch.randn(4, 9, 64, device=GPU)
    with torch.autocast("cuda", dtype=dtype):
        found = FrozenNorm(norm)(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), norm(x), rtol=2e-2, atol=3e-2)


@pytest.mark.parametrize("frames", [47, 48, 49])
def test_the_position_bias_has_rows_that_attention_reads_as_they_are(there, frames: int) -> None:
    bias = there.encoder._position_bias(frames)
    assert bias.shape[1] == frames <= bias.shape[2] and bias.stride(1) % 8 == 0


@pytest.mark.parametrize("kind", ["s1", "mix_clean"])
def test_tokens_are_those_of_the_cpu_or_as_near(tokenizer, there, kind: str) -> None:
    make_reproducible()
    wav = torch.cat([read(kind, f"utt{i}", 32000) for i in range(4)])
    assert (there.encode(wav.to(GPU)).cpu() == tokenizer.encode(wav)).float().mean() > 0.99
    centroids = tokenizer.quantizer.centroids.double()
    found = [[x.double().cpu() for x in one.features(x)] for one, x in ((tokenizer, wav), (there, wav.to(GPU)))]
    scores = [torch.stack([-torch.cdist(x, c) for x, c in zip(of, centroids, strict=True)]) for of in found]
    said = choices(*scores)
    if "others" in said:  # "N of M equal; n of the m others within rounding"
        words = said.split("; ")[1].split()
        assert words[0] == words[3], said


def test_the_vocoder_sounds_as_on_the_cpu(vocoder) -> None:
    make_reproducible()
    tokens = expected()["l/utt0/tokens_clean"]
    device = Recipe(RECIPE, overrides=settings()).build("vocoder")["vocoder"].to(GPU)
    torch.testing.assert_close(device.decode(tokens.to(GPU)).cpu(), vocoder.decode(tokens), rtol=0, atol=1e-4)


# -- training ----------------------------------------------------------------------------------------------------------


def fit(folder, device: torch.device, **more) -> Regression:
    stop = more.pop("stop", None)
    trainer = Trainer(**{**dict(epochs=2, seed=1, log_interval=1, first_evaluation=0), **more})
    task = Regression()
    data = TrainBatches(dataset=Numbers(26), batch_size=8, num_workers=0)
    where = dict(device=device, log_path=folder / "log", ckpt_path=folder / "ckpt", stop=stop)
    trainer.fit(task, data, EvalBatches(dataset=Numbers(10), batch_size=4), **where)
    return task


def weights(task: nn.Module) -> list[torch.Tensor]:
    return [p.detach().cpu() for p in task.parameters()]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path, precision: str) -> None:
    """Of fp16 the loss scaler too: its scale and the steps since it changed."""
    make_reproducible()
    whole = fit(tmp_path / "whole", GPU, precision=precision)
    fit(tmp_path / "parts", GPU, precision=precision, stop=StopAfter(2))
    parts = fit(tmp_path / "parts", GPU, precision=precision)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(parts), strict=True))
    saved = [torch.load(tmp_path / name / "ckpt/last.pth", weights_only=True)["state"] for name in ("whole", "parts")]
    assert saved[0]["scaler"] == saved[1]["scaler"] and bool(saved[0]["scaler"]) == (precision == "fp16")


def test_a_step_is_the_same_twice(tmp_path) -> None:
    make_reproducible()

    def trained() -> list[torch.Tensor]:
        task = Recipe(RECIPE, overrides=settings(dropout=0.0)).build("task")["task"]
        torch.manual_seed(0)
        for p in task.network.parameters():
            nn.init.normal_(p, std=0.05)
        task.to(GPU).train()
        batch = {name: read(kind, "utt0", 8080).to(GPU) for name, kind in
                 (("mixture", "mix_clean"), ("target", "s1"), ("enrolment", "aux_s1"))}  # fmt: skip
        descent = Descent(task.optimizers(), GPU)
        for _ in range(3):
            descent.step(task, task.networks(), iter([batch]), Averages())
        return weights(task.network)

    assert all(torch.equal(a, b) for a, b in zip(trained(), trained(), strict=True))


@pytest.mark.slow
def test_a_checkpoint_of_the_gpu_is_used_and_continued_without_one(tmp_path) -> None:
    fit(tmp_path, GPU, precision="fp16", stop=StopAfter(2))
    code = (
        "import sys, pathlib, torch\n"
        "from tests.test_cuda import CPU, fit\n"
        "assert not torch.cuda.is_available()\n"
        "fit(pathlib.Path(sys.argv[1]), CPU, precision='fp16')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6


# -- memory ------------------------------------------------------------------------------------------------------------


def held(items: int, share: float) -> torch.Tensor:
    """Memory of the GPU, so large a share of what is free for each item."""
    torch.cuda.empty_cache()  # what torch keeps of earlier tests is free too
    free, _ = torch.cuda.mem_get_info(GPU)
    return torch.empty(int(free * share) * items, dtype=torch.uint8, device=GPU)


def test_a_batch_that_does_not_fit_is_done_in_halves() -> None:
    sizes = []

    def compute(part: slice) -> list[int]:
        taken = held(part.stop - part.start, 0.3)
        sizes.append(part.stop - part.start)
        return [len(taken)] * sizes[-1]

    assert len([x for some in in_halves(compute, 8) for x in some]) == 8
    assert sizes and max(sizes) <= 3


def test_a_group_of_files_that_does_not_fit_is_done_in_halves(tmp_path) -> None:
    class Real(Small):
        def __call__(self, items):
            taken = held(len(items), 0.3)
            return [{"tokens": np.array([[len(taken) % 2]])} for _ in items]

    outcome = do_group(Real(holds=0), group(tmp_path, 8))
    assert not outcome.failed and len(list(tmp_path.glob("*.npy"))) == 8


def test_a_training_batch_that_does_not_fit_says_which_would(tmp_path) -> None:
    class Real(Regression):
        def objectives(self, batch, networks):
            taken = held(len(batch["x"]), 0.15)
            yield from super().objectives(batch, networks)
            del taken

    trainer = Trainer(epochs=1, seed=1, first_evaluation=0)
    data = TrainBatches(dataset=Numbers(26), batch_size=8, num_workers=0)
    where = dict(device=GPU, log_path=tmp_path / "log", ckpt_path=tmp_path / "ckpt")
    with pytest.raises(MemoryError, match="one of 4 fits.*accumulate=2"):
        trainer.fit(Real(), data, EvalBatches(dataset=Numbers(4), batch_size=2), **where)


# -- programs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixtures(tmp_path):
    """A folder of four mixtures with enrolments, and their lists."""
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, kind in (("mix_clean", "mix_clean"), ("aux_s1", "aux_s1")):
        lines = []
        for i in range(4):
            sf.write(folder / f"{kind}{i}.wav", read(kind, f"utt{i}")[0].numpy(), 16000)
            lines.append(f"u{i} {folder / f'{kind}{i}.wav'}\n")
        (folder / f"{name}.scp").write_text("".join(lines))
    return folder


def extract(folder, output, *devices: str):
    toy = ("-config", "config/toy/tselm.yaml", "-ckpt", "pretrained/toy/tselm.pth", "--save-tokens")
    done = subprocess.run(
        [sys.executable, "inference.py", "-scp", str(folder), *toy, "--output", str(output), "-gpus", *devices],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {path.relative_to(output): np.load(path) for path in sorted(output.rglob("*.npy"))}


@pytest.mark.slow
def test_inference_gives_the_tokens_of_the_cpu(tmp_path, mixtures) -> None:
    ours, theirs = extract(mixtures, tmp_path / "gpu", "cuda:0"), extract(mixtures, tmp_path / "cpu", "cpu")
    assert ours.keys() == theirs.keys() and len(ours) == 4
    assert np.mean([(ours[name] == theirs[name]).mean() for name in ours]) > 0.99


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices_extract_as_one(tmp_path, mixtures) -> None:
    one, two = extract(mixtures, tmp_path / "one", "cuda:0"), extract(mixtures, tmp_path / "two", "cuda:0", "cuda:1")
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
