"""NISQA: how listeners would rate the output, predicted from it alone."""

from __future__ import annotations

import warnings
from pathlib import Path

from evaluation.metric import SAMPLE_RATE, Column, Metric, Score, Signals, Unscorable, require_packages, version
from evaluation.pretrained import digest, one_line, unavailable

_FILE = "nisqa.tar"  # v2: overall quality and four dimensions; nisqa_tts.tar and nisqa_mos_only.tar are other models
_FOLDER = "~/.torchmetrics/NISQA"  # where torchmetrics keeps it
_ADDRESS = f"https://github.com/gabrielmittag/NISQA/raw/refs/heads/master/weights/{_FILE}"
_DIMENSIONS = {  # in the order of the network's outputs
    "mos": ("NISQA", "overall quality"),
    "noisiness": ("NISQA noisiness", "freedom from noise"),
    "discontinuity": ("NISQA discontinuity", "freedom from interruptions"),
    "coloration": ("NISQA coloration", "freedom from coloration"),
    "loudness": ("NISQA loudness", "adequacy of loudness"),
}


class NISQA(Metric):
    """NISQA v2 (Mittag et al., Interspeech 2021) as torchmetrics computes it; on the CPU, since its masks are there.

    Args:
        source: the weights, ``nisqa.tar``, or a folder that has them. None: where torchmetrics keeps them; they are
            fetched if they are not there.
        flag: the option that names another ``source``, for errors.

    Raises:
        Unavailable: the weights are not there and cannot be fetched.
    """

    name = "nisqa"
    needs = ()
    on_device = False

    def __init__(self, *, source: str | None = None, flag: str = ""):
        require_packages("torchmetrics", "librosa", "requests")
        self._flag = flag
        self._path = _find(source, flag)
        self.models = {str(source or _FILE): digest(self._path, flag)}
        self.columns = tuple(
            Column(f"nisqa_{key}", title, f"{what}, 1 to 5, by NISQA v2 at 16 kHz; {version('torchmetrics')}")
            for key, (title, what) in _DIMENSIONS.items()
        )

    def load(self, device: str) -> None:
        try:
            from torchmetrics.functional.audio.nisqa import _NISQADIM

            from utils.safe_load import load_torch

            checkpoint = load_torch(self._path)
            self._args = checkpoint["args"]
            self._model = _NISQADIM(self._args)
            self._model.load_state_dict(checkpoint["model_state_dict"])
            self._model.eval().requires_grad_(False)
        except Exception as error:  # whatever a broken file brings about
            raise unavailable(f"cannot load NISQA from {self._path} ({one_line(error)})", self._flag) from error

    def score(self, signals: Signals) -> dict[str, Score]:
        import torch

        # The steps of its non_intrusive_speech_quality_assessment, which takes no path to the weights: it reads them
        # from the one folder, once a process, and fetches them without a look at what arrives.
        from torchmetrics.functional.audio.nisqa import _get_librosa_melspec, _segment_specs

        try:
            with warnings.catch_warnings():  # librosa, of files of less than 256 ms
                warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
                mel = _get_librosa_melspec(signals.output[None], SAMPLE_RATE, self._args)
            segments, count = _segment_specs(torch.from_numpy(mel), self._args)
        except RuntimeError as error:
            raise Unscorable(f"NISQA: {one_line(error)}") from error  # too short or too long
        with torch.inference_mode():
            values = self._model(segments, count.expand(1))[0]
        return {column.name: value for column, value in zip(self.columns, values.tolist(), strict=True)}


def _find(source: str | None, flag: str) -> Path:
    """The path of the weights, which are fetched if nobody said where they are. Raises Unavailable."""
    path = Path(_FOLDER if source is None else source).expanduser()
    if source is None or path.is_dir():
        path = path / _FILE
    if path.is_file():
        return path
    problem = f"weights not found at {path}"
    if source is None:
        from huggingface_hub import is_offline_mode

        if is_offline_mode():
            problem += ", and this is offline"
        else:
            from data.prepare.fetch import ResumingDownloader

            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                ResumingDownloader(path)(_ADDRESS)
                return path
            except OSError as error:
                problem += f": {one_line(error)}"
    raise unavailable(problem, flag, what=f"{_FILE} or its folder")
