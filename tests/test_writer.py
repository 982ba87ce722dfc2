"""The writer's thread by itself: what waits is always answered, and truly."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from veilsupport.errors import Duplicate, StoreError
from veilsupport.store import checkpoints
from veilsupport.store.writer import Db, Writer


def at_a_writer(directory: Path, story: Callable[[Writer], Awaitable[None]]) -> None:
    """`story` with a writer whose thread begins when it is told to, so that all that waits is one batch."""

    async def tell() -> None:
        writer = Writer(directory / "database")
        try:
            await story(writer)
        finally:
            if writer.ident is None:
                writer.start()
            writer.close()

    asyncio.run(tell())


async def in_one_batch(writer: Writer, *works: Callable[[Db], Any]) -> list[Any]:
    waiting = [asyncio.ensure_future(writer.write(work)) for work in works]
    await asyncio.sleep(0)
    writer.start()
    return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)


def kept(db: Db) -> None:
    db.execute("INSERT INTO setting VALUES ('kept', x'01')")


def twice(db: Db) -> None:
    raise Duplicate("It is there already.")


def disk_is_full(db: Db) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def memory_is_full(db: Db) -> None:
    """As SQLite says it: the transaction is gone."""
    db.execute("ROLLBACK")
    raise MemoryError


def test_nobody_is_told_of_a_duplicate_of_what_was_not_kept(tmp_path: Path) -> None:
    async def story(writer: Writer) -> None:
        results = await in_one_batch(writer, kept, twice, disk_is_full)
        assert [type(each) for each in results] == [StoreError] * 3
        assert not writer.keeps
        await writer.write(kept)
        assert writer.keeps

    at_a_writer(tmp_path, story)


def test_memory_that_is_used_up_reaches_all_who_wait_and_the_next_write_is_kept(tmp_path: Path) -> None:
    async def story(writer: Writer) -> None:
        results = await in_one_batch(writer, kept, memory_is_full, kept)
        assert [type(each) for each in results] == [MemoryError] * 3
        await writer.write(kept)

    at_a_writer(tmp_path, story)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_nobody_expected_is_told_to_all_who_wait_and_to_whoever_comes_later(tmp_path: Path) -> None:
    async def story(writer: Writer) -> None:
        go_on = threading.Event()

        def bug(writes: int, seconds: float, kept: bool) -> None:
            go_on.wait(10)
            raise ZeroDivisionError

        writer.on_commit = bug
        first = asyncio.ensure_future(writer.write(kept))
        writer.start()
        await asyncio.sleep(0)
        second = asyncio.ensure_future(writer.write(kept))
        await asyncio.sleep(0)
        go_on.set()
        results = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 10)
        assert [type(each) for each in results] == [ZeroDivisionError] * 2
        await asyncio.to_thread(writer.join)
        with pytest.raises(RuntimeError, match="thread has ended"):
            await writer.write(kept)

    at_a_writer(tmp_path, story)


def test_a_long_log_that_another_program_holds_is_not_waited_for_at_every_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup may read for minutes. Each attempt waits a quarter of a second for it."""
    monkeypatch.setattr(checkpoints, "LOG_MAX_BYTES", 0)
    tried: list[str] = []

    async def story(writer: Writer) -> None:
        writer._db.set_trace_callback(tried.append)
        with contextlib.closing(sqlite3.connect(tmp_path / "database", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM setting").fetchall()
            writer._scrub_at = None
            writer.start()
            for _ in range(4):
                await writer.write(lambda db: db.execute("INSERT OR REPLACE INTO setting VALUES ('kept', x'01')"))
            assert [each for each in tried if "TRUNCATE" in each] == ["PRAGMA wal_checkpoint(TRUNCATE)"]

    at_a_writer(tmp_path, story)
