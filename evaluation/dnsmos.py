"""DNSMOS: a guess at how people would rate speech and background, from the output alone."""

from __future__ import annotations

import hashlib
from importlib import util
from pathlib import Path

from evaluation.metric import SAMPLE_RATE, Column, Metric, Score, Signals, require_packages, version

_WINDOWS = "9.01 s windows every second, shorter clips repeated, mean over the windows, not personalised"


class DNSMOS(Metric):
    """DNSMOS P.835 (Reddy et al., arXiv 2110.01763) and P.808, by the models that the speechmos package carries."""

    name = "dnsmos"
    needs = ()

    def __init__(self):
        require_packages("speechmos", "onnxruntime", "librosa")
        folder = Path(util.find_spec("speechmos").origin).parent / "dnsmos_models"
        self._paths = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
        self.models = {
            f"speechmos {Path(path).name}": hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in self._paths
        }
        how = f"{_WINDOWS} ({version('speechmos')})"
        self.columns = tuple(
            Column(f"dnsmos_{key}", f"DNSMOS {title}", f"{text}, 1 to 5, of the output alone: {how}")
            for key, title, text in (
                ("sig", "SIG", "P.835 speech quality"),
                ("bak", "BAK", "P.835 background quality"),
                ("ovrl", "OVRL", "P.835 overall quality"),
                ("p808", "P.808", "P.808 overall quality"),
            )
        )

    def load(self, device: str) -> None:
        import onnxruntime
        from speechmos.dnsmos import DNSMOS as Model

        self._model = Model(*self._paths)
        # The sessions of the package take every core; here every process is to take one.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._model.onnx_sess, self._model.p808_onnx_sess = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in self._paths
        )

    def score(self, signals: Signals) -> dict[str, Score]:
        found = self._model(signals.output, SAMPLE_RATE, False)
        return {f"dnsmos_{key}": float(found[f"{key}_mos"]) for key in ("sig", "bak", "ovrl", "p808")}
