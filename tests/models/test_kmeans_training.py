"""K-means as training: against scikit-learn, over processes and restarts, and from its recipe."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus

from models.kmeans.centre_descent import CentreDescent
from models.kmeans.codebooks import Codebooks
from models.kmeans.task import LayerKMeans
from models.released import read_kmeans, write_kmeans
from modules.codebook_use import histogram, perplexity, usage
from modules.frames import FrameGrid
from modules.frozen import Frozen
from modules.kmeans import NearestCentroid
from modules.seeding import plus_plus, sample_frames
from tests.toy import REFERENCE, ROOT, call, run, stop_after_first_save, write_corpus
from utils.recipe import Recipe

LAYERS = [1, 3, 7, 12, 18, 23]


# --- features with a structure ---


def mixture() -> np.ndarray:
    """150 Gaussians of unequal weights and widths, in 24 dimensions."""
    rng = np.random.default_rng(0)
    weights, widths = rng.dirichlet(np.full(150, 0.5)), rng.uniform(0.3, 1.5, size=150)
    means = 3 * rng.standard_normal((150, 24))
    which = rng.choice(150, size=20000, p=weights)
    return (means[which] + widths[which, None] * rng.standard_normal((20000, 24))).astype("f4")


def correlated() -> np.ndarray:
    """As features of speech: slow, of fewer dimensions than channels, which differ in scale and are off zero."""
    rng = np.random.default_rng(1)
    slow = np.zeros((20000, 8))
    for n, noise in enumerate(rng.standard_normal((20000, 8))):
        slow[n] = 0.95 * slow[n - 1] + noise
    x = np.tanh(0.3 * slow @ rng.standard_normal((8, 32))) * np.exp(rng.standard_normal(32))
    return (x + 0.1 * rng.standard_normal((20000, 32)) + 2 * rng.standard_normal(32)).astype("f4")


def batches(x: np.ndarray, *, size: int, passes: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for _ in range(passes):
        order = rng.permutation(len(x))
        yield from (x[order[i : i + size]] for i in range(0, len(x) - size + 1, size))


def inertia(x: np.ndarray, centres: np.ndarray) -> float:
    nearest = NearestCentroid([torch.from_numpy(centres)])([torch.from_numpy(x)[None]])[0, :, 0].numpy()
    return float(np.square(x - centres[nearest]).sum(-1).mean())


def descend(books: Codebooks, optimizer: CentreDescent, x: torch.Tensor, rows: int = 8) -> None:
    """One step of frames [n, D], the same for all codebooks."""
    features = [x.view(rows, -1, x.shape[-1])] * len(books.centres)
    mask = torch.ones(features[0].shape[:2], dtype=torch.bool)
    optimizer.zero_grad()
    books(features, books.assign(features), mask).sum().backward()
    optimizer.step()


def books_at(*centres: torch.Tensor, reservoir: torch.Tensor | None = None, **more: object) -> Codebooks:
    """Codebooks with these centres [V, D]."""
    books = Codebooks(num_codebooks=len(centres), vocab_size=len(centres[0]), dim=centres[0].shape[1], **more)
    with torch.no_grad():
        books.centres.copy_(torch.stack(centres))
    if reservoir is not None:
        books.reservoir = reservoir.expand(len(centres), *reservoir.shape).clone()
    return books


# --- against scikit-learn ---


def test_each_step_is_that_of_scikit_learn() -> None:
    """Without decay and with nothing to re-seed: the same centres after each batch."""
    x, start = mixture(), mixture()[:64]
    theirs = MiniBatchKMeans(64, init=start.astype("f8"), n_init=1, reassignment_ratio=0)
    ours = books_at(torch.from_numpy(start))
    optimizer = CentreDescent(ours, patience=10**6)
    for batch in batches(x, size=512, passes=1, seed=0):
        theirs.partial_fit(batch.astype("f8"))
        descend(ours, optimizer, torch.from_numpy(batch))
        np.testing.assert_allclose(ours.centres[0].detach().numpy(), theirs.cluster_centers_, atol=1e-4)
    np.testing.assert_allclose(8 * ours.counts[0].detach().numpy(), theirs._counts, rtol=1e-5)


@pytest.mark.parametrize("make", [mixture, correlated])
@pytest.mark.parametrize(("size", "passes"), [(1024, 1), (256, 2)])
def test_the_inertia_is_not_above_that_of_scikit_learn(make, size: int, passes: int) -> None:
    """The same batches, each with its own k-means++ on the same reservoir; the mean of eight starts."""
    x, clusters = make(), 64
    found: dict[str, list[float]] = {"decay 1": [], "decay 0.99": [], "scikit-learn": []}
    for seed in range(8):
        torch.manual_seed(seed)
        reservoir = sample_frames([[torch.from_numpy(x)]], 20 * clusters)[0]
        begin = plus_plus(reservoir, clusters)
        ours = {decay: books_at(begin, reservoir=reservoir) for decay in (1, 0.99)}
        optimizers = {decay: CentreDescent(books, decay=decay, patience=30) for decay, books in ours.items()}
        begin = kmeans_plusplus(reservoir.double().numpy(), clusters, random_state=seed)[0]
        theirs = MiniBatchKMeans(clusters, init=begin, n_init=1, random_state=seed)
        for batch in batches(x, size=size, passes=passes, seed=seed):
            for decay, books in ours.items():
                descend(books, optimizers[decay], torch.from_numpy(batch))
            theirs.partial_fit(batch.astype("f8"))
        for decay, books in ours.items():
            found[f"decay {decay}"].append(inertia(x, books.centres[0].detach().numpy()))
        found["scikit-learn"].append(inertia(x, theirs.cluster_centers_.astype("f4")))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    print(make.__name__, size, passes, {name: round(value / means["scikit-learn"], 4) for name, value in means.items()})
    assert means["decay 1"] < 1.02 * means["scikit-learn"]
    assert means["decay 0.99"] < 1.02 * means["scikit-learn"] and means["decay 0.99"] < means["decay 1"]
    drawn = x[np.random.default_rng(0).choice(len(x), clusters, replace=False)]
    assert inertia(x, drawn) > 1.5 * means["scikit-learn"]  # it is no easy task


# --- the gradient ---


def test_the_gradients_are_sums_over_the_frames_of_each_centre() -> None:
    torch.manual_seed(0)
    features, mask = [torch.randn(3, 20, 4) for _ in range(2)], torch.rand(3, 20) > 0.3
    books = books_at(torch.randn(7, 4), torch.randn(7, 4))
    tokens = books.assign(features)
    losses = books(features, tokens, mask)
    losses.sum().backward()
    for k, x in enumerate(features):
        codes, frames = tokens[..., k][mask], x[mask]
        distances = (frames - books.centres[k].detach()[codes]).square().sum()
        torch.testing.assert_close(losses[k].detach(), distances / 2 / 3)
        for v in range(7):
            mine = frames[codes == v]
            want = (len(mine) * books.centres[k, v].detach() - mine.sum(0)) / 3
            torch.testing.assert_close(books.centres.grad[k, v], want, rtol=1e-5, atol=1e-5)
            assert float(books.counts.grad[k, v]) == pytest.approx(len(mine) / 3)
    torch.testing.assert_close(histogram(tokens[mask], 7) / 3, books.counts.grad)


def test_the_clustering_is_float32_whatever_is_around_it() -> None:
    torch.manual_seed(0)
    features, mask, found = [torch.randn(2, 50, 32)], torch.ones(2, 50, dtype=torch.bool), []
    for enabled in (False, True):
        books = books_at(torch.arange(1600.0).view(50, 32).sin())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = books(features, books.assign(features), mask).sum()
        loss.backward()
        found.append((loss.detach(), books.centres.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_the_chunk_changes_nothing_but_memory() -> None:
    torch.manual_seed(0)
    features, centres = [torch.randn(3, 50, 8)], torch.randn(11, 8)
    whole, parts = (books_at(centres, chunk=chunk).assign(features) for chunk in (8192, 7))
    assert torch.equal(whole, parts)


def test_with_decay_a_centre_is_the_mean_of_what_it_had_lately() -> None:
    books = books_at(torch.zeros(1, 1))
    optimizer = CentreDescent(books, decay=0.5)
    for value in (8.0, 4.0, 2.0):
        descend(books, optimizer, torch.full((8, 1), value))
    assert books.centres.item() == pytest.approx((8 * 0.25 + 4 * 0.5 + 2) / 1.75)


# --- seeding ---


def test_frames_of_a_stream_are_drawn_with_equal_probability() -> None:
    torch.manual_seed(0)
    stream = torch.arange(60.0)[:, None]
    drawn = torch.zeros(60)
    for _ in range(500):
        sample = sample_frames(([part, -part] for part in stream.split([1, 30, 5, 24])), 12)
        assert sample.shape == (2, 12, 1) and torch.equal(sample[0], -sample[1])  # the same frames of each layer
        assert len(sample[0].unique()) == 12
        drawn[sample[0].flatten().long()] += 1
    assert 60 < drawn.min() and drawn.max() < 140  # 100 +- 4 standard deviations
    assert sample_frames([[stream]], 100).shape == (1, 60, 1)
    with pytest.raises(ValueError, match="no batch"):
        sample_frames([], 12)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_plus_plus_finds_clusters_that_lie_apart(offset: float) -> None:
    torch.manual_seed(0)
    means = 100 * torch.randn(20, 16)
    which = torch.cat([torch.arange(20), torch.zeros(980, dtype=torch.int64)])  # nearly all in one
    frames = means[which] + torch.randn(1000, 16) + offset
    chosen = plus_plus(frames, 20)
    assert len(torch.cdist(chosen, means + offset).argmin(-1).unique()) == 20
    more = plus_plus(frames, 6, given=means[6:] + offset)
    assert torch.cdist(more, means + offset).argmin(-1).sort().values.tolist() == [0, 1, 2, 3, 4, 5]


def test_plus_plus_follows_from_its_generator() -> None:
    frames = torch.randn(300, 4)
    draws = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        draws.append(plus_plus(frames, 30, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(*draws)
    torch.manual_seed(2)
    same = [plus_plus(frames, 30), torch.manual_seed(2) and plus_plus(frames, 30)]
    assert torch.equal(*same) and not torch.equal(same[0], draws[0])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_frames_that_are_the_same_are_no_two_centres(scale: float) -> None:
    torch.manual_seed(0)
    different = scale * (torch.randn(10, 64) + 3)
    frames = different.repeat(50, 1)
    assert len(plus_plus(frames, 10).unique(dim=0)) == 10
    with pytest.raises(ValueError, match="of 500 frames fewer than 11 are different"):
        plus_plus(frames, 11)
    with pytest.raises(ValueError, match="500 frames cannot be 501 centres"):
        plus_plus(frames, 501)


# --- centres without frames ---


def dead_at_the_start() -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of 16 Gaussians, and as many centres: ten far from all frames, two that are the same, four good ones."""
    torch.manual_seed(0)
    means = 20 * torch.randn(16, 8)
    frames = means.repeat(64, 1) + torch.randn(1024, 8)
    return frames, torch.cat([torch.full((10, 8), 1e4) + torch.randn(10, 8), means[:1].repeat(2, 1), means[1:5]])


