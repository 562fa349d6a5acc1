"""The discriminators: SpeechBrain's own at full size, and the same way through fewer channels at less."""

from __future__ import annotations

import pytest
import torch
from speechbrain.lobes.models.HifiGAN import HifiganDiscriminator

from modules.discriminators import Discriminators, make_discriminators


@pytest.fixture(scope="module")
def wav() -> torch.Tensor:
    return torch.randn(2, 1, 3000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole() -> HifiganDiscriminator:
    torch.manual_seed(0)
    return HifiganDiscriminator().eval()


def outputs(discriminator: HifiganDiscriminator, wav: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        scores, features = discriminator(wav)
    assert [score.shape for score in scores] == [layers[-1].flatten(1).shape for layers in features]
    return [x for layers in features for x in layers]


@pytest.mark.slow
def test_by_default_they_are_speechbrains(whole, wav) -> None:
    ours = Discriminators().eval()
    assert sum(p.numel() for p in ours.parameters()) == 70_724_591
    ours.load_state_dict(whole.state_dict())
    for a, b in zip(outputs(ours, wav), outputs(whole, wav), strict=True):
        assert torch.equal(a, b)


def test_what_is_left_out_changes_nothing_in_what_is_left(whole, wav) -> None:
    part = Discriminators(periods=[3, 11], scales=2).eval()
    kept = {"mpd.discriminators.1": "0", "mpd.discriminators.4": "1"}
    state = {}
    for name, value in whole.state_dict().items():
        family, _, number, rest = name.split(".", 3)
        number = kept.get(f"{family}.discriminators.{number}") if family == "mpd" else number
        if number is not None and (family == "mpd" or int(number) < 2):
            state[f"{family}.discriminators.{number}.{rest}"] = value
    part.load_state_dict(state)
    every = outputs(whole, wav)
    parts = [every[6:12], every[24:30], every[30:38], every[38:46]]
    for a, b in zip(outputs(part, wav), [x for layers in parts for x in layers], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("width", [0.5, 0.125, 0.01])
@pytest.mark.slow
def test_narrower_ones_look_at_the_same_places(whole, wav, width: int) -> None:
    narrow = Discriminators(width=width)
    assert narrow.state_dict().keys() == whole.state_dict().keys()
    for a, b in zip(outputs(narrow, wav), outputs(whole, wav), strict=True):
        assert a.shape[2:] == b.shape[2:] and (a.shape[1] < b.shape[1] or a.shape[1] == b.shape[1] <= 16)
    layers = dict(narrow.named_modules())
    for name, layer in whole.named_modules():
        for fact in ("kernel_size", "stride", "padding", "dilation", "groups"):
            if hasattr(layer, fact):
                assert getattr(layer, fact) == getattr(layers[name], fact), (name, fact)


@pytest.mark.slow
def test_the_cost_falls_with_the_square_of_the_width() -> None:
    count = {w: sum(p.numel() for p in Discriminators(width=w, scales=0).parameters()) for w in (1.0, 0.25, 0.125)}
    assert 15 < count[1.0] / count[0.25] < 17 and 60 < count[1.0] / count[0.125] < 66


@pytest.mark.parametrize("parts", [dict(periods=[2], scales=0), dict(periods=[], scales=1)])
def test_all_parameters_get_gradients(wav, parts: dict) -> None:
    narrow = Discriminators(width=0.05, **parts)
    scores, features = narrow(wav)
    assert len(scores) == len(features) == 1
    scores[0].square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in narrow.parameters())


def test_those_of_spectrograms_come_beside_the_others() -> None:
    wav = torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    both = Discriminators(width=0.05, periods=[2], scales=0, stft_sizes=[256, 128], stft_filters=4)
    scores, features = both(wav)
    assert [len(layers) for layers in features] == [6, 5, 5] and len(scores) == 3
    (sum(score.square().mean() for score in scores)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in both.parameters())
    alone = Discriminators(periods=[], scales=0, stft_sizes=[256], stft_filters=4)
    assert len(alone(wav)[0]) == 1


def test_the_published_ones_are_thirteen_with_79_layers() -> None:
    whole = Discriminators(stft_sizes=[1024, 2048, 512, 256, 128])
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in whole.named_children()}
    assert count == {"mpd": 41_105_770, "msd": 29_618_821, "stft": 472_330}
    with torch.no_grad():
        scores, features = whole.eval()(torch.randn(1, 1, 4000))
    assert len(scores) == len(features) == 13 and sum(map(len, features)) == 79


def test_without_any_there_is_none() -> None:
    assert make_discriminators(periods=[], scales=0) is None
    assert isinstance(make_discriminators(width=0.05, periods=[2], scales=0), Discriminators)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(width=0.0), "at most 1, got 0.0"),
        (dict(width=1.5), "at most 1, got 1.5"),
        (dict(scales=4), "0 to 3 scales.* and 4 scales"),
        (dict(periods=[], scales=0), r"got FFTs of \[\] samples, periods \[\] and 0 scales"),
        (dict(periods=[2, 0]), r"periods \[2, 0\]"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Discriminators(**settings)
