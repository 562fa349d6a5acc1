"""Units to sound: ELLA-V says them in codes, whose sound the codec makes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.codec_parts import CodecTokenizer, CodecVocoder
from models.codec_parts import ResidualCodec as Codec
from models.dpslm.acoustic import AcousticModel
from models.dpslm.acoustic_files import TOKEN_KEYS, read_acoustic
from models.dpslm.acoustic_network import AcousticNetwork
from models.dpslm.provenance import making, require_same_making
from models.dpslm.speaking import Utterance
from models.programs import decoded


class UnitSpeech:
    """ELLA-V and the codec whose codes it says.

    Args:
        acoustic, codec: that fit together.

    Raises:
        ValueError: the codec has several codebooks, another number of codes, or another number of them a second.
    """

    def __init__(self, *, acoustic: AcousticModel, codec: Codec):
        if codec.num_codebooks != 1:
            raise ValueError(f"ELLA-V says one stream of codes, the codec has {codec.num_codebooks} codebooks")
        here = {"num_codes": acoustic.num_codes, "code_rate": acoustic.code_rate}
        there = {"num_codes": codec.vocab_size, "code_rate": codec.sample_rate / codec.hop_length}
        if differing := [
            f"{key} is {here[key]}, the codec's {there[key]:g}" for key in here if here[key] != there[key]
        ]:
            raise ValueError(f"ELLA-V and the codec do not fit together: {'; '.join(differing)}")
        self.acoustic = acoustic
        self.codec = codec
        # Its two ends: a codec that can be trained has its weights here, and the checkpoint of a run is not its own.
        self.tokenizer, self.vocoder = CodecTokenizer(codec=codec), CodecVocoder(codec=codec)
        self.sample_rate = codec.sample_rate
        self.code_rate = there["code_rate"]

    @property
    def parts(self) -> dict[str, Any]:
        """By name, as a program has them."""
        return {"acoustic": self.acoustic, "codes": self.tokenizer, "codec": self.vocoder}

    def check(self) -> None:
        """Raise a ValueError if ELLA-V, whose weights are loaded, learned from another codec's codes."""
        then, now = self.acoustic.provenance.get("codes", {}), making(self.tokenizer)
        require_same_making(then, now, what="codes", model="acoustic model")

    def say(
        self,
        units: Sequence[Tensor],
        *,
        seeds: Sequence[int],
        prompts: Sequence[tuple[Tensor, Tensor] | None] | None = None,
    ) -> list[Utterance]:
        """See ``AcousticModel.say``."""
        return self.acoustic.say(units, seeds=seeds, prompts=prompts)

    def sound(self, codes: Tensor) -> Iterator[Tensor]:
        """Codes [L] -> their sound in parts, [T] on the CPU."""
        return decoded(self.vocoder, codes[:, None])


def codes_of(utterance: Utterance) -> Tensor:
    """[L] int64.

    Raises:
        ValueError: there is not one.
    """
    if not utterance.codes:
        raise ValueError(f"of {len(utterance.units)} units not a single code was generated: there is no sound")
    return torch.tensor(utterance.codes, dtype=torch.int64)


def load_speech(
    *,
    acoustic_path: str | os.PathLike | None,
    codec: Codec | None,
    **generation: Any,
) -> UnitSpeech | None:
    """ELLA-V, with the sizes of its file, and the codec; None where there is neither.

    Args:
        codec: with its weights.
        generation: of ``AcousticModel``.

    Raises:
        ValueError: there is one of the two alone; or see the classes.
    """
    if (acoustic_path is None) != (codec is None):
        lacking = "acoustic_path" if acoustic_path is None else "wavtokenizer_path"
        raise ValueError(f"{lacking} must be set too: speech needs both acoustic_path and a codec, wavtokenizer_path")
    if acoustic_path is None:
        return None
    sizes: Mapping[str, Any] = read_acoustic(acoustic_path).sizes
    network = AcousticNetwork(**{k: v for k, v in sizes.items() if k not in ("unit_rate", "code_rate")})
    acoustic = AcousticModel(network=network, **{key: sizes[key] for key in TOKEN_KEYS}, **generation)
    acoustic.load_checkpoint(acoustic_path)
    acoustic.checkpoint = "refused"  # it has its weights: the checkpoint of a run is of another part
    speech = UnitSpeech(acoustic=acoustic, codec=codec)
    speech.check()
    return speech
