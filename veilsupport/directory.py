"""The data directory: who may read it, who runs on it, and the keys that rest in it.

data/README.md lists every file. Knows files and wrapping, not what is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final

from veilsupport import config, crypto, machine
from veilsupport.config import Config
from veilsupport.controlsocket import NOT_OURS, STATUS_SOCKET, ask
from veilsupport.crypto import ApplianceKey
from veilsupport.errors import SealError, SetupError
from veilsupport.model import Private

DATABASE: Final = "veilsupport.sqlite"
KEY: Final = "appliance.key"
ONION_KEY: Final = "hs_ed25519_secret_key"  # tor's name for it
RESTORED: Final = "restored"  # a mark: this directory came out of a backup and has not been run since
_SOCKET_PATH_MAX_BYTES: Final = 107  # sun_path of unix(7), less its closing zero


class Onion(StrEnum):
    """An onion service of ours, each with a key of its own. The value stands in names of files."""

    PAGE = "onion"
    XMPP = "onion-xmpp"

    @property
    def sealed(self) -> str:
        """The file with its key, sealed to the appliance's key, when that one has a passphrase."""
        return f"{self}.sealed"


# What a backup takes, beside the database; whatever of it is there.
KEPT: Final = (
    *(config.FILE_NAME, KEY),
    *(service.sealed for service in Onion),
    *(f"tor/{service}/{ONION_KEY}" for service in Onion),
)
_OURS: Final = frozenset(
    (
        *(DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}.copy", KEY, STATUS_SOCKET, RESTORED),
        *(service.sealed for service in Onion),
        *("lock", "tor", "web", config.FILE_NAME, "README.md"),
    )
)


