"""What a codebook's tokens say: how well phonemes and talkers are told from them.

Speech and labels come from one synthesis, so the phoneme of every frame is known. Neither voices nor sentences are
those of any training.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data import audio
from data.prepare.sentences import sentences
from data.prepare.voices import draw_voices, rms, speak_with_phonemes
from data.scp import read_scp, write_scp
from utils.files import write_json

if TYPE_CHECKING:
    from models.speechtokenizer.teacher import Teacher

NEIGHBOURS = (-2, 0, 2)  # frames whose tokens the phoneme of a frame is told from
LEVEL = 0.05  # RMS of the speech


def write_probe(folder: Path, *, talkers: int, utterances: int, seed: int = 0) -> None:
    """Speech of so many held-out voices, as files, ``list.scp``, and ``labels.json``: its talker and phonemes."""
    voices = draw_voices("test", talkers, seed=seed)
    texts = sentences("test", f"probe {seed}")
    files, labels = {}, {}
    for number, (talker, voice) in itertools.product(range(utterances), voices.items()):
        wav, phonemes = speak_with_phonemes(voice, next(texts), seed=seed)
        name = f"{talker}-{number:02d}"
        files[name] = folder / f"{name}.flac"
        audio.write(files[name], wav * min(LEVEL / rms(wav), 0.9 / np.abs(wav).max()))
        labels[name] = {"talker": talker, "phonemes": phonemes}
    write_json(folder / "labels.json", labels)
    write_scp(folder / "list.scp", files)


def measure(tokens: Mapping[str, np.ndarray], labels: Mapping[str, Mapping], *, frame_rate: float) -> dict[str, float]:
    """How much the tokens of one codebook tell.

    Args:
        tokens: name -> [N].
        labels: of ``write_probe``.
        frame_rate: frames a second.

    Returns:
        ``phonemes``: % of the frames of other talkers whose phoneme a linear classifier tells from tokens around them;
        ``talkers``: % of further utterances whose talker one tells from how often each token occurs;
        ``information``: mutual information of token and phoneme, as a part of the phonemes' entropy, in %.
    """
    from sklearn.linear_model import LogisticRegression

    names = sorted(tokens)
    kinds = {name: frame_phonemes(labels[name]["phonemes"], len(tokens[name]), frame_rate) for name in names}
    talkers = sorted({labels[name]["talker"] for name in names})
    size = 1 + max(int(tokens[name].max()) for name in names)
    learned = set(talkers[::2])  # talkers whose phonemes are learned from; all others' are told

    def frames(own: bool) -> tuple[object, np.ndarray]:
        chosen = [name for name in names if (labels[name]["talker"] in learned) is own]
        x = np.concatenate([_around(tokens[name]) for name in chosen])
        return _one_hot(x, size), np.concatenate([kinds[name] for name in chosen])

    phonemes = LogisticRegression(max_iter=100).fit(*frames(True)).score(*frames(False))
    counts = np.stack([np.bincount(tokens[name], minlength=size) / len(tokens[name]) for name in names])
    whose = np.array([labels[name]["talker"] for name in names])
    of_talker = {t: [i for i, name in enumerate(names) if labels[name]["talker"] == t] for t in talkers}
    first = [i for places in of_talker.values() for i in places[: 2 * len(places) // 3]]
    rest = sorted(set(range(len(names))) - set(first))
    told = LogisticRegression(C=1000.0, max_iter=300).fit(counts[first], whose[first]).score(counts[rest], whose[rest])
    information = mutual_information(
        np.concatenate([tokens[name] for name in names]), np.concatenate([kinds[name] for name in names])
    )
    return {"phonemes": 100 * phonemes, "talkers": 100 * told, "information": 100 * information}


def teacher_tokens(scp: Path, teacher: Teacher, clusters: int, *, frames: int = 20000) -> dict[str, np.ndarray]:
    """Of each file the nearest of so many k-means centres of the teacher's features, [N].

    Args:
        frames: drawn at random, that the centres are fitted to.
    """
    import torch

    from modules.kmeans import nearest
    from modules.lloyd import k_means

    features = {}
    for name, path in read_scp(scp).items():
        wav = torch.from_numpy(audio.read(path))
        features[name] = teacher(wav[None], torch.tensor([len(wav)]))[0]
    generator = torch.Generator().manual_seed(0)
    all_frames = torch.cat(list(features.values()))
    drawn = all_frames[torch.randperm(len(all_frames), generator=generator)[:frames]]
    centres, _ = k_means(drawn, min(clusters, len(drawn)), iterations=20, generator=generator)
    return {name: nearest(x, centres).numpy() for name, x in features.items()}


def read_tokens(folder: Path, codebook: int) -> dict[str, np.ndarray]:
    """name -> the tokens [N] of a codebook, of a folder that --tokenize wrote."""
    return {path.stem: np.load(path)[:, codebook] for path in sorted(folder.glob("*.npy"))}


def read_labels(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "labels.json").read_text())


def frame_phonemes(phonemes: Sequence[tuple[float, str]], frames: int, frame_rate: float) -> np.ndarray:
    """[N] texts: the phoneme at the middle of each frame, without its stress; a pause before the first one."""
    starts = [start for start, _ in phonemes]
    names = [name.lstrip("',%=").rstrip("0123456789:;_") or "pause" for _, name in phonemes]
    places = [bisect.bisect_right(starts, (n + 0.5) / frame_rate) - 1 for n in range(frames)]
    return np.array([names[place] if place >= 0 else "pause" for place in places])


def mutual_information(tokens: np.ndarray, labels: np.ndarray) -> float:
    """Of two sequences [n], as a part of the second one's entropy: 1 where the first tells all of it."""
    _, a = np.unique(tokens, return_inverse=True)
    _, b = np.unique(labels, return_inverse=True)
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1)
    joint /= joint.sum()
    expected = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    shares = joint.sum(0)
    entropy = -(shares * np.log(shares)).sum()
    return float((joint[there] * np.log(joint[there] / expected[there])).sum() / entropy) if entropy else 0.0


def _around(tokens: np.ndarray) -> np.ndarray:
    """[N] -> [N, neighbours]; at the ends the last one is repeated."""
    places = np.arange(len(tokens))[:, None] + np.array(NEIGHBOURS)
    return tokens[places.clip(0, len(tokens) - 1)]


def _one_hot(tokens: np.ndarray, size: int) -> object:
    """[n, neighbours] -> sparse [n, neighbours * size]."""
    from scipy.sparse import csr_matrix

    columns = tokens + size * np.arange(tokens.shape[1])
    pointers = np.arange(0, tokens.size + 1, tokens.shape[1])
    return csr_matrix((np.ones(tokens.size), columns.ravel(), pointers), shape=(len(tokens), size * tokens.shape[1]))
