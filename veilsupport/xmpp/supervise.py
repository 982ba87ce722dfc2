"""A connection is brought up, watched, and brought up again.

1. connect → ready, or gone, or out of time → let go → wait, longer each time and with jitter → again.
2. A link that has been silent is asked for a sign of life, and let go when none comes: found dead within a minute. It
   is let go without `</stream>`; if that arrived, the session could not be resumed.
3. What only a human can mend (wrong password, wrong certificate) is said in the state and tried again every few
   minutes.
4. An exception that nobody expected ends `run`, and with it the process.

It knows nothing of what goes over the connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from veilsupport.xmpp import signals
from veilsupport.xmpp.signals import Trouble

logger = logging.getLogger("veilsupport.xmpp")

_GOODBYE_SECONDS: Final = 1.5


class Phase(StrEnum):
    """How the line stands."""

    OFF = "off"
    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting"  # the next try comes by itself
    REFUSED = "refused"  # a human has to change something; tried again, slowly


@dataclass(frozen=True, slots=True)
class LinkState:
    """`summary` and `trouble` are plain words and hold no address; instants are Unix seconds.

    `omemo`: our fingerprint as an `xmpp:` URI. `form`: how visitors appear to the admins. `keeps_archive` is None
    until it is known; without an archive an answer written while we are away can be lost.
    """

    phase: Phase = Phase.OFF
    summary: str = "the line is off"
    since: float = 0.0
    next_try_at: float | None = None
    strangers_ignored: int = 0
    keeps_archive: bool | None = None
    form: str = ""
    omemo: str | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the line is, in seconds. Sensible for Tor, where a cold onion circuit can take a minute."""

    dial: float = 120
    negotiate: float = 60  # from the dial's end to a session; also ends the hang of a wrong TLS mode
    set_up: float = 90
    ping: float = 25  # silence before a sign of life is asked for
    pong: float = 25  # and how long it may take
    first_pause: float = 1
    longest_pause: float = 120
    refused_pause: float = 300
    steady: float = 30  # online for that long, and the pauses begin anew


OVER_TOR: Final = Pace()


class Link(Protocol):
    """What is supervised: a Dialled that can be asked for a sign of life."""

    up: asyncio.Event
    gone: asyncio.Event
    bug: asyncio.Future[None]
    trouble: Trouble | None
    connection: int
    heard_at: float

    def open(self) -> None: ...
    def cut(self, trouble: Trouble) -> None: ...
    def drop(self) -> None: ...
    def ask_for_acknowledgement(self) -> None: ...
    async def close(self, timeout_seconds: float) -> None: ...


class Supervisor:
    """`state` is what it knows of the link; `on_change` is called after each change of it."""

    def __init__(self, link: Link, *, on_change: Callable[[], None], clock: Callable[[], float], pace: Pace) -> None:
        self.state = LinkState(since=clock())
        self._link = link
        self._on_change = on_change
        self._clock = clock
        self._pace = pace
        self._was_ready = False  # in the present connection
        self._logged = ""  # the refusal that the log has last

    async def run(self, stop: asyncio.Event, *jobs: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """All of it, and the jobs beside it, until `stop`; then closed in order within two seconds.

        Raises a group of what nobody expected. `end` belongs behind it in any case.
        """
        async with asyncio.TaskGroup() as group:
            own = (self._supervise, self._watch, self._wait_for_bug)
            tasks = [group.create_task(job()) for job in (*own, *jobs)]
            await stop.wait()
            for task in tasks:
                task.cancel()
        await self._link.close(_GOODBYE_SECONDS)

    def end(self) -> None:
        self._link.drop()
        self._show(Phase.OFF, "the line is off")

    def ready(self) -> None:
        """The session is set up."""
        self._was_ready = True
        self._show(Phase.ONLINE, "connected to the XMPP server")

    # ---- jobs ------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        pause = self._pace.first_pause
        while True:
            self._show(Phase.CONNECTING, "connecting to the XMPP server", self.state.trouble)
            began = asyncio.get_running_loop().time()
            self._link.open()
            await self._one_connection()
            if self._was_ready and asyncio.get_running_loop().time() - began >= self._pace.steady:
                pause = self._pace.first_pause
            await asyncio.sleep(self._announce(pause * random.uniform(0.5, 1.5)))  # noqa: S311 - jitter
            pause = min(pause * 2, self._pace.longest_pause)

    async def _one_connection(self) -> None:
        """From the dial to the loss."""
        self._was_ready = False
        up = asyncio.ensure_future(self._link.up.wait())
        gone = asyncio.ensure_future(self._link.gone.wait())
        try:
            limit = self._pace.dial + self._pace.negotiate
            await asyncio.wait({up, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                self._link.cut(signals.NO_SESSION)
            await gone
        finally:
            up.cancel()
            gone.cancel()

    async def _watch(self) -> None:
        """Rule 2."""
        while True:
            await asyncio.sleep(self._pace.ping / 4)
            if not self._link.up.is_set() or self._silence() < self._pace.ping:
                continue
            connection, heard_at = self._link.connection, self._link.heard_at
            self._link.ask_for_acknowledgement()
            await asyncio.sleep(self._pace.pong)
            if (connection, heard_at) == (self._link.connection, self._link.heard_at):
                self._link.cut(signals.SILENT)

    async def _wait_for_bug(self) -> None:
        await self._link.bug

    def _silence(self) -> float:
        return asyncio.get_running_loop().time() - self._link.heard_at

    # ---- the state -------------------------------------------------------------------------------------------

    def _announce(self, pause: float) -> float:
        """Say what comes next and why; the seconds until then."""
        trouble = self._link.trouble or signals.HUNG_UP
        if trouble.refused:
            pause = max(pause, self._pace.refused_pause)
            if trouble.words != self._logged:
                logger.warning("the XMPP server cannot be used: %s", trouble.words)  # constants of signals.py
        self._logged = trouble.words if trouble.refused else ""
        phase = Phase.REFUSED if trouble.refused else Phase.WAITING
        summary = "the XMPP server cannot be used" if trouble.refused else "not connected to the XMPP server"
        self._show(phase, f"{summary}; next try in {max(1, round(pause))} s", trouble.words, pause)
        return pause

    def _show(self, phase: Phase, summary: str, trouble: str | None = None, pause: float | None = None) -> None:
        now = self._clock()
        since = self.state.since if phase is self.state.phase else now
        next_try_at = None if pause is None else now + pause
        self.state = LinkState(phase, summary, since, next_try_at, trouble=trouble)
        self._on_change()