class DataDirectory:
    """The directory, held by this process alone from `with` to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / DATABASE
        self.status_socket = self.path / STATUS_SOCKET
        self.web_socket = self.path / "web" / "web.sock"
        self.tor = self.path / "tor"
        self._key = self.path / KEY
        self._in_memory: Path | None = None
        self._lock_fd = -1

    def __enter__(self) -> DataDirectory:
        """SetupError: it cannot be used, or another VeilSupport runs on it."""
        self._check_lengths()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_ours(self.path)
            self._close_to_others()
            self._lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SetupError(
                f"The data directory cannot be used ({os.strerror(error.errno or 0)}).",
                hint="Name another one with --data, or look at its owner and permissions.",
            ) from None
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            raise SetupError(
                "Another VeilSupport runs on this data directory.",
                hint="Stop it first, or give this one a directory of its own with --data.",
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._in_memory is not None:
            shutil.rmtree(self._in_memory, ignore_errors=True)
        os.close(self._lock_fd)

    def _check_lengths(self) -> None:
        for path in (self.status_socket, self.web_socket, self.tor / "run" / "control.sock"):
            excess = len(bytes(path)) - _SOCKET_PATH_MAX_BYTES
            if excess > 0:
                raise SetupError(
                    "The path of the data directory is too long for the sockets in it.",
                    hint=f"Use one that is at least {excess} characters shorter.",
                )

    def _close_to_others(self) -> None:
        """0700; but a directory that others can enter and that holds more than ours is somebody's: not touched."""
        if stat.S_IMODE(self.path.stat().st_mode) & 0o077 == 0:
            return
        if {path.name for path in self.path.iterdir()} - _OURS:
            raise SetupError(
                "The data directory can be entered by others and holds files that are not ours.",
                hint="Name an empty or new directory with --data, or close this one yourself with chmod 700.",
            )
        self.path.chmod(0o700)

    def note(self, text: str) -> None:
        """One line, kept from one start to the next in the lock's file, which is no secret (steadiness.py)."""
        with contextlib.suppress(OSError):  # a full or read-only disk: the last one stands
            os.ftruncate(self._lock_fd, os.pwrite(self._lock_fd, text.encode(), 0))

    @property
    def noted(self) -> str:
        return os.pread(self._lock_fd, 200, 0).decode(errors="replace")

    @property
    def is_new(self) -> bool:
        return not self._key.exists() and not self.database.exists()

    @property
    def is_restored(self) -> bool:
        """It came out of a backup, and no first start of it has ended well (moving/restored.py)."""
        return (self.path / RESTORED).exists()

    def forget_restored(self) -> None:
        (self.path / RESTORED).unlink(missing_ok=True)

    def key(self, passphrase: Callable[[], Private | None], *, first: Private | None = None) -> ApplianceKey:
        """The appliance's key, made on the first start; `passphrase` is asked only when it is needed.

        `first`: the passphrase of a key that is made now, so that it never rests in the open.

        SetupError: damaged, wrong passphrase, or the key is missing beside an existing database.
        """
        raw = self._key_file()
        if raw is not None:
            return ApplianceKey.from_file(raw, passphrase() if ApplianceKey.needs_passphrase(raw) else None)
        if self.database.exists():
            raise SetupError(
                "The appliance's key is missing, but its database is there.",
                hint=f"Put back {KEY} from a backup; without it the database stays shut.",
            )
        key = ApplianceKey.generate()
        self.keep_key(key, first)
        return key

    def _key_file(self) -> bytes | None:
        try:
            return self._key.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            raise SetupError(
                "The appliance's key file cannot be read.", hint=f"Look at the owner and permissions of {KEY}."
            ) from None

    def keep_key(self, key: ApplianceKey, passphrase: Private | None) -> None:
        """Write the key file, wrapped when there is a passphrase; the onion services' keys follow it."""
        onion_keys = {service: found for service in Onion if (found := self._onion_key(service, key)) is not None}
        if passphrase is None:
            for service, onion_key in onion_keys.items():
                self._keep_open(service, onion_key)
            config.write_private(self._key, key.to_file(None))
            for service in Onion:
                self._sealed(service).unlink(missing_ok=True)
            return
        for service, onion_key in onion_keys.items():
            self._keep_sealed(service, key, onion_key)
        _replace(self._key, key.to_file(passphrase))
        for service in Onion:
            self._forget_open(service)

    def onion(self, service: Onion, key: ApplianceKey) -> Path:
        """The directory in which tor finds the service's key, which is made when there is none yet.

        In the data directory; or, when the appliance's key has a passphrase, in memory-backed storage, and at rest
        sealed beside the database. SetupError: there is no such storage.
        """
        onion_key = self._onion_key(service, key) or crypto.new_onion_key()
        if not self._is_wrapped:
            self._keep_open(service, onion_key)
            return self._open(service)
        if not self._sealed(service).exists():  # new, or killed in the middle of keep_key
            self._keep_sealed(service, key, onion_key)
        self._forget_open(service)
        self._in_memory = _memory_directory(self.path)
        path = self._in_memory / service
        path.mkdir(mode=0o700, exist_ok=True)
        config.write_private(path / ONION_KEY, onion_key)
        return path

    def database_bytes(self) -> int:
        """With its write-ahead log."""
        files = (self.database, self.database.with_name(self.database.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    @property
    def has_passphrase(self) -> bool:
        """Whether the appliance's key rests under one."""
        return self._is_wrapped

    def address(self, service: Onion, passphrase: Callable[[], Private | None]) -> str | None:
        """The service's address, by its key as it rests; None before there is one. `passphrase` as for `key`."""
        if (self._open(service) / ONION_KEY).exists():
            return crypto.onion_address((self._open(service) / ONION_KEY).read_bytes())
        if not self._sealed(service).exists():
            return None
        return self.known_address(service, self.key(passphrase))

    def known_address(self, service: Onion, key: ApplianceKey) -> str | None:
        """The same with the key at hand."""
        found = self._onion_key(service, key)
        return crypto.onion_address(found) if found else None

    def rotate(self, service: Onion, key: ApplianceKey) -> str:
        """A new key for the service, and its address; the old key is overwritten. Nothing else must run on it.

        SetupError: it cannot be kept.
        """
        onion_key = crypto.new_onion_key()
        try:
            if self._is_wrapped:
                sealed = crypto.wrap(key.settings, onion_key, service.encode())
                self._forget_open(service)
                _replace(self._sealed(service), sealed)
                with contextlib.suppress(SetupError):  # What a killed appliance left there is of the old key.
                    shutil.rmtree(_memory_directory(self.path), ignore_errors=True)
            else:
                self._open(service).mkdir(mode=0o700, parents=True, exist_ok=True)
                for made_by_tor in ("hs_ed25519_public_key", "hostname"):  # It refuses those of another key.
                    (self._open(service) / made_by_tor).unlink(missing_ok=True)
                _replace(self._open(service) / ONION_KEY, onion_key)
        except OSError as error:
            raise SetupError(
                f"The onion service's new key cannot be kept ({os.strerror(error.errno or 0)}).",
                hint="Look at the disk, and at the owner and permissions of the data directory.",
            ) from None
        return crypto.onion_address(onion_key)

    @property
    def _is_wrapped(self) -> bool:
        raw = self._key_file()
        return raw is not None and ApplianceKey.needs_passphrase(raw)

    def _open(self, service: Onion) -> Path:
        return self.tor / service

    def _sealed(self, service: Onion) -> Path:
        return self.path / service.sealed

    def _onion_key(self, service: Onion, key: ApplianceKey) -> bytes | None:
        """Wherever it rests; None before there is one. SetupError: it is sealed to another key."""
        if (self._open(service) / ONION_KEY).exists():
            return (self._open(service) / ONION_KEY).read_bytes()
        if not self._sealed(service).exists():
            return None
        try:
            return crypto.unwrap(key.settings, self._sealed(service).read_bytes(), service.encode())
        except SealError:
            raise SetupError(
                "The onion service's key does not open with this appliance's key.",
                hint=f"Put back {service.sealed} and {KEY} from the same backup.",
            ) from None

    def _keep_sealed(self, service: Onion, key: ApplianceKey, onion_key: bytes) -> None:
        config.write_private(self._sealed(service), crypto.wrap(key.settings, onion_key, service.encode()))

    def _keep_open(self, service: Onion, onion_key: bytes) -> None:
        if not (self._open(service) / ONION_KEY).exists():
            self._open(service).mkdir(mode=0o700, parents=True, exist_ok=True)
            config.write_private(self._open(service) / ONION_KEY, onion_key)

    def _forget_open(self, service: Onion) -> None:
        """SetupError: the clear key cannot be removed, and must not be thought to be."""
        try:
            _overwrite(self._open(service) / ONION_KEY)
            if self._open(service).exists():
                shutil.rmtree(self._open(service))
        except OSError:
            raise SetupError(
                "The onion service's clear key cannot be removed from the disk.",
                hint=f"Look at the owner and permissions of tor/{service} in the data directory.",
            ) from None


def change_settings(data: Path, change: Callable[[Config], Config]) -> Config:
    """Save the changed settings, tell the appliance that runs on them, and give them back.

    SetupErrors: what is wrong with them, nothing was saved; or the appliance did not take what was saved.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_ours(data)
    except OSError:
        raise SetupError("The data directory cannot be made.", hint="Name another one with --data.") from None
    with config.locked(data):
        after = change(config.load(data))
        config.save(data, after)
        told = ask(data, "reload")
    if told and "error" in told:
        raise SetupError(f"It is saved, but the running desk did not take it. {told['error']}", hint=told["hint"])
    return after


def _require_ours(data: Path) -> None:
    """SetupError: it is somebody else's, who could not read what we put there: not even root leaves a file in it."""
    if data.stat().st_uid != os.geteuid():
        raise NOT_OURS.anew()


def _replace(path: Path, content: bytes) -> None:
    """The new key first, under its name; then zeros over what the name stood for before (see `_overwrite`)."""
    before = os.open(path, os.O_WRONLY) if path.exists() else -1
    config.write_private(path, content)
    if before >= 0:
        os.pwrite(before, bytes(os.fstat(before).st_size), 0)
        os.fsync(before)
        os.close(before)


def _overwrite(path: Path) -> None:
    """Zeros over a clear key before it goes. Without effect on disks that write elsewhere (SSDs, snapshots)."""
    if path.exists():
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())


def _memory_directory(data: Path) -> Path:
    """A directory of our own on a tmpfs, the same for the same data directory. It could still be swapped out."""
    name = f"veilsupport-{hashlib.blake2b(bytes(data), digest_size=8).hexdigest()}"
    for base in machine.memory_bases():
        path = base / name
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            status = path.lstat()
        except OSError:
            continue
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
        if ours and machine.is_in_memory(path):
            return path
    raise SetupError(
        "There is no memory-backed storage for the onion service's key, which your passphrase keeps off the disk.",
        hint="Mount a tmpfs on /dev/shm, or set RUNTIME_DIRECTORY to a directory on one.",
    )
