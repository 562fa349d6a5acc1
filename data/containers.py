"""What an audio file's header promises against what is in the file.

libsndfile is silent about much of it: it takes the rest of a cut file for the whole, an unfinished header for an empty
file, and stops where an estimated length ends.
"""

from __future__ import annotations

import functools
import logging
import mmap
import os
import re

import soundfile as sf

log = logging.getLogger(__name__)

_UNKNOWN = 1 << 62  # frames that libsndfile gives where a header says none: its largest number, less some
# Sizes that a recorder writes which cannot go back to write the true one: the sound goes on to the end of the file.
_PLACEHOLDERS = (range(0x7FFFE000, 0x80000000), range(0xFFFFE000, 0x100000000))
# What libsndfile notes about a header; both count samples.
_NOTED_SAMPLES = re.compile(r"Frame count read from 'COMM' chunk \((\d+)\)|from 'ds64' chunk of (\d+)")
_NOTED_BYTES = re.compile(r"^\s*(data|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_NOTED_REST = re.compile(r"Unknown chunk marker \(\w+\) at position (\d+)")
# kbit/s of MPEG layer III, by the index in a frame's header: of MPEG 1, and of MPEG 2 and 2.5
_KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


class OneSegment(sf.SoundFile):
    """A file to seek in and to read from in one direction.

    After each read from a file that can seek, soundfile seeks to where it is already. In a flac file that decodes one
    or two frames more for nothing, a tenth of the time of reading 3 s.

    Attributes:
        samples: of each channel, that can be read; ``data.audio`` sets it.
    """

    samples: int

    def seekable(self) -> bool:
        return False

    def go_to(self, start: int) -> None:
        """Move to a sample. What cannot seek (GSM 6.10, G.721 and the like) is decoded up to it, from where it is."""
        if super().seekable():
            self.seek(start)
            return
        while start and (found := len(self.read(min(start, 1 << 18), dtype="float32"))):
            start -= found


def samples_in(file: sf.SoundFile, path: str | os.PathLike) -> int:
    """How many samples (of each channel) can be read from a file that was just opened.

    Of most forms the header and the file's size tell. An mp3 file's frames are walked through and a flac stream of
    unknown length is decoded once; the result is kept for as long as the file does not change.

    Raises:
        ValueError: the file holds fewer samples than its header promises, or more than can be read.
    """
    form = file.format
    if form == "FLAC":  # a cut one shows when it is decoded
        return file.frames if file.frames < _UNKNOWN else decodable(path)
    if form == "MP3":
        _check_mp3(path, file.frames)
    elif form == "OGG":
        _check_ogg(path, file.frames)
    else:
        _check_size(path, file)
    return file.frames


def incomplete(path: str | os.PathLike, promised: int, held: int) -> ValueError:
    """The error for a file that holds less than it says."""
    return ValueError(f"{path} is incomplete: its header promises {promised} samples, {held} can be read")


def decodable(path: str | os.PathLike) -> int:
    """How many samples can be decoded before the end or the first fault. Kept while the file does not change."""
    return _decodable(*stamped(path))


def stamped(path: str | os.PathLike) -> tuple[str, int, int]:
    """The path, size in bytes and time of change in ns of a file: what is known of it holds while these stay."""
    status = os.stat(path)
    return os.fspath(path), status.st_size, status.st_mtime_ns


def warn_once(message: str) -> None:
    """Warn of a file, once in a process."""
    if message not in _warned:
        _warned.add(message)
        log.warning("%s", message)


_warned: set[str] = set()


@functools.lru_cache(maxsize=1 << 16)
def _decodable(path: str, size: int, changed: int) -> int:
    counted = 0
    for block in (1 << 18, 1 << 10):  # after a fault again from the last whole block on, in small steps up to it
        with OneSegment(os.fsencode(path)) as file:
            try:
                file.go_to(counted)
                while found := len(file.read(block, dtype="float32")):
                    counted += found
            except sf.SoundFileError:
                continue
        break
    return counted


def _check_size(path: str | os.PathLike, file: sf.SoundFile) -> None:
    """Of forms that are a header and samples: compare the sizes by what libsndfile noted when it read the header."""
    notes, frames = file.extra_info, file.frames
    if frames == 0 and file.format in ("WAV", "WAVEX"):
        _check_unfinished(path)
    promised = frames
    if noted := _NOTED_SAMPLES.search(notes):
        promised = int(noted[1] or noted[2])
    elif noted := _NOTED_BYTES.search(notes):
        said, there = int(noted[2]), int(noted[3])
        if any(said in sizes for sizes in _PLACEHOLDERS):
            return
        if frames == 0:  # a header with nothing behind it
            raise ValueError(f"{path} is incomplete: its header promises {said} bytes, no sample can be read")
        width = there / frames
        width = round(width) or width  # bytes of a sample of all channels; compressed forms have fractions
        promised = frames + int((said - there) / width) if noted[1] == "riff" else int(said / width)
    elif file.format == "NIST":
        with open(path, "rb") as opened:
            noted = re.search(rb"sample_count -i (\d+)", opened.read(1024))
        promised = int(noted[1]) if noted else frames
    if promised > frames:
        raise incomplete(path, promised, frames)
    if noted := _NOTED_REST.search(notes):
        rest = os.path.getsize(path) - int(noted[1])
        if rest > 4096:  # more than a tag of a tool that did not keep to the form
            warn_once(f"{path}: after the {frames} samples of its header come {rest} bytes more, which are not read")


def _check_unfinished(path: str | os.PathLike) -> None:
    """Whether what follows a wav file's sound of 0 bytes are further chunks, or sound that its header leaves out."""
    size, place = os.path.getsize(path), 12
    with open(path, "rb") as file:
        seen_sound = False
        while place + 8 <= size:
            file.seek(place)
            name, length = file.read(4), int.from_bytes(file.read(4), "little")
            is_chunk = name.isascii() and name.decode("ascii").isprintable() and place + 8 + length <= size
            if seen_sound and not is_chunk:
                raise ValueError(
                    f"{path} was not finished: its header says 0 bytes of sound, but {size - place} bytes follow. Mend "
                    "its header, for example with: ffmpeg -ignore_length 1 -i OLD.wav NEW.wav"
                )
            seen_sound = seen_sound or name == b"data"
            place += 8 + length + length % 2


def _check_ogg(path: str | os.PathLike, frames: int) -> None:
    """An ogg stream does not say how long it is, but its last page says that it is the last."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(max(0, size - (1 << 16) - 300))  # a page is no longer than this
        rest = file.read()
    last = rest.rfind(b"OggS")
    if last < 0 or last + 6 > len(rest) or not rest[last + 5] & 4:
        if frames == 0:
            raise ValueError(f"{path} is incomplete: it ends within its header or first page, no sample can be read")
        warn_once(f"{path} has no mark of its end and may be cut off: {frames} samples of an unknown number are read")
    elif _is_chained(*stamped(path)):
        warn_once(f"{path} is several recordings one after another: the first, of {frames} samples, is read alone")


@functools.lru_cache(maxsize=1 << 16)
def _is_chained(path: str, size: int, changed: int) -> bool:
    """Whether in an ogg file another stream begins after one has ended."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = re.search(rb"OggS\0[\4-\7]", data)
        return end is not None and re.compile(rb"OggS\0[\2\3\6\7]").search(data, end.end()) is not None


def _check_mp3(path: str | os.PathLike, frames: int) -> None:
    held, longest = _mp3_samples(*stamped(path))
    # Coders add some samples at both ends, which the length in the header leaves out: 4 frames at most.
    if frames > held + longest:
        raise incomplete(path, frames, decodable(path))
    if frames + 5 * longest < held:
        raise ValueError(
            f"{path}: its header promises {frames} samples, or none and so many are estimated, but about {held} are in "
            "the file, and the rest cannot be read. Convert it first, for example with: ffmpeg -i OLD.mp3 NEW.flac"
        )


@functools.lru_cache(maxsize=1 << 16)
def _mp3_samples(path: str, size: int, changed: int) -> tuple[int, int]:
    """How many samples all whole frames of an mp3 file have together, by their headers, and the longest frame."""
    held = longest = 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = 0
        while data[place : place + 3] == b"ID3" and place + 10 <= size:
            place += 10 + _syncsafe(data[place + 6 : place + 10])
        first = True
        while 0 <= place <= size - 4:
            frame = _mp3_frame(data[place : place + 4])
            if frame is None:
                place = data.find(b"\xff", place + 1)  # a tag, or a fault: on to the next frame
                continue
            length, samples = frame
            is_info = first and any(mark in data[place : place + 200] for mark in (b"Xing", b"Info", b"VBRI"))
            if place + length <= size and not is_info:
                held, longest = held + samples, max(longest, samples)
            place, first = place + length, False
    return held, longest


def _syncsafe(digits: bytes) -> int:
    """A number of an ID3 tag: 7 bits a byte."""
    return functools.reduce(lambda number, byte: number << 7 | byte & 0x7F, digits, 0)


def _mp3_frame(header: bytes) -> tuple[int, int] | None:
    """Bytes and samples of the frame with this header; None where it is not one (ISO 11172-3, 2.4.2.3)."""
    if header[0] != 0xFF or header[1] & 0xE6 != 0xE2:  # 11 bits of synchronisation, and layer III
        return None
    version, kbits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    bits = _KBITS[version == 3][kbits] * 1000
    return samples // 8 * bits // _MP3_RATES[version][rate] + (header[2] >> 1 & 1), samples
