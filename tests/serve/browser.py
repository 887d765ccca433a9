"""A headless Chromium, driven over two pipes by its own protocol: no driver and no port."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it is started by root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the network is cut
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-pipe",
)


def find_browser() -> str | None:
    """Return a Chromium of this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser, and every address that it asked for."""

    def __init__(self, program: str, profile: Path) -> None:
        there, here = os.pipe(), os.pipe()  # what it reads, what it writes
        # It reads descriptor 3 and writes 4: first both ends are moved out of their way.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there[0], here[1])]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}', program, *FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=ends,
        )  # fmt: skip
        for end in ends:
            os.close(end)
        os.close(there[0])
        os.close(here[1])
        self.to, self.back = there[1], here[0]
        self.numbers, self.rest = itertools.count(1), b""
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.session: str | None = None
        (target,) = [
            t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        ]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come before it are noted."""
        number = next(self.numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], 60)
            assert ready, "the browser does not answer"
            self.rest += os.read(self.back, 1 << 20)
        line, _, self.rest = self.rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.asked.append(parameters["request"]["url"])
        if event.get("method") == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))

    def open(self, address: str) -> None:
        """Go to an address and wait until the page is there."""
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Return the value of an expression, which may be a promise."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, condition: str, seconds: float = 30) -> None:
        """Wait until an expression is true."""
        self.wait(lambda: bool(self.run(condition)), condition, seconds)

    def wait(self, reached: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, f"not so: {what}; {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press a key, as a keyboard does."""
        texts = {"Enter": "\r", " ": " "}
        codes = {"Enter": 13, "Tab": 9, " ": 32, "ArrowLeft": 37, "ArrowDown": 40}
        for kind in ("keyDown", "keyUp"):
            text = {"text": texts[key]} if kind == "keyDown" and key in texts else {}
            number = codes[key]
            code = "Space" if key == " " else key
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code,
                      windowsVirtualKeyCode=number, **text)  # fmt: skip

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file, as the dialog of an input does."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector('{selector}')")
        self.call("DOM.setFileInputFiles", objectId=found["result"]["objectId"], files=[str(file)])

    def look(self, file: Path, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Save a picture of the whole page at a width."""
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])  # fmt: skip
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End it."""
        for end in (self.to, self.back):
            os.close(end)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
