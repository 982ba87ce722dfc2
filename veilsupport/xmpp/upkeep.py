"""Rooms are brought up, and destroyed: what is to be done, the workers that do it, and when it is tried again.

How conversations look, and what a room tells, is the business of rooms.py, where the rules stand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from veilsupport.desk import Desk
from veilsupport.errors import NotFound, StoreError, Unavailable
from veilsupport.xmpp.jobs import Job, Jobs, Urgency
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.opening import PATIENCE, Opening
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.pacing import Turns
from veilsupport.xmpp.place import Place, Places, State
from veilsupport.xmpp.roomservice import Refused, RoomService

AT_ONCE: Final = 8  # rooms that are seen to side by side
# Rooms that are made, which each ring and stay on the phones: a rush of them would bury the conversations that exist.
_NEW_AT_ONCE: Final = 120
_NEW_PER_MINUTE: Final = 60
_TURN_SECONDS: Final = 5.0
_PAUSES: Final = (1.0, 3.0, 10.0, 20.0)  # a visitor waits for what comes through that room
PAUSE_MAX: Final = _PAUSES[-1]
_STEADY_SECONDS: Final = 30.0  # in a room for that long, and being thrown out is no reason to hesitate


class Upkeep:
    """`news` is set when the tending has something to look at.

    `on_ready` is told of each room that has come up, `on_refused` of each that the server refuses for good, and why.
    """

    def __init__(
        self,
        desk: Desk,
        line: Line,
        outgoing: Outgoing,
        service: RoomService,
        opening: Opening,
        places: Places,
        *,
        news: asyncio.Event,
        on_ready: Callable[[Place], None],
        on_refused: Callable[[Place, str], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._line = line
        self._outgoing = outgoing
        self._service = service
        self._opening = opening
        self._places = places
        self._news = news
        self._on_ready = on_ready
        self._on_refused = on_refused
        self._clock = clock
        self._jobs = Jobs()
        self._connection = 0  # the one for which the rooms have begun, or gone on
        self._going = asyncio.Event()
        self._new_rooms = Turns(_NEW_AT_ONCE, _NEW_PER_MINUTE)
        self._members_seen_to: set[bytes] = set()  # conversations whose room has the members of this process

    def go_on(self) -> None:
        """In this connection; what was left over by the last one has waited for this."""
        self._connection = self._line.connection
        self._going.set()

    @property
    def is_going(self) -> bool:
        return self._line.up.is_set() and self._connection == self._line.connection

    # ---- what is to be done ----------------------------------------------------------------------------------

    def see_to(self, place: Place, urgency: Urgency = Urgency.WANTED) -> None:
        """Not the staff room that there is none of."""
        if place.state is not State.OPENING and (place.conversation or place.address):
            place.state = State.OPENING
            self._places.put(place)
            self._jobs.put(Job(place), urgency)

    def see_to_members(self, place: Place) -> None:
        """Of a room that we are not in; once in a process."""
        if place.conversation not in self._members_seen_to:
            self._jobs.put(Job(place, members_only=True), Urgency.MEMBERS)

    def destroy(self, stanza_id: str, address: str) -> None:
        self._jobs.put(Job(None, destroy=(stanza_id, address)))

    def again(self, place: Place) -> None:
        """At once if it stood long enough; else later, so that two who disagree do not wear the server out."""
        place.is_disturbed = True
        self._line.leave(place.address)
        if place.is_ready:
            if self._clock() - place.ready_at >= _STEADY_SECONDS:
                place.failures = 0
            self._later(place)

    def _later(self, place: Place) -> None:
        """Another attempt, the first one soon."""
        self._wait(place, (0.0, *_PAUSES)[min(place.failures, len(_PAUSES))])
        place.failures += 1

    def _wait(self, place: Place, seconds: float) -> None:
        place.state = State.OUT
        place.again_at = self._clock() + seconds
        self._news.set()

    # ---- what has become of it -------------------------------------------------------------------------------

    def has_come_up(self, place: Place) -> None:
        place.state = State.READY
        place.ready_at = self._clock()
        place.invites = False
        place.looks_stale = True
        place.bounced.clear()
        if place.conversation is not None:
            self._members_seen_to.add(place.conversation)
        self._news.set()
        self._desk.wake.set()
        self._on_ready(place)

    def forget(self, place: Place) -> None:
        if self._places.at(place.address) is place:
            self._line.leave(place.address)
        self._places.forget(place)
        self._outgoing.forget_room(place.conversation)

    # ---- doing it --------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """One worker of AT_ONCE."""
        while True:
            job = await self._jobs.next()
            while not self.is_going:
                self._going.clear()
                await self._going.wait()
            if job.place is None:
                await self._destroy(*job.destroy)
            elif job.members_only:
                await self._let_members_in(job.place)
            else:
                await self._bring_up(job.place)

    async def _bring_up(self, place: Place) -> None:
        """One attempt; what fails for a while is tried again after a pause."""
        if place not in self._places:
            return
        if place.conversation and not place.address and not self._new_rooms.take(now=self._clock()):
            self._wait(place, _TURN_SECONDS)
            return
        try:
            async with place.busy:
                await self._opening.open(place)
            self.has_come_up(place)
        except Refused as why:
            if why.may_pass and place.failures < len(PATIENCE):
                self._later(place)
            else:
                await self._give_up(place, str(why))
        except NotFound:  # burned in the meantime
            self.forget(place)
        except (Unavailable, StoreError):
            self._later(place)

    async def _give_up(self, place: Place, why: str) -> None:
        try:
            await self._on_refused(place, why)
        except StoreError:
            self._later(place)

    async def _let_members_in(self, place: Place) -> None:
        try:
            await self._opening.let_members_in(place)
        except (Refused, Unavailable, StoreError):
            return  # The next session tries again.
        if place.conversation is not None:
            self._members_seen_to.add(place.conversation)

    async def _destroy(self, stanza_id: str, address: str) -> None:
        """After whatever is being done to bring it up: ejabberd makes a room anew for an owner's question."""
        place = self._places.at(address)
        try:
            async with place.busy if place else contextlib.nullcontext():
                if place:
                    self.forget(place)
                gone = await self._service.destroy(address, "This conversation was erased.")
        except Unavailable:
            if not self._line.up.is_set():
                return  # It stays marked as sent, and the next session makes it due again.
            gone = False
        try:
            await self._outgoing.destroyed(stanza_id, gone=gone)
        except StoreError:
            pass  # As above.
