"""The line to the admins: it is brought up, watched, and brought up again.

The rules of certainty stand where they are kept: what goes out in outgoing.py, what comes in in intake.py, who is
let near in transport.py, whom an answer is for in direct.py. Here:

1. connect → ready, or gone, or out of time → let go → wait, longer each time and with jitter → again. The resource is
   fixed, so that a new session ends its own ghost.
2. A link that has been silent is asked for a sign of life, and let go when none comes: found dead within a minute. It
   is let go without `</stream>`; if that arrived, the session could not be resumed.
3. What only a human can mend (wrong password, wrong certificate) is said in the state and tried again every few
   minutes.
4. An exception that nobody expected ends `run`, and with it the process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from veilsupport.desk import Desk
from veilsupport.xmpp import signals, stanzas
from veilsupport.xmpp.account import Account
from veilsupport.xmpp.direct import Direct
from veilsupport.xmpp.intake import Incoming
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.signals import Lost, Signal

_GOODBYE_SECONDS: Final = 1.5
_TYPING_SECONDS: Final = 5.0


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

    `keeps_archive` is None until it is known; without an archive an answer written while we are away can be lost.
    """

    phase: Phase = Phase.OFF
    summary: str = "the line is off"
    since: float = 0.0
    next_try_at: float | None = None
    strangers_ignored: int = 0
    keeps_archive: bool | None = None
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


class Bridge:
    """One account's line. Made inside the running loop, run once."""

    def __init__(
        self,
        desk: Desk,
        account: Account,
        *,
        on_change: Callable[[LinkState], None],
        clock: Callable[[], float] = time.time,
        pace: Pace = Pace(),
    ) -> None:
        self._desk = desk
        self._on_change = on_change
        self._clock = clock
        self._pace = pace
        self._state = LinkState(since=clock())
        self._was_ready = False  # in the present connection
        self._line = Line(
            account,
            admins=[admin.address.reveal().casefold() for admin in desk.admins],
            credentials=(secrets.token_hex(16), secrets.token_hex(16)),  # a circuit of our own (IsolateSOCKSAuth)
            dial_seconds=pace.dial,
            hear=self._hear,
        )
        direct = Direct(desk, clock=clock)
        self._direct = direct
        self._typed = ("", 0.0)  # whose visitor was last said to be writing, and when
        desk.on_typing = self._visitor_types
        self._outgoing = Outgoing(desk, self._line, spoke=direct.spoke, clock=clock)
        self._incoming = Incoming(
            desk,
            self._line,
            self._outgoing,
            direct,
            set_up_seconds=pace.set_up,
            on_ready=self._ready,
            clock=clock,
        )

    @property
    def state(self) -> LinkState:
        return dataclasses.replace(
            self._state,
            strangers_ignored=self._line.strangers_ignored,
            keeps_archive=self._incoming.archive.exists,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, then closed in order within two seconds. Raises a group of what nobody expected."""
        jobs = (self._supervise, self._incoming.run, self._outgoing.run, self._watch, self._wait_for_bug)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(job()) for job in jobs]
                await stop.wait()
                for task in tasks:
                    task.cancel()
            await self._line.close(_GOODBYE_SECONDS)
        finally:
            self._line.drop()
            self._desk.line_changed(False)
            self._show(Phase.OFF, "the line is off")

    # ---- jobs ------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        pause = self._pace.first_pause
        while True:
            self._show(Phase.CONNECTING, "connecting to the XMPP server", self._state.trouble)
            began = self._clock()
            self._line.open()
            await self._one_connection()
            if self._was_ready and self._clock() - began >= self._pace.steady:
                pause = self._pace.first_pause
            await asyncio.sleep(self._announce(pause * random.uniform(0.5, 1.5)))  # noqa: S311 - jitter
            pause = min(pause * 2, self._pace.longest_pause)

    async def _one_connection(self) -> None:
        """From the dial to the loss."""
        self._was_ready = False
        up = asyncio.ensure_future(self._line.up.wait())
        gone = asyncio.ensure_future(self._line.gone.wait())
        try:
            limit = self._pace.dial + self._pace.negotiate
            await asyncio.wait({up, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                self._line.cut(signals.NO_SESSION)
            await gone
        finally:
            up.cancel()
            gone.cancel()

    async def _watch(self) -> None:
        """Rule 2."""
        while True:
            await asyncio.sleep(self._pace.ping / 4)
            if not self._line.up.is_set() or self._silence() < self._pace.ping:
                continue
            connection, heard_at = self._line.connection, self._line.heard_at
            self._line.ask_for_acknowledgement()
            await asyncio.sleep(self._pace.pong)
            if (connection, heard_at) == (self._line.connection, self._line.heard_at):
                self._line.cut(signals.SILENT)

    async def _wait_for_bug(self) -> None:
        await self._line.bug

    def _silence(self) -> float:
        return asyncio.get_running_loop().time() - self._line.heard_at

    # ---- what the connection tells ---------------------------------------------------------------------------

    def _hear(self, signal: Signal) -> None:
        """A loss is acted upon at once: nothing may be given to slixmpp any more. All else waits its turn."""
        if isinstance(signal, Lost):
            self._outgoing.ready.clear()
            self._desk.line_changed(False)
        self._incoming.hear(signal)

    def _visitor_types(self, alias: str) -> None:
        """Shown only to admins for whom it is plain who is writing: in one chat it could be anyone."""
        now = self._clock()
        if not self._outgoing.ready.is_set() or (self._typed[0] == alias and now - self._typed[1] < _TYPING_SECONDS):
            return
        self._typed = (alias, now)
        for admin in self._desk.admins:
            if self._direct.meant_by(admin) == alias:
                self._line.post(stanzas.composing(admin.address.reveal(), secrets.token_hex(8)))

    def _ready(self) -> None:
        self._was_ready = True
        self._desk.line_changed(True)
        self._show(Phase.ONLINE, "connected to the XMPP server")

    # ---- the state -------------------------------------------------------------------------------------------

    def _announce(self, pause: float) -> float:
        """Say what comes next and why; the seconds until then."""
        trouble = self._line.trouble or signals.HUNG_UP
        if trouble.refused:
            pause = max(pause, self._pace.refused_pause)
        phase = Phase.REFUSED if trouble.refused else Phase.WAITING
        summary = "the XMPP server cannot be used" if trouble.refused else "not connected to the XMPP server"
        self._show(phase, f"{summary}; next try in {max(1, round(pause))} s", trouble.words, pause)
        return pause

    def _show(self, phase: Phase, summary: str, trouble: str | None = None, pause: float | None = None) -> None:
        now = self._clock()
        since = self._state.since if phase is self._state.phase else now
        next_try_at = None if pause is None else now + pause
        self._state = LinkState(phase, summary, since, next_try_at, trouble=trouble)
        self._on_change(self.state)
