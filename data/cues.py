"""Mixtures with cues of one of their talkers, his voiceprint and his face, as training and extraction find them.

Two forms of lists are read: a folder of ``name path`` lists, and a ten-field list, see ``data.published_lists``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence

import numpy as np

from data import arrays, audio, faces
from data.published_lists import Published, read_published
from data.scp import align, raise_for, read_list
from data.voiceprints import VoiceprintStore, read_voiceprint, require_voiceprint
from utils.errors import first_few

CUES = ("voiceprint", "visual")
LISTS = {"mixture": "mix_clean.scp", "target": "s1.scp", "enrolment": "aux_s1.scp", "visual": "visual_s1.scp"}
LONGEST_ENROLMENT = 30  # seconds
log = logging.getLogger(__name__)
Entries = tuple[dict[str, dict[str, str]], dict[str, str]]  # name -> role -> file; name -> problem


class CueLists:
    """Reads lists of mixtures with cues, and what the lists name.

    Args:
        cues: those in use, of ``voiceprint`` and ``visual``, at least one; lists of others are not read.
        voiceprint_dim, visual_dim: numbers of a voiceprint, and of a frame of a face.
        speaker_encoder: ``files``: voiceprints are read, and an enrolment in audio is an error; anything else: that
            makes voiceprints of audio, and both are taken.
        data_root: what the paths of a ten-field list are relative to; None: its own folder.
        voiceprint_path: where the voiceprints of ten-field lists are, see ``VoiceprintStore``; None: they are made of
            the audio that the list names.
        voiceprint_of: of ten-field lists, ``enrolment``; or ``target``, the published way, which tells the network the
            answer.

    Raises:
        ValueError: a value that is none of these.
    """

    def __init__(
        self,
        *,
        cues: Sequence[str] = CUES,
        voiceprint_dim: int = 512,
        visual_dim: int = 256,
        speaker_encoder: str = "files",
        data_root: str | os.PathLike | None = None,
        voiceprint_path: str | os.PathLike | None = None,
        voiceprint_of: str = "enrolment",
    ):
        if not cues or set(cues) - set(CUES):
            raise ValueError(f"cues must be some of {', '.join(CUES)}, at least one, got {list(cues)}")
        if voiceprint_of not in ("enrolment", "target"):
            raise ValueError(f"voiceprint_of must be enrolment or target, got {voiceprint_of!r}")
        self.cues = tuple(cue for cue in CUES if cue in cues)
        self.voiceprint_dim = voiceprint_dim
        self.visual_dim = visual_dim
        self.takes_audio = speaker_encoder != "files"
        self.data_root = data_root
        self.voiceprint_path = voiceprint_path
        self.voiceprint_of = voiceprint_of
        self._store: VoiceprintStore | None = None

    # ---- lists -------------------------------------------------------------------------------------------------------

    def entries(self, where: str | os.PathLike) -> Entries:
        """What is extracted: name -> ``mixture``, ``enrolment`` and ``visual``, the cues in use; and name -> problem.

        A row without a face has no ``visual``: it is counted in the log. An enrolment that is the target's own
        utterance is warned of.

        Raises:
            OSError: a folder, list or store of voiceprints is missing.
            ValueError: lists that do not fit together, and whatever else concerns all of a list.
        """
        rows, problems, own = self._read(where, with_targets=False)
        if own:
            log.warning("%s: the enrolment of %s is the target itself: %d rows", where, first_few(own), len(own))
        return rows, problems

    def training_rows(self, where: str | os.PathLike) -> list[tuple[str, dict[str, str]]]:
        """(name, role -> file), with ``target``, of the rows that can be trained on or validated.

        Rows whose enrolment is the target's own utterance are left out, and counted in the log.

        Raises:
            OSError, ValueError: as ``entries``; or a row has a problem, or none is left.
        """
        rows, problems, own = self._read(where, with_targets=True)
        raise_for(problems.values())
        if own:
            log.warning("%s: %d of %d rows left out: their enrolment is the target itself (%s)", where, len(own),
                        len(rows), first_few(own))  # fmt: skip
        kept = [(name, row) for name, row in rows.items() if name not in own]
        if not kept:
            raise ValueError(f"{where}: in no row is the enrolment another utterance than the target")
        return kept

    def _read(self, where: str | os.PathLike, *, with_targets: bool) -> tuple[dict, dict[str, str], Collection[str]]:
        """name -> role -> file, name -> problem, and the names whose enrolment is the target."""
        if not os.path.exists(where):
            raise FileNotFoundError(f"no such folder of lists, or ten-field list: {where}")
        read: Callable = _read_folder if os.path.isdir(where) else self._read_published
        rows, problems, own = read(where, self.cues, with_targets)
        if "voiceprint" in self.cues and not self.takes_audio:
            for name, row in list(rows.items()):
                if not self.is_voiceprint(row["enrolment"]):
                    del rows[name]
                    problems[name] = (
                        f"{row['enrolment']} is audio, and with speaker_encoder=files an enrolment is a .npy "
                        "voiceprint: set speaker_encoder and speaker_encoder_path, which make voiceprints of audio"
                    )
        if "visual" in self.cues and (lacking := [name for name, row in rows.items() if "visual" not in row]):
            log.info("%s: %d of %d rows have no face: zeros in its place (%s)", where, len(lacking), len(rows),
                     first_few(lacking))  # fmt: skip
        return rows, problems, own

    def _read_published(self, where, cues: Collection[str], with_targets: bool):
        rows, problems, own = {}, {}, []
        for line in read_published(where, data_root=self.data_root):
            row = {"mixture": line.mixture}
            if with_targets:
                row["target"] = line.target
            if "voiceprint" in cues:
                try:
                    row["enrolment"] = self._enrolment(where, line)
                except _NoVoiceprint as problem:
                    problems[line.name] = str(problem)
                    continue
                if self.voiceprint_of == "enrolment" and line.enrolment_key == line.target_key:
                    own.append(line.name)
            if "visual" in cues and os.path.isfile(line.visual):
                row["visual"] = line.visual
            rows[line.name] = row
        return rows, problems, own

    def _enrolment(self, where, line: Published) -> str:
        """The audio that the voiceprint is made of, or what stands for the voiceprint."""
        of_target = self.voiceprint_of == "target"
        if self.voiceprint_path is None:
            if self.takes_audio:
                return line.target if of_target else line.enrolment
            raise ValueError(
                f"{where} names enrolments in audio: set voiceprint_path to the voiceprints, a pickle or a folder of "
                ".npy files; or speaker_encoder and speaker_encoder_path, which make them"
            )
        key = line.target_key if of_target else line.enrolment_key
        if key is None:
            raise _NoVoiceprint(
                f"{where}: {line.target} is not named <number>_RIR<number>_<speaker>_<utterance>_target, so "
                "voiceprint_of=target cannot tell whose voiceprint it is"
            )
        if (reference := self._voiceprints().reference(key)) is None:
            raise _NoVoiceprint(f"{self.voiceprint_path} has no voiceprint of {key}, which {line.name} needs")
        return reference

    def _voiceprints(self) -> VoiceprintStore:
        if self._store is None:
            self._store = VoiceprintStore(self.voiceprint_path)
        return self._store

    # ---- what they name ----------------------------------------------------------------------------------------------

    def is_voiceprint(self, enrolment: str) -> bool:
        """Whether an enrolment is a voiceprint already; else it is audio."""
        if enrolment.lower().endswith(".npy"):
            return True
        # Only what looks like PICKLE[KEY] is worth a look into the pickle.
        return self.voiceprint_path is not None and enrolment.endswith("]") and self._voiceprints().holds(enrolment)

    def voiceprint(self, enrolment: str) -> np.ndarray:
        """[voiceprint_dim] float32.

        Raises:
            OSError, ValueError: there is none, or not of this size; the message names the file.
        """
        if enrolment.lower().endswith(".npy"):
            return read_voiceprint(enrolment, self.voiceprint_dim)
        return self._voiceprints().read(enrolment, self.voiceprint_dim)

    def enrolment(self, path: str) -> np.ndarray:
        """Enrolment audio, its first channel, up to 30 s: [T] float32 at 16 kHz. One without speech is a ValueError."""
        wav = audio.read_microphones(path, length=LONGEST_ENROLMENT * audio.SAMPLE_RATE)[0]
        return audio.require_speech(wav, path)

    def made(self, values: np.ndarray, path: str) -> np.ndarray:
        """A voiceprint that was made of audio, checked: [voiceprint_dim] float32."""
        return require_voiceprint(values, self.voiceprint_dim, f"the voiceprint of {path}")

    def face(self, path: str, samples: int) -> np.ndarray:
        """The face beside so many samples: [ceil(samples / 640), visual_dim] float32. Raises as ``data.faces.fit``."""
        return self.fitted(arrays.read(path), samples, path)

    def fitted(self, face: np.ndarray, samples: int, source: str) -> np.ndarray:
        """The same of an array that was read."""
        return faces.fit(face, samples, size=self.visual_dim, source=source)


class _NoVoiceprint(ValueError):
    """Of one row."""


def _read_folder(where, cues: Collection[str], with_targets: bool):
    roles = ["mixture", *(["target"] if with_targets else []), *(["enrolment"] if "voiceprint" in cues else [])]
    aligned = align({role: os.path.join(where, LISTS[role]) for role in roles})
    rows, problems = {name: dict(row) for name, row in aligned.items}, aligned.problems
    if "visual" in cues and os.path.lexists(path := os.path.join(where, LISTS["visual"])):
        listed = read_list(path)
        names = listed.entries.keys() | listed.problems.keys()
        if extra := [name for name in sorted(names) if name not in rows and name not in problems]:
            raise ValueError(f"{path}: {first_few(extra)} not in {os.path.join(where, LISTS['mixture'])}")
        for name, reason in listed.problems.items():
            rows.pop(name, None)
            problems[name] = f"{problems[name]}; {reason}" if name in problems else reason
        for name, file in listed.entries.items():
            if name in rows:
                rows[name]["visual"] = file
    targets = os.path.join(where, LISTS["target"])
    own = []
    if "enrolment" in roles and (with_targets or os.path.isfile(targets)):
        known = {name: row.get("target") for name, row in rows.items()}
        known = known if with_targets else read_list(targets).entries
        same = os.path.realpath
        own = [name for name, row in rows.items() if name in known and same(known[name]) == same(row["enrolment"])]
    return rows, problems, own
