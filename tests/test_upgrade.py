"""From an older schema to the present one: rehearsed, whole or not at all, and nothing left of what went."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_store import OLD_ROWS, contents, shape
from veilsupport.errors import SetupError
from veilsupport.store import SCHEMA_VERSION, Store, snapshot, upgrade

OLDER = range(1, SCHEMA_VERSION)
GONE = b"MARKgone"


def sized(path: Path, version: int, *, messages: int = 3000) -> None:
    """A database of that version, large enough for its upgrade to take a while, with something in every old table."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA secure_delete = ON")
        db.executescript((Path(__file__).parent / f"schema-{version}.sql").read_text())
        for table, row in OLD_ROWS:
            kinds = dict(db.execute("SELECT name, type FROM pragma_table_info(?)", (table,)))
            values = {name: fitting(value, kinds[name]) for name, value in row.items() if name in kinds}
            marks = ", ".join("?" * len(values))
            db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", [*values.values()])  # noqa: S608
        [conversation] = db.execute("SELECT conversation FROM message LIMIT 1").fetchone()
        rows = [(f"x-{n}", n) for n in range(messages)]
        db.executemany(
            "INSERT INTO delivery (stanza_id, admin, kind, conversation, seq, state, made_minute, due_minute, refusals,"
            " sealed) VALUES (?, zeroblob(32), 'message', ?, ?, 'due', 1, 0, 0, randomblob(300))",
            [(stanza_id, conversation, 1000 + n) for stanza_id, n in rows],
        )
        db.commit()


def fitting(value: object, kind: str) -> object:
    return value.encode() if kind == "BLOB" and isinstance(value, str) else value


