"""The appliance as its operator starts it: a process of its own, its output, its status, its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from veilsupport.controlsocket import STATUS_SOCKET

TOP: Final = Path(__file__).resolve().parent.parent.parent
COMMAND: Final = (sys.executable, str(TOP / "veilsupport.py"))


def run_command(
    *arguments: str, text: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command to its end, without a terminal."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )


class Appliance:
    """`veilsupport run` on a data directory; `output` is all it printed so far, errors too."""

    def __init__(self, data: Path, *arguments: str, command: Sequence[str] = COMMAND) -> None:
        self.data = data
        self._arguments = [*command, "run", "--data", str(data), *arguments]
        self._lines: list[str] = []
        self._started_at = 0  # how many lines earlier runs had printed
        self._news = threading.Condition()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Appliance:
        self._started_at = len(self._lines)
        self.process = subprocess.Popen(
            self._arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        return self

    @property
    def output(self) -> str:
        with self._news:
            return "\n".join(self._lines)

    def wait_for(self, pattern: str, *, seconds: float = 60) -> re.Match[str]:
        """The first match in what it prints since its last start. Fails when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                printed = "\n".join(self._lines[self._started_at :])
                found = re.search(pattern, printed, re.MULTILINE)
                if found:
                    return found
                assert self.process is not None
                ended = self.process.poll() is not None
                self._news.wait(min(0.5, max(0.0, deadline - time.monotonic())))
                if ended or time.monotonic() > deadline:
                    raise AssertionError(f"no {pattern!r} in:\n" + "\n".join(self._lines))

    def wait_for_page(self) -> str:
        """The page's address, on loopback."""
        return self.wait_for(r"http://127\.0\.0\.1:\d+")[0]

    def wait_for_onion(self, *, seconds: float = 90) -> str:
        """The page's address, once it has been fetched through Tor."""
        return self.wait_for(r"^http://[a-z2-7]{56}\.onion", seconds=seconds)[0]

    def status(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(self.data / STATUS_SOCKET))
            link.sendall(b"status\n")
            told: dict[str, Any] = json.loads(b"".join(iter(lambda: link.recv(65_536), b"")))
        return told

    def wait_until(self, what: str, check: Any, *, seconds: float = 60) -> dict[str, Any]:
        """Until `check(status)` holds."""
        deadline = time.monotonic() + seconds
        told: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # not listening yet
                told = self.status()
                if check(told):
                    return told
            time.sleep(0.05)
        raise AssertionError(f"not {what}: {told}\n{self.output}")

    def stop(self, *, seconds: float = 10) -> int:
        """SIGTERM; the exit status. Fails when it takes longer than it may."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._ended(seconds)

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        assert self.process is not None
        self.process.kill()
        self._ended(5)

    def _ended(self, seconds: float) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with self._news:
                    self._lines.append(line.rstrip("\n"))
                    self._news.notify_all()

    def __enter__(self) -> Appliance:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
