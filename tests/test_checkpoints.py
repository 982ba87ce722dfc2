"""The log is copied into the database beside the writer, and emptied by the writer when it has become too long."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from veilsupport.store import Store, checkpoints
from veilsupport.store.checkpoints import Checkpoints
from veilsupport.store.writer import Db, Writer

SECONDS = 20  # in which whatever is waited for must have come about
WORDS = b"copied without anybody's help"


def at_a_writer(directory: Path, story: Callable[[Writer, Path], Awaitable[None]]) -> None:
    """A writer that has nothing to erase, so that it does not empty the log on that account."""

    async def tell() -> None:
        path = directory / "database"
        writer = Writer(path)
        writer._scrub_at = None
        writer.start()
        try:
            async with asyncio.timeout(SECONDS):
                await story(writer, path)
        finally:
            writer.close()

    asyncio.run(tell())


def keeping(value: bytes) -> Callable[[Db], object]:
    return lambda db: db.execute("INSERT OR REPLACE INTO setting VALUES ('words', ?)", (value,))


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every log is worth it, and none waits."""
    monkeypatch.setattr(checkpoints, "WORTH_BYTES", 0)
    monkeypatch.setattr(checkpoints, "_PAUSE_SECONDS", 0.0)


# ---- with the writer ---------------------------------------------------------------------------------------------


def test_the_writer_itself_copies_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "WORTH_BYTES", 1 << 40)

    async def story(writer: Writer, path: Path) -> None:
        assert writer._db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        before = path.read_bytes()
        await writer.write(keeping(bytes(8 << 20)))  # twice the thousand pages at which SQLite would begin
        await writer.write(keeping(WORDS))
        assert path.read_bytes() == before

    at_a_writer(tmp_path, story)


@pytest.mark.usefixtures("often")
def test_what_was_written_comes_into_the_database_without_the_writers_help(tmp_path: Path) -> None:
    async def story(writer: Writer, path: Path) -> None:
        await writer.write(keeping(WORDS))
        while WORDS not in path.read_bytes():
            await writer.write(lambda db: None)  # each commit looks at the log
        assert writer._scrub_at is None

    at_a_writer(tmp_path, story)


def test_the_writer_empties_a_log_that_has_become_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "WORTH_BYTES", 1 << 40)  # so that nobody else does
    monkeypatch.setattr(checkpoints, "LOG_MAX_BYTES", 1 << 20)

    async def story(writer: Writer, path: Path) -> None:
        await writer.write(keeping(bytes(1 << 19)))
        assert log_of(path).stat().st_size > 1 << 19  # not yet
        await writer.write(lambda db: db.execute("INSERT INTO setting VALUES ('more', zeroblob(1 << 20))"))
        await writer.write(lambda db: db.execute("INSERT INTO setting VALUES ('last', x'00')"))  # after it is emptied
        assert log_of(path).stat().st_size < 1 << 16

    at_a_writer(tmp_path, story)


@pytest.mark.usefixtures("often")
def test_closing_ends_the_thread_and_leaves_no_log(tmp_path: Path) -> None:
    async def go() -> None:
        store = Store(tmp_path / "database")
        await store._write(keeping(WORDS))
        ours = [each for each in threading.enumerate() if isinstance(each, Checkpoints)]
        assert len(ours) == 1
        store.close()
        assert not ours[0].is_alive()
        store.close()

    asyncio.run(go())
    assert [path.name for path in tmp_path.iterdir()] == ["database"]
    assert WORDS in (tmp_path / "database").read_bytes()


# ---- by itself ---------------------------------------------------------------------------------------------------


