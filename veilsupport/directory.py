"""The data directory: who may read it, who runs on it, and the appliance's key in it.

data/README.md lists every file. Knows files and the key's wrapping, not what is kept.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from veilsupport import config
from veilsupport.crypto import ApplianceKey
from veilsupport.errors import SetupError
from veilsupport.model import Private

DATABASE: Final = "veilsupport.sqlite"
KEY: Final = "appliance.key"
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
        """Write the key file, wrapped when there is a passphrase."""
        config.write_private(self._key, key.to_file(passphrase))
