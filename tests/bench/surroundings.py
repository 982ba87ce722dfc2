"""What a run needs of the machine, and how it ends when it is told to."""

from __future__ import annotations

import os
import resource
import signal
import sys
from types import FrameType
from typing import Final

from tests.bench.processes import LOAD_CORE, SERVER_CORE

_DESCRIPTORS: Final = 20_000  # ten thousand sockets, and what else is open


def prepare() -> None:
    """Once, in the process that the others are children of. SystemExit: there are not two cores.

    A signal becomes SystemExit, so that every `with` ends what it began, directories too.
    """
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        sys.exit(
            f"bench: error: it needs processors {SERVER_CORE} and {LOAD_CORE}, one for the server, one for the load"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))  # a shell's is 1,024
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # timeout(1) says it twice
    sys.exit(128 + number)
