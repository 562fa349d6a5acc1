"""What ELLA-V learns from: units and the codes that begin within each, as one sequence (arXiv 2401.07333)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from models.dpslm.vocabulary import BOS, EOP, EOS, SPECIAL

LARGEST_DIFFERENCE = Fraction(1, 10)  # seconds between the durations of units and codes


class Interleaving:
    """Frame-aligned units and codes to a training sequence: ``u_1 .. u_U BOS  u_1 C_1 EOP .. u_U C_U EOP EOS``.

    C_i are the codes that begin within unit i, and, of the last one, all that begin later. It is computed in whole
    numbers, so that no rate is rounded.

    Args:
        num_clusters: K.
        num_codes: C.
        unit_rate, code_rate: frames a second.

    Raises:
        ValueError: a rate is below 1.
    """

    def __init__(self, *, num_clusters: int, num_codes: int, unit_rate: int = 50, code_rate: int = 40):
        if unit_rate < 1 or code_rate < 1:
            raise ValueError(f"unit_rate and code_rate must be above 0, got {unit_rate} and {code_rate}")
        self.num_clusters, self.num_codes = num_clusters, num_codes
        self.unit_rate, self.code_rate = unit_rate, code_rate

    def check(self, num_units: int, num_codes: int) -> None:
        """Raise a ValueError if so many frames of units and of codes are not of one recording."""
        difference = abs(Fraction(num_units, self.unit_rate) - Fraction(num_codes, self.code_rate))
        if difference > LARGEST_DIFFERENCE:
            raise ValueError(
                f"{num_units} unit frames are {num_units / self.unit_rate:.3f} s and {num_codes} codes are "
                f"{num_codes / self.code_rate:.3f} s: more than {float(LARGEST_DIFFERENCE)} s apart, so not of one "
                "recording"
            )

    def owners(self, units: np.ndarray, codes: int) -> tuple[np.ndarray, np.ndarray]:
        """The units [U] without repeats, and of each of so many codes the place of the unit that it belongs to."""
        begins = np.flatnonzero(np.r_[True, units[1:] != units[:-1]])
        frames = np.arange(codes) * self.unit_rate // self.code_rate
        return units[begins], np.searchsorted(begins, frames, side="right") - 1

    def length(self, units: np.ndarray, codes: int) -> int:
        """Of the sequence, from the units [N] and the number of codes."""
        changes = 1 + int(np.count_nonzero(units[1:] != units[:-1]))
        return 3 * changes + 2 + codes

    def __call__(self, units: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Symbols (see ``models.dpslm.vocabulary``) of the sequence, and which of them are targets.

        Args:
            units: [N] in [0, K), N above 0.
            codes: [L] in [0, C).

        Returns:
            [S] int64; [S - 1] bool, whether symbol i + 1 is one that the network must predict: a code, EOP or EOS.

        Raises:
            ValueError: other values, or durations that differ by more than 0.1 s.
        """
        for what, x, size in (("units", units, self.num_clusters), ("codes", codes, self.num_codes)):
            if x.ndim != 1 or x.dtype.kind not in "iu" or (len(x) and not 0 <= x.min() <= x.max() < size):
                raise ValueError(f"{what} must be whole numbers [N] in [0, {size}), got {x.dtype} {list(x.shape)}"
                                 + (f", {x.min()} to {x.max()}" if x.size else ""))  # fmt: skip
        if not len(units):
            raise ValueError("there are no units")
        self.check(len(units), len(codes))
        each, owners = self.owners(units.astype(np.int64), len(codes))
        counts = np.bincount(owners, minlength=len(each))
        # Unit i begins behind the units, BOS, and what belongs to those before it: each, its codes and its EOP.
        begins = len(each) + 1 + np.r_[0, (counts + 2).cumsum()]
        symbols = np.full(begins[-1] + 1, EOS, dtype=np.int64)
        symbols[: len(each)] = symbols[begins[:-1]] = each + len(SPECIAL)
        symbols[len(each)] = BOS
        symbols[begins[1:] - 1] = EOP
        within = np.arange(len(codes)) - np.r_[0, counts.cumsum()][owners]
        symbols[begins[owners] + 1 + within] = codes.astype(np.int64) + len(SPECIAL) + self.num_clusters
        is_target = (symbols == EOP) | (symbols == EOS) | (symbols >= len(SPECIAL) + self.num_clusters)
        return symbols, is_target[1:]
