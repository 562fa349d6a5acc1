"""The parts, in the order in which they are done, the dearest last. A system to come adds its own here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from benchmarks.gpu.bench import Bench


@dataclass(frozen=True)
class Part:
    """Some lines of the table.

    Attributes:
        name: of it.
        where: ``module:function`` below ``benchmarks.gpu``, called with a ``Bench``.
        limit: seconds that it may take.
    """

    name: str
    where: str
    limit: float

    def run(self, bench: Bench) -> None:
        module, _, function = self.where.partition(":")
        getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(bench)


PARTS = {
    part.name: part
    for part in (
        Part("card", "card:peaks", 30),
        Part("agreement", "right:agreement", 60),
        Part("tokenising", "tselm:tokenising", 75),
        Part("training", "tselm:training", 75),
        Part("extraction", "tselm:extraction", 60),
        Part("codec", "codecs:speechtokenizer", 60),
        Part("unit_hifigan", "codecs:unit_hifigan", 45),
        Part("resynthesis", "codecs:resynthesis", 45),
        Part("precisions", "right:precisions", 60),
        Part("same", "runs:same", 90),
        Part("graphs", "tselm:graphs", 30),
        Part("tests", "runs:tests", 90),
        Part("loaders", "runs:loaders", 45),
        Part("memory", "runs:long_files", 100),
        Part("attention", "card:attention", 45),
        Part("compiled", "tselm:compiled", 120),
    )
}
