"""What each part is given: the device, the sizes, the random systems, and where its lines go."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import torch

from benchmarks import floor
from benchmarks.gpu.table import Line
from benchmarks.measure import Row, once, side_by_side, times_of_parts
from benchmarks.parts import write_parts

GPU_ONLY = "a GPU's: there is none here"
PROFILED = 25  # kernels of a call that the profile names


class Bench:
    """Of one run of ``benchmarks.gpu``.

    Args:
        device, toy, repeats: as the command says.
        folder: for what several parts need.
        profile: the file that profiles are added to.
        pipe: lines go there, as JSON.
    """

    def __init__(self, *, device: torch.device, toy: bool, repeats: int, folder: Path, profile: Path, pipe: TextIO):
        self.device, self.toy, self.repeats = device, toy, repeats
        self.folder, self.profile = folder, profile
        self._pipe = pipe
        self.is_cuda = device.type == "cuda"
        self.precisions = ["fp32", "tf32", "bf16", "fp16"] if self.is_cuda else ["fp32", "bf16"]

    def parts(self) -> tuple[Path, list[str]]:
        """Recipe and paths of a TSELM with random weights."""
        return write_parts(self.folder / f"parts{'-toy' * self.toy}", toy=self.toy)

    def remember(self, name: str, value: float) -> None:
        """For a later part."""
        (self.folder / f"{name}.json").write_text(json.dumps(value))

    def recalled(self, name: str) -> float | None:
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def tell(self, **message: Any) -> None:
        print(json.dumps(message), file=self._pipe, flush=True)

    def found(self, system: str, work: str, found: str, note: str = "") -> None:
        """A line that is no time."""
        self.tell(line=asdict(Line(system, work, found, note)))

    def speed(self, system: str, row: Row, call: Callable[[], object] | None = None) -> None:
        """A line of a time; of ``call``, its work, the bytes are counted, and the profile is kept."""
        if call is not None:
            row = replace(row, moved=floor.moved(call))
        self.tell(line=asdict(Line(system, row=row)))
        if call is not None:
            self.keep_profile(f"{system}: {row.work}", call)

    def side_by_side(self, plain: Callable[[], object], ours: Callable[[], object]) -> tuple[float, float]:
        return side_by_side(plain, ours, device=self.device, repeats=self.repeats)

    def keep_profile(self, title: str, call: Callable[[], object]) -> None:
        """Which kernels take the time, and how much of it the device has nothing to do."""
        taken = times_of_parts(call, device=self.device)
        wall, busy = once(call, device=self.device), sum(seconds for seconds, _ in taken.values())
        if not busy:
            return
        launches = sum(count for _, count in taken.values())
        lines = [f"{title}\n  {1000 * wall:.2f} ms, of which {100 * busy / wall:.0f} % in {launches} kernels:"]
        for name, (seconds, count) in sorted(taken.items(), key=lambda item: -item[1][0])[:PROFILED]:
            lines.append(f"  {100 * seconds / busy:5.1f} %  {1000 * seconds:9.3f} ms  {count:6d} x  {name[:150]}")
        with open(self.profile, "a") as file:
            file.write("\n".join(lines) + "\n\n")

    @contextlib.contextmanager
    def apart(self, system: str, work: str) -> Iterator[None]:
        """What fails within this context is a line, and what comes after it goes on."""
        try:
            yield
        except torch.AcceleratorError:
            raise  # after which the device is of no use to this process
        except Exception as error:  # of any kind: the run goes on with the next, and the table names it
            self.found(system, work, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        if self.is_cuda:
            torch.cuda.empty_cache()
