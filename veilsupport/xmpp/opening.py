"""One room is brought up: the first three rules of rooms.py, from its address to the last line that was said in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from veilsupport.desk import Desk
from veilsupport.errors import NotFound, Unavailable
from veilsupport.model import Admin, Private, Role
from veilsupport.xmpp import muc, stanzas, titles
from veilsupport.xmpp.archive import Archive
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.place import Place
from veilsupport.xmpp.roomservice import Lost, Refused, RoomService
from veilsupport.xmpp.roomtalk import RoomTalk

PATIENCE: Final = (0.5, 2.0)  # seconds to wait, each time a refusal may pass, before we believe it
_OVERLAP_SECONDS: Final = 300.0  # how far before the last known time a catch-up by time begins


class Opening:
    """`placed` is told of each address before anything is heard from there."""

    def __init__(
        self,
        desk: Desk,
        line: Line,
        outgoing: Outgoing,
        talk: RoomTalk,
        service: RoomService,
        *,
        placed: Callable[[Place], None],
        clock: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._line = line
        self._outgoing = outgoing
        self._talk = talk
        self._service = service
        self._placed = placed
        self._clock = clock

    async def open(self, place: Place) -> None:
        """One attempt; after it, stanzas may leave for the room. Refused, NotFound (burned), Unavailable."""
        place.is_disturbed = False
        await self._stand(place)
        archive = Archive(self._line, place.address)
        await self._outgoing.reconcile_room(place.conversation, archive)
        await self._catch_up(place, archive)
        while place.held:
            if stanzas.is_of_unknown_speaker(*place.held[0]):
                await self._catch_up(place, archive)
            else:
                await self._talk.take(place, *place.held[0])
            place.held.popleft()
        if place.is_disturbed:
            raise Unavailable("something happened to it in the meantime")

    async def open_patiently(self, place: Place) -> None:
        """The same, again and again while a refusal may pass."""
        for pause in PATIENCE:
            try:
                return await self.open(place)
            except Refused as why:
                if not why.may_pass:
                    raise
            await asyncio.sleep(pause)
        return await self.open(place)

    async def let_members_in(self, place: Place) -> None:
        """Those of a room that we need not be in. Refused, Unavailable."""
        await self._service.let_in(place.address, self._members(place))

    def may_read(self, place: Place) -> list[Admin]:
        return list(self._desk.admins) if place.conversation is None else self._desk.admins_of(place.site, Role.READS)

    # ---- rule 1 ----------------------------------------------------------------------------------------------

    async def _stand(self, place: Place) -> None:
        """It is there, and we and its members may be in it."""
        if not self._service.has(place.address):
            await self._give_address(place)
        try:
            await self._enter(place)
        except Lost:
            await self._give_address(place)
            await self._enter(place)

    async def _give_address(self, place: Place) -> None:
        """On disk before anybody hears of it."""
        address = self._service.new_address("desk" if place.conversation is None else "v")
        if place.conversation is None:
            await self._desk.place_staff_room(Private(address))
        else:
            await self._desk.place_room(place.conversation, Private(address))
        place.address = address

    async def _enter(self, place: Place) -> None:
        if self._is_burned(place):
            raise NotFound("That conversation is gone.")
        self._placed(place)
        members = self._members(place)
        entered = await self._service.enter(place.address, place.alias, self._name(place), members)
        if self._is_burned(place):  # it is destroyed after this
            raise NotFound("That conversation is gone.")
        called = members if entered.created or place.invites else {*entered.new, *self._forlorn(place, members)}
        self._service.invite(place.address, called, self._name(place))

    def _is_burned(self, place: Place) -> bool:
        return place.conversation is not None and self._desk.conversation_of(place.conversation) is None

    def _name(self, place: Place) -> str:
        return titles.name(place.alias, self._desk.site(place.site))

    # ---- rule 2 ----------------------------------------------------------------------------------------------

    def _forlorn(self, place: Place, members: Collection[str]) -> set[str]:
        """Who may have missed their invitation when a connection broke: before anything was ever read there whoever is
        not in it; later all, when something is waiting to be said and nobody is there to hear it."""
        absent = set(members) - {each.jid for each in self._line.occupants.of(place.address)}
        if self._desk.position(place.address) is None:
            return absent
        is_waiting = place.conversation is not None and self._desk.is_due_in_room(place.conversation)
        return absent if is_waiting and len(absent) == len(members) else set()

    def _members(self, place: Place) -> set[str]:
        """Bare JIDs; who only wants to be told is in no visitor's room."""
        everyone = self.may_read(place)
        if place.conversation is not None:
            everyone = [admin for admin in everyone if not admin.notify_only]
        return {admin.address.reveal().casefold() for admin in everyone}

    # ---- rule 3 ----------------------------------------------------------------------------------------------

    async def _catch_up(self, place: Place, archive: Archive) -> None:
        """A room of ours begins with its first line, so there is no position to begin at but that."""
        known = self._desk.position(place.address)
        position, at = known or ("", 0.0)
        try:
            await self._read_on(place, archive, after=position)
        except NotFound:
            await self._read_on(place, archive, since=max(0.0, at - _OVERLAP_SECONDS))

    async def _read_on(self, place: Place, archive: Archive, *, after: str = "", since: float | None = None) -> None:
        async for page in archive.pages(after=after, since=since):
            for each in page:
                await self._talk.take(place, each.message, muc.real_speaker(each.message), archived_as=each.id)
            if page:
                await self._desk.move_position(place.address, page[-1].id, now=self._clock())
