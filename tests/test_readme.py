"""The README's commands and code: every flag, key, file and line of Python in it exists and works."""

from __future__ import annotations

import re
import shlex

import pytest
import torch

from tests.toy import REFERENCE, ROOT, call, read, settings
from utils.recipe import Recipe

TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found
    return found


def commands() -> list[str]:
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line.strip()]


@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith("make ")])
def test_every_command_has_the_flags_keys_and_files_that_it_names(command: str) -> None:
    words = shlex.split(command)
    start = next(i for i, word in enumerate(words) if word == "-m" or word.endswith(".py"))
    assert words[0] in ("python", "torchrun")
    program, *arguments = words[start:] if words[start] != "-m" else words[start + 1 :]
    subcommands = arguments[:2] if arguments[0] == "convert" else []
    done = call(program, *subcommands, "--help")
    assert done.returncode == 0
    for flag in (word for word in arguments if re.fullmatch(r"--?[a-z_]+", word)):
        assert re.search(rf"(^|[\s,]){re.escape(flag)}\b", done.stdout), f"{program} has no {flag}"
    recipes = [word for word in arguments if word.startswith("config/")]
    keys = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--override"]
    for recipe in recipes:
        Recipe(ROOT / recipe, overrides=keys)
    assert recipes or not keys


def test_every_make_target_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in commands():
        if command.startswith("make "):
            assert f"\n{command.split()[1]}:" in makefile


def test_the_python_runs() -> None:
    (code,) = blocks("python")
    code, found = re.subn(r"overrides=\[.*?\]", "overrides=overrides", code, flags=re.DOTALL)
    assert found == 1
    code = code.replace("config/", f"{ROOT}/config/").replace("public/tselm_l.pth", f"{REFERENCE}/tselm.pth")
    names = {"mixture": read("mix_clean", "utt0")[0], "enrolment": read("aux_s1", "utt0")[0], "overrides": settings()}
    exec(code.replace('device="cuda"', 'device="cpu"'), names)
    assert names["speech"].shape == names["mixture"].shape and names["speech"].dtype == torch.float32


def test_the_keys_and_files_in_the_text_exist() -> None:
    recipe = (ROOT / "config/tselm_l.yaml").read_text()
    keys = re.findall(r"`([a-z_]+)=", TEXT) + re.findall(r"`([a-z_]+: )", TEXT)
    for key in set(keys) - {"weights_only"}:
        assert f"\n{key.rstrip(': ')}:" in recipe, key
    for path in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert path.startswith("https://") or (ROOT / path).exists(), path
    for path in re.findall(r"`((?:config|data|models|utils|tests)/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path
