"""Moving house: everything that makes this desk this desk in one sealed file, and back into a new data directory.

Inside the sealed file (sealedfile.py) lies a tar stream: `manifest.json` first, then the files that it names, each a
plain file under the name that it has in the data directory, and no others. The appliance's key and the onion services'
keys come as they rest, so a backup needs no other passphrase than its own.

A restored directory carries a mark, by which its first start looks whether another desk answers at its address, and
begins its OMEMO sessions anew (restored.py). This module knows files, not Tor and not what is in the database.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

import veilsupport
from veilsupport import config, crypto
from veilsupport.crypto import ApplianceKey, Cost
from veilsupport.directory import DATABASE, KEPT, KEY, ONION_KEY, RESTORED, Onion
from veilsupport.errors import SetupError
from veilsupport.model import Private
from veilsupport.moving import sealedfile
from veilsupport.moving.sealedfile import OpenedFile, SealingFile
from veilsupport.store import SCHEMA_VERSION, snapshot

_FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_SMALL_BYTES_MAX: Final = 16 << 20  # of every file but the database; larger ones are not ours
_BLOCK: Final = 1 << 20
_REQUIRED: Final = (KEY, DATABASE)
_BESIDE: Final = "README.md"  # what a checkout has in its data directory from the beginning
_FOREIGN: Final = SetupError(
    "The backup holds something that VeilSupport does not put into one.", hint="Take one that was made by `backup`."
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself. `files`: name → size in bytes. `made_minute`: Unix minutes."""

    format: int
    version: str
    schema: int
    made_minute: int
    files: dict[str, int]

    @property
    def has_address(self) -> bool:
        """Whether there is an onion service yet."""
        return bool({Onion.PAGE.sealed, f"tor/{Onion.PAGE}/{ONION_KEY}"} & self.files.keys())


@dataclass(frozen=True, slots=True)
class Restored:
    """`address`: …onion; None when there is none, or the appliance's passphrase keeps it."""

    manifest: Manifest
    address: str | None


# ---- out ---------------------------------------------------------------------------------------------------------


