"""The units of speech: of a frozen encoder and its k-means, or learned with the vocoder."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from models.resynthesis.network import GRID, SAMPLE_RATE, ResynthesisNetwork
from models.ssl_tokenizer import SSLTokenizer

LONGEST = 100 * SAMPLE_RATE  # samples that an encoder hears in one piece
AROUND = 5 * SAMPLE_RATE  # that it hears on either side of a piece of a longer file; a multiple of GRID


class UnitReader:
    """Turns speech into units.

    Args:
        network: with an encoder of its own where units are learned.
        unit_encoder: of given units; None: there are none but learned ones.
        alignment: ``aligned``, a unit for every ``hop`` samples that begin; ``published``, those that fit.
    """

    def __init__(self, *, network: ResynthesisNetwork, unit_encoder: SSLTokenizer | None, alignment: str):
        self.codec = network.code_codec
        self.encoder = unit_encoder
        self.aligned = alignment == "aligned"
        self.hop_length = network.code_hop

    def units(self, wav: torch.Tensor) -> torch.Tensor:
        """[T] -> [N]; ``aligned``: N = ceil(T / hop).

        Raises:
            ValueError: there is no unit encoder.
        """
        if not self.aligned:
            return self.of_grid(wav)
        return self.of_grid(on_grid(wav))[: -(-len(wav) // self.hop_length)]

    def of_grid(self, wav: torch.Tensor) -> torch.Tensor:
        """[T] -> [N]: ``aligned``, of a signal on the grid, T / hop units; ``published``, as many as fit."""
        if self.codec is not None:
            return self.codec.encode(wav[None].float())[0]
        if self.encoder is None:
            raise ValueError("this recipe has no unit encoder: set ssl_path and kmeans_path")
        grid = self.encoder.grid
        if self.aligned:
            wav = F.pad(wav, (0, grid.overlap))
        if len(wav) < grid.window:
            return torch.zeros(0, dtype=torch.int64, device=wav.device)
        if len(wav) <= LONGEST:
            return self.encoder.encode(wav[None])[0, :, 0]
        return torch.cat(list(self._in_pieces(wav, grid.overlap)))

    def _in_pieces(self, wav: torch.Tensor, overlap: int) -> Iterator[torch.Tensor]:
        """Of a file that is longer than can be heard at once: each piece with what is around it."""
        step, hop = LONGEST - 2 * AROUND, self.hop_length
        total = (len(wav) - overlap) // hop
        for start in range(0, len(wav) - overlap, step):
            left = max(start - AROUND, 0)
            heard = self.encoder.encode(wav[None, left : start + step + AROUND + overlap])[0, :, 0]
            first, last = start // hop, min((start + step) // hop, total)
            yield heard[first - left // hop : last - left // hop]


def on_grid(wav: torch.Tensor) -> torch.Tensor:
    """[T], with zeros up to the next multiple of 1,280 samples."""
    return F.pad(wav, (0, -len(wav) % GRID))
