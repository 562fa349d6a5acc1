"""inference.py --tokenize: any list of files to tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from data.utterances import read_utterances
from models.interfaces import Recording
from models.ssl_tokenizer import encode_files
from running.record import read_runs
from tests.toy import RECIPE, REFERENCE, call, flags, settings, write_corpus
from utils.recipe import Recipe

LISTS = REFERENCE / "test"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def tokenizer():
    return Recipe(RECIPE, overrides=settings()).build("tokenizer")["tokenizer"]


def tokenize(listed, output, *more, processes: int = 1, **keys):
    where = ("-config", RECIPE, "--output", output, "-gpus", "cpu", "-proc", processes)
    return call("inference.py", "--tokenize", listed, *where, *more, *flags(**keys))


@pytest.mark.slow
def test_every_file_has_the_tokens_it_has_alone(tmp_path, corpus, tokenizer) -> None:
    index = corpus["tr_data_scp_path"]
    done = tokenize(index, tmp_path / "a", processes=2)
    assert done.returncode == 0, done.stderr
    for name, path in read_utterances(index).items():
        made = np.load(tmp_path / f"a/{name}.npy")
        wav = torch.from_numpy(sf.read(path, dtype="float32")[0])[None]
        frames = -(-wav.shape[1] // 320)
        alone = tokenizer.encode(torch.nn.functional.pad(wav, (0, 320 * frames + 80 - wav.shape[1])))[0].numpy()
        assert made.dtype == np.int16 and made.shape == (frames, tokenizer.num_codebooks)
        assert (made == alone).mean() > 0.999  # what lies beside it in a batch may tip a tie
    assert tokenize(index, tmp_path / "b", processes=1).returncode == 0
    for name in read_utterances(index):
        assert (tmp_path / f"a/{name}.npy").read_bytes() == (tmp_path / f"b/{name}.npy").read_bytes()


def test_the_record_says_what_the_tokens_are(tmp_path, corpus, tokenizer) -> None:
    assert tokenize(corpus["cv_mix_path"], tmp_path).returncode == 0
    record = json.loads((tmp_path / "tokens.json").read_text())
    assert record["tokenizer"] == tokenizer.digest() and record["codebooks"] == list(tokenizer.codebook_names)
    assert (record["sample_rate"], record["hop_length"], record["vocab_size"]) == (16000, 320, 50)
    assert "vocoder" not in record["recipe"]
    assert [run["files"] for run in read_runs(tmp_path / "tokens.json")] == [3]


def test_what_is_there_stays_and_another_tokenizer_is_refused(tmp_path, corpus) -> None:
    assert tokenize(corpus["cv_mix_path"], tmp_path).returncode == 0
    first, second, _ = sorted(tmp_path.glob("*.npy"))
    first.unlink()
    second.write_bytes(b"kept")
    done = tokenize(corpus["cv_mix_path"], tmp_path)
    assert done.returncode == 0 and "2 of 3 files are there already" in done.stderr
    assert first.exists() and second.read_bytes() == b"kept"
    done = tokenize(corpus["cv_mix_path"], tmp_path, ssl_layers=[1, 3, 7])
    assert done.returncode == 2 and "another tokenizer and choice of codebooks" in done.stderr
    assert second.read_bytes() == b"kept"
    assert tokenize(corpus["cv_mix_path"], tmp_path, "--overwrite").returncode == 0
    assert np.load(second).ndim == 2


def test_one_bad_file_fails_alone(tmp_path, corpus) -> None:
    good = next(iter(read_utterances(corpus["tr_data_scp_path"]).values()))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "list.scp").write_text(f"good {good}\nbad {tmp_path / 'empty.wav'}\n")
    done = tokenize(tmp_path / "list.scp", tmp_path / "out")
    assert done.returncode == 1 and "bad" in done.stderr and "1 of 2 files failed" in done.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.npy")] == ["good.npy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tokenize", LISTS / "s1.scp", "-ckpt", "a.pth"), "reads no checkpoint"),
        (("-scp", LISTS), "needs a checkpoint: -ckpt FILE"),
        (("-scp", LISTS, "-ckpt", "/nowhere/a.pth"), "no such checkpoint: /nowhere/a.pth"),
        (("--tokenize", "list.scp", "-scp", "lists", "-ckpt", "a.pth"), "give one of"),
        (("--tokenize", "list.scp", "--report"), "is for a folder of lists"),
        (("--score", LISTS / "s1.scp"), "offers extract, tokenize, decode, resynthesise; not score"),
        (("--tokenize", LISTS / "s1.scp", "--speaker", "anna"), "takes --audio; not --speaker"),
        (("--tokenize", LISTS / "s1.scp", "--shard", "3/2"), "a shard is i/n, with i from 1 to n, got '3/2'"),
        (("--tokenize", "/nowhere/list.scp"), "no such list: /nowhere/list.scp"),
        (("--tokenize", "/nowhere/index.json"), "no such list: /nowhere/index.json"),
    ],
)
def test_mistakes_are_named(tmp_path, arguments, message: str) -> None:
    done = call("inference.py", *arguments, "-config", RECIPE, "--output", tmp_path / "out", *flags())
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "out").exists()


def test_long_files_in_windows_and_short_ones_together(tokenizer) -> None:
    """Windows of a long file agree with the whole where they hear enough around what they keep."""
    wav = torch.from_numpy(sf.read(REFERENCE / "test/mix_clean/utt0.wav", dtype="float32")[0])
    long = torch.cat([wav] * 3)

    recordings = [Recording.of(wav), Recording.of(long)]
    whole = tokenizer.encode_files(recordings)
    cut = encode_files(tokenizer, recordings, piece_seconds=2.0, context_seconds=1.0)
    assert [len(x) for x in cut] == [len(x) for x in whole] == [-(-len(x) // 320) for x in (wav, long)]
    assert (cut[1] == whole[1]).float().mean() > 0.5
