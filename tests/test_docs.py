"""README and docs: every command runs, at toy size, and every key, file and link in them exists."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from data.scp import read_scp
from tests.dpslm import REFERENCE as UNIT_REFERENCE
from tests.dpslm import acoustic_settings, collapsed, lm_settings, unit_settings
from tests.dpslm import overrides as as_overrides
from tests.resynthesis import REFERENCE as VOICE_REFERENCE
from tests.resynthesis import encoder, overrides, wav
from tests.toy import REFERENCE, ROOT, SIZES, UTTERANCES, call, read, settings, write_corpus
from utils.recipe import Recipe

PAGES = {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}

FETCHING = ("apt-get install", "npm pack", "tar -xzf")
# What is not run here, and why; it is parsed by the program that it names
NOT_RUN = {
    "make": "tests/pretrained/test_demo.py runs the demo, tests/pretrained/test_make.py the toy's making",
    "pip install": "needs a network",
    "python -m data.prepare.download": "needs a network",
    "python -m data.prepare.synthetic --voices natural": "needs packages; tests/data/prepare has stand-ins",
    "python -m data.prepare.recordings": "needs packages; tests/data/prepare/test_recordings.py runs it without",
    **{start: "needs a network" for start in FETCHING},
    "torchrun": "tests/test_train.py trains under torchrun, benchmarks.two_nodes on two nodes",
    "python serve.py": "tests/page starts it, and tries what it serves",
    "python -m benchmarks": "needs a GPU; tests/benchmarks runs them all at toy size",
}

RECIPES = ("tselm_l", "speechtokenizer", "resynthesis/vocoder", "limuse", "dpslm/unit_lm", "dpslm/acoustic")
PATHS = ("wavlm_path", "kmeans_path", "hifi_gan_path")
NETWORK = {key: value for key, value in SIZES.items() if key not in PATHS}
SHORT = {"epoch": 1, "batch_size": 2, "batch_size_eval": 2, "num_workers": 0, "precision": "fp32", "gpus": "cpu"}
PIECES = {"epoch_num": 4, "mix_length": 8080, "regi_length": 8080}
CODEBOOKS = {"num_clusters": 20}
VOCODER = {"embedding_dim": 16, "attn_dim": 8, "upsample_initial_channel": 32, "discriminator_width": 0.05}
VOCODER |= {"discriminator_periods": "[2, 3]", "discriminator_scales": 1}
SEGMENTS = {"frames": 8, "valid_frames": 60}
PUBLIC = {"wavlm_path": "public/wavlm-large", "kmeans_path": "public/kmeans"}
PUBLIC |= {"tr_data_scp_path": "public/train_100_360.json"}
PUBLIC |= {f"cv_{key}_path": f"public/libri2mix_dev/{name}.scp" for key, name in
           (("mix", "mix_clean"), ("ref", "aux_s1"), ("clean", "s1"))}  # fmt: skip
VOICES = {
    "num_units": 25, "embedding_dim": 8, "speaker_rows": 4, "f0_codes": 8, "f0_dim": 8, "f0_width": 8, "f0_depth": 1,
    "upsample_factors": [5, 4, 4, 4], "upsample_kernel_sizes": [11, 8, 8, 8], "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]], "ssl_layer": 2,
}  # fmt: skip
UNITS = {key: value for key, value in unit_settings().items() if not key.endswith("_path")}
UNIT_LM = {**lm_settings(max_units=5), **UNITS, "max_codec_tokens_per_phone": 2}
TEST_TARGETS = "public/libri2mix_test/s1.scp"
CODEC = {"codec_config": "public/speechtokenizer/config.json"}
# (program, recipe) -> keys that bring the command to toy size; what it says itself of them stays
TOY_SIZE = {
    ("inference.py", "config/tselm_l.yaml"): NETWORK,
    ("evaluate.py", "config/tselm_l.yaml"): NETWORK,
    ("inference.py", "config/unit_hifigan.yaml"): {**CODEBOOKS, **VOCODER},
    ("inference.py", "config/toy/tselm.yaml"): {},
    ("train.py", "config/tselm_l.yaml"): {**PUBLIC, **NETWORK, **SHORT, **PIECES},
    ("train.py", "config/toy/tselm.yaml"): {**SHORT, **PIECES},
    ("train.py", "config/kmeans.yaml"): {
        **CODEBOOKS, **SHORT, "crop_length": 8080, "reservoir_frames": 100, "reservoir_batches": 3, "patience": 2,
    },
    ("train.py", "config/unit_hifigan.yaml"): {**CODEBOOKS, **SHORT, **VOCODER, **SEGMENTS},
    ("inference.py", "config/speechtokenizer.yaml"): {},
    ("evaluate.py", "config/speechtokenizer.yaml"): {},
    ("models/speechtokenizer/teacher_features", "config/speechtokenizer.yaml"): CODEC,
    ("models/limuse/voiceprints", "config/limuse.yaml"): {"voiceprint_dim": 48},
    ("inference.py", "config/resynthesis/vocoder.yaml"): VOICES,
    ("evaluate.py", "config/resynthesis/vocoder.yaml"): VOICES,
    ("inference.py", "config/toy/resynthesis.yaml"): {},
    ("train.py", "config/resynthesis/f0_vqvae.yaml"): {
        **SHORT, **{key: value for key, value in VOICES.items() if key.startswith("f0_")},
    },
    ("train.py", "config/resynthesis/vocoder.yaml"): {
        **VOICES, **SHORT, "discriminator_width": 0.03, "discriminator_periods": [2], "discriminator_scales": 1,
    },
    ("inference.py", "config/dpslm/units.yaml"): UNITS,
    ("inference.py", "config/dpslm/codec.yaml"): {},
    ("inference.py", "config/dpslm/unit_lm.yaml"): UNIT_LM,
    ("evaluate.py", "config/dpslm/unit_lm.yaml"): UNIT_LM,
    ("inference.py", "config/dpslm/resynthesis.yaml"): {**acoustic_settings(), **UNITS},
    ("train.py", "config/dpslm/unit_lm.yaml"): {**lm_settings(), **SHORT, "epoch_num": 2, "accumulate": 1},
    ("train.py", "config/dpslm/acoustic.yaml"): {**acoustic_settings(), **SHORT, "epoch_num": 2, "accumulate": 1},
    ("train.py", "config/speechtokenizer.yaml"): {
        **CODEC, **SHORT, "accumulate": 1, "segment_length": 6400, "discriminator_width": 0.03125,
        "discriminator_periods": [2], "discriminator_scales": 0, "stft_sizes": [256], "stft_filters": 4,
    },
}  # fmt: skip


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def commands(page: str) -> list[str]:
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line.strip()]


def not_run(command: str) -> str | None:
    return next((reason for start, reason in NOT_RUN.items() if command.startswith(start)), None)


def is_ours(command: str) -> bool:
    return not command.startswith(("make", "pip", *FETCHING))


def program(command: str) -> tuple[str, list[str]]:
    """The program's file, and its arguments."""
    words = shlex.split(command.replace("SECONDS", "1"))
    start = next(i for i, word in enumerate(words) if word == "-m" or word.endswith(".py"))
    if words[start] == "-m":
        name = words[start + 1].replace(".", "/")
        return f"{name}/__main__" if (ROOT / name).is_dir() else name, words[start + 2 :]
    return words[start], words[start + 1 :]


