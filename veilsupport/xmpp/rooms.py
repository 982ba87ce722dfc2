"""The room form: each conversation is a room, where the visitor speaks under their alias and every admin is a member.

The rules:

1. A room's address cannot be guessed, and is on our disk before the room is made: after a crash there is none that
   nobody knows of. One that is burned while it is being made is destroyed as soon as that has come to an end.
2. It is made members-only, non-anonymous, hidden, persistent and archived, and looked at whenever we enter it: what the
   server did not grant is not relied on. Members are the admins of the conversation's site, no more and no fewer, and
   this is brought about again in every session, for closed rooms once in a process: whoever was removed in between is
   out. Whoever else is seen in a room (the server's own admin, say) is told of there.
3. Each room is seen to by itself: entered, its members called, its archive asked for what of ours arrived and for all
   that was said behind the last line taken, then what came live in the meantime. Only then does anything leave for it.
   One that does not answer keeps nobody else waiting. What is overtaken by being thrown out begins anew.
4. What the server refuses for good (no rooms, no new ones, no more members, no archive) is met with the direct form:
   for that conversation, or for all when it refuses the staff room, with a plain word to the admins. The next session
   tries again, and so do we every few minutes.
5. A closed or blocked conversation's room is left when everything has arrived there; it stays with its archive, and is
   entered again when either side goes on. What admins wrote into it meanwhile is taken then.

When a room is brought up, and again, stands in upkeep.py, how in opening.py, what the server is asked for it in
roomservice.py; what is said in it is taken in roomtalk.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final
from xml.etree.ElementTree import Element

from veilsupport.desk import Desk
from veilsupport.errors import NotFound, StoreError, Unavailable
from veilsupport.model import Standing
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.jobs import Urgency
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.opening import Opening
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.place import Place, Places, State
from veilsupport.xmpp.refusals import Refusals, is_over
from veilsupport.xmpp.roomservice import Refused, RoomService
from veilsupport.xmpp.roomtalk import RoomTalk
from veilsupport.xmpp.tending import Tending
from veilsupport.xmpp.upkeep import AT_ONCE, PAUSE_MAX, Upkeep

IN_ROOMS: Final = "a room for each visitor"  # how they appear, in words
_HELD_MAX: Final = 2000  # live lines that wait for their room's archive; beyond, the archive has them
_TEND_SECONDS: Final = 2.0
_NEWS_SECONDS: Final = 0.3  # what changes several times in a moment is said once


class Rooms:
    """All rooms of one session. `form` says how conversations look at the moment."""

    def __init__(
        self,
        desk: Desk,
        line: Line,
        outgoing: Outgoing,
        talk: RoomTalk,
        *,
        wanted: bool,
        language: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self.form = "not known yet"
        self.on_staff: Callable[[Collection[str] | None], None] = lambda jids: None  # who is in it; None: there is none
        self._desk = desk
        self._line = line
        self._own = line.own.casefold()
        self._outgoing = outgoing
        self._talk = talk
        self._wanted = wanted
        self._clock = clock
        self._service = RoomService(line)
        self._places = Places()
        self._news = asyncio.Event()
        self._told: set[str] = set()  # what the admins have been told of refusals
        self._refusals = Refusals(clock=clock)
        self._opening = Opening(desk, line, outgoing, talk, self._service, placed=self._places.placed, clock=clock)
        self._upkeep = Upkeep(
            desk,
            line,
            outgoing,
            self._service,
            self._opening,
            self._places,
            news=self._news,
            on_ready=lambda place: self.occupants_changed(place.address),
            on_refused=self._refused,
            clock=clock,
        )
        self._tending = Tending(desk, line, language=language, may_read=self._opening.may_read, clock=clock)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._upkeep.work())
            tasks.create_task(self._tend())

    # ---- a session -------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """A fresh session. Unavailable: no answer."""
        before = self._places.clear()
        await self._find_out(before)
        self._upkeep.go_on()

    async def _find_out(self, before: Mapping[bytes, Place]) -> None:
        """The staff room first, which shows whether there are rooms."""
        if not self._wanted:
            await self._do_without("")
            return
        try:
            staff_room = self._desk.staff_room()
            await self._service.find(known=staff_room.reveal().partition("@")[2] if staff_room else "")
            await self._open_staff_room()
        except Refused as why:
            await self._do_without(str(why))
            return
        except Unavailable:
            if not self._line.up.is_set():
                raise
            await self._do_without("its rooms do not answer")
            return
        self.form = IN_ROOMS
        self._refusals.clear()
        self._desk.rooms_return()
        self._see_to_all(before)

    def _see_to_all(self, before: Mapping[bytes, Place]) -> None:
        """The open ones, and those that we had not done with; then the members of the others."""
        under_way = {each.conversation for each in self._desk.unacknowledged() if each.to_room}
        for room in self._desk.rooms():
            key = room.conversation.id
            if room.conversation.standing is Standing.OPEN or key in under_way or key in before:
                uncalled = key in before and before[key].invites
                waits = room.conversation.waiting_minute is not None
                place = Place.of(room.conversation, room.address.reveal(), invites=uncalled)
                self._upkeep.see_to(place, Urgency.WAITING if waits else Urgency.OTHER)
            elif self._service.has(room.address.reveal()):
                self._upkeep.see_to_members(Place.of(room.conversation, room.address.reveal()))

    def resumed(self) -> None:
        """The same session goes on: what was cut half-way is begun again, and a subject may have been lost."""
        for place in self._places:
            if place.state is State.OUT:
                self._upkeep.see_to(place)
            place.subject_asked = ""
            place.looks_stale = True
        self._news.set()
        self._upkeep.go_on()

    async def _open_staff_room(self) -> None:
        known = self._desk.staff_room()
        address = known.reveal() if known else ""
        staff = Place(None, "desk", address if self._service.has(address) else "", state=State.OPENING)
        self._places.put(staff)
        await self._opening.open_patiently(staff)
        self._upkeep.has_come_up(staff)

    async def _do_without(self, why: str) -> None:
        """Rule 4, for all of them; `why` is empty when the operator wants it so."""
        self.form = f"all in one chat, because of the server: {why}" if why else "all in one chat"
        for place in self._places:
            self._upkeep.forget(place)
        self._places.clear()
        self._service.jid = ""
        await self._desk.place_directly(None, now=self._clock())
        # All that can be left of those that were under way are rooms to be destroyed.
        under_way = [each for each in self._desk.unacknowledged() if each.to_room]
        await self._desk.deliveries_lost([each.stanza_id for each in under_way])
        self.on_staff(None)
        if why:
            self._refusals.note(None)
            await self._tell_once(
                f"Your server gives this desk no room for each visitor: {why}."
                " All conversations come here, in this chat."
            )

    async def _refused(self, place: Place, why: str) -> None:
        """Rule 4, for one of them."""
        if place not in self._places:
            return
        self._upkeep.forget(place)
        if place.conversation is None:
            await self._do_without(why)
        elif self._desk.conversation_of(place.conversation):
            await self._desk.place_directly(place.conversation, now=self._clock())
            self._refusals.note(place.conversation)
            await self._tell_once(
                f"Your server refused a room for {place.alias}: {why}. It goes on in the chat with this desk."
            )

    async def _tell_once(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            await self._desk.announce(words, now=self._clock())

    # ---- for the pump ----------------------------------------------------------------------------------------

    def address(self, conversation: bytes | None) -> str | None:
        """Where stanzas for it may go now; else it is seen to."""
        place = self._places.of(conversation)
        if place is not None and place.is_ready:
            return place.address
        if conversation is not None and place is None:
            self._want(conversation)
        return None

    def not_ready(self) -> Collection[bytes]:
        return [place.conversation for place in self._places if place.conversation and not place.is_ready]

    def is_bringing_up(self) -> bool:
        return any(place.state is State.OPENING for place in self._places)

    def lost_us(self, conversation: bytes | None) -> None:
        place = self._places.of(conversation)
        if place is not None and place.is_ready:
            self._upkeep.again(place)

    def destroy(self, stanza_id: str, address: str) -> None:
        self._upkeep.destroy(stanza_id, address)

    # ---- for the intake --------------------------------------------------------------------------------------

    def knows(self, room: str) -> bool:
        return self._places.at(room) is not None

    def reflection(self, message: Element, speaker: str) -> tuple[str, str] | None:
        """A stanza of ours that a room passes on: its id, and the archive's for it. None: anything else."""
        place = self._places.at(sender_of(message)) if speaker == self._own else None
        if place is None or not place.is_ready or message.get("type") != "groupchat":
            return None
        if not message.get("id") or stanzas.subject_of(message) is not None:
            return None
        return message.get("id", ""), stanzas.own_stanza_id(message, place.address)

    async def hear(self, message: Element, speaker: str) -> None:
        """A live line from a room of ours. Raises what the desk does (StoreError)."""
        place = self._places.at(sender_of(message))
        if place is None:
            return
        if (words := stanzas.subject_of(message)) is not None:
            place.subject = words
            self._news.set()
        elif (
            "/" not in message.get("from", "")  # a member's app may answer us with errors of its own
            and stanzas.is_from_outside(message)
            and message.get("id", "") not in place.bounced
        ):
            place.bounced.add(message.get("id", ""))
            self._upkeep.again(place)  # and its archive tells what of ours it has
        elif place.is_ready and stanzas.is_of_unknown_speaker(message, speaker):
            self._upkeep.see_to(place)  # its archive knows who it was
        elif not place.is_ready:
            if len(place.held) < _HELD_MAX:
                place.held.append((message, speaker))
        else:
            await self._take(place, message, speaker)

    async def _take(self, place: Place, message: Element, speaker: str) -> None:
        try:
            await self._talk.take(place, message, speaker)
        except Unavailable:  # keys are needed for it and do not come: it is taken from the archive later
            self._upkeep.again(place)

    def expelled(self, room: str) -> None:
        """Thrown out, or the room was shut down: back in at once, or after a pause when that does not help."""
        if place := self._places.at(room):
            self._upkeep.again(place)

    def occupants_changed(self, room: str) -> None:
        place = self._places.at(room)
        if place is None or not place.is_ready:
            return
        if place is self._places.staff:
            self.on_staff({each.jid for each in self._line.occupants.of(room)})
        if self._tending.find_strangers(place):
            place.looks_stale = True
            self._news.set()

    # ---- for the desk's news ---------------------------------------------------------------------------------

    def look_at(self, conversation: bytes) -> None:
        """Its standing, owner or wait may differ: for the subject, and for leaving."""
        if place := self._places.of(conversation):
            place.looks_stale = True
            self._news.set()
        elif (room := self._desk.room_of(conversation)) and room.conversation.standing is Standing.OPEN:
            self._want(conversation)

    def _want(self, conversation: bytes) -> None:
        """It is needed for the first time in this session; whoever had left it is called back."""
        found = self._desk.conversation_of(conversation)
        if found is None or not self._service.jid or not self._upkeep.is_going or not self._desk.has_room(conversation):
            return
        room = self._desk.room_of(conversation)
        self._upkeep.see_to(Place.of(found, room.address.reveal() if room else "", invites=True))

    def typing(self, conversation: bytes) -> None:
        """The visitor is writing at this moment."""
        if (place := self._places.of(conversation)) and place.is_ready:
            self._tending.typing(place)

    def read_up_to(self, conversation: bytes, seq: int) -> None:
        """The visitor has looked at everything up to message `seq`."""
        if (place := self._places.of(conversation)) and place.is_ready:
            self._tending.read_up_to(place, seq)

    # ---- tending ---------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """Every other moment: subjects that differ, strangers, rooms to be left, rooms to be tried again."""
        while True:
            try:
                async with asyncio.timeout(_TEND_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(_NEWS_SECONDS)
            self._news.clear()
            if not self._outgoing.ready.is_set():
                continue
            for place in self._places:
                if place.state is State.OUT and is_over(place.again_at, now=self._clock(), at_most=PAUSE_MAX):
                    self._upkeep.see_to(place)
                elif place.is_ready and place.looks_stale:
                    await self._look_after(place)
            await self._ask_again()

    async def _ask_again(self) -> None:
        """Rule 4: what was refused may be had by now."""
        for conversation in self._refusals.due():
            if conversation is not None:
                self._desk.room_returns(conversation)
                self._want(conversation)
                continue
            try:
                await self.begin()
            except (Unavailable, StoreError):
                self._refusals.note(None)

    async def _look_after(self, place: Place) -> None:
        place.looks_stale = False
        try:
            if not await self._tending.look_after(place):
                self._upkeep.forget(place)
        except NotFound:
            self._upkeep.forget(place)
        except StoreError:
            place.looks_stale = True


def sender_of(message: Element) -> str:
    """The bare JID of whoever sent it: a room, or an account."""
    return message.get("from", "").partition("/")[0].casefold()
