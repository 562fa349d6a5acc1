"""A trained unit HiFi-GAN as a folder in the layout of the public releases."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from speechbrain.lobes.models.HifiGAN import ResBlock1, UnitHifiganGenerator

from utils.files import whole_file, write_text
from utils.tensor_files import independent


def generator_arguments(generator: UnitHifiganGenerator) -> dict[str, Any]:
    """The arguments with which SpeechBrain's class builds this network again, read from its layers.

    Raises:
        ValueError: a part that no unit vocoder of ours has: duration predictor, talkers, conditions, another pooling.
    """
    others = {
        "duration_predictor": generator.duration_predictor,
        "multi_speaker": generator.multi_speaker,
        "skip_token_embedding": generator.skip_token_embedding,
        "cond_channels": hasattr(generator, "cond_layer"),
        "pooling_type": generator.pooling_type != "attention",
    }
    if found := [name for name, value in others.items() if value]:
        raise ValueError(
            f"a unit vocoder is built without {', '.join(found)}: leave these arguments of the generator out"
        )
    blocks = generator.resblocks[: generator.num_kernels]
    layers = [block.convs1 if isinstance(block, ResBlock1) else block.convs for block in blocks]
    return {
        "in_channels": generator.conv_pre.conv.in_channels,
        "out_channels": 1,
        "resblock_type": "1" if isinstance(blocks[0], ResBlock1) else "2",
        "resblock_dilation_sizes": [[layer.conv.dilation[0] for layer in block] for block in layers],
        "resblock_kernel_sizes": [block[0].conv.kernel_size[0] for block in layers],
        "upsample_kernel_sizes": [up.conv.kernel_size[0] for up in generator.ups],
        "upsample_initial_channel": generator.conv_pre.conv.out_channels,
        "upsample_factors": [up.conv.stride[0] for up in generator.ups],
        "inference_padding": generator.inference_padding,
        "cond_channels": 0,
        "conv_post_bias": generator.conv_post.conv.bias is not None,
        "vocab_size": generator.unit_embedding.num_embeddings,
        "embedding_dim": generator.unit_embedding.embedding_dim,
        "attn_dim": generator.attn_pooling[0].out_features,
        "duration_predictor": False,
        "multi_speaker": False,
        "pooling_type": "attention",
    }


def write_released(
    folder: str | os.PathLike, arguments: Mapping[str, Any], state: Mapping[str, torch.Tensor], *, title: str
) -> list[Path]:
    """Write ``hyperparams.yaml`` and ``generator.ckpt``, as ``models.unit_hifigan.files.read_vocoder`` reads them.

    Args:
        arguments, state: of the ``UnitHifiganGenerator``.
        title: a line that says what the vocoder is.

    Raises:
        ValueError: the folder holds a vocoder in our format, which readers would prefer.
    """
    folder = Path(folder)
    if (folder / "vocoder.json").exists():
        raise ValueError(
            f"{folder} holds a vocoder in another format, vocoder.json, which would be read instead of this one: "
            "export into another folder, or remove vocoder.json and vocoder.safetensors"
        )
    settings, weights = folder / "hyperparams.yaml", folder / "generator.ckpt"
    with whole_file(weights) as temporary:
        torch.save({name: value.cpu() for name, value in independent(state).items()}, temporary)
    lines = [f"# {title}", "", *(f"{name}: {json.dumps(value)}" for name, value in arguments.items()), ""]
    lines += [f"generator: !new:speechbrain.lobes.models.HifiGAN.{UnitHifiganGenerator.__name__}"]
    lines += [f"    {name}: !ref <{name}>" for name in arguments]
    write_text(settings, "\n".join(lines) + "\n")  # last: a folder that has it is complete
    return [weights, settings]
