"""Metrics with pretrained models: random models of the same classes, against the libraries called directly."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import socket
import subprocess
import sys
import threading

import jiwer
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants
from tokenizers import AddedToken, pre_tokenizers
from torchmetrics.functional.audio import nisqa as torchmetrics_nisqa
from transformers.utils import logging

from data.prepare import fetch
from evaluation import nisqa
from evaluation.metric import Signals, Unavailable, Unscorable
from evaluation.nisqa import NISQA
from evaluation.speech_models import DifferentialWER, SpeakerSimilarity, SpeechBERTScore
from tests.data.prepare.file_server import Served, Server
from tests.toy import ROOT

RATE = 16000
SIZES = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7)
SSL = dict(feat_extract_norm="layer", conv_bias=True, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)
WORDS = "Colour color of Cats. cats grey gray Mister one day Night, blue".split()
SPECIAL = [f"<|{name}|>" for name in "endoftext startoftranscript en transcribe startofprev notimestamps".split()]
END, START, EN, TRANSCRIBE, _, NO_TIMES = range(len(WORDS) + 256, len(WORDS) + 256 + len(SPECIAL))
SPELLINGS = {"colour": "color", "grey": "gray"}
NISQA_ARGS = dict(
    cnn_kernel_size=[3, 3], cnn_pool_1=[24, 7], cnn_pool_2=[12, 5], cnn_pool_3=[6, 3], cnn_dropout=0.2,
    cnn_c_out_1=2, cnn_c_out_2=3, cnn_c_out_3=4, td_sa_d_model=8, td_sa_nhead=1, td_sa_num_layers=2, td_sa_h=8,
    td_sa_dropout=0.1, pool_att_h=8, pool_att_dropout=0.1, ms_seg_length=15, ms_seg_hop_length=4, ms_max_segments=40,
    ms_n_fft=4096, ms_hop_length=0.01, ms_win_length=0.02, ms_n_mels=48, ms_fmax=20000,
)  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """As with HF_HUB_OFFLINE; and whoever looks up another machine's name fails the test."""
    asked, real = [], socket.getaddrinfo

    def look_up(host, *args, **kwargs):
        if host != "127.0.0.1":
            asked.append(host)
            raise OSError("there is no network in tests")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    assert asked == []


def tone(seed: int, length: int = 9000) -> np.ndarray:
    """A few harmonics, some noise, and an offset that a normalisation would take away."""
    random = np.random.default_rng(seed)
    phase = np.cumsum(random.uniform(0.02, 0.2) * (1 + 0.3 * np.sin(np.arange(length) / 2000)))
    wav = sum(random.uniform(0, 0.1) * np.sin(k * phase) for k in range(1, 5)) + 0.02
    return (wav + random.normal(0, 0.01, length)).astype(np.float32)


def save(model, folder) -> None:
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()


def make(kind, settings):
    """A model, the same in every run."""
    torch.manual_seed(0)
    return shake(kind(settings), 0.1)


def shake(model, scale: float):
    """Change all weights, also the biases, which transformers leaves at 0."""
    with torch.no_grad():
        for weight in model.parameters():
            weight += scale * torch.randn_like(weight)
    return model.eval()


