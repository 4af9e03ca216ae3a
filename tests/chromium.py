"""Chromium without a window, by its DevTools protocol: a page as it is drawn, its errors and its requests."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.container.engine import debian

LAPTOP, PHONE = (1440, 900), (390, 844)


def program() -> str:
    """Chromium on the PATH, which root is given from Debian's package where it is missing."""
    for _ in range(2):
        if found := shutil.which("chromium"):
            return found
        assert os.geteuid() == 0, "Chromium is not installed: install the Debian package chromium, or run as root"
        debian("chromium", "fonts-dejavu-core")
    raise AssertionError("Debian's package chromium has no program chromium")


@dataclass
class Tab:
    """A page that has been drawn; `errors` and `requests` are those since it was opened."""

    socket: ClientConnection
    session: str
    ids: Iterator[int]
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> Any:
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params, "sessionId": self.session}))
        while True:
            said = json.loads(self.socket.recv(timeout=60))
            self._note(said)
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]

    def _note(self, said: dict[str, Any]) -> None:
        method, params = said.get("method"), said.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(params["args"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not self.evaluate(script):
            assert time.monotonic() < until, f"{script} stays false; {self.errors}"
            time.sleep(0.05)

    def dark(self, on: bool) -> None:
        """What the reader's system prefers, changed while the page is open."""
        shade = "dark" if on else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": shade}])

    def png(self, height: int | None = None) -> bytes:
        """The page as a picture, whole, or from its top on."""
        width = self.evaluate("innerWidth")
        tall = height or self.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": tall, "scale": 1}
        said = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(said["data"])


@contextmanager
def opened(file: Path, size: tuple[int, int] = LAPTOP, dark: bool = False) -> Iterator[Tab]:
    """A report, opened from the disk and drawn to its end."""
    with tempfile.TemporaryDirectory(prefix="alphard-chromium-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        command = [program(), *flags, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                with connect(_door(Path(profile)), max_size=None) as socket:
                    yield _tab(socket, file, size, dark)
            finally:
                browser.terminate()


def _door(profile: Path) -> str:
    """Where the browser listens."""
    until, file = time.monotonic() + 60, profile / "DevToolsActivePort"
    while not (file.exists() and len(lines := file.read_text().split()) == 2):
        assert time.monotonic() < until, "Chromium does not start"
        time.sleep(0.05)
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"


def _tab(socket: ClientConnection, file: Path, size: tuple[int, int], dark: bool) -> Tab:
    tab = Tab(socket, "", itertools.count(1))
    target = _call_browser(tab, "Target.createTarget", url="about:blank")["targetId"]
    tab.session = _call_browser(tab, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
        tab.call(f"{domain}.enable")
    small = size[0] < 600
    tab.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=small)
    tab.call("Emulation.setTouchEmulationEnabled", enabled=small)
    tab.dark(dark)
    tab.call("Page.navigate", url=file.resolve().as_uri())
    tab.wait("document.body !== null && document.body.dataset.drawn !== undefined")
    return tab


def _call_browser(tab: Tab, method: str, **params: Any) -> Any:
    number = next(tab.ids)
    tab.socket.send(json.dumps({"id": number, "method": method, "params": params}))
    while True:
        said = json.loads(tab.socket.recv(timeout=60))
        if said.get("id") == number:
            return said["result"]
