"""Whether the enrolled talker is there: what is learned, what is silenced, and what stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import load_extractor
from models.interfaces import PresenceTeller, Source, TokenExtractor, fulfils
from models.tselm.extractor import Extractor
from models.tselm.presence import FADE_FRAMES, Gate, PresenceHead
from modules.losses import cross_entropy_of_items, token_cross_entropy
from tests.models.test_extractor import CopyNetwork, LoudnessFrontEnd, StepVocoder
from tests.toy import RECIPE, REFERENCE, read, settings
from utils import checkpoint
from utils.recipe import Recipe

# -- silence -----------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_untouched_and_the_rest_is_silent_without_a_step() -> None:
    gate = Gate([30, 40, 30], [True, False, True], hop=320)
    level = gate(torch.ones(100 * 320), 0)
    assert torch.equal(level[: 30 * 320], torch.ones(30 * 320)) and torch.equal(level[70 * 320 :], level[: 30 * 320])
    fade = FADE_FRAMES * 320
    assert not level[30 * 320 + fade : 70 * 320 - fade].any()
    falling = level[30 * 320 : 30 * 320 + fade]
    assert (falling.diff() <= 0).all() and falling[0] == 1 and falling[-1] < 1e-3
    assert level.diff().abs().max() < 2 / fade  # a step would click
    torch.testing.assert_close(level, level.flip(0), rtol=0, atol=2e-3)


def test_the_parts_that_a_signal_comes_in_change_nothing() -> None:
    gate = Gate([7, 9, 3, 11], [False, True, False, True], hop=320)
    wav = torch.randn(30 * 320 - 11)
    parts = list(gate.silenced(iter(wav.split(1234)), samples=len(wav), at_a_time=1000))
    assert torch.equal(torch.cat(parts), gate(wav, 0)) and len(parts) == 8


def test_a_short_gap_between_kept_pieces_is_not_louder_than_the_signal() -> None:
    level = Gate([4, 3, 4], [True, False, True], hop=320)(torch.ones(11 * 320), 0)
    assert level.max() == 1 and level[int(5.5 * 320)] < 1 and level.diff().abs().max() < 2 / (FADE_FRAMES * 320)


def test_nothing_is_decoded_where_nothing_is_kept() -> None:
    def decode():
        raise AssertionError("the vocoder was asked")
        yield

    gate = Gate([10, 10], [False, False], hop=320)
    parts = list(gate.silenced(decode(), samples=5000, at_a_time=2048))
    assert [len(part) for part in parts] == [2048, 2048, 904] and not torch.cat(parts).any()


def test_what_is_kept_whole_is_passed_on_as_it_is() -> None:
    wav = torch.randn(3200)
    (part,) = Gate([10], [True], hop=320).silenced(iter([wav]), samples=3200, at_a_time=100)
    assert part is wav


# -- a system whose answer is known: a talker is there where the mixture is loud ---------------------------------------


class LoudnessNetwork(CopyNetwork):
    """What the presence is told from is the token itself, so the loudest frames decide."""

    def sequence(self, mixture: torch.Tensor, enrolment: torch.Tensor) -> torch.Tensor:
        self.heard = mixture
        return mixture.float() / 999

    def logits(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.forward(self.heard, self.heard)


def known(**more: object) -> Extractor:
    head = PresenceHead(d_model=1)
    with torch.no_grad():  # 10 * loudness - 4, and loud frames count most
        head.evidence.weight.fill_(10.0)
        head.evidence.bias.fill_(-4.0)
        head.weight.weight.fill_(50.0)
    parts = dict(network=LoudnessNetwork(), front_end=LoudnessFrontEnd(False), vocoder=StepVocoder())
    return Extractor(**parts, presence=head, **more)


def talk(seconds: float, level: float) -> torch.Tensor:
    return torch.full((int(seconds * 16000),), level)


ENROLMENT = torch.rand(16000)


def test_an_absent_talker_gives_zeros_as_long_as_the_mixture_and_a_score() -> None:
    made = known().extract_with_tokens(talk(5, 0.1), ENROLMENT)
    assert len(made.wav) == 80000 and not made.wav.any()
    assert made.presence.score == pytest.approx(torch.tensor(-3.0).sigmoid().item(), abs=0.01)
    loud = known().extract_with_tokens(talk(5, 0.9), ENROLMENT)
    assert loud.presence.score == pytest.approx(torch.tensor(5.0).sigmoid().item(), abs=0.01)
    plain = known(presence_threshold=0).extract_with_tokens(talk(5, 0.1), ENROLMENT)
    assert plain.wav.any() and plain.presence == made.presence and torch.equal(plain.tokens, made.tokens)
    assert not known(presence_threshold=1).extract(talk(5, 0.9), ENROLMENT).any()


def test_who_talks_in_a_part_of_a_long_file_is_heard_there_and_the_rest_is_silent() -> None:
    mixture = torch.cat([talk(40, 0.1), talk(8, 0.9), talk(40, 0.1)])
    made = known(piece_seconds=2).extract_with_tokens(mixture, ENROLMENT)
    presence = made.presence
    assert len(made.wav) == len(mixture) and presence.score == max(presence.pieces) > 0.9
    assert len(presence.pieces) == len(presence.ends) and presence.ends[-1] == 88 == len(mixture) / 16000
    kept = [end for end, score in zip(presence.ends, presence.pieces, strict=True) if score >= 0.5]
    assert 40 < kept[0] <= 42.5 and 47.5 <= kept[-1] < 51
    untouched = known(piece_seconds=2, presence_threshold=0).extract(mixture, ENROLMENT)
    assert torch.equal(made.wav[40 * 16000 : 48 * 16000], untouched[40 * 16000 : 48 * 16000])
    assert not made.wav[: 37 * 16000].any() and not made.wav[51 * 16000 :].any()


@pytest.mark.parametrize("chunking", ["aligned", "published"])
def test_rows_of_a_batch_and_streams_are_judged_each_by_itself(chunking: str) -> None:
    system = known(chunking=chunking, regi_length=16000, piece_seconds=2)
    mixtures = torch.stack([talk(7, 0.1), talk(7, 0.9)])
    made = system.extract_with_tokens(mixtures, ENROLMENT.expand(2, -1))
    assert not made.wav[0].any() and made.wav[1].any()
    sources = [Source(lambda start, length, m=m: m[start : start + length], len(m), ENROLMENT) for m in mixtures]
    for (tokens, parts, presence), row in zip(system.stream_with_presence(sources), range(2), strict=True):
        assert torch.equal(torch.cat(list(parts)), made.wav[row]) and torch.equal(tokens, made.tokens[row])
        assert presence == made.presence[row]
    assert fulfils(system, PresenceTeller) and fulfils(system, TokenExtractor)


def test_nobody_is_in_a_silent_mixture() -> None:
    made = known(presence_threshold=0.0).extract_with_tokens(torch.zeros(48000), ENROLMENT)
    assert made.presence.score == 0 and not made.wav.any()


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_no_score_can_be_compared_with_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"presence_threshold must be in \[0, 1\]"):
        known(presence_threshold=threshold)


# -- from the recipe ---------------------------------------------------------------------------------------------------


def test_without_it_state_and_keys_are_the_published_ones() -> None:
    task = Recipe(RECIPE, overrides=settings()).build("task")["task"]
    assert task.presence is None and task.networks().keys() == {"network"}
    torch.manual_seed(0)
    plain = Recipe(RECIPE, overrides=settings()).build("task")["task"]
    torch.manual_seed(0)
    with_head = Recipe(RECIPE, overrides=settings(presence=True)).build("task")["task"]
    ours, theirs = plain.network.state_dict(), with_head.network.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert sum(p.numel() for p in with_head.presence.parameters()) == 2 * 48 + 1


@pytest.fixture(scope="module")
def with_head(tmp_path_factory):
    """The reference's network with a head, as a checkpoint."""
    path = tmp_path_factory.mktemp("ckpt") / "presence.pth"
    network = load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings()).network
    torch.manual_seed(1)
    checkpoint.save(path, {"model": checkpoint.flatten(
        {"network": network.state_dict(), "presence": PresenceHead(d_model=48).state_dict()}
    )})  # fmt: skip
    return path


