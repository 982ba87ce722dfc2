"""Backups by themselves: what goes in comes out, nothing else opens them, and whatever is wrong changes nothing.

That a restored desk answers at the same address is tests/live/test_moving.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_store import added, message, visitor
from veilsupport import crypto
from veilsupport.cli.backup import backup as backup_command
from veilsupport.cli.backup import restore as restore_command
from veilsupport.cli.terminal import complain
from veilsupport.crypto import ApplianceKey, Cost
from veilsupport.directory import DATABASE, KEY, ONION_KEY, RESTORED, DataDirectory, Onion
from veilsupport.errors import SetupError
from veilsupport.model import Private
from veilsupport.moving import backup, sealedfile
from veilsupport.moving.sealedfile import OpenedFile, SealingFile
from veilsupport.store import SCHEMA_VERSION, Store, snapshot

WORD = Private("correct horse")
CHEAP = Cost(passes=1, memory_kib=8)
COPY = f"{DATABASE}.copy"


def desk(data: Path, *, passphrase: Private | None = None) -> ApplianceKey:
    """A data directory with everything in it, as a stopped desk leaves it."""
    with DataDirectory(data) as house:
        key = house.key(lambda: None, first=passphrase)
        house.onion(Onion.PAGE, key)
        house.onion(Onion.XMPP, key)
        (data / "veilsupport.toml").write_text('[desk]\nname = "Night desk"\n')

        async def fill() -> None:
            store = Store(house.database)
            await added(store, 1, "heron-42", "s1")
            store.close()

        asyncio.run(fill())
    return key


def made(data: Path, file: Path) -> backup.Manifest:
    return backup.make(data, file, WORD, now=6000.0, cost=CHEAP)


def kept(data: Path) -> dict[str, bytes]:
    """Every file of a directory by its name, less what each start makes anew."""
    files = {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert not files.pop(f"{DATABASE}-wal", b"")  # whoever read last leaves it, empty
    return {name: content for name, content in files.items() if name not in {"lock", RESTORED, f"{DATABASE}-shm"}}


def without_counters(files: dict[str, bytes]) -> dict[str, bytes]:
    """Less what the head of a database says of logs and of how often it was written (fileformat2 §1.3)."""
    database = bytearray(files[DATABASE])
    for begin, end in ((18, 20), (24, 28), (40, 44), (92, 100)):
        database[begin:end] = bytes(end - begin)
    return files | {DATABASE: bytes(database)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("whole")
    desk(directory / "data")
    made(directory / "data", directory / "b")
    return (directory / "b").read_bytes()


# ---- there and back ----------------------------------------------------------------------------------------------


def test_restored_directory_holds_what_the_backup_was_made_of(tmp_path: Path) -> None:
    data, file, house = tmp_path / "data", tmp_path / "desk.backup", tmp_path / "house"
    desk(data)
    before = kept(data)
    manifest = made(data, file)
    assert (manifest.made_minute, manifest.schema) == (100, SCHEMA_VERSION)
    assert kept(data) == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restored = backup.restore(file, house, WORD)
    assert without_counters(kept(house)) == without_counters(before)
    assert restored.manifest == manifest
    assert restored.address == crypto.onion_address(before[f"tor/onion/{ONION_KEY}"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in house.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (house, house / "tor")} == {0o700}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "desk.backup", "house"]
    with DataDirectory(house) as again:
        assert again.is_restored
        store = Store(again.database)
        assert [each.seq for each in store.messages(visitor(1).id, before=None, limit=9)] == [1]
        store.close()


def test_appliance_under_a_passphrase_is_backed_up_without_it(tmp_path: Path) -> None:
    key = desk(tmp_path / "data", passphrase=Private("open sesame"))
    before = kept(tmp_path / "data")
    made(tmp_path / "data", tmp_path / "b")
    assert backup.restore(tmp_path / "b", tmp_path / "house", WORD).address is None
    assert without_counters(kept(tmp_path / "house")) == without_counters(before)
    with DataDirectory(tmp_path / "house") as house:
        assert house.key(lambda: Private("open sesame")) == key
        assert (house.onion(Onion.PAGE, key) / ONION_KEY).is_file()


def test_backup_says_nothing_of_what_is_in_it(tmp_path: Path) -> None:
    desk(tmp_path / "data")
    inside = kept(tmp_path / "data")
    made(tmp_path / "data", tmp_path / "b")
    raw = (tmp_path / "b").read_bytes()
    for mark in (b"heron-42", b"Night desk", b"SQLite format", KEY.encode(), inside[f"tor/onion/{ONION_KEY}"][32:]):
        assert mark not in raw


@given(st.integers(0, 1 << 42))
def test_length_of_a_backup_shows_that_of_its_content_only_roughly(count: int) -> None:
    length = sealedfile.filled(count)
    assert length % sealedfile.CHUNK_BYTES == 0
    assert count <= length <= max(count * 1.125, 1 << 20)
    assert bin(length).rstrip("0").count("0") + bin(length).count("1") <= 8


def test_verify_reads_it_to_its_end_and_restores_nothing(tmp_path: Path) -> None:
    desk(tmp_path / "data")
    manifest = made(tmp_path / "data", tmp_path / "b")
    before = sorted(tmp_path.rglob("*"))
    assert backup.verify(tmp_path / "b", WORD) == manifest
    assert sorted(tmp_path.rglob("*")) == before


def test_data_directory_of_a_checkout_keeps_its_explanation(tmp_path: Path) -> None:
    desk(tmp_path / "data")
    made(tmp_path / "data", tmp_path / "b")
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "README.md").write_text("what lies here")
    backup.restore(tmp_path / "b", tmp_path / "house", WORD)
    assert (tmp_path / "house" / "README.md").read_text() == "what lies here"
    assert (tmp_path / "house" / KEY).is_file()


# ---- the database, while somebody writes ---------------------------------------------------------------------------


def test_backup_beside_a_busy_writer_loses_nothing_and_stops_nobody(tmp_path: Path) -> None:
    """A process of its own takes it, as it does from the command line."""
    desk(tmp_path / "data")

    async def go() -> None:
        store = Store(tmp_path / "data" / DATABASE)
        going, accepted = True, 0

        async def write() -> None:
            nonlocal accepted
            while going:
                kept = await asyncio.gather(*(store.add_message(visitor(1).id, message(b"m"), minute=1) for _ in "123"))
                accepted = max(each.seq for each in kept)

        writers = [asyncio.create_task(write()) for _ in range(3)]
        for number in range(3):
            while accepted < 300 * (number + 1):
                await asyncio.sleep(0.001)
            promised = accepted
            await backed_up_elsewhere(tmp_path / "data", tmp_path / f"b{number}")
            backup.restore(tmp_path / f"b{number}", tmp_path / f"house{number}", WORD)
            assert promised <= last_message(tmp_path / f"house{number}")
        going = False
        await asyncio.gather(*writers)  # none of them has failed
        store.close()

    asyncio.run(go())


def test_what_was_burned_is_neither_in_the_backup_nor_in_the_copy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    desk(data)

    async def go() -> None:
        store = Store(data / DATABASE)
        for number in range(2, 40):
            new = visitor(number)
            first = message(b"MARKburned" * 40)
            await store.add_visitor(new, minute=1, first=first, aliases=iter([f"heron-{number}"]))
        for number in range(2, 40):
            await store.burn(visitor(number).id, minute=2, retract=lambda stanza, admin: None)
        with snapshot.copied(data / DATABASE) as copy:
            assert b"MARKburned" not in copy.read_bytes()
            assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        made(data, tmp_path / "b")
        store.close()

    asyncio.run(go())
    backup.restore(tmp_path / "b", tmp_path / "house", WORD)
    assert b"MARKburned" not in (tmp_path / "house" / DATABASE).read_bytes()


def test_copy_goes_with_zeros_over_it(tmp_path: Path) -> None:
    desk(tmp_path / "data")
    with snapshot.copied(tmp_path / "data" / DATABASE) as copy:
        assert copy.name == COPY
        handle = os.open(copy, os.O_RDONLY)
        assert b"heron-42" in os.pread(handle, 1 << 22, 0)
    assert not os.pread(handle, 1 << 22, 0).strip(b"\0")
    os.close(handle)
    assert not copy.exists()


def test_copy_of_a_killed_backup_goes_at_the_next_start_or_backup(tmp_path: Path) -> None:
    data = tmp_path / "data"
    desk(data)
    for clears in (lambda: Store(data / DATABASE).close(), lambda: made(data, tmp_path / "b")):
        (data / COPY).write_bytes(b"heron-42" * 1000)
        handle = os.open(data / COPY, os.O_RDONLY)
        clears()
        assert not (data / COPY).exists()
        assert not os.pread(handle, 1 << 20, 0).strip(b"\0")
        os.close(handle)


def test_copy_that_is_in_use_is_nobody_elses(tmp_path: Path) -> None:
    data = tmp_path / "data"
    desk(data)
    with snapshot.copied(data / DATABASE) as copy:
        before = copy.read_bytes()
        Store(data / DATABASE).close()  # a desk that starts meanwhile
        with pytest.raises(SetupError, match="just now"):
            made(data, tmp_path / "b")
        assert copy.read_bytes() == before


def test_database_of_a_killed_desk_is_backed_up_with_what_stands_in_its_log_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    desk(data)
    program = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.test_store import message, visitor
from veilsupport.store import Store
async def go():
    store = Store(Path(sys.argv[1]))
    await store.add_message(visitor(1).id, message(b"m"), minute=1)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(go())
"""
    subprocess.run([sys.executable, "-c", program, str(data / DATABASE)], check=False)
    assert (data / f"{DATABASE}-wal").stat().st_size > 0
    made(data, tmp_path / "b")
    backup.restore(tmp_path / "b", tmp_path / "house", WORD)
    assert last_message(tmp_path / "house") == 2


