"""Whether tokens are of the kind that a language model learned from: it keeps what made those."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from models.interfaces import Tokenizer
from models.programs import Tokenize

log = logging.getLogger(__name__)


def making(tokenizer: Tokenizer) -> dict[str, Any]:
    """What the record beside its tokens says of a tokenizer: facts and digests by name."""
    program = Tokenize(tokenizer=tokenizer)
    return {**program.facts(), **program.digests()}


def require_same_making(then: Mapping[str, Any], now: Mapping[str, Any], *, what: str, model: str) -> None:
    """Raise a ValueError if tokens were made in another way than those that a model learned from.

    Args:
        then: what the model keeps of them: facts and digests by name; nothing in a released file.
        now: the same of these tokens; only what both tell is compared.
        what: they are, ``units`` or ``codes``.
        model: its name, for the error.
    """
    differing = [f"{key} is {now[key]}, was {then[key]}" for key in then if key in now and now[key] != then[key]]
    if differing:
        raise ValueError(
            f"these {what} are made in another way than those that the {model} learned from: {'; '.join(differing)} "
            "(a long value is the SHA-256 of what made them)"
        )


def tell_unknown(provenance: Mapping[str, Any], *, model: str) -> None:
    """Say in the log that a file keeps nothing of what it learned from."""
    if not provenance:
        log.info("the file of the %s does not tell what made its units: whether these are alike is not checked", model)
