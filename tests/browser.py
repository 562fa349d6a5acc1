"""Chromium without a window, driven through a pipe by the DevTools protocol: to see what a page shows.

with Browser() as browser:
    browser.open(path, width=400, height=800)
    assert browser.evaluate("document.title") == "..."
    browser.click("button")
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = """
    --headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-breakpad --disable-dev-shm-usage --disable-extensions
    --hide-scrollbars --mute-audio --autoplay-policy=no-user-gesture-required --remote-debugging-pipe
""".split()
_STILL = 0.3  # seconds for which an element that is to be pressed has kept its place
# Chromium reads commands from descriptor 3 and answers on 4, where a Popen cannot put them.
_PLACE_PIPES = "import os, sys; r, w, *c = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); os.execv(c[0], c)"


class Browser:
    """One Chromium, that looks at one tab at a time; leaving the context ends it, whatever happened.

    Args:
        timeout: seconds, for each call.
        flags: more of Chromium's own.

    Attributes:
        requests: the address of everything that the opened page asked for, itself first.
    """

    def __init__(self, *, timeout: float = 60.0, flags: Sequence[str] = ()) -> None:
        self.timeout = timeout
        self.flags = flags
        self.requests: list[str] = []
        self._last = 0
        self._received = b""
        self._waiting: list[dict[str, Any]] = []
        self._session: str | None = None
        self._tabs: dict[str, str] = {}  # target -> session

    def __enter__(self) -> Browser:
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        child_in, self._to = _pipe()
        self._from, child_out = _pipe()
        home = {key: self._folder.name for key in ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
        try:
            with open(Path(self._folder.name, "stderr"), "wb") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-S", "-c", _PLACE_PIPES, str(child_in), str(child_out)]
                    + [CHROMIUM, *_FLAGS, *self.flags, f"--user-data-dir={self._folder.name}/profile", "about:blank"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(child_in, child_out),
                    start_new_session=True,
                    env={**os.environ, **home},
                )
        except BaseException:
            self._close_files()
            raise
        finally:
            os.close(child_in)
            os.close(child_out)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("Browser.close", session=None)
            self._process.wait(5)
        except (RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            pass  # it is ended below
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # with all the processes that it started
        except ProcessLookupError:
            pass
        self._process.wait()
        self._close_files()

    def open(
        self, path: str | os.PathLike, *, width: int, height: int = 900, dark: bool = False, beside: bool = False
    ) -> str:
        """Show a file, or what is at an http:// address, in a new tab of ``width`` x ``height`` CSS pixels.

        It is loaded when this returns, and the tabs before it are closed, unless it is to be ``beside`` them: then it
        shares nothing with them, as another person's.

        Returns:
            The tab, for ``switch``.
        """
        for tab in [] if beside else list(self._tabs):
            self._call("Target.closeTarget", session=None, targetId=tab)
            del self._tabs[tab]
        more = self._call("Target.createBrowserContext", session=None) if beside else {}
        tab = self._call("Target.createTarget", session=None, url="about:blank", **more)["targetId"]
        attached = self._call("Target.attachToTarget", session=None, targetId=tab, flatten=True)
        self._session = self._tabs[tab] = attached["sessionId"]
        self._call("Network.enable")
        self._call("Page.enable")
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self.requests.clear()
        self._waiting.clear()
        url = path if str(path).startswith(("http://", "about:")) else Path(path).resolve().as_uri()
        answer = self._call("Page.navigate", url=url)
        if "errorText" in answer:
            raise RuntimeError(f"{path}: {answer['errorText']}")
        deadline = time.monotonic() + self.timeout
        while not any(event["method"] == "Page.loadEventFired" for event in self._waiting):
            self._receive(deadline)
        return tab

    def switch(self, tab: str) -> None:
        """Look at another tab that is open."""
        self._session = self._tabs[tab]
        self._call("Page.bringToFront")

    def evaluate(self, javascript: str) -> Any:
        """The value of an expression, of what it promises if it is a promise, as plain data."""
        answer = self._call("Runtime.evaluate", expression=javascript, awaitPromise=True, returnByValue=True)
        if failure := answer.get("exceptionDetails"):
            raise RuntimeError(failure.get("exception", {}).get("description") or failure["text"])
        return answer["result"].get("value")

    def wait(self, javascript: str, *, seconds: float | None = None) -> Any:
        """Wait until an expression is true; returns its value. Raises a TimeoutError that shows what the page says."""
        deadline = time.monotonic() + (self.timeout if seconds is None else seconds)
        while not (value := self.evaluate(javascript)):
            if time.monotonic() > deadline:
                shown = self.evaluate("document.body.innerText")
                raise TimeoutError(f"it never came: {javascript}; the page says: {shown}")
            time.sleep(0.05)
        return value

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element in the window, once it is there and keeps its place.

        It is scrolled into the window.
        """
        self.wait(f"!!document.querySelector({json.dumps(selector)})")
        look = (
            f"(() => {{ const element = document.querySelector({json.dumps(selector)}); if (!element) return null; "
            "element.scrollIntoView({block: 'center', behavior: 'instant'}); "
            "const {left, top, width, height} = element.getBoundingClientRect(); return [left, top, width, height] })()"
        )
        deadline, since, before = time.monotonic() + self.timeout, time.monotonic(), None
        while before is None or time.monotonic() < since + _STILL:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{selector} never stays where it is")
            if (now := self.evaluate(look)) != before:
                since, before = time.monotonic(), now
            time.sleep(0.02)
        return tuple(before)

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element."""
        left, top, width, height = self.place(selector)
        self.drag((left + width / 2, top + height / 2))

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point of the window, move it over the others, and let it go at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=points[0][0], y=points[0][1])
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def drop(self, selector: str, path: str | os.PathLike) -> None:
        """Drop a file on an element."""
        left, top, width, height = self.place(selector)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._call("Input.dispatchDragEvent", type=kind, x=left + width / 2, y=top + height / 2, data=data)

    def press(self, key: str, *, code: int, text: str = "") -> None:
        """Press a key: its name, its number, and the text that it writes."""
        more = {"text": text} if text else {}
        self._call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **more)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self) -> bytes:
        """The whole page, also what lies below the window, as PNG."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    def _call(self, method: str, *, session: str | None = "current", **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = self._session
        deadline = time.monotonic() + self.timeout
        data = json.dumps(message).encode() + b"\0"
        try:
            while data:
                data = data[os.write(self._to, data) :]
        except BrokenPipeError:
            raise self._ended() from None
        while (answer := self._receive(deadline)).get("id") != self._last:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message; events are kept too."""
        while b"\0" not in self._received:
            if not select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium did not answer within {self.timeout:.0f} s")
            if not (data := os.read(self._from, 1 << 20)):
                raise self._ended()
            self._received += data
        line, _, self._received = self._received.partition(b"\0")
        message = json.loads(line)
        if "method" in message and message.get("sessionId") == self._session:
            self._waiting.append(message)
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return message

    def _ended(self) -> RuntimeError:
        said = Path(self._folder.name, "stderr").read_text(errors="replace")
        return RuntimeError(f"Chromium ended by itself; it said: {said[-2000:]}")

    def _close_files(self) -> None:
        os.close(self._to)
        os.close(self._from)
        deadline = time.monotonic() + 5
        while os.path.exists(self._folder.name) and time.monotonic() < deadline:  # what is dying may still write
            self._folder.cleanup()


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors are clear of 3 and 4."""
    ends = os.pipe()
    clear = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return clear[0], clear[1]
