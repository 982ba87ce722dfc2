"""What `doctor` finds: in a data directory, on a machine made of files, and in what the parts tell of themselves."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.desks import ADA, BERT, KEY, NOON, desk_in, start
from tests.live.appliance import Appliance, run_command
from tests.ports import free_port
from veilsupport import machine
from veilsupport.cli import cli
from veilsupport.config import FILE_NAME, Config, XmppSettings
from veilsupport.doctor import checks
from veilsupport.doctor import examination as checkup
from veilsupport.doctor.checks import KNOWN, Finding, Level
from veilsupport.errors import Unavailable
from veilsupport.machine import Swap
from veilsupport.model import Admin, EndToEnd, Private
from veilsupport.tor import TorPhase, TorState
from veilsupport.tor.inquiry import inquire
from veilsupport.xmpp import LinkState, Phase
from veilsupport.xmpp.omemo_terms import Device, DeviceTrust

SETTINGS = '[xmpp]\njid = "desk@chat.example"\n[[admin]]\njid = "ada@chat.example"\nname = "Ada"\n'


def worst(found: Iterable[Finding]) -> Level:
    levels = [each.level for each in found]
    return next((each for each in (Level.WRONG, Level.LOOK) if each in levels), Level.OK)


def words(found: Iterable[Finding]) -> str:
    return "\n".join(each.words for each in found)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory on which a desk was set up and ran."""
    path = tmp_path / "data"
    path.mkdir(mode=0o700)

    async def run() -> None:
        async with desk_in(path) as desk:
            await start(desk)

    asyncio.run(run())
    for name, content in ((FILE_NAME, SETTINGS.encode()), ("appliance.key", KEY.to_file(None)), ("lock", b"")):
        (path / name).write_bytes(content)
        (path / name).chmod(0o600)
    for name in ("tor", "tor/onion", "web"):
        (path / name).mkdir(mode=0o700)
    return path


# ---- the data directory --------------------------------------------------------------------------------------------


def test_a_directory_that_is_well_is_said_to_be(data: Path) -> None:
    found = list(checks.of_directory(data))
    assert worst(each for each in found if each.about not in ("swap", "disk")) is Level.OK, found
    assert {"settings", "files", "disk", "key", "swap", "database"} == {each.about for each in found}


def test_every_mistake_in_the_settings_is_named_at_once(data: Path) -> None:
    (data / FILE_NAME).write_text('[desk]\nnaem = "x"\n[xmpp]\njid = "no jid"\n')
    found = list(checks.configuration(data))
    assert len(found) == 2
    assert all(each.level is Level.WRONG and each.hint for each in found)


def test_without_account_or_admins_somebody_should_look(data: Path) -> None:
    (data / FILE_NAME).write_text("")
    assert worst(checks.configuration(data)) is Level.LOOK
    (data / FILE_NAME).write_text('[xmpp]\njid = "desk@chat.example"\n')
    assert "Nobody is set up to answer" in words(checks.configuration(data))


def open_to_others(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o044)


def make_a_link(path: Path) -> None:
    shutil.move(path, path.with_name("elsewhere.new"))
    path.symlink_to("elsewhere.new")


@pytest.mark.parametrize(
    "name", [".", FILE_NAME, "veilsupport.sqlite", "appliance.key", "lock", "tor", "tor/onion", "web"]
)
def test_whatever_is_open_to_others_is_wrong(data: Path, name: str) -> None:
    open_to_others(data / name)
    [found] = checks.files(data)
    assert (found.level, "open to others" in found.words, "chmod" in found.hint) == (Level.WRONG, True, True)


def test_a_strangers_file_is_wrong_and_a_strange_one_is_told(data: Path) -> None:
    (data / "notes.txt").write_text("x")
    [strange] = checks.files(data)
    assert (strange.level, "notes.txt" in strange.words) == (Level.LOOK, True)
    (data / "notes.txt").unlink()
    make_a_link(data / "appliance.key")
    assert "link" in words(checks.files(data))
    if os.geteuid() == 0:
        os.chown(data / "lock", 65534, 65534)
        assert "lock belongs to another user" in words(checks.files(data))


