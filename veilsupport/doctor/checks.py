"""What `doctor` looks at, and what it says of it: the data directory and the machine here, the running desk elsewhere.

A finding is one line in plain words. Facts are gathered by functions that are named after what they read; what they
mean is decided by functions that only get the facts. Knows files and the machine; knows no tor, no XMPP and no desk.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from veilsupport import config, machine
from veilsupport.alarms import DISK_LOW_BYTES
from veilsupport.config import Config
from veilsupport.controlsocket import STATUS_SOCKET
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import DATABASE, KEY, ONION_KEY, RESTORED, Onion
from veilsupport.errors import SetupError, SetupErrors, StoreError
from veilsupport.machine import Swap
from veilsupport.store.inventory import SCHEMA_VERSION, quick_check

DISK_TIGHT_BYTES: Final = 2**30
INODES_LOW: Final = 1000
FILES_LOW: Final = 1024  # descriptors: two for each open page, and what tor and SQLite need


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    LOOK = "look"  # it works, and somebody should look at it
    WRONG = "wrong"  # something does not work, or is open that must be closed


@dataclass(frozen=True, slots=True)
class Finding:
    """`about` is one or two words, `words` a sentence, `hint` what to do; empty when all is well."""

    level: Level
    about: str
    words: str
    hint: str = ""


def ok(about: str, words: str) -> Finding:
    return Finding(Level.OK, about, words)


def look(about: str, words: str, hint: str) -> Finding:
    return Finding(Level.LOOK, about, words, hint)


def wrong(about: str, words: str, hint: str) -> Finding:
    return Finding(Level.WRONG, about, words, hint)


def of_directory(data: Path) -> Iterator[Finding]:
    """All that can be said without a running desk."""
    yield from configuration(data)
    yield from files(data)
    yield from room(data)
    yield from key(data)
    yield swap(machine.swap())
    yield from database(data / DATABASE)


# ---- the settings ------------------------------------------------------------------------------------------------


def configuration(data: Path) -> Iterator[Finding]:
    """Everything that is wrong in the settings' file, at once."""
    try:
        settings = config.load(data)
    except SetupErrors as error:
        yield from (wrong("settings", each.message, each.hint) for each in error.problems)
    except SetupError as error:
        yield wrong("settings", error.message, error.hint)
    else:
        yield _settings_in_words(settings)


def _settings_in_words(settings: Config) -> Finding:
    if settings.xmpp is None:
        return look("settings", "No XMPP account is set up: messages are kept until there is one.", _SET_UP)
    if not settings.admin:
        return look("settings", "Nobody is set up to answer: messages are kept until there is somebody.", _SET_UP)
    sites = f", {_count(len(settings.site), 'site')}" if settings.site else ""
    return ok("settings", f"{_count(len(settings.admin), 'admin')}{sites}, form {settings.xmpp.form}.")


_SET_UP: Final = "Run: veilsupport setup"


# ---- files -------------------------------------------------------------------------------------------------------

