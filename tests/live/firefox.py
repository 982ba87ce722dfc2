"""Firefox ESR as Tor Browser's "Safest" level has it, driven over Marionette without geckodriver.

Everything it writes goes into a temporary profile, which is also its HOME and is removed at the end. With
`socks` it has no other way out than that proxy, and asks it for every name.

    with Firefox(socks=tornet.socks) as browser:
        browser.go(f"http://{address}/")
        browser.write(browser.find("textarea"), "hello")
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NewType, TypeVar

from tests.ports import free_port

Element = NewType("Element", str)
T = TypeVar("T")

_ELEMENT_KEY: Final = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver §12, web element identifier
_START_SECONDS: Final = 60
_POLL_SECONDS: Final = 0.03

SAFEST: Final[dict[str, object]] = {
    "javascript.enabled": False,
    "svg.disabled": True,
    "mathml.disabled": True,
    "gfx.downloadable_fonts.enabled": False,
    "gfx.font_rendering.graphite.enabled": False,
    "media.webaudio.enabled": False,
    "media.webm.enabled": False,
    # Tor Browser treats http://….onion as a secure context; without it no Sec-Fetch-* and no Secure cookies.
    "dom.securecontext.allowlist_onions": True,
}

_QUIET: Final[dict[str, object]] = {
    "network.security.ports.banned.override": "1-65535",  # a free port of the test's choice may be a banned one
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.aboutHomeSnippets.updateUrl": "",
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.sessionstore.resume_from_crash": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.prefetch-next": False,
    "remote.prefs.recommended": True,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "termsofuse.acceptedVersion": 999,
    "toolkit.legacyUserProfileCustomizations.stylesheets": True,  # for the profile's userChrome.css
    "toolkit.telemetry.enabled": False,
}

_PHONE_WIDTHS_TOO: Final = ":root { min-width: 0 !important }"  # Firefox's own least is 500 px


class BrowserError(Exception):
    """Firefox refused a command, or did not start."""


class Firefox:
    """One headless browser with a fresh profile. Waiting is by deadline; nothing here sleeps for luck."""

    def __init__(
        self,
        *,
        socks: tuple[str, int] | None = None,
        prefs: dict[str, object] | None = None,
        safest: bool = True,
        width: int = 1000,
        height: int = 900,
    ) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="firefox-"))
        self._serial = 0
        port = free_port()
        _write_prefs(
            self._profile / "user.js",
            _QUIET
            | (SAFEST if safest else {})
            | (_proxy_prefs(*socks) if socks else {})
            | (prefs or {})
            | {"marionette.port": port},
        )
        (self._profile / "chrome").mkdir()
        (self._profile / "chrome" / "userChrome.css").write_text(_PHONE_WIDTHS_TOO)
        self._process = _launch(self._profile, width, height)
        try:
            self._socket = self._connect(port)
            self._read()  # Marionette's greeting
            # With "normal", Navigate would wait for ever on a page that holds an open stream. Flat, as
            # Marionette takes it; WebDriver's nesting is geckodriver's.
            self.command("WebDriver:NewSession", {"pageLoadStrategy": "none", "acceptInsecureCerts": False})
        except BaseException:
            self._end()
            raise

    # Pages

    def go(self, url: str) -> None:
        """Begin to load; returns at once."""
        self.command("WebDriver:Navigate", {"url": url})

    def reload(self) -> None:
        self.command("WebDriver:Refresh")

    def url(self) -> str:
        return str(self.command("WebDriver:GetCurrentURL"))

    def title(self) -> str:
        return str(self.command("WebDriver:GetTitle"))

    def source(self) -> str:
        return str(self.command("WebDriver:GetPageSource"))

    def top(self) -> None:
        """Look at the whole page again, out of every frame."""
        self.command("WebDriver:SwitchToFrame", {"id": None})

    def enter(self, frame_css: str, *, timeout_seconds: float = 30) -> None:
        """Look into a frame of the page, from the top."""
        self.top()
        self.command("WebDriver:SwitchToFrame", {"element": self.find(frame_css, timeout_seconds=timeout_seconds)})

    # Elements

    def find(self, css: str, *, timeout_seconds: float = 30) -> Element:
        """The first element that matches, as soon as there is one. Raises TimeoutError."""
        return self.until(lambda: next(iter(self.find_all(css)), None), timeout_seconds=timeout_seconds, what=css)

    def find_all(self, css: str) -> list[Element]:
        found = self.command("WebDriver:FindElements", {"using": "css selector", "value": css})
        return [Element(next(iter(reference.values()))) for reference in found]

    def find_text(self, words: str, *, css: str = "body", timeout_seconds: float = 30) -> None:
        """Return as soon as an element that matches shows these words. Raises TimeoutError."""
        self.until(
            lambda: any(words in self.text(element) for element in self.find_all(css)),
            timeout_seconds=timeout_seconds,
            what=words,
        )

    def text(self, element: Element) -> str:
        """What a person reads there. Not WebDriver's own command, which never sees the text of <noscript>."""
        return str(self.script("return arguments[0].innerText", {_ELEMENT_KEY: element}))

    def attribute(self, element: Element, name: str) -> str | None:
        value = self.command("WebDriver:GetElementAttribute", {"id": element, "name": name})
        return None if value is None else str(value)

    def value(self, element: Element) -> str:
        """What stands in a form field now."""
        return str(self.command("WebDriver:GetElementProperty", {"id": element, "name": "value"}))

    def style(self, element: Element, name: str) -> str:
        return str(self.command("WebDriver:GetElementCSSValue", {"id": element, "propertyName": name}))

    def write(self, element: Element, words: str) -> None:
        self.command("WebDriver:ElementSendKeys", {"id": element, "text": words})

    def press(self, keys: str) -> None:
        """Type into whatever has the focus, in the frame that is looked at."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("WebDriver:PerformActions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def click(self, element: Element) -> None:
        self.command("WebDriver:ElementClick", {"id": element})

    def clear(self, element: Element) -> None:
        self.command("WebDriver:ElementClear", {"id": element})

    def focused(self) -> Element | None:
        """What has the focus in the frame that is looked at."""
        try:
            return Element(next(iter(self.command("WebDriver:GetActiveElement").values())))
        except BrowserError:
            return None

    # The rest

    def script(self, code: str, *arguments: object) -> Any:
        """Run the test's own script in the page; works although the page's own scripts are off."""
        parameters = {"script": code, "args": list(arguments), "sandbox": "default", "newSandbox": False}
        return self.command("WebDriver:ExecuteScript", parameters)

    def resize(self, width: int, height: int) -> None:
        self.command("WebDriver:SetWindowRect", {"width": width, "height": height})

    def screenshot(self, path: Path, *, full: bool = False) -> None:
        """Write a PNG of what is visible, or of the whole page."""
        picture = self.command("WebDriver:TakeScreenshot", {"full": full, "hash": False})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(str(picture)))

    def until(self, look: Callable[[], T | None], *, timeout_seconds: float = 30, what: str = "the condition") -> T:
        """What `look` returns as soon as that is true; elements that went away are looked for again.

        Raises TimeoutError.
        """
        end = time.monotonic() + timeout_seconds
        while True:
            with contextlib.suppress(BrowserError):
                if found := look():
                    return found
            if time.monotonic() > end:
                raise TimeoutError(f"not on the page after {timeout_seconds} s: {what}")
            time.sleep(_POLL_SECONDS)

    def command(self, name: str, parameters: dict[str, object] | None = None) -> Any:
        """One Marionette command; raises BrowserError with Firefox's own words."""
        self._serial += 1
        message = json.dumps([0, self._serial, name, parameters or {}]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, serial, error, result = self._read()
        assert serial == self._serial
        if error is not None:
            raise BrowserError(f"{name}: {error['error']}: {error['message'][:300]}")
        return result.get("value", result) if isinstance(result, dict) else result

    def close(self) -> None:
        with contextlib.suppress(BrowserError, OSError, EOFError):
            self.command("Marionette:Quit", {"flags": ["eForceQuit"]})
        self._end()

    def _connect(self, port: int) -> socket.socket:
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=1)
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    log = (self._profile / "log").read_text(errors="replace")
                    raise BrowserError(f"Firefox does not start: {log[-1500:]}") from None
                time.sleep(_POLL_SECONDS)
            else:
                connection.settimeout(60)
                return connection

    def _read(self) -> Any:
        """One message: its length in bytes, a colon, JSON."""
        length = b""
        while not length.endswith(b":"):
            length += self._receive(1)
        return json.loads(self._receive(int(length[:-1])))

    def _receive(self, size_bytes: int) -> bytes:
        got = b""
        while len(got) < size_bytes:
            piece = self._socket.recv(size_bytes - len(got))
            if not piece:
                raise EOFError("Firefox closed the connection")
            got += piece
        return got

    def _end(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Firefox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _proxy_prefs(host: str, port: int) -> dict[str, object]:
    return {
        "network.proxy.type": 1,
        "network.proxy.socks": host,
        "network.proxy.socks_port": port,
        "network.proxy.socks_version": 5,
        "network.proxy.socks_remote_dns": True,
        "network.proxy.socks5_remote_dns": True,
        "network.proxy.no_proxies_on": "",
        "network.proxy.failover_direct": False,
        "network.dns.blockDotOnion": False,
        "network.http.http3.enable": False,
    }


def _write_prefs(path: Path, prefs: dict[str, object]) -> None:
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in prefs.items()]
    path.write_text("".join(lines))


def _launch(profile: Path, width: int, height: int) -> subprocess.Popen[bytes]:
    with (profile / "log").open("wb") as log:
        return subprocess.Popen(
            [
                *("firefox-esr", "--headless", "--no-remote", "--marionette", "--profile", profile),
                *("--width", str(width), "--height", str(height)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            # The content sandbox needs namespaces that containers often do not give.
            env={**os.environ, "HOME": str(profile), "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
        )