@pytest.mark.slow
def test_what_is_not_silenced_has_the_numbers_that_it_has_without(with_head) -> None:
    mixture, enrolment = read("mix_clean", "utt0")[0], read("aux_s1", "utt0")[0]
    plain = load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings())
    told = load_extractor(RECIPE, with_head, overrides=settings(presence=True, presence_threshold=0))
    ours, theirs = told.extract_with_tokens(mixture, enrolment), plain.extract_with_tokens(mixture, enrolment)
    assert torch.equal(ours.wav, theirs.wav) and torch.equal(ours.tokens, theirs.tokens)
    assert theirs.presence is None and 0 < ours.presence.score < 1
    assert told.digests().keys() - plain.digests().keys() == {"presence"}
    assert plain.extract(mixture.numpy(), enrolment.numpy()).shape == mixture.shape


def test_a_head_that_the_recipe_or_the_checkpoint_lacks_is_told(with_head) -> None:
    with pytest.raises(ValueError, match="trained without a presence head: use it with presence=False"):
        load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings(presence=True))
    with pytest.raises(ValueError, match="trained with a presence head: use it with presence=True"):
        load_extractor(RECIPE, with_head, overrides=settings())


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    """Two items that are there; and their mixtures with each other's enrolment, which are not."""
    kinds = {"mixture": ("mix_clean", 8080), "target": ("s1", 8080), "enrolment": ("aux_s1", 8080)}
    rows = {role: torch.cat([read(kind, u, n) for u in ("utt0", "utt1")]) for role, (kind, n) in kinds.items()}
    absent = {**rows, "enrolment": rows["enrolment"].flip(0), "target": torch.zeros_like(rows["target"])}
    both = {role: torch.cat([rows[role], absent[role]]) for role in rows}
    return {**both, "present": torch.tensor([True, True, False, False])}