async def backed_up_elsewhere(data: Path, file: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.test_backup import made;"
        " made(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(data), str(file))
    assert await child.wait() == 0


def last_message(data: Path) -> int:
    with contextlib.closing(sqlite3.connect(data / DATABASE)) as db:
        number: int = db.execute("SELECT max(seq) FROM message").fetchone()[0]
    return number


# ---- what is wrong with it -----------------------------------------------------------------------------------------


def refused(raw: bytes, tmp_path: Path, passphrase: Private = WORD) -> str:
    """What both `verify` and `restore` say of that file; and neither has changed anything."""
    file = tmp_path / "refused"
    file.write_bytes(raw)
    before = sorted(tmp_path.rglob("*"))
    said = []
    for attempt in (lambda: backup.verify(file, passphrase), lambda: backup.restore(file, tmp_path / "no", passphrase)):
        with pytest.raises(SetupError) as caught:
            attempt()
        said.append(caught.value.message)
    assert sorted(tmp_path.rglob("*")) == before
    assert said[0] == said[1]
    return said[0]


def test_wrong_passphrase_and_damage_are_told_apart(whole: bytes, tmp_path: Path) -> None:
    assert "passphrase does not open" in refused(whole, tmp_path, Private("correct house"))
    for at in (20, 30, 50, 80):  # cost, salt, key check, header of the stream
        assert "damaged: its head" in refused(flipped(whole, at), tmp_path)
    for at in (200, len(whole) // 2, len(whole) - 1):
        assert "damaged: a part" in refused(flipped(whole, at), tmp_path)
    assert "not a backup" in refused(flipped(whole, 3), tmp_path)
    assert "newer" in refused(whole[:16] + b"\2" + whole[17:], tmp_path)


def test_backup_that_was_cut_off_or_added_to_is_named_so(whole: bytes, tmp_path: Path) -> None:
    chunk = sealedfile.CHUNK_BYTES + crypto.STREAM_EXTRA_BYTES
    for length in (60, 200, len(whole) - 1, len(whole) - chunk, len(whole) // 2):
        assert "ends too early" in refused(whole[:length], tmp_path)
    assert "added" in refused(whole + b"\0", tmp_path)
    assert "a part" in refused(whole[: -2 * chunk] + whole[-chunk:] + whole[-2 * chunk : -chunk], tmp_path)
    assert "not a backup" in refused(b"", tmp_path)
    assert "not a backup" in refused(b"no backup at all", tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found(data: st.DataObject) -> None:
    file = io.BytesIO()
    sealing = SealingFile(file, WORD, cost=CHEAP)
    sealing.write(b"content")
    sealing.close()
    raw = bytearray(file.getvalue())
    at = data.draw(st.one_of(st.integers(0, 120), st.integers(0, len(raw) - 1)))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SetupError):
        OpenedFile(io.BytesIO(raw), WORD).finish()


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


GOOD_KEY = ApplianceKey(b"k" * 32).to_file(None)


def forged(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    """What somebody who knows the passphrase could make."""
    file = io.BytesIO()
    sealing = SealingFile(file, WORD, cost=CHEAP)
    with tarfile.open(fileobj=cast("IO[bytes]", sealing), mode="w|") as tar:
        fill(tar)
    sealing.close()
    return file.getvalue()


def put(tar: tarfile.TarFile, name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, len(content), "/etc/passwd"
    tar.addfile(entry, io.BytesIO(content))


def put_manifest(tar: tarfile.TarFile, files: dict[str, int], **other: object) -> None:
    told = {"format": 1, "version": "9", "schema": SCHEMA_VERSION, "made_minute": 1, "files": files} | other
    put(tar, "manifest.json", json.dumps(told).encode())


def database_bytes(tmp_path: Path) -> bytes:
    Store(tmp_path / "fresh").close()
    raw = bytearray((tmp_path / "fresh").read_bytes())
    raw[18:20] = b"\1\1"
    (tmp_path / "fresh").unlink()
    return bytes(raw)


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "tor/../../outside", "web/web.sock", "restored"])
def test_file_that_we_do_not_put_in_is_refused(name: str, tmp_path: Path) -> None:
    database = database_bytes(tmp_path)
    sizes = {KEY: len(GOOD_KEY), DATABASE: len(database)}

    def named(tar: tarfile.TarFile) -> None:
        put_manifest(tar, sizes | {name: 1})
        put(tar, name, b"x")

    def unnamed(tar: tarfile.TarFile) -> None:
        put_manifest(tar, sizes)
        put(tar, KEY, GOOD_KEY)
        put(tar, DATABASE, database)
        put(tar, name, b"x")

    for fill in (named, unnamed):
        assert "does not put" in refused(forged(fill), tmp_path)
    assert not (tmp_path.parent / "outside").exists()


def test_only_whole_plain_files_come_out(tmp_path: Path) -> None:
    database = database_bytes(tmp_path)
    sizes = {KEY: len(GOOD_KEY), DATABASE: len(database)}

    def with_link(tar: tarfile.TarFile) -> None:
        put_manifest(tar, sizes | {KEY: 0})
        put(tar, KEY, b"", tarfile.SYMTYPE)

    def with_directory(tar: tarfile.TarFile) -> None:
        put_manifest(tar, sizes | {KEY: 0})
        put(tar, KEY, b"", tarfile.DIRTYPE)

    def with_device(tar: tarfile.TarFile) -> None:
        put_manifest(tar, sizes | {KEY: 0})
        put(tar, KEY, b"", tarfile.CHRTYPE)

    def twice(tar: tarfile.TarFile) -> None:
        put_manifest(tar, sizes)
        put(tar, KEY, GOOD_KEY)
        put(tar, KEY, GOOD_KEY)

    def without_database(tar: tarfile.TarFile) -> None:
        put_manifest(tar, sizes)
        put(tar, KEY, GOOD_KEY)

    def without_manifest(tar: tarfile.TarFile) -> None:
        put(tar, KEY, GOOD_KEY)

    kinds = (with_link, with_directory, with_device)
    for fill in (*kinds, twice, without_database, without_manifest, lambda tar: put(tar, "manifest.json", b"[1]")):
        assert "does not put" in refused(forged(fill), tmp_path)


def test_what_is_damaged_inside_is_named(tmp_path: Path) -> None:
    database = database_bytes(tmp_path)

    def holding(key: bytes, content: bytes, **manifest: object) -> bytes:
        def fill(tar: tarfile.TarFile) -> None:
            put_manifest(tar, {KEY: len(key), DATABASE: len(content)}, **manifest)
            put(tar, KEY, key)
            put(tar, DATABASE, content)

        return forged(fill)

    assert backup.verify(written(tmp_path, holding(GOOD_KEY, database)), WORD).version == "9"
    assert "key file is damaged" in refused(holding(GOOD_KEY[:-9], database), tmp_path)
    assert "key file is damaged" in refused(holding(b'{"wrapped": "AAAA", "salt": "AAAA"}', database), tmp_path)
    broken = database[:4096] + bytes(4096) + database[8192:]
    assert "database is damaged" in refused(holding(GOOD_KEY, broken), tmp_path)
    assert "database is damaged" in refused(holding(GOOD_KEY, b"not a database" * 500), tmp_path)
    assert "newer" in refused(holding(GOOD_KEY, database, schema=SCHEMA_VERSION + 1), tmp_path)
    assert "newer" in refused(holding(GOOD_KEY, database, format=2, more="unknown"), tmp_path)


def written(tmp_path: Path, raw: bytes) -> Path:
    (tmp_path / "written").write_bytes(raw)
    return tmp_path / "written"


# ---- where it is written, and what interrupts it -------------------------------------------------------------------


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    desk(tmp_path / "data")
    (tmp_path / "b").write_text("mine")
    with pytest.raises(SetupError, match="file of that name"):
        made(tmp_path / "data", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"
    (tmp_path / "c.part").write_text("mine")
    with pytest.raises(SetupError, match="not ours"):
        made(tmp_path / "data", tmp_path / "c")
    assert (tmp_path / "c.part").read_text() == "mine"
    assert not (tmp_path / "c").exists()


def test_directory_that_holds_something_is_not_restored_into(whole: bytes, tmp_path: Path) -> None:
    file = written(tmp_path, whole)
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "mine").write_text("mine")
    (tmp_path / "file").touch()
    for taken in ("house", "file"):
        with pytest.raises(SetupError, match="not empty"):
            backup.restore(file, tmp_path / taken, WORD)
    (tmp_path / "other.restoring").mkdir()
    (tmp_path / "other.restoring" / "mine").write_text("mine")
    with pytest.raises(SetupError, match="not ours"):
        backup.restore(file, tmp_path / "other", WORD)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("mine")) == [
        "house/mine",
        "other.restoring/mine",
    ]
    with pytest.raises(SetupError, match="No such file"):
        backup.restore(file, tmp_path / "missing" / "house", WORD)
    with pytest.raises(SetupError, match="cannot be read"):
        backup.restore(tmp_path / "missing", tmp_path / "fresh", WORD)
    with pytest.raises(SetupError, match="cannot be"):
        backup.make(tmp_path / "house", Path("/proc/backup"), WORD, now=1, cost=CHEAP)


def test_nothing_to_back_up_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no database"):
        made(tmp_path / "nowhere", tmp_path / "b")
    desk(tmp_path / "data")
    (tmp_path / "data" / KEY).unlink()
    with pytest.raises(SetupError, match="keys"):
        made(tmp_path / "data", tmp_path / "b")
    (tmp_path / "data" / KEY).write_text("{}")
    with pytest.raises(SetupError, match="key file is damaged"):
        made(tmp_path / "data", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert not (tmp_path / "data" / COPY).exists()


@pytest.mark.parametrize("limit", [0, 40_000, 700_000])
def test_full_disk_leaves_nothing_half_done(limit: int, whole: bytes, tmp_path: Path) -> None:
    """A process that may not write longer files stands for a disk that takes no more."""
    desk(tmp_path / "data")
    file = written(tmp_path, whole)
    made(tmp_path / "data", tmp_path / "b")  # after which an empty log is there
    before = sorted(tmp_path.rglob("*"))
    out = limited(limit, "backup", str(tmp_path / "out"), "--data", str(tmp_path / "data"))
    back = limited(min(limit, 40_000), "restore", str(file), "--data", str(tmp_path / "house"))
    for done in (out, back):
        assert done.returncode == 2, done.stderr
        assert re.fullmatch(r"veilsupport: error: .*\nveilsupport: hint: .*\n", done.stderr)
    assert sorted(tmp_path.rglob("*")) == before


def limited(limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import resource, sys; from tests.test_backup import run_alone;"
        f" resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); run_alone(sys.argv[1:])"
    )
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)


def run_alone(arguments: list[str]) -> None:
    """One of the two commands, with its passphrase."""
    os.environ["VEILSUPPORT_BACKUP_PASSPHRASE"] = WORD.reveal()
    run_typed(arguments)


def run_typed(arguments: list[str]) -> None:
    """One of the two commands, its errors as the program says them."""
    command = {"backup": backup_command, "restore": restore_command}[arguments[0]]
    try:
        command.main(arguments[1:], standalone_mode=False)
    except SetupError as error:
        complain(error)
        sys.exit(2)


@pytest.mark.parametrize("seconds", [0.02, 0.3, 0.6, 0.9])
def test_killed_backup_or_restore_leaves_nothing_that_counts(seconds: float, whole: bytes, tmp_path: Path) -> None:
    desk(tmp_path / "data")
    file = written(tmp_path, whole)
    for arguments in (
        ["backup", str(tmp_path / "out"), "--data", str(tmp_path / "data")],
        ["restore", str(file), "--data", str(tmp_path / "house")],
    ):
        program = (
            "import sys; from tests.test_backup import run_alone; print('go', flush=True); run_alone(sys.argv[1:])"
        )
        child = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    if (tmp_path / "out").exists():
        backup.verify(tmp_path / "out", WORD)
        (tmp_path / "out").unlink()
    made(tmp_path / "data", tmp_path / "out")
    if not (tmp_path / "house").exists():
        backup.restore(tmp_path / "out", tmp_path / "house", WORD)
    with DataDirectory(tmp_path / "house") as house:
        assert house.is_restored
        house.key(lambda: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "house", "out", "written"]
    assert not (tmp_path / "data" / COPY).exists()


def test_directory_that_a_restore_is_making_is_nobody_elses(whole: bytes, tmp_path: Path) -> None:
    file = written(tmp_path, whole)
    with (
        backup._staged(tmp_path / "house"),
        pytest.raises(SetupError, match="Another restore"),
    ):
        backup.restore(file, tmp_path / "house", WORD)


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def passphrase_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILSUPPORT_BACKUP_PASSPHRASE", WORD.reveal())


@pytest.mark.usefixtures("passphrase_in_the_environment")
def test_commands_say_what_was_done_and_what_is_to_be_done(tmp_path: Path) -> None:
    desk(tmp_path / "data")
    runner = CliRunner()
    out = runner.invoke(backup_command, [str(tmp_path / "b"), "--data", str(tmp_path / "data")])
    assert "The backup is written" in out.output, out
    assert time.strftime("%Y-%m-%d", time.gmtime()) in out.output
    whole = runner.invoke(backup_command, ["--verify", str(tmp_path / "b")])
    assert "The backup is whole" in whole.output, whole
    back = runner.invoke(restore_command, [str(tmp_path / "b"), "--data", str(tmp_path / "house")])
    assert re.search(r"^Address: http://[a-z2-7]{56}\.onion/$", back.output, re.MULTILINE), back
    assert "stop the desk on the old machine" in back.output


def test_passphrase_is_asked_twice_on_a_terminal_and_never_shown(tmp_path: Path) -> None:
    desk(tmp_path / "data")
    arguments = ["backup", str(tmp_path / "b"), "--data", str(tmp_path / "data")]
    seen = typed(arguments, "one thing", "another", WORD.reveal(), WORD.reveal())
    assert seen.count("Passphrase of the backup") == 2
    assert "do not match" in seen
    assert "The backup is written" in seen
    assert WORD.reveal() not in seen
    assert backup.verify(tmp_path / "b", WORD).has_address


def typed(arguments: list[str], *answers: str) -> str:
    """What stands on the terminal of one of the two commands, when each question is answered so."""
    program = (
        "import os, sys; os.environ.pop('VEILSUPPORT_BACKUP_PASSPHRASE', None);"
        " from tests.test_backup import run_typed; run_typed(sys.argv[1:])"
    )
    near, far = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - nothing else runs in this test
    )
    os.close(far)
    seen, left = "", list(answers)
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while piece := os.read(near, 4096):
            seen += piece.decode()
            if seen.endswith(": ") and left:
                os.write(near, f"{left.pop(0)}\n".encode())
    os.close(near)
    child.wait()
    return seen


def test_passphrase_comes_from_a_file_or_is_asked_for(tmp_path: Path) -> None:
    desk(tmp_path / "data")
    (tmp_path / "word").write_text(f"{WORD.reveal()}\n")
    (tmp_path / "empty").write_text("\n")
    runner = CliRunner(env={"VEILSUPPORT_BACKUP_PASSPHRASE": None})
    arguments = [str(tmp_path / "b"), "--data", str(tmp_path / "data")]
    for more, wrong in (
        ([], "passphrase is missing"),
        (["--passphrase-file", str(tmp_path / "empty")], "passphrase is empty"),
        (["--passphrase-file", str(tmp_path / "nowhere")], "cannot be read"),
    ):
        done = runner.invoke(backup_command, [*arguments, *more])
        assert isinstance(done.exception, SetupError)
        assert wrong in done.exception.message
    done = runner.invoke(backup_command, [*arguments, "--passphrase-file", str(tmp_path / "word")])
    assert done.exit_code == 0, done
    assert backup.verify(tmp_path / "b", WORD).has_address
