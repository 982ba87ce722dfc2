"""The web edge as shipped, in a process of its own, without tor and with a stand-in for the XMPP side.

    python -m tests.bench.floodserver DIRECTORY

A line of JSON on stdout each half second says how it is; a number of seconds on stdin puts its clock forward. It
ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from pathlib import Path

from tests.desks import ADA, KEY, desk_in
from veilsupport import model, pressure
from veilsupport.breaker import Breaker
from veilsupport.desk import Desk
from veilsupport.limits import Limits
from veilsupport.web import Site, build, serve

HOST = "f" * 56 + ".onion"
_HANDED_OVER_A_SECOND = 100  # what a good server takes


class Clock:
    """The time, which can be put forward."""

    ahead_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_seconds


async def main(directory: Path) -> None:
    breaker, floods, clock = Breaker(), set[int](), Clock()
    stop, ready = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear() -> None:
        for line in sys.stdin:
            clock.ahead_seconds += float(line)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=hear, daemon=True).start()
    async with desk_in(directory, (ADA,)) as desk:
        bugs: list[BaseException] = []
        site = build(
            desk,
            Limits(),
            key=KEY.forms,
            sites=lambda: {"": model.Site("", "Flooded", "")},
            onion=lambda: HOST,
            clock=clock,
            on_bug=bugs.append,
            breaker=breaker,
            on_flood=floods.add,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(site, unix_socket=directory / "web.sock", port=None, stop=stop, ready=ready))
            tasks.create_task(_hand_over(desk, stop))
            watched = pressure.watch(
                breaker, backlog=desk.store.backlog, clock=clock, on_change=lambda _: None, stop=stop
            )
            tasks.create_task(watched)
            await ready.wait()
            tasks.create_task(_tell(site, breaker, floods, bugs, stop))


async def _hand_over(desk: Desk, stop: asyncio.Event) -> None:
    """As a server that takes so many a second, and no more."""
    while not stop.is_set():
        ids = [each.stanza_id for each in desk.due(now=time.time())[: _HANDED_OVER_A_SECOND // 10]]
        await desk.delivery_sent(ids, now=time.time())
        await desk.delivery_acknowledged(ids)
        await _pause(stop, 0.1)


async def _tell(site: Site, breaker: Breaker, floods: set[int], bugs: list[BaseException], stop: asyncio.Event) -> None:
    while not stop.is_set():
        told = {
            "at": time.time(),
            "pressed_by": breaker.cause,
            "trips": breaker.trips,
            "backlog": breaker.backlog,
            "remembered": site.remembered,
            "streams": site.streams,
            "sockets": site.sockets,
            "circuits_closed": len(floods),
            "bugs": len(bugs),
        }
        print(json.dumps(told), flush=True)
        await _pause(stop, 0.5)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