def test_the_onions_key_is_looked_at_too(data: Path) -> None:
    key = data / "tor/onion/hs_ed25519_secret_key"
    key.write_bytes(b"x")
    key.chmod(0o640)
    assert "hs_ed25519_secret_key is open to others" in words(checks.files(data))


def test_every_file_that_the_data_directory_explains_is_known() -> None:
    rows = [
        line for line in (Path(__file__).parents[1] / "data/README.md").read_text().splitlines() if line[:2] == "| "
    ]
    named = {name.split("/")[0] for row in rows for name in re.findall(r"`([\w./-]+)`", row.split("|")[1])}
    suffixes = {f"veilsupport.sqlite{each}" for each in named if each.startswith("-")}
    expected = {each for each in named if not each.startswith("-")} | suffixes
    assert {"appliance.key", "tor", "veilsupport.sqlite-wal"} <= expected
    assert expected <= KNOWN.keys(), f"unknown to doctor: {expected - KNOWN.keys()}"


def test_room_on_the_disk() -> None:
    assert [checks.disk(size * 2**20).level for size in (100, 500, 5000)] == [Level.WRONG, Level.LOOK, Level.OK]
    assert checks.disk(5000 * 2**20, is_writable=False).level is Level.WRONG


def test_a_key_that_is_damaged_or_missing_beside_its_database(data: Path) -> None:
    assert words(checks.key(data)).startswith("It rests without a passphrase")
    (data / "appliance.key").write_bytes(b'{"key": "x"}')
    assert worst(checks.key(data)) is Level.WRONG
    (data / "appliance.key").unlink()
    assert "missing" in words(checks.key(data))
    (data / "veilsupport.sqlite").unlink()
    assert list(checks.key(data)) == []  # a new directory


def test_a_key_under_a_passphrase_needs_storage_in_memory(data: Path) -> None:
    (data / "appliance.key").write_bytes(b'{"wrapped": "x"}')
    in_memory = machine.memory_storage() is not None
    assert worst(checks.key(data)) is (Level.OK if in_memory else Level.WRONG)


def test_a_database_is_read_and_nothing_is_left_beside_it(data: Path) -> None:
    path = data / "veilsupport.sqlite"
    before = sorted(each.name for each in data.iterdir())
    assert words(checks.database(path)).startswith("Sound, ")
    assert sorted(each.name for each in data.iterdir()) == before


def test_a_database_that_is_damaged_newer_or_none(data: Path) -> None:
    path = data / "veilsupport.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
    assert worst(checks.database(path)) is Level.WRONG
    path.write_bytes(b"not one at all" * 1000)
    assert "cannot be read" in words(checks.database(path))
    path.write_bytes(whole)
    for version, told, level in ((99, "newer", Level.WRONG), (3, "older", Level.OK)):
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA user_version = {version}")
        db.close()
        for left in ("-wal", "-shm"):
            path.with_name(path.name + left).unlink(missing_ok=True)
        assert (told in words(checks.database(path)), worst(checks.database(path))) == (True, level)
    assert words(checks.database(data / "none")) == "There is none yet."


# ---- the machine ---------------------------------------------------------------------------------------------------


def swapping(tmp_path: Path, *names: str) -> Path:
    (tmp_path / "proc").mkdir(exist_ok=True)
    lines = ["Filename Type Size Used Priority", *(f"{name} partition 1 0 -2" for name in names)]
    (tmp_path / "proc/swaps").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_swap_counts_by_its_worst(tmp_path: Path) -> None:
    assert machine.swap(tmp_path) is Swap.UNKNOWN
    assert machine.swap(swapping(tmp_path)) is Swap.NONE
    assert machine.swap(swapping(tmp_path, "/dev/zram0")) is Swap.MEMORY
    assert machine.swap(swapping(tmp_path, "/dev/zram0", "/dev/sda2")) is Swap.DISK
    levels = {each: checks.swap(each).level for each in Swap}
    assert [each for each, level in levels.items() if level is Level.OK] == [Swap.NONE, Swap.MEMORY, Swap.ENCRYPTED]