@pytest.fixture(scope="module", params=["Hubert", "WavLM"])
def ssl(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config = getattr(transformers, f"{request.param}Config")(**SIZES, **SSL)
    save(make(getattr(transformers, f"{request.param}Model"), config), folder)
    return folder


@pytest.fixture(scope="module")
def xvector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xvector")
    config = transformers.WavLMConfig(
        **SIZES, **SSL, tdnn_dim=(8, 8, 8, 8, 12), xvector_output_dim=8, use_weighted_layer_sum=True
    )
    model = make(transformers.WavLMForXVector, config)
    for part in (model.projector, model.tdnn, model.feature_extractor):
        shake(part, 0.5)  # or else its biases would hide the signal
    save(model, folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """It hears one second at a time, and knows twelve words."""
    folder = tmp_path_factory.mktemp("whisper")
    names = sorted(pre_tokenizers.ByteLevel.alphabet()) + [f"Ġ{word}" for word in WORDS]
    tokenizer = transformers.WhisperTokenizer(vocab={name: index for index, name in enumerate(names)}, merges=[])
    tokenizer.add_tokens([AddedToken(name, special=True) for name in SPECIAL], special_tokens=True)
    tokenizer.add_tokens([AddedToken(f"<|{0.02 * i:.2f}|>", normalized=False) for i in range(51)])
    assert tokenizer.convert_tokens_to_ids(["ĠColour", *SPECIAL]) == [256, END, START, EN, TRANSCRIBE, _, NO_TIMES]
    tokenizer.save_pretrained(folder)
    (folder / "normalizer.json").write_text(json.dumps(SPELLINGS))
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    ends = dict(pad_token_id=END, bos_token_id=END, eos_token_id=END, decoder_start_token_id=START)
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=8, max_source_positions=50, max_target_positions=32, d_model=16,
        encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=16, init_std=1.0, **ends,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[NO_TIMES + 1 :] *= 0.1  # few timestamps but the ones it must give
    model.generation_config = transformers.GenerationConfig(
        **ends, max_length=16, suppress_tokens=[*range(256), *range(START, NO_TIMES + 1)],
        begin_suppress_tokens=[END], is_multilingual=True, lang_to_id={"<|en|>": EN},
        task_to_id={"transcribe": TRANSCRIBE}, no_timestamps_token_id=NO_TIMES, max_initial_timestamp_index=50,
    )  # fmt: skip
    save(model, folder)
    return folder


@pytest.fixture(scope="module")
def nisqa_tar(tmp_path_factory):
    path = tmp_path_factory.mktemp("nisqa") / "nisqa.tar"
    model = make(torchmetrics_nisqa._NISQADIM, NISQA_ARGS)
    torch.save({"args": NISQA_ARGS, "model_state_dict": model.state_dict()}, path)
    return path


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home folder that is empty; torchmetrics forgets the NISQA that it has loaded before and after."""
    monkeypatch.setenv("HOME", str(tmp_path))
    torchmetrics_nisqa._load_nisqa_model.cache_clear()
    yield tmp_path
    torchmetrics_nisqa._load_nisqa_model.cache_clear()


def loaded(metric):
    metric = pickle.loads(pickle.dumps(metric))
    metric.load("cpu")
    return metric


# --- SpeechBERTScore


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_speechbert_is_the_precision_of_greedy_matching(ssl, layer: int) -> None:
    model = transformers.AutoModel.from_pretrained(ssl).eval()

    def greedy(output, target) -> float:
        with torch.no_grad():
            output, target = (
                model(torch.tensor(wav)[None], output_hidden_states=True).hidden_states[layer][0].double().numpy()
                for wav in (output, target)
            )
        best = [max(x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in target) for x in output]
        return float(np.mean(best))

    output, target = tone(0), tone(1)
    score = loaded(SpeechBERTScore(source=str(ssl), layer=layer)).score(Signals(output, target=target))
    assert score == {"speechbert": pytest.approx(greedy(output, target), abs=1e-6)}
    # the example tells it from what it must not be
    others = [greedy(target, output), greedy(*((wav - wav.mean()) / wav.std() for wav in (output, target)))]
    for other in [1.0, *others]:
        assert abs(score["speechbert"] - other) > 1e-3


def test_speechbert_names_model_and_layer(ssl) -> None:
    metric = SpeechBERTScore(source=str(ssl), layer=2)
    (column,) = metric.columns
    assert "hidden_states[2]" in column.definition and str(ssl) in column.definition and column.better == "higher"
    assert metric.models == {str(ssl): hashlib.sha256((ssl / "model.safetensors").read_bytes()).hexdigest()}


@pytest.mark.parametrize("layer", [4, -1])
def test_speechbert_refuses_a_layer_that_is_not_there(ssl, layer: int) -> None:
    with pytest.raises(Unavailable, match=f"{ssl} has layers 0 to 3, layer {layer} "):
        SpeechBERTScore(source=str(ssl), layer=layer)


# --- speaker similarity


def test_similarity_is_the_cosine_of_x_vectors(xvector) -> None:
    model = transformers.AutoModelForAudioXVector.from_pretrained(xvector).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(xvector)

    def cosine(output, target, prepare) -> float:
        with torch.no_grad():
            vectors = [model(prepare(wav)).embeddings[0] for wav in (output, target)]
        return torch.cosine_similarity(*vectors, dim=0).item()

    output, target = tone(0), tone(1)
    score = loaded(SpeakerSimilarity(source=str(xvector))).score(Signals(output, target=target))
    prepared = cosine(output, target, lambda wav: extractor(wav, sampling_rate=RATE, return_tensors="pt").input_values)
    assert score == {"similarity": pytest.approx(prepared, abs=1e-6)}
    raw = cosine(output, target, lambda wav: torch.tensor(wav)[None])
    for other in (1.0, raw):
        assert abs(prepared - other) > 1e-3


def test_similarity_does_without_the_weights_of_its_training(xvector, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(xvector, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    signals = Signals(tone(0), target=tone(1))
    expected = loaded(SpeakerSimilarity(source=str(folder))).score(signals)
    del weights["objective.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert loaded(SpeakerSimilarity(source=str(folder))).score(signals) == expected
    del weights["projector.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Unavailable, match=f"{folder}.*projector.weight"):
        loaded(SpeakerSimilarity(source=str(folder)))


def test_a_file_too_short_for_a_model_is_unscorable(ssl, xvector) -> None:
    speechbert, similarity = (
        loaded(SpeechBERTScore(source=str(ssl), layer=3)),
        loaded(SpeakerSimilarity(source=str(xvector))),
    )
    for metric, least in ((speechbert, 400), (similarity, 5200)):
        (value,) = metric.score(Signals(tone(0, least), target=tone(1, least))).values()
        assert np.isfinite(value)
        with pytest.raises(Unscorable, match=f"{least - 1} samples, the model needs {least}$"):
            metric.score(Signals(tone(0, least - 1), target=tone(1, least)))


# --- dWER


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


TARGET, OUTPUT = tone(1), tone(0)
BOTH = Signals(OUTPUT, target=TARGET)


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


# --- NISQA


def test_nisqa_is_that_of_torchmetrics(nisqa_tar, home) -> None:
    (home / ".torchmetrics/NISQA").mkdir(parents=True)
    shutil.copy(nisqa_tar, home / ".torchmetrics/NISQA")
    wav = tone(0, 16000)
    expected = torchmetrics_nisqa.non_intrusive_speech_quality_assessment(torch.tensor(wav), RATE).tolist()
    assert min(abs(a - b) for i, a in enumerate(expected) for b in expected[:i]) > 1e-4
    names = ["nisqa_mos", "nisqa_noisiness", "nisqa_discontinuity", "nisqa_coloration", "nisqa_loudness"]
    for source in (None, str(nisqa_tar), str(nisqa_tar.parent)):
        metric = loaded(NISQA(source=source))
        score = metric.score(Signals(wav))
        assert score == {name: pytest.approx(value, abs=1e-6) for name, value in zip(names, expected, strict=True)}
        assert list(score) == [column.name for column in metric.columns]
        assert list(metric.models.values()) == [hashlib.sha256(nisqa_tar.read_bytes()).hexdigest()]
    assert metric.needs == () and metric.columns[0].title == "NISQA"


def test_nisqa_keeps_its_weights_where_torchmetrics_does() -> None:
    assert nisqa._FOLDER == torchmetrics_nisqa.NISQA_DIR


@pytest.mark.parametrize("length, why", [(1600, "too short"), (5 * RATE, "exceeded")])
def test_nisqa_of_a_file_too_short_or_too_long(nisqa_tar, length: int, why: str) -> None:
    with pytest.raises(Unscorable, match=f"NISQA.*{why}"):
        loaded(NISQA(source=str(nisqa_tar))).score(Signals(tone(0, length)))


def test_nisqa_offline_is_an_error_that_names_the_place(home) -> None:
    path = home / ".torchmetrics/NISQA/nisqa.tar"
    with pytest.raises(Unavailable, match=f"not found at {path}, and this is offline.*nisqa.tar or.* with --nisqa$"):
        NISQA(flag="--nisqa")
    with pytest.raises(Unavailable, match=f"not found at {home}/nisqa.tar"):
        NISQA(source=str(home))
    with pytest.raises(Unavailable, match=f"not found at {home}/other.tar"):
        NISQA(source=f"{home}/other.tar")


def test_nisqa_refuses_other_weights(nisqa_tar, tmp_path) -> None:
    path = tmp_path / "nisqa.tar"
    path.write_bytes(nisqa_tar.read_bytes()[:-1000])
    with pytest.raises(Unavailable, match=f"cannot load NISQA from {path}"):
        loaded(NISQA(source=str(path)))
    checkpoint = torch.load(nisqa_tar, weights_only=True)
    del checkpoint["model_state_dict"]["pool_layers.4.model.linear3.bias"]
    torch.save(checkpoint, path)
    with pytest.raises(Unavailable, match="pool_layers.4.model.linear3.bias") as error:
        loaded(NISQA(source=str(path)))
    assert "\n" not in str(error.value)


@pytest.fixture
def server(monkeypatch):
    """A server in place of the one that has the weights, and no waiting for another attempt."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    with Server() as server:
        monkeypatch.setattr(nisqa, "_ADDRESS", f"{server.address}/nisqa.tar")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_nisqa_is_fetched_once(nisqa_tar, home, server) -> None:
    server.files["/nisqa.tar"] = Served(nisqa_tar.read_bytes())
    first = loaded(NISQA()).score(Signals(tone(0)))
    assert (home / ".torchmetrics/NISQA/nisqa.tar").read_bytes() == nisqa_tar.read_bytes()
    server.asked.clear()
    assert loaded(NISQA()).score(Signals(tone(0))) == first and server.asked == []


@pytest.mark.parametrize("fault", ["cut", "absent", "page"])
def test_nisqa_that_does_not_arrive_leaves_nothing_under_its_name(nisqa_tar, home, server, fault: str) -> None:
    path = home / ".torchmetrics/NISQA/nisqa.tar"
    if fault == "cut":
        server.files["/nisqa.tar"] = Served(nisqa_tar.read_bytes(), ranges=False, cut=[100] * 20)
    elif fault == "page":
        server.files["/nisqa.tar"] = Served(b"<html>log in</html>", {"Content-Type": "text/html"})
    with pytest.raises(Unavailable, match=f"not found at {path}: cannot fetch {server.address}/nisqa.tar") as error:
        NISQA()
    assert "\n" not in str(error.value) and server.asked and not path.exists()


# --- all of them


def every(ssl, xvector, whisper, nisqa_tar):
    return [
        SpeechBERTScore(source=str(ssl), layer=2),
        SpeakerSimilarity(source=str(xvector)),
        DifferentialWER(source=str(whisper)),
        NISQA(source=str(nisqa_tar)),
    ]


def test_a_signal_equals_itself(ssl, xvector, whisper, nisqa_tar) -> None:
    wav = tone(3)
    scores = {}
    for metric in every(ssl, xvector, whisper, nisqa_tar)[:3]:
        scores |= loaded(metric).score(Signals(wav, target=wav.copy()))
    words = scores.pop("dwer_normalized")
    assert scores == pytest.approx({"speechbert": 1.0, "similarity": 1.0, "dwer": 0.0}, abs=1e-6)
    assert words[0] == 0 and words[1] > 0


def test_scores_are_plain_numbers_and_the_signals_are_not_written_to(ssl, xvector, whisper, nisqa_tar) -> None:
    output, target = tone(0), tone(1)
    for wav in (output, target):
        wav.flags.writeable = False
    for metric in map(loaded, every(ssl, xvector, whisper, nisqa_tar)):
        score = metric.score(Signals(output, target=target))
        assert list(score) == [column.name for column in metric.columns]
        numbers = [n for value in score.values() for n in (value if isinstance(value, tuple) else (value,))]
        assert all(type(number) in (int, float) for number in numbers)
        assert metric.score(Signals(output, target=target)) == score


def test_loading_and_scoring_are_quiet(ssl, xvector, whisper, nisqa_tar, capfd) -> None:
    for metric in map(loaded, every(ssl, xvector, whisper, nisqa_tar)):
        metric.score(BOTH)
    loaded(DifferentialWER(source=str(whisper))).transcribe(tone(0, 40000))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [SpeechBERTScore, SpeakerSimilarity, DifferentialWER])
def test_a_model_that_is_not_there_is_unavailable(kind, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match=f"not found at {tmp_path}/nowhere: .* with --model$"):
        kind(source=f"{tmp_path}/nowhere", flag="--model")
    with pytest.raises(Unavailable, match=f"^[a-z]+/[a-z0-9-]+ is neither a folder.*{tmp_path}/cache.*offline"):
        kind()
    with pytest.raises(Unavailable, match=f"not found at {tmp_path}: there is no config.json"):
        kind(source=str(tmp_path))


def test_the_process_that_makes_metrics_stays_small(ssl, xvector, whisper, nisqa_tar) -> None:
    code = f"""
import pickle, sys
from evaluation.nisqa import NISQA
from evaluation.speech_models import DifferentialWER, SpeakerSimilarity, SpeechBERTScore
metrics = [SpeechBERTScore(source={str(ssl)!r}, layer=2), SpeakerSimilarity(source={str(xvector)!r}),
           DifferentialWER(source={str(whisper)!r}), NISQA(source={str(nisqa_tar)!r})]
assert len(pickle.dumps(metrics)) < 20000
heavy = {{"torch", "transformers", "torchmetrics", "jiwer", "librosa", "scipy"}} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