@pytest.fixture
def workspace(tmp_path) -> Path:
    """A folder like the project's own after all downloads, but for their sizes."""
    for name in ("config", "pretrained"):
        (tmp_path / name).symlink_to(ROOT / name)
    public = tmp_path / "public"
    public.mkdir()
    links = {"wavlm-large": "wavlm", "kmeans": "kmeans", "hifi_gan": "hifigan", "tselm_l.pth": "tselm.pth"}
    links |= {"speechtokenizer": "speechtokenizer/elu", "hubert-base-ls960": "speechtokenizer/teacher"}
    links |= {"dpslm": "dpslm", "wavlm-base-plus-sv": "limuse/xvector"}
    for name, of in links.items():
        (public / name).symlink_to(REFERENCE / of)
    for name in ("libri2mix_dev", "libri2mix_test"):
        for role in ("mix_clean", "s1", "aux_s1"):
            (public / name / role).mkdir(parents=True)
            for utterance in UTTERANCES[:2]:
                shutil.copy(REFERENCE / f"test/{role}/{utterance}.wav", public / name / role)
        assert call("data/prepare/libri2mix", public / name).returncode == 0
    write_corpus(tmp_path / "corpus", seconds=1.3)
    index: dict[str, list[str]] = {}
    for path in sorted((tmp_path / "corpus/train").glob("*.wav")):  # as LibriSpeech has them
        speaker, number = path.stem.split("-")
        named = f"train-clean-{(100, 360)[int(speaker) % 2]}/{speaker}/1/{speaker}-1-000{number}.wav"
        (public / named).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, public / named)
        index.setdefault(speaker, []).append(named)
    (public / "train_100_360.json").write_text(json.dumps(index))
    dev = sorted(map(str, (tmp_path / "corpus/dev").glob("s1*.wav")))
    (public / "dev.json").write_text(json.dumps({"one": dev[:2], "two": dev[1:]}))
    (tmp_path / "dev.scp").write_text("".join(f"{Path(path).stem} {path}\n" for path in dev))
    train = sorted((tmp_path / "corpus/train").glob("*.wav"))
    (tmp_path / "libritts.scp").write_text("".join(f"{path.stem} {path}\n" for path in train))
    for role, names in (("mix_clean", ("MIX", "talk")), ("aux_s1", ("ENROLMENT", "anna"))):
        for name in names:
            shutil.copy(REFERENCE / f"test/{role}/utt0.wav", tmp_path / f"{name}.wav")
    return tmp_path


