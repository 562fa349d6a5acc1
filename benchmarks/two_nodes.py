"""Training over two nodes on one machine: network namespaces joined by a veth pair, and torchrun across it.

Needs root and iproute2. Trains a few toy steps in one process, and again in two nodes of ``--processes`` each, and
compares the weights. Prints the bytes that crossed between the nodes in a step, and seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.loading import write_corpus
from benchmarks.parts import random_parts
from data.scp import write_scp

NODES = {"tse-node0": "10.231.77.1", "tse-node1": "10.231.77.2"}
STEPS, ITEMS = 4, 8


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1, help="of each node (%(default)s)")
    args = parser.parse_args(argv)
    if os.geteuid() != 0 or shutil.which("ip") is None:
        print("error: this needs root and the ip command (apt-get install iproute2)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="two-nodes-") as name, random_parts(toy=True) as (recipe, paths):
        folder = Path(name)
        keys = [*paths, *data(folder), "lr=0.00005", "dropout=0", "gpus=cpu", "log_interval=1", "num_workers=0"]
        keys += [f"epoch_num={STEPS * ITEMS}", f"batch_size={ITEMS}", f"batch_size_eval={ITEMS}", "epoch=1"]
        overrides = [part for key in keys for part in ("--override", key)]

        def command(run: str) -> list[str]:
            where = ["--log_path", folder / run / "log", "--ckpt_path", folder / run / "ckpt"]
            return ["train.py", "--config_path", str(recipe), *map(str, where), *overrides]

        since = time.perf_counter()
        subprocess.run([sys.executable, *command("one")], check=True, capture_output=True)
        alone, since = time.perf_counter() - since, time.perf_counter()
        with two_nodes() as nodes:
            before = traffic(nodes[0])
            started = [launch(node, args.processes, command("two")) for node in nodes]
            failed = [process for process in started if process.wait() != 0]
            if failed:
                print(failed[0].stderr.read().decode()[-3000:], file=sys.stderr)
                return 1
            crossed = traffic(nodes[0]) - before
            for process in started:
                process.stderr.close()
        together = time.perf_counter() - since
        one, two = (torch.load(folder / run / "ckpt/last.pth", weights_only=True)["model"] for run in ("one", "two"))
        difference = max((one[key] - two[key]).abs().max().item() for key in one)
        parameters = sum(value.numel() for value in one.values() if value.is_floating_point())
    print(f"two nodes x {args.processes}: largest difference of a weight to one process {difference:.1e}")
    print(f"{parameters / 1e6:.2f} M weights; {crossed / STEPS / 1e6:.2f} MB a step from one node to the other, ")
    print(f"with the start and the validation; {alone:.0f} s alone, {together:.0f} s on two nodes (with their start)")
    return 0 if difference < 1e-5 else 1


def data(folder: Path) -> list[str]:
    """A corpus of made voices, and dev lists of it; returns overrides."""
    index = write_corpus(folder / "speech", seconds=4.5)
    files = sorted((folder / "speech").glob("*.flac"))
    lists = {"cv_mix_path": files[:4], "cv_clean_path": files[:4], "cv_ref_path": files[4:8]}
    for key, chosen in lists.items():
        write_scp(folder / f"{key}.scp", {f"item{number}": path for number, path in enumerate(chosen)})
    return [f"tr_data_scp_path={index}", *(f"{key}={folder / key}.scp" for key in lists)]


@contextlib.contextmanager
def two_nodes() -> Iterator[list[str]]:
    """Two network namespaces that see each other and nothing else."""
    names = list(NODES)
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "tse-a", "netns", names[0], "type", "veth", "peer", "name", "tse-a", "netns", names[1])
        for name, address in NODES.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "tse-a")
            for link in ("lo", "tse-a"):
                ip("-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def launch(node: str, processes: int, command: list[str]) -> subprocess.Popen:
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-id", "two-nodes", "--rdzv-endpoint", f"{NODES['tse-node0']}:29511"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", str(processes)]
    # Who is the host cannot be told from names: namespaces share the machine's.
    own = ["--local-addr", NODES[node], "--rdzv-conf", f"is_host={int(node == 'tse-node0')},join_timeout=120"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "tse-a", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["ip", "netns", "exec", node, *torchrun, *rendezvous, *own, *command],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def traffic(node: str) -> int:
    """Bytes that a node has sent to the other."""
    path = "/sys/class/net/tse-a/statistics/tx_bytes"
    found = subprocess.run(["ip", "netns", "exec", node, "cat", path], check=True, capture_output=True, text=True)
    return int(found.stdout)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
