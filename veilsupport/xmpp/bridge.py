"""The line to the admins: the parts of the edge put together, for an account of our own.

The rules of certainty stand where they are kept: how the link is brought up in supervise.py, what goes out in
outgoing.py, what comes in in intake.py, who is let near in transport.py, whom an answer is for in direct.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import Callable
from typing import Final

from veilsupport.desk import Desk
from veilsupport.model import Admin, Conversation, DeliveryKind, EndToEnd
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.account import Account
from veilsupport.xmpp.attending import Attending
from veilsupport.xmpp.card import Card
from veilsupport.xmpp.direct import Direct
from veilsupport.xmpp.intake import Incoming
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.omemo import Device, Omemo
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.rooms import Rooms
from veilsupport.xmpp.roomtalk import RoomTalk
from veilsupport.xmpp.sealing import Kept, Sealing
from veilsupport.xmpp.signals import Lost, Signal, Started
from veilsupport.xmpp.supervise import OVER_TOR, LinkState, Pace, Supervisor

_TYPING_SECONDS: Final = 5.0


class Bridge:
    """One account's line. Made inside the running loop, run once."""

    def __init__(
        self,
        desk: Desk,
        account: Account,
        *,
        on_change: Callable[[LinkState], None],
        wants_rooms: bool = False,
        on_sent: Callable[[DeliveryKind, bool], None] = lambda kind, encrypted: None,
        keeps_archive: bool = True,
        strict_devices: bool = False,
        language: Callable[[str], str] = lambda site: "",
        clock: Callable[[], float] = time.time,
        pace: Pace = OVER_TOR,
    ) -> None:
        """`wants_rooms`: a room for each visitor wherever the server lets us. `language`: of a site's visitors.

        `on_sent`: as Outgoing tells it.
        """
        self._desk = desk
        self._clock = clock
        self._line = Line(
            account,
            admins=[admin.address.reveal().casefold() for admin in desk.admins],
            credentials=(secrets.token_hex(16), secrets.token_hex(16)),  # a circuit of our own (IsolateSOCKSAuth)
            dial_seconds=pace.dial,
            hear=self._hear,
        )
        self._supervisor = Supervisor(self._line, on_change=lambda: on_change(self.state), clock=clock, pace=pace)
        direct = Direct(desk, clock=clock)
        self._direct = direct
        self._typed = ("", 0.0)  # whose visitor was last said to be writing, and when
        self._outgoing = Outgoing(desk, self._line, spoke=direct.spoke, clock=clock)
        self._sealing = self._made_sealing(strict=strict_devices, keeps_archive=keeps_archive)
        self._outgoing.seal = self._sealing.seal
        self._outgoing.on_sent = on_sent
        self._sealing.on_keys = self._outgoing.try_again
        talk = RoomTalk(desk, self._outgoing, self._sealing, own=self._line.own, clock=clock)
        self._rooms = Rooms(desk, self._line, self._outgoing, talk, wanted=wants_rooms, language=language, clock=clock)
        self._outgoing.rooms = self._rooms
        self._incoming = Incoming(
            desk,
            self._line,
            self._outgoing,
            direct,
            self._rooms,
            self._sealing,
            set_up_seconds=pace.set_up,
            on_ready=self._ready,
            clock=clock,
        )
        self._attending = Attending(desk)
        self._line.on_presence = self._attending.presence
        self._line.on_occupants = self._rooms.occupants_changed
        self._rooms.on_staff = self._attending.in_staff_room
        self._card = self._made_card()
        desk.on_typing = self._visitor_types
        desk.on_read = self._rooms.read_up_to
        desk.on_changed = self._changed

    @property
    def state(self) -> LinkState:
        return dataclasses.replace(
            self._supervisor.state,
            strangers_ignored=self._line.strangers_ignored,
            keeps_archive=self._incoming.archive.exists,
            form=self._rooms.form,
            omemo=self._sealing.uri,
        )

    def _made_sealing(self, *, strict: bool, keeps_archive: bool) -> Sealing:
        """Without OMEMO when no admin wants any of it."""
        wanted = any(admin.end_to_end is not EndToEnd.OFF for admin in self._desk.admins)
        kept = Kept(self._desk, clock=self._clock)
        omemo = Omemo(self._line, kept, strict=strict, told=kept.told) if wanted else None
        return Sealing(self._desk, omemo, keeps_archive=keeps_archive, clock=self._clock)

    def _made_card(self) -> Card:
        return Card(
            self._desk,
            self._line,
            self._attending,
            seal=self._sealing.seal,
            staff_room=lambda: self._rooms.address(None),
            is_ready=self._outgoing.ready.is_set,
            clock=self._clock,
        )

    async def identity(self) -> str | None:
        """Our OMEMO fingerprint as an `xmpp:` URI, made now if there was none. For a bridge that is not run."""
        try:
            if self._sealing.omemo:
                await self._sealing.omemo.load()
            return self._sealing.uri
        finally:
            self._line.drop()

    def sees(self, admin: Admin) -> bool:
        """Whether one of their apps shows that it is there: in the staff room, or online as our contact."""
        return self._attending.is_in_staff_room(admin) or bool(self._attending.devices(admin))

    async def devices_of(self, admin: Admin) -> list[Device]:
        """Their OMEMO devices, all that were ever seen; none when nobody wants OMEMO. Unavailable: not to be asked."""
        omemo = self._sealing.omemo
        return await omemo.devices(admin.address.reveal()) if omemo else []

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, then closed in order within two seconds. Raises a group of what nobody expected."""
        jobs = (self._incoming.run, self._outgoing.run, self._rooms.run, self._sealing.run, self._card.run)
        try:
            if self._sealing.omemo:
                await self._sealing.omemo.load()
            await self._supervisor.run(stop, *jobs)
        finally:
            self._desk.line_changed(False)
            self._supervisor.end()

    # ---- what the connection tells ---------------------------------------------------------------------------

    def _hear(self, signal: Signal) -> None:
        """A loss is acted upon at once: nothing may be given to slixmpp any more. All else waits its turn."""
        if isinstance(signal, Started):
            self._attending.begin()
            self._card.begin()
        if isinstance(signal, Lost):
            self._outgoing.ready.clear()
            self._desk.line_changed(False)
        self._incoming.hear(signal)

    def _visitor_types(self, conversation: Conversation) -> None:
        """In the room; in a chat only to admins for whom it is plain who is writing: there it could be anyone."""
        alias, now = conversation.alias, self._clock()
        if not self._outgoing.ready.is_set():
            return
        if self._typed[0] == alias and 0 <= now - self._typed[1] < _TYPING_SECONDS:
            return
        self._typed = (alias, now)
        if self._desk.has_room(conversation.id):
            self._rooms.typing(conversation.id)
            return
        for admin in self._desk.admins:
            if self._direct.meant_by(admin) == alias:
                self._line.post(stanzas.composing(admin.address.reveal(), secrets.token_hex(8)))

    def _changed(self, conversation: bytes) -> None:
        self._rooms.look_at(conversation)
        self._card.look()

    def _ready(self) -> None:
        self._desk.line_changed(True)
        self._supervisor.ready()
