"""The control socket: a line in, documents out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from veilsupport import controlsocket
from veilsupport.controlsocket import Document
from veilsupport.errors import SetupError


async def nothing(word: str, rest: str) -> AsyncGenerator[Document, None]:
    documents: list[Document] = []
    for document in documents:
        yield document


def test_what_was_asked_for_is_done_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only asking and answering are limited in time."""
    monkeypatch.setattr(controlsocket, "_ASKING_SECONDS", 0.05)

    async def go() -> None:
        done = asyncio.Event()

        async def slowly(word: str, rest: str) -> AsyncGenerator[Document, None]:
            await done.wait()
            yield {"word": word, "rest": rest}

        async with controlsocket.served(tmp_path / controlsocket.STATUS_SOCKET, slowly):
            asking = asyncio.create_task(asyncio.to_thread(controlsocket.ask, tmp_path, 'desk "list all"'))
            asyncio.get_running_loop().call_later(0.3, done.set)
            assert await asking == {"word": "desk", "rest": '"list all"'}

    asyncio.run(go())


def test_each_document_comes_when_it_is_known(tmp_path: Path) -> None:
    async def go() -> None:
        seen = asyncio.Event()

        async def steps(word: str, rest: str) -> AsyncGenerator[Document, None]:
            yield {"step": 1}
            await seen.wait()
            yield {"step": 2}

        loop = asyncio.get_running_loop()

        def ask() -> list[int]:
            got = []
            for document in controlsocket.ask_on(tmp_path, "doctor"):
                got.append(document["step"])
                loop.call_soon_threadsafe(seen.set)
            return got

        async with controlsocket.served(tmp_path / controlsocket.STATUS_SOCKET, steps):
            assert await asyncio.to_thread(ask) == [1, 2]

    asyncio.run(go())


def test_who_goes_away_ends_what_was_still_to_come(tmp_path: Path) -> None:
    async def go() -> None:
        ended = asyncio.Event()

        async def endlessly(word: str, rest: str) -> AsyncGenerator[Document, None]:
            try:
                while True:
                    yield {"more": "x" * 1000}
                    await asyncio.sleep(0)
            finally:
                ended.set()

        async with controlsocket.served(tmp_path / controlsocket.STATUS_SOCKET, endlessly):
            assert await asyncio.to_thread(controlsocket.ask, tmp_path, "doctor")
            async with asyncio.timeout(10):
                await ended.wait()

    asyncio.run(go())


def test_an_answer_that_breaks_off_is_not_taken_for_one(tmp_path: Path) -> None:
    async def go() -> None:
        async with controlsocket.served(tmp_path / controlsocket.STATUS_SOCKET, nothing):
            with pytest.raises(SetupError, match="has not answered"):
                await asyncio.to_thread(controlsocket.ask, tmp_path, "status")

    asyncio.run(go())


def test_nobody_else_may_open_it(tmp_path: Path) -> None:
    async def go() -> None:
        path = tmp_path / controlsocket.STATUS_SOCKET
        async with controlsocket.served(path, nothing):
            assert path.stat().st_mode & 0o777 == 0o600
        assert not path.exists()
        assert controlsocket.ask(tmp_path, "status") is None

    asyncio.run(go())


def test_the_end_of_the_block_waits_until_a_long_answer_has_tidied_up(tmp_path: Path) -> None:
    async def go() -> None:
        tidied = asyncio.Event()

        async def without_end(word: str, rest: str) -> AsyncGenerator[Document, None]:
            try:
                yield {"step": 1}
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                tidied.set()

        async with controlsocket.served(tmp_path / controlsocket.STATUS_SOCKET, without_end):
            reader, writer = await asyncio.open_unix_connection(tmp_path / controlsocket.STATUS_SOCKET)
            writer.write(b"long\n")
            await reader.readline()
        assert tidied.is_set()
        writer.close()

    asyncio.run(go())