def disk_of(path: Path, system: Path, *, uuid: str = "", slaves: Iterable[str] = (), rotational: str = "0") -> None:
    """A /sys in which the path's file system lies on a device like that."""
    status = path.stat()
    number = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    device = system / "sys/devices/top"
    (device / "dm").mkdir(parents=True)
    (device / "dm/uuid").write_text(uuid)
    (device / "slaves").mkdir()
    for name in slaves:
        below = system / "sys/devices" / name
        (below / "dm").mkdir(parents=True)
        (below / "dm/uuid").write_text("CRYPT-LUKS2-x" if name == "crypt" else "")
        (below / "queue").mkdir()
        (below / "queue/rotational").write_text(rotational + "\n")
        (device / "slaves" / name).symlink_to(below)
    (system / "sys/dev/block").mkdir(parents=True)
    (system / "sys/dev/block" / number).symlink_to(device)


@pytest.mark.parametrize(
    ("uuid", "slaves", "encrypted"),
    [("CRYPT-LUKS2-abc", [], True), ("LVM-abc", ["crypt"], True), ("LVM-abc", ["plain"], False), ("", [], False)],
)
def test_an_encrypted_disk_is_seen_however_deep(tmp_path: Path, uuid: str, slaves: list[str], encrypted: bool) -> None:
    disk_of(tmp_path, tmp_path / "system", uuid=uuid, slaves=slaves)
    assert machine.is_encrypted(tmp_path, tmp_path / "system") is encrypted


def test_a_disk_that_cannot_be_seen_is_not_taken_for_anything(tmp_path: Path) -> None:
    assert machine.is_encrypted(tmp_path, tmp_path / "nothing") is None
    assert machine.spins(tmp_path, tmp_path / "nothing") is None
    disk_of(tmp_path, tmp_path / "system", slaves=["plain"], rotational="1")
    assert machine.spins(tmp_path, tmp_path / "system") is True


