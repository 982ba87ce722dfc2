"""Whether each reference does what it is said to do: acks once, tells the other device once, keeps, and seals.

python -m tests.bench.peers [NAME…]
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import nacl.bindings

from tests.bench.dialects import DIALECTS, Http, Link
from tests.bench.peers import accounts
from tests.bench.peers.servers import REFERENCES, Echo, Reference
from tests.bench.surroundings import prepare

_ACCOUNTS: Final = 10
_MESSAGES: Final = 100
_MARK: Final = "plain-words-that-nobody-else-says"
_WAIT_SECONDS: Final = 10.0
_LATE_SECONDS: Final = 0.5  # for what comes twice


class Tally:
    """Counts what the links tell."""

    def __init__(self) -> None:
        self.acked: Counter[int] = Counter()
        self.shown: Counter[int] = Counter()
        self.gone = 0

    def accepted(self, number: int) -> None:
        self.acked[number] += 1

    def seen(self, number: int) -> None:
        self.shown[number] += 1

    def lost(self, link: Link) -> None:
        self.gone += 1


def text_of(number: int) -> str:
    return f"c{number}. {_MARK} {'x' * 150}"


async def talk(server: Reference, tokens: list[str]) -> Tally:
    tally = Tally()
    job: dict[str, Any] = {"host": "127.0.0.1", "port": server.port}
    devices = 1 if server.dialect == "echo" else 2
    links = [DIALECTS[server.dialect](tally, token, device, job) for token in tokens for device in range(devices)]
    async with asyncio.timeout(_WAIT_SECONDS):
        await asyncio.gather(*(link.connect() for link in links))
    senders = [link for link in links if link.device == 0]
    for number in range(1, _MESSAGES + 1):
        senders[number % _ACCOUNTS].say(number, text_of(number))
    await _until(lambda: len(tally.acked) == _MESSAGES and (devices == 1 or len(tally.shown) == _MESSAGES))
    if server.takes_posts:
        await _post(tally, tokens[0], job)
    await asyncio.sleep(_LATE_SECONDS)
    for link in links:
        link.leave(abrupt=False)
    await asyncio.sleep(0.1)
    return tally


async def _post(tally: Tally, token: str, job: dict[str, Any]) -> None:
    """One more message, by HTTP. Both devices of its account are to see it: it came from neither."""
    link = Http(tally, token, 0, job)
    async with asyncio.timeout(_WAIT_SECONDS):
        await link.connect()
    link.say(_MESSAGES + 1, text_of(_MESSAGES + 1))
    await _until(lambda: bool(tally.acked[_MESSAGES + 1]) and tally.shown[_MESSAGES + 1] == 2)
    link.leave(abrupt=False)


async def _until(holds: Callable[[], bool]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_WAIT_SECONDS):
            while not holds():
                await asyncio.sleep(0.01)


def check_told(server: Reference, tally: Tally) -> None:
    once = dict.fromkeys(range(1, _MESSAGES + 1), 1)
    posted = [_MESSAGES + 1] if server.takes_posts else []
    acks = Counter(once | dict.fromkeys(posted, 1))
    assert tally.acked == acks, f"{tally.acked.total()} acks for {acks.total()} messages, {len(tally.acked)} of them"
    if server.dialect != "echo":
        shown = Counter(once | dict.fromkeys(posted, 2))
        assert tally.shown == shown, f"seen {tally.shown.total()} times, {len(tally.shown)} messages"
    assert tally.gone == 0, f"{tally.gone} connections were lost"


def check_kept(server: Reference) -> None:
    """Each message has its row, the row is whole, and nobody reads it who should not."""
    expected = {text_of(number) for number in range(1, _MESSAGES + 1 + server.takes_posts)}
    files = [path.read_bytes() for path in server.directory.iterdir() if path.name.startswith(server.database.name)]
    has_plain = any(_MARK.encode() in each for each in files)
    assert files, "there is no database"
    assert has_plain != server.seals, "the plain text is in the file" if has_plain else "nothing is in the file"
    with contextlib.closing(sqlite3.connect(server.database)) as database:
        if server.seals:
            kept = opened(server, database)
            held = database.execute("SELECT count(*) FROM outbox").fetchone()[0]
            assert held == len(expected), f"{held} rows in the outbox"
        else:
            kept = [text for (text,) in database.execute(f"SELECT content FROM {server.keeps}")]  # noqa: S608 - ours
    assert len(kept) == len(expected), f"{len(kept)} rows for {len(expected)} messages"
    assert set(kept) == expected, "what is kept is not what was said"


def opened(server: Reference, database: sqlite3.Connection) -> list[str]:
    """What the owners read with their private keys."""
    owners = {bytes.fromhex(accounts.hash_of(owner.token))[:16]: owner for owner in server.owners}
    texts = []
    for conversation, sealed in database.execute("SELECT conversation, sealed FROM message"):
        owner = owners[conversation]
        padded = nacl.bindings.crypto_box_seal_open(sealed, owner.public_key, owner.private_key)
        assert len(padded) % 256 == 0
        texts.append(nacl.bindings.sodium_unpad(padded, 256).decode())
    return texts


def check(kind: type[Reference]) -> None:
    with kind(most=_ACCOUNTS) as server:
        check_told(server, asyncio.run(talk(server, server.accounts(_ACCOUNTS))))
        if server.keeps is not None:
            check_kept(server)
        if kind is Echo:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/hello", timeout=5) as answer:
                assert answer.read() == b"hello"
        words = server.errors.read_text()
        assert not words, f"it complained: {words[-2000:]}"


def main() -> None:
    prepare()
    names = sys.argv[1:]
    for kind in REFERENCES:
        if not names or kind.name in names:
            check(kind)
            print(f"{kind.name}: as it should be", flush=True)


if __name__ == "__main__":
    main()