# What belongs into the data directory (data/README.md); with which bits for others each may stand there at most.
KNOWN: Final = {
    **dict.fromkeys((config.FILE_NAME, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", KEY, "lock"), 0o600),
    **dict.fromkeys((service.sealed for service in Onion), 0o600),
    **dict.fromkeys((STATUS_SOCKET, RESTORED, f"{DATABASE}.copy"), 0o600),
    **dict.fromkeys(("tor", "web"), 0o700),
    "README.md": 0o777,
}


def files(data: Path) -> Iterator[Finding]:
    """Modes and owners of all that lies there; one finding when all is well."""
    try:
        found = list(_unfit_files(data))
    except FileNotFoundError:
        yield look("files", "There is no data directory yet.", _SET_UP)
    except OSError:
        yield wrong("files", "The data directory cannot be read.", "Run this as the user that the desk runs as.")
    else:
        yield from found or [ok("files", "All are the desk's own, and closed to others.")]


def _unfit_files(data: Path) -> Iterator[Finding]:
    top = data.lstat()
    if stat.S_IMODE(top.st_mode) & 0o077:
        yield wrong("files", "The data directory is open to others.", f"chmod 700 {data}")
    if os.geteuid() not in (0, top.st_uid):
        yield wrong(
            "files", "The data directory belongs to another user.", "Run this as the user that the desk runs as."
        )
    for path in sorted(data.iterdir()):
        if path.name not in KNOWN and not path.name.endswith((".new", "-journal")):
            yield look("files", f"{path.name} does not belong there.", "data/README.md lists what does.")
        else:
            yield from _unfit(data, path, top.st_uid, KNOWN.get(path.name, 0o600))
    for name in (*(f"tor/{service}" for service in Onion), "tor/run", "tor/data"):
        if (data / name).exists():
            yield from _unfit(data, data / name, top.st_uid, 0o700)
    for service in Onion:
        if (data / "tor" / service / ONION_KEY).exists():
            yield from _unfit(data, data / "tor" / service / ONION_KEY, top.st_uid, 0o600)


def _unfit(data: Path, path: Path, owner: int, mode: int) -> Iterator[Finding]:
    status = path.lstat()
    name = path.relative_to(data)
    if stat.S_ISLNK(status.st_mode):
        yield look("files", f"{name} is a link to somewhere else.", "Put the file itself there.")
        return
    if status.st_uid != owner:
        yield wrong("files", f"{name} belongs to another user.", f"chown it to the owner of {data}.")
    if stat.S_IMODE(status.st_mode) & 0o077 & ~mode:
        yield wrong("files", f"{name} is open to others.", f"chmod {mode:o} {path}")


# ---- the disk ----------------------------------------------------------------------------------------------------


def room(data: Path) -> Iterator[Finding]:
    """Bytes, and the file system's table of files."""
    try:
        free, table = shutil.disk_usage(data).free, os.statvfs(data)
    except OSError:
        return  # `files` has said it.
    yield disk(free, is_writable=not table.f_flag & os.ST_RDONLY)
    if table.f_files and table.f_favail < INODES_LOW:
        yield wrong("disk", "The file system has hardly any files (inodes) left.", "Remove files that nobody needs.")


def disk(free_bytes: int, *, is_writable: bool = True) -> Finding:
    if not is_writable:
        return wrong("disk", "It is mounted for reading only.", "Look why (dmesg), and mount it for writing.")
    megabytes = f"{free_bytes // 2**20:,} MB are free"
    if free_bytes < DISK_LOW_BYTES:
        return wrong("disk", f"Only {megabytes}. When it is full, messages are refused.", "Make room on this disk.")
    if free_bytes < DISK_TIGHT_BYTES:
        return look("disk", f"{megabytes}.", "Make room before it gets tight.")
    return ok("disk", f"{megabytes}.")


# ---- the key, and what could carry it to the disk ----------------------------------------------------------------


def key(data: Path) -> Iterator[Finding]:
    """Whether it is there and whole; with a passphrase, whether there is memory-backed storage for the onion key."""
    try:
        raw = (data / KEY).read_bytes()
    except FileNotFoundError:
        if (data / DATABASE).exists():
            yield wrong("key", "The appliance's key is missing, and its database is there.", f"Put back {KEY}.")
        return
    except OSError:
        return  # `files` has said it.
    if not ApplianceKey.needs_passphrase(raw):
        try:
            ApplianceKey.check_file(raw)
        except SetupError as error:
            yield wrong("key", error.message, error.hint)
        else:
            yield ok("key", "It rests without a passphrase; `veilsupport seizure` says what that means.")
    elif machine.memory_storage() is None:
        hint = "Mount a tmpfs on /dev/shm, or set RUNTIME_DIRECTORY to a directory on one."
        yield wrong("key", "There is no memory-backed storage for the onion key, which shall not be on a disk.", hint)
    else:
        yield ok("key", "It rests under a passphrase; the onion key is used from memory.")


def swap(found: Swap) -> Finding:
    match found:
        case Swap.NONE:
            return ok("swap", "None: what is in memory stays there.")
        case Swap.MEMORY | Swap.ENCRYPTED:
            return ok("swap", f"Memory may be swapped, {found}.")
        case Swap.UNKNOWN:
            return look("swap", "It cannot be seen whether there is any.", "Look yourself: swapon --show")
    hint = "Turn it off (swapoff -a, and its line in /etc/fstab), or encrypt it."
    return look("swap", "It is on a disk: what is in memory, keys too, may be written there.", hint)


# ---- the database ------------------------------------------------------------------------------------------------


def database(path: Path) -> Iterator[Finding]:
    """Read beside a running desk, which is not kept waiting."""
    if not path.exists():
        yield ok("database", "There is none yet.")
        return
    try:
        version, sound = quick_check(path)
    except StoreError as error:
        yield wrong("database", error.message, "Look at its disk; if it is damaged, restore a backup.")
        return
    size = f"{max(1, path.stat().st_size // 2**20):,} MB"
    if not sound:
        yield wrong("database", "It is damaged.", "Stop the desk, keep a copy, and restore a backup.")
    elif version > SCHEMA_VERSION:
        yield wrong("database", "It was written by a newer VeilSupport.", "Run that newer version.")
    elif version < SCHEMA_VERSION:
        yield ok("database", f"Sound, {size}, of an older version: the next start brings it up to date.")
    else:
        yield ok("database", f"Sound, {size}.")


# ---- the process -------------------------------------------------------------------------------------------------


def of_process() -> Iterator[Finding]:
    """Of the process that serves, so in it."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield descriptors(soft)
    yield core_dumps(resource.getrlimit(resource.RLIMIT_CORE)[1], machine.core_pattern())
    yield memory(machine.swap(), is_locked=machine.locks_its_memory())


def descriptors(limit: int) -> Finding:
    if limit < FILES_LOW:
        hint = "Raise it: ulimit -n, or LimitNOFILE= in the unit."
        return look("limits", f"Only {limit} files can be open at once; each open page needs one.", hint)
    return ok("limits", f"{limit:,} files can be open at once.")


def core_dumps(limit: int, pattern: str) -> Finding:
    """`limit`: the hard one. It does not hold a dump that goes to a program (core(5)); prctl(2) does (hardening.py)."""
    if limit == 0:
        return ok("dumps", "None is written, whatever happens.")
    where = "to a program" if pattern.startswith("|") else "into a file"
    return look("dumps", f"After a crash the memory, keys too, could go {where}.", "Set LimitCORE=0, or ulimit -c 0.")


def memory(found: Swap, *, is_locked: bool) -> Finding:
    """Of the process that serves; its tor, which holds the onion service's key, cannot be seen to do so."""
    if is_locked:
        return ok("memory", "Locked: the desk's is not swapped. That of its tor, with the onion key, could be.")
    words = "Not locked: the system does not permit it."
    if found in (Swap.DISK, Swap.UNKNOWN):
        return look("memory", words, "Set LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited.")
    return ok("memory", f"{words} It would be of use with swap on a disk only.")


def instance(*, locked: bool, answers: bool) -> Finding:
    """Whether one desk, and one only, uses the data directory."""
    if answers:
        return ok("desk", "It runs.")
    if locked:
        hint = "Wait a moment; if it stays so, end that process and start the desk again."
        return wrong("desk", "A process holds the data directory and does not answer.", hint)
    return look("desk", "It does not run.", "Start it with: veilsupport run")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
