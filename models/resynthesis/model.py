"""Speech taken apart into units, a contour and a speaker, and put together again, in the same or another voice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from models.interfaces import Recording
from models.resynthesis.contours import Pair
from models.resynthesis.files import QUANTIZER, VOCODER, is_public, load_public
from models.resynthesis.intonation import Intonation, Statistics, Tracker
from models.resynthesis.network import F0_HOP, GRID, SAMPLE_RATE, ContourCodec, ResynthesisNetwork, require_one_of
from models.resynthesis.public_config import PublicSettings
from models.resynthesis.units import UnitReader, on_grid
from models.ssl_tokenizer import SSLTokenizer
from modules.frozen import Frozen, tensor_digest
from utils.checkpoint import load, load_tensors
from utils.errors import first_few

LEVEL = 0.95  # of the peak that tracker and vocoder know


class Resynthesizer(Frozen):
    """Units, a contour and a speaker to speech, and speech to these.

    Args:
        network: the vocoder.
        unit_encoder: of given units; None: built without, and only what needs it refuses.
        tracker: of F0.
        statistics: of the speakers' F0.
        speakers: names in the order of their ids; None: those of the checkpoint.
        speaker_embeddings: vectors by name, of an utterance or a speaker, with ``speaker_mode`` embedding.
        speaker_encoder: has ``embed(wav [B, T]) -> [B, E]``; whole utterances are heard.
        public: what a ``config.json`` beside a public checkpoint must say.
        f0_normalize, f0_median, f0_interp: what becomes of a contour.
        f0_source: whose statistics normalise it: ``speaker``, or ``utterance``, its own.
        f0_policy: ``keep``, or ``flat``: all frames 0.
        alignment: ``aligned``: outputs as long as inputs; ``published``: cut to whole frames, as published.
        level: ``input``: outputs as loud as inputs; ``model``: as the generator gives them.
        piece_seconds: of output that is made at once, which changes nothing but the memory.

    Raises:
        ValueError: parts or settings that do not fit together.
    """

    checkpoint = "needed"
    sample_rate = SAMPLE_RATE
    num_codebooks = 1
    codebook_names = ("units",)

    def __init__(
        self,
        *,
        network: ResynthesisNetwork,
        unit_encoder: SSLTokenizer | None,
        tracker: Tracker,
        statistics: Statistics,
        speakers: Sequence[str] | None,
        speaker_embeddings: Mapping[str, torch.Tensor],
        speaker_encoder: Any | None = None,
        public: PublicSettings,
        f0_normalize: bool = True,
        f0_median: bool = False,
        f0_interp: bool = False,
        f0_source: str = "speaker",
        f0_policy: str = "keep",
        alignment: str = "aligned",
        level: str = "input",
        piece_seconds: float = 20.0,
    ):
        super().__init__()
        require_one_of("alignment", alignment, ("aligned", "published"))
        require_one_of("level", level, ("input", "model"))
        if not piece_seconds > 0:
            raise ValueError(f"piece_seconds must be above 0, got {piece_seconds}")
        self.network = network
        self.unit_encoder = unit_encoder
        self.tracker = tracker
        self.statistics = statistics
        self.intonation = Intonation(
            tracker=tracker, statistics=statistics, f0_normalize=f0_normalize, f0_median=f0_median,
            f0_interp=f0_interp, f0_source=f0_source, f0_policy=f0_policy,
        )  # fmt: skip
        self.reader = UnitReader(network=network, unit_encoder=unit_encoder, alignment=alignment)
        self.embeddings = dict(speaker_embeddings)
        self.speaker_encoder = speaker_encoder
        self.public = public
        self.alignment = alignment
        self.level = level
        self.piece_frames = max(1, round(piece_seconds * SAMPLE_RATE / network.frame))
        self.hop_length = network.code_hop
        self.vocab_size = network.num_units
        self.speakers: list[str] = []
        if network.speaker_mode == "table" and speakers is not None:
            self._name_speakers(list(speakers))
        self._given = None if getattr(network.quantizer, "loaded_from", None) is None else self._codec_copy()
        self.freeze()

    @property
    def bits_per_second(self) -> float | None:
        """Of units and codes of F0, each with as many bits as its vocabulary needs; None if F0 is not in codes."""
        units = SAMPLE_RATE / self.hop_length * (self.vocab_size - 1).bit_length()
        if self.network.f0_mode == "none" or self.intonation.f0_policy == "flat":
            return units
        if (codec := self.network.f0_codec_in_use) is None:
            return None
        return units + SAMPLE_RATE / GRID * (codec.codes - 1).bit_length()

    # -- weights -------------------------------------------------------------------------------------------------------

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Load a checkpoint of the vocoder's training, or a public ``g_########``, or the folder of one.

        Raises:
            OSError, ValueError: it cannot be read, or does not fit the recipe; names that are missing; an F0 quantiser
                that is another one than ``f0_quantizer_path`` names.
        """
        if is_public(path):
            load_public(self.network, path, public=self.public)
            names = None
        else:
            saved = load(path)
            tensors = {name: x for name, x in saved["model"].items() if name.startswith(f"{VOCODER}.")}
            if not tensors:
                what = "an F0 quantiser" if any(n.startswith(f"{QUANTIZER}.") for n in saved["model"]) else "no vocoder"
                raise ValueError(f"{path} holds {what}: the checkpoint of the vocoder's training is needed")
            load_tensors({VOCODER: self.network}, tensors, path)
            names = saved.get("settings", {}).get("speakers")
        self._compare_quantisers(path)
        self.network.generator.fold_weight_norm()
        if self.network.speaker_mode == "table":
            self._name_speakers_of(names, path)

    def _codec_copy(self) -> dict[str, torch.Tensor]:
        state = self.network.quantizer.state_dict()
        return {name: x.clone() for name, x in state.items() if not name.startswith("decoder.")}

    def _compare_quantisers(self, path: str | os.PathLike) -> None:
        """Of the tensors that codes follow from: those that were named against those in the checkpoint."""
        if self._given is None:
            return
        here = self._codec_copy()
        names = [n for n in here if n.rpartition(".")[2] not in ("k_sum", "k_elem", "inited")]
        largest = max(float((here[name].cpu() - self._given[name].cpu()).abs().max()) for name in names)
        if largest > 1e-6:
            raise ValueError(
                f"{path} was trained with another F0 quantiser than {self.network.quantizer.loaded_from}: they differ "
                f"by up to {largest:.2g}. Leave f0_quantizer_path out (null): the checkpoint holds its own"
            )

    def _name_speakers(self, names: list[str]) -> None:
        rows = self.network.spkr.num_embeddings
        if len(names) > rows:
            raise ValueError(f"{len(names)} speakers are named, and the table has {rows} rows (speaker_rows)")
        self.speakers = names
        self.statistics.named(names)

    def _name_speakers_of(self, names: Sequence[str] | None, path: str | os.PathLike) -> None:
        if names is not None and self.speakers and list(names) != self.speakers:
            raise ValueError(
                f"{path} was trained with the speakers {first_few(names)}; the recipe names {first_few(self.speakers)} "
                "(speakers): leave speakers out (null)"
            )
        if names is not None:
            self._name_speakers([str(name) for name in names])
        if not self.speakers:
            raise ValueError(
                f"{path} does not say who its speakers are: name the file with their names, speakers.txt, with "
                "--override speakers=FILE (or speaker_from=single, for one)"
            )

    def digests(self) -> dict[str, str]:
        """Of all that sound follows from."""
        found = {"vocoder": tensor_digest(self.network.state_dict())}
        if self.unit_encoder is not None:
            found["tokenizer"] = self.unit_encoder.digest()
        facts = {
            "statistics": self.statistics.facts(), "speakers": self.speakers, **self.tracker.facts(),
            "embeddings": {name: x.tolist() for name, x in self.embeddings.items()},
        }  # fmt: skip
        found["voices"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return found

    def digest(self) -> str:
        return hashlib.sha256("".join(sorted(self.digests().values())).encode()).hexdigest()

    # -- units ---------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Units of speech.

        Args:
            wav: [B, T] at 16 kHz, as it was recorded.
            lengths: [B], samples of each row; None: all.

        Returns:
            [B, N, 1] int64; ``aligned``: N = ceil(T / hop); ``published``: the frames that fit. 0 beyond a row's own.

        Raises:
            ValueError: there is no unit encoder (``ssl_path``, ``kmeans_path``).
        """
        samples = [wav.shape[1]] * len(wav) if lengths is None else lengths.tolist()
        rows = [self.reader.units(row[: int(n)]) for row, n in zip(wav, samples, strict=True)]
        found = wav.new_zeros(len(rows), max(map(len, rows), default=0), 1, dtype=torch.int64)
        for row, units in zip(found, rows, strict=True):
            row[: len(units), 0] = units
        return found

    def encode_files(self, recordings: Sequence[Recording]) -> list[torch.Tensor]:
        """Of each file its units [N, 1] on the CPU; one by one, so that company changes nothing."""
        device = next(self.network.parameters()).device
        return [self.reader.units(torch.as_tensor(one.whole()).to(device))[:, None].cpu() for one in recordings]

    # -- F0 ------------------------------------------------------------------------------------------------------------

    def pitch(self, wav: torch.Tensor | np.ndarray) -> torch.Tensor:
        """[T] at 16 kHz -> F0 [ceil(T / 80)] in Hz float32, 0 where there is no voice."""
        return torch.from_numpy(self.tracker(_as_array(wav)).f0)

    @torch.no_grad()
    def pitch_codes(self, f0: torch.Tensor, *, speaker: str | None = None) -> torch.Tensor:
        """F0 [M] in Hz, of a speaker -> its codes [M // 16] int64."""
        codec = self._f0_codec()
        prepared = self.intonation.prepared(f0.float().cpu(), speaker, speaker)
        return codec.encode(prepared[None].to(_device(codec)))[0]

    def _f0_codec(self) -> ContourCodec:
        if (codec := self.network.f0_codec_in_use) is None:
            raise ValueError(f"F0 is not quantised in this recipe (f0_mode {self.network.f0_mode})")
        return codec

    # -- speech --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(
        self,
        tokens: torch.Tensor,
        *,
        f0: torch.Tensor | None = None,
        source: str | None = None,
        speaker: str | None = None,
    ) -> torch.Tensor:
        """Speech of units, as the generator gives it.

        Args:
            tokens: [B, N, 1] int64 in [0, V).
            f0: [B, M] in Hz, where the recipe uses F0; M * 80 = N * hop.
            source: whose F0 it is; None: the speaker's.
            speaker: who speaks; None: the source.

        Returns:
            [B, N * hop] float32 in (-1, 1).

        Raises:
            ValueError: shapes, lengths or names that do not fit.
        """
        return torch.cat(list(self.parts(tokens, f0=f0, source=source, speaker=speaker)), dim=1)

    def parts(
        self,
        tokens: torch.Tensor,
        *,
        f0: torch.Tensor | None = None,
        source: str | None = None,
        speaker: str | None = None,
        vector: torch.Tensor | None = None,
        target: Pair | None = None,
    ) -> Iterator[torch.Tensor]:
        """The same in parts, each made when it is asked for.

        Args:
            vector: [E], the voice, in place of a name.
            target: mean and deviation in Hz of its F0.
        """
        if tokens.ndim != 3 or tokens.shape[2] != 1:
            raise ValueError(f"tokens [B, N, 1] are needed, got {list(tokens.shape)}")
        low, high = (int(tokens.min()), int(tokens.max())) if tokens.numel() else (0, 0)
        if low < 0 or high >= self.vocab_size:
            raise ValueError(f"tokens must be in [0, {self.vocab_size}), got {low} to {high}")
        source, speaker = source or speaker, speaker or source
        inputs = self._inputs(tokens[..., 0], f0, source, speaker, vector, target)
        return self._generated(inputs)

    @torch.no_grad()
    def _inputs(
        self,
        units: torch.Tensor,
        f0: torch.Tensor | None,
        source: str | None,
        speaker: str | None,
        vector: torch.Tensor | None,
        target: Pair | None,
    ) -> torch.Tensor:
        """What the generator is given for units [B, N] and F0 [B, M] in Hz."""
        network = self.network
        device = _device(network)
        rows = network.unit_rows(units.to(device))
        f0_rows = None
        stats = None
        if network.f0_mode != "none":
            if f0 is None:
                raise ValueError("this recipe needs F0: a contour in Hz, or f0_policy=flat")
            if f0.shape[1] * F0_HOP != units.shape[1] * self.hop_length:
                raise ValueError(
                    f"{units.shape[1]} units of {self.hop_length} samples and {f0.shape[1]} frames of F0 of {F0_HOP} "
                    "do not have the same length"
                )
            prepared = [self.intonation.prepared(row.float().cpu(), source, speaker, target=target) for row in f0]
            f0_rows = network.f0_rows(torch.stack(prepared).to(device))
        if network.f0_feats:
            pair = target or self.intonation.pair(speaker, f0[0].cpu(), role="target")
            stats = torch.tensor([pair] * len(units), dtype=torch.float32, device=device)
        return network.inputs(rows, f0_rows, self._voice(speaker, vector, len(units), device), stats)

    def _voice(
        self, speaker: str | None, vector: torch.Tensor | None, count: int, device: torch.device
    ) -> torch.Tensor | None:
        """Row numbers [B] or vectors [B, E] of a voice."""
        mode = self.network.speaker_mode
        if mode == "none":
            return None
        if mode == "table":
            return torch.full((count,), self.speaker_id(speaker), device=device)
        if vector is None:
            self.require_voice(speaker)
            vector = self.embeddings[speaker]
        if len(vector) != self.network.spkr.in_features:
            raise ValueError(f"a voice has {len(vector)} values; speaker_dim is {self.network.spkr.in_features}")
        return vector.to(device).expand(count, -1)

    def speaker_id(self, name: str | None) -> int:
        self.require_voice(name)
        return self.speakers.index(name)

    def voices(self) -> list[str]:
        """All names that can speak."""
        return list(self.speakers if self.network.speaker_mode == "table" else self.embeddings)

    def require_voice(self, name: str | None) -> None:
        """Raise a ValueError if nobody of this name can speak; it lists who can."""
        if self.network.speaker_mode == "none" or name in self.voices():
            return
        known = first_few(self.voices(), 20) or "nobody (speaker_embeddings names a file of vectors)"
        raise ValueError(f"no speaker {name!r}; there are {known}")

    def _generated(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """The generator over [B, C, frames], in pieces with as much around each as its samples depend on."""
        generator, frame = self.network.generator, self.network.frame
        around, frames = generator.context, inputs.shape[2]
        if frames == 0:
            yield inputs.new_zeros(len(inputs), 0)
        for start in range(0, frames, self.piece_frames):
            stop = min(start + self.piece_frames, frames)
            left, right = max(start - around, 0), min(stop + around, frames)
            with torch.inference_mode():
                wav = generator(inputs[:, :, left:right])
            yield wav[:, (start - left) * frame : (stop - left) * frame]

    @torch.no_grad()
    def resynthesise(
        self, wav: torch.Tensor | np.ndarray, *, source: str | None = None, speaker: str | None = None
    ) -> torch.Tensor:
        """Speech [T] at 16 kHz, of ``source``, said by ``speaker`` -> [T] float32 on the CPU."""
        taken = self.take_apart(_as_array(wav))
        return torch.cat(list(self.put_together(taken, source=source or speaker, speaker=speaker or source)))

    def take_apart(self, wav: np.ndarray, units: np.ndarray | None = None) -> Taken:
        """Units and contour of speech [T], once for any number of voices.

        Args:
            units: [N], where they are known.

        Raises:
            ValueError: ``published``, and too short for a frame.
        """
        peak = float(np.abs(wav).max(initial=0.0))
        if not np.isfinite(peak):
            raise ValueError("the signal holds NaN or infinity")
        signal = torch.from_numpy(np.ascontiguousarray(wav, dtype=np.float32)).to(_device(self.network))
        has_f0 = self.network.f0_mode != "none"
        if self.alignment == "aligned":
            whole = on_grid(signal)
            found = self.reader.of_grid(whole) if units is None else self._fitted(units, len(whole) // self.hop_length)
            f0 = self.intonation.contour(whole.cpu().numpy(), peak) if has_f0 else None
            return Taken(found.cpu(), f0, len(wav), peak)
        found = self.reader.of_grid(signal) if units is None else torch.from_numpy(units)
        samples = min(len(wav) // self.hop_length, len(found)) * self.hop_length
        f0 = self.intonation.contour(wav[:samples], peak) if has_f0 and samples else None
        if self.network.f0_mode in ("quantised", "learned"):
            samples = samples // GRID * GRID
        if not samples:
            raise ValueError(f"{len(wav)} samples are too few for alignment: published; aligned takes any length")
        f0 = None if f0 is None else f0[: samples // F0_HOP]
        return Taken(found[: samples // self.hop_length].cpu(), f0, samples, peak)

    def put_together(
        self,
        taken: Taken,
        *,
        source: str | None,
        speaker: str | None,
        vector: torch.Tensor | None = None,
        target: Pair | None = None,
    ) -> Iterator[torch.Tensor]:
        """Speech of units and contour in one voice, in parts [T] on the CPU, at the level that ``level`` says."""
        gain = taken.peak / LEVEL if self.level == "input" else 1.0
        f0 = None if taken.f0 is None else taken.f0[None]
        left = taken.samples
        for part in self.parts(
            taken.units[None, :, None], f0=f0, source=source, speaker=speaker, vector=vector, target=target
        ):
            yield (part[0, :left] * gain).float().cpu()
            left -= part.shape[1]
            if left <= 0:
                return

    def _fitted(self, units: np.ndarray, count: int) -> torch.Tensor:
        """So many units: cut, or the last one repeated."""
        found = torch.from_numpy(units)[:count]
        return torch.cat([found, found[-1:].expand(count - len(found))])


class Taken:
    """Speech taken apart.

    Attributes:
        units: [N] int64.
        f0: [M] Hz float32, or None where none is used.
        samples: of the speech that comes of it.
        peak: of the input.
    """

    def __init__(self, units: torch.Tensor, f0: torch.Tensor | None, samples: int, peak: float):
        self.units = units
        self.f0 = f0
        self.samples = samples
        self.peak = peak


def _as_array(wav: torch.Tensor | np.ndarray) -> np.ndarray:
    wav = wav.detach().cpu().numpy() if isinstance(wav, torch.Tensor) else np.asarray(wav)
    if wav.ndim != 1:
        raise ValueError(f"a signal [T] is needed, got {list(wav.shape)}")
    return wav.astype(np.float32)


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device
