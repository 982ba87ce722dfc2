"""A program under Node that uses our SDK; it runs what a test gives it, as `chromium.Tab` does in a page."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_HOST: Final = Path(__file__).parent / "node_host.js"


class NodeError(Exception):
    """The script threw."""


class Node:
    """One process. `VeilSupportClient` and a WebSocket named `Socket` are there; what is set on `globalThis` stays."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["node", str(_HOST)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, script: str) -> Any:
        """The value of an expression; of a promise, what it settles to. Raises NodeError with what was thrown."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"script": script}) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        if "error" in told:
            raise NodeError(told["error"])
        return told.get("value")

    def __enter__(self) -> Node:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait(10)
        self._process.stdout.close()