def at_toy_size(name: str, arguments: list[str]) -> list[str]:
    """The arguments on one CPU process, and with the keys of TOY_SIZE for its recipe, unless they name files."""
    out, skipping = [], False
    for word in arguments:
        skipping = word == "-gpus" or (skipping and not word.startswith("-"))
        out += [] if skipping else [word]
    if "-proc" in out:
        at = out.index("-proc")
        del out[at : at + 2]
    over_lists = ("inference.py", "evaluate.py", "models/speechtokenizer/teacher_features", "models/limuse/voiceprints")
    if name in over_lists and "--compare" not in out:
        out += ["-gpus", "cpu", "-proc", "1"]
    if name == "evaluate.py" and not {"--compare", "--pairs", "--metrics"} & set(out):
        out += ["--metrics", "stoi", "talker", *(["predicted_tokens"] if "-config" in out else [])]
    if name == "data/prepare/synthetic":
        out[out.index("--hours") + 1] = "0.01"
        out += ["--dev", "4", "--test", "2", "--jobs", "1"]  # four mixtures: of other talkers than those of one of them
    if name == "data/prepare/two_microphones":
        out[out.index("--mixtures") + 1] = "2"
    for recipe in (word for word in arguments if word.startswith("config/")):
        own = {arguments[i + 1].split("=")[0] for i, word in enumerate(arguments) if word == "--override"}
        for key, value in TOY_SIZE[name, recipe].items():
            if key not in own or key in SHORT:
                out += ["--override", f"{key}={json.dumps(value) if isinstance(value, list) else value}"]
    return out


def extracted(folder: Path) -> None:
    """What the pages that begin with an evaluation take as there."""
    (command,) = [c for c in commands("docs/use.md") if "--output out -gpus" in c]
    name, arguments = program(command)
    assert call(name, *at_toy_size(name, arguments), cwd=folder).returncode == 0


def vctk(folder: Path) -> None:
    """Recordings in VCTK's tree, of as many talkers as its commands need."""
    tree = folder / "public/vctk/wav48_silence_trimmed"
    shutil.copy(VOICE_REFERENCE / "km.bin", folder / "public/km.bin")
    (folder / "public/hubert-base-ls960").unlink()
    (folder / "public/hubert-base-ls960").symlink_to(VOICE_REFERENCE / "hubert")
    speech = np.tile(sf.read(VOICE_REFERENCE / "wav/p3_001.wav")[0], 3)
    for talker, faster in (("p225", 1), ("p226", 2)):
        (tree / talker).mkdir(parents=True)
        for number in range(12):
            sf.write(tree / talker / f"{talker}_{number:03d}_mic2.flac", speech[number * 100 :: faster], 16000)