class Beside:
    """A database with a log of one write, and the thread beside it. `tried` counts when it begins to copy."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "wal_autocheckpoint=0"):
            self.db.execute(f"PRAGMA {pragma}")
        self.db.execute("CREATE TABLE setting (name TEXT PRIMARY KEY, value BLOB)")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.tried = threading.Semaphore(0)
        self.thread = Checkpoints(path)
        self.said: list[str] = []
        self.thread._db.set_trace_callback(self._tries)
        self.thread.start()

    def _tries(self, statement: str) -> None:
        self.said.append(statement)
        self.tried.release()

    def write(self, words: bytes) -> None:
        self.db.execute("INSERT OR REPLACE INTO setting VALUES ('words', ?)", (words,))

    def look(self) -> None:
        """And let it try."""
        self.thread.look()
        assert self.tried.acquire(timeout=SECONDS)

    def look_twice(self) -> None:
        """As the second attempt begins, the first one is over."""
        self.look()
        self.look()

    def close(self) -> None:
        self.thread.close()
        self.db.close()


@pytest.fixture
def beside(tmp_path: Path, often: None) -> Iterator[Beside]:
    made = Beside(tmp_path / "database")
    yield made
    made.close()


def test_it_copies_while_the_writer_is_in_the_middle_of_something(beside: Beside) -> None:
    beside.write(WORDS)
    beside.db.execute("BEGIN IMMEDIATE")
    beside.write(b"not committed")
    beside.look_twice()
    found = beside.path.read_bytes()
    assert WORDS in found
    assert b"not committed" not in found
    beside.db.execute("ROLLBACK")
    assert set(beside.said) == {"PRAGMA wal_checkpoint(PASSIVE)"}  # any other would make the writer wait meanwhile


def test_a_log_that_is_not_worth_it_waits_and_a_longer_one_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "WORTH_BYTES", 1000)
    monkeypatch.setattr(checkpoints, "LOG_MAX_BYTES", 2000)
    log = log_of(tmp_path / "database")
    log.touch()
    looking = Checkpoints(tmp_path / "database")  # not begun, so that what is wanted stays wanted
    for length, is_wanted, is_too_long in ((1000, False, False), (1001, True, False), (2000, True, False)):
        os.truncate(log, length)
        assert looking.look() is is_too_long
        assert looking._wanted.is_set() is is_wanted
    os.truncate(log, 2001)
    assert looking.look()
    looking.close()  # which does no harm to what never began


class Patience(threading.Event):
    """Tells when somebody begins to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)


@pytest.mark.usefixtures("often")
def test_closing_ends_it_also_while_it_waits_for_work(tmp_path: Path) -> None:
    thread = Checkpoints(tmp_path / "database")
    thread._wanted = patience = Patience()
    thread.start()
    assert patience.reached.wait(SECONDS)
    closing = threading.Thread(target=thread.close, daemon=True)
    closing.start()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert not thread.is_alive()


def test_a_full_disk_does_not_end_it(beside: Beside) -> None:
    beside.write(bytes(1 << 20) + WORDS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beside.path.stat().st_size, before[1]))
    try:
        beside.look_twice()
        assert WORDS not in beside.path.read_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert beside.thread.is_alive()
    beside.look_twice()
    assert WORDS in beside.path.read_bytes()


def test_a_reader_who_holds_the_log_delays_it_and_does_not_end_it(beside: Beside) -> None:
    reader = sqlite3.connect(beside.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM setting").fetchall()
    beside.write(WORDS)
    beside.look_twice()
    assert WORDS not in beside.path.read_bytes()  # the reader still sees what was before
    reader.close()
    beside.look_twice()
    assert WORDS in beside.path.read_bytes()


def test_another_program_that_copies_at_the_same_moment_does_not_end_it(beside: Beside) -> None:
    beside.write(WORDS)
    held = f"import fcntl; f = open({str(beside.path) + '-shm'!r}, 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX, 1, 121)"
    command = [sys.executable, "-c", f"{held}; print('held', flush=True); input()"]  # sqlite.org/walformat.html, 2.3.1
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        beside.look_twice()
        assert WORDS not in beside.path.read_bytes()
        other.communicate(b"\n")
    assert beside.thread.is_alive()
    beside.look_twice()
    assert WORDS in beside.path.read_bytes()
