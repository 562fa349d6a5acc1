"""Small random models of the classes that the metrics use."""

from __future__ import annotations

import json
import socket

import pytest
import torch
import transformers
from huggingface_hub import constants
from tokenizers import AddedToken, pre_tokenizers
from torchmetrics.functional.audio import nisqa as torchmetrics_nisqa

from tests.speech_models import (
    EN,
    END,
    NISQA_ARGS,
    NO_TIMES,
    SIZES,
    SPECIAL,
    SPELLINGS,
    SSL,
    START,
    TRANSCRIBE,
    WORDS,
    _,
    make,
    save,
    shake,
)


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
