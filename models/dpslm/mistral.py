"""Write a unit language model as a Hugging Face folder of Mistral, which other programs run (vLLM among them).

Id 0 is BOS, which ends an utterance too; unit u is id u + 1. There is no text tokenizer.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.dpslm.language_files import NETWORK, NORM_EPS
from models.dpslm.unit_lm_files import read_unit_lm
from models.dpslm.unit_lm_network import BOS, UnitNetwork
from utils.checkpoint import flatten, load_tensors
from utils.errors import report_errors
from utils.files import write_json
from utils.tensor_files import write_safetensors

MOST_POSITIONS = 32768  # what the folder says; positions are rotations, so that more are as good
_LAYER = {
    "attention.wv": "self_attn.v_proj", "attention.wo": "self_attn.o_proj", "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
_REST = {
    "tok_embeddings.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}  # fmt: skip


def halves(rows: Tensor, head_dim: int) -> Tensor:
    """The rows of a projection [heads * head_dim, D] so that those that turn together are a half of a head apart.

    Here they are neighbours; transformers pairs channel i with channel i + head_dim / 2.
    """
    heads = rows.view(-1, head_dim // 2, 2, rows.shape[1])
    return heads.transpose(1, 2).reshape(rows.shape)


def to_mistral(tensors: Mapping[str, Tensor], *, head_dim: int) -> dict[str, Tensor]:
    """Tensors of the unit language model under the names of transformers' MistralForCausalLM."""
    named = {}
    for name, value in tensors.items():
        if name in _REST:
            named[_REST[name]] = value
            continue
        _, layer, rest = name.split(".", 2)
        part = rest.removesuffix(".weight")
        if part in ("attention.wq", "attention.wk"):
            value = halves(value, head_dim)
        named[f"model.layers.{layer}.{_LAYER[part]}.weight"] = value
    return named


def mistral_config(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.json`` holds, from sizes by the keys of a recipe."""
    return {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
        "vocab_size": sizes["num_clusters"] + 1, "hidden_size": sizes["d_model"], "intermediate_size": sizes["d_ffn"],
        "num_hidden_layers": sizes["num_layers"], "num_attention_heads": sizes["num_heads"],
        "num_key_value_heads": sizes["num_kv_heads"], "head_dim": sizes["head_dim"], "rms_norm_eps": NORM_EPS,
        "rope_theta": sizes["rope_theta"], "max_position_embeddings": MOST_POSITIONS, "sliding_window": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": sizes["rope_theta"]},
        "tie_word_embeddings": False, "attention_dropout": 0.0, "bos_token_id": BOS, "eos_token_id": BOS,
        "torch_dtype": "float32",
    }  # fmt: skip


def write_mistral(checkpoint: str | os.PathLike, folder: str | os.PathLike) -> Path:
    """Write ``config.json`` and ``model.safetensors`` into a folder; returns it.

    Args:
        checkpoint: released, or of this project.

    Raises:
        FileNotFoundError, ValueError: it is missing, broken, or no unit language model.
    """
    file = read_unit_lm(checkpoint)
    with torch.device("meta"):
        network = UnitNetwork(**file.sizes)
    network.to_empty(device="cpu")
    load_tensors({NETWORK: network}, flatten({NETWORK: file.tensors}), checkpoint)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = to_mistral({n: x.float() for n, x in network.state_dict().items()}, head_dim=file.sizes["head_dim"])
    write_safetensors(folder / "model.safetensors", tensors)
    write_json(folder / "config.json", mistral_config(file.sizes))
    return folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-ckpt", "--ckpt_path", required=True, metavar="FILE", help="released file or checkpoint")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder that is made")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    with report_errors(args.debug) as outcome:
        print(write_mistral(args.ckpt_path, args.output))
        outcome.status = 0
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
