"""Who may import whom: read from the source with ``ast``, never by importing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy import ROOT

FOLDERS = ("benchmarks", "data", "evaluation", "models", "modules", "page", "pretrained", "running", "utils")
PROGRAMS = ("train", "inference", "evaluate", "serve")
# Programs of a system, which lie with it: wiring only, which nothing imports.
COMMANDS = {
    "models.speechtokenizer.teacher_features": {"models", "running", "utils"},
    "models.resynthesis.voice_vectors": {"models", "running", "utils"},
    "models.limuse.voiceprints": {"data", "models", "running", "utils"},
}
# folder -> what of ours it may import beside itself
ALLOWED = {
    "modules": set(),
    "utils": set(),
    "models": {"modules", "utils"},
    "data": {"utils", "modules.frames"},
    "running": {"data", "models.interfaces", "models.load", "utils"},
    "benchmarks": {"data", "evaluation", "models", "modules", "running", "utils"},
    "evaluation": {"data", "models.interfaces", "models.load", "modules", "running", "utils"},
    "page": {"data", "models.interfaces", "models.load", "modules", "running", "utils"},
    "pretrained": {"data", "evaluation", "models", "modules", "running", "utils"},
}


def sources() -> dict[str, Path]:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    files += [ROOT / f"{name}.py" for name in PROGRAMS]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    assert len(names) > 30
    return names


def imports(name: str, path: Path, *, anywhere: bool = True) -> set[str]:
    """The modules of ours that a file imports: anywhere in it, or only when it is itself imported."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide the direction"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {found_name for found_name in found if found_name.split(".")[0] in (*FOLDERS, *PROGRAMS)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    for name, path in sources().items():
        if name.split(".")[0] != folder or name in COMMANDS:
            continue
        for imported in imports(name, path):
            top = imported.split(".")[0]
            allowed = top == folder or any(
                imported == wall or imported.startswith(f"{wall}.") or wall.startswith(f"{imported}.")
                for wall in ALLOWED[folder]
            )
            assert allowed, f"{name} imports {imported}"


def test_a_command_wires_and_nothing_imports_it() -> None:
    files = sources()
    for name, walls in COMMANDS.items():
        assert {imported.split(".")[0] for imported in imports(name, files[name])} <= walls
    for name, path in files.items():
        assert not COMMANDS.keys() & imports(name, path), name


def test_a_system_never_imports_the_inside_of_another() -> None:
    systems = {path.parent.name for path in (ROOT / "models").glob("*/__init__.py")}
    assert {"tselm", "unit_hifigan"} <= systems
    for name, path in sources().items():
        parts = name.split(".")
        if parts[0] == "models" and len(parts) > 1 and parts[1] in systems:
            for imported in imports(name, path):
                inside = imported.split(".")
                if inside[0] == "models" and len(inside) > 1 and inside[1] in systems:
                    assert inside[1] == parts[1], f"{name} imports {imported}"


def test_there_is_no_circle() -> None:
    names = sources()
    graph = {name: imports(name, path, anywhere=False) & names.keys() for name, path in names.items()}
    for package in FOLDERS:  # a package's own file stands for the whole package, which its members are part of
        graph = {name: targets - {package} for name, targets in graph.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_code_folder_is_a_regular_package() -> None:
    for folder in FOLDERS:
        for inside in {path.parent for path in (ROOT / folder).rglob("*.py")}:
            assert (inside / "__init__.py").exists(), inside


@pytest.mark.slow
def test_importing_has_no_effect() -> None:
    """No seed, thread count or device changes, and nothing is printed."""
    modules = [name for name in sources() if name not in PROGRAMS]
    code = (
        "import torch, random; before = (torch.get_num_threads(), torch.initial_seed(), random.getstate())\n"
        + "".join(f"import {name}\n" for name in modules)
        + "assert before == (torch.get_num_threads(), torch.initial_seed(), random.getstate())\n"
        + "assert not torch.cuda.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
