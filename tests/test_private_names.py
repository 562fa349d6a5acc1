"""Names of other libraries that are not public, and may change with any version: each in one place, and all are there.

They are used where there is no public way. When one has changed, the test of it says which, and where it is used.
"""

from __future__ import annotations

import ast
import ctypes
import functools
import importlib

import numpy as np
import pytest
import torch

from tests.toy import ROOT

# name -> the one file that may use it
PRIVATE = {
    "torch.ops.mkldnn._reorder_linear_weight": "modules/frozen_linear.py",
    "torch.ops.mkldnn._linear_pointwise": "modules/frozen_linear.py",
    "torch.ops.mkldnn._is_mkldnn_bf16_supported": "modules/frozen_linear.py",
    "torch._weight_norm": "models/tselm/released.py",
    "torch.optim.AdamW._step_supports_amp_scaling": "utils/descent.py",
    "torch.utils._python_dispatch": "benchmarks/floor.py",
    "transformers.models.wavlm.modeling_wavlm.WavLMModel._mask_hidden_states": "pretrained/toy/awake.py",
    "torchmetrics.functional.audio.nisqa._NISQADIM": "evaluation/nisqa.py",
    "torchmetrics.functional.audio.nisqa._get_librosa_melspec": "evaluation/nisqa.py",
    "torchmetrics.functional.audio.nisqa._segment_specs": "evaluation/nisqa.py",
    "sklearn.cluster.MiniBatchKMeans._n_features_out": "models/kmeans/files.py",
    "sklearn.cluster.MiniBatchKMeans._n_threads": "models/kmeans/files.py",
    "pickle._Unpickler": "utils/safe_joblib.py",
    "atexit._run_exitfuncs": "utils/launch.py",
    "_ctypes": "data/prepare/espeak.py",
    "ctypes.CDLL._handle": "data/prepare/espeak.py",
}
DOCUMENTED = {"_asdict", "_replace", "_fields", "_exit"}  # underlined, and public all the same


@pytest.mark.parametrize("name", PRIVATE)
def test_it_is_still_there(name: str) -> None:
    if name.startswith("torchmetrics"):
        pytest.importorskip("torchmetrics")
    library = importlib.import_module(name.split(".")[0])
    try:
        find(name)
    except (ImportError, AttributeError):
        version = getattr(library, "__version__", "of this Python")
        pytest.fail(f"{library.__name__} {version} has no {name}, which {PRIVATE[name]} uses")


def find(name: str) -> object:
    """A module, or what one holds; an instance of the classes that do not show such a name themselves."""
    if name in MAKE:
        return MAKE[name]()
    owner, _, last = name.rpartition(".")
    if owner and hasattr(found := find(owner), last):
        return getattr(found, last)
    return importlib.import_module(name)


def fitted_kmeans() -> object:
    from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(1, n_init=1).fit(np.zeros((2, 1)))


MAKE = {
    "torch.optim.AdamW": lambda: torch.optim.AdamW([torch.zeros(1, requires_grad=True)], fused=True),
    "sklearn.cluster.MiniBatchKMeans": fitted_kmeans,
    "ctypes.CDLL": lambda: ctypes.CDLL(None),
}


def test_each_is_used_in_its_one_place_and_no_other_is_used() -> None:
    listed = {(part, file) for name, file in PRIVATE.items() for part in name.split(".") if part.startswith("_")}
    assert {(name, file) for file in trees() for name in private_names(file)} == listed


@functools.cache
def trees() -> dict[str, ast.Module]:
    paths = {path.relative_to(ROOT): path for path in ROOT.rglob("*.py")}
    return {str(short): ast.parse(path.read_text()) for short, path in paths.items() if short.parts[0][0] != "."}


def private_names(file: str) -> set[str]:
    """The underlined names that a file uses and that are not of our making; of tests, those that are imported."""
    found: set[str] = set()
    for node in ast.walk(trees()[file]):
        if isinstance(node, ast.Import):
            found.update(part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            found.update(node.module.split("."), (alias.name for alias in node.names))
        elif file.startswith("tests/"):
            continue
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
            found.update(str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))
    return {name for name in found - ours() - DOCUMENTED if name.startswith("_") and not name.endswith("__")}


@functools.cache
def ours() -> set[str]:
    """The underlined names that are defined here: functions, classes, variables, attributes of self."""
    found: set[str] = set()
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if getattr(node.value, "id", "") in ("self", "cls"):
                    found.add(node.attr)
    return found
