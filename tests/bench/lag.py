"""How late a server's loop is: a small question, again and again, from a process of its own.

    python -m tests.bench.lag http PORT PER_SECOND PATH      GET on a kept connection
    python -m tests.bench.lag ping PORT PER_SECOND TOKEN     {"type": "ping"} on a signed-in WebSocket of the desk

Prints a line when it is ready; then each line on stdin is answered by the milliseconds of all questions since.

An answer counts as arrived when the kernel took it from the loopback device (SO_TIMESTAMPNS), so that a busy
generator on the same core, which keeps this process from running, is not taken for the server's lag. Questions that
were due while an answer was still missing count from when they were due: else a loop that stands still for a
second would be one slow question among many quick ones.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bench.dialects import frame_at, masked
from tests.bench.processes import LOAD_CORE, Pinned

_SO_TIMESTAMPNS: Final = 35  # socket(7); Python 3.11 has no name for it
_TIMESPEC: Final = struct.Struct("@qq")
_SECONDS: Final = 60.0


class Probe(Pinned):
    """Asks from its start on; `kind` and `what` as above."""

    def __init__(self, port: int, kind: str, what: str, *, per_second: int) -> None:
        words = [kind, str(port), str(per_second), what]
        super().__init__([sys.executable, "-m", "tests.bench.lag", *words], core=LOAD_CORE, errors=Path("/dev/stderr"))
        self.line()

    def take(self) -> list[float]:
        """Milliseconds of each question since the last time. RuntimeError: the server ended it."""
        self.tell("")
        told: list[float] = json.loads(self.line())
        return told


class _Asking:
    """One connection and what was found out by it. Subclasses say what is asked, and what is the answer to it."""

    question: bytes

    def __init__(self, port: int) -> None:
        self.delays: list[float] = []
        self.host = f"Host: 127.0.0.1:{port}\r\n"
        self.link = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._unread = b""

    def after_answer(self, data: bytes) -> bytes | None:
        """What follows the answer in `data`; None: it has not come yet."""
        _, end, rest = data.partition(b"\r\n\r\n")
        return rest if end else None

    def ask(self, question: bytes, after: Callable[[bytes], bytes | None]) -> tuple[float, float]:
        """When it was asked, and when the answer was there."""
        asked_at = time.time()
        self.link.sendall(question)
        while True:
            data, ancillary, _, _ = self.link.recvmsg(65_536, 64)
            if not data:
                raise EOFError("the server has hung up")
            stamps = [_TIMESPEC.unpack(raw) for _, kind, raw in ancillary if kind == _SO_TIMESTAMPNS]
            self._unread += data
            if (rest := after(self._unread)) is not None:
                self._unread = rest
                return asked_at, stamps[-1][0] + stamps[-1][1] / 1e9 if stamps else time.time()

    def go_on(self, pause: float) -> None:
        due = time.time()
        while True:
            due = max(due + pause, time.time() - pause)
            time.sleep(max(0.0, due - time.time()))
            asked_at, answered_at = self.ask(self.question, self.after_answer)
            self.delays.append((answered_at - asked_at) * 1000)
            while due + pause < answered_at:
                due += pause
                self.delays.append((answered_at - due) * 1000)


class _Page(_Asking):
    def __init__(self, port: int, path: str) -> None:
        super().__init__(port)
        self.question = f"GET {path} HTTP/1.1\r\n{self.host}\r\n".encode()


class _Socket(_Asking):
    question = masked(b'{"type":"ping"}')

    def __init__(self, port: int, token: str) -> None:
        super().__init__(port)
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        self.ask(f"GET /api/v1/ws HTTP/1.1\r\n{self.host}{upgrade}{key}\r\n".encode(), super().after_answer)
        auth = masked(json.dumps({"type": "auth", "token": token}).encode())
        self.ask(auth, lambda data: self._after(b'"type":"ready"', data))

    def after_answer(self, data: bytes) -> bytes | None:
        return self._after(b'"type":"pong"', data)

    def _after(self, word: bytes, data: bytes) -> bytes | None:
        start = 0
        while (frame := frame_at(data, start)) is not None:
            opcode, payload, start = frame
            if opcode == 9 and start == len(data):  # answered once: when it is the last one that has come
                self.link.sendall(bytes((0x8A, 0x80 | len(payload))) + b"\0\0\0\0" + payload)
            if word in payload:
                return data[start:]
        return None


def main() -> None:
    kind, port, per_second, what = sys.argv[1:]
    asking = {"http": _Page, "ping": _Socket}[kind](int(port), what)

    def tell() -> None:
        for _ in sys.stdin:
            taken, asking.delays = asking.delays, []
            print(json.dumps(taken), flush=True)

    threading.Thread(target=tell, daemon=True).start()
    print("ready", flush=True)
    asking.go_on(1 / int(per_second))


if __name__ == "__main__":
    main()