def known_talkers(folder: Path) -> None:
    """Who speaks in the test list, which the names of the real one tell."""
    lines = (f"{name} {'ab'[number % 2]}\n" for number, name in enumerate(read_scp(folder / TEST_TARGETS)))
    (folder / TEST_TARGETS).with_name("utt2spk").write_text("".join(lines))


def two_systems(folder: Path) -> None:
    for name in ("out_a", "out_b"):
        shutil.copytree(folder / "out", folder / name)


def trained(folder: Path) -> None:
    """The parts that the page on training makes, and a list of tokens."""
    for command in [c for c in commands("docs/training.md") if "exp/kmeans/" in c or "unit_hifigan" in c]:
        name, arguments = program(command)
        done = call(name, *at_toy_size(name, arguments), cwd=folder)
        assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in (folder / "dev.scp").read_text().splitlines()]
    (folder / "again.scp").write_text("".join(f"{name} exp/again/tokens/{name}.npy\n" for name in names))


def tokenized(folder: Path) -> None:
    """A list of the tokens that the page has made."""
    made = sorted((folder / "exp/codec/tokens").glob("*.npy"))
    (folder / "again.scp").write_text("".join(f"{path.stem} {path}\n" for path in made))


def lexical(folder: Path) -> None:
    """A pair of recordings as ZeroSpeech 2021 has them."""
    there = folder / "public/lexical/dev"
    there.mkdir(parents=True)
    for name, path in zip("ab", sorted((folder / "corpus/dev").glob("s1*.wav")), strict=False):
        shutil.copy(path, there / f"{name}.wav")
    (there / "gold.csv").write_text("id,filename,voice,frequency,word,correct\n1,a,v,7,cat,1\n1,b,v,7,dat,0\n")


# page -> what must have been done before one of its commands
BEFORE: dict[str, list[tuple[str, Callable[[Path], None]]]] = {
    "docs/use.md": [("python inference.py --resynthesise dev.scp", trained)],
    "docs/speechtokenizer.md": [("python inference.py --decode again.scp", tokenized)],
    "docs/dpslm.md": [("python evaluate.py --pairs", lexical)],
    "docs/resynthesis.md": [("python -m data.prepare.resample", vctk)],
    "docs/evaluation.md": [
        ("python evaluate.py -scp public/libri2mix_test --output out", extracted),
        ("python evaluate.py -scp public/libri2mix_test --output out --cluster", known_talkers),
        ("python evaluate.py --compare out_a out_b", two_systems),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(not not_run(c) for c in commands(page))])
def test_every_command_runs_at_toy_size(workspace, page: str) -> None:
    before = list(BEFORE.get(page, ()))
    for command in (command for command in commands(page) if not not_run(command)):
        for start, prepare in list(before):
            if command.startswith(start):
                prepare(workspace)
                before.remove((start, prepare))
        name, arguments = program(command)
        done = call(name, *at_toy_size(name, arguments), cwd=workspace)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert not before


class Parsed(Exception):
    """The arguments were right."""


@pytest.mark.parametrize(
    "command",
    sorted(
        {c for page in PAGES for c in commands(page) if not_run(c) and not c.startswith(("make", "pip", *FETCHING))}
    ),
)
def test_a_command_that_is_not_run_is_parsed(monkeypatch, command: str) -> None:
    real = argparse.ArgumentParser.parse_args

    def parse(*arguments: object, **more: object) -> None:
        real(*arguments, **more)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    name, arguments = program(command)
    with pytest.raises(Parsed):
        done = call(name, *arguments)
        pytest.fail(done.stderr)
    for recipe in (word for word in arguments if word.startswith("config/")):
        Recipe(ROOT / recipe, overrides=[arguments[i + 1] for i, w in enumerate(arguments) if w == "--override"])


def test_every_reason_is_of_a_command() -> None:
    everything = [command for page in PAGES for command in commands(page)]
    for start in NOT_RUN:
        assert any(command.startswith(start) for command in everything), start
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for command in everything:
        words = command.split()
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "pip":
            assert all((ROOT / word).is_file() for word in words if word.endswith(".txt"))


