"""The card: one message that lists who waits for an answer, and that corrects itself in place (XEP-0308).

It stands in the staff room, and in the chat of every admin who is online and not in that room. While somebody waits it
is brought up to date: soon when who waits or whose they are has changed, else every few minutes. When a visitor
begins to wait after nobody did, it is posted anew, so that it stands at the bottom and rings. Where an app does not
show corrections (XEP-0030 tells), it is posted anew only for a visitor who was not on it before. It is a view of what
the desk knows, so nothing of it rests on disk, and what gets lost is made good by the next.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from veilsupport.desk import Desk, Waiting
from veilsupport.errors import StoreError, Unavailable
from veilsupport.model import Admin, Delivery, DeliveryKind
from veilsupport.xmpp import muc, stanzas
from veilsupport.xmpp.attending import Attending
from veilsupport.xmpp.line import Declined, Line

_LOOK_SECONDS: Final = 5.0
_NEWS_SECONDS: Final = 0.5  # what changes several times in a moment is shown once
_PAUSE_SECONDS: Final = 3.0  # from one look to the next: in a rush the line is for what visitors say
_AGES_SECONDS: Final = 300.0  # so often the minutes on it are brought up to date, when nothing else changes
_SHOWN_MAX: Final = 20
_CORRECTIONS: Final = "urn:xmpp:message-correct:0"


@dataclass(frozen=True, slots=True)
class _Posted:
    first_id: str  # which message is corrected
    shown: tuple[str, ...]  # without the minutes
    aliases: frozenset[str]
    at: float


class Card:
    """`post` hands a stanza to the line as the pump would. `staff_room` gives its address while it is ready."""

    def __init__(
        self,
        desk: Desk,
        line: Line,
        attending: Attending,
        *,
        seal: Callable[[Element, Delivery], Awaitable[Element | None]],
        staff_room: Callable[[], str | None],
        is_ready: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._is_ready = is_ready
        self._desk = desk
        self._line = line
        self._attending = attending
        self._seal = seal
        self._staff_room = staff_room
        self._clock = clock
        self._posted: dict[Admin | None, _Posted] = {}
        self._corrects: dict[str, bool] = {}  # by full JID: whether that app shows corrections
        self._news = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        looked_at = -_PAUSE_SECONDS
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(max(_NEWS_SECONDS, looked_at + _PAUSE_SECONDS - loop.time()))
            self._news.clear()
            looked_at = loop.time()
            try:
                if self._is_ready():
                    await self._look()
            except (Unavailable, StoreError):
                pass  # The next look brings it up to date.

    def look(self) -> None:
        """Something has changed that may be on it."""
        self._news.set()

    def begin(self) -> None:
        """A fresh session: other devices, other apps. The cards that stand go on being corrected."""
        self._corrects.clear()

    async def _look(self) -> None:
        if self._staff_room():
            await self._bring_up_to_date(None)
        for admin in self._desk.admins:
            if self._attending.devices(admin) and not self._attending.is_in_staff_room(admin):
                await self._bring_up_to_date(admin)

    async def _bring_up_to_date(self, admin: Admin | None) -> None:
        waiting = self._desk.waiting(admin, now=self._clock())
        new = _Posted("", self._shown(admin), frozenset(each.alias for each in waiting), self._clock())
        before = self._posted.get(admin)
        if before is None or not before.aliases:
            if waiting:
                await self._post(admin, waiting, new)
            return
        if new.shown == before.shown and (not waiting or new.at - before.at < _AGES_SECONDS):
            return
        if await self._shows_corrections(admin):
            await self._post(admin, waiting, replace(new, first_id=before.first_id))
        elif new.aliases - before.aliases:
            await self._post(admin, waiting, new)
        else:
            self._posted[admin] = replace(new, first_id=before.first_id)

    def _shown(self, admin: Admin | None) -> tuple[str, ...]:
        """The lines as they would be if nobody had waited for any time."""
        return tuple(each.words for each in self._desk.waiting(admin, now=0.0))

    def _lines(self, waiting: list[Waiting]) -> list[str]:
        if not waiting:
            return ["Nobody waits for an answer."]
        shown = [each.words for each in waiting[:_SHOWN_MAX]]
        more = [f"and {len(waiting) - _SHOWN_MAX} more: !list"] if len(waiting) > _SHOWN_MAX else []
        return [f"Waiting for an answer: {sum(1 + each.folded for each in waiting)}", *shown, *more]

    async def _post(self, admin: Admin | None, waiting: list[Waiting], new: _Posted) -> None:
        """Instead of the message `new.first_id`, if it has one; else as a message of its own."""
        words = "\n".join(self._lines(waiting))
        delivery = Delivery(secrets.token_hex(16), admin, DeliveryKind.NOTICE, None, "", words)
        to = admin.address.reveal() if admin else self._staff_room()
        if to is None:
            return
        written = stanzas.write(delivery, to) if admin else stanzas.write_to_room(delivery, to)
        if new.first_id:
            SubElement(written, f"{{{_CORRECTIONS}}}replace", id=new.first_id)
        message = await self._seal(written, delivery)
        if message is not None and self._is_ready():
            self._line.post(message)
            self._posted[admin] = replace(new, first_id=new.first_id or delivery.stanza_id)

    async def _shows_corrections(self, admin: Admin | None) -> bool:
        """Whether every app does that the admin has online; in the staff room it is taken for granted."""
        if admin is None:
            return True
        return all([await self._is_able(jid) for jid in self._attending.devices(admin)])

    async def _is_able(self, jid: str) -> bool:
        if jid not in self._corrects:
            try:
                answer = await self._line.ask("get", muc.features_query(), to=jid)
            except Unavailable:
                answer = Declined("remote-server-timeout")  # a phone asleep must not keep the others' cards waiting
            self._corrects[jid] = not isinstance(answer, Declined) and _CORRECTIONS in muc.features(answer)
        return self._corrects[jid]
