"""How a process that makes load is told what to do: a job of JSON on each line of stdin, its outcome on stdout."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any


async def serve(do: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """Until the end of stdin."""
    gc.set_threshold(100_000, 50, 100)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await do(json.loads(line))), flush=True)
