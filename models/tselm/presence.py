"""Is the enrolled talker in the mixture at all? A small head that says so, and silence where it says no.

No published TSELM has it, so it is a network of its own beside theirs: a checkpoint holds it under ``presence``, and
without it everything is as published.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

FADE_FRAMES = 5  # from speech to silence and back: 0.1 s at 50 frames a second


class PresenceHead(nn.Module):
    """One logit for a piece of a mixture: the mean of what its frames say, by weights that they say too.

    A plain mean would count the pauses of a talker, and what the other one says alone, as evidence against him.

    Args:
        d_model: width of the sequence that it reads, ``TSELM.sequence``.
    """

    def __init__(self, *, d_model: int):
        super().__init__()
        self.evidence = nn.Linear(d_model, 1)
        self.weight = nn.Linear(d_model, 1, bias=False)  # a bias would add the same to all frames, and change nothing

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        """[B, N, d_model] -> [B] float32, above 0 where the talker is more likely there than not."""
        said, weight = (part(sequence).float()[..., 0] for part in (self.evidence, self.weight))
        return (weight.softmax(dim=-1) * said).sum(dim=-1)


def make_head(*, wanted: bool, d_model: int) -> PresenceHead | None:
    """The head of a recipe that asks for one."""
    return PresenceHead(d_model=d_model) if wanted else None


def require_threshold(threshold: float) -> None:
    """Raise a ValueError if no score can be compared with it."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"presence_threshold must be in [0, 1], got {threshold}")


def require_same_heads(tensors: Collection[str], head: PresenceHead | None, path: str | os.PathLike) -> None:
    """Raise a ValueError, with the way out, if a checkpoint has a head and the recipe none, or the other way round.

    Args:
        tensors: names of the checkpoint's.
    """
    has_one = any(name.startswith("presence.") for name in tensors)
    if head is not None and not has_one:
        raise ValueError(
            f"{path} was trained without a presence head: use it with presence=False, or train it further with one "
            "(train.py --init, presence=True and an absent_share)"
        )
    if has_one and head is None:
        raise ValueError(
            f"{path} was trained with a presence head: use it with presence=True; presence_threshold=0 silences nothing"
        )


class Gate:
    """Silence for the pieces of a signal in which the talker is not, with soft edges.

    The fades lie in the silent pieces, so that what is kept is untouched.

    Attributes:
        is_open, is_shut: whether nothing is silenced, or everything.

    Args:
        frames, kept: of each piece of the signal, in order: how long it is, and whether it is kept.
        hop: samples of a frame.
    """

    def __init__(self, frames: Sequence[int], kept: Sequence[bool], *, hop: int):
        self._lengths = frames
        frames = torch.cat([torch.full((count,), float(one)) for count, one in zip(frames, kept, strict=True)])
        self.hop = hop
        self.is_open, self.is_shut = bool(frames.all()), not bool(frames.any())
        self._kept = frames.bool()
        # At every boundary of frames: 1 beside a kept one, then falling to 0.
        edges = torch.maximum(F.pad(frames, (1, 0)), F.pad(frames, (0, 1)))
        levels = [
            (1 - away / FADE_FRAMES) * F.max_pool1d(edges[None, None], 2 * away + 1, 1, away)[0, 0]
            for away in range(FADE_FRAMES)
        ]
        self._edges = torch.stack(levels).amax(dim=0)

    def __call__(self, wav: torch.Tensor, start: int) -> torch.Tensor:
        """Samples ``start`` to ``start + L`` of the signal, [L], as loud as they are to be."""
        places = torch.arange(start, start + len(wav))
        frame = (places // self.hop).clamp(max=len(self._kept) - 1)
        within = ((places - frame * self.hop) / self.hop).clamp(max=1)
        level = torch.lerp(self._edges[frame], self._edges[frame + 1], within)
        level = torch.where(self._kept[frame], 1.0, 0.5 - 0.5 * torch.cos(torch.pi * level))
        return wav * level.to(wav)

    def ends(self, samples: int, sample_rate: int) -> tuple[float, ...]:
        """Where each piece of a signal of ``samples`` ends, in seconds."""
        return tuple(min(end * self.hop, samples) / sample_rate for end in itertools.accumulate(self._lengths))

    def silenced(self, parts: Iterator[torch.Tensor], *, samples: int, at_a_time: int) -> Iterator[torch.Tensor]:
        """The parts of a signal, [L] each, as loud as they are to be; if nothing is kept, none is asked for.

        Args:
            samples: of all parts.
            at_a_time: samples of a part of zeros.
        """
        if self.is_shut:
            size = max(self.hop, at_a_time)
            for start in range(0, samples, size):
                yield torch.zeros(min(size, samples - start))
            return
        start = 0
        for part in parts:
            yield part if self.is_open else self(part, start)
            start += len(part)