def test_centres_without_frames_are_put_where_frames_are() -> None:
    frames, start = dead_at_the_start()
    found = {}
    for patience in (3, 10**6):
        books = books_at(start, start.flip(0), reservoir=frames)
        optimizer = CentreDescent(books, patience=patience)
        for step in range(1, 21):
            descend(books, optimizer, frames)
            assert (int(books.reseeded) >= 20) is (step >= patience)  # those that are the same may share their frames
        found[patience] = inertia(frames.numpy(), books.centres[0].detach().numpy())
        assert bool((books.counts > 0).all()) is (patience == 3)
    assert found[3] < 0.1 * found[10**6]


def test_centres_that_are_moved_go_to_the_same_place_in_every_process() -> None:
    """Whatever a process draws for itself."""
    frames, start = dead_at_the_start()
    found = []
    for seed in (0, 1):
        books = books_at(start, reservoir=frames)
        optimizer = CentreDescent(books, patience=1)
        torch.manual_seed(seed)
        descend(books, optimizer, frames)
        found.append(books.centres.detach())
        moved = books.counts[0] == 0
        assert moved.sum() == books.reseeded >= 10 and not books.idle.any()
        assert bool((books.centres[0, moved, None] == frames).all(-1).any(-1).all())  # onto frames
    assert torch.equal(*found)


