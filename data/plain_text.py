"""Text files that other tools wrote: lists and indexes, whatever marks and line ends they have."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator

# file.ark:1234, or file.ark:1234[0:99]
_MAYBE_NO_PATH = re.compile(r"[|~$\0]|[0-9\]]$|^\s*$")
_KALDI_PLACE = re.compile(r":\d+(\[[\d:,]*\])?$")


def read_text(path: str | os.PathLike, what: str = "list") -> str:
    """All of a text file in UTF-8, or in UTF-16 that begins with its mark, without the mark; lines end with "\\n".

    Raises:
        OSError: there is no such file, it is a folder, or it may not be read; the message says ``what`` it should be.
        ValueError: another encoding, with the number of the line; or not text.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder, not a {what}")
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such {what}: {path}")
    with open(path, "rb") as file:
        raw = file.read()
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + raw[: error.start].count(b"\n")
        raise ValueError(
            f"{path}, line {line}: not {encoding.removesuffix('-sig').upper()} text (byte 0x{raw[error.start]:02x}); "
            f"save the {what} as UTF-8, for example with: iconv -f latin1 -t utf-8"
        ) from error
    if "\0" in text:
        line = 1 + text.count("\n", 0, text.index("\0"))
        raise ValueError(f"{path}, line {line}: a NUL byte; this is no {what} in UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def numbered_lines(path: str | os.PathLike, what: str = "list") -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not empty and no comments (``#`` at the beginning), stripped, from 1.

    Raises as ``read_text``.
    """
    # not splitlines, which also takes some characters of names for ends of lines
    for number, line in enumerate(read_text(path, what).split("\n"), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line


def why_no_path(text: str, folder: str = "") -> str | None:
    """Why what stands in a list in a path's place is not taken as one. None: it is.

    Nothing in a list is run or expanded. Characters that only look like it are fine where there is such a file.

    Args:
        folder: that a relative path is relative to.
    """
    if not _MAYBE_NO_PATH.search(text):  # nearly all, so that a list of 100,000 lines is read in a second
        return None
    if text.endswith("|") or text.startswith("|"):
        return "commands in lists are not run; write what it makes to a file, and the file's path into the list"
    if "\0" in text:
        return "a path cannot hold a NUL character"
    if not text or text.isspace():
        return "the path is empty"
    if text.startswith("~") and not os.path.exists(os.path.join(folder, text)):
        return "~ is not expanded in lists; write the whole path"
    if "$" in text and not os.path.exists(os.path.join(folder, text)):
        return "$VARIABLES are not expanded in lists; write the whole path"
    if _KALDI_PLACE.search(text) and not os.path.exists(os.path.join(folder, text)):
        return "places in Kaldi archives (FILE:OFFSET) are not read; copy them to files of their own first"
    return None
