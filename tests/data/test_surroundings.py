"""Rooms, noise and bands: what is promised of levels and of time, and that all of it follows from the item alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from data import audio
from data.audio import SAMPLE_RATE
from data.extraction import OnTheFlyMixtures
from data.mixing import Mixed
from data.surroundings import NOISES, Surroundings, coloured, impulse_response
from tests.toy import ROOT, write_corpus
from utils.recipe import Recipe

CLEAN = dict(room=0.0, noise=0.0, band=0.0, level_db=(0.0, 0.0))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def mixed(samples: int = 24000) -> Mixed:
    rng = np.random.default_rng(5)
    target, interferer, enrolment = rng.standard_normal((3, samples)).astype(np.float32) / 9
    target[:4000] = 0
    return Mixed(target + interferer, target, enrolment)


def nobody(length: int, rng: np.random.Generator) -> np.ndarray:
    raise AssertionError("no other talker is wanted here")


def somebody(length: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(length).astype(np.float32)


def place(signals: Mixed, seed: int = 1, others=nobody, **settings) -> Mixed:
    return Surroundings(**{**CLEAN, **settings})(signals, np.random.default_rng(seed), others)


def decibels(wav: np.ndarray) -> float:
    return 10 * np.log10(np.square(wav, dtype=np.float64).mean())


def test_nowhere_is_what_was_there_but_for_the_scale() -> None:
    before = mixed()
    after = place(before)
    scale = 1 / np.abs(before.mixture).max()
    np.testing.assert_allclose(after.mixture, before.mixture * scale, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after.target, before.target * scale, rtol=1e-5, atol=1e-6)
    assert np.abs(after.enrolment).max() == pytest.approx(1)


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_the_level_and_is_not_in_the_target(kind: str) -> None:
    before = mixed()
    after = place(before, noise=1.0, snr_db=(7.0, 7.0), noises=[kind], others=somebody)
    scale = np.dot(after.target, before.target) / np.dot(before.target, before.target)
    np.testing.assert_allclose(after.target, before.target * scale, rtol=1e-4, atol=1e-6)
    speech = before.mixture * scale
    assert decibels(speech) - decibels(after.mixture - speech) == pytest.approx(7, abs=0.01)


@pytest.mark.parametrize(("kind", "slope"), [("white", 0), ("pink", -3), ("speech", -9)])
def test_colours_fall_as_they_should(kind: str, slope: float) -> None:
    spectrum = np.square(np.abs(np.fft.rfft(coloured(kind, SAMPLE_RATE * 4, np.random.default_rng(0)))))
    octaves = [10 * np.log10(spectrum[4 * low : 8 * low].mean()) for low in (2000, 4000)]
    assert octaves[1] - octaves[0] == pytest.approx(slope, abs=0.6)


@pytest.mark.parametrize(("rt60", "drr"), [(0.3, 0.0), (0.6, 10.0)])
def test_a_room_has_its_ratio_and_decays_in_its_time(rt60: float, drr: float) -> None:
    response = impulse_response(rt60, drr, np.random.default_rng(0)).astype(np.float64)
    assert response[0] == 1 and len(response) == round(rt60 * SAMPLE_RATE)
    assert -10 * np.log10(np.square(response[1:]).sum()) == pytest.approx(drr, abs=0.01)
    # Schroeder's backward integral, from -5 to -25 dB, times three.
    left = 10 * np.log10(np.cumsum(np.square(response[1:])[::-1])[::-1] / np.square(response[1:]).sum())
    fall = np.searchsorted(-left, [5, 25]) / SAMPLE_RATE
    assert 3 * (fall[1] - fall[0]) == pytest.approx(rt60, rel=0.15)


def test_the_target_is_early_and_stays_in_time() -> None:
    click = np.zeros(24000, dtype=np.float32)
    click[8000] = 0.5
    signals = Mixed(click, click, click)
    early = place(signals, room=1.0, drr_db=(0.0, 0.0), rt60=(0.5, 0.5))
    dry = place(signals, room=1.0, drr_db=(0.0, 0.0), rt60=(0.5, 0.5), early_ms=0.0)
    for after in (early, dry):
        assert not after.mixture[:7990].any() or np.abs(after.mixture[:7990]).max() < 1e-5
        assert np.abs(after.mixture).argmax() == np.abs(after.target).argmax() == 8000
        assert np.abs(after.mixture[10000:]).max() > 1e-3  # the tail is heard ...
        assert np.abs(after.target[8000 + 800 :]).max() < 1e-5  # ... and not wanted
    np.testing.assert_allclose(early.target[8000:8700], early.mixture[8000:8700], atol=1e-5)
    assert np.abs(dry.target[8001:]).max() < 1e-5


def test_an_absent_target_stays_silent_and_silence_stays_finite() -> None:
    everything = dict(room=1.0, noise=1.0, band=1.0, level_db=(-20.0, 0.0), others=somebody)
    silence = np.zeros(8000, dtype=np.float32)
    absent = place(mixed(8000)._replace(target=silence), **everything)
    assert not absent.target.any() and absent.mixture.any()
    for wav in place(Mixed(silence, silence, silence), **everything):
        assert np.isfinite(wav).all() and not wav.any()


@pytest.mark.parametrize("seed", range(6))
def test_bands_lack_what_is_above(seed: int) -> None:
    after = place(mixed(), seed=seed, band=1.0)
    spectrum = np.square(np.abs(np.fft.rfft(after.mixture)))
    per_hz = len(after.mixture) / SAMPLE_RATE
    assert spectrum[int(7800 * per_hz) :].mean() < 0.01 * spectrum[int(500 * per_hz) : int(2000 * per_hz)].mean()
    assert np.square(np.abs(np.fft.rfft(after.target)))[int(7800 * per_hz) :].mean() > 0  # it keeps its band


def test_levels_are_drawn_and_shared_by_mixture_and_target() -> None:
    before = mixed()
    peaks = set()
    for seed in range(8):
        after = place(before, seed=seed, level_db=(-30.0, -10.0))
        peak = max(np.abs(after.mixture).max(), np.abs(after.target).max())
        assert 10 ** (-30 / 20) * 0.999 <= peak <= 10 ** (-10 / 20) * 1.001
        assert decibels(after.mixture) - decibels(after.target) == pytest.approx(
            decibels(before.mixture) - decibels(before.target), abs=0.01
        )
        peaks |= {round(float(peak), 6), round(float(np.abs(after.enrolment).max()), 6)}
    assert len(peaks) == 16


def test_inputs_are_not_written_to() -> None:
    before = mixed()
    copies = [wav.copy() for wav in before]
    place(before, room=1.0, noise=1.0, band=1.0, others=somebody)
    for wav, copy in zip(before, copies, strict=True):
        np.testing.assert_array_equal(wav, copy)


def test_an_item_is_a_function_of_seed_epoch_and_index(corpus) -> None:
    def data(**more) -> OnTheFlyMixtures:
        settings = dict(epoch_num=9, mix_length=8000, regi_length=12000, seed=3)
        return OnTheFlyMixtures(speakers=corpus["tr_data_scp_path"], **{**settings, **more})

    here = Surroundings(room=1.0, noise=1.0, noises=["pink"])
    keys = [(0, 0), (0, 1), (1, 0)]
    items = {key: data(surroundings=here)[key] for key in keys}
    for key in reversed(keys):
        again = data(surroundings=here)[key]
        assert all(torch.equal(again[name], wav) and wav.dtype == torch.float32 for name, wav in items[key].items())
        assert not torch.equal(items[key]["mixture"], data()[key]["mixture"])
    assert data(surroundings=here).draw((0, 1)) == data().draw((0, 1))  # the same talkers, files and levels


def test_babble_is_of_strangers(corpus, tmp_path, monkeypatch) -> None:
    settings = dict(epoch_num=9, mix_length=800, regi_length=800)
    settings["surroundings"] = Surroundings(noise=1.0, noises=["babble"])
    with pytest.raises(ValueError, match="babble takes talkers who are not in the mixture"):
        OnTheFlyMixtures(speakers=corpus["tr_data_scp_path"], **settings)
    data = OnTheFlyMixtures(speakers=write_corpus(tmp_path, speakers=5)["tr_data_scp_path"], **settings)
    read: list[str] = []
    original = audio.read_crop

    def spy(path, **more):
        read.append(path.stem[0])  # "speaker-utterance"
        return original(path, **more)

    monkeypatch.setattr(audio, "read_crop", spy)
    for index in range(20):
        read.clear()
        data[0, index]
        assert len(read) == 3 + 2 * 5 and not set(read[:3]) & set(read[3:])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(room=1.2), r"room is a share and must be in \[0, 1\], got 1.2"),
        (dict(noise=-0.1), "noise is a share"),
        (dict(rt60=(0.5, 0.2)), r"rt60 must be a range .* got \[0.5, 0.2\]"),
        (dict(rt60=(0.2, 9.0)), "rt60 must be a range"),
        (dict(level_db=(-10.0, 3.0)), "level_db must be a range"),
        (dict(snr_db=(3.0,)), "snr_db must be a range"),
        (dict(noises=["rain"]), "noises must be some of white, pink, speech, babble"),
        (dict(noises=[]), "noises must be some of"),
        (dict(early_ms=-1.0), "early_ms must not be negative"),
    ],
)
def test_settings_that_cannot_work(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Surroundings(**setting)


def test_the_recipe_of_the_page_builds(tmp_path) -> None:
    index = write_corpus(tmp_path, speakers=5)["tr_data_scp_path"]
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/natural_voices.md").read_text(), flags=re.DOTALL)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(block.replace("../toy/", f"{ROOT}/config/toy/"))
    overrides = [f"tr_data_scp_path={index}", "num_workers=0", "surroundings.room=0.25"]
    dataset = Recipe(recipe, overrides=overrides).build("train_data")["train_data"].dataset
    assert (dataset.surroundings.room, dataset.surroundings.rt60) == (0.25, (0.15, 0.7))
    assert {name: len(wav) for name, wav in dataset[0, 0].items()} == {
        "mixture": 48080, "target": 48080, "enrolment": 32000,
    }  # fmt: skip
    plain = Recipe(ROOT / "config/toy/tselm.yaml", overrides=overrides[:2]).build("train_data")["train_data"].dataset
    assert plain.surroundings is None
