"""A room that stands is looked after: its subject says how things are, the admins are told of strangers, and whether
the visitor writes or has read is shown.

What a room shows as its subject it tells us itself; what we asked for and it did not take is asked for again after the
connection broke.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from veilsupport.desk import Desk
from veilsupport.errors import NotFound
from veilsupport.model import Admin, Conversation, Standing
from veilsupport.xmpp import stanzas, titles
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.place import Place

STRANGER: Final = (
    "Somebody is in this room who is no admin here, and can read along. What they write goes to nobody."
    " Whoever runs the XMPP server can put people into rooms; ask them."
)


class Tending:
    """`language` is that of a site's visitors; `may_read` tells for whom a room is."""

    def __init__(
        self,
        desk: Desk,
        line: Line,
        *,
        language: Callable[[str], str],
        may_read: Callable[[Place], list[Admin]],
        clock: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._line = line
        self._language = language
        self._may_read = may_read
        self._clock = clock
        self._told_of: set[tuple[str, str]] = set()  # strangers: room, bare JID

    def find_strangers(self, place: Place) -> bool:
        """Whether there is somebody of whom the admins have not been told."""
        there = {each.jid for each in self._line.occupants.of(place.address)} - {"", self._line.own.casefold()}
        known = {admin.address.reveal().casefold() for admin in self._may_read(place)}
        place.strangers |= {jid for jid in there - known if (place.address, jid) not in self._told_of}
        return bool(place.strangers)

    async def look_after(self, place: Place) -> bool:
        """Whether it stays; else it is closed, and has everything. NotFound: the conversation is gone."""
        await self._tell_of_strangers(place)
        if place.conversation is None:
            return True
        conversation = self._desk.conversation_of(place.conversation)
        if conversation is None:
            raise NotFound("That conversation is gone.")
        words = self._subject(conversation)
        if words not in (place.subject, place.subject_asked):
            place.subject_asked = words
            self._line.post(stanzas.subject(place.address, secrets.token_hex(8), words))
        if conversation.standing is Standing.OPEN:
            return True
        place.looks_stale = True  # it is looked at again until it is left
        return place.subject != words or self._desk.is_due_in_room(conversation.id)

    def typing(self, place: Place) -> None:
        self._line.post(stanzas.composing(place.address, secrets.token_hex(8), kind="groupchat"))

    def read_up_to(self, place: Place, seq: int) -> None:
        seen = [archive_id for number, archive_id in place.answers if number <= seq]
        if seen and seen[-1] != place.marked:
            place.marked = seen[-1]
            self._line.post(stanzas.displayed(place.address, secrets.token_hex(8), seen[-1], kind="groupchat"))

    # ---- within ----------------------------------------------------------------------------------------------

    async def _tell_of_strangers(self, place: Place) -> None:
        if place.strangers:
            await self._desk.tell_room(place.conversation, STRANGER, now=self._clock())
            self._told_of |= {(place.address, jid) for jid in place.strangers}
            place.strangers.clear()

    def _subject(self, conversation: Conversation) -> str:
        site, owner = self._desk.site(conversation.site), self._desk.name_of(conversation.owner)
        return titles.subject(conversation, site, language=self._language(conversation.site), owner=owner)
