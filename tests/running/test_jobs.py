"""Which jobs there are, and which are done together."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.interfaces import Role
from running.jobs import Job, groups, measure, require_no_input_is_output
from running.shard import Shard


def jobs_of(folder: Path, count: int) -> list[Job]:
    names = [f"utt{i}" for i in range(count)]
    return [Job(n, {"audio": str(folder / "m.wav")}, {n: {"speech": str(folder / f"{n}.wav")}}) for n in names]


def names(some: list) -> list[list[str]]:
    return [[job.name for job in group.jobs] for group in some]


def nothing(job: Job) -> bool:
    return False


def test_short_files_are_together_and_long_ones_alone_the_longest_first(tmp_path) -> None:
    jobs = jobs_of(tmp_path, 200)
    seconds = {job.name: 5.0 + number % 3 for number, job in enumerate(jobs)} | {"utt7": 300.0}
    made = groups(jobs, seconds, batch_seconds=24.0, is_done=nothing)
    assert names(made)[0] == ["utt7"]
    assert sorted(name for group in names(made) for name in group) == sorted(seconds)
    totals = [sum(seconds[name] for name in group) for group in names(made)[1:]]
    assert max(totals) <= 24.0 and min(totals[:-1]) > 24.0 - 7.0
    longest = [max(seconds[name] for name in group) for group in names(made)]
    assert longest == sorted(longest, reverse=True)


def test_what_is_done_changes_no_group(tmp_path) -> None:
    """Results are the same whether a run was interrupted or not, to the last bit."""
    jobs = jobs_of(tmp_path, 100)
    seconds = {job.name: 1.0 for job in jobs}
    before = groups(jobs, seconds, batch_seconds=3.0, is_done=nothing)
    done = {job.name for job in before[0].jobs + before[1].jobs[:1]}
    after = groups(jobs, seconds, batch_seconds=3.0, is_done=lambda job: job.name in done)
    assert names(after) == names(before)[1:]
    assert after[0].wanted == {job.name for job in before[1].jobs[1:]}


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_have_all_groups_once_and_as_they_are_without(tmp_path, count: int) -> None:
    jobs = jobs_of(tmp_path, 100)
    seconds = {job.name: 1.0 + number % 7 for number, job in enumerate(jobs)}
    whole = groups(jobs, seconds, batch_seconds=6.0, is_done=nothing)
    parts = [
        groups(jobs, seconds, batch_seconds=6.0, is_done=nothing, shard=Shard(index, count))
        for index in range(1, count + 1)
    ]
    assert sorted(map(str, names([group for part in parts for group in part]))) == sorted(map(str, names(whole)))
    sizes = [sum(seconds[name] for group in names(part) for name in group) for part in parts]
    assert max(sizes) < 1.5 * min(sizes)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_shard_is_i_of_n(text: str) -> None:
    with pytest.raises(ValueError, match="a shard is i/n"):
        Shard.parse(text)


@pytest.mark.parametrize("batch_seconds", [0.0, 1000.0])
def test_a_few_files_are_not_put_together_or_processes_would_wait(tmp_path, batch_seconds: float) -> None:
    jobs = jobs_of(tmp_path, 10)
    made = groups(jobs, {job.name: 3.0 for job in jobs}, batch_seconds=batch_seconds, is_done=nothing)
    assert names(made) == [[job.name] for job in jobs]
    assert groups([], {}, batch_seconds=batch_seconds, is_done=nothing) == []


@pytest.mark.parametrize("batch_seconds", [-1.0, float("nan"), "24", None])
def test_batch_seconds_is_a_number_not_below_0(tmp_path, batch_seconds) -> None:
    with pytest.raises(ValueError, match="batch_seconds must be a number of seconds"):
        groups([], {}, batch_seconds=batch_seconds, is_done=nothing)


@pytest.mark.parametrize("link", ["same", "symbolic", "hard"])
def test_a_result_never_overwrites_an_input(tmp_path, link: str) -> None:
    """A recording was once overwritten by its own extraction."""
    recording, output = tmp_path / "talk.wav", tmp_path / "out.wav"
    recording.write_bytes(b"sound")
    if link == "symbolic":
        output.symlink_to(recording)
    elif link == "hard":
        output.hardlink_to(recording)
    else:
        output = tmp_path / "sub/../talk.wav"
        (tmp_path / "sub").mkdir()
    inputs = {"mixture": str(recording), "enrolment": str(recording)}
    job = Job("talk", inputs, {"talk": {"speech": str(output)}})
    roles = {"mixture": Role("audio", "m.scp"), "enrolment": Role("audio", "e.scp")}
    with pytest.raises(ValueError, match="is the mixture of talk.*choose another output"):
        require_no_input_is_output([job], roles)
    output.unlink()
    require_no_input_is_output([job], roles)


def test_lengths_that_are_known_need_no_file_to_be_opened(tmp_path, monkeypatch) -> None:
    import numpy as np
    import soundfile as sf

    from data import audio

    sf.write(tmp_path / "m.wav", np.zeros(8000), 16000)
    jobs, role = jobs_of(tmp_path, 1), Role("audio", "a.scp", sample_rate=16000)
    seconds, broken, kept = measure(jobs, {"audio": role}, known={})
    assert seconds == {"utt0": 0.5} and not broken
    known = {path: list(length) for path, length in kept.items()}
    monkeypatch.setattr(audio, "header", None)
    assert measure(jobs, {"audio": role}, known=known)[0] == {"utt0": 0.5}


def test_the_first_input_that_a_job_has_is_measured(tmp_path) -> None:
    """Both are optional: units in one line of a list, audio in the next."""
    import numpy as np
    import soundfile as sf

    sf.write(tmp_path / "a.wav", np.zeros(8000), 16000)
    np.save(tmp_path / "u.npy", np.zeros((75, 1), np.int16))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    roles = {
        "units": Role("tokens", "units.scp", sample_rate=50, optional=True),
        "audio": Role("audio", "audio.scp", sample_rate=16000, optional=True),
    }
    given = {
        "units": {"units": "u.npy"}, "audio": {"audio": "a.wav"}, "both": {"audio": "a.wav", "units": "u.npy"},
        "none": {}, "ghost": {"units": "ghost.npy"}, "objects": {"units": "objects.npy"}, "lost": {"audio": "lost.wav"},
    }  # fmt: skip
    jobs = [Job(n, {role: str(tmp_path / path) for role, path in ins.items()}, {}) for n, ins in given.items()]
    seconds, broken, kept = measure(jobs, roles, known={})
    assert seconds == {"units": 1.5, "audio": 0.5, "both": 1.5}
    assert broken.keys() == {"none", "ghost", "objects", "lost"} and list(kept) == [str(tmp_path / "a.wav")]
    assert broken["none"] == "none of units.scp, audio.scp has it"
    assert "ghost.npy" in broken["ghost"] and "objects.npy" in broken["objects"] and "lost.wav" in broken["lost"]
