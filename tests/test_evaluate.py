"""evaluate.py from the command line, on folders of known content."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.toy import REFERENCE, ROOT, UTTERANCES, call, flags, read

for package in ("torchmetrics", "pesq", "pystoi", "speechmos", "onnxruntime", "librosa"):
    pytest.importorskip(package, reason="requirements-eval.txt is not installed")
QUICK = ("stoi", "si_sdr", "si_sdri", "talker")
CONFIG = ("-config", "config/tselm_l.yaml")
LISTS = {"mix_clean": "mix_clean.scp", "s1": "s1.scp", "aux_s1": "aux_s1.scp"}


def write(path: Path, wav: np.ndarray, *, rate: int = 16000, subtype: str = "FLOAT") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, wav, rate, subtype=subtype)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    shutil.copytree(REFERENCE / "test", tmp_path / "lists")
    return tmp_path / "lists"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """One output a kind: identical to the target, scaled, delayed by 10 ms, noisy."""
    noise = np.random.default_rng(0)
    for utterance, change in zip(
        UTTERANCES,
        (
            lambda wav: wav,
            lambda wav: 0.5 * wav,
            lambda wav: np.pad(wav, (160, 0))[: len(wav)],
            lambda wav: wav + 0.02 * noise.standard_normal(len(wav)).astype(np.float32),
        ),
        strict=True,
    ):
        write(tmp_path / f"out/{utterance}.wav", change(read("s1", utterance)[0].numpy()))
    return tmp_path / "out"


def evaluate(lists: Path, outputs: Path, *more: object, metrics: tuple[str, ...] = QUICK, processes: int = 1):
    asked = ("--metrics", *metrics) if metrics else ()
    return call("evaluate.py", "-scp", lists, "--output", outputs, "-gpus", "cpu", "-proc", processes, *asked, *more)


def summary(outputs: Path) -> dict:
    return json.loads((outputs / "summary.json").read_text())


def rows(outputs: Path) -> dict[str, dict]:
    return {row["name"]: row for row in map(json.loads, (outputs / "metrics.jsonl").read_text().splitlines())}


def made(outputs: Path) -> dict[str, bytes]:
    """All that an evaluation is to give again, whatever happened in between."""
    names = ("metrics.jsonl", "summary.json", "summary.md", "report.html")
    return {name: (outputs / name).read_bytes() for name in names}


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rows_and_means_are_those_of_the_libraries(lists: Path, outputs: Path) -> None:
    import torch
    from pystoi import stoi
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as si_sdr

    done = evaluate(lists, outputs)
    assert done.returncode == 0, done.stderr
    direct = {"stoi": [], "si_sdr": [], "si_sdri": []}
    for utterance in UTTERANCES:
        output = sf.read(outputs / f"{utterance}.wav")[0]
        target, mixture = (sf.read(lists / kind / f"{utterance}.wav")[0] for kind in ("s1", "mix_clean"))
        ratio, before = (
            si_sdr(torch.from_numpy(wav), torch.from_numpy(target), zero_mean=True).item() for wav in (output, mixture)
        )
        scores = rows(outputs)[f"{utterance}.wav"]["extracted"]
        assert scores["stoi"] == pytest.approx(stoi(target, output, 16000), abs=1e-6)
        assert scores["si_sdr"] == pytest.approx(ratio, abs=1e-6)
        assert scores["si_sdri"] == pytest.approx(ratio - before, abs=1e-6)
        for key in direct:
            direct[key].append(scores[key])
    found = summary(outputs)
    assert found["files"] == found["scored"] == 4 and found["problems"] == []
    for key, values in direct.items():
        mean = found["metrics"][key]["systems"]["extracted"]
        assert mean["mean"] == pytest.approx(np.mean(values), abs=1e-9) and mean["count"] == 4
        assert mean["low"] < mean["mean"] < mean["high"]
    assert found["metrics"]["correct_talker_mel"]["systems"]["extracted"]["mean"] == 100
    assert found["systems"] == ["extracted"]


@pytest.mark.slow
def test_the_order_of_the_lists_and_the_number_of_processes_change_nothing(lists: Path, outputs: Path) -> None:
    assert evaluate(lists, outputs, processes=1).returncode == 0
    first = made(outputs)
    for name in first:
        (outputs / name).unlink()
    for number, file in enumerate(LISTS.values()):
        lines = (lists / file).read_text().splitlines(keepends=True)
        (lists / file).write_text("".join(np.random.default_rng(number).permutation(lines)))
    assert evaluate(lists, outputs, processes=2).returncode == 0
    assert made(outputs) == first


@pytest.mark.slow
def test_the_floor_is_the_mixture_itself(lists: Path, outputs: Path) -> None:
    done = evaluate(lists, outputs, "--floor-and-ceiling")
    assert done.returncode == 0, done.stderr
    for utterance in UTTERANCES:
        shutil.copy(lists / f"mix_clean/{utterance}.wav", outputs / f"{utterance}.wav")
    assert "-config" in summary(outputs)["unavailable"]["ceiling"]
    floor = {key: entry["systems"]["mixture"]["mean"] for key, entry in summary(outputs)["metrics"].items()}
    assert evaluate(lists, outputs).returncode == 0
    again = {key: entry["systems"]["extracted"]["mean"] for key, entry in summary(outputs)["metrics"].items()}
    assert again == floor and floor["si_sdri"] == 0


def test_an_interferer_list_is_used_where_there_is_one(lists: Path, outputs: Path) -> None:
    """Without it the interferer is the mixture less the target; here it is told to be the target's own signal."""
    (lists / "s2.scp").write_text((lists / "s1.scp").read_text())
    assert evaluate(lists, outputs, metrics=("talker",)).returncode == 0
    assert summary(outputs)["metrics"]["correct_talker_mel"]["systems"]["extracted"]["mean"] == 0


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extracted(tmp_path_factory) -> Path:
    """The reference system's own output, with the tokens that it predicted."""
    folder = tmp_path_factory.mktemp("extracted")
    where = (*CONFIG, "-ckpt", REFERENCE / "tselm.pth", "--output", folder, "-gpus", "cpu", "-proc", 1)
    done = call("inference.py", "-scp", REFERENCE / "test", *where, "--save-tokens", *flags())
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("chunking", ("aligned", "published"))
def test_token_errors_with_floor_and_ceiling(request, tmp_path, extracted: Path, chunking: str) -> None:
    import torch

    from data import audio
    from models import load_extractor
    from tests.toy import RECIPE, settings

    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)  # as the programs do: another number moves a token that lies between two centres
    shutil.copytree(extracted, tmp_path / "out")
    if chunking == "published":  # its tokens were predicted for other frames
        shutil.rmtree(tmp_path / "out/tokens")
    keys = flags(chunking=chunking)
    if chunking == "published":  # which gives 80 samples less a piece
        keys += ["--length-tolerance", "0.02"]
    done = evaluate(REFERENCE / "test", tmp_path / "out", *CONFIG, *keys, metrics=("tokens", "predicted_tokens"))
    assert done.returncode == (0 if chunking == "aligned" else 1), done.stderr
    model = load_extractor(RECIPE, REFERENCE / "tselm.pth", overrides=settings(chunking=chunking))
    wrong: dict[str, list] = {"extracted": [], "mixture": [], "ceiling": [], "predicted": []}
    for utterance in UTTERANCES:
        target = model.encode(read("s1", utterance)[0])
        audio.write(tmp_path / "ceiling.wav", model.resynthesise(read("s1", utterance)[0]).wav.numpy())
        signals = {
            "extracted": sf.read(extracted / f"{utterance}.wav", dtype="float32")[0],
            "mixture": read("mix_clean", utterance)[0].numpy(),
            "ceiling": audio.read(tmp_path / "ceiling.wav"),
        }
        for system, wav in signals.items():
            wrong[system].append((model.encode(wav) != target).double().numpy())
        if chunking == "aligned":
            made = model.extract_with_tokens(read("mix_clean", utterance)[0], read("aux_s1", utterance)[0])
            wrong["predicted"].append((made.tokens != target).double().numpy())
    found = summary(tmp_path / "out")
    names = [f"token_error_layer_{layer}" for layer in model.tokenizer.encoder.layers]
    for system in ("extracted", "mixture", "ceiling"):
        together = np.concatenate(wrong[system])
        means = {key: entry["systems"][system]["mean"] for key, entry in found["metrics"].items() if "pred" not in key}
        assert means["token_error"] == pytest.approx(100 * together.mean(), abs=1e-6)
        for k, name in enumerate(names):
            assert means[name] == pytest.approx(100 * together[:, k].mean(), abs=1e-6)
    if chunking == "aligned":
        predicted = found["metrics"]["predicted_token_error"]["systems"]
        assert predicted["extracted"]["mean"] == pytest.approx(
            100 * np.concatenate(wrong["predicted"]).mean(), abs=1e-6
        )
        assert list(predicted) == ["extracted"]
    else:
        assert "--save-tokens" in found["unavailable"]["predicted_tokens"]
    usage = found["codebooks"]
    assert list(usage) == list(model.tokenizer.codebook_names)
    counts = np.bincount(np.concatenate([model.encode(read("s1", u)[0]).numpy() for u in UTTERANCES])[:, 0])
    share = counts[counts > 0] / counts.sum()
    first = usage[model.tokenizer.codebook_names[0]]["target"]
    assert first["used"] == pytest.approx((counts > 0).sum() / model.tokenizer.vocab_size)
    assert first["perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))


@pytest.mark.slow
def test_without_mixtures_there_are_tokens_all_the_same(tmp_path, lists: Path, extracted: Path) -> None:
    """The usage of the codebooks once looked for the mixture's tokens whether there was a list of mixtures or not."""
    shutil.copytree(extracted, tmp_path / "out")
    (lists / "mix_clean.scp").unlink()
    done = evaluate(lists, tmp_path / "out", *CONFIG, *flags(), metrics=("tokens",))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    found = summary(tmp_path / "out")
    assert list(found["metrics"]["token_error"]["systems"]) == ["extracted", "ceiling"]
    assert "mixture" not in found["codebooks"]["layer_1"] and "target" in found["codebooks"]["layer_1"]


@pytest.mark.slow
def test_a_report_with_the_extraction(tmp_path) -> None:
    where = (*CONFIG, "-ckpt", REFERENCE / "tselm.pth", "--output", tmp_path, "-gpus", "cpu", "-proc", 1)
    done = call("inference.py", "-scp", REFERENCE / "test", *where, "--report", *flags())
    found = summary(tmp_path)
    assert found["scored"] == 4, done.stderr
    assert {"token_error", "predicted_token_error", "stoi", "dnsmos_ovrl"} <= found["metrics"].keys()
    (run,) = found["speed"]
    assert run["files"] == 4 and run["processes"] == 1 and run["peak_memory_bytes"] > 1e8 and run["device"]
    assert 0 < run["work_seconds_per_second"] and 0 < run["wall_seconds_per_second"]
    assert run["audio_seconds"] == pytest.approx(sum(read("s1", u).shape[1] for u in UTTERANCES) / 16000, abs=1e-3)
    assert (tmp_path / "report.html").stat().st_size > 10_000 and str(tmp_path / "report.html") in done.stderr
    tokens = np.load(tmp_path / "tokens/utt0.npy")
    assert tokens.dtype == np.int16 and tokens.shape[1] == 6


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_ends_the_same(lists: Path, outputs: Path) -> None:
    for number in range(4, 24):
        for kind, file in LISTS.items():
            with open(lists / file, "a") as stream:
                stream.write(f"more{number}.wav {kind}/{UTTERANCES[number % 4]}.wav\n")
        shutil.copy(outputs / f"{UTTERANCES[number % 4]}.wav", outputs / f"more{number}.wav")
    command = ["evaluate.py", "-scp", lists, "--output", outputs, "-proc", 2, "--metrics", *QUICK, "estoi"]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    lines = outputs / "metrics.jsonl"
    while process.poll() is None and not (lines.exists() and len(lines.read_bytes().splitlines()) >= 3):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = len(lines.read_bytes().splitlines())
    assert 3 <= before < 24 and not (outputs / "summary.json").exists()
    done = evaluate(lists, outputs, metrics=(*QUICK, "estoi"), processes=2)
    assert done.returncode == 0, done.stderr
    went_on = made(outputs)
    for name in went_on:
        (outputs / name).unlink()
    assert evaluate(lists, outputs, metrics=(*QUICK, "estoi"), processes=2).returncode == 0
    assert made(outputs) == went_on


@pytest.mark.slow
def test_only_what_changed_is_scored_again(lists: Path, outputs: Path) -> None:
    assert evaluate(lists, outputs).returncode == 0
    before = rows(outputs)
    write(outputs / "utt1.wav", 0.5 * read("mix_clean", "utt1")[0].numpy())
    done = evaluate(lists, outputs, metrics=(*QUICK, "estoi"))
    assert done.returncode == 0
    after = rows(outputs)
    changed = [name for name in before if before[name]["extracted"]["stoi"] != after[name]["extracted"]["stoi"]]
    assert changed == ["utt1.wav"] and all("estoi" in row["extracted"] for row in after.values())


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_bad_input_is_named_and_none_is_a_score(lists: Path, outputs: Path) -> None:
    target = read("s1", "utt0")[0].numpy()
    bad = {
        "missing.wav": (None, "no output"),
        "empty.wav": (target[:0], "holds no samples"),
        "rate.wav": (None, "44100 Hz and 2 channels"),
        "nan.wav": (np.where(np.arange(len(target)) == 100, np.nan, target), "not finite"),
        "length.wav": (target[:-100], "--length-tolerance"),
        "silent.wav": (0 * target, "silent"),
        "noaudio.wav": (None, "cannot read"),
    }
    for name, (wav, _) in bad.items():
        for kind, file in LISTS.items():
            with open(lists / file, "a") as stream:
                stream.write(f"{name} {kind}/utt0.wav\n")
        if wav is not None:
            write(outputs / name, wav)
    write(outputs / "rate.wav", np.stack([target, target], axis=1), rate=44100)
    (outputs / "noaudio.wav").write_bytes(b"not audio")
    with open(lists / "s1.scp", "a") as stream:
        stream.write("partnerless.wav s1/utt0.wav\n")
    with open(lists / "s1.scp", "a") as stream, open(lists / "mix_clean.scp", "a") as second:
        stream.write("nofile.wav s1/ghost.wav\n"), second.write("nofile.wav mix_clean/utt0.wav\n")
    (lists / "aux_s1.scp").unlink()
    done = evaluate(lists, outputs, processes=2)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    expected = {name: text for name, (_, text) in bad.items()}
    expected |= {"partnerless.wav": "mix_clean.scp", "nofile.wav": "ghost.wav", "aux_s1.scp": "no such list"}
    found = summary(outputs)
    problems = {problem["name"]: problem["problem"] for problem in found["problems"]}
    assert problems.keys() == expected.keys()
    for name, text in expected.items():
        assert text in problems[name], problems[name]
        assert name == "aux_s1.scp" or "extracted" not in rows(outputs)[name]
        assert name in (outputs / "summary.md").read_text() and name in (outputs / "report.html").read_text()
    assert found["scored"] == 4 and found["files"] == len(rows(outputs)) == 13
    assert all(entry["systems"]["extracted"]["count"] == 4 for entry in found["metrics"].values())


@pytest.mark.slow
def test_lengths_may_differ_as_far_as_is_said(lists: Path, outputs: Path) -> None:
    for utterance in UTTERANCES:
        write(outputs / f"{utterance}.wav", read("s1", utterance)[0].numpy()[:-160])
    assert evaluate(lists, outputs).returncode == 1
    done = evaluate(lists, outputs, "--length-tolerance", "0.01")
    assert done.returncode == 0, done.stderr
    assert summary(outputs)["scored"] == 4 and summary(outputs)["length_tolerance"] == 0.01


@pytest.mark.slow
def test_without_targets_only_what_needs_none_runs(lists: Path, outputs: Path) -> None:
    (lists / "s1.scp").unlink()
    done = evaluate(lists, outputs, metrics=("dnsmos", "stoi"))
    found = summary(outputs)
    assert done.returncode == 1 and "s1.scp" in found["unavailable"]["stoi"]
    assert found["metrics"]["dnsmos_ovrl"]["systems"]["extracted"]["count"] == 4


def test_a_metric_that_fails_on_a_file_is_no_score_of_it(lists: Path, outputs: Path) -> None:
    for kind in LISTS:
        write(lists / f"{kind}/utt0.wav", read(kind, "utt0")[0].numpy()[20000:22000])
    write(outputs / "utt0.wav", read("s1", "utt0")[0].numpy()[20000:22000])
    done = evaluate(lists, outputs, metrics=("stoi", "si_sdr"))
    assert done.returncode == 1 and "stoi of extracted: 1 failed (utt0.wav" in done.stderr
    found = summary(outputs)
    assert found["metrics"]["stoi"]["systems"]["extracted"]["count"] == 3
    assert found["metrics"]["stoi"]["systems"]["extracted"]["failed"] == 1
    assert found["metrics"]["si_sdr"]["systems"]["extracted"]["count"] == 4
    assert rows(outputs)["utt0.wav"]["extracted"]["stoi"] is None


@pytest.mark.slow
def test_a_metric_that_cannot_run_is_a_row_that_says_why(lists: Path, outputs: Path) -> None:
    done = evaluate(lists, outputs, "--whisper-model", "/nowhere/whisper", metrics=("stoi", "dwer", "tokens"))
    assert done.returncode == 1, done.stderr  # it was asked for by name
    found = summary(outputs)
    assert "/nowhere/whisper" in found["unavailable"]["dwer"] and "-config" in found["unavailable"]["tokens"]
    for name in ("summary.md", "report.html"):
        assert "/nowhere/whisper" in (outputs / name).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metrics", "stoy"), "no such metric: stoy"),
        (("-scp", "/nowhere"), "no such folder of lists: /nowhere"),
        (("--output", "/nowhere"), "no such folder of outputs: /nowhere"),
        (("--examples-by", "nothing", "--metrics", "stoi"), "nothing"),
    ],
)
def test_mistakes_are_one_line(lists: Path, outputs: Path, arguments: tuple, message: str) -> None:
    done = call("evaluate.py", "-scp", lists, "--output", outputs, "-proc", 1, *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ") and message in done.stderr


def test_what_the_command_line_needs() -> None:
    for arguments in (
        [],
        ["-scp", "x"],
        ["--compare", "x"],
        ["-scp", "x", "--output", "y", "-proc", "0"],
        ["-scp", "x", "--output", ""],
        ["-scp", "x", "--output", "y", "--length-tolerance", "nan"],
        ["--pairs", "x", "--output", "y", "--cluster", "talker"],
    ):
        done = call("evaluate.py", *arguments)
        assert done.returncode == 2 and "usage:" in done.stderr


@pytest.mark.slow
def test_the_main_process_stays_without_torch() -> None:
    """It waits for the others; torch alone would take half a gigabyte."""
    code = "import sys, evaluate; evaluate.parse_args(['-scp', 'a', '--output', 'b']); import evaluation.scoring, "
    code += "evaluation.summary, evaluation.examples; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# -- over talkers ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_intervals_over_talkers(lists: Path, outputs: Path) -> None:
    """Two files each of two talkers: said with the numbers everywhere, and nothing is scored again for it."""
    assert evaluate(lists, outputs).returncode == 0
    over_files, plain = summary(outputs), (outputs / "metrics.jsonl").read_bytes()
    done = evaluate(lists, outputs, "--cluster", "talker")
    assert done.returncode == 2 and "utt2spk" in done.stderr and "--cluster" in done.stderr
    (lists / "utt2spk").write_text("".join(f"utt{number}.wav {'ab'[number // 2]}\n" for number in range(4)))
    done = evaluate(lists, outputs, "--cluster", "talker")
    assert done.returncode == 0 and "scoring" not in done.stderr, done.stderr
    found = summary(outputs)
    stoi, before = (of["metrics"]["stoi"]["systems"]["extracted"] for of in (found, over_files))
    assert stoi["mean"] == before["mean"] and stoi["talkers"] == 2 and "talkers" not in before
    assert (stoi["low"], stoi["high"]) != (before["low"], before["high"])
    assert [row["talker"] for row in rows(outputs).values()] == ["a", "a", "b", "b"]
    told = "bootstrap interval over 2 talkers and the files of each"
    for name in ("summary.md", "report.html"):
        assert told in (outputs / name).read_text() and "too narrow" in (outputs / name).read_text()
    assert "bootstrap interval over files" in over_files["interval"]
    again = made(outputs)
    assert evaluate(lists, outputs, "--cluster", lists / "utt2spk").returncode == 0 and made(outputs) == again
    assert evaluate(lists, outputs, "--cluster", r"(\d)\.wav").returncode == 0
    assert "over 4 talkers" in summary(outputs)["interval"]
    assert evaluate(lists, outputs).returncode == 0 and (outputs / "metrics.jsonl").read_bytes() == plain


@pytest.mark.slow
def test_a_comparison_over_talkers(tmp_path, lists: Path, outputs: Path) -> None:
    other = tmp_path / "other"
    for utterance in UTTERANCES:
        write(other / f"{utterance}.wav", read("s1", utterance)[0].numpy())
    for folder in (outputs, other):
        assert evaluate(lists, folder).returncode == 0
    done = call("evaluate.py", "--compare", outputs, other, "--cluster", "talker")
    assert done.returncode == 2 and f"{outputs} tells no talkers" in done.stderr
    plain = call("evaluate.py", "--compare", outputs, other)
    assert plain.returncode == 0 and "95 % paired bootstrap interval over files" in plain.stdout
    done = call("evaluate.py", "--compare", outputs, other, "--cluster", r"utt(\d)", "--output", tmp_path / "both")
    assert done.returncode == 0 and "interval over 4 talkers and the files of each" in done.stdout, done.stderr
    found = json.loads((tmp_path / "both/comparison.json").read_text())
    assert found["columns"]["stoi"]["differences"][str(other)]["talkers"] == 4
    (lists / "utt2spk").write_text("".join(f"utt{number}.wav {'ab'[number // 2]}\n" for number in range(4)))
    for folder in (outputs, other):
        assert evaluate(lists, folder, "--cluster", "talker").returncode == 0
    done = call("evaluate.py", "--compare", outputs, other, "--cluster", "talker")
    assert done.returncode == 0 and "interval over 2 talkers and the files of each" in done.stdout, done.stderr


# -- comparison --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_systems_side_by_side(tmp_path, lists: Path, outputs: Path) -> None:
    noisier, same = tmp_path / "noisier", tmp_path / "same"
    shutil.copytree(outputs, same)
    for utterance in UTTERANCES:
        wav = sf.read(outputs / f"{utterance}.wav")[0]
        write(noisier / f"{utterance}.wav", wav + 0.1 * np.random.default_rng(1).standard_normal(len(wav)))
    for folder in (outputs, noisier, same):
        assert evaluate(lists, folder).returncode == 0
    done = call("evaluate.py", "--compare", outputs, noisier, same, "--output", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "both/comparison.json").read_text())
    assert found["systems"] == [str(outputs), str(noisier), str(same)]
    stoi = found["columns"]["stoi"]
    means = {label: entry["mean"] for label, entry in stoi["systems"].items()}
    difference = stoi["differences"][str(noisier)]
    assert difference["mean"] == pytest.approx(means[str(noisier)] - means[str(outputs)])
    assert difference["verdict"] == "worse" and difference["high"] < 0
    assert stoi["differences"][str(same)]["verdict"] == "within the noise"
    assert "**worse**" in done.stdout and (tmp_path / "both/comparison.md").read_text() in done.stdout + "\n"


@pytest.mark.slow
def test_what_cannot_be_compared_is_said(tmp_path, lists: Path, outputs: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(outputs, other)
    done = call("evaluate.py", "--compare", outputs, other)
    assert done.returncode == 2 and "has not been evaluated" in done.stderr
    assert evaluate(lists, outputs, metrics=("stoi", "si_sdr")).returncode == 0
    assert evaluate(lists, other, metrics=("stoi", "estoi")).returncode == 0
    done = call("evaluate.py", "--compare", outputs, other)
    assert done.returncode == 0 and "Left out: si_sdr, not in" in done.stdout
    changed = json.loads((other / "summary.json").read_text())
    changed["metrics"]["stoi"]["definition"] = "another STOI"
    (other / "summary.json").write_text(json.dumps(changed))
    done = call("evaluate.py", "--compare", outputs, other)
    assert done.returncode == 2 and "measured in different ways" in done.stderr
