"""ELLA-V: published numbers under both rules, pieces, sequences, files, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.dpslm.acoustic_files import read_acoustic
from models.dpslm.acoustic_network import AcousticNetwork
from models.dpslm.acoustic_task import UnitsToCodes
from models.dpslm.sequence import Interleaving
from models.dpslm.vocabulary import Vocabulary
from tests.dpslm import DIMS, REFERENCE, UTTERANCES, acoustic, acoustic_settings, collapsed, expected

PROMPTS = [collapsed(name) for name in UTTERANCES]
LIMIT = DIMS["max_codes"]
NETWORK = ("d_model", "num_layers", "num_heads", "num_kv_heads", "head_dim", "d_ffn", "num_clusters", "num_codes")


@pytest.mark.parametrize("rules", ["exact", "published"])
def test_greedy_codes_are_the_published_ones_under_both_rules(rules: str) -> None:
    found = acoustic(generation_rules=rules).generate(PROMPTS, seeds=[0] * 4, top_p=0.0)
    for name, codes in zip(UTTERANCES, found, strict=True):
        assert torch.equal(codes, expected()[f"am/{rules}/{name}"].flatten())


def test_logits_are_the_published_ones() -> None:
    found = acoustic().logits(expected()["am/ids"][None])[0]
    torch.testing.assert_close(found, expected()["am/logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("number", range(len(DIMS["sequences"])))
def test_training_sequences_are_the_repaired_ones(number: int) -> None:
    units, codes, ids, is_target = (
        expected()[f"am/sequence/{number}/{name}"] for name in ("units", "codes", "ids", "is_target")
    )
    found, targets = acoustic().training_sequence(units, codes)
    assert torch.equal(found, ids) and torch.equal(targets, is_target.bool())


def test_the_example_of_units_and_codes() -> None:
    """u0 x3, u11 x4, u2 x3 and codes 0 to 7: u0 u11 u2 BOS u0 0 1 2 EOP u11 3 4 5 EOP u2 6 7 EOP EOS."""
    symbols, is_target = Interleaving(num_clusters=12, num_codes=8)(np.repeat([0, 11, 2], [3, 4, 3]), np.arange(8))
    names = Vocabulary(num_clusters=12, num_codes=8).names
    said = "u0 u11 u2 BOS u0 0 1 2 EOP u11 3 4 5 EOP u2 6 7 EOP EOS"
    assert " ".join(names[symbol] for symbol in symbols) == said
    wanted = [word in ("EOP", "EOS") or word.isdigit() for word in said.split()]
    assert is_target.tolist() == wanted[1:]


def test_durations_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.1 s"):
        acoustic().training_sequence(torch.zeros(50, dtype=torch.int64), torch.zeros(30, dtype=torch.int64))


def test_a_batch_gives_what_each_has_alone() -> None:
    model, seeds = acoustic(), [5, 6, 7, 5]
    together = model.generate(PROMPTS, seeds=seeds)
    alone = [model.generate([prompt], seeds=[seed])[0] for prompt, seed in zip(PROMPTS, seeds, strict=True)]
    assert all(map(torch.equal, together, alone))
    assert not all(map(torch.equal, together, model.generate(PROMPTS, seeds=[8, 9, 10, 11])))


def test_over_pieces_each_unit_is_said_once_and_the_limit_holds() -> None:
    model = acoustic(piece_units=10, context_units=4)
    walk = torch.randint(1, 40, (47,), generator=torch.Generator().manual_seed(0)).cumsum(0) % 40
    (said,) = model.say([walk], seeds=[1])
    assert [unit for unit, _ in said.said] == torch.unique_consecutive(walk).tolist() and not said.was_cut
    assert max(len(codes) for _, codes in said.said) <= LIMIT
    first = model.say([walk[:10]], seeds=[1])[0]
    assert first.said == said.said[: len(first.said)]


def test_max_tokens_cuts_and_it_is_told() -> None:
    cut = acoustic(max_tokens=9).say(PROMPTS[:1], seeds=[1])[0]
    assert cut.was_cut and cut.tokens == 9 and len(cut.said) < len(PROMPTS[0])
    assert not acoustic(max_tokens=10000).say(PROMPTS[:1], seeds=[1])[0].was_cut


def test_the_voice_of_a_recording_can_come_before() -> None:
    model = acoustic()
    units = expected()["units/main/utt0"].flatten()
    codes = torch.arange(len(units) * 4 // 5) % DIMS["codec"]["num_codes"]
    with_voice = model.say(PROMPTS[1:2], seeds=[1], prompts=[(units, codes)])[0]
    assert [unit for unit, _ in with_voice.said] == PROMPTS[1].tolist()
    assert with_voice.codes != model.say(PROMPTS[1:2], seeds=[1])[0].codes
    with pytest.raises(ValueError, match=r"0\.1 s"):
        model.say(PROMPTS[1:2], seeds=[1], prompts=[(units, codes[:3])])


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"max_codec_tokens_per_phone": 0}, "max_codec_tokens_per_phone"),
        ({"context_units": 500}, "context_units"),
        ({"temperature": -1.0}, "temperature"),
        ({"generation_rules": "other"}, "generation_rules"),
        ({"num_codes": 128}, "num_codes is 128 in the recipe, 64 in the file"),
        ({"code_rate": 75}, "code_rate is 75 in the recipe, 40 in the file"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        acoustic(**settings)


def changed(folder: Path, change) -> Path:
    content = torch.load(REFERENCE / "ella_v.pt", weights_only=True)
    change(content)
    torch.save(content, folder / "other.pt")
    return folder / "other.pt"


def load(path: Path) -> None:
    from models.load import load_model
    from tests.dpslm import ACOUSTIC, overrides

    load_model(ACOUSTIC, path, overrides=overrides(acoustic_settings()))


def test_the_older_layout_is_the_same_model(tmp_path: Path) -> None:
    def older(content: dict) -> None:
        named = {"tok_embeddings.weight": "token_embedding.weight", "output.": "prediction_head."}
        state = content.pop("model_state")
        content["model"] = {
            next((n.replace(a, b) for a, b in named.items() if n.startswith(a)), f"transformer.{n}"): x
            for n, x in state.items()
        }

    new, old = read_acoustic(REFERENCE / "ella_v.pt"), read_acoustic(changed(tmp_path, older))
    assert new.tensors.keys() == old.tensors.keys() and new.sizes == old.sizes


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda c: c["model_state"].pop("output.bias"), r"output\.bias"),
        (lambda c: c["tokenizer"]["token_to_id_dict"].update(u1=c["tokenizer"]["token_to_id_dict"]["u2"]), "as u"),
        (lambda c: c["tokenizer"]["token_to_id_dict"].pop("EOP"), "EOP"),
        (lambda c: c["tokenizer"].update(tokens_not_to_sandwich=["u1"]), "tokens_not_to_sandwich"),
        (lambda c: c["model_state"]["norm.weight"].fill_(float("inf")), "not finite"),
        (lambda c: c.pop("tokenizer"), "tokenizer"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, change, named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        load(changed(tmp_path, change))
    assert "other.pt" in str(error.value)


def test_a_training_takes_over_the_map_of_its_initial_file_and_exports_it(tmp_path: Path) -> None:
    def turned(content: dict) -> None:
        ids = content["tokenizer"]["token_to_id_dict"]
        ids["u0"], ids["u1"] = ids["u1"], ids["u0"]

    path = changed(tmp_path, turned)
    settings = acoustic_settings()
    interleave = Interleaving(**{k: settings[k] for k in ("num_clusters", "num_codes", "unit_rate", "code_rate")})
    network = AcousticNetwork(**{k: settings[k] for k in NETWORK})
    made = UnitsToCodes(network=network, interleave=interleave, optimizer=torch.optim.SGD)
    made.adopt_settings({}, path)
    (written,) = made.export(tmp_path)
    assert read_acoustic(written).tokens == read_acoustic(path).tokens
    assert made.settings()["tokens"][4:6] == ["u1", "u0"]


def test_no_unit_is_a_target_and_bos_is_none() -> None:
    units, codes = np.arange(10) // 2, np.arange(8) % 7
    symbols, is_target = Interleaving(num_clusters=5, num_codes=7)(units, codes)
    kinds = symbols[1:][is_target]
    assert set(kinds.tolist()) <= {2, 3, *range(9, 16)}  # EOP, EOS, codes
    assert int(is_target.sum()) == 8 + 5 + 1
