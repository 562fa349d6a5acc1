"""How an encoder is trained without labels: units of hidden frames of the main talker, as HuBERT and WavLM do."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from models.masked_prediction.network import MaskedUnitPredictor
from models.ssl_tokenizer import SSLTokenizer
from models.wavlm import quiet_transformers
from modules.frames import length_mask
from modules.span_mask import span_mask
from utils.files import readable
from utils.task import Batch, Networks, Objective, Task


class MaskedPrediction(Task):
    """Cross-entropy over hidden frames against the units of the clean main talker; the error is in percent.

    A batch holds ``mixture`` [B, T], what is heard, ``target`` [B, T], the main talker alone, and ``length`` [B].
    Where another talker lies over the main one, the network also learns to tell the two apart (arXiv 2110.13900).

    Args:
        network: what trains.
        tokenizer: frozen, of one codebook; its tokens are the units.
        optimizer: makes the optimizer of the network's parameters.
        mask_probability, mask_length: see ``modules.span_mask``.
        hidden_share: of the loss, that of hidden frames; the rest is that of frames that are heard (HuBERT's alpha).
        export_dtype: of the exported encoder's weights, ``float32`` or ``float16``.

    Raises:
        ValueError: network and tokenizer do not fit together.
    """

    def __init__(
        self,
        *,
        network: MaskedUnitPredictor,
        tokenizer: SSLTokenizer,
        optimizer: Callable[..., torch.optim.Optimizer],
        mask_probability: float = 0.08,
        mask_length: int = 10,
        hidden_share: float = 1.0,
        export_dtype: str = "float32",
    ):
        super().__init__()
        if (tokenizer.num_codebooks, tokenizer.vocab_size) != (1, network.vocab_size):
            raise ValueError(
                f"the network predicts one codebook of {network.vocab_size} units, the tokenizer has "
                f"{tokenizer.num_codebooks} of {tokenizer.vocab_size}"
            )
        if tokenizer.grid != network.grid:
            raise ValueError(f"the units are on {tokenizer.grid}, the network's frames on {network.grid}")
        if export_dtype not in ("float32", "float16"):
            raise ValueError(f"export_dtype must be float32 or float16, got {export_dtype!r}")
        if not 0 <= hidden_share <= 1:
            raise ValueError(f"hidden_share must be in [0, 1], got {hidden_share}")
        self.network = network
        self.tokenizer = tokenizer
        self.make_optimizer = optimizer
        self.mask_probability = mask_probability
        self.mask_length = mask_length
        self.hidden_share = hidden_share
        self.export_dtype = getattr(torch, export_dtype)

    def networks(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def frozen(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"network": self.make_optimizer(self.network.parameters())}

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        units, hidden, heard = self._units_and_masks(batch)
        logits = networks["network"](batch["mixture"], batch["length"], hidden)
        losses = F.cross_entropy(logits.transpose(1, 2), units, reduction="none")  # [B, N]
        (total, count), (heard_total, heard_count) = (_total(losses, where) for where in (hidden, heard))
        # The step counts hidden frames; those that are heard have their share by the mean of the micro-batch.
        others = heard_total / heard_count.clamp(min=1) * count
        loss = self.hidden_share * total + (1 - self.hidden_share) * others
        wrong = 100.0 * (logits.argmax(dim=-1) != units)
        metrics = {
            "loss": (loss.detach(), count),
            "error": _total(wrong, hidden),
            "heard_error": _total(wrong, heard),
        }
        yield Objective("network", loss, metrics, count)

    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        """Loss and error of frames that are hidden, always the same ones, and the error of those that are heard."""
        units, hidden, heard = self._units_and_masks(batch, torch.Generator().manual_seed(0))
        logits = self.network(batch["mixture"], batch["length"], hidden)
        losses = F.cross_entropy(logits.transpose(1, 2), units, reduction="none")
        wrong = 100.0 * (logits.argmax(dim=-1) != units)
        return {
            "loss": (losses[hidden].sum(), int(hidden.sum())),
            "error": (wrong[hidden].sum(), int(hidden.sum())),
            "heard_error": (wrong[heard].sum(), int(heard.sum())),
        }

    def export(self, folder: Path) -> list[Path]:
        """The encoder without the head as a Hugging Face folder; ``config.json`` comes last and makes it complete."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        encoder = copy.deepcopy(self.network.encoder).to("cpu", self.export_dtype)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export") as temporary:
            with quiet_transformers():
                encoder.save_pretrained(temporary)
            files = sorted(Path(temporary).iterdir(), key=lambda path: path.name == "config.json")
            for path in files:
                readable(path)
            return [Path(shutil.move(path, folder / path.name)) for path in files]

    def _units_and_masks(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The main talker's units [B, N], and the hidden and the heard frames, [B, N] bool. Padding is neither."""
        units = self.tokenizer.encode(batch["target"], batch["length"])[..., 0]
        frames = self.network.grid.frames(batch["length"])
        hidden = span_mask(
            frames, units.shape[1], probability=self.mask_probability, length=self.mask_length, generator=generator
        )
        return units, hidden, length_mask(frames, units.shape[1]) & ~hidden


def _total(values: torch.Tensor, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum over the frames of a mask, and how many there are, without asking the device."""
    return (values * where).sum(), where.sum()
