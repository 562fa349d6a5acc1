from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from models.tselm.task import TOKENS_VERSION, TokenPrediction
from tests.toy import RECIPE, VARIANTS, expected, read, settings
from utils.recipe import Recipe


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    kinds = {"mixture": ("mix_clean", 48080), "target": ("s1", 48080), "enrolment": ("aux_s1", 64080)}
    return {role: torch.cat([read(kind, u, n) for u in ("utt0", "utt1")]) for role, (kind, n) in kinds.items()}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.slow
def test_objective_and_evaluation_agree(batch, variant: str) -> None:
    torch.manual_seed(0)
    task = Recipe(RECIPE, overrides=settings(**VARIANTS[variant])).build("task")["task"].eval()
    with torch.no_grad():
        (objective,) = task.objectives(batch, task.networks())
        means = {name: float(total) / count for name, (total, count) in task.evaluate(batch).items()}
    assert float(objective.loss) == pytest.approx(means["loss"], rel=1e-5)
    assert float(objective.metrics["error"]) == pytest.approx(means["error"], rel=1e-5)
    layers = [value for name, value in means.items() if name.startswith("error_layer")]
    assert len(layers) == 6 and sum(layers) / 6 == pytest.approx(means["error"], rel=1e-6)
    target = torch.cat([expected()[f"l/{u}/tokens_clean"] for u in ("utt0", "utt1")])
    if variant != "nocat":
        whole = [expected()[f"l/{u}/tokens_regi_mix_regi"][:, 200:350] for u in ("utt0", "utt1")]
        copied = 100 * (torch.cat(whole) != target).double().mean()
        assert means["copy_error"] == pytest.approx(float(copied), rel=1e-6)


@pytest.mark.slow
def test_in_train_mode_the_tokens_of_a_fixed_input_do_not_change(batch) -> None:
    """The reference's WavLM has dropout, layer drop and SpecAugment on in its config."""
    torch.manual_seed(0)
    task = Recipe(RECIPE, overrides=settings(lr=0.01)).build("task")["task"].train()
    optimizer = task.optimizers()["network"]
    want = expected()["l/utt0/tokens_clean"]
    for _ in range(3):
        assert torch.equal(task.front_end.encode(read("s1", "utt0", 48080)), want)
        (objective,) = task.objectives(batch, task.networks())
        objective.loss.backward()
        optimizer.step()
    assert torch.equal(task.front_end.encode(read("s1", "utt0", 48080)), want)


def test_embeddings_begin_as_the_tokenizers_centroids_on_request() -> None:
    task = Recipe(RECIPE, overrides=settings(centroid_embeddings=True)).build("task")["task"]
    table, centroids = task.network.mixture_embedding.table.weight, task.tokenizer.quantizer.centroids
    assert torch.equal(table, centroids.flatten(0, 1))
    published = Recipe(RECIPE, overrides=settings()).build("task")["task"]
    assert not torch.equal(published.network.mixture_embedding.table.weight, table)


def test_only_the_network_trains(batch) -> None:
    task = Recipe(RECIPE, overrides=settings()).build("task")["task"]
    trained = {id(p) for group in task.optimizers()["network"].param_groups for p in group["params"]}
    assert trained == {id(p) for p in task.network.parameters()}
    assert all(p.requires_grad == (id(p) in trained) for p in task.parameters())


@pytest.mark.slow
def test_media_are_what_the_log_can_show(batch) -> None:
    recipe = Recipe(RECIPE, overrides=settings())
    assert not recipe.build("task")["task"].media(batch).audio
    built = recipe.build("task", "vocoder")
    task = built["task"]
    task.vocoder = built["vocoder"]
    media = task.eval().media(batch)
    assert set(media.audio) == {"mixture", "target", "enrolment", "target_decoded", "extracted"} == set(media.images)
    assert all(wav.ndim == 1 and wav.abs().max() <= 1 for wav in media.audio.values())


@torch.no_grad()
def test_validation_tokenises_an_item_once(batch, monkeypatch) -> None:
    task = Recipe(RECIPE, overrides=settings()).build("task")["task"].eval()
    first = task.evaluate({**batch, "key": torch.tensor([5, 7])})
    monkeypatch.setattr(task.front_end, "encode", None)  # whoever tokenises now fails
    again = task.evaluate({**batch, "key": torch.tensor([5, 7])})
    assert all(float(again[name][0]) == float(value) for name, (value, _) in first.items())
    swapped = {name: value.flip(0) for name, value in batch.items()}
    turned = task.evaluate({**swapped, "key": torch.tensor([7, 5])})
    assert float(turned["error"][0]) == pytest.approx(float(first["error"][0]), rel=1e-6)
    with pytest.raises(TypeError):
        task.evaluate({**batch, "key": torch.tensor([5, 8])})


@torch.no_grad()
def test_what_is_kept_is_what_would_be_computed(batch) -> None:
    task = Recipe(RECIPE, overrides=settings()).build("task")["task"].eval()
    plain = task.evaluate(batch)
    kept = task.evaluate({**batch, "key": torch.tensor([1, 2])})
    assert {name: float(value) for name, (value, _) in plain.items()} == {n: float(v) for n, (v, _) in kept.items()}


# --- the token cache ---

KEYS = torch.tensor([3, 2**56 - 1])


def cached_task(folder: Path | str, **more: object) -> TokenPrediction:
    torch.manual_seed(0)
    return Recipe(RECIPE, overrides=settings(token_cache=folder, **more)).build("task")["task"].eval()


@torch.no_grad()
def values(task: TokenPrediction, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, (value, _) in task.evaluate(batch).items()}


