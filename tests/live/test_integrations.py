"""packaging/integrations/, each as it stands there, against the running appliance."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import html
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser import bodies
from tests.live.appliance import TOP, Appliance
from tests.live.chromium import Chromium
from tests.live.firefox import Firefox
from tests.live.overhttp import browser_at
from tests.live.privnet import PrivateTorNetwork
from tests.live.test_embed import add_site
from tests.ports import free_port
from veilsupport.config import FILE_NAME

INTEGRATIONS = TOP / "packaging" / "integrations"
PLACEHOLDER = "http://DESK.onion"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class Site:
    """Someone else's site: what lies in `files` is served at `origin`, which the desk lists."""

    desk: str
    origin: str
    files: Path

    def publish(self, name: str) -> None:
        """A copy of one integration, with the desk's real address in it."""
        for source in (INTEGRATIONS / name).iterdir():
            (self.files / source.name).write_text(source.read_text("utf-8").replace(PLACEHOLDER, self.desk))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    files = tmp_path_factory.mktemp("files")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = f"http://localhost:{server.server_port}"
    data = tmp_path_factory.mktemp("desk") / "data"
    add_site(data, origin)
    with Appliance(data, "--no-tor", "--port", str(free_port())) as appliance:
        yield Site(appliance.wait_for_page(), origin, files)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


def kept(desk: str, code: str) -> list[str]:
    """What stands in the conversation that this code opens."""

    async def story() -> list[str]:
        visitor = browser_at(desk + "/")
        assert (await visitor.send_form("/return", code=code)).place == "/chat"
        return bodies((await visitor.get("/chat/latest")).text)

    return asyncio.run(story())


def test_plain_html(site: Site) -> None:
    site.publish("html")
    with Firefox() as visitor:
        visitor.go(site.origin)
        visitor.until(lambda: visitor.script("return document.querySelector('img').naturalWidth") == 424, what="badge")
        visitor.enter("iframe")
        visitor.find_text("Ask us anything about your order.")
        visitor.top()
        visitor.write(visitor.find("form textarea"), "from plain HTML")
        visitor.click(visitor.find("form button"))
        visitor.until(lambda: len(visitor.command("WebDriver:GetWindowHandles")) == 2, what="a second window")
        visitor.command("WebDriver:SwitchToWindow", {"handle": visitor.command("WebDriver:GetWindowHandles")[1]})
        assert kept(site.desk, visitor.text(visitor.find(".words"))) == ["from plain HTML"]


def test_plain_javascript(site: Site, chromium: Chromium) -> None:
    site.publish("vanilla")
    tab = chromium.tab(site.origin)
    tab.write("input", "from a script")
    tab.click("button")
    tab.find_text("from a script", css="#messages")
    tab.write("input", "and another")
    tab.click("button")
    tab.find_text("and another", css="#messages")
    assert tab.texts("#messages li") == ["from a script", "and another"]
    assert kept(site.desk, tab.text("#code").partition(": ")[2]) == ["from a script", "and another"]


def test_nextjs_builds_and_runs(site: Site, chromium: Chromium, tmp_path: Path) -> None:
    """From the pinned packages of its lock file, with none of their install scripts."""
    shutil.copytree(INTEGRATIONS / "nextjs", tmp_path / "next")
    for name in ("veilsupport-client.js", "veilsupport-client.d.ts"):
        shutil.copy(TOP / "static" / name, tmp_path / "next" / "app")
    settings = {
        "NEXT_PUBLIC_VEILSUPPORT": site.desk,
        "NEXT_TELEMETRY_DISABLED": "1",
        "NEXT_IGNORE_INCORRECT_LOCKFILE": "1",  # The lock file names the packages for Linux only; so no `npm ci`.
    }
    for command in ("npm install --no-audit --no-fund --ignore-scripts", "npm run build"):
        done = subprocess.run(
            command.split(),
            cwd=tmp_path / "next",
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(tmp_path / "next" / "out", site.files, dirs_exist_ok=True)
    tab = chromium.tab(site.origin)
    tab.find_text("Send")
    tab.until(lambda: tab.run("Object.keys(document.forms[0]).some((key) => key.startsWith('__react'))"), what="React")
    tab.write("input", "from a component")
    tab.click("button")
    tab.find_text("from a component", css="li")
    assert kept(site.desk, tab.text("#code")) == ["from a component"]


def test_php_through_tor(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    lines = ", ".join(f'"{line}"' for line in tornet.torrc_lines)
    (data / FILE_NAME).write_text(f"[tor]\nlines = [{lines}]\n")
    with Appliance(data) as appliance:
        desk = appliance.wait_for_onion()
        host, port = tornet.socks
        with php_server({"VEILSUPPORT_DESK": desk, "VEILSUPPORT_SOCKS": f"{host}:{port}"}) as page:
            fields = hidden(fetch(page))
            written = fetch(page, {**fields, "message": "from <PHP>"})
            assert "<li>from &lt;PHP&gt;</li>" in written
            again = fetch(page, {**hidden(written), "id": fields["id"], "message": "from <PHP>"})  # a reload
            assert again.count("<li>") == 1
            code = re.search(r'<p id="code">([a-z -]+)</p>', again)
            assert code
            assert len(code[1].split()) == 7
            refused = fetch(page, {**hidden(again), "message": "x" * 4001})
            assert "too long" in refused


@contextlib.contextmanager
def php_server(settings: dict[str, str]) -> Iterator[str]:
    """Its own web server, on the integration as it is."""
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        ["php", "-S", address, "-t", str(INTEGRATIONS / "php")],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                fetch(f"http://{address}/")
                break
            assert time.monotonic() < end, "php does not serve"
            time.sleep(0.05)
        yield f"http://{address}/"
    finally:
        process.terminate()
        process.wait(10)


def fetch(page: str, fields: dict[str, str] | None = None) -> str:
    body = urllib.parse.urlencode(fields).encode() if fields else None
    with urllib.request.urlopen(page, body, timeout=90) as answer:  # noqa: S310 - our own loopback address
        return str(answer.read().decode())


def hidden(page: str) -> dict[str, str]:
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in fields}


@pytest.mark.parametrize(
    ("file", "begin", "end"),
    [
        ("html/index.html", "<p><a", "</iframe>"),
        ("vanilla/index.html", "const desk", "  };"),
        ("nextjs/app/support.tsx", "  async function send", "  }\n  return"),
        ("php/index.php", "        if (!$token)", "['messages'];"),
    ],
)
def test_what_one_writes_has_fewer_than_ten_lines(file: str, begin: str, end: str) -> None:
    text = (INTEGRATIONS / file).read_text("utf-8")
    written = text[text.index(begin) : text.index(end)] + end
    assert len([line for line in written.splitlines() if line.strip()]) < 10
