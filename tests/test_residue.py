"""residue by itself: what SQLite leaves between rows goes, and nothing else does."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from veilsupport.store.residue import Residue

ROWS = 1500


def filled(path: Path, page_bytes: int) -> tuple[sqlite3.Connection, list[bytes], list[tuple[bytes, int, bytes]]]:
    """Rows of many lengths in any order, a third of them deleted again: (database, the deleted, the others)."""
    chance = random.Random(7)
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in (f"page_size={page_bytes}", "journal_mode=WAL", "secure_delete=ON", "synchronous=OFF"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE message (place BLOB, seq INTEGER, sealed BLOB, PRIMARY KEY (place, seq)) WITHOUT ROWID")
    db.execute("CREATE TABLE plain (n INTEGER PRIMARY KEY, words BLOB)")
    db.execute("CREATE INDEX by_words ON plain (words)")
    rows = [
        (chance.randbytes(16), number, chance.randbytes(chance.choice([40, 350, 606, 1500]))) for number in range(ROWS)
    ]
    db.executemany("INSERT INTO message VALUES (?, ?, ?)", rows)
    db.executemany("INSERT INTO plain VALUES (?, ?)", [(number, place) for place, number, _ in rows])
    gone, stay = rows[: ROWS // 3], rows[ROWS // 3 :]
    db.executemany("DELETE FROM message WHERE place = ? AND seq = ?", [row[:2] for row in gone])
    db.executemany("DELETE FROM plain WHERE n = ?", [row[1:2] for row in gone])
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return db, [sealed for _, _, sealed in gone], stay


def left(path: Path, gone: list[bytes]) -> int:
    """How many of them, in part at least, are in the file."""
    whole = path.read_bytes()
    row_of = {row[start : start + 8]: row for row in gone for start in range(0, len(row) - 7, 8)}
    return len({row_of[piece] for at in range(len(whole) - 7) if (piece := whole[at : at + 8]) in row_of})


@pytest.mark.parametrize("page_bytes", [1024, 4096, 65_536])
def test_what_lay_between_the_rows_goes_and_the_rows_stay(tmp_path: Path, page_bytes: int) -> None:
    path = tmp_path / "db"
    db, gone, stay = filled(path, page_bytes)
    before = left(path, gone)
    residue = Residue(path)
    residue.begin()
    while residue.is_left:
        residue.step(db)
    assert page_bytes != 4096 or before > 0  # secure_delete alone does not do it
    assert left(path, gone) == 0
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert sorted(db.execute("SELECT * FROM message")) == sorted(stay)
    db.execute("UPDATE message SET sealed = randomblob(length(sealed))")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert left(path, gone) == 0  # nor does it come back out of SQLite's memory
    db.close()
    again = sqlite3.connect(path)
    assert again.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    again.close()
    residue.close()


def test_a_file_whose_log_is_not_empty_or_that_is_locked_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    db, _, _ = filled(path, 4096)
    db.execute("PRAGMA busy_timeout = 1")
    residue = Residue(path)
    residue.begin()
    db.execute("INSERT INTO plain VALUES (99999, x'00')")
    before = path.read_bytes()
    residue.step(db)
    assert path.read_bytes() == before
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stranger = sqlite3.connect(path, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    before = path.read_bytes()
    residue.step(db)
    assert path.read_bytes() == before
    stranger.close()
    assert residue.is_left
    db.close()
    residue.close()


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(bytes([10]) * 100_000)
    residue = Residue(path)
    residue.begin()
    memory = sqlite3.connect(":memory:", isolation_level=None)
    residue.step(memory)
    memory.close()
    assert path.read_bytes() == bytes([10]) * 100_000
    assert not residue.is_left
    residue.close()
