"""How the references in Python are started: what they are told on the command line, and uvicorn."""

from __future__ import annotations

import argparse
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import uvicorn


@dataclass(frozen=True, slots=True)
class Told:
    port: int
    loop: Literal["asyncio", "uvloop"]
    accounts: Path
    database: Path


def told() -> Told:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], required=True)
    parser.add_argument("--accounts", type=Path, required=True)
    parser.add_argument("--database", type=Path, required=True)
    given = parser.parse_args()
    return Told(given.port, given.loop, given.accounts, given.database)


def serve(app: Any, given: Told) -> None:
    """Until SIGTERM. No access log and no deflate, as in the product; all else is uvicorn's own choice for speed."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=given.port,
        loop=given.loop,
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
        backlog=4096,
        timeout_graceful_shutdown=1,
    )
    _Server(config).run()


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print("listening", flush=True)