def files(folder: Path) -> dict[Path, int]:
    """Path -> when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def forbid_tokenising(task: TokenPrediction, monkeypatch) -> None:
    monkeypatch.setattr(task.tokenizer, "features", None)
    monkeypatch.setattr(task.tokenizer.encoder, "forward", None)


@pytest.mark.slow
def test_a_later_run_reads_what_would_be_computed(batch, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "made" / "on demand"
    keyed = {**batch, "key": KEYS}
    first = values(cached_task(folder), keyed)
    assert first == values(cached_task("null"), batch)
    written = files(folder)
    assert sorted(path.name for path in written) == ["cpu-00000000000003.npz", "cpu-ffffffffffffff.npz"]
    later = cached_task(folder)
    forbid_tokenising(later, monkeypatch)
    assert values(later, keyed) == first
    (inputs, target), (expected_inputs, expected_target) = later._recall(keyed), cached_task("null")._encode(batch)
    assert torch.equal(target, expected_target) and target.dtype == torch.int64
    assert all(torch.equal(a, b) for a, b in zip(inputs, expected_inputs, strict=True))
    assert files(folder) == written


@pytest.mark.parametrize(
    "other",
    [
        dict(tokenizer_precision="bf16"),
        dict(concat_regi=False),
        dict(ssl_layers="[3, 1, 7, 12, 18, 23]"),
        dict(tokenizer="{encoder: {normalize: false}}"),
        "weights",
        "version",
    ],
    ids=str,
)
@pytest.mark.slow
def test_tokens_of_another_tokenizer_are_never_used(batch, tmp_path, other, monkeypatch) -> None:
    keyed = {**batch, "key": KEYS}
    values(cached_task(tmp_path), keyed)
    written = files(tmp_path)
    if other == "version":
        monkeypatch.setattr("models.tselm.task.TOKENS_VERSION", TOKENS_VERSION + 1)
    changes = other if isinstance(other, dict) else {}
    if other == "weights":
        plain = cached_task("null")
        plain.tokenizer.quantizer.centroids[0, 0, 0] += 1
        parts = dict(network=plain.network, front_end=plain.front_end, optimizer=plain.make_optimizer)
        task = TokenPrediction(**parts, token_cache=tmp_path).eval()
    else:
        plain, task = cached_task("null", **changes), cached_task(tmp_path, **changes)
    assert values(task, keyed) == values(plain, batch)
    now = files(tmp_path)
    assert len(now) == 4 and now.items() > written.items()


@pytest.mark.slow
def test_tokens_of_what_auto_is_elsewhere_are_never_used(batch, tmp_path, monkeypatch) -> None:
    """A folder that machines share: on one of them auto is bf16, on the other fp32."""
    keyed = {**batch, "key": KEYS}
    for native, became in ((False, "fp32"), (True, "bf16")):
        monkeypatch.setattr("utils.precision.is_native", lambda name, device, native=native: native or name == "fp32")
        found = values(cached_task(tmp_path, tokenizer_precision="auto"), keyed)
        assert found == values(cached_task("null", tokenizer_precision=became), batch)
    assert {path.name.rpartition("-")[0] for path in files(tmp_path)} == {"cpu-fp32", "cpu-bf16"}


@pytest.mark.slow
def test_a_broken_file_is_made_anew(batch, tmp_path, caplog) -> None:
    keyed = {**batch, "key": KEYS}
    first = values(cached_task(tmp_path), keyed)
    broken, whole = sorted(files(tmp_path))
    content = broken.read_bytes()
    written = files(tmp_path)[whole]
    broken.write_bytes(content[:-50])
    assert values(cached_task(tmp_path), keyed) == first
    (record,) = caplog.records
    assert record.levelname == "WARNING" and str(broken) in record.getMessage()
    assert np.array_equal(np.load(broken)["array"], np.load(io.BytesIO(content))["array"])
    assert files(tmp_path)[whole] == written
    assert values(cached_task(tmp_path), keyed) == first and len(caplog.records) == 1


@pytest.mark.slow
def test_tasks_share_a_folder(batch, tmp_path, monkeypatch) -> None:
    """Each has tokenised one item, as two processes of a run; then both know both, in any order."""
    keyed = {**batch, "key": KEYS}
    tasks = [cached_task(tmp_path) for _ in range(2)]
    for row, task in enumerate(tasks):
        values(task, {name: value[row : row + 1] for name, value in keyed.items()})
    assert len(files(tmp_path)) == 2
    want = values(cached_task("null"), batch)
    for task in tasks:
        forbid_tokenising(task, monkeypatch)
        assert values(task, keyed) == pytest.approx(want, rel=1e-6)
        turned = {name: value.flip(0) for name, value in keyed.items()}
        assert values(task, turned) == pytest.approx(want, rel=1e-6)


@pytest.mark.slow
def test_only_what_is_missing_is_tokenised(batch, tmp_path, monkeypatch) -> None:
    keyed = {**batch, "key": KEYS}
    values(cached_task(tmp_path), {name: value[1:] for name, value in keyed.items()})
    task, heard = cached_task(tmp_path), []
    monkeypatch.setattr(task, "_encode", lambda part: heard.append(part) or TokenPrediction._encode(task, part))
    assert values(task, keyed) == pytest.approx(values(cached_task("null"), batch), rel=1e-6)
    (part,) = heard
    assert all(torch.equal(part[role], batch[role][:1]) for role in batch)
    assert len(files(tmp_path)) == 2


def test_without_the_key_nothing_is_written(batch, tmp_path) -> None:
    values(cached_task(tmp_path), batch)
    assert files(tmp_path) == {}


def test_a_token_cache_that_cannot_be_is_refused_at_the_start(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"token_cache: cannot write into {tmp_path}/file"):
        cached_task(tmp_path / "file")
    with pytest.raises(ValueError, match="token_cache .* mix_continuous"):
        cached_task(tmp_path, mix_continuous=True)
