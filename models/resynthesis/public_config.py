"""The public ``config.json`` of speech resynthesis: compared with a recipe, and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.resynthesis.network import ContourCodec, ResynthesisNetwork

_HOW_LISTS_ARE_READ = "multispkr"  # other lists than those of the training may name their speakers otherwise


def compare_config(path: Path, here: Mapping[str, Any]) -> None:
    """Compare a public ``config.json`` with the recipe's settings, where both have one.

    Args:
        here: see ``PublicSettings``.

    Raises:
        ValueError: it is not JSON, or says something else: all differences, by public key.
    """
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no JSON object")
    there = {key: _value(config, key) for key in here}
    differing = [
        f"{key} {there[key]} there, {value} in the recipe"
        for key, value in here.items()
        if key != _HOW_LISTS_ARE_READ and there[key] is not None and there[key] != value
    ]
    if differing:
        raise ValueError(f"{path} says otherwise than the recipe: {'; '.join(differing)}")


class PublicSettings:
    """What a public ``config.json`` tells of a vocoder, under its keys there.

    Args:
        network: the vocoder.
        unit_mode, speaker_from, f0_normalize, f0_median, f0_interp: of the recipe.
    """

    def __init__(
        self,
        *,
        network: ResynthesisNetwork,
        unit_mode: str,
        speaker_from: str,
        f0_normalize: bool,
        f0_median: bool,
        f0_interp: bool,
    ):
        sizes = network.sizes
        self.values: dict[str, Any] = {
            "sampling_rate": 16000,
            "code_hop_size": network.code_hop,
            "embedding_dim": sizes["embedding_dim"],
            "model_in_dim": network.channels,
            "resblock": sizes["resblock_type"],
            "upsample_rates": sizes["upsample_factors"],
            "upsample_kernel_sizes": sizes["upsample_kernel_sizes"],
            "upsample_initial_channel": sizes["upsample_initial_channel"],
            "resblock_kernel_sizes": sizes["resblock_kernel_sizes"],
            "resblock_dilation_sizes": sizes["resblock_dilation_sizes"],
            "f0": network.f0_mode != "none",
            "f0_normalize": f0_normalize,
            "f0_median": f0_median,
            "f0_interp": f0_interp,
            "f0_feats": network.f0_feats,
        }
        if network.speaker_mode == "table":
            self.values["multispkr"] = speaker_from
        if unit_mode == "learned":
            self.values |= _codec_settings("code", network.code_codec.sizes)
        else:
            self.values["num_embeddings"] = network.num_units
        if (codec := network.f0_codec_in_use) is not None:
            begin = "f0_quantizer." if network.f0_mode == "quantised" else ""
            self.values |= _codec_settings(f"{begin}f0", codec.sizes)


def quantiser_settings(quantiser: ContourCodec) -> dict[str, Any]:
    """What a public ``config.json`` tells of an F0 quantiser, under its keys there."""
    found = _codec_settings("f0", quantiser.sizes)
    decoder = {key.replace("encoder", "decoder"): value for key, value in found.items() if "_encoder_" in key}
    return {"sampling_rate": 16000, **found, **decoder}


def _codec_settings(begin: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    encoder, vq = f"{begin}_encoder_params.", f"{begin}_vq_params."
    return {
        f"{vq}l_bins": sizes["codes"],
        f"{vq}emb_width": sizes["dim"],
        f"{encoder}width": sizes["width"],
        f"{encoder}depth": sizes["depth"],
        f"{encoder}dilation_growth_rate": sizes["growth"],
        f"{encoder}strides": list(sizes["strides"]),
    }


def _value(config: Mapping[str, Any], key: str) -> Any:
    """What a config says under a dotted key; the strides of a coder are told in two lists there."""
    node: Any = config
    *blocks, last = key.split(".")
    for block in blocks:
        node = node.get(block) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return None
    if last != "strides":
        return str(node[last]) if last == "resblock" and last in node else node.get(last)
    try:
        downs, strides = (_level(node[name]) for name in ("downs_t", "strides_t"))
        return [stride for down, stride in zip(downs, strides, strict=True) for _ in range(down)]
    except (KeyError, TypeError, ValueError):
        return None


def _level(value: Any) -> list[int]:
    value = value[0] if isinstance(value[0], list) else value
    return [int(x) for x in value]


def public_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ``PublicSettings`` as the blocks of a ``config.json``."""
    config: dict[str, Any] = {}
    for key, value in settings.items():
        node = config
        *blocks, last = key.split(".")
        for block in blocks:
            node = node.setdefault(block, {})
        if last == "strides":
            node |= {"levels": 1, "downs_t": [[1] * len(value)], "strides_t": [list(value)], "m_conv": 1.0,
                     "input_emb_width": 1}  # fmt: skip
        else:
            node[last] = value
    return config
