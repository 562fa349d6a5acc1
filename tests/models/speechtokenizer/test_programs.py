"""The codec's programs, as its recipe makes them: ranges of codebooks, lengths, and what they say they follow from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from models.interfaces import Item, Recording
from models.load import build_program, load_program
from models.speechtokenizer.codec import SpeechTokenizer
from tests.codec import REFERENCE, expected, largest, load, read
from tests.toy import ROOT, call
from utils.commands import overrides
from utils.recipe import Recipe

RECIPE = ROOT / "config/speechtokenizer.yaml"


def program(job: str, **keys: object):
    keys = {"codec_config": REFERENCE / "elu/config.json", **keys}
    recipe = Recipe(RECIPE, overrides=[f"{key}={value}" for key, value in keys.items()])
    return load_program(recipe, job, REFERENCE / "elu/SpeechTokenizer.pt")


def speech(name: str) -> Item:
    wav = read(name)
    return Item(name, {"audio": Recording(lambda start, n: wav[start : start + n].numpy(), len(wav))})


def joined(result: dict) -> torch.Tensor:
    return torch.cat(list(result["audio"]))[None]


@pytest.mark.parametrize(
    ("keys", "wanted"), [({}, "wav"), ({"codebooks": 1}, "wav_1"), ({"first_codebook": 1, "codebooks": 3}, "wav_range")]
)
def test_a_range_is_resynthesised_as_long_as_the_speech_was(keys: dict, wanted: str) -> None:
    run = program("resynthesise", **keys)
    first, second = run([speech("utt0"), speech("utt2")])
    assert largest(joined(first), expected()[f"elu/utt0/{wanted}"]) < 2e-4
    assert joined(second).shape == (1, 9999)
    assert torch.equal(first["tokens"], expected()["elu/utt0/tokens"][0, :, : keys.get("codebooks", 8)].long())


def test_tokens_begin_with_the_first_codebook_wherever_a_range_begins() -> None:
    (made,) = program("tokenize", codebooks=3, first_codebook=1)([speech("utt0")])
    assert torch.equal(made["tokens"], expected()["elu/utt0/tokens"][0, :, :3].long())


def test_decoding_begins_at_the_first_codebook_and_ends_before_the_last() -> None:
    tokens = expected()["elu/utt0/tokens"][0].numpy()
    items = [Item("a", {"tokens": tokens[:, 1:].astype("uint8")}), Item("b", {"tokens": tokens[:40, 1:3]})]
    rest, few = program("decode", first_codebook=1)(items)
    assert largest(joined(rest), expected()["elu/utt0/wav_from_2"]) < 2e-4 and joined(few).shape == (1, 40 * 320)
    (ended,) = program("decode", first_codebook=1, codebooks=3)(items[:1])
    assert largest(joined(ended), expected()["elu/utt0/wav_range"]) < 2e-4
    for wrong, message in ((tokens, "the tokens have 8 columns"), (tokens[:, 0], r"\[N, k\] are needed, got \[50\]")):
        with pytest.raises(ValueError, match=message):
            program("decode", first_codebook=1)([Item("c", {"tokens": np.asarray(wrong)})])


def test_results_follow_from_the_parts_that_make_them() -> None:
    """So a decoder that trained on leaves the tokens of any file what they were."""
    codec, other = load("elu"), load("elu")
    with torch.no_grad():
        other.network.decoder.layers[0].conv.bias.add_(1)
    ours, theirs = codec.digests(), other.digests()
    assert [name for name in ours if ours[name] != theirs[name]] == ["decoder"]
    assert program("tokenize").digests().keys() == {"tokenizer", "codebook_rows"}
    assert program("decode").digests().keys() == {"codebook_rows", "decoder"}
    assert program("resynthesise").facts()["codebooks"] == [f"rvq_{k}" for k in range(1, 9)]


@pytest.mark.parametrize(
    ("job", "keys", "message"),
    [
        ("resynthesise", {"first_codebook": 8}, "first_codebook must be 0 to 7.*got 8"),
        ("resynthesise", {"first_codebook": 2, "codebooks": 2}, "before codebook 2 .codebooks.; got 2"),
        ("decode", {"first_codebook": -1}, "first_codebook must be 0 to 7"),
        ("tokenize", {"codebooks": 9}, "codebooks must be 1 to 8"),
        ("features", {}, "teacher_path must be set"),
    ],
)
def test_ranges_that_cannot_be_are_refused(job: str, keys: dict, message: str) -> None:
    keys = {"codec_config": REFERENCE / "elu/config.json", **keys}
    recipe = Recipe(RECIPE, overrides=[f"{key}={value}" for key, value in keys.items()])
    with pytest.raises(ValueError, match=message):
        build_program(recipe, job)


def test_without_a_checkpoint_there_is_nothing_to_run() -> None:
    recipe = Recipe(RECIPE, overrides=[f"codec_config={REFERENCE / 'elu/config.json'}"])
    with pytest.raises(ValueError, match="needs a checkpoint: -ckpt FILE"):
        load_program(recipe, "tokenize", None)


def test_features_are_those_of_the_teacher_in_half_precision() -> None:
    keys = {"codec_config": REFERENCE / "elu/config.json", "teacher_path": REFERENCE / "teacher"}
    run = build_program(Recipe(RECIPE, overrides=[f"{key}={value}" for key, value in keys.items()]), "features")
    made = run([speech("utt0"), speech("utt2")])
    assert [tuple(one["features"].shape) for one in made] == [(50, 12), (32, 12)]
    wanted = run.teacher(read("utt2")[None], torch.tensor([9999]))[0]
    assert made[1]["features"].dtype == torch.float16 and largest(made[1]["features"].float(), wanted) < 2e-3
    assert run.facts()["teacher_layer"] == "avg" and run.checkpoint == "refused"


def test_the_recipe_is_that_of_the_released_codec() -> None:
    with torch.device("meta"):
        model = Recipe(RECIPE).build("model")["model"]
    assert isinstance(model, SpeechTokenizer) and model.codebooks.shape == (8, 1024, 1024)
    assert sum(p.numel() for p in model.parameters()) == 103_675_586


def test_tokens_whose_record_is_of_other_codebooks_are_not_decoded(tmp_path) -> None:
    """The shapes of two codecs may be the same."""
    np.save(tmp_path / "a.npy", expected()["elu/utt0/tokens"][0].numpy())
    (tmp_path / "list.scp").write_text("a a.npy\n")
    where = ("-config", RECIPE, "-ckpt", REFERENCE / "elu/SpeechTokenizer.pt", "-gpus", "cpu", "-proc", "1")
    where = (*where, *overrides({"codec_config": REFERENCE / "elu/config.json"}))
    decode = ("inference.py", "--decode", tmp_path / "list.scp", *where, "--output", tmp_path / "out")
    own = program("tokenize").digests()
    record = tmp_path / "tokens.json"
    for digests, message in (
        ({**own, "codebook_rows": "0" * 64}, "of other codebooks"),
        ({"tokenizer": "0" * 64}, "not of a codec of this kind"),
        ({**own, "vocab_size": 7}, "vocab_size 7 there, 32 here"),
    ):
        record.write_text(json.dumps(digests))
        done = call(*decode)
        assert done.returncode == 2 and message in done.stderr and str(record) in done.stderr, done.stderr
        assert not (tmp_path / "out").exists()
    record.write_text(json.dumps({**own, "vocab_size": 32}))
    assert call(*decode).returncode == 0 and (tmp_path / "out/a.wav").is_file()


def test_where_the_sizes_stand_is_no_other_setting(tmp_path) -> None:
    """codec_config is a path: the same file under another name makes the same tokens."""
    (tmp_path / "list.scp").write_text(f"a {REFERENCE / 'test/utt2.wav'}\n")
    copied = tmp_path / "elsewhere.json"
    copied.write_text((REFERENCE / "elu/config.json").read_text())
    for config in (REFERENCE / "elu/config.json", copied):
        done = call(
            "inference.py", "--tokenize", tmp_path / "list.scp", "-config", RECIPE, "-gpus", "cpu", "-proc", "1",
            "-ckpt", REFERENCE / "elu/SpeechTokenizer.pt", "--output", tmp_path / "out",
            *overrides({"codec_config": config}),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
