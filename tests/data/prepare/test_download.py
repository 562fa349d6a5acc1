"""The download command: what it says, what it fetches and unpacks, and what it does when it is run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from data.prepare import download
from tests.data.prepare.file_server import BODY, CLOSED, HALF, Served, archive, serve_hub, set_endpoint, sha256

ROOT = Path(__file__).parents[3]
CHECKPOINT = "/Beilong/TSELM/resolve/main/model_ckpt/tselm_l.pth"
KMEANS = "/Beilong/TSELM/resolve/main/kmeans_ckpt/kmeans_wavlm_ckpt.tar.gz"
CENTRES = {"kmeans_ckpt/a_wavlm_k1000_L1.pt": b"1", "kmeans_ckpt/a_wavlm_k1000_L3.pt": b"3", "kmeans_ckpt/b/c": b""}


def run(out: Path, *what: str, mirror: str) -> int:
    return download.main(["--output", str(out), "--mirror", mirror, "--what", *what])


def refused(capsys, out: Path, *what: str, mirror: str) -> str:
    capsys.readouterr()
    assert run(out, *what, mirror=mirror) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def record(out: Path) -> dict:
    return json.loads((out / "sha256.json").read_text())


def test_file_is_fetched_recorded_and_not_fetched_again(server, out, capsys):
    server.files[CHECKPOINT] = Served()
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == BODY
    assert record(out)["tselm_l.pth"]["sha256"] == sha256(BODY)
    said = capsys.readouterr().out
    assert "checkpoint: 1.05MB from" in said and f"checkpoint: {out / 'tselm_l.pth'}" in said
    assert sorted(p.name for p in out.iterdir() if p.name != ".download.lock") == ["sha256.json", "tselm_l.pth"]
    server.asked.clear()
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert server.asked == []


def test_what_is_held_already_does_not_count(server, out, capsys):
    served = server.files[CHECKPOINT] = Served(cut=[HALF, *[0] * 20])
    assert f"{HALF} bytes are kept" in refused(capsys, out, "checkpoint", mirror=server.address)
    served.cut.clear()
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert "to fetch: 524kB" in capsys.readouterr().out


def test_file_without_a_length_has_an_unknown_size(server, out, capsys):
    server.files[CHECKPOINT] = Served(length=False)
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert "checkpoint: unknown size from" in capsys.readouterr().out


def test_offline_a_file_put_there_by_hand_is_used(server, out, capsys):
    error = refused(capsys, out, "checkpoint", mirror=CLOSED)
    assert CLOSED + CHECKPOINT in error and str(out / "tselm_l.pth") in error
    (out / "tselm_l.pth").write_bytes(BODY)
    assert run(out, "checkpoint", mirror=CLOSED) == 0


def test_archive_is_unpacked_once(server, out, capsys):
    server.files[KMEANS] = Served(body=archive(CENTRES))
    assert run(out, "kmeans", mirror=server.address) == 0
    assert (out / "kmeans" / "a_wavlm_k1000_L3.pt").read_bytes() == b"3"
    assert f"kmeans_path: {out / 'kmeans'}\n" in capsys.readouterr().out
    server.asked.clear()
    assert run(out, "kmeans", mirror=server.address) == 0
    for path in (out / "archives").iterdir():
        path.unlink()
    assert run(out, "kmeans", mirror=server.address) == 0
    assert server.asked == []


def test_folder_that_is_gone_is_unpacked_again_without_a_server(server, out):
    server.files[KMEANS] = Served(body=archive(CENTRES))
    assert run(out, "kmeans", mirror=server.address) == 0
    os.rename(out / "kmeans", out / "elsewhere")
    assert run(out, "kmeans", mirror=CLOSED) == 0
    assert (out / "kmeans" / "b" / "c").exists()


def test_key_names_the_folder_inside_that_holds_the_files(server, out, capsys):
    server.files[KMEANS] = Served(
        body=archive({"readme": b"", **{f"deep/{name}": data for name, data in CENTRES.items()}})
    )
    assert run(out, "kmeans", mirror=server.address) == 0
    assert f"kmeans_path: {out / 'kmeans' / 'deep' / 'kmeans_ckpt'}\n" in capsys.readouterr().out


def test_archive_or_folder_put_there_by_hand_is_used_but_not_both(out, server, capsys):
    found = out / "archives" / "kmeans_wavlm_ckpt.tar.gz"
    found.parent.mkdir(parents=True)
    found.write_bytes(archive(CENTRES))
    assert run(out, "kmeans", mirror=CLOSED) == 0
    (out / "kmeans" / ".unpacked-from.sha256").unlink()
    assert "was not unpacked from" in refused(capsys, out, "kmeans", mirror=CLOSED)
    found.unlink()
    assert run(out, "kmeans", mirror=CLOSED) == 0


@pytest.mark.parametrize("body", [b"no archive", archive({"../evil": b""})], ids=["broken", "refused"])
def test_archive_that_cannot_be_unpacked_can_be_replaced_by_another(server, out, capsys, body):
    served = server.files[KMEANS] = Served(body=body)
    found = out / "archives" / "kmeans_wavlm_ckpt.tar.gz"
    assert str(found) in refused(capsys, out, "kmeans", mirror=server.address)
    assert sorted(p.name for p in out.iterdir() if p.name != ".download.lock") == ["archives", "sha256.json"]
    found.unlink()
    served.body = archive(CENTRES)
    assert run(out, "kmeans", mirror=server.address) == 0


def test_model_of_the_hub(server, out, monkeypatch, capsys):
    names = ["config.json", "pytorch_model.bin"]
    serve_hub(server, monkeypatch, names)
    assert download.main(["--output", str(out), "--what", "wavlm"]) == 0
    said = capsys.readouterr().out
    assert f"wavlm: {len(''.join(names))}" in said and f"wavlm_path: {out / 'wavlm-large'}" in said
    set_endpoint(monkeypatch, CLOSED)
    assert download.main(["--output", str(out), "--what", "wavlm"]) == 0


def test_mirror_of_the_hub_holds_for_files_there_too(server, out, monkeypatch):
    set_endpoint(monkeypatch, server.address)
    server.files[CHECKPOINT] = Served()
    assert download.main(["--output", str(out), "--what", "checkpoint"]) == 0
    assert record(out)["tselm_l.pth"]["address"] == server.address + CHECKPOINT


def test_mirror_may_have_a_path_and_must_be_an_address(server, out, capsys):
    server.files[f"/mirror{CHECKPOINT}"] = Served()
    assert run(out, "checkpoint", mirror=f"{server.address}/mirror/") == 0
    assert "'ftp://x'" in refused(capsys, out, "checkpoint", mirror="ftp://x")


def test_groups_next_steps_and_addresses(server, out, capsys):
    folders = {f"{{}}/{role}/a.wav": b"" for role in ("mix_clean", "s1", "aux_s1")}
    base = "/datasets/Beilong/libri2mix_clean_target/resolve/main/libri2mix"
    for part in ("dev", "test"):
        files = {name.format(f"libri2mix_{part}"): data for name, data in folders.items()}
        server.files[f"{base}_{part}.tar.gz"] = Served(body=archive(files))
    for name in ("train-clean-100", "train-clean-360"):
        body = archive({f"LibriSpeech/{name}/1/2/1-2-0000.flac": b"", "LibriSpeech/README.TXT": b""})
        server.files[f"/resources/12/{name}.tar.gz"] = Served(body=body)
    assert run(out, "testsets", "librispeech", mirror=server.address) == 0
    said = capsys.readouterr().out
    assert f"data.prepare.libri2mix {out}/libri2mix_dev\n" in said and f"libri2mix {out}/libri2mix_test\n" in said
    assert f"--output {out}/librispeech.json {out}/train-clean-100 {out}/train-clean-360\n" in said
    assert (out / "libri2mix_dev" / "mix_clean" / "a.wav").exists()
    assert (out / "train-clean-360" / "train-clean-360" / "1" / "2" / "1-2-0000.flac").exists()


def test_disk_that_is_too_small_is_told_before(server, out, monkeypatch, capsys):
    server.files[CHECKPOINT] = Served()
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    error = refused(capsys, out, "checkpoint", mirror=server.address)
    assert "1.05MB to fetch" in error and "1.00kB free" in error and server.ranges() == []


def test_two_runs_into_one_folder(server, out, capsys):
    out.mkdir()
    with filelock.FileLock(out / ".download.lock"):
        assert "another run" in refused(capsys, out, "checkpoint", mirror=server.address)


@pytest.mark.slow
def test_command_line(tmp_path):
    arguments = ["--output", tmp_path, "--mirror", "here", "--what", "weights"]
    command = [sys.executable, "-m", "data.prepare.download", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: --mirror must be"), done.stderr
