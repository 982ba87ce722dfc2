"""From the start of the process to its first answer, and what it takes at rest.

    python -m tests.bench.start [--quick]

From the checkout, and as the one executable if packaging/build has made it. The data directory is there already, as at
every start but the first; the first one makes keys and database, and is told by itself.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.figures import Figures, Scale, alone, beside_the_server
from tests.bench.processes import SERVER_CORE, Pinned, Usage, wait_for_http
from tests.bench.product import TOP
from tests.ports import free_port

_EXECUTABLE: Final = TOP / "dist" / "veilsupport"
_SETTLE_SECONDS: Final = 2.0
_CHECKOUT: Final = (sys.executable, str(TOP / "veilsupport.py"))


def measure(scale: Scale) -> Figures:
    ways: dict[str, Sequence[str]] = {"checkout": _CHECKOUT}
    if _EXECUTABLE.exists():
        ways["executable"] = [str(_EXECUTABLE)]
    told: Figures = {}
    with beside_the_server():
        for name, command in ways.items():
            told |= {f"start_{name}_{key}": value for key, value in _starts(command, scale.starts).items()}
    return told


def _starts(command: Sequence[str], many: int) -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        data.mkdir(mode=0o700)
        first, *others = [_start(command, data) for _ in range(1 + many)]
    seconds = [each for each, _ in others]
    return {
        "first_seconds": first[0],
        "seconds": statistics.median(seconds),
        "slowest_seconds": max(seconds),
        "at_rest_mib": statistics.median(memory for _, memory in others),
    }


def _start(command: Sequence[str], data: Path) -> tuple[float, float]:
    """(seconds to the first answer, MiB at rest)."""
    port = free_port()
    words = [*command, "run", "--data", str(data), "--no-tor", "--port", str(port)]
    began = time.monotonic()
    with Pinned(words, core=SERVER_CORE, errors=data.with_suffix(".log")) as child:
        seconds = wait_for_http(port, process=child.process) - began
        time.sleep(_SETTLE_SECONDS)
        memory = sum(Usage.of(pid).memory_bytes for pid in _with_children(child.pid))
    return seconds, memory / 1024 / 1024


def _with_children(pid: int) -> list[int]:
    """The executable unpacks itself in one process and runs in another."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _with_children(int(child)))]


if __name__ == "__main__":
    alone(measure)
