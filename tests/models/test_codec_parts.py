"""TSELM over a codec's tokens: the codec at both of its ends, and the recipe at toy size."""

from __future__ import annotations

import json

import pytest
import torch

from models import load_extractor
from models.codec_parts import CodecTokenizer, CodecVocoder
from models.interfaces import FeatureTokenizer, Vocoder, fulfils
from tests.codec import REFERENCE, load, train_batch
from tests.toy import ROOT, call, write_corpus
from utils.commands import overrides

RECIPE = ROOT / "config/tselm_codec.yaml"
CODEC = {"codec_path": REFERENCE / "elu/SpeechTokenizer.pt", "codec_config": REFERENCE / "elu/config.json"}
SMALL = {
    **CODEC, "codebooks": 3, "num_clusters": 32, "embedding_dim": 16, "fusion_layers": 1, "fusion_heads": 2,
    "fusion_ffn": 16, "d_model": 16, "num_heads": 2, "num_layers": 1, "lm_ffn": 16,
}  # fmt: skip


def test_each_end_of_the_codec_is_what_the_codec_is() -> None:
    codec = load("elu", codebooks=3)
    tokenizer, vocoder = CodecTokenizer(codec=codec), CodecVocoder(codec=codec)
    assert fulfils(tokenizer, FeatureTokenizer) and fulfils(vocoder, Vocoder)
    wav = train_batch()[:2]
    tokens = tokenizer.encode(wav)
    assert torch.equal(tokens, codec.encode(wav)) and tokens.shape == (2, 50, 3)
    assert torch.equal(tokenizer.quantizer(tokenizer.features(wav)), tokens)
    assert torch.equal(tokenizer.features(wav, kept=slice(5, 9))[1], tokenizer.features(wav)[1][:, 5:9])
    assert torch.equal(vocoder.decode(tokens), codec.decode(tokens))
    assert tokenizer.digest() != CodecTokenizer(codec=load("elu", codebooks=2)).digest()
    other = load("elu", codebooks=3)
    with torch.no_grad():
        other.network.decoder.layers[0].conv.bias.add_(1)
    assert tokenizer.digest() == CodecTokenizer(codec=other).digest()
    assert vocoder.digest() != CodecVocoder(codec=other).digest()


@pytest.mark.parametrize("mode", [{}, {"concat_regi": True, "mix_continuous": True, "centroid_embeddings": True}])
@pytest.mark.slow
def test_the_recipe_trains_and_extracts(tmp_path, mode: dict) -> None:
    keys = {
        **SMALL,
        **mode,
        **write_corpus(tmp_path),
        "epoch": 1,
        "epoch_num": 4,
        "batch_size": 2,
        "batch_size_eval": 2,
    }
    keys |= {"mix_length": 16000, "regi_length": 16000, "num_workers": 0, "log_interval": 1, "gpus": "cpu"}
    where = ("--config_path", RECIPE, "--log", tmp_path / "log", "--ckpt_path", tmp_path / "ckpt")
    done = call("train.py", *where, *overrides(keys))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log/metrics.jsonl").read_text().splitlines()]
    assert {"error", "copy_error", "error_rvq_1", "error_rvq_3"} <= lines[-1].keys()
    texts = [
        f"{key}={value}" for key, value in {**SMALL, **{k: mode[k] for k in mode if k != "centroid_embeddings"}}.items()
    ]
    extractor = load_extractor(RECIPE, tmp_path / "ckpt/best.pth", overrides=texts)
    mixture = torch.randn(3 * 16000 + 123)
    found = extractor.extract_with_tokens(mixture, torch.randn(20000))
    assert found.wav.shape == mixture.shape and found.tokens.shape == (151, 3)
    ceiling = extractor.resynthesise(mixture)
    codec = load("elu", codebooks=3)
    if not mode:
        assert torch.equal(ceiling.tokens[:100], codec.encode(mixture[None])[0, :100])
