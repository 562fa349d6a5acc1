"""What the network hears and sees, checked: mixtures, voiceprints, faces."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from models.limuse.windows import FACE_HOP

FACE_TOLERANCE = 5  # frames that a face may differ by from its recording


def as_mixtures(mixture: torch.Tensor | np.ndarray, channels: int) -> tuple[torch.Tensor, bool]:
    """[C, T] or [B, C, T] as a float32 batch of the channels that are heard, and whether it was one.

    Raises:
        ValueError: another type or shape, no samples, another number of channels, or samples that are not finite.
    """
    wav = torch.as_tensor(mixture)
    if not wav.is_floating_point():
        raise ValueError(f"the mixture must be floating point in [-1, 1], got {wav.dtype}")
    if wav.ndim not in (2, 3):
        raise ValueError(f"the mixture must be [C, T] or [B, C, T], got {list(wav.shape)}")
    if wav.numel() == 0:
        raise ValueError("the mixture holds no samples")
    if not bool(wav.isfinite().all()):
        raise ValueError("the mixture holds samples that are not finite (NaN or infinite)")
    return _chosen(wav.float().reshape(-1, *wav.shape[-2:]), channels), wav.ndim == 3


def microphones(wav: torch.Tensor | np.ndarray, channels: int) -> torch.Tensor:
    """What was read of a file, [C, T], or [T] of one channel, as the channels that are heard: [channels, T]."""
    wav = torch.as_tensor(wav).float()
    return _chosen(wav.reshape(-1, wav.shape[-1]), channels)


def as_voiceprints(voiceprint: torch.Tensor | np.ndarray, count: int, dim: int) -> torch.Tensor:
    """[D] or [B, D] as float32 [B, D]; a ValueError if they are others."""
    vectors = torch.as_tensor(voiceprint)
    if not vectors.is_floating_point() or vectors.ndim not in (1, 2) or vectors.shape[-1] != dim:
        raise ValueError(f"a voiceprint must be [{dim}] or [B, {dim}] (voiceprint_dim), got {list(vectors.shape)}")
    if not bool(vectors.isfinite().all()):
        raise ValueError("the voiceprint holds values that are not finite (NaN or infinite)")
    vectors = vectors.float().reshape(-1, dim)
    if len(vectors) != count:
        raise ValueError(f"{count} mixtures need as many voiceprints, got {len(vectors)}")
    return vectors


def as_faces(visual: torch.Tensor | np.ndarray | None, count: int, samples: int, dim: int) -> torch.Tensor:
    """[V, dim] or [B, V, dim] as float32 [B, ceil(samples / 640), dim]: cut, or zero-padded at the end; None: zeros.

    Raises:
        ValueError: another shape, values that are not finite, or a length that differs by more than 5 frames.
    """
    needed = -(-samples // FACE_HOP)
    if visual is None:
        return torch.zeros(count, needed, dim)
    faces = torch.as_tensor(visual)
    if not faces.is_floating_point() or faces.ndim not in (2, 3) or faces.shape[-1] != dim:
        raise ValueError(f"a face must be [V, {dim}] or [B, V, {dim}] (visual_dim), got {list(faces.shape)}")
    if not bool(faces.isfinite().all()):
        raise ValueError("the face holds values that are not finite (NaN or infinite)")
    faces = faces.float().reshape(-1, *faces.shape[-2:])
    if len(faces) != count:
        raise ValueError(f"{count} mixtures need as many faces, got {len(faces)}")
    if abs(faces.shape[1] - needed) > FACE_TOLERANCE:
        raise ValueError(
            f"the face has {faces.shape[1]} frames where the mixture needs {needed}, 25 a second; they may differ by "
            f"{FACE_TOLERANCE}"
        )
    return F.pad(faces[:, :needed], (0, 0, 0, max(needed - faces.shape[1], 0)))


def _chosen(wav: torch.Tensor, channels: int) -> torch.Tensor:
    """[.., C, T] of as many channels as the network hears; of one, the first of any."""
    if channels == 1:
        return wav[..., :1, :]
    if wav.shape[-2] != channels:
        raise ValueError(f"the mixture has {wav.shape[-2]} channel{'s' * (wav.shape[-2] > 1)}, {channels} are needed")
    return wav