def test_usage_and_perplexity() -> None:
    counts = torch.tensor([[1.0, 1, 1, 1], [4, 0, 0, 0], [100, 100, 0.1, 0], [0, 0, 0, 0]])
    assert usage(counts).tolist() == [100, 25, 50, 0]
    torch.testing.assert_close(perplexity(counts), torch.tensor([4.0, 1, 2, 1]), rtol=5e-3, atol=0)


# --- the task ---


class Windows(Frozen):
    """An encoder that cuts: frame n of layer l is l times its 16 samples, and 1000 beyond a row's length."""

    sample_rate = 16000

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.dim, self.grid = (1, 2), 16, FrameGrid(window=16, hop=16)
        self.freeze()

    def forward(self, wav: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        assert int(lengths.min()) >= self.grid.window, "WavLM refuses such a row"
        frames = wav.unfold(-1, 16, 16).clone()
        frames[torch.arange(frames.shape[1]) >= self.grid.frames(lengths)[:, None]] = 1000
        return [frames, 2 * frames]


def task(**more: object) -> LayerKMeans:
    return LayerKMeans(encoder=Windows(), **{"num_clusters": 5, "reservoir_frames": 20, **more})


def batch_of(*lengths: int, seed: int = 0) -> dict[str, torch.Tensor]:
    wav = torch.randn(len(lengths), 160, generator=torch.Generator().manual_seed(seed))
    return {"wav": wav, "length": torch.tensor(lengths)}


def test_padding_and_rows_without_a_frame_do_not_count() -> None:
    torch.manual_seed(0)
    batch, found = batch_of(160, 90, 15, 0, 33), task()
    found.prepare(iter([batch]))
    assert found.codebooks.reservoir.shape == (2, 10 + 5 + 2, 16)
    assert found.codebooks.reservoir.abs().max() < 100 and found.codebooks.centres.abs().max() < 100
    (objective,) = found.objectives(batch, found.networks())
    objective.loss.backward()
    assert float(found.codebooks.counts.grad[0].sum()) == pytest.approx(17 / 5)
    with torch.no_grad():
        metrics = found.evaluate(batch)
    assert metrics["inertia"][1] == 17
    for layer in (1, 2):
        own = [layer * batch["wav"][row, : 16 * n].view(n, 16) for row, n in ((0, 10), (1, 5), (4, 2))]
        centres = found.codebooks.centres[layer - 1].detach()
        want = torch.cdist(torch.cat(own), centres).amin(-1).square().mean()
        total, count = metrics[f"inertia_layer_{layer}"]
        assert float(total) / count == pytest.approx(float(want), rel=1e-5)
        assert float(objective.metrics[f"inertia_layer_{layer}"]) == pytest.approx(float(want), rel=1e-5)


def test_a_batch_without_any_frame_changes_nothing() -> None:
    found = task(patience=10)
    found.prepare(iter([batch_of(160, 160)]))
    optimizer = found.optimizers()["codebooks"]
    before = found.codebooks.centres.detach().clone()
    (objective,) = found.objectives(batch_of(10, 0), found.networks())
    objective.loss.backward()
    optimizer.step()
    assert torch.equal(found.codebooks.centres, before) and not found.codebooks.counts.any()
    assert all(bool(value.isfinite()) for value in objective.metrics.values())


def test_the_reservoir_is_of_the_first_batches_and_is_not_saved() -> None:
    asked = []

    def stream() -> Iterator[dict[str, torch.Tensor]]:
        for number in range(10):
            asked.append(number)
            yield batch_of(*[160] * 20, seed=number)

    found = task(reservoir_batches=3, reservoir_frames=500)
    found.prepare(stream())
    assert asked == [0, 1, 2] and found.codebooks.reservoir.shape == (2, 500, 16)
    for number in range(3):  # of each of them
        frames = batch_of(*[160] * 20, seed=number)["wav"].view(-1, 16)
        assert (torch.cdist(found.codebooks.reservoir[0], frames).amin(-1) < 1e-4).sum() > 100
    assert {name.rpartition(".")[2] for name in found.state_dict()} == {"centres", "counts", "idle", "reseeded"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (dict(reservoir_frames=4), "reservoir_frames must be at least num_clusters, got 4 and 5"),
        (dict(num_clusters=0), "num_clusters and reservoir_batches must be above 0, got 0 and 8"),
        (dict(reservoir_batches=0), "must be above 0, got 5 and 0"),
        (dict(precision="fp12"), "fp12"),
        (dict(export_format="joblib"), "safetensors, released .* got 'joblib' and 'float32'"),
        (dict(export_dtype="int8"), "float32, float16, got 'safetensors' and 'int8'"),
    ],
)
def test_settings_that_cannot_be_are_refused(more: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(**more)


@pytest.mark.parametrize("more", [dict(decay=0.0), dict(decay=1.1), dict(patience=0)])
def test_and_those_of_the_optimizer(more: dict) -> None:
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\] and patience above 0, got"):
        task(**more).optimizers()


