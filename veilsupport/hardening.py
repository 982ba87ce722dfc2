"""What the process asks of the system for its own safety, before it holds any secret."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT: Final = 1  # mlockall(2)
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_MAP_NORESERVE: Final = 0x4000  # mmap(2)


def forbid_core_dumps() -> None:
    """No image of our memory on disk after a crash, and none for other processes of the same user to attach to."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_memory() -> bool:
    """Let none of our memory be swapped to a disk; whether the system permits it.

    All of it: Python copies strings and bytes wherever it likes, so that to lock single pages for keys would only look
    safe. Pages are locked when they are first used (MCL_ONFAULT), so it takes no more memory than before. Our tor is
    another process and is not locked by this.
    """
    unlimited = resource.RLIM_INFINITY
    with contextlib.suppress(ValueError, OSError):  # only root may; a unit's or container's limit is set already
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))
    system = ctypes.CDLL(None)
    if system.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return False
    # Under a limit that holds for us, everything beyond it would fail later on for want of memory.
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == unlimited or _can_map(limit + mmap.PAGESIZE):
        return True
    system.munlockall()
    return False


def _can_map(size_bytes: int) -> bool:
    try:
        mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def allow_many_connections() -> None:
    """As many file descriptors as the system permits: each open page holds one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_with_parent() -> None:
    """SIGTERM for us as soon as the process that started us is gone, however it ended.

    Call it in the main thread. A parent that is gone already sends nothing: the caller compares getppid(2).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
