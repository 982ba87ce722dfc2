"""Ports on loopback for servers that the tests start, when several of them choose at once."""

from __future__ import annotations

import contextlib
import secrets
import socket
from typing import Final

# Below those the kernel itself gives away, which any connection might take between our choosing and the server's bind.
# By chance, so that tests in another process choose others.
_RANGE: Final = range(12_000, 32_000)


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Distinct: held together while they are chosen, then let go."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            port = secrets.choice(_RANGE)
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
    return ports
