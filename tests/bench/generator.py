"""The load generator: a process of its own, on a core of its own, that holds thousands of clients and times them.

    python -m tests.bench.generator        a job of JSON on each line of stdin, its outcome on a line of stdout

    open       {"dialect", "host", "port" or "socket", "accounts": […], "devices": how many of each, or "only": which,
               "at_once", "path", "after"}: connect and sign in; `after` is a sequence number to resume from
    closed     {"seconds", "bytes", "senders"}: each sender says the next as soon as the one before is accepted
    paced      {"seconds", "bytes", "per_second", "senders"}: so many a second, whatever happens; timed from when it
               was due
    watch      {"seconds"}: only look; outcome of what others say
    close      {"abrupt", "pause"}: let go of all connections, without a word when abrupt; and wait so many seconds

Every outcome of `closed`, `paced` and `watch` has `said`, `accepted`, `seen`: pairs of a message's number and an
instant (seconds of CLOCK_MONOTONIC, which is one clock for all processes), `lost`: connections that ended, `busy`:
which part of its core this process used meanwhile, and `core_busy`: which part of it everybody did, the admins' server
and phone among them. A generator on a core that is busier than 0.9 is the bottleneck itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import time
from typing import Any, Final

import uvloop

from tests.bench import jobs
from tests.bench.dialects import DIALECTS, Link
from tests.bench.processes import LOAD_CORE, core_ticks
from tests.bench.xmpplink import XmppLink

_DRAIN_SECONDS: Final = 5.0  # after the last message is said, for what is still under way
_OPEN_SECONDS: Final = 120.0
_DIALECTS: Final = {**DIALECTS, "xmpp": XmppLink}


class Load:
    """All clients of this process, and what happened to each message."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._senders: list[Link] = []
        self._numbers = itertools.count(1)
        self._forget()

    def _forget(self) -> None:
        self._said: dict[int, float] = {}
        self._accepted: list[tuple[int, float]] = []
        self._seen: list[tuple[int, float]] = []
        self._sender_of: dict[int, Link] = {}
        self._lost = 0
        self._goes_on = False
        self._filler = ""

    # ---- what a link tells -------------------------------------------------------------------------------------

    def accepted(self, number: int) -> None:
        sender = self._sender_of.pop(number, None)
        if sender is None:
            return  # of a job before, or told twice
        self._accepted.append((number, time.monotonic()))
        if self._goes_on:
            self._say(sender, time.monotonic())

    def seen(self, number: int) -> None:
        self._seen.append((number, time.monotonic()))

    def lost(self, link: Link) -> None:
        self._lost += 1

    # ---- jobs ----------------------------------------------------------------------------------------------------

    async def open(self, job: dict[str, Any]) -> dict[str, Any]:
        """Connect all; how long it took, each one's own time, and how many failed."""
        make = _DIALECTS[job["dialect"]]
        gate = asyncio.Semaphore(job.get("at_once", 200))
        took: list[float] = []
        failed: list[str] = []
        devices = job.get("only", range(job.get("devices", 1)))

        async def connect(account: Any, device: int) -> Link | None:
            async with gate:
                began = time.monotonic()
                link = make(self, account, device, job)
                try:
                    async with asyncio.timeout(_OPEN_SECONDS):
                        await link.connect()
                except (OSError, EOFError, TimeoutError) as error:
                    failed.append(f"{type(error).__name__}: {error}")
                    return None
                took.append(time.monotonic() - began)
                return link

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(connect(account, each)) for account in job["accounts"] for each in devices]
        seconds = time.monotonic() - began
        links = [link for task in tasks if (link := task.result()) is not None]
        self.links += links
        self._senders += [link for link in links if link.device == 0]  # in the order of the accounts
        gc.collect()
        gc.freeze()
        return {"seconds": seconds, "each": took, "failed": failed}

    async def closed(self, job: dict[str, Any]) -> dict[str, Any]:
        self._filler = "x" * job.get("bytes", 200)
        self._goes_on = True
        for sender in self._senders[: job.get("senders")]:
            self._say(sender, time.monotonic())
        await asyncio.sleep(job["seconds"])
        self._goes_on = False
        return {}

    async def paced(self, job: dict[str, Any]) -> dict[str, Any]:
        self._filler = "x" * job.get("bytes", 200)
        per_second, senders = job["per_second"], itertools.cycle(self._senders[: job.get("senders")])
        began = time.monotonic()
        for turn in range(int(job["seconds"] * per_second)):
            due = began + turn / per_second
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._say(next(senders), due)
        return {}

    async def watch(self, job: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(job["seconds"])
        return {}

    async def close(self, job: dict[str, Any]) -> dict[str, Any]:
        for link in self.links:
            link.leave(abrupt=job.get("abrupt", False))
        self.links, self._senders = [], []
        await asyncio.sleep(job.get("pause", 0.2))
        gc.unfreeze()
        return {}

    def _say(self, sender: Link, at: float) -> None:
        number = next(self._numbers)
        self._said[number] = at
        self._sender_of[number] = sender
        sender.say(number, f"c{number}. {self._filler}")

    async def do(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["job"] in ("open", "close"):
            outcome: dict[str, Any] = await getattr(self, job["job"])(job)
            return outcome
        self._forget()
        cpu, began, (core_busy, core_all) = time.process_time(), time.monotonic(), core_ticks(LOAD_CORE)
        await getattr(self, job["job"])(job)
        busy = (time.process_time() - cpu) / (time.monotonic() - began)
        core_busy_then, core_all_then = core_ticks(LOAD_CORE)
        await self._drain()
        return {
            "began": began,
            "seconds": job["seconds"],
            "said": list(self._said.items()),
            "accepted": self._accepted,
            "seen": self._seen,
            "lost": self._lost,
            "busy": busy,
            "core_busy": (core_busy_then - core_busy) / max(1, core_all_then - core_all),
        }

    async def _drain(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._sender_of:
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)  # what other devices are still to see


async def main() -> None:
    await jobs.serve(Load().do)


if __name__ == "__main__":
    uvloop.run(main())
