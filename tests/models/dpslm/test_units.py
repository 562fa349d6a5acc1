"""Units of speech against the published code, and what is to hold for any files."""

from __future__ import annotations

import json

import pytest
import soundfile as sf
import torch
from safetensors.torch import save_file

from data.arrays import read_tokens
from models.dpslm.units import DurationPenalisedUnits, load_units
from models.interfaces import Recording, Tokenizer, fulfils
from tests.dpslm import DIMS, REFERENCE, UNITS, UTTERANCES, expected, speech, unit_settings
from tests.toy import call


@pytest.fixture(scope="module")
def units() -> DurationPenalisedUnits:
    return make()


def make(case: str = "main", **more: object) -> DurationPenalisedUnits:
    return DurationPenalisedUnits(**unit_settings(case, **more))


def noise(samples: int, *, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def test_it_is_a_tokenizer(units) -> None:
    assert fulfils(units, Tokenizer)
    assert (units.sample_rate, units.hop_length, units.num_codebooks, units.vocab_size) == (16000, 320, 1, 40)
    assert units.codebook_names == ("layer_4",)


def test_published_features_come_out(units) -> None:
    for name in UTTERANCES:
        wanted = expected()[f"features/{name}"]
        found = units.features(speech(name)[None])
        assert found.dtype == torch.float32 and found.shape == (1, *wanted.shape)
        assert (found[0] - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("case", [case["name"] for case in DIMS["cases"]])
def test_published_units_come_out(case: str) -> None:
    tokenizer = make(case)
    for name in UTTERANCES:
        found = tokenizer.encode(speech(name)[None])
        assert found.dtype == torch.int64 and torch.equal(found[0], expected()[f"units/{case}/{name}"].long())


def test_a_padded_row_has_the_units_that_it_has_alone(units) -> None:
    wavs = [speech(name) for name in UTTERANCES]
    lengths = torch.tensor(list(map(len, wavs)))
    batch = torch.full((len(wavs), int(lengths.max())), 0.3)  # what lies beyond a row's length must not matter
    for row, wav in zip(batch, wavs, strict=True):
        row[: len(wav)] = wav
    found, features = units.encode(batch, lengths), units.features(batch, lengths)
    for name, row, x in zip(UTTERANCES, found, features, strict=True):
        wanted = expected()[f"units/main/{name}"]
        assert torch.equal(row[: len(wanted)], wanted.long()) and not row[len(wanted) :].any()
        assert not x[len(wanted) :].any()


@pytest.mark.parametrize("samples", [320, 399, 639, 640, 641, 16001])
def test_every_320_samples_have_a_unit(units, samples: int) -> None:
    wav = noise(samples)
    assert units.encode(wav[None]).shape == (1, samples // 320, 1)
    assert units.encode_files([Recording.of(wav)])[0].shape == (samples // 320, 1)


def test_less_than_320_samples_are_an_error(units) -> None:
    with pytest.raises(ValueError, match="a unit needs 320 samples .* there are 319"):
        units.encode(torch.zeros(1, 319))
    with pytest.raises(ValueError, match="there are 100"):
        units.features(torch.zeros(2, 640), torch.tensor([640, 100]))
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        units.encode(torch.zeros(640))
    with pytest.raises(ValueError, match="lengths must be"):
        units.encode(torch.zeros(1, 640), torch.tensor([641]))


@pytest.mark.parametrize("normalize", [False, True])
def test_units_in_memory_are_those_of_the_file(normalize: bool) -> None:
    """Long signals were heard whole in memory and in windows from files; and a level was a window's own."""
    tokenizer = make(lmbda=60.0, window_seconds=6.0, normalize_wav=normalize)
    wav = noise(20 * 16000 + 77) * torch.linspace(0.01, 1, 20 * 16000 + 77)
    assert torch.equal(tokenizer.encode(wav[None])[0], tokenizer.encode_files([Recording.of(wav)])[0])


def test_a_long_file_is_heard_in_windows_with_two_seconds_around() -> None:
    tokenizer = make(window_seconds=6.0)
    wav, heard = noise(20 * 16000), []

    def read(start: int, length: int) -> torch.Tensor:
        heard.append((start, start + length))
        return wav[start : start + length]

    assert tokenizer.encode_files([Recording(read, len(wav))])[0].shape == (1000, 1)
    assert max(end - start for start, end in heard) <= 6 * 16000 + 80
    ends = [(start + 80 if start else 0, end) for start, end in heard]
    overlaps = [before[1] - after[0] for before, after in zip(ends, ends[1:], strict=False)]
    assert len(heard) > 5 and min(overlaps) >= 4 * 16000 - 160


def test_what_is_far_from_a_window_changes_nothing_in_it() -> None:
    tokenizer = make(window_seconds=6.0)
    wav, other = noise(20 * 16000), noise(20 * 16000)
    other[15 * 16000 :] = 0
    one, two = (tokenizer.features(x[None])[0] for x in (wav, other))
    assert torch.equal(one[:500], two[:500]) and not torch.equal(one[800:], two[800:])


def test_a_level_is_taken_off_where_that_is_asked_for() -> None:
    normalised, plain = make("plain", normalize_wav=True), make("plain")
    wav = 3 * noise(32000)
    assert torch.equal(normalised.encode(wav[None]), normalised.encode(2 * wav[None] + 0.5))
    level = torch.nn.functional.layer_norm(wav[None], wav.shape)
    assert (plain.features(level) - normalised.features(wav[None])).abs().max() < 1e-4
    assert not torch.equal(normalised.encode(wav[None]), plain.encode(wav[None]))


def test_silence_has_units(units) -> None:
    assert units.encode(torch.zeros(1, 16000)).shape == (1, 50, 1)


def test_they_stay_the_same_in_train_mode_and_under_autocast(units) -> None:
    owner = torch.nn.Sequential(units).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = owner[0].encode(speech("utt0")[None])[0]
    assert torch.equal(found, expected()["units/main/utt0"].long())


def test_only_the_layers_below_are_there_and_the_last_has_no_norm(units) -> None:
    assert len(units.encoder.wavlm.model.encoder.layers) == 4
    last = make(wavlm_layer=5).encoder.wavlm
    assert not last._has_final_norm


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_hugging_face_folder_is_the_same_units_and_digest(units) -> None:
    """Its preprocessor asks for unit variance, which is not heeded."""
    folder = make(wavlm_path=REFERENCE / "wavlm")
    assert torch.equal(folder.encode(speech("utt0")[None])[0], expected()["units/main/utt0"].long())
    assert folder.digest() == units.digest()


def test_a_folder_of_our_kmeans_is_a_codebook(tmp_path, units) -> None:
    rows = torch.load(REFERENCE / "codebook.pt", weights_only=True)["codebook"]
    save_file({"layer_4": rows, "layer_2": rows[:3] + 1}, tmp_path / "kmeans.safetensors")
    assert make(codebook_path=tmp_path).digest() == units.digest()
    with pytest.raises(ValueError, match=r"no centres of layer 3; it has layer_2, layer_4"):
        make(codebook_path=tmp_path, wavlm_layer=3)
    with pytest.raises(FileNotFoundError, match="no kmeans.safetensors"):
        make(codebook_path=tmp_path.parent)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("codebook-layer-3-k-40-ab.pt", None, "wavlm_layer 3, the recipe has 4"),
        ("codebook-layer-4-k-100-ab.pt", None, "num_clusters 100, the recipe has 40"),
        ("a.pt", {"codebook": torch.zeros(39, 32)}, "39 clusters, num_clusters is 40"),
        ("b.pt", {"codebook": torch.zeros(40, 31)}, "31 dimensions"),
        ("c.pt", {"codebook": torch.full((40, 32), torch.nan)}, "not finite"),
        ("d.pt", {"codebook": torch.zeros(40)}, r"no codebook \[K, D\]"),
        ("e.pt", {"codebook": torch.zeros(40, 32, dtype=torch.int64)}, r"no codebook \[K, D\]"),
        ("f.pt", {"centres": torch.zeros(40, 32)}, r"no codebook \[K, D\]"),
    ],
)
def test_a_codebook_that_does_not_fit_is_refused(tmp_path, name: str, content: dict | None, said: str) -> None:
    content = content or torch.load(REFERENCE / "codebook.pt", weights_only=True)
    torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=said) as error:
        make(codebook_path=tmp_path / name)
    assert name in str(error.value)


def test_the_digest_tells_what_units_follow_from(tmp_path, units) -> None:
    rows = torch.load(REFERENCE / "codebook.pt", weights_only=True)["codebook"].clone()
    rows[0, 0] += 1e-3
    torch.save({"codebook": rows}, tmp_path / "other.pt")
    others = [{"lmbda": 900.0}, {"num_neighbors": 6}, {"normalize_wav": True}, {"wavlm_layer": 3},
              {"window_seconds": 20.0}, {"codebook_path": tmp_path / "other.pt"}]  # fmt: skip
    found = [make(**other).digest() for other in others]
    assert len({units.digest(), *found}) == 1 + len(others)
    assert make(num_neighbors=0.125).digest() == units.digest()  # five of 40, said otherwise


@pytest.mark.parametrize(
    ("change", "said"),
    [({"lmbda": -1.0}, "lmbda"), ({"num_neighbors": 0}, "num_neighbors"), ({"window_seconds": 4.0}, "window_seconds"),
     ({"wavlm_layer": 6}, "has 5 layers, layer 6 was asked for")],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**change)


def test_no_paths_make_no_tokenizer_and_one_alone_is_an_error() -> None:
    assert load_units(**unit_settings(wavlm_path=None, codebook_path=None)) is None
    with pytest.raises(ValueError, match="codebook_path must be set too"):
        load_units(**unit_settings(codebook_path=None))
    assert load_units(**unit_settings()).vocab_size == 40


def test_a_list_becomes_units_with_their_record(tmp_path) -> None:
    """And a file that is too short fails alone."""
    lines = (REFERENCE / "wavs.scp").read_text().replace(" wavs", f" {REFERENCE}/wavs")
    sf.write(tmp_path / "short.wav", noise(319).numpy(), 16000)
    (tmp_path / "list.scp").write_text(lines + f"short {tmp_path}/short.wav\n")
    keys = [part for k, v in unit_settings().items() for part in ("--override", f"{k}={v}")]
    done = call("inference.py", "--tokenize", tmp_path / "list.scp", "-config", UNITS, "--output", tmp_path / "out",
                "-gpus", "cpu", "-proc", 1, *keys)  # fmt: skip
    assert done.returncode == 1 and "short.wav" in done.stderr + done.stdout and "319" in done.stderr + done.stdout
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.npy")) == list(UTTERANCES)
    for name in UTTERANCES:
        assert torch.equal(torch.from_numpy(read_tokens(tmp_path / f"out/{name}.npy")).long(),
                           expected()[f"units/main/{name}"].long())  # fmt: skip
    record = json.loads((tmp_path / "out/tokens.json").read_text())
    facts = {"sample_rate": 16000, "hop_length": 320, "codebooks": ["layer_4"], "vocab_size": 40, "wavlm_layer": 4,
             "num_clusters": 40, "lmbda": 903.387, "num_neighbors": 5, "normalize_wav": False}  # fmt: skip
    assert {key: record[key] for key in facts} == facts and record["tokenizer"] == make().digest()
