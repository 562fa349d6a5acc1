"""Chosen hidden layers of a pretrained WavLM, through transformers."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import WavLMConfig, WavLMModel
from transformers.utils import logging as transformers_logging

from models.wavlm_original import load_original
from modules.frames import FrameGrid, length_mask
from modules.frozen import Frozen
from modules.frozen_linear import FrozenLinear, FrozenNorm
from modules.relative_attention import gated_relative_attention, relative_position_bias
from utils.errors import first_few

ALL = slice(None)
ALIGNED = 8  # elements; see modules.relative_attention


class WavLM(Frozen):
    """Hidden states of some layers of a frozen WavLM (Chen et al., arXiv 2110.13900).

    Layers above the highest one asked for are neither loaded nor computed, and only the layers asked for are kept.

    Args:
        source: folder in the Hugging Face format, a name on the hub such as ``microsoft/wavlm-large``, or an original
            file, ``WavLM-Large.pt``.
        layers: indices into transformers' ``hidden_states``: 0 is the input of the first layer, ``l`` the output of
            the l-th. In a model with pre-norm layers, as WavLM-Large, only the last index (24 there) has the final
            LayerNorm: it is ``last_hidden_state``.
        normalize: bring every utterance to zero mean and unit variance first, as WavLM-Large expects.
        final_norm: the last index is ``last_hidden_state``; else it too is what the layer gives, without that norm.
        compiled: let torch.compile make the transformer's code, which takes minutes for each of the first eight
            lengths of input (and a C++ compiler), for the GPU's sake: on a CPU it is slower than without.

    Raises:
        FileNotFoundError: ``source`` looks like a path, and there is no such folder.
        ValueError: no WavLM can be read there, or it has too few layers, or weights are missing in it.
    """

    sample_rate = 16000

    def __init__(
        self,
        source: str | os.PathLike,
        *,
        layers: Sequence[int],
        normalize: bool = True,
        final_norm: bool = True,
        compiled: bool = False,
    ):
        super().__init__()
        self.layers = distinct_layers(layers)
        self.normalize = normalize
        self.compiled = compiled
        if os.path.isfile(source) or os.fspath(source).endswith(".pt"):  # which no name on the hub does
            self.model, total = load_original(source, highest=max(self.layers))
        else:
            self.model, total = load_transformer(
                source, highest=max(self.layers), kind="WavLM", config_class=WavLMConfig, model_class=WavLMModel
            )
        config = self.model.config
        self.dim: int = config.hidden_size
        self.grid = frame_grid(config)
        self.hop_length = self.grid.hop
        self._kept_bias: torch.Tensor | None = None
        self._convolutions = [FrozenLinear(layer.conv) for layer in self.model.feature_extractor.conv_layers]
        self._norms = [_norm(layer) for layer in self.model.feature_extractor.conv_layers]
        self._project = FrozenLinear(self.model.feature_projection.projection)
        self._project_norm = FrozenNorm(self.model.feature_projection.layer_norm)
        self._layers = [_Layer(layer, stable=config.do_stable_layer_norm) for layer in self.model.encoder.layers]
        self._has_final_norm = final_norm and config.do_stable_layer_norm and max(self.layers) == total
        # A group norm over time mixes the padding into every frame: such models cannot be batched with padding.
        self._padding_is_exact = config.feat_extract_norm == "layer"
        self.freeze()

    @torch.no_grad()
    def forward(
        self,
        wav: torch.Tensor,
        lengths: torch.Tensor | None = None,
        *,
        kept: slice = ALL,
        repeats_from: int | None = None,
    ) -> list[torch.Tensor]:
        """Hidden states of the chosen layers.

        Args:
            wav: [B, T] at 16 kHz.
            lengths: [B] samples of each row; what lies beyond is ignored, whatever it holds. None: all of it. On the
                CPU, nobody waits for the device to read them.
            kept: frames to return; the last layer is not computed for the others.
            repeats_from: a sample from which on every row repeats its own beginning, sample for sample; the
                convolutions then hear that only once. It changes nothing but the time. Not with ``lengths``.

        Returns:
            One [B, N, D] a layer, in the order of ``layers``. Frames beyond a row's length are meaningless.

        Raises:
            ValueError: a row is shorter than one frame.
        """
        sizes = [wav.shape[-1]] if lengths is None else lengths.tolist()
        if (shortest := min(sizes)) < self.grid.window:
            raise ValueError(
                f"WavLM needs at least {self.grid.window} samples ({self.grid.window / 16:.0f} ms), got {shortest}"
            )
        if lengths is not None:
            lengths = None if set(sizes) == {wav.shape[-1]} else lengths.to(wav.device, non_blocking=True)
        if lengths is not None and not self._padding_is_exact:
            return [x[:, kept] for x in self._one_by_one(wav, lengths)]
        own = None if lengths is None else length_mask(lengths, wav.shape[-1])
        wav = unit_variance(wav, own) if self.normalize else _silence_padding(wav, own)
        x = self._convolve(wav, repeats_from)
        mask = None if lengths is None else length_mask(self.grid.frames(lengths), x.shape[1])
        bias = self._position_bias(x.shape[1]) if self._layers else None
        hidden_states = _compiled_hidden_states() if self.compiled else WavLM._hidden_states
        return hidden_states(self, x, bias, mask, kept)

    def _hidden_states(
        self, x: torch.Tensor, bias: torch.Tensor | None, mask: torch.Tensor | None, kept: slice
    ) -> list[torch.Tensor]:
        """From the convolutions' output [B, N, C], the bias of positions [H, N, N], and the rows' own frames [B, N]."""
        encoder = self.model.encoder
        x = self._project(self._project_norm(x))
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0)
        x = x + encoder.pos_conv_embed(x)
        if not self.model.config.do_stable_layer_norm:
            x = encoder.layer_norm(x)
        states = {0: x[:, kept]}
        for index, layer in enumerate(self._layers, 1):
            x = layer(x, bias, mask, kept if index == len(self._layers) else ALL)
            if index in self.layers:
                states[index] = x if index == len(self._layers) else x[:, kept]
        if self._has_final_norm:
            states[max(self.layers)] = encoder.layer_norm(x)
        return [states[layer] for layer in self.layers]

    def _convolve(self, wav: torch.Tensor, repeats_from: int | None) -> torch.Tensor:
        """The strided convolutions as matrix products over windows, channels last: [B, T] -> [B, N, C].

        As long as the repetition falls on a frame, its frames are those of the beginning.
        """
        depth, grid = self._depth_of_repetition(repeats_from)
        if depth:
            first, frames = repeats_from // grid.hop, grid.frames(wav.shape[-1])
            wav = wav[:, : grid.samples(first)]
        x = wav[..., None]
        layers = zip(self.model.feature_extractor.conv_layers, self._convolutions, self._norms, strict=True)
        for index, (layer, product, norm) in enumerate(layers, 1):
            size, stride, channels = layer.conv.kernel_size[0], layer.conv.stride[0], x.shape[-1]
            count = (x.shape[1] - size) // stride + 1
            x = x.contiguous()
            windows = x.as_strided((len(x), count, size * channels), (x.stride(0), stride * channels, 1))
            x = product(windows.contiguous())
            x = F.gelu(x if norm is None else norm(x))
            if index == depth:
                x = torch.cat([x, x[:, : max(frames - first, 0)]], dim=1)
        return x

    def _depth_of_repetition(self, repeats_from: int | None) -> tuple[int, FrameGrid]:
        """How many convolutions have a frame that starts at ``repeats_from``, and the frames of the last of these."""
        config = self.model.config
        depth = 0
        if repeats_from and self._padding_is_exact:
            hops = itertools.accumulate(config.conv_stride, operator.mul)
            depth = sum(repeats_from % hop == 0 for hop in hops)  # each divides the next
        return depth, frame_grid(config, depth)

    def _position_bias(self, frames: int) -> torch.Tensor:
        """[H, N, N], for all layers; that of the longest signal so far is kept, and holds those of shorter ones.

        On CUDA it has a few more columns, see ``modules.relative_attention``.
        """
        table = self.model.encoder.layers[0].attention.rel_attn_embed.weight
        kind, kept = table.device.type, self._kept_bias
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else table.dtype
        width = frames if kind == "cpu" else -(-frames // ALIGNED) * ALIGNED
        if kept is None or kept.shape[-1] < width or (kept.device, kept.dtype) != (table.device, dtype):
            distance = self.model.config.max_bucket_distance
            bias = relative_position_bias(table, width, max_distance=distance)
            self._kept_bias = kept = bias.to(dtype).contiguous()
        return kept[:, :frames, :width]

    def _one_by_one(self, wav: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        size = self.grid.frames(wav.shape[-1])
        rows = [self(row[None, :length]) for row, length in zip(wav, lengths.tolist(), strict=True)]
        return [torch.cat([F.pad(x, (0, 0, 0, size - x.shape[1])) for x in layer]) for layer in zip(*rows, strict=True)]


class _Layer:
    """The computation of one layer of transformers' model, with its products packed and its attention fused."""

    def __init__(self, layer: nn.Module, *, stable: bool):
        attention, feed_forward = layer.attention, layer.feed_forward
        self._layer = layer
        self._stable = stable
        self._inputs = FrozenLinear(attention.q_proj, attention.k_proj, attention.v_proj)
        self._output = FrozenLinear(attention.out_proj)
        self._wide = FrozenLinear(feed_forward.intermediate_dense, gelu=True)
        self._narrow = FrozenLinear(feed_forward.output_dense)
        self._first_norm, self._second_norm = FrozenNorm(layer.layer_norm), FrozenNorm(layer.final_layer_norm)

    def __call__(self, x: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor | None, kept: slice) -> torch.Tensor:
        """[B, N, D] -> [B, kept frames, D]; a pre-norm layer if ``stable``, else a post-norm one."""
        if self._stable:
            x = x[:, kept] + self._attend(self._first_norm(x), bias, mask, kept)
            return x + self._feed_forward(self._second_norm(x))
        x = self._first_norm(x[:, kept] + self._attend(x, bias, mask, kept))
        return self._second_norm(x + self._feed_forward(x))

    def _attend(self, x: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor | None, kept: slice) -> torch.Tensor:
        attention = self._layer.attention
        gate, scale = attention.gru_rel_pos_linear, attention.gru_rel_pos_const
        attended = gated_relative_attention(
            x, bias, mask, project=self._inputs, gate=gate, gate_scale=scale, queries=kept
        )
        return self._output(attended)

    def _feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._narrow(self._wide(x))


