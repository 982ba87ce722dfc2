"""Feeds the breaker: measures how late the loop is, asks how much waits, and says when the breaker changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from veilsupport.breaker import Breaker
from veilsupport.errors import StoreError

_LOOK_SECONDS: Final = 1.0


async def watch(
    breaker: Breaker,
    *,
    backlog: Callable[[], int],
    clock: Callable[[], float],
    on_change: Callable[[bool], None],
    stop: asyncio.Event,
) -> None:
    """Once a second until `stop`. `clock` is the one that the web counts starts by; `on_change`: whether it tripped."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        began = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
        breaker.lagged(loop.time() - began - _LOOK_SECONDS)
        with contextlib.suppress(StoreError):  # A disk that does not even count: what was known last holds.
            breaker.waiting(backlog())
        before = breaker.is_tripped
        breaker.look(now=clock())
        if breaker.is_tripped != before:
            on_change(breaker.is_tripped)
