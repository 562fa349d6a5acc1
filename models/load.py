"""From a recipe and a checkpoint to a system that is ready for use, and to the programs that run it.

A recipe offers jobs by what it names. Its ``model`` is what Python gets, and extracts if it is an extractor; its
``tokenizer`` tokenizes, its ``vocoder`` decodes, both together resynthesise. A program of a system's own stands in the
recipe under the name of its job, and goes before these.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch

from models.interfaces import Program, TargetExtractor, TokenExtractor, fulfils
from models.programs import Decode, Extract, Resynthesise, TokenCodec, Tokenize
from utils.recipe import Recipe
from utils.seed import make_reproducible

# job -> keys that a recipe must have, and what makes the program of what they name
GENERAL = {
    "extract": (("model",), lambda model: Extract(extractor=model)),
    "tokenize": (("tokenizer",), lambda tokenizer: Tokenize(tokenizer=tokenizer)),
    "decode": (("vocoder",), lambda vocoder: Decode(vocoder=vocoder)),
    "resynthesise": (
        ("tokenizer", "vocoder"),
        lambda tokenizer, vocoder: Resynthesise(tokenizer=tokenizer, vocoder=vocoder),
    ),
}
JOBS = (*GENERAL, "score", "continue")


def offered(recipe: Recipe) -> tuple[str, ...]:
    """The jobs that a recipe offers, from its text alone."""
    return tuple(job for job in JOBS if job in recipe or _is_general(recipe, job))


def keys_of(recipe: Recipe, job: str) -> tuple[str, ...]:
    """The keys of a recipe that a job is made of.

    Raises:
        ValueError: the recipe does not offer it; the message lists what it offers.
    """
    if job in recipe:
        return (job,)
    if _is_general(recipe, job):
        return GENERAL[job][0]
    raise ValueError(f"{recipe.path} offers {', '.join(offered(recipe)) or 'nothing to run'}; not {job}")


def build_program(recipe: Recipe, job: str) -> Program:
    """What does a job with a recipe, without a checkpoint, on the CPU.

    Raises:
        ValueError: the recipe does not offer it, or cannot be built.
    """
    built = recipe.build(*keys_of(recipe, job))
    make_reproducible()  # now that all libraries are imported
    return built[job] if job in built else GENERAL[job][1](**built)


def load_program(
    recipe: Recipe, job: str, checkpoint: str | os.PathLike | None, *, device: str | torch.device = "cpu"
) -> Program:
    """The same with its weights, on a device.

    Raises:
        ValueError: also where the program needs a checkpoint, or reads none.
    """
    program = build_program(recipe, job)
    if checkpoint is None and program.checkpoint == "needed":
        raise ValueError(f"to {job}, {recipe.path} needs a checkpoint: -ckpt FILE")
    if checkpoint is not None:
        if program.checkpoint == "refused":
            raise ValueError(f"to {job}, {recipe.path} reads no checkpoint: it names the files itself; leave out -ckpt")
        program.load_checkpoint(_existing(checkpoint))
    return program.to(device)


def load_model(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    *,
    device: str | torch.device = "cpu",
    overrides: Iterable[str] = (),
) -> Any:
    """Build the recipe's ``model`` and load its trained weights: any system, for use from Python.

    Args:
        config: the recipe; only what its ``model`` needs is built, so its training paths may be unset.
        checkpoint: of this project (``best.pth``, ``last.pth``) or released; None where the recipe names the files.
        device: where to compute.
        overrides: ``KEY=VALUE`` texts that change keys of the recipe.

    Raises:
        FileNotFoundError, ValueError: what is missing or wrong, by name.
    """
    recipe = Recipe(config, overrides=overrides)
    model = recipe.build("model")["model"]
    make_reproducible()  # now that all libraries are imported
    policy = getattr(model, "checkpoint", "needed" if hasattr(model, "load_checkpoint") else "refused")
    if checkpoint is not None and policy == "refused":
        raise ValueError(f"the model of {config} reads no checkpoint: the recipe names its files")
    if checkpoint is None and policy == "needed":
        raise ValueError(f"the model of {config} needs a checkpoint")
    if checkpoint is not None:
        model.load_checkpoint(_existing(checkpoint))
    return model.to(device)


def load_extractor(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    *,
    device: str | torch.device = "cpu",
    overrides: Iterable[str] = (),
) -> TargetExtractor:
    """``load_model`` for a recipe whose model is an extractor, with the type of one.

    >>> extractor = load_extractor("config/tselm_l.yaml", "best.pth", device="cuda")  # doctest: +SKIP
    >>> speech = extractor.extract(mixture, enrolment)  # doctest: +SKIP
    """
    model = load_model(config, checkpoint, device=device, overrides=overrides)
    if not fulfils(model, TargetExtractor):
        raise ValueError(f"the model of {config}, a {type(model).__name__}, does not extract")
    return model


def load_token_system(
    recipe: Recipe, checkpoint: str | os.PathLike | None = None, *, device: str | torch.device = "cpu"
) -> TokenExtractor | TokenCodec:
    """What turns sound into tokens and back as a recipe's system does, to measure it by them.

    An extractor does so in its own way, without its trained network; of other systems it is the tokenizer and vocoder.

    Raises:
        ValueError: the recipe's system does not work through tokens, or needs a checkpoint.
    """
    if "model" in recipe and _is_general(recipe, "extract"):
        model = recipe.build("model")["model"]
        make_reproducible()
        if not fulfils(model, TokenExtractor):
            raise ValueError(f"the model of {recipe.path} does not work through tokens")
        return model.to(device)
    if not _is_general(recipe, "resynthesise"):
        raise ValueError(f"{recipe.path} names no tokenizer and vocoder: there are no tokens")
    program = Resynthesise(**recipe.build("tokenizer", "vocoder"))
    make_reproducible()
    if program.checkpoint == "needed" and checkpoint is None:
        raise ValueError(f"the tokens of {recipe.path} need a checkpoint: -ckpt FILE")
    if program.checkpoint != "refused" and checkpoint is not None:
        program.load_checkpoint(_existing(checkpoint))
    program.to(device)
    return TokenCodec(tokenizer=program.tokenizer, vocoder=program.vocoder)


def _is_general(recipe: Recipe, job: str) -> bool:
    if job not in GENERAL or not all(key in recipe for key in GENERAL[job][0]):
        return False
    return job != "extract" or hasattr(recipe.constructor("model"), "extract")


def _existing(checkpoint: str | os.PathLike) -> str:
    if not os.path.exists(checkpoint):
        raise FileNotFoundError(f"no such checkpoint: {checkpoint}")
    return os.fspath(checkpoint)