def test_too_few_frames_or_too_few_that_differ_are_an_error_that_says_so() -> None:
    found = task(num_clusters=30, reservoir_frames=30, reservoir_batches=2)
    with pytest.raises(ValueError, match=r"num_clusters is 30, but the first 2 batches \(reservoir_batches\) have 20"):
        found.prepare(batch_of(160, seed=seed) for seed in range(3))
    silence = {"wav": torch.zeros(4, 160), "length": torch.full((4,), 160)}
    with pytest.raises(ValueError, match="num_clusters is 5, but of 20 frames fewer than 5 are different in layer_1"):
        task().prepare(iter([silence]))
    with pytest.raises(ValueError, match="no batch"):
        task().prepare(iter([]))


# --- export ---


@pytest.fixture
def fitted() -> LayerKMeans:
    torch.manual_seed(0)
    found = task()
    found.prepare(iter([batch_of(160, 160, 160)]))
    return found


def test_what_is_exported_is_what_was_fitted(fitted, tmp_path) -> None:
    assert fitted.export(tmp_path) == [tmp_path / "kmeans.safetensors"]
    assert load_file(tmp_path / "kmeans.safetensors")["layer_1"].dtype == torch.float32
    for found, centres in zip(read_kmeans(tmp_path, [1, 2]), fitted.codebooks.centres, strict=True):
        assert torch.equal(found, centres)