def run_python(page: str, checkpoint: Path, overrides: list[str], **names: object) -> dict[str, object]:
    """What the page's piece of Python has in the end, with other weights, on the CPU."""
    (code,) = blocks(page, "python")
    code, found = re.subn(r"overrides=\[.*?\]", "overrides=overrides", code, flags=re.DOTALL)
    code, weights = re.subn(r'"public/[^"]+"', f'"{checkpoint}"', code)
    assert found == weights == 1
    names["overrides"] = overrides
    exec(code.replace("config/", f"{ROOT}/config/").replace('device="cuda"', 'device="cpu"'), names)
    return names


@pytest.mark.slow
def test_the_python_runs() -> None:
    assert {page for page in PAGES if blocks(page, "python")} == {
        "docs/use.md", "docs/speechtokenizer.md", "docs/resynthesis.md", "docs/dpslm.md",
    }  # fmt: skip
    speech = {"mixture": read("mix_clean", "utt0")[0], "enrolment": read("aux_s1", "utt0")[0]}
    names = run_python("docs/use.md", REFERENCE / "tselm.pth", settings(), **speech)
    assert names["speech"].shape == names["mixture"].shape and names["speech"].dtype == torch.float32
    codec = REFERENCE / "speechtokenizer/elu"
    names = run_python(
        "docs/speechtokenizer.md",
        codec / "SpeechTokenizer.pt",
        [f"codec_config={codec}/config.json"],
        wav=speech["mixture"][None, :6400],
    )
    shapes = {name: tuple(names[name].shape) for name in ("tokens", "speech", "vectors", "content")}
    assert shapes == {"tokens": (1, 20, 8), "speech": (1, 6400), "vectors": (1, 20, 16), "content": (1, 20, 12)}
    voices = overrides("quantised", **encoder())
    names = run_python("docs/resynthesis.md", VOICE_REFERENCE / "quantised", voices, wav=torch.from_numpy(wav()))
    frames = -(-len(wav()) // 80)
    assert names["f0"].shape == (frames,) and names["codes"].shape == (frames // 16,)
    assert names["units"].shape == (1, -(-len(wav()) // 320), 1) and names["speech"].shape == (len(wav()),)
    lm = as_overrides(lm_settings(max_units=5))
    names = run_python("docs/dpslm.md", UNIT_REFERENCE / "unit_lm.pt", lm, units=collapsed("utt0"))
    assert names["score"] < 0 and len(names["more"]) <= 5


@pytest.mark.parametrize("page", PAGES)
def test_the_keys_files_and_links_in_the_text_exist(page: str) -> None:
    text = PAGES[page]
    recipe = "".join((ROOT / f"config/{name}.yaml").read_text() for name in RECIPES)
    keys = re.findall(r"`([a-z_]+)=", text) + re.findall(r"`([a-z_]+: )", text)
    for key in set(keys) - {"weights_only"}:
        assert f"\n{key.rstrip(': ')}:" in recipe, key
    for path, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", text):
        if not path.startswith("https://"):
            there = ROOT / Path(page).parent / path if path else ROOT / page
            assert there.exists(), path
            headings = re.findall(r"^#+ (.+)$", there.read_text(), flags=re.MULTILINE) if anchor else []
            assert not anchor or anchor in [re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings]
    for path in re.findall(r"`((?:config|data|docs|models|pretrained|utils|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"`python -m ([\w.]+)|`((?:data|benchmarks)\.[\w.]+)`", text):
        place = ROOT / "".join(module).replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_the_readme_leads() -> None:
    """It shows, and sends elsewhere for the rest: 1,300 words before the licence, and every page is reached from it."""
    text = PAGES["README.md"]
    assert len(text.split("## Licence")[0].split()) <= 1300
    reached, todo = set(), ["README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#]+\.md)", PAGES[page])
        found = {str((ROOT / Path(page).parent / link).resolve().relative_to(ROOT)) for link in links}
        todo += sorted((found & PAGES.keys()) - reached)
    assert reached == PAGES.keys()
