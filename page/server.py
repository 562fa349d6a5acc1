"""From the command line to a page that is served, until somebody ends it."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import socket
import tempfile
import threading
from pathlib import Path

from page.app import build, looks
from page.folder import kept_while_running
from page.sound import Limits
from page.systems import by_title, find_systems, own_systems
from page.visit import Page
from page.work import Programs
from utils.distributed import process_devices
from utils.machine import available_cores

PORTS = 100  # that are tried
log = logging.getLogger(__name__)


def serve(args: argparse.Namespace, ended: threading.Event) -> None:
    """Serve the page until ``ended`` is set; then nothing of it is left.

    Args:
        args: of ``serve.py``.

    Raises:
        ValueError, OSError: what is wrong with the arguments, by name.
    """
    own = own_systems(args.config_path, args.ckpt_path, args.override) if args.config_path else []
    systems = by_title([*own, *find_systems()])
    device = process_devices((args.device,), 1, jobs=1)[0]
    programs = Programs(device, args.threads or available_cores())
    port = free_port(args.host, args.port)
    with kept_while_running() as folder:
        settle_library(folder)
        page = Page(systems, folder, programs, Limits(args.max_mb, args.max_minutes))
        blocks = build(page)
        blocks.queue(default_concurrency_limit=None)
        blocks.launch(
            server_name=args.host,
            server_port=port,
            inbrowser=args.open,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            footer_links=[],
            run_history=False,  # it would keep what was done in the browser
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            allowed_paths=[str(folder)],
            max_file_size=round(args.max_mb * 1e6),
            **looks(),
        )
        try:
            tell(args.host, port)
            programs.begin(next(iter(systems.values())))
            ended.wait()
        finally:
            page.close()
            blocks.close(verbose=False)


def settle_library(folder: Path) -> None:
    """Tell Gradio, before it is imported, to keep its files here and to ask nobody for anything."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    own = [name for name in os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(",") if name]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([*own, "localhost", "127.0.0.1"])


def free_port(host: str, first: int) -> int:
    """The first free port from ``first`` on; any, if that is 0.

    Raises:
        OSError: there is none, or no such address on this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (0,) if first == 0 else range(first, min(first + PORTS, 65536)):
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise OSError(error.errno, f"cannot listen on port {port}: {error.strerror}", host) from error
            return tried.getsockname()[1]
    raise OSError(f"none of the ports {first} to {first + PORTS - 1} is free: give another, --port N")


def tell(host: str, port: int) -> None:
    """Say where the page is, and who can see it."""
    if host in ("127.0.0.1", "localhost", "::1"):
        log.info("http://%s:%d, for this machine alone; Ctrl-C ends it", f"[{host}]" if ":" in host else host, port)
    else:
        log.warning("listening on %s, port %d: whoever reaches this machine can use the page, without a password, and "
                    "what they send is not encrypted; Ctrl-C ends it", host, port)  # fmt: skip
