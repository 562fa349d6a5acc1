"""Every metric by its name, made ready or with the reason why it cannot run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.bss_eval import SDR, SDRImprovement
from evaluation.dnsmos import DNSMOS
from evaluation.metric import Metric, Unavailable
from evaluation.nisqa import NISQA
from evaluation.packaged_models import PackagedDWER, ResemblyzerSimilarity
from evaluation.pitch import PitchErrors
from evaluation.presence import Presence
from evaluation.signal_metrics import ESTOI, PESQ, SISDR, STOI, CorrectTalker, MelDistance, SISDRImprovement
from evaluation.speech_models import DifferentialWER, SpeakerSimilarity, SpeechBERTScore
from evaluation.tokens import TokenError, TokenSystem


@dataclass(frozen=True)
class Settings:
    """What metrics have to be told.

    Attributes:
        speechbert_model, whisper_model, speaker_model: local folders or hub ids.
        nisqa_weights: file or folder; None: where torchmetrics keeps it.
        predicted: folder of the tokens that inference kept.
        absent: folder of outputs for talkers who are not in the mixtures.
    """

    speechbert_model: str = "facebook/hubert-base-ls960"
    speechbert_layer: int = 11
    whisper_model: str = "openai/whisper-base"
    speaker_model: str = "microsoft/wavlm-base-plus-sv"
    nisqa_weights: str | None = None
    predicted: Path | None = None
    absent: Path | None = None


def _predicted_tokens(settings: Settings, tokens: TokenSystem | Unavailable) -> Metric:
    metric = TokenError(_known(tokens), source="predicted")
    if not (settings.predicted and settings.predicted.is_dir()):
        raise Unavailable(f"no tokens in {settings.predicted}: extract with --save-tokens")
    return metric


def _known(tokens: TokenSystem | Unavailable) -> TokenSystem:
    if isinstance(tokens, Unavailable):
        raise tokens
    return tokens


# In the order in which reports show them.
_METRICS: dict[str, Callable[[Settings, TokenSystem | Unavailable], Metric]] = {
    "dnsmos": lambda settings, tokens: DNSMOS(),
    "nisqa": lambda settings, tokens: NISQA(source=settings.nisqa_weights, flag="--nisqa-weights"),
    "speechbert": lambda settings, tokens: SpeechBERTScore(
        source=settings.speechbert_model, layer=settings.speechbert_layer, flag="--speechbert-model"
    ),
    "dwer": lambda settings, tokens: DifferentialWER(source=settings.whisper_model, flag="--whisper-model"),
    "similarity": lambda settings, tokens: SpeakerSimilarity(source=settings.speaker_model, flag="--speaker-model"),
    "dwer_tiny": lambda settings, tokens: PackagedDWER(),
    "resemblyzer": lambda settings, tokens: ResemblyzerSimilarity(),
    "stoi": lambda settings, tokens: STOI(),
    "estoi": lambda settings, tokens: ESTOI(),
    "pesq": lambda settings, tokens: PESQ(),
    "mel": lambda settings, tokens: MelDistance(),
    "pitch": lambda settings, tokens: PitchErrors(),
    "si_sdr": lambda settings, tokens: SISDR(),
    "si_sdri": lambda settings, tokens: SISDRImprovement(),
    "sdr": lambda settings, tokens: SDR(),
    "sdri": lambda settings, tokens: SDRImprovement(),
    "talker": lambda settings, tokens: CorrectTalker(),
    "presence": lambda settings, tokens: Presence(absent=settings.absent),
    "tokens": lambda settings, tokens: TokenError(_known(tokens)),
    "predicted_tokens": _predicted_tokens,
}
NAMES = tuple(_METRICS)
# pitch takes 0.4 s a second of speech, and says little of extraction; presence goes with systems that tell it.
ASKED_FOR = ("pitch", "presence")
DEFAULT = tuple(name for name in NAMES if name not in ASKED_FOR)


def make(
    names: Sequence[str], settings: Settings, tokens: TokenSystem | Unavailable
) -> tuple[list[Metric], dict[str, str]]:
    """The metrics that can run, and name -> reason of those that cannot.

    Args:
        tokens: the recipe's tokens, or why there are none.

    Raises:
        ValueError: a name that is none.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"no such metric: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    metrics, unavailable = [], {}
    for name in (name for name in NAMES if name in names):
        try:
            metrics.append(_METRICS[name](settings, tokens))
        except Unavailable as error:
            unavailable[name] = str(error)
    return metrics, unavailable