def make(data: Path, file: Path, passphrase: Private, *, now: float, cost: Cost = crypto.PASSPHRASE) -> Manifest:
    """Write the backup of that data directory, whether the desk runs or not. SetupError: there is none, of any kind."""
    with _written(file) as out, snapshot.copied(data / DATABASE) as database:
        small = _small_files(data)
        sizes = {name: len(content) for name, content in small.items()} | {DATABASE: database.stat().st_size}
        manifest = Manifest(_FORMAT, veilsupport.__version__, snapshot.check(database), int(now // 60), sizes)
        sealing = SealingFile(out, passphrase, cost=cost)
        with tarfile.open(fileobj=cast("IO[bytes]", sealing), mode="w|") as tar, database.open("rb") as content:
            _add(tar, _MANIFEST, io.BytesIO(json.dumps(asdict(manifest)).encode()))
            for name in small:
                _add(tar, name, io.BytesIO(small[name]))
            _add(tar, DATABASE, content)
        sealing.close()
    return manifest


def _small_files(data: Path) -> dict[str, bytes]:
    """All but the database, as they are at one moment: a change of the appliance's passphrase ends with its key."""
    try:
        with config.locked(data):
            while True:
                found = {name: (data / name).read_bytes() for name in KEPT if (data / name).exists()}
                if found.get(KEY) == (data / KEY).read_bytes():
                    break
    except OSError:
        raise SetupError(
            "The keys in the data directory cannot be read.",
            hint=f"Look at {KEY} and at its owner and permissions; nothing was written.",
        ) from None
    for name, content in found.items():
        _check_small(name, content)
    return found


def _add(tar: tarfile.TarFile, name: str, content: BinaryIO) -> None:
    """Without a time, an owner or a name of a user."""
    entry = tarfile.TarInfo(name)
    entry.size = content.seek(0, io.SEEK_END)
    entry.mode = 0o600
    content.seek(0)
    tar.addfile(entry, content)


@contextlib.contextmanager
def _written(file: Path) -> Iterator[BinaryIO]:
    """FILE.part, which becomes FILE when the block ends well, and goes when it does not."""
    part = file.with_name(file.name + ".part")
    _require_new(file)
    _remove_leftover(part)
    with _disk_errors("The backup cannot be written"):
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as out:
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield out
                out.flush()
                os.fsync(out.fileno())
                _require_new(file)
                part.rename(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync(file.parent)


def _require_new(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise SetupError("There is a file of that name.", hint="Name another: a backup never overwrites anything.")


def _remove_leftover(part: Path) -> None:
    """What a backup that was killed has left; nothing else."""
    try:
        with part.open("rb") as file:
            begin = file.read(len(sealedfile.MAGIC))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError:
        raise SetupError(
            "Another backup is being written to this file just now.", hint="Wait for it, or name another file."
        ) from None
    except OSError:
        begin = b"?"
    if not sealedfile.MAGIC.startswith(begin):
        raise SetupError(
            "Beside the backup stands a file with the same name and .part, which is not ours.",
            hint="Name another file, or move that one away.",
        )
    part.unlink()


# ---- in ----------------------------------------------------------------------------------------------------------


def verify(file: Path, passphrase: Private) -> Manifest:
    """Read it to its last byte. SetupError says what is wrong. The database is looked at in memory, never on a disk."""
    try:
        with _read_errors(), file.open("rb") as raw:
            manifest, members = _opened(raw, passphrase)
            for name, content in members:
                if name == DATABASE:
                    _check_schema(snapshot.check_in_memory(content.read()))
                else:
                    _check_small(name, content.read())
    except MemoryError:
        raise SetupError(
            "There is too little memory to look at the database in it.", hint="Verify it on a larger machine."
        ) from None
    return manifest


def restore(file: Path, data: Path, passphrase: Private) -> Restored:
    """Make that data directory from the backup, all of it in one step. SetupError, and nothing changed."""
    target = data.resolve()
    _require_free(target)
    with _read_errors(), file.open("rb") as raw:
        manifest, members = _opened(raw, passphrase)
        with _disk_errors("The data directory cannot be made"), _staged(target) as staging:
            _require_room(staging, manifest)
            for name, content in members:
                _write(staging / name, content)
            _check_all(staging)
            _write(staging / RESTORED, io.BytesIO(b""))
            _sync_all(staging)
            restored = Restored(manifest, _address(staging))
            _take_place(staging, target)
    return restored


def _opened(raw: BinaryIO, passphrase: Private) -> tuple[Manifest, Iterator[tuple[str, IO[bytes]]]]:
    """What it says of itself, and its files: all that are named there, in any order. SetupError: whatever is wrong."""
    opened = OpenedFile(raw, passphrase)
    try:
        tar = tarfile.open(fileobj=cast("IO[bytes]", opened), mode="r|")  # noqa: SIM115 - closed by _members
        first = tar.next()
    except tarfile.TarError:
        raise _FOREIGN.anew() from None
    if first is None or first.name != _MANIFEST or not first.isreg():
        raise _FOREIGN.anew()
    manifest = _parsed(_content(tar, first).read(_SMALL_BYTES_MAX))
    return manifest, _members(tar, opened, manifest)


def _members(tar: tarfile.TarFile, opened: OpenedFile, manifest: Manifest) -> Iterator[tuple[str, IO[bytes]]]:
    left = dict(manifest.files)
    try:
        with tar:
            while (entry := tar.next()) is not None:
                if not entry.isreg() or left.pop(entry.name, None) != entry.size:
                    raise _FOREIGN.anew()
                yield entry.name, _content(tar, entry)
    except tarfile.TarError:
        raise _FOREIGN.anew() from None
    opened.finish()
    if left:
        raise _FOREIGN.anew()


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(entry)
    assert content is not None, "it is a regular file"
    return content


def _parsed(raw: bytes) -> Manifest:
    try:
        values: dict[str, Any] = json.loads(raw)
        if int(values["format"]) > _FORMAT:
            raise sealedfile.NEWER
        sizes = {str(name): int(size) for name, size in values["files"].items()}
        manifest = Manifest(_FORMAT, str(values["version"]), int(values["schema"]), int(values["made_minute"]), sizes)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _FOREIGN.anew() from None
    _check_schema(manifest.schema)
    small = max((size for name, size in sizes.items() if name != DATABASE), default=0)
    if not set(_REQUIRED) <= sizes.keys() <= {*KEPT, DATABASE} or small > _SMALL_BYTES_MAX:
        raise _FOREIGN.anew()
    return manifest


def _check_schema(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise sealedfile.NEWER


def _check_small(name: str, content: bytes) -> None:
    """SetupError: it is a key, and damaged."""
    if name == KEY:
        ApplianceKey.check_file(content)
    elif name != config.FILE_NAME and len(content) not in (crypto.ONION_KEY_BYTES, crypto.SEALED_ONION_KEY_BYTES):
        raise SetupError("An onion service's key is damaged.", hint="Take an earlier backup.")


def _check_all(directory: Path) -> None:
    _check_schema(snapshot.check(directory / DATABASE))
    for name in KEPT:
        if (directory / name).exists():
            _check_small(name, (directory / name).read_bytes())


def _address(data: Path) -> str | None:
    key = data / "tor" / Onion.PAGE / ONION_KEY
    return crypto.onion_address(key.read_bytes()) if key.exists() else None


# ---- the directory that is made ------------------------------------------------------------------------------------


def _require_free(target: Path) -> None:
    try:
        found = {path.name for path in target.iterdir()}
    except FileNotFoundError:
        return
    except OSError:
        found = {""}
    if found - {_BESIDE}:
        raise SetupError(
            "The data directory is not empty.", hint="Name a new or empty one with --data; nothing was changed."
        )


def _require_room(directory: Path, manifest: Manifest) -> None:
    needed = sum(manifest.files.values())
    if shutil.disk_usage(directory).free < needed:
        raise SetupError(
            "The disk has too little room for what is in the backup; nothing was changed.",
            hint=f"Free at least {-(-needed // 1_000_000)} MB, or name a directory on another disk with --data.",
        )


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A directory beside the one that is to be, which no desk starts from: it goes unless it becomes that one."""
    staging = target.with_name(target.name + ".restoring")
    if staging.exists():
        with _locked(staging):
            _wipe(staging)
    staging.mkdir(mode=0o700)
    with _locked(staging):
        try:
            yield staging
        except BaseException:
            _wipe(staging)
            raise


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SetupError("Another restore makes this directory just now.", hint="Wait for it to end.") from None
    finally:
        os.close(handle)


def _wipe(staging: Path) -> None:
    """Zeros over what it holds, then away. SetupError: it holds what is not ours."""
    files = [path for path in staging.rglob("*") if not path.is_dir()]
    if {str(path.relative_to(staging)) for path in files} - {*KEPT, DATABASE, RESTORED, _BESIDE}:
        raise SetupError(
            f"Beside the data directory stands one with the same name and {staging.suffix}, which is not ours.",
            hint="Move it away, or name another data directory.",
        )
    for path in files:
        snapshot.erase(path, os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
    shutil.rmtree(staging)


def _write(path: Path, content: IO[bytes]) -> None:
    for parent in reversed([each for each in path.parents if not each.exists()]):
        parent.mkdir(mode=0o700)
    with path.open("xb") as file:
        path.chmod(0o600)
        shutil.copyfileobj(content, file, _BLOCK)
        file.flush()
        os.fsync(file.fileno())


def _take_place(staging: Path, target: Path) -> None:
    if (target / _BESIDE).exists():
        (staging / _BESIDE).write_bytes((target / _BESIDE).read_bytes())
        (target / _BESIDE).unlink()
    staging.rename(target)  # over an empty directory, or where there is none; over nothing else (rename(2))
    _sync(target.parent)


def _sync_all(directory: Path) -> None:
    for path in (*directory.rglob("*"), directory):
        if path.is_dir():
            _sync(path)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"{what} ({os.strerror(error.errno or 0)}).", hint="Look at the disk, the path and its permissions."
        ) from None


@contextlib.contextmanager
def _read_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"The backup cannot be read ({os.strerror(error.errno or 0)}).", hint="Look at its path and permissions."
        ) from None