def _norm(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Of a convolution's output, channels last: over channels, or over time in a model with group norm, or none."""
    norm = getattr(layer, "layer_norm", None)
    if norm is None or isinstance(norm, nn.LayerNorm):
        return norm and FrozenNorm(norm)
    return _OverTime(norm)


class _OverTime:
    def __init__(self, norm: nn.GroupNorm):
        self._norm = norm

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._norm(x.transpose(1, 2)).transpose(1, 2)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers says only what is wrong, and draws no progress bar."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


@functools.cache
def _compiled_hidden_states() -> Callable[..., list[torch.Tensor]]:
    return torch.compile(WavLM._hidden_states, dynamic=False)


def unit_variance(wav: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Zero mean and unit variance over each row's own samples (biased variance, eps 1e-5, as ``F.layer_norm``)."""
    if mask is None:
        return F.layer_norm(wav, wav.shape[-1:])
    count = mask.sum(-1, keepdim=True)
    wav = wav.masked_fill(~mask, 0)
    mean = wav.sum(-1, keepdim=True) / count
    variance = (wav - mean).square().masked_fill(~mask, 0).sum(-1, keepdim=True) / count
    return ((wav - mean) * (variance + 1e-5).rsqrt()).masked_fill(~mask, 0)


def _silence_padding(wav: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return wav if mask is None else wav.masked_fill(~mask, 0)


def frame_grid(config: WavLMConfig, depth: int | None = None) -> FrameGrid:
    """The frames after the first ``depth`` convolutions; None: after all."""
    window, hop = 1, 1
    for kernel, stride in zip(config.conv_kernel[:depth], config.conv_stride[:depth], strict=True):
        window, hop = window + (kernel - 1) * hop, hop * stride
    return FrameGrid(window=window, hop=hop)


def distinct_layers(layers: Sequence[int]) -> tuple[int, ...]:
    """Layers of hidden states that can be asked for; raises a ValueError else."""
    if not layers or min(layers) < 0 or len(set(layers)) != len(layers):
        raise ValueError(f"layers must be distinct and not negative, got {list(layers)}")
    return tuple(int(layer) for layer in layers)


def load_transformer(
    source: str | os.PathLike, *, highest: int, kind: str, config_class: type, model_class: type
) -> tuple[nn.Module, int]:
    """A transformers model up to layer ``highest``, and the number of layers that it has in all.

    Args:
        kind: what it is called in errors.
        config_class, model_class: transformers' classes.
    """
    source = os.fspath(source)
    is_folder = Path(source).is_dir()
    if not is_folder and (source.count("/") != 1 or source.startswith((".", "~", "/"))):
        raise FileNotFoundError(f"no such {kind} folder: {source}")
    # transformers would list the layers left out as a fault
    try:
        with quiet_transformers():
            config = config_class.from_pretrained(source)
            total = config.num_hidden_layers
            if (config.hidden_act, config.feat_extract_activation) != ("gelu", "gelu"):
                raise ValueError(
                    f"{source} has activations {config.hidden_act} and {config.feat_extract_activation}, not gelu"
                )
            if highest > total:
                raise ValueError(f"{source} has {total} layers, layer {highest} was asked for")
            config.num_hidden_layers = highest
            config.mask_time_prob = config.mask_feature_prob = 0.0
            model, info = model_class.from_pretrained(
                source, config=config, dtype=torch.float32, output_loading_info=True, local_files_only=is_folder
            )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        where = "" if is_folder else " on the hub or in its cache; a local folder works too"
        raise ValueError(f"cannot load a {kind} from {source}{where} ({' '.join(str(error).split())})") from error
    if info["missing_keys"]:
        raise ValueError(f"{source} lacks weights: {first_few(sorted(info['missing_keys']))}")
    if broken := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        raise ValueError(f"{len(broken)} weights of {source} are not finite: {first_few(broken)}")
    return model, total