def test_the_released_layout_is_read_by_us_and_by_scikit_learn(fitted, tmp_path) -> None:
    fitted.export_format = "released"
    paths = fitted.export(tmp_path)
    assert [path.name for path in paths] == ["LibriSpeech_wavlm_k5_L1.pt", "LibriSpeech_wavlm_k5_L2.pt"]
    assert sorted(tmp_path.iterdir()) == paths
    ours, frames = read_kmeans(tmp_path, [1, 2]), torch.randn(100, 16)
    for path, found, centres in zip(paths, ours, fitted.codebooks.centres, strict=True):
        assert torch.equal(found, centres)
        model = joblib.load(path)
        assert type(model) is MiniBatchKMeans and model.cluster_centers_.dtype == np.float64
        tokens = NearestCentroid([found])([frames[None]])[0, :, 0]
        assert np.array_equal(model.predict(frames.double().numpy()), tokens.numpy())
        assert model.transform(frames.double().numpy()).shape == (100, 5)
    write_kmeans(tmp_path, {1: torch.zeros(5, 16)})
    with pytest.raises(ValueError, match="kmeans.safetensors, which readers would take instead"):
        fitted.export(tmp_path)


def test_half_the_size(fitted, tmp_path) -> None:
    fitted.export_dtype = "float16"
    fitted.export(tmp_path)
    assert load_file(tmp_path / "kmeans.safetensors")["layer_1"].dtype == torch.float16
    for found, centres in zip(read_kmeans(tmp_path, [1, 2]), fitted.codebooks.centres, strict=True):
        assert found.dtype == torch.float32 and torch.equal(found, centres.half().float())
    NearestCentroid(read_kmeans(tmp_path, [1, 2]))([torch.randn(1, 3, 16)] * 2)
    with torch.no_grad():
        fitted.codebooks.centres[0, 0, 0] = 1e5
    with pytest.raises(ValueError, match="too large for export_dtype float16"):
        fitted.export(tmp_path)


