"""What goes over the wire until there is something useful to see.

    python -m tests.bench.firstpage

For `/` and for a conversation without scripts: the page, and of what it links to all that has to be there before it can
be painted as it is meant: stylesheets, frames, pictures, and scripts that hold it up. A round is what can be asked for
at once: what a frame or a stylesheet needs comes in a later one. AssertionError: `/` takes more than one
answer, or more than 10 KB.
"""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from tests.bench.asking import Line
from tests.bench.figures import Figures, Scale, alone
from tests.bench.product import Product

_FIRST_PAGE_MAX_BYTES: Final = 10_000
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: (\d+)\r\n")
_ROUNDS_MAX: Final = 6
# As Tor Browser asks.
_HEADERS: Final = (
    "User-Agent: Mozilla/5.0 (Windows NT 10.0; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
)


@dataclass
class Fetched:
    """What one page has taken."""

    requests: int = 0
    rounds: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    seen: set[str] = field(default_factory=set)


class _Needs(HTMLParser):
    """Paths without which a page is not painted."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        match tag:
            case "link" if "stylesheet" in (given.get("rel") or ""):
                self.paths.append(given.get("href") or "")
            case "iframe" | "img":
                self.paths.append(given.get("src") or "")
            case "script" if given.get("src") and given.get("type") != "module" and not {"defer", "async"} & set(given):
                self.paths.append(given.get("src") or "")
            case "meta" if (given.get("http-equiv") or "").lower() == "refresh":
                found = re.fullmatch(r"0;url=(.+)", given.get("content") or "")  # one that is followed at once
                self.paths += [found[1]] if found else []


def measure(scale: Scale) -> Figures:
    with tempfile.TemporaryDirectory() as directory, Product(Path(directory) / "data") as product:
        (token,) = product.accounts(1)
        with Line(product.port, token) as line:
            line.must("POST", "/api/v1/chat/send", {"message": "Is somebody there?"})
        first = _fetched(product.port, "/", "")
        pages = {"first_page": first, "chat": _fetched(product.port, "/chat", token)}
        pages["calm_chat"] = _fetched(product.port, "/chat/calm", token)
    assert first.requests == 1, first
    assert first.received_bytes <= _FIRST_PAGE_MAX_BYTES, first
    return {
        f"{name}_{key}": value
        for name, page in pages.items()
        for key, value in (
            ("requests", page.requests),
            ("rounds", page.rounds),
            ("received_bytes", page.received_bytes),
            ("sent_bytes", page.sent_bytes),
        )
    }


def _fetched(port: int, path: str, token: str) -> Fetched:
    told, wanted = Fetched(), [path]
    while wanted:
        told.rounds += 1
        assert told.rounds <= _ROUNDS_MAX, told
        told.seen |= set(wanted)
        found = [need for each in wanted for need in _one(port, each, token, told)]
        wanted = [need for need in dict.fromkeys(found) if need not in told.seen]
    return told


def _one(port: int, path: str, token: str, told: Fetched) -> Iterator[str]:
    """Fetch it, count it, and tell what it needs."""
    cookie = f"Cookie: veil={token}\r\n" if token else ""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{_HEADERS}{cookie}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        link.sendall(request)
        answer = b""
        while not _is_whole(answer):
            data = link.recv(65_536)
            assert data, answer[:200]
            answer += data
    assert answer.startswith(b"HTTP/1.1 200"), (path, answer[:200])
    told.requests += 1
    told.sent_bytes += len(request)
    told.received_bytes += len(answer)
    needs = _Needs()
    needs.feed(answer.partition(b"\r\n\r\n")[2].decode())
    yield from (urljoin(path, each) for each in needs.paths)


def _is_whole(answer: bytes) -> bool:
    """A live page never is: it counts up to its first heartbeat, when everything that there was has been told."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    if length is not None:
        return bool(end) and len(body) >= int(length[1])
    return b"<style nonce" in body


if __name__ == "__main__":
    alone(measure)
