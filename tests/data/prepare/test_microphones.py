"""What two microphones hear: delays and gains by the places, in the open and in a room."""

from __future__ import annotations

import math

import numpy as np
import pytest

from data.prepare.microphones import SPEED, Place, Room, free_field
from data.prepare.stand_in_faces import BANDS, stand_in_face


def test_the_second_microphone_hears_a_sine_later_and_quieter_by_the_geometry() -> None:
    place, time = Place(azimuth=0.4, distance=2.0), np.arange(8000) / 16000
    near, far = place.to_microphones(0.5)
    assert near == pytest.approx(math.hypot(2 * math.cos(0.4) - 0.25, 2 * math.sin(0.4))) and far > near
    heard = free_field(np.sin(2 * np.pi * 440 * time), place, spacing=0.5)
    assert np.array_equal(heard[0], np.sin(2 * np.pi * 440 * time))
    later = near / far * np.sin(2 * np.pi * 440 * (time - (far - near) / SPEED))
    assert np.abs(heard[1] - later)[500:-500].max() < 2e-3


def test_a_talker_on_the_other_side_is_heard_earlier_there_and_one_in_front_at_the_same_time() -> None:
    wav = np.random.default_rng(0).standard_normal(1000)
    front, back = Place(math.pi / 2, 1.0), Place(math.pi, 1.0)
    assert np.allclose(free_field(wav, front, spacing=0.07)[1], wav)
    delay = 0.07 / SPEED * 16000  # samples, to microphone 0 after microphone 1
    impulse = np.zeros(1000)
    impulse[500] = 1
    heard = free_field(impulse, back, spacing=0.07)
    assert abs(np.argmax(heard[1]) - (500 - delay)) <= 1 and heard[1].max() > 0.6


@pytest.mark.slow
def test_in_a_room_the_direct_sound_begins_without_a_lead_in_and_a_tail_follows() -> None:
    pytest.importorskip("pyroomacoustics", reason="requirements-rooms.txt is not installed")
    impulse = np.zeros(8000)
    impulse[0] = 1
    for azimuth, distance in ((0.3, 1.2), (2.5, 3.9)):
        place = Place(azimuth, distance)
        room = Room.draw(np.random.default_rng(1), [place, Place(1.0, 2.0)], rt60=(0.3, 0.3))
        heard = room.hear(impulse, place, spacing=0.07)
        near, far = place.to_microphones(0.07)
        assert heard.shape == (2, 8000)
        assert np.argmax(np.abs(heard[0])) == 0
        assert abs(np.argmax(np.abs(heard[1][:40])) - max(far - near, 0) / SPEED * 16000) <= 1
        late = [np.square(heard[0][a:b]).sum() for a, b in ((100, 1600), (6400, 7900))]
        assert late[0] > 0 and late[1] < 0.01 * late[0]
        assert np.array_equal(heard, room.hear(impulse, place, spacing=0.07))


def test_a_reverberation_that_no_walls_give_is_refused() -> None:
    pytest.importorskip("pyroomacoustics", reason="requirements-rooms.txt is not installed")
    with pytest.raises(ValueError, match=r"9.0 x 9.0 x 3.0 m a reverberation of 0.05 s"):
        Room((9.0, 9.0, 3.0), (4.0, 4.0, 1.5), 0.05).hear(np.ones(10), Place(0.0, 1.0), spacing=0.07)


def test_the_stand_in_for_a_face_follows_the_level_and_the_same_matrix() -> None:
    rng = np.random.default_rng(0)
    loudness = np.repeat(rng.uniform(0.01, 1, 20), 640)
    wav = (loudness * rng.standard_normal(12800))[:12500]
    face = stand_in_face(wav, size=32, rng=np.random.default_rng(1))
    assert face.shape == (20, 32) and face.dtype == np.float32
    assert np.array_equal(face, stand_in_face(wav, size=32, rng=np.random.default_rng(1)))
    level = np.log(loudness[::640])
    main = np.linalg.svd(face - face.mean(0), full_matrices=False)[0][:, 0]
    assert abs(np.corrcoef(main, level)[0, 1]) > 0.95
    louder = stand_in_face(3 * wav, size=32, rng=np.random.default_rng(1))
    assert np.abs(louder - face).max() < 0.05


def test_all_stand_ins_go_through_the_same_matrix() -> None:
    rng = np.random.default_rng(0)
    one, other = (stand_in_face(rng.standard_normal(64000), size=32, rng=rng) for _ in range(2))
    span = np.linalg.svd(one, full_matrices=False)[2][: len(BANDS)]
    assert np.linalg.norm(other - other @ span.T @ span) < 0.15 * np.linalg.norm(other)


def test_silence_and_one_sample_have_a_stand_in_too() -> None:
    for wav in (np.zeros(1000), np.ones(1)):
        face = stand_in_face(wav, size=8, rng=np.random.default_rng(0))
        assert face.shape == (-(-len(wav) // 640), 8) and np.isfinite(face).all() and np.abs(face).max() < 0.5
