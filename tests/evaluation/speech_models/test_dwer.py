"""The word error of what Whisper hears, against the libraries called directly."""

from __future__ import annotations

import json
import shutil

import jiwer
import numpy as np
import pytest
import torch
import transformers

from evaluation.metric import Signals, Unavailable, Unscorable
from evaluation.speech_models import DifferentialWER
from tests.speech_models import (
    BOTH,
    EN,
    END,
    NO_TIMES,
    OUTPUT,
    RATE,
    START,
    TARGET,
    TRANSCRIBE,
    WORDS,
    loaded,
    save,
    tone,
)


def greedy_words(folder, wav: np.ndarray) -> str:
    """What Whisper hears in a short signal, one word at a time."""
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    features = transformers.WhisperFeatureExtractor.from_pretrained(folder)(
        wav, sampling_rate=RATE, return_tensors="pt"
    )
    ids = [START, EN, TRANSCRIBE, NO_TIMES]
    while len(ids) < 4 + 16 and ids[-1] != END:
        with torch.no_grad():
            logits = model(features.input_features, decoder_input_ids=torch.tensor([ids])).logits[0, -1]
        logits[:256] = logits[START : NO_TIMES + 1] = -torch.inf
        if len(ids) == 4:
            logits[END] = -torch.inf
        ids.append(int(logits.argmax()))
    heard = [token for token in ids[4:] if token != END]
    assert all(256 <= token < END for token in heard), "the example must have words only"
    return " ".join(WORDS[token - 256] for token in heard)


@pytest.mark.slow
def test_dwer_is_that_of_what_whisper_hears(whisper) -> None:
    metric, tokenizer = (
        loaded(DifferentialWER(source=str(whisper))),
        transformers.WhisperTokenizer.from_pretrained(whisper),
    )
    normalized_differs = False
    for seed in range(0, 6, 2):
        output, target = tone(seed), tone(seed + 1)
        heard, reference = greedy_words(whisper, output), greedy_words(whisper, target)
        assert metric.transcribe(output).strip() == heard and metric.transcribe(target).strip() == reference
        assert heard and reference and heard != reference
        words = jiwer.process_words(tokenizer.normalize(reference), tokenizer.normalize(heard))
        errors = words.substitutions + words.deletions + words.insertions
        score = metric.score(Signals(output, target=target))
        assert score["dwer"] == pytest.approx(jiwer.wer(reference, heard), abs=1e-6) and score["dwer"] > 0
        assert score["dwer_normalized"] == (errors, len(words.references[0]))
        normalized_differs |= abs(words.wer - score["dwer"]) > 1e-3
    assert normalized_differs


def test_a_file_longer_than_whispers_window_is_heard_to_its_end(whisper) -> None:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    processor = transformers.WhisperProcessor.from_pretrained(whisper)
    metric = loaded(DifferentialWER(source=str(whisper)))
    wav = np.concatenate([tone(seed, 16000) for seed in range(3)])
    how = dict(truncation=False, padding="longest", return_attention_mask=True)
    ids = model.generate(
        **processor(audio=wav, sampling_rate=RATE, return_tensors="pt", **how),
        return_timestamps=True, language="en", task="transcribe",
    )  # fmt: skip
    reference = processor.batch_decode(ids, skip_special_tokens=True)[0]
    assert metric.transcribe(wav) == reference
    first = metric.transcribe(wav[: RATE + 160])
    assert len(reference.split()) > len(first.split()) > 0
    score = metric.score(Signals(np.zeros_like(wav), target=wav))
    assert score["dwer"] == pytest.approx(jiwer.wer(reference, metric.transcribe(np.zeros_like(wav))), abs=1e-6)


@pytest.mark.slow
def test_a_whisper_that_hardly_gets_on_comes_to_an_end(whisper, tmp_path) -> None:
    """One that gives <|0.00|> first and then <|0.02|> wherever it may."""
    folder = shutil.copytree(whisper, tmp_path / "model")
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        model.model.decoder.layer_norm.bias += 10
        model.model.decoder.embed_tokens.weight[NO_TIMES + 2] = 10
    model.generation_config.max_initial_timestamp_index = 0
    model.generation_config.suppress_tokens += range(NO_TIMES + 3, len(model.model.decoder.embed_tokens.weight))
    save(model, folder)
    metric = loaded(DifferentialWER(source=str(folder)))
    with pytest.raises(Unscorable, match="^Whisper gets on by less than a thirtieth of its window a time, 32 times$"):
        metric.transcribe(tone(0, 17000))
    calls = []
    metric._model.get_encoder().register_forward_hook(lambda *_: calls.append(1))
    assert metric.transcribe(tone(0, 16000)) == "" and len(calls) == 1  # where it should give no timestamps


