"""Processes pinned to one core each, and what they have used of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

SERVER_CORE: Final = 0
LOAD_CORE: Final = 1  # the generator's, and that of an XMPP server that only plays the admins' side
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def pinned(core: int) -> list[str]:
    """The words before a command on that core; the process becomes the command itself.

    It ends with us, however we end: a server left over would spoil whatever is measured next on its core.
    """
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "--cpu-list", str(core)]


def core_ticks(core: int) -> tuple[int, int]:
    """(in which it was busy, all) since the machine started."""
    lines = Path("/proc/stat").read_text().split("\n")
    ticks = [int(each) for line in lines if line.startswith(f"cpu{core} ") for each in line.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # idle, and waiting for a disk


class Pinned:
    """One child on one core, with its standard input and output as text."""

    def __init__(
        self, command: Sequence[str], *, core: int, env: Mapping[str, str] | None = None, errors: Path | None = None
    ) -> None:
        with Path(errors or os.devnull).open("ab") as log:
            self.process = subprocess.Popen(
                [*pinned(core), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def usage(self) -> Usage:
        return Usage.of(self.pid)

    def line(self) -> str:
        """The next line of its output. RuntimeError: it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended: {self.process.args!r}")
        return line

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class Usage:
    """What a process has used up to now: seconds of CPU, bytes of memory that are its own."""

    def __init__(self, cpu_seconds: float, memory_bytes: int) -> None:
        self.at = time.monotonic()
        self.cpu_seconds = cpu_seconds
        self.memory_bytes = memory_bytes

    @classmethod
    def of(cls, pid: int) -> Usage:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
        memory = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        return cls((int(fields[11]) + int(fields[12])) / _TICKS, memory * 1024)

    def busy_since(self, before: Usage) -> float:
        """Which part of one core, from then until now."""
        return (self.cpu_seconds - before.cpu_seconds) / (self.at - before.at)


class Generator(Pinned):
    """The load generator; `do` runs one job to its end."""

    def __init__(self, *, module: str = "tests.bench.generator") -> None:
        super().__init__([sys.executable, "-m", module], core=LOAD_CORE, errors=Path("/dev/stderr"))

    def do(self, job: str, **settings: Any) -> Any:
        self.tell(json.dumps({"job": job, **settings}))
        return json.loads(self.line())

    def open(self, *, dialect: str, port: int, accounts: Sequence[Any], **settings: Any) -> Any:
        """All of them on loopback. RuntimeError: one did not come in; else figures would be those of fewer."""
        opened = self.do("open", dialect=dialect, host="127.0.0.1", port=port, accounts=accounts, **settings)
        if opened["failed"]:
            raise RuntimeError(f"{dialect}: {len(opened['failed'])} did not come in: {opened['failed'][0]}")
        return opened


def wait_for_http(port: int, *, path: str = "/", process: subprocess.Popen[str] | None = None) -> float:
    """Until something answers there; the instant. TimeoutError after half a minute."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            opener.open(f"http://127.0.0.1:{port}{path}", timeout=5).close()
            return time.monotonic()
        except urllib.error.HTTPError as error:
            error.close()
            return time.monotonic()
        except OSError:
            time.sleep(0.005)
        if process is not None and process.poll() is not None:
            raise RuntimeError("it ended before it answered")
    raise TimeoutError("nothing answers there")
