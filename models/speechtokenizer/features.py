"""The program that makes a teacher's features: what ``teacher_features`` runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from models.interfaces import Item, Role
from models.programs import SystemProgram
from models.speechtokenizer.teacher import Teacher


class TeacherFeatures(SystemProgram):
    """Speech -> what the teacher makes of it, float16, a row for each of the codec's frames.

    Raises:
        ValueError: there is no teacher.
    """

    record = "features.json"

    def __init__(self, *, teacher: Teacher | None):
        if teacher is None:
            raise ValueError("teacher_path must be set: --override teacher_path=...")
        super().__init__({"teacher": teacher}, batch_seconds=0.0)
        self.teacher = teacher
        rate = teacher.sample_rate
        self.inputs = {"audio": Role("audio", "audio.scp", sample_rate=rate)}
        self.results = {"features": Role("array", ".npy", sample_rate=rate / teacher.hop_length)}

    def facts(self) -> Mapping[str, Any]:
        return self.teacher.facts()

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        return [{"features": self._of(torch.as_tensor(item["audio"].whole()))} for item in items]

    def _of(self, wav: torch.Tensor) -> torch.Tensor:
        device = next(self.teacher.parameters()).device
        features = self.teacher(wav[None].to(device), torch.tensor([len(wav)]))[0]
        return features.half().cpu()
