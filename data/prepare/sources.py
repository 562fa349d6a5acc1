"""Where the voices of the synthetic corpus come from: formant synthesis (espeak-ng), or natural voices (Kokoro)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from data.prepare import espeak, natural_voices, voices
from data.prepare.kokoro import Kokoro
from data.prepare.utterances import Say, never_akin, say_one_by_one


class Source(Protocol):
    """What the corpus asks of voices. A talker is an object with ``sex`` and ``describe()``."""

    name: str
    what: str  # it makes
    head: str  # of the table of speakers

    @property
    def arguments(self) -> dict[str, object]:
        """What the corpus follows from beside its size and its seed."""
        ...

    @property
    def say(self) -> Say: ...

    def versions(self) -> dict[str, str]:
        """Of what makes the sound. Raises an OSError that says what is missing, and how to get it."""
        ...

    def num_held_out(self, mixtures: int) -> int:
        """Talkers of a dev or test set of so many mixtures."""
        ...

    def draw(self, split: str, number: int, *, seed: int) -> dict[str, Any]:
        """Speaker ID -> talker."""
        ...

    def together(self, talkers: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Training talkers in groups, each of which says the same sentences."""
        ...

    def akin(self, one: Any, other: Any) -> bool:
        """Whether two held-out talkers are not to be mixed."""
        ...


class FormantVoices:
    name = "espeak-ng"
    what = "synthetic speech by espeak-ng"
    head = "Synthetic voices by espeak-ng, not people."
    say = staticmethod(say_one_by_one)
    akin = staticmethod(never_akin)
    arguments: dict[str, object] = {}

    def versions(self) -> dict[str, str]:
        return {"espeak_ng": espeak.version()}

    def num_held_out(self, mixtures: int) -> int:
        """A talker is the target of about six mixtures."""
        return min(max(mixtures // 6, 4), 30)

    def draw(self, split: str, number: int, *, seed: int) -> dict[str, voices.Voice]:
        return voices.draw_voices(split, number, seed=seed)

    def together(self, talkers: Mapping[str, voices.Voice]) -> Sequence[Mapping[str, voices.Voice]]:
        return [{speaker: voice} for speaker, voice in talkers.items()]


@dataclass(frozen=True)
class NaturalVoices:
    """Kokoro's.

    Args:
        folder: of its voices, see ``data.prepare.kokoro.Kokoro``.
        shifts: training talkers that are made of one blend of voices.
    """

    folder: Path | None = None
    shifts: int = 3
    name = "natural"
    what = "natural synthetic speech by Kokoro-82M"
    head = "Synthetic voices by Kokoro-82M, blended and shifted, not people."
    akin = staticmethod(natural_voices.akin)

    def __post_init__(self):
        if not 1 <= self.shifts <= natural_voices.MOST_SHIFTS:
            raise ValueError(f"--shifts must be 1 to {natural_voices.MOST_SHIFTS}, got {self.shifts}")

    @property
    def arguments(self) -> dict[str, object]:
        return {"voices": self.name, "shifts": self.shifts, "talkers": natural_voices.VERSION}

    @property
    def say(self) -> Say:
        return partial(natural_voices.speak, folder=self.folder)

    def versions(self) -> dict[str, str]:
        return Kokoro(self.folder).versions(natural_voices.NAMES)

    def num_held_out(self, mixtures: int) -> int:
        """Talkers as many as there are voices, and more where each is then the target of about four mixtures."""
        return min(max(mixtures // 4, 12), 60)

    def draw(self, split: str, number: int, *, seed: int) -> dict[str, natural_voices.NaturalVoice]:
        return natural_voices.draw_voices(split, number, seed=seed, shifts=self.shifts)

    def together(
        self, talkers: Mapping[str, natural_voices.NaturalVoice]
    ) -> Sequence[Mapping[str, natural_voices.NaturalVoice]]:
        return natural_voices.groups_of(talkers)