def test_a_whisper_of_english_alone(whisper, tmp_path) -> None:
    """It refuses to be told a language, and its transcripts begin without one."""
    folder = shutil.copytree(whisper, tmp_path / "model")
    settings = json.loads((folder / "generation_config.json").read_text())
    del settings["lang_to_id"], settings["task_to_id"]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(Unavailable, match=f"{folder}.*no <|en|>"):
        loaded(DifferentialWER(source=str(folder)))
    (folder / "generation_config.json").write_text(json.dumps(settings | {"is_multilingual": False}))
    assert loaded(DifferentialWER(source=str(folder))).transcribe(tone(0)).split()


def hearing(metric, monkeypatch, *, target: str, output: str):
    """The metric, as if Whisper heard this in ``TARGET`` and ``OUTPUT``; and the list of what it listened to."""
    heard = {TARGET.tobytes(): target, OUTPUT.tobytes(): output}
    asked = []
    monkeypatch.setattr(metric, "transcribe", lambda wav: asked.append(wav) or heard[wav.tobytes()])
    return metric, asked


@pytest.mark.parametrize(
    "target, output, dwer, normalized",
    [
        (" Colour of two cats.", " color of 2 cats", 3 / 4, (0, 4)),
        (" one day", "", 1.0, (2, 2)),
        (" Hello, Mister Grey.", " hello mister gray, (coughs) good night", 6 / 3, (2, 3)),
        (" one day at a time", " one bay at time now", 3 / 5, (3, 5)),
    ],
)
def test_dwer_by_hand(whisper, monkeypatch, target, output, dwer, normalized) -> None:
    metric, _ = hearing(DifferentialWER(source=str(whisper)), monkeypatch, target=target, output=output)
    assert metric.score(BOTH) == {"dwer": pytest.approx(dwer, abs=1e-12), "dwer_normalized": normalized}


@pytest.mark.parametrize("target", ["", " ", " ...", " (upbeat music)"])
def test_a_target_without_words_is_unscorable(whisper, monkeypatch, target: str) -> None:
    metric, _ = hearing(DifferentialWER(source=str(whisper)), monkeypatch, target=target, output=" hello")
    with pytest.raises(Unscorable, match="^Whisper hears no words in the target$"):
        metric.score(BOTH)


def test_a_target_is_heard_once_for_all_its_outputs(whisper, monkeypatch) -> None:
    metric, asked = hearing(DifferentialWER(source=str(whisper)), monkeypatch, target=" one", output=" ten")
    expected = {"dwer": 1.0, "dwer_normalized": (1, 1)}
    assert metric.score(BOTH) == metric.score(Signals(OUTPUT.copy(), target=TARGET.copy())) == expected
    assert [wav.tobytes() for wav in asked] == [wav.tobytes() for wav in (TARGET, OUTPUT, OUTPUT)]
    assert metric.score(Signals(OUTPUT, target=OUTPUT)) == {"dwer": 0.0, "dwer_normalized": (0, 1)}
    assert metric.score(BOTH) == expected


def test_without_its_table_of_spellings_the_definition_says_so(whisper, monkeypatch, tmp_path) -> None:
    folder = shutil.copytree(whisper, tmp_path / "model")
    (folder / "normalizer.json").unlink()
    metric, _ = hearing(DifferentialWER(source=str(folder)), monkeypatch, target=" grey cats", output=" gray cats")
    assert metric.score(BOTH)["dwer_normalized"] == (1, 2)
    assert "without its table of spellings" in metric.columns[1].definition
    assert "without its table" not in DifferentialWER(source=str(whisper)).columns[1].definition


def test_dwer_columns(whisper) -> None:
    mean, ratio = DifferentialWER(source=str(whisper)).columns
    assert (mean.is_ratio, ratio.is_ratio, mean.better, ratio.better) == (False, True, "lower", "lower")
