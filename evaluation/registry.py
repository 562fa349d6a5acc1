"""Every metric by its name, made ready or with the reason why it cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.dnsmos import DNSMOS
from evaluation.metric import Metric, Unavailable
from evaluation.nisqa import NISQA
from evaluation.signal_metrics import ESTOI, PESQ, SISDR, STOI, CorrectTalker, SISDRImprovement
from evaluation.speech_models import DifferentialWER, SpeakerSimilarity, SpeechBERTScore
from evaluation.tokens import TokenError, TokenSystem


@dataclass(frozen=True)
class Settings:
    """What metrics have to be told.

    Attributes:
        speechbert_model, whisper_model, speaker_model: local folders or hub ids.
        nisqa_weights: file or folder; None: where torchmetrics keeps it.
        predicted: folder of the tokens that inference kept.
    """

    speechbert_model: str = "facebook/hubert-base-ls960"
    speechbert_layer: int = 11
    whisper_model: str = "openai/whisper-base"
    speaker_model: str = "microsoft/wavlm-base-plus-sv"
    nisqa_weights: str | None = None
    predicted: Path | None = None


NAMES = (
    "dnsmos", "nisqa", "speechbert", "dwer", "similarity", "stoi", "estoi", "pesq", "si_sdr", "si_sdri", "talker",
    "tokens", "predicted_tokens",
)  # fmt: skip


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
            metrics.append(_make(name, settings, tokens))
        except Unavailable as error:
            unavailable[name] = str(error)
    return metrics, unavailable


def _make(name: str, settings: Settings, tokens: TokenSystem | Unavailable) -> Metric:
    simple = {
        "dnsmos": DNSMOS, "stoi": STOI, "estoi": ESTOI, "pesq": PESQ, "si_sdr": SISDR, "si_sdri": SISDRImprovement,
        "talker": CorrectTalker,
    }  # fmt: skip
    if name in simple:
        return simple[name]()
    if name == "nisqa":
        return NISQA(source=settings.nisqa_weights, flag="--nisqa-weights")
    if name == "speechbert":
        layer, flag = settings.speechbert_layer, "--speechbert-model"
        return SpeechBERTScore(source=settings.speechbert_model, layer=layer, flag=flag)
    if name == "dwer":
        return DifferentialWER(source=settings.whisper_model, flag="--whisper-model")
    if name == "similarity":
        return SpeakerSimilarity(source=settings.speaker_model, flag="--speaker-model")
    if isinstance(tokens, Unavailable):
        raise tokens
    if name == "predicted_tokens" and not (settings.predicted and settings.predicted.is_dir()):
        raise Unavailable(f"no tokens in {settings.predicted}: extract with --save-tokens")
    return TokenError(tokens, source="output" if name == "tokens" else "predicted")
