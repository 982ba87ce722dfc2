"""Debian's Chromium, headless, driven over the Chrome DevTools Protocol without chromedriver.

Everything it writes goes into a temporary profile, which is also its HOME and is removed at the end. It resolves no
name, and what could call home on its own is switched off. (Its test for IPv6, connect(2) on a UDP socket, sends
nothing.)

    with Chromium() as browser:
        tab = browser.tab("http://127.0.0.1:8080/")
        tab.write("textarea", "hello")

https://chromedevtools.github.io/devtools-protocol/tot/
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from websockets.sync.client import ClientConnection, connect

T = TypeVar("T")

CHROMIUM: Final = "/usr/bin/chromium"
_START_SECONDS: Final = 60
_COMMAND_SECONDS: Final = 60
_POLL_SECONDS: Final = 0.03
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # refuses to run as root otherwise; it sees our own pages only
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",  # /dev/shm of a container is small
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--remote-debugging-port=0",
)


class ChromiumError(Exception):
    """Chromium refused a command, or a script threw, or it did not start."""


class Tab:
    """One page. Waiting is by deadline; nothing here sleeps for luck."""

    def __init__(self, port: int, target: str) -> None:
        self.target = target
        self._serial = 0
        self._events: list[dict[str, Any]] = []
        self._end = contextlib.ExitStack()
        address = f"ws://127.0.0.1:{port}/devtools/page/{target}"
        self._link: ClientConnection = self._end.enter_context(
            connect(address, max_size=None, compression=None, proxy=None, close_timeout=0.1)
        )
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    # Pages

    def go(self, url: str) -> None:
        """Begin to load; returns once the answer has begun."""
        told = self.command("Page.navigate", url=url)
        if told.get("errorText"):
            raise ChromiumError(told["errorText"])

    def reload(self) -> None:
        self.command("Page.reload")

    def front(self) -> None:
        """Look at this tab; the others are hidden then."""
        self.command("Page.bringToFront")

    def freeze(self, frozen: bool) -> None:
        """As a browser does with a tab that lies in the background for long: no timers, no events."""
        self.command("Page.setWebLifecycleState", state="frozen" if frozen else "active")

    def resize(self, width: int, height: int) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    # What is there

    def run(self, script: str) -> Any:
        """The value of an expression; of a promise, what it settles to. Raises ChromiumError with what was thrown."""
        told = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in told:
            thrown = told["exceptionDetails"]
            raise ChromiumError(thrown.get("exception", {}).get("description") or thrown["text"])
        return told["result"].get("value")

    def text(self, css: str) -> str:
        """What a person reads there; empty when there is no such element, or it is hidden."""
        return next(iter(self.texts(css)), "")

    def texts(self, css: str) -> list[str]:
        """The same of every element that matches and is shown."""
        shown = f"[...document.querySelectorAll({json.dumps(css)})].filter((each) => each.checkVisibility())"
        return list(self.run(f"{shown}.map((each) => each.innerText)"))

    def find(self, css: str, *, timeout_seconds: float = 30) -> None:
        """Return as soon as something matches. Raises TimeoutError."""
        self.until(
            lambda: self.run(f"!!document.querySelector({json.dumps(css)})"), timeout_seconds=timeout_seconds, what=css
        )

    def find_text(self, words: str, *, css: str = "body", timeout_seconds: float = 30) -> None:
        """Return as soon as an element that matches shows these words. Raises TimeoutError."""
        self.until(lambda: any(words in text for text in self.texts(css)), timeout_seconds=timeout_seconds, what=words)

    def until(self, look: Callable[[], T | None], *, timeout_seconds: float = 30, what: str = "the condition") -> T:
        """What `look` returns as soon as that is true; while a page is being replaced it looks again.

        Raises TimeoutError.
        """
        end = time.monotonic() + timeout_seconds
        while True:
            with contextlib.suppress(ChromiumError):
                if found := look():
                    return found
            if time.monotonic() > end:
                raise TimeoutError(f"not on the page after {timeout_seconds} s: {what}\n{self.complaints()}")
            time.sleep(_POLL_SECONDS)

    # Hands

    def click(self, css: str) -> None:
        self.find(css)
        self.run(f"document.querySelector({json.dumps(css)}).click()")

    def write(self, css: str, words: str) -> None:
        """Put the focus there and type."""
        self.find(css)
        self.run(f"document.querySelector({json.dumps(css)}).focus()")
        self.type(words)

    def type(self, words: str) -> None:
        """Into whatever has the focus."""
        self.command("Input.insertText", text=words)

    def press(self, key: str, *, shift: bool = False) -> None:
        """One key, such as Enter, where the focus is."""
        text = "\r" if key == "Enter" else ""
        code = 13 if key == "Enter" else 0
        held = {"modifiers": 8 if shift else 0, "key": key, "code": key, "windowsVirtualKeyCode": code}
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **held)
        self.command("Input.dispatchKeyEvent", type="keyUp", **held)

    # The rest

    def events(self, method: str) -> list[dict[str, Any]]:
        """What has happened in the tab since it was opened."""
        with contextlib.suppress(TimeoutError):
            while True:
                self._note(json.loads(self._link.recv(timeout=0)))
        return [event["params"] for event in self._events if event["method"] == method]

    def complaints(self) -> list[str]:
        """Errors on the console: refused by CORS or by the policy of the page, scripts that threw."""
        entries = [event["entry"] for event in self.events("Log.entryAdded")]
        logged = [entry["text"] for entry in entries if entry["level"] == "error"]
        thrown = [
            event["exceptionDetails"].get("exception", {}).get("description", event["exceptionDetails"]["text"])
            for event in self.events("Runtime.exceptionThrown")
        ]
        return logged + thrown

    def requested(self) -> list[str]:
        """Every address that the tab has asked for, WebSockets too."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")] + [
            event["url"] for event in self.events("Network.webSocketCreated")
        ]

    def screenshot(self, path: Path) -> None:
        """Write a PNG of what is visible."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def command(self, method: str, **parameters: Any) -> Any:
        serial = self._send(method, parameters)
        while True:
            answer = json.loads(self._link.recv(timeout=_COMMAND_SECONDS))
            if answer.get("id") != serial:
                self._note(answer)
            elif "error" in answer:
                raise ChromiumError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def close(self) -> None:
        self._end.close()

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._serial += 1
        self._link.send(json.dumps({"id": self._serial, "method": method, "params": parameters}))
        return self._serial

    def _note(self, message: dict[str, Any]) -> None:
        """An event; answers that nobody waits for are passed over."""
        if "method" not in message:
            return
        self._events.append(message)
        if message["method"] == "Page.javascriptDialogOpening":  # It holds every other command up.
            self._send("Page.handleJavaScriptDialog", {"accept": True})


class Chromium:
    """One headless browser with a fresh profile."""

    def __init__(self) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="chromium-"))
        self._tabs: list[Tab] = []
        self._process = subprocess.Popen(
            [CHROMIUM, *_FLAGS, f"--user-data-dir={self._profile / 'data'}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self._profile), "LANG": "C.UTF-8"},
        )
        try:
            self._port = self._wait_for_port()
        except BaseException:
            self.close()
            raise

    def tab(self, url: str = "about:blank") -> Tab:
        """A new tab, in front."""
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_COMMAND_SECONDS)
        try:
            link.request("PUT", "/json/new?about:blank")
            tab = Tab(self._port, json.loads(link.getresponse().read())["id"])
        finally:
            link.close()
        self._tabs.append(tab)
        if url != "about:blank":
            tab.go(url)
        return tab

    def close(self) -> None:
        self._process.terminate()  # First: else each tab's link waits long for its closing handshake.
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for tab in self._tabs:
            tab.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def _wait_for_port(self) -> int:
        """Chromium writes the port it has chosen into its profile."""
        told = self._profile / "data" / "DevToolsActivePort"
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError, IndexError, ValueError):
                return int(told.read_text().splitlines()[0])
            time.sleep(_POLL_SECONDS)
        raise ChromiumError("chromium did not start")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
