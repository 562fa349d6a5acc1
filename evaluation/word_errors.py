"""Word errors between what a recogniser hears in the output and what it hears in the clean target (dWER)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np

from evaluation.metric import Column, Metric, Remembered, Score, Signals, Unscorable, version


class WordErrors(Metric):
    """dWER by a Whisper; a subclass hears, and says how.

    Args:
        by: the model and what it hears with, for definitions.
        title: of the columns; ``name`` and ``{name}_normalized`` are theirs.
        versions: of the packages that the model runs with.
        spellings: British -> American, of Whisper's normaliser; empty where the model comes without.
    """

    def __init__(self, *, by: str, title: str, versions: str, spellings: Mapping[str, str]):
        self._spellings = dict(spellings)
        self._of_target = Remembered()
        what = f"word error rate between the transcripts of output and clean target by {by}"
        rest = f"files in whose target it hears no words are left out; {versions}, {version('jiwer')}"
        spelling = "" if spellings else ", but without its table of spellings"
        mean = f"mean over the files of the {what}, without any text normalisation; {rest}"
        ratio = f"{what}, after Whisper's English normaliser{spelling}: all errors over all words; {rest}"
        self.columns = (
            Column(self.name, title, mean, better="lower"),
            Column(f"{self.name}_normalized", f"{title}, normalised", ratio, better="lower", is_ratio=True),
        )

    @abstractmethod
    def transcribe(self, wav: np.ndarray) -> str:
        """What the model hears in a signal, [T] float32 at 16 kHz, whatever its length."""

    def score(self, signals: Signals) -> dict[str, Score]:
        import jiwer

        reference = self._of_target(self.transcribe, signals.target)
        reference_normalized = self.normalize(reference)
        if not any(map(str.isalnum, reference_normalized)):  # "..." and "(music)" are no words
            raise Unscorable("Whisper hears no words in the target")
        heard = self.transcribe(signals.output)
        words = jiwer.process_words(reference_normalized, self.normalize(heard))
        return {
            self.name: float(jiwer.wer(reference, heard)),
            f"{self.name}_normalized": (
                words.substitutions + words.deletions + words.insertions,
                words.hits + words.substitutions + words.deletions,
            ),
        }

    def normalize(self, text: str) -> str:
        """The text as Whisper's authors compare it: lower case, no punctuation, one spelling, numbers as digits."""
        from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

        return EnglishTextNormalizer(self._spellings)(text)
