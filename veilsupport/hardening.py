"""What the process asks of the system for its own safety, before it holds any secret."""

from __future__ import annotations

import ctypes
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> None:
    """No image of our memory on disk after a crash, and none for other processes of the same user to attach to."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def allow_many_connections() -> None:
    """As many file descriptors as the system permits: each open page holds one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_with_parent() -> None:
    """SIGTERM for us as soon as the process that started us is gone, however it ended.

    Call it in the main thread. A parent that is gone already sends nothing: the caller compares getppid(2).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