def build(**more: object):
    torch.manual_seed(0)
    return Recipe(RECIPE, overrides=settings(presence=True, dropout=0.0, **more)).build("task")["task"]


def test_tokens_are_learned_from_those_who_are_there_and_presence_from_all(batch) -> None:
    task = build(presence_weight=0.0)
    (objective,) = task.objectives(batch, task.networks())
    only = {name: value[:2] for name, value in batch.items()}
    inputs, target = task._encode(only)
    want = token_cross_entropy(task.network(*inputs), target).detach()
    assert float(objective.loss.detach()) / 2 == pytest.approx(float(want), rel=1e-5) and objective.count == 4
    found = {name: float(total) / float(count) for name, (total, count) in objective.metrics.items()}
    assert found["loss"] == pytest.approx(float(want), rel=1e-5)
    objective.loss.backward()
    assert not any(p.grad.any() for p in task.presence.parameters())  # of weight 0
    with torch.no_grad():
        evaluated = {name: float(total) / count for name, (total, count) in task.eval().evaluate(batch).items()}
        alone = {name: float(total) / count for name, (total, count) in task.evaluate(only).items()}
    assert evaluated["error"] == pytest.approx(found["error"], rel=1e-6) == pytest.approx(alone["error"], rel=1e-6)
    assert evaluated["presence_loss"] == pytest.approx(found["presence_loss"], rel=1e-5)
    assert "absent_found" in evaluated and "absent_found" not in alone and "present_silenced" in alone


def test_the_loss_of_items_is_that_of_the_batch() -> None:
    logits, tokens = torch.randn(3, 5, 2, 7), torch.randint(7, (3, 5, 2))
    items = cross_entropy_of_items(logits, tokens)
    assert items.shape == (3,) and float(items.mean()) == pytest.approx(float(token_cross_entropy(logits, tokens)))
    assert float(items[1]) == pytest.approx(float(token_cross_entropy(logits[1:2], tokens[1:2])))


def test_micro_batches_of_any_share_make_the_same_step(batch) -> None:
    """A mean over the present ones of each would weigh them by their company."""
    grads = []
    for parts in ([[0, 1, 2, 3]], [[0, 2, 3], [1]], [[0, 1], [2, 3]]):
        task = build()
        for rows in parts:
            (objective,) = task.objectives({name: value[rows] for name, value in batch.items()}, task.networks())
            (objective.loss / 4).backward()
            assert objective.count == len(rows)
        grads.append(task.network.head.weight.grad)
    assert grads[0].abs().max() > 0
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0], rtol=0, atol=1e-5)


def test_the_head_learns_who_is_not_there(batch) -> None:
    """The same two mixtures with either enrolment: nothing but the comparison tells them apart."""
    task = build(lr=0.002).train()
    optimizer = task.optimizers()["network"]
    with torch.no_grad():
        before = {name: float(total) / count for name, (total, count) in task.eval().evaluate(batch).items()}
    task.train()
    for _ in range(120):
        (objective,) = task.objectives(batch, task.networks())
        optimizer.zero_grad()
        (objective.loss / objective.count).backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), 5.0)
        optimizer.step()
        if float(objective.metrics["presence_loss"][0]) / 4 < 0.1:
            break
    with torch.no_grad():
        after = {name: float(total) / count for name, (total, count) in task.eval().evaluate(batch).items()}
    assert before["presence_loss"] > 0.5 and after["presence_loss"] < 0.2
    assert after["absent_found"] == 100 and after["present_silenced"] == 0


def test_the_head_and_the_absent_go_together(batch) -> None:
    plain = Recipe(RECIPE, overrides=settings()).build("task")["task"]
    lacking = {name: value for name, value in batch.items() if name != "present"}
    for task, what in ((plain, batch), (build(), lacking)):
        with pytest.raises(ValueError, match="absent_share and presence go together"):
            next(task.objectives(what, task.networks()))


def test_a_row_of_plain_values() -> None:
    row = known(piece_seconds=2).extract_with_tokens(talk(5.01, 0.9), ENROLMENT).presence.row()
    assert row.keys() == {"score", "pieces", "ends"} and row["ends"][-1] == 5.01
    assert np.allclose(row["score"], max(row["pieces"]))
