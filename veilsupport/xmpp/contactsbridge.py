"""The line to the admins as a component: the parts of the edge put together, for a server of the operator's own.

From outside it is as Bridge. The rules of certainty stand where they are kept: how the link is brought up in
supervise.py, what it lacks in component.py, what goes out in outgoing.py, how visitors appear in contacts.py, what is
taken in contacttalk.py. Here: all that the connection tells goes through one queue and one worker. The queue is bounded
by reading no further while it is long, for nothing would bring back what was dropped.

OMEMO is not possible in this form: keys are published by accounts, and a component has none.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from veilsupport.desk import Desk
from veilsupport.errors import SetupError, StoreError, Unavailable
from veilsupport.model import DeliveryKind, EndToEnd
from veilsupport.xmpp import signals
from veilsupport.xmpp.account import ComponentAccount
from veilsupport.xmpp.attending import Attending
from veilsupport.xmpp.component import Component
from veilsupport.xmpp.contacts import Contacts
from veilsupport.xmpp.contacttalk import ContactTalk
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.signals import Acknowledged, Heard, Lost, Signal, Started
from veilsupport.xmpp.supervise import OVER_TOR, LinkState, Pace, Supervisor

QUEUE_MAX: Final = 1000
_PINGS: Final = 8
_DISK_PAUSE_SECONDS: Final = 5.0


class ContactsBridge:
    """One component's line. Made inside the running loop, run once. SetupError: an admin requires OMEMO."""

    def __init__(
        self,
        desk: Desk,
        account: ComponentAccount,
        *,
        on_change: Callable[[LinkState], None],
        on_sent: Callable[[DeliveryKind, bool], None] = lambda kind, encrypted: None,
        keeps_archive: bool = True,
        clock: Callable[[], float] = time.time,
        pace: Pace = OVER_TOR,
    ) -> None:
        if any(admin.end_to_end is EndToEnd.REQUIRE for admin in desk.admins):
            raise SetupError(
                "An admin requires OMEMO, which a component cannot do.",
                hint='Set omemo = "off" for every admin, or use an account instead: form = "rooms".',
            )
        self._desk = desk
        self._clock = clock
        self._pace = pace
        self._line = Component(
            account,
            admins=[admin.address.reveal().casefold() for admin in desk.admins],
            credentials=(secrets.token_hex(16), secrets.token_hex(16)),  # a circuit of our own (IsolateSOCKSAuth)
            dial_seconds=pace.dial,
            hear=self._hear,
        )
        self._supervisor = Supervisor(self._line, on_change=lambda: on_change(self.state), clock=clock, pace=pace)
        self._outgoing = Outgoing(desk, self._line, spoke=lambda admin, alias: None, clock=clock)
        self._attending = Attending(desk)
        self._contacts = Contacts(
            desk, self._line, self._outgoing, self._attending, keeps_archive=keeps_archive, clock=clock
        )
        self._outgoing.rooms = self._contacts
        self._outgoing.on_sent = on_sent
        self._outgoing.write = self._contacts.written
        self._outgoing.seal = self._contacts.introduced
        self._talk = ContactTalk(desk, self._line, self._outgoing, self._contacts, clock=clock)
        self._line.on_presence = self._contacts.presence
        self._line.answer = self._contacts.answer
        self._line.farewell = self._contacts.farewell
        self._queue: deque[Signal] = deque()
        self._more = asyncio.Event()
        desk.on_typing = self._contacts.typing
        desk.on_read = self._contacts.read_up_to
        desk.on_changed = self._contacts.look_at

    @property
    def state(self) -> LinkState:
        return dataclasses.replace(
            self._supervisor.state,
            strangers_ignored=self._line.strangers_ignored,
            form="a contact for each visitor",
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, then closed in order within two seconds. Raises a group of what nobody expected."""
        try:
            await self._supervisor.run(stop, self._work, self._outgoing.run, self._contacts.run)
        finally:
            self._desk.line_changed(False)
            self._supervisor.end()

    # ---- what the connection tells ---------------------------------------------------------------------------

    def _hear(self, signal: Signal) -> None:
        """A loss is acted upon at once: nothing may be given to slixmpp any more. All else waits its turn."""
        if isinstance(signal, Started):
            self._attending.begin()
        if isinstance(signal, Lost):
            self._outgoing.ready.clear()
            self._desk.line_changed(False)
        self._queue.append(signal)
        if len(self._queue) >= QUEUE_MAX:
            self._line.read_on(False)
        self._more.set()

    async def _work(self) -> None:
        while True:
            await self._more.wait()
            while self._queue:
                await self._stubbornly(self._queue.popleft())
                if len(self._queue) <= QUEUE_MAX // 2:
                    self._line.read_on(True)
            self._more.clear()

    async def _stubbornly(self, signal: Signal) -> None:
        """A disk that refuses may recover; until then nothing is confirmed and nothing is skipped."""
        while True:
            try:
                return await self._handle(signal)
            except StoreError:
                await asyncio.sleep(_DISK_PAUSE_SECONDS)

    async def _handle(self, signal: Signal) -> None:
        match signal:
            case Started(connection):
                await self._begin(connection)
            case Acknowledged(stanza_id):
                await self._outgoing.acknowledged([stanza_id, *self._further_acknowledged()])
            case Heard(message):
                await self._talk.take(message)

    def _further_acknowledged(self) -> list[str]:
        """Those right behind in the queue: one transaction for all."""
        ids = []
        while self._queue and isinstance(following := self._queue[0], Acknowledged):
            ids.append(following.stanza_id)
            self._queue.popleft()
        return ids

    async def _begin(self, connection: int) -> None:
        """A connection of a component is a fresh session always: what the last one left open is due again.

        ejabberd lets several be connected at once, our own ghost too, and shares out at random what comes for them: not
        before all pings come back here may we rely on hearing everything.
        """
        if connection != self._line.connection or not self._line.up.is_set():
            return  # That connection is gone already; a later one is behind in the queue.
        try:
            await self._line.settled(pings=_PINGS, timeout_seconds=self._pace.pong)
        except Unavailable:
            self._line.cut(signals.NAME_TAKEN)
            return
        await self._desk.place_directly(None, now=self._clock())
        await self._outgoing.reconcile(None)
        await self._outgoing.reconcile_room(None, None)
        self._contacts.begin()
        if connection == self._line.connection and self._line.up.is_set():
            self._outgoing.ready.set()
            self._desk.wake.set()
            self._desk.line_changed(True)
            self._supervisor.ready()