def version_of(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        number: int = db.execute("PRAGMA user_version").fetchone()[0]
    return number


def beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


@pytest.mark.parametrize("version", OLDER)
def test_each_older_version_becomes_the_present_one(version: int, tmp_path: Path) -> None:
    path, fresh = tmp_path / "old.sqlite", tmp_path / "fresh.sqlite"
    sized(path, version)
    before = contents(path)
    Store(path).close()
    Store(fresh).close()
    assert shape(path) == shape(fresh)
    after = contents(path)
    assert {table: len(rows) for table, rows in before.items()} == {table: len(after[table]) for table in before}
    assert beside(path) == ["fresh.sqlite", "old.sqlite"]  # neither a copy nor a log


def test_every_version_that_was_released_has_its_schema_here() -> None:
    here = Path(__file__).parent
    assert all((here / f"schema-{version}.sql").exists() for version in OLDER)
    assert f"user_version = {SCHEMA_VERSION};" in upgrade._text("schema.sql")


@pytest.mark.parametrize("version", OLDER)
def test_steps_are_one_transaction(version: int) -> None:
    words = upgrade._text(f"migrations/{version + 1:04}.sql").upper().split()
    assert not {"BEGIN;", "BEGIN", "COMMIT;", "COMMIT", "END;", "ROLLBACK;", "VACUUM;"} & set(words)


@pytest.mark.parametrize("version", OLDER)
def test_killed_at_any_moment_it_is_the_old_one_or_the_new_one(version: int, tmp_path: Path) -> None:
    pattern = tmp_path / "pattern.sqlite"
    sized(pattern, version)
    old, took = shape(pattern), seconds_of(pattern, tmp_path)
    fresh = tmp_path / "fresh.sqlite"
    Store(fresh).close()
    found = set()
    for number in range(14):
        path = tmp_path / f"{number}" / "x.sqlite"
        path.parent.mkdir()
        path.write_bytes(pattern.read_bytes())
        killed_after(took * (number + random.random()) / 12, path)
        found.add(version_of(path))
        assert shape(path) == (shape(fresh) if version_of(path) == SCHEMA_VERSION else old)
        Store(path).close()
        assert shape(path) == shape(fresh)
        assert beside(path) == ["x.sqlite"]
    assert version in found  # or it was never killed in time


def begun(path: Path) -> subprocess.Popen[str]:
    program = (
        "import sys; from pathlib import Path; from veilsupport.store import Store; print('go', flush=True);"
        " Store(Path(sys.argv[1])); print('done', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    return child


def seconds_of(pattern: Path, tmp_path: Path) -> float:
    path = tmp_path / "timed.sqlite"
    path.write_bytes(pattern.read_bytes())
    with begun(path) as child:
        assert child.stdout is not None
        started = time.monotonic()
        assert child.stdout.readline() == "done\n"
        took = time.monotonic() - started
        child.kill()
    return took


def killed_after(seconds: float, path: Path) -> None:
    with begun(path) as child:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        child.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("version", OLDER)
def test_what_would_fail_is_found_out_on_the_copy(version: int, tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    sized(path, version, messages=10)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE stranger (x)")
        db.commit()
    before = contents(path)
    with pytest.raises(SetupError, match="nothing was changed"):
        Store(path)
    assert contents(path) == before
    assert version_of(path) == version
    assert beside(path) == ["old.sqlite"]


def test_rows_that_belong_to_nothing_are_not_carried_over(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    sized(path, 1, messages=10)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO session VALUES (zeroblob(32), x'00', x'00', NULL, 1)")
        db.commit()
    with pytest.raises(SetupError, match="nothing was changed"):
        Store(path)
    assert version_of(path) == 1


def test_damaged_database_is_not_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    sized(path, 3)
    raw = path.read_bytes()
    path.write_bytes(raw[:40_960] + os.urandom(4096) + raw[45_056:])
    damaged = path.read_bytes()
    with pytest.raises(SetupError):
        Store(path)
    assert path.read_bytes() == damaged
    assert not snapshot.copy_path(path).exists()


def test_disk_with_too_little_room_is_named_with_what_it_needs(tmp_path: Path) -> None:
    """A database in a file with a hole of two terabytes at its end."""
    path = tmp_path / "old.sqlite"
    sized(path, 1, messages=10)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(2 << 40)
    with pytest.raises(SetupError, match="too little room") as caught:
        Store(path)
    assert "6597070 MB" in caught.value.hint
    assert path.stat().st_size == 2 << 40
    with path.open("r+b") as file:
        file.truncate(size)
    assert version_of(path) == 1
    Store(path).close()


def test_full_disk_in_the_middle_leaves_the_old_one(tmp_path: Path) -> None:
    """A process that may not write longer files stands for a disk that takes no more."""
    path = tmp_path / "old.sqlite"
    sized(path, 1)
    before = contents(path)
    size = path.stat().st_size
    for limit in (size // 2, size + 4096):  # the copy does not fit; it cannot grow
        program = (
            "import resource, sys; from pathlib import Path; from veilsupport.errors import SetupError;"
            " from veilsupport.store import Store\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            "try: Store(Path(sys.argv[1]))\nexcept SetupError: sys.exit(2)"
        )
        assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == 2
        assert contents(path) == before
        assert beside(path) == ["old.sqlite"]


def test_nothing_of_what_was_forgotten_or_moved_stays_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    sized(path, 2)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA secure_delete = ON")
        db.execute("UPDATE delivery SET sealed = ? WHERE stanza_id LIKE 'x-%'", (GONE * 40,))
        db.commit()
        db.execute("UPDATE delivery SET sealed = NULL WHERE stanza_id LIKE 'x-%'")
        db.execute("UPDATE delivery SET sealed = ? WHERE stanza_id = 'x-7'", (GONE * 40,))
        db.commit()
    store = Store(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA secure_delete = ON")
        db.execute("DELETE FROM delivery WHERE stanza_id = 'x-7'")
        db.commit()
    store.close()
    assert GONE not in path.read_bytes()


def test_log_is_empty_when_the_upgraded_store_begins(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    sized(path, 1)

    async def go() -> None:
        store = Store(path)
        log = path.with_name(path.name + "-wal")
        assert log.stat().st_size == 0
        store.close()

    asyncio.run(go())


def test_copy_of_the_rehearsal_goes_with_zeros_over_it(tmp_path: Path) -> None:
    """Held open by name before, it is seen to be empty after."""
    path = tmp_path / "old.sqlite"
    sized(path, 1)
    with begun_and_seen_at_the_copy(path) as handle:
        assert os.pread(handle, 16, 0) in (b"SQLite format 3\0", b"", bytes(16))
    assert not os.pread(handle, 1 << 24, 0).strip(b"\0")
    os.close(handle)


@contextlib.contextmanager
def begun_and_seen_at_the_copy(path: Path) -> Iterator[int]:
    """An upgrade that ends well within the block's end; gives the copy's file descriptor."""
    child = begun(path)
    handle = -1
    while handle < 0 and child.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(snapshot.copy_path(path), os.O_RDONLY)
    assert handle >= 0
    yield handle
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "done\n"
    child.communicate("\n")
