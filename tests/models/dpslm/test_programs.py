"""What can be run of DP-SLM: lists of both kinds, samples, provenance, parts that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.dpslm.programs import Continue, Decode, Resynthesise, Score, sample_names, seeds_of
from models.dpslm.speech import UnitSpeech, load_speech
from models.interfaces import Item, Recording
from models.load import build_program, load_program
from tests.dpslm import (
    REFERENCE,
    SPEECH,
    UNIT_LM,
    UTTERANCES,
    acoustic,
    acoustic_settings,
    codec,
    collapsed,
    expected,
    lm_settings,
    overrides,
    speech,
    unit_lm,
    unit_settings,
)
from utils.recipe import Recipe

UNITS = {name: expected()[f"units/main/{name}"].numpy().astype(np.int16) for name in UTTERANCES}


def program(job: str, recipe: Path, checkpoint: Path, **settings: object):
    return load_program(Recipe(recipe, overrides=overrides(settings)), job, checkpoint)


def spoken(**more: object) -> Decode:
    settings = {**acoustic_settings(), "wavtokenizer_path": REFERENCE / "wavtokenizer.ckpt", "top_p": 0.0, **more}
    return program("decode", SPEECH, REFERENCE / "ella_v.pt", **settings)


def test_a_list_may_mix_units_and_audio(tmp_path: Path) -> None:
    score = program("score", UNIT_LM, REFERENCE / "unit_lm.pt", **{**lm_settings(), **unit_settings()})
    (tmp_path / "list.scp").write_text("a x.npy\nb y.wav\n")
    entries, problems = score.entries(tmp_path / "list.scp")
    assert (
        entries == {"a": {"units": str(tmp_path / "x.npy")}, "b": {"audio": str(tmp_path / "y.wav")}} and not problems
    )
    items = [Item("a", {"units": UNITS["utt0"]}), Item("b", {"audio": Recording.of(speech("utt1"))})]
    for row, name in zip(score(items), ("utt0", "utt1"), strict=True):
        assert row["score"]["tokens"] == len(collapsed(name))
        np.testing.assert_allclose(row["score"]["log_likelihood"], float(expected()[f"lm/score/{name}"]), rtol=1e-5)


def test_audio_without_what_makes_units_fails_alone(tmp_path: Path) -> None:
    score = program("score", UNIT_LM, REFERENCE / "unit_lm.pt", **lm_settings())
    (tmp_path / "list.scp").write_text("a x.npy\nb y.wav\n")
    entries, problems = score.entries(tmp_path / "list.scp")
    assert list(entries) == ["a"] and "wavlm_path" in problems["b"]


def test_units_that_were_made_otherwise_are_refused_with_both_values() -> None:
    model = unit_lm()
    model.provenance = {"units": {"lmbda": 903.387, "tokenizer": "abc"}}
    score = Score(model=model, lists=None)
    score.check_record({"lmbda": 903.387, "vocab_size": 40})
    with pytest.raises(ValueError, match=r"lmbda is 60\.0, was 903\.387"):
        score.check_record({"lmbda": 60.0})
    with pytest.raises(ValueError, match="41 clusters"):
        score.check_record({"vocab_size": 41})


def test_audio_is_refused_before_the_first_file_if_its_units_would_be_others() -> None:
    recipe = Recipe(UNIT_LM, overrides=overrides({**lm_settings(), **unit_settings()}))
    score = build_program(recipe, "score")
    score.learned.provenance = {"units": {"lmbda": 5.0}}
    with pytest.raises(ValueError, match=r"lmbda is 903\.387, was 5\.0"):
        score.after_loading()


def test_continuations_are_kept_with_how_they_ended() -> None:
    go_on = Continue(model=unit_lm(temperature=0.0), lists=None, include_prompt=True)
    (result,) = go_on([Item("utt0", {"units": UNITS["utt0"]})])
    whole = torch.cat([collapsed("utt0"), expected()["lm/greedy/utt0"]])
    assert torch.equal(result["units"][:, 0], whole)
    assert result["row"] == {"prompt": len(collapsed("utt0")), "samples": [{"units": 25, "ended": "max_units"}]}


def test_samples_have_names_of_their_own_and_draws_that_do_not_follow_the_list() -> None:
    assert sample_names("a", 1) == ["a"] and sample_names("a", 2) == ["a_1", "a_2"]
    one, two = Item("a"), Item("b")
    assert seeds_of(3, [one, two], 2)[2:] == seeds_of(3, [two], 2) and len(set(seeds_of(3, [one, two], 2))) == 4
    go_on = Continue(model=unit_lm(), lists=None, samples=2)
    assert list(go_on.outputs(one)) == ["a_1", "a_2"]
    results = go_on([Item(name, {"units": UNITS[name]}) for name in ("utt0", "utt1")])
    assert len(results) == 4 and ["row" in result for result in results] == [False, True, False, True]
    alone = go_on([Item("utt1", {"units": UNITS["utt1"]})])
    assert all(torch.equal(a["units"], b["units"]) for a, b in zip(results[2:], alone, strict=True))
    with pytest.raises(ValueError, match="samples"):
        Continue(model=unit_lm(), lists=None, samples=0)


def test_units_become_the_published_speech() -> None:
    name = next(name for name in UTTERANCES if f"resynthesis/exact/{name}" in expected())
    (result,) = spoken()([Item(name, {"units": UNITS[name]})])
    wav = torch.cat(list(result["speech"]))
    torch.testing.assert_close(wav, expected()[f"resynthesis/exact/{name}"].flatten() / 32767, rtol=0, atol=1e-4)
    assert torch.equal(result["codes"], expected()[f"am/exact/{name}"])
    assert result["row"]["samples"] == [{"codes": len(result["codes"]), "ended": "itself"}]


def test_speech_without_a_single_code_is_an_error_of_its_file_alone() -> None:
    decode = spoken()
    with torch.no_grad():
        decode.speech.acoustic.network.output.bias[2] += 1000.0  # EOP follows every unit
    with pytest.raises(ValueError, match="not a single code"):
        decode([Item("utt0", {"units": UNITS["utt0"]})])


@pytest.mark.parametrize(
    "array",
    [np.array([[1], [40]], np.int16), np.array([[-1]], np.int16), np.zeros((2, 2), np.int16), np.zeros(0, np.int16)],
)
def test_arrays_that_are_no_units_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="tokens"):
        spoken()([Item("x", {"units": array})])


def test_parts_that_do_not_fit_are_refused_before_the_first_file() -> None:
    from models.dpslm.acoustic import AcousticModel
    from models.dpslm.acoustic_network import AcousticNetwork

    network = AcousticNetwork(num_clusters=40, num_codes=64, d_model=8, num_layers=1, num_heads=1, num_kv_heads=1)
    sizes = {"network": network, "num_clusters": 40, "num_codes": 64}
    with pytest.raises(ValueError, match="code_rate is 50, the codec's 40"):
        UnitSpeech(acoustic=AcousticModel(**sizes, code_rate=50), codec=codec())
    other = AcousticModel(**{**sizes, "num_codes": 65}, code_rate=40)
    with pytest.raises(ValueError, match="num_codes is 65, the codec's 64"):
        UnitSpeech(acoustic=other, codec=codec())
    fitting = UnitSpeech(acoustic=acoustic(), codec=codec())
    fitting.acoustic.num_clusters = 41
    with pytest.raises(ValueError, match="num_clusters=40, the acoustic model 41"):
        Continue(model=unit_lm(), lists=None, speech=fitting)
    with pytest.raises(ValueError, match="num_clusters=41, the codebook has 40"):
        Resynthesise(units=_Units(), speech=fitting)


class _Units:
    """As far as a program looks at what makes units before it runs."""

    vocab_size, sample_rate = 40, 16000


def test_codes_of_another_codec_are_refused() -> None:
    together = UnitSpeech(acoustic=acoustic(), codec=codec())
    together.check()
    together.acoustic.provenance = {"codes": {"tokenizer": "of another"}}
    with pytest.raises(ValueError, match="tokenizer is .*, was of another"):
        together.check()


def test_one_of_two_paths_is_not_enough() -> None:
    assert load_speech(acoustic_path=None, codec=None) is None
    with pytest.raises(ValueError, match="wavtokenizer_path"):
        load_speech(acoustic_path=REFERENCE / "ella_v.pt", codec=None)
    with pytest.raises(ValueError, match="acoustic_path"):
        load_speech(acoustic_path=None, codec=codec())


@pytest.mark.slow
def test_a_continuation_can_speak_in_the_voice_of_its_prompt() -> None:
    settings = {**lm_settings(max_units=5), **unit_settings(), "acoustic_path": REFERENCE / "ella_v.pt"}
    settings |= {"wavtokenizer_path": REFERENCE / "wavtokenizer.ckpt", "max_codec_tokens_per_phone": 4}
    found = {}
    for voice in (False, True):
        go_on = program("continue", UNIT_LM, REFERENCE / "unit_lm.pt", **settings, voice_of_prompt=voice)
        inputs = go_on.inputs_of("audio", "x.wav")
        assert ("voice" in inputs) is voice
        heard = {"audio": Recording.of(speech("utt1"))}
        if voice:
            heard["voice"] = Recording.of(
                torch.nn.functional.interpolate(speech("utt1")[None, None], scale_factor=1.5)[0, 0]
            )
        (result,) = go_on([Item("utt1", heard)])
        found[voice] = (result["units"], torch.cat(list(result["speech"])))
    assert torch.equal(found[False][0], found[True][0])  # the units are the same, how they are said is not
    assert found[False][1].shape != found[True][1].shape or not torch.equal(found[False][1], found[True][1])


def test_the_record_of_units_tells_what_made_them() -> None:
    from models.dpslm.provenance import making
    from models.load import load_model
    from tests.dpslm import UNITS as RECIPE

    told = making(load_model(RECIPE, overrides=overrides(unit_settings())))
    wanted = {"lmbda": 903.387, "num_neighbors": 5, "num_clusters": 40, "wavlm_layer": 4, "normalize_wav": False}
    assert told.items() >= wanted.items() and len(told["tokenizer"]) == 64
    json.dumps(told)
