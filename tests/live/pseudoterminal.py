"""A terminal of 80 columns, and the operator before it: reads what stands there and types.

    with PseudoTerminal("setup", "--data", str(data)) as screen:
        screen.answers("Account", "desk@localhost")       # waits for the question, then types the line
        screen.shows("Settings are saved")

The program has it as its controlling terminal, so that passwords and Ctrl-C go the way they go on a real one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from tests.live.appliance import COMMAND

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_SIZE: Final = struct.pack("HHHH", 40, 80, 0, 0)
_CTRL_C: Final = "\x03"


class PseudoTerminal:
    """`text` is all that was ever shown, colours left out; what a prompt has been found in is not searched again."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None, command: Sequence[str] = COMMAND) -> None:
        self.text = ""
        self._read_up_to = 0
        self._command = ["setsid", "--ctty", *command, *arguments]
        self._environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **(env or {})}
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, _SIZE)
        self.process: subprocess.Popen[bytes] | None = None

    def shows(self, pattern: str, *, seconds: float = 30) -> re.Match[str]:
        """The next match in what is shown. Fails when the program ends or takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            if found := re.compile(pattern).search(self.text, self._read_up_to):
                self._read_up_to = found.end()
                return found
            assert self.process is not None
            ended = self.process.poll() is not None
            if not self._read(0.2) and (ended or time.monotonic() > deadline):
                raise AssertionError(f"no {pattern!r} in:\n{self.text}")

    def types(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def answers(self, question: str, line: str = "", *, seconds: float = 30) -> None:
        """Wait for the question, then type a line; an empty one is Enter alone."""
        self.shows(question, seconds=seconds)
        self.shows(r": \Z", seconds=5)
        self.types(line + "\n")

    def ends(self, *, seconds: float = 30) -> int:
        """The exit status; all it still had to say is in `text`."""
        deadline = time.monotonic() + seconds
        assert self.process is not None
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.2)
        while self._read(0):
            pass
        return self.process.wait(0.1)

    def interrupts(self, *, seconds: float = 30) -> int:
        """Ctrl-C, and the exit status.

        Again where it came in the instant between a prompt and its read, when CPython notes it but goes on to read.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.types(_CTRL_C)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.ends(seconds=2)
            assert time.monotonic() < deadline, self.text

    @property
    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        self.text += _ESCAPES.sub("", os.read(self._master, 65_536).decode("utf-8", "replace")).replace("\r\n", "\n")
        return True

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, stdin=self._slave, stdout=self._slave, stderr=self._slave, env=self._environment
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(8)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
        os.close(self._slave)
