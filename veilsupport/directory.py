"""The data directory: who may read it, who runs on it, and the keys that rest in it.

data/README.md lists every file. Knows files and wrapping, not what is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from veilsupport import config, crypto
from veilsupport.crypto import ApplianceKey
from veilsupport.errors import SealError, SetupError
from veilsupport.model import Private

DATABASE: Final = "veilsupport.sqlite"
KEY: Final = "appliance.key"
ONION_KEY: Final = "hs_ed25519_secret_key"  # tor's name for it
SEALED_ONION: Final = "onion.sealed"
STATUS_SOCKET: Final = "status.sock"


class DataDirectory:
    """The directory, held by this process alone from `with` to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / DATABASE
        self.status_socket = self.path / STATUS_SOCKET
        self.web_socket = self.path / "web" / "web.sock"
        self.tor = self.path / "tor"
        self._key = self.path / KEY
        self._open_onion = self.tor / "onion"
        self._sealed_onion = self.path / SEALED_ONION
        self._in_memory: Path | None = None
        self._lock_fd = -1

    def __enter__(self) -> DataDirectory:
        """SetupError: it cannot be used, or another VeilSupport runs on it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
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

    @property
    def is_new(self) -> bool:
        return not self._key.exists() and not self.database.exists()

    def key(self, passphrase: Callable[[], Private | None]) -> ApplianceKey:
        """The appliance's key, made on the first start; `passphrase` is asked only when it is needed.

        SetupError: damaged, wrong passphrase, or the key is missing beside an existing database.
        """
        if self._key.exists():
            raw = self._key.read_bytes()
            return ApplianceKey.from_file(raw, passphrase() if ApplianceKey.needs_passphrase(raw) else None)
        if self.database.exists():
            raise SetupError(
                "The appliance's key is missing, but its database is there.",
                hint=f"Put back {KEY} from a backup; without it the database stays shut.",
            )
        key = ApplianceKey.generate()
        self.keep_key(key, None)
        return key

    def keep_key(self, key: ApplianceKey, passphrase: Private | None) -> None:
        """Write the key file, wrapped when there is a passphrase; the onion service's key follows it."""
        onion_key = self._onion_key(key)
        if passphrase is None:
            self._keep_open(onion_key)
            config.write_private(self._key, key.to_file(None))
            self._sealed_onion.unlink(missing_ok=True)
            return
        if onion_key is not None:
            config.write_private(self._sealed_onion, crypto.wrap(key.settings, onion_key, b"onion"))
        config.write_private(self._key, key.to_file(passphrase))
        shutil.rmtree(self._open_onion, ignore_errors=True)

    def onion(self, key: ApplianceKey) -> Path:
        """Where tor shall find the onion service's key.

        In the data directory, where tor makes it; or, when the appliance's key has a passphrase, in memory-backed
        storage, and at rest sealed beside the database. SetupError: there is no such storage.
        """
        if not self._is_wrapped:
            return self._open_onion
        onion_key = self._onion_key(key)
        if onion_key is None:
            onion_key = crypto.new_onion_key()
            config.write_private(self._sealed_onion, crypto.wrap(key.settings, onion_key, b"onion"))
        self._in_memory = _memory_directory(self.path)
        config.write_private(self._in_memory / ONION_KEY, onion_key)
        return self._in_memory

    @property
    def _is_wrapped(self) -> bool:
        return self._key.exists() and ApplianceKey.needs_passphrase(self._key.read_bytes())

    def _onion_key(self, key: ApplianceKey) -> bytes | None:
        """Wherever it rests; None before there is one. SetupError: it is sealed to another key."""
        if (self._open_onion / ONION_KEY).exists():
            return (self._open_onion / ONION_KEY).read_bytes()
        if not self._sealed_onion.exists():
            return None
        try:
            return crypto.unwrap(key.settings, self._sealed_onion.read_bytes(), b"onion")
        except SealError:
            raise SetupError(
                "The onion service's key does not open with this appliance's key.",
                hint=f"Put back {SEALED_ONION} and {KEY} from the same backup.",
            ) from None

    def _keep_open(self, onion_key: bytes | None) -> None:
        if onion_key is not None:
            self._open_onion.mkdir(mode=0o700, parents=True, exist_ok=True)
            config.write_private(self._open_onion / ONION_KEY, onion_key)


def _memory_directory(data: Path) -> Path:
    """A directory of our own on a tmpfs, the same for the same data directory. It could still be swapped out."""
    name = f"veilsupport-{hashlib.blake2b(bytes(data), digest_size=8).hexdigest()}"
    bases = (os.environ.get("RUNTIME_DIRECTORY"), os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm")  # noqa: S108 - checked
    for base in filter(None, bases):
        path = Path(base) / name
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            status = path.lstat()
        except OSError:
            continue
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
        if ours and _is_in_memory(path):
            return path
    raise SetupError(
        "There is no memory-backed storage for the onion service's key, which your passphrase keeps off the disk.",
        hint="Mount a tmpfs on /dev/shm, or set RUNTIME_DIRECTORY to a directory on one.",
    )


def _is_in_memory(path: Path) -> bool:
    """Whether the innermost mount above the path is a tmpfs or ramfs (proc(5), /proc/self/mounts)."""
    kind_at = {line.split()[1]: line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()}
    mount = next(str(each) for each in (path.resolve(), *path.resolve().parents) if str(each) in kind_at)
    return kind_at[mount] in ("tmpfs", "ramfs")
