"""An older database becomes one of the present schema: rehearsed on a copy, then done in one transaction.

One transaction for all steps together, so that a process that is killed leaves the old schema or the new one, and never
something between that no version knows. The files in migrations/ therefore hold plain statements: with a BEGIN and a
COMMIT of their own each step would stand by itself. Python's executescript does not begin a transaction; when a
statement fails it leaves the one that was begun open, to be rolled back here.

The rehearsal finds out what would fail (a full disk, rows that a new condition refuses, a damaged file) where it costs
nothing. Foreign keys are not enforced meanwhile, because a table that is made anew is dropped in between, which would
take along all that refers to it; they are checked before the end. What is dropped is overwritten (secure_delete).
"""

from __future__ import annotations

import contextlib
import sqlite3
from importlib import resources
from pathlib import Path
from typing import Final

from veilsupport.errors import SetupError
from veilsupport.store import snapshot

# The copy grows while it is upgraded; and so, later, do the original and its log.
_ROOM_TIMES: Final = 3

Db = sqlite3.Connection


def create(db: Db) -> None:
    """The present schema in an empty database."""
    db.executescript(f"BEGIN IMMEDIATE;\n{_text('schema.sql')}\nCOMMIT;")


def upgrade(db: Db, path: Path, *, before: int, after: int) -> None:
    """From version to version. SetupError: it would not go well, or there is too little room; nothing was changed."""
    snapshot.require_room(path.parent, _ROOM_TIMES * snapshot.size_of(path))
    with snapshot.copied(path) as copy:
        _rehearse(copy, before, after)
    _take_steps(db, before, after)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _rehearse(copy: Path, before: int, after: int) -> None:
    try:
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = OFF")  # nothing of it may lie anywhere else
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA temp_store = MEMORY")
            _take_steps(db, before, after)
            fits = _shape(db) == _fresh_shape()
        fits = snapshot.check(copy) == after and fits
    except sqlite3.Error:
        fits = False
    if not fits:
        raise SetupError(
            "The database cannot be brought to the present version; nothing was changed.",
            hint="Look at its disk. If that is well, run the version before, and report this as a bug.",
        )


def _take_steps(db: Db, before: int, after: int) -> None:
    steps = "\n".join(_text(f"migrations/{number:04}.sql") for number in range(before + 1, after + 1))
    enforced = db.execute("PRAGMA foreign_keys").fetchone()[0]
    db.execute("PRAGMA foreign_keys = OFF")  # without effect inside a transaction
    try:
        db.executescript(f"BEGIN IMMEDIATE;\n{steps}")
        if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise sqlite3.IntegrityError
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    finally:
        db.execute(f"PRAGMA foreign_keys = {enforced}")


def _text(name: str) -> str:
    return resources.files("veilsupport").joinpath(name).read_text("utf-8")


def _fresh_shape() -> object:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        create(db)
        return _shape(db)


def _shape(db: Db) -> object:
    """Every table's columns and references, every index, and the version, as SQLite understands them.

    Not the text of the tables: a column that was added later stands differently there.
    """
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    columns = {name: db.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall() for name in tables}
    references = {name: db.execute("SELECT * FROM pragma_foreign_key_list(?)", (name,)).fetchall() for name in tables}
    kinds = db.execute("SELECT name, wr, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name").fetchall()
    indexes = db.execute("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name").fetchall()
    return columns, references, kinds, indexes, db.execute("PRAGMA user_version").fetchone()
