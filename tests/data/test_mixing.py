from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from data.mixing import mix_published, mix_symmetric
from tests.toy import REFERENCE


@pytest.mark.parametrize("case", ["a", "b"])
def test_parity_with_the_reference(case: str) -> None:
    data = {k.split("/")[1]: v for k, v in load_file(REFERENCE / "mixing_u0.4.safetensors").items() if k[0] == case}
    inputs = [data[f"{name}_in"].squeeze() for name in ("target", "interferer", "enrolment")]
    copies = [x.copy() for x in inputs]
    mixed = mix_published(*inputs, draw=0.4)
    for name in ("mixture", "target", "enrolment"):
        np.testing.assert_allclose(getattr(mixed, name), data[name].squeeze(), atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, copies, strict=True))


def noise(seed: int, size: int = 8000) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def ratio_db(mixed) -> float:
    interferer = mixed.mixture - mixed.target
    return float(10 * np.log10(np.mean(mixed.target**2) / np.mean(interferer**2)))


def test_symmetric_ratios_are_uniform_in_the_range() -> None:
    draws = (np.arange(200) + 0.5) / 200
    ratios = [ratio_db(mix_symmetric(3 * noise(0), noise(1), noise(2), draw=d, range_db=5.0)) for d in draws]
    np.testing.assert_allclose(ratios, 10 * draws - 5, atol=0.01)
    assert np.mean(np.array(ratios) < 0) == 0.5


@pytest.mark.parametrize("level", [0.001, 1.0, 30.0])
def test_symmetric_mixing_does_not_drown_a_quiet_enrolment(level: float) -> None:
    """It once kept its own level while the talkers were brought to theirs: 28 dB below the mixture."""
    mixed = mix_symmetric(noise(0), noise(1), level * noise(2, 16000), draw=0.5, range_db=5)
    powers = [np.mean(x**2) for x in (mixed.enrolment, mixed.mixture - mixed.target)]
    assert powers[0] == pytest.approx(powers[1], rel=0.01)


def test_published_mixing_never_makes_the_target_quieter_than_it_is() -> None:
    natural = float(10 * np.log10(np.mean(noise(0) ** 2) / np.mean(noise(1) ** 2)))
    for draw in (0.0, 0.3, 0.999):
        mixed = mix_published(noise(0), noise(1), noise(2), draw=draw)
        assert ratio_db(mixed) == pytest.approx(natural + 5 * draw, abs=0.01)


@pytest.mark.parametrize("mix", [mix_published, lambda *a, draw: mix_symmetric(*a, draw=draw, range_db=5)])
def test_scale_silence_and_type(mix) -> None:
    silent = np.zeros(8000, dtype=np.float32)
    for target, interferer, enrolment in (
        (noise(0), noise(1), 9 * noise(2)),
        (silent, noise(1), noise(2)),
        (noise(0), silent, noise(2)),
        (silent, silent, silent),
    ):
        mixed = mix(target, interferer, enrolment, draw=0.7)
        assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in mixed)
        peak = max(np.abs(x).max() for x in mixed)
        assert peak == pytest.approx(1.0 if enrolment.any() else 0.0)


def test_padding_does_not_make_a_short_talker_louder() -> None:
    short = np.concatenate([noise(0, 2000), np.zeros(6000, dtype=np.float32)])
    mixed = mix_symmetric(short, noise(1), noise(2), draw=0.5, range_db=5)
    power = np.mean(mixed.target[:2000] ** 2) / np.mean((mixed.mixture - mixed.target) ** 2)
    assert power == pytest.approx(1.0, abs=0.01)
