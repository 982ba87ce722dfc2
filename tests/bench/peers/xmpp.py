"""The references that speak XMPP: Prosody and ejabberd as relays between two clients, with and without an archive.

    with ProsodyRelay(archive="sqlite") as server:      # or EjabberdRelay; archive=None: nothing is kept
        server.accounts(500)                            # pairs, for the generator's dialect "xmpp"

They are what Debian 12 ships (besides prosody and ejabberd: lua-dbi-sqlite3, erlang-p1-sqlite3), with its defaults
wherever a benchmark needs nothing else. It needs passwords in plain and sign-in without TLS, both on loopback only, so
that thousands sign in within seconds, and a longer queue of those who come. No other servers, no rooms, no throttle.

The archive is one SQLite file. Neither server sets a pragma for it but foreign keys, so it has SQLite's defaults: a
rollback journal (journal_mode=DELETE), synchronous=FULL, a commit for each row. Each message is kept twice, for its
sender and for its receiver. ejabberd's schema is Debian's, and holds its accounts as well.

ejabberd gets the flags of Debian's `ejabberdctl`, which leave the number of schedulers to Erlang: one for each
processor, of which one is online, because the process may run on one alone.

    python -m tests.bench.peers.xmpp        checks them all
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any, Final, Literal, cast

from tests.bench.processes import SERVER_CORE, Generator, pinned
from tests.bench.surroundings import prepare
from tests.live.ejabberd import Ejabberd
from tests.live.prosody import Prosody
from tests.live.xmppserver import XmppServer

Archive = Literal["sqlite"]

_PASSWORD: Final = "for the benchmark"
_BACKLOG: Final = 1024  # theirs are 128 and 5: of many who come at once, some would wait for TCP to try again
_PROSODY_FIRST: Final = f"network_settings = {{ tcp_backlog = {_BACKLOG} }}\n"
_PROSODY_HOST: Final = """\
    authentication = "internal_plain"
    allow_unencrypted_plain_auth = true
    storage = {{ archive = "sql" }}
    sql = {{ driver = "SQLite3", database = "{file}" }}
"""
_EJABBERD_SCHEMA: Final = Path("/usr/share/ejabberd/sql/lite.sql")
_EJABBERD_FLAGS: Final = "+K true +P 250000"


class Relay(XmppServer):
    """What both have in common, and the harness asks of every reference."""

    name: str
    dialect: Final = "xmpp"
    table: str
    column: str

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def file(self) -> Path:
        return self.directory / "relay.sqlite"

    def accounts(self, many: int) -> list[list[str]]:
        """So many pairs: sender, password, receiver, password. Those of a call before are made no second time."""
        names = [f"{side}{number}" for number in range(many) for side in ("sender", "receiver")]
        self._make_accounts(names)
        jids = map(self.jid, names)
        return [[sender, _PASSWORD, receiver, _PASSWORD] for sender, receiver in zip(jids, jids, strict=True)]

    def archived(self, text: str) -> int:
        """How many rows of the archive have that text in them; each message has two."""
        question = f"SELECT count(*) FROM {self.table} WHERE {self.column} LIKE ?"  # noqa: S608 - constants
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            return cast(int, database.execute(question, (f"%{text}%",)).fetchone()[0])

    def _make_accounts(self, names: list[str]) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        return [*pinned(SERVER_CORE), *super()._command()]


class ProsodyRelay(Relay, Prosody):
    table, column = "prosodyarchive", "value"

    def __init__(self, *, archive: Archive | None) -> None:
        super().__init__(accounts={}, without=() if archive else ("mam",), plaintext=True, rooms=False)
        self.name = f"Prosody, {_words(archive)}"
        path = self.directory / "prosody.cfg.lua"  # it ends within the host
        path.write_text(_PROSODY_FIRST + path.read_text() + _PROSODY_HOST.format(file=self.file))

    def _make_accounts(self, names: list[str]) -> None:
        for name in names:
            self.add_account(name, _PASSWORD)


class EjabberdRelay(Relay, Ejabberd):
    table, column = "archive", "xml"

    def __init__(self, *, archive: Archive | None) -> None:
        super().__init__(accounts={}, without=() if archive else ("mam",), plaintext=True, rooms=False)
        self.name = f"ejabberd, {_words(archive)}"
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            database.executescript(_EJABBERD_SCHEMA.read_text())
        path = self.directory / "ejabberd.yml"
        config: dict[str, Any] = json.loads(path.read_text())
        config |= {"sql_type": "sqlite", "sql_database": str(self.file)}
        config |= {"auth_method": "sql", "auth_password_format": "plain"}
        for listener in config["listen"]:
            listener["backlog"] = _BACKLOG
        if archive:
            config["modules"]["mod_mam"] |= {"db_type": "sql"}
        path.write_text(json.dumps(config))

    def _make_accounts(self, names: list[str]) -> None:
        rows = [(name, _PASSWORD) for name in names]
        with contextlib.closing(sqlite3.connect(self.file, timeout=30)) as database, database:
            database.executemany("INSERT OR IGNORE INTO users (username, password) VALUES (?, ?)", rows)

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "ERL_FLAGS": _EJABBERD_FLAGS}


def _words(archive: Archive | None) -> str:
    return "archive in SQLite" if archive else "no archive"


# ---- the check ---------------------------------------------------------------------------------------------------


def _check(server: Relay, *, archives: bool) -> None:
    """AssertionError: it does not do what it is measured for."""
    with server, Generator() as load:
        accounts = server.accounts(10)
        opened = load.do("open", dialect="xmpp", host="127.0.0.1", port=server.port, accounts=accounts, devices=2)
        assert not opened["failed"], opened["failed"]
        out = load.do("paced", seconds=1, per_second=100)
        said, seen = {number for number, _ in out["said"]}, [number for number, _ in out["seen"]]
        assert len(said) == 100, f"{len(said)} were said"
        assert sorted(seen) == sorted(said), f"{len(seen)} arrived of {len(said)}"
        if archives:
            kept = [server.archived(f"<body>c{number}. ") for number in said]
            assert set(kept) == {2}, f"in the archive: {kept}"
    end = ", each twice in its file" if archives else ""
    print(f"{server.name}: {len(seen)} messages of 10 pairs arrived{end}")


def main() -> None:
    prepare()
    for make in (ProsodyRelay, EjabberdRelay):
        _check(make(archive="sqlite"), archives=True)
        _check(make(archive=None), archives=False)


if __name__ == "__main__":
    main()