# --- the recipe ---


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> dict[str, Path]:
    paths = write_corpus(tmp_path_factory.mktemp("corpus"))
    return {"tr_data_scp_path": paths["tr_data_scp_path"], "cv_data_scp_path": paths["cv_clean_path"]}


def command(folder: Path, corpus: dict[str, Path], *arguments: object, **more: object) -> list[str]:
    """The real recipe at toy size: 4 steps of 2 crops in an epoch."""
    small = dict(gpus="cpu", num_workers=0, log_interval=1, save_interval="null", epoch=2, **corpus)
    small |= dict(wavlm_path=REFERENCE / "wavlm", crop_length=8080, batch_size=2, batch_size_eval=2, accumulate=1)
    small |= dict(num_clusters=20, reservoir_frames=100, reservoir_batches=3, patience=2)
    where = ["--config_path", "config/kmeans.yaml", "--log", folder / "log", "--ckpt_path", folder / "ckpt"]
    flags = [part for key, value in {**small, **more}.items() for part in ("--override", f"{key}={value}")]
    return ["train.py", *map(str, [*where, *flags, *arguments])]


def saved(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / f"ckpt/{name}.pth", weights_only=True)["model"]


def lines(folder: Path, kind: str) -> list[dict]:
    text = (folder / "log/metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = call(*command(folder, corpus, "--export", folder / "out", num_workers=1))
    assert done.returncode == 0, done.stderr
    return folder


def test_the_recipe_fits_codebooks_that_a_tokenizer_reads(whole) -> None:
    best = saved(whole, "best")["codebooks.centres"]
    for found, centres in zip(read_kmeans(whole / "out", LAYERS), best, strict=True):
        assert torch.equal(found, centres)
    tokenizer = Recipe(
        ROOT / "config/tselm_l.yaml",
        overrides=[f"kmeans_path={whole / 'out'}", f"wavlm_path={REFERENCE / 'wavlm'}", "num_clusters=20"],
    ).build("tokenizer")["tokenizer"]
    tokens = tokenizer.encode(torch.randn(1, 8080))
    assert tokens.shape == (1, 25, 6) and int(tokens.max()) < 20


def test_the_log_tells_inertia_usage_and_perplexity(whole) -> None:
    names = {f"{what}{layer}" for what in ("inertia", "usage", "perplexity") for layer in ("", "_layer_1", "_layer_23")}
    first, (start,), valid = lines(whole, "train"), lines(whole, "first evaluation"), lines(whole, "valid")
    assert len(first) == 8 and len(valid) == 2
    assert all(names <= line.keys() for line in [*first, start, *valid])
    assert "reseeded" in first[0] and 0 < first[0]["usage"] <= 100 and 1 < first[0]["perplexity"] <= 20
    assert valid[-1]["inertia"] < start["inertia"]
    layers = [valid[0][f"inertia_layer_{layer}"] for layer in LAYERS]
    assert valid[0]["inertia"] == pytest.approx(sum(layers) / 6)


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, corpus, whole) -> None:
    """And centres without frames were moved after the break."""
    arguments = command(tmp_path, corpus, num_workers=1, save_interval=1)
    stopped = stop_after_first_save(*arguments, checkpoint=tmp_path / "ckpt/last.pth")
    assert stopped.returncode == -signal.SIGKILL
    state = torch.load(tmp_path / "ckpt/last.pth", weights_only=True)["state"]["progress"]
    assert 1 <= state["step"] < 8
    moved = saved(tmp_path)["codebooks.reseeded"]
    done = run(*arguments)
    assert done.returncode == 0 and "continuing from" in done.stdout + done.stderr, done.stderr
    for name in ("last", "best"):
        a, b = saved(whole, name), saved(tmp_path, name)
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert saved(whole)["codebooks.reseeded"] > moved


