"""What can be seen of the machine: swap, encrypted disks, storage in memory, locks. Linux; reads /proc and /sys only.

Everything here may be hidden by a container: what cannot be seen is said to be unknown, never taken for well.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Final

_SYSTEM: Final = Path("/")


class Swap(StrEnum):
    """Where memory may be swapped to; the values complete a sentence."""

    NONE = "nowhere"
    MEMORY = "but only to compressed memory (zram)"
    ENCRYPTED = "but only to an encrypted disk"
    DISK = "to a disk"
    UNKNOWN = "who knows where"


def swap(system: Path = _SYSTEM) -> Swap:
    """The worst of all swap there is."""
    try:
        lines = (system / "proc/swaps").read_text().splitlines()[1:]
    except OSError:
        return Swap.UNKNOWN
    kinds = {_kind_of_swap(Path(line.split()[0]), system) for line in lines}
    return next((each for each in (Swap.DISK, Swap.ENCRYPTED, Swap.MEMORY) if each in kinds), Swap.NONE)


def _kind_of_swap(path: Path, system: Path) -> Swap:
    if path.name.startswith("zram"):
        return Swap.MEMORY
    return Swap.ENCRYPTED if is_encrypted(path, system) else Swap.DISK


def is_encrypted(path: Path, system: Path = _SYSTEM) -> bool | None:
    """Whether dm-crypt lies below that file, directory or block device; None: it cannot be seen.

    Hardware that encrypts by itself, and a virtual machine's disk that is encrypted outside, show as False.
    """
    device = _block_device(path, system)
    return None if device is None else _has_crypt(device)


def _block_device(path: Path, system: Path) -> Path | None:
    """Its directory in /sys. A file system on several devices (btrfs) has no number there: its mount names one."""
    try:
        status = path.stat()
    except OSError:
        return None
    number = status.st_rdev or status.st_dev
    found = system / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if found.exists():
        return found.resolve()
    source = _mount_of(path, system)[1]
    if not source.startswith("/dev/") or Path(source) == path:
        return None
    return _block_device(Path(source), system)


def _has_crypt(device: Path) -> bool:
    """It, or something that it lies upon; a partition lies upon its disk."""
    identity = device / "dm/uuid"
    if identity.exists() and identity.read_text().startswith("CRYPT-"):
        return True
    below = device / "slaves"
    return below.is_dir() and any(_has_crypt(each.resolve()) for each in below.iterdir())


def spins(path: Path, system: Path = _SYSTEM) -> bool | None:
    """Whether the disks below are magnetic, all of them; None: it cannot be seen, or there is none."""
    device = _block_device(path, system)
    found = [] if device is None else [_rotates(each) for each in _disks(device)]
    return all(found) if found else None


def _disks(device: Path) -> list[Path]:
    """Those that lie upon no other."""
    below = device / "slaves"
    slaves = [each.resolve() for each in below.iterdir()] if below.is_dir() else []
    return [disk for each in slaves for disk in _disks(each)] if slaves else [device]


def _rotates(device: Path) -> bool:
    """A partition has no queue of its own, but lies within its disk's directory."""
    for each in (device, device.parent):
        rotational = each / "queue/rotational"
        if rotational.exists():
            return rotational.read_text().strip() == "1"
    return False


def memory_storage() -> Path | None:
    """Where the onion key could be used from without touching a disk."""
    return next((base for base in memory_bases() if os.access(base, os.W_OK) and is_in_memory(base)), None)


def memory_bases() -> tuple[Path, ...]:
    """Where there may be storage in memory, the best first."""
    bases = (os.environ.get("RUNTIME_DIRECTORY"), os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm")  # noqa: S108 - looked at
    return tuple(map(Path, filter(None, bases)))


def is_in_memory(path: Path, system: Path = _SYSTEM) -> bool:
    """Whether that lies on a tmpfs or ramfs, which could still be swapped out."""
    return _mount_of(path, system)[0] in ("tmpfs", "ramfs")


def _mount_of(path: Path, system: Path) -> tuple[str, str]:
    """(type, source) of the innermost mount above the path (proc(5), /proc/self/mounts); of several there, the last."""
    try:
        rows = [line.split() for line in (system / "proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "", ""
    mounts = {_unescaped(row[1]): (row[2], _unescaped(row[0])) for row in rows}
    whole = path.resolve()
    return next((mounts[str(each)] for each in (whole, *whole.parents) if str(each) in mounts), ("", ""))


def _unescaped(name: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def locks_its_memory(system: Path = _SYSTEM) -> bool:
    """Whether this process's memory is kept from being swapped (VmLck of proc(5)); hardening.py asks for that."""
    try:
        lines = (system / "proc/self/status").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("VmLck:") and line.split()[1] != "0" for line in lines)


def core_pattern(system: Path = _SYSTEM) -> str:
    """Where the kernel puts memory after a crash (core(5)); empty when it cannot be seen."""
    try:
        return (system / "proc/sys/kernel/core_pattern").read_text().strip()
    except OSError:
        return ""


def is_locked(path: Path, system: Path = _SYSTEM) -> bool:
    """Whether a process holds the file by flock(2). Seen, not tried: a try could keep another from starting."""
    try:
        inode = path.stat().st_ino
        lines = (system / "proc/locks").read_text().splitlines()
    except OSError:
        return False
    return any(" FLOCK " in line and line.split()[5].endswith(f":{inode}") for line in lines if " -> " not in line)