def test_a_lock_is_seen_and_not_touched(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    assert not machine.is_locked(lock)
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert machine.is_locked(lock)
    assert not machine.is_locked(lock)


def test_limits_and_dumps() -> None:
    assert [checks.descriptors(each).level for each in (256, 20_000)] == [Level.LOOK, Level.OK]
    assert checks.core_dumps(0, "|/bin/handler").level is Level.OK
    assert "to a program" in checks.core_dumps(-1, "|/bin/handler").words
    assert "into a file" in checks.core_dumps(-1, "core").words


def test_one_desk_and_one_only() -> None:
    assert checks.instance(locked=False, answers=True).level is Level.OK
    assert checks.instance(locked=True, answers=False).level is Level.WRONG
    assert checks.instance(locked=False, answers=False).level is Level.LOOK


# ---- the parts of a running desk -----------------------------------------------------------------------------------


def test_tor_is_well_only_with_a_fresh_self_check() -> None:
    well = TorState(TorPhase.REACHABLE, checked_at=NOON, descriptors_uploaded=8)
    found = checkup.page(well, "0.4.9.11", now=NOON + 20)
    assert (found.level, "0.4.9.11" in found.words, "20 s ago" in found.words) == (Level.OK, True, True)
    assert checkup.page(well, "", now=NOON + 3600).level is Level.LOOK
    levels = {phase: checkup.page(TorState(phase), "", now=NOON).level for phase in TorPhase}
    assert [each for each, level in levels.items() if level is Level.OK] == [TorPhase.REACHABLE]
    assert levels[TorPhase.UNREACHABLE] is levels[TorPhase.FAILED] is Level.WRONG


def test_the_clock_is_judged_by_the_consensus() -> None:
    told = {"consensus/valid-after": "2027-01-15 08:00:00", "consensus/valid-until": "2027-01-15 11:00:00"}
    at = {
        name: checkup.clock(told, now=NOON + hours * 3600) for name, hours in (("right", 0), ("slow", -1), ("fast", 4))
    }
    assert {name: found and found.level for name, found in at.items()} == {
        "right": Level.OK,
        "slow": Level.WRONG,
        "fast": Level.WRONG,
    }
    assert at["slow"] is not None
    assert "60 minutes" in at["slow"].words
    assert checkup.clock({}, now=NOON) is None


def test_the_line_and_by_what_the_server_was_known() -> None:
    xmpp = XmppSettings(jid="desk@chat.example")
    assert "valid for its name" in checkup.line(LinkState(Phase.ONLINE), xmpp).words
    pinned = xmpp.model_copy(update={"certificate": "a" * 64})
    assert "pinned" in checkup.line(LinkState(Phase.ONLINE), pinned).words
    refused = checkup.line(LinkState(Phase.REFUSED, "it cannot be used", trouble="wrong password"), xmpp)
    assert (refused.level, refused.words) == (Level.WRONG, "It cannot be used (wrong password).")
    assert checkup.line(LinkState(Phase.WAITING), xmpp).level is Level.WRONG


def test_archive_rooms_and_who_is_seen() -> None:
    xmpp = XmppSettings(jid="desk@chat.example")
    levels = [checkup.archive(LinkState(keeps_archive=each), xmpp).level for each in (True, False, None)]
    assert levels == [Level.OK, Level.LOOK, Level.LOOK]
    refused = LinkState(form="all in one chat, because of the server: it has no rooms")
    assert checkup.form(refused, xmpp).level is Level.LOOK
    assert checkup.form(refused, xmpp.model_copy(update={"form": "direct"})).level is Level.OK
    assert checkup.presence(["Ada"], ["Ada", "Bert"]).words == "1 of 2 can be seen from here; not at the moment: Bert."
    assert checkup.presence([], ["Ada"]).level is checkup.presence([], []).level is Level.LOOK


def device(trust: DeviceTrust = DeviceTrust.TRUSTED, *, active: bool = True) -> Device:
    return Device(1, "f" * 64, trust, active)


def admin(wish: EndToEnd, name: str = "Ada", *, quiet: bool = False) -> Admin:
    return Admin(name, Private(f"{name}@chat.example"), end_to_end=wish, notify_only=quiet)


def test_keys_of_each_admin() -> None:
    prefer, require, off = (admin(each) for each in (EndToEnd.PREFER, EndToEnd.REQUIRE, EndToEnd.OFF))
    assert "leaves encrypted" in checkup.keys_of(prefer, [device()]).words
    assert checkup.keys_of(prefer, []).level is Level.LOOK
    assert "in the clear" in checkup.keys_of(prefer, []).words
    assert checkup.keys_of(require, []).level is Level.WRONG
    assert checkup.keys_of(prefer, [device(active=False)]).level is Level.WRONG  # had keys: never again in the clear
    assert "1 held" in checkup.keys_of(prefer, [device(DeviceTrust.HELD)]).words
    assert checkup.keys_of(off, [device()]).level is Level.OK


@pytest.mark.parametrize(
    ("wishes", "with_keys", "sealed"),
    [
        ("prefer prefer", "Ada Bert", True),
        ("prefer prefer", "Ada", False),
        ("prefer off", "Ada Bert", False),
        ("require off", "Ada", True),
    ],
)
def test_whether_rooms_are_encrypted_now(wishes: str, with_keys: str, sealed: bool) -> None:
    readers = [admin(EndToEnd(wish), name) for wish, name in zip(wishes.split(), ("Ada", "Bert"), strict=True)]
    devices = {name: [device()] if name in with_keys else [] for name in ("Ada", "Bert")}
    assert (checkup.rooms_sealed(readers, devices).level is Level.OK) is sealed


def test_a_backlog_is_worth_a_look_when_it_is_old() -> None:
    levels = [checkup.backlog(3, NOON - age, now=NOON).level for age in (60, 3600)]
    assert levels == [Level.OK, Level.LOOK]
    assert checkup.backlog(0, None, now=NOON).level is Level.OK


def test_what_a_loop_back_cannot_prove(tmp_path: Path) -> None:
    async def go() -> None:
        for admins, told in (((ADA, BERT), "no account"), ((), "no account")):
            async with desk_in(tmp_path, admins) as desk:
                patient = checkup.Patient(Config(), desk, None, tmp_path, None, 1)
                assert told in checkup.expected_of(patient).unproved

    asyncio.run(go())


def test_tor_is_asked_over_a_connection_that_owns_nothing(tmp_path: Path) -> None:
    """A control port in miniature (control-spec §2.3); the real one is asked in tests/live/test_doctor.py."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/cookie").write_bytes(b"\x01" * 32)
    heard: list[str] = []
    done = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readline()).decode().strip():
            heard.append(line)
            told = {"GETINFO version": "250-version=0.4.9.11\r\n250 OK", "GETINFO nothing": "552 Unrecognized key"}
            writer.write(f"{told.get(line, '250 OK')}\r\n".encode())
        writer.close()
        done.set()

    async def go() -> None:
        with pytest.raises(Unavailable):
            await inquire(tmp_path, ["version"])
        server = await asyncio.start_unix_server(answer, tmp_path / "run/control.sock")
        assert await inquire(tmp_path, ["version", "nothing"]) == {"version": "0.4.9.11"}
        await done.wait()
        server.close()

    asyncio.run(go())
    assert heard[0] == f"AUTHENTICATE {'01' * 32}"
    assert "TAKEOWNERSHIP" not in heard


# ---- the command -----------------------------------------------------------------------------------------------------


def doctor(data: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["doctor", "--data", str(data), *more])
    return done.exit_code, done.output


def test_offline_it_starts_nothing_and_changes_nothing(data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    status, output = doctor(data, "--offline")
    assert status == 1
    assert "It does not run" in output
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_exit_status_and_json_say_the_worst(data: Path) -> None:
    open_to_others(data / "appliance.key")
    status, output = doctor(data, "--offline", "--json")
    told = json.loads(output)
    assert (status, told["worst"]) == (2, "wrong")
    assert {"level", "about", "words", "hint"} == set(told["findings"][0])


def test_a_directory_that_is_not_set_up_is_not_begun(tmp_path: Path) -> None:
    status, output = doctor(tmp_path / "data")
    assert (status, "Nothing is set up" in output) == (2, True)
    assert not (tmp_path / "data").exists()


def without_account(data: Path) -> None:
    (data / FILE_NAME).write_text(f"[web]\nport = {free_port()}\n")


def test_a_running_desk_is_asked_and_visited(data: Path) -> None:
    without_account(data)
    with Appliance(data, "--no-tor") as appliance:
        appliance.wait_for_page()
        status, output = doctor(data)
        assert appliance.status()["conversations_open"] == 1  # the one that was there before
    assert status == 1
    for told in ("It runs.", "files can be open", "No account is set up", "was accepted", "It was burned, and is gone"):
        assert told in output


def test_a_desk_that_does_not_run_is_started_and_ended(data: Path) -> None:
    without_account(data)
    done = run_command("doctor", "--data", str(data), "--no-tor")
    assert done.returncode == 1, done.stderr
    assert "started for this" in done.stdout
    assert "It was burned, and is gone" in done.stdout
    assert not machine.is_locked(data / "lock")
    assert not (data / "status.sock").exists()


def test_what_keeps_it_from_starting_is_a_finding(data: Path) -> None:
    (data / "appliance.key").write_bytes(KEY.to_file(Private("a passphrase that nobody gives")))
    (data / "appliance.key").chmod(0o600)
    status, output = doctor(data, "--no-tor")
    assert (status, "protected by a passphrase" in output) == (2, True)


def test_a_desk_that_hangs_up_is_a_finding(data: Path) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.bind(str(data / "status.sock"))
        link.listen()

        def hang_up() -> None:
            link.accept()[0].close()

        hanging_up = threading.Thread(target=hang_up)
        hanging_up.start()
        status, output = doctor(data, "--json")
        hanging_up.join()
    assert (status, json.loads(output)["worst"]) == (2, "wrong")
    assert "has not answered" in output


def test_memory_is_locked_or_said_not_to_be() -> None:
    assert checks.memory(Swap.DISK, is_locked=True).level is Level.OK
    assert checks.memory(Swap.NONE, is_locked=False).level is Level.OK
    for swap in (Swap.DISK, Swap.UNKNOWN):
        found = checks.memory(swap, is_locked=False)
        assert found.level is Level.LOOK
        assert "LimitMEMLOCK" in (found.hint or "")