@pytest.mark.parametrize("how", ["processes", "micro-batches"])
def test_two_processes_or_micro_batches_equal_one(tmp_path, corpus, whole, how: str) -> None:
    if how == "processes":
        done = run(*command(tmp_path, corpus, gpus="[cpu, cpu]"))
    else:
        done = call(*command(tmp_path, corpus, accumulate=2))
    assert done.returncode == 0, done.stderr
    a, b = saved(whole), saved(tmp_path)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5)
    for one, two in zip(lines(whole, "valid"), lines(tmp_path, "valid"), strict=True):
        assert one["inertia"] == pytest.approx(two["inertia"], rel=1e-5)
        assert one["perplexity"] == pytest.approx(two["perplexity"], rel=1e-5)


def test_a_finished_run_exports_in_the_released_layout(tmp_path, corpus) -> None:
    """Also in another precision of the encoder, and of some of the data."""
    few = dict(epoch=1, precision="bf16", tr_utterances=4, cv_utterances=2, ssl_layers="[3,7]", reservoir_frames=60)
    assert call(*command(tmp_path, corpus, **few)).returncode == 0
    out = tmp_path / "out"
    done = call(*command(tmp_path, corpus, "--export", out, export_format="released", export_name="toy", **few))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["toy_k20_L3.pt", "toy_k20_L7.pt"]
    for found, centres in zip(read_kmeans(out, [3, 7]), saved(tmp_path, "best")["codebooks.centres"], strict=True):
        assert torch.equal(found, centres)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(reservoir_frames=10), "reservoir_frames must be at least num_clusters, got 10 and 20"),
        (dict(num_clusters=200, reservoir_frames=200), "num_clusters is 200, but the first 3 batches"),
        (dict(patience=0), "patience above 0, got 0.99 and 0"),
        (dict(export_dtype="float8"), "got 'safetensors' and 'float8'"),
    ],
)
def test_mistakes_are_one_line_that_names_them(tmp_path, corpus, change: dict, message: str) -> None:
    done = call(*command(tmp_path, corpus, **change))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_paths_that_are_not_set_are_all_named(tmp_path) -> None:
    done = call("train.py", "--config_path", "config/kmeans.yaml", "--log", tmp_path, "--ckpt_path", tmp_path)
    assert done.returncode == 2
    assert all(key in done.stderr for key in ("tr_data_scp_path", "cv_data_scp_path", "wavlm_path"))
