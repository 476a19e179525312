"""A headless Chromium that shows a file at a width, says what its page measures, and what it asked the network for."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATH = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--mute-audio",
)
PATIENCE = 60  # seconds, for any one answer of a browser on a busy machine


@contextmanager
def browser() -> Iterator["Browser"]:
    """One browser, ended with all that it started."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(PATH), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                with closing(_socket(Path(profile) / "DevToolsActivePort")) as socket:
                    yield Browser(socket)
            finally:
                process.kill()


def _socket(told: Path) -> websocket.WebSocket:
    """The tools' socket of the browser's first page; the browser says in a file where it listens."""
    end = time.monotonic() + PATIENCE
    while not (told.exists() and told.read_text().count("\n")):
        assert time.monotonic() < end, "the browser does not listen"
        time.sleep(0.1)
    with urlopen(f"http://127.0.0.1:{told.read_text().split()[0]}/json/list", timeout=PATIENCE) as answer:
        page = next(target for target in json.load(answer) if target["type"] == "page")
    return websocket.create_connection(page["webSocketDebuggerUrl"], timeout=PATIENCE, suppress_origin=True)


class Browser:
    """A page in a browser."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket, self._calls = socket, 0
        self.requests: list[str] = []  # addresses that were asked for, the page's own included
        self.complaints: list[str] = []  # errors of scripts, and what the page was refused
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, file: Path, *, width: int = 1300, height: int = 900) -> None:
        """Show a file in a window of that size, in pixels."""
        self.resize(width, height)
        self._call("Page.navigate", url=file.resolve().as_uri())
        while self._next()["method"] != "Page.loadEventFired":
            pass

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window, as of a phone where it is narrow, that wide."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
        assert self.ask(drawn)  # what is measured next is of the new size

    def ask(self, script: str) -> Any:
        """What an expression of JavaScript is, also where it is a promise."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:
        """What an expression is, as soon as it is something."""
        end = time.monotonic() + PATIENCE
        while not (found := self.ask(script)):
            assert time.monotonic() < end, f"never: {script}; {self.complaints}"
            time.sleep(0.1)
        return found

    def move(self, x: float, y: float) -> None:
        """Point at a place of the window."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        """Press and release at a place of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def picture(self, to: Path) -> None:
        """The whole page as a PNG file."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while (answer := self._next()).get("id") != self._calls:
            pass
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = {"method": "", **json.loads(self._socket.recv())}
        if message["method"] == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        elif message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))
        elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.complaints.append(message["params"]["entry"]["text"])
        return message
