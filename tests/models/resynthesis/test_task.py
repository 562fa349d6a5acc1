"""Whose the rows of the table of speakers are, whatever a training continues or begins from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.voices import read_names
from models.resynthesis.files import public_state
from models.resynthesis.network import ResynthesisNetwork
from models.resynthesis.public_config import PublicSettings
from models.resynthesis.task import VoiceVocoding
from modules.mel import MelDistance

SIZES = {
    "code_hop": 320, "num_units": 8, "embedding_dim": 4, "f0_mode": "none", "f0_quantiser": None, "unit_encoder": None,
    "speaker_mode": "table", "speaker_dim": 4, "f0_feats": False, "upsample_factors": [5, 4, 4, 4],
    "upsample_kernel_sizes": [11, 8, 8, 8], "upsample_initial_channel": 16, "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1]],
}  # fmt: skip


def make_task(speakers: list[str], *, rows: int = 6) -> VoiceVocoding:
    network = ResynthesisNetwork(speaker_rows=rows, **SIZES)
    told = {"unit_mode": "codes", "speaker_from": "_", "f0_normalize": True, "f0_median": False, "f0_interp": False}
    return VoiceVocoding(
        network=network, discriminator=None, optimizer=torch.optim.SGD, mel=MelDistance(), speakers=speakers,
        read_names=read_names, public=PublicSettings(network=network, **told),
    )  # fmt: skip


def batch(*ids: int) -> dict[str, torch.Tensor]:
    return {
        "wav": torch.zeros(len(ids), 2560),
        "units": torch.zeros(len(ids), 8, dtype=torch.int64),
        "speaker": torch.tensor(ids),
        "index": torch.arange(len(ids)),
    }


def speech(task: VoiceVocoding, *ids: int) -> torch.Tensor:
    with torch.no_grad():
        return task._speech(task.network, batch(*ids))[0]


@pytest.mark.parametrize("public", [False, True], ids=["ours", "public"])
def test_a_training_that_begins_from_another_maps_speakers_by_name(tmp_path: Path, public: bool) -> None:
    old = make_task(["anna", "bert", "cora"])
    state = old.network.state_dict()
    if public:
        (tmp_path / "speakers.txt").write_text("anna\nbert\ncora\n")
        settings, tensors = {}, {f"generator.{name}": x for name, x in public_state(old.network).items()}
    else:
        settings, tensors = old.settings(), {f"vocoder.{name}": x for name, x in state.items()}
    new = make_task(["alma", "bert"])  # the sorted names of its manifest
    initial = new.network.spkr.weight.detach().clone()
    new.adopt_settings(settings, tmp_path / "g_00000001")
    adopted = {name.removeprefix("vocoder."): x for name, x in new.adopt(tensors).items()}
    new.network.load_state_dict(adopted)
    assert new.settings()["speakers"] == ["anna", "bert", "cora", "alma"]
    assert torch.equal(new.network.spkr.weight[:3], state["spkr.weight"][:3])
    assert torch.equal(new.network.spkr.weight[3:], initial[3:])
    torch.testing.assert_close(speech(new, 1), speech(old, 1))
    own = new.network(units=batch(0)["units"], wav=batch(0)["wav"], f0=None, speaker=torch.tensor([3]), f0_stats=None)
    torch.testing.assert_close(speech(new, 0), own[0])


def test_a_training_goes_on_with_the_rows_that_it_had(tmp_path: Path) -> None:
    begun = make_task(["alma", "bert"])
    begun.adopt_settings({"speakers": ["anna", "bert"]}, tmp_path / "best.pth")
    again = make_task(["alma", "bert"])
    again.adopt_settings(begun.settings(), tmp_path / "last.pth")
    assert again.settings() == begun.settings() and again.rows.tolist() == begun.rows.tolist() == [2, 1]


def test_rows_of_nobody_and_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not say whose the rows .*speakers.txt"):
        make_task(["alma"]).adopt_settings({}, tmp_path / "g_00000001")
    with pytest.raises(ValueError, match="4 speakers need as many rows; speaker_rows is 3"):
        make_task(["alma"], rows=3).adopt_settings({"speakers": ["anna", "bert", "cora"]}, tmp_path / "best.pth")
    with pytest.raises(ValueError, match="2 speakers need as many rows; speaker_rows is 1"):
        make_task(["anna", "bert"], rows=1)
