"""Whether what leaves for an admin or a room is end-to-end encrypted (OMEMO), and what is said when it cannot be.

Each admin says how they want it. `require`: not one word of a visitor leaves for them in the clear. `prefer`: in the
clear only as long as none of their apps has ever shown a key; a server that hides the keys later gets nothing.
`off`: never. A room is encrypted when one of its members requires it, or when all of them can read it so; who then
cannot is told.

This module knows neither the library nor the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from xml.etree.ElementTree import Element

from veilsupport.desk import Desk
from veilsupport.errors import AdminError, StoreError, Unavailable
from veilsupport.model import Admin, Delivery, DeliveryKind, EndToEnd
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.omemo import NewDevice, Omemo, Why, is_sealed
from veilsupport.xmpp.stanzas import Reading

WAITING: Final = (
    "A message waits for you that may only leave encrypted (OMEMO), and cannot yet: {why}. Open this chat in an app"
    " with OMEMO, or ask the operator to change the setting; it comes as soon as it can."
)
NO_KEYS: Final = "Your server does not keep this desk's OMEMO keys, so nobody can write to it encrypted."
ASKED: Final = "The device is looked up; the answer comes here."


class Kept:
    """OMEMO's state, in the desk's hands."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def load(self) -> dict[str, str]:
        return self._desk.omemo_entries()

    async def keep(self, changes: Mapping[str, str | None]) -> None:
        await self._desk.keep_omemo(changes)


class Sealing:
    """Decides for each stanza. `keeps_archive` False: our lines ask not to be kept by any archive."""

    def __init__(
        self,
        desk: Desk,
        omemo: Omemo | None,
        news: asyncio.Queue[NewDevice],
        *,
        keeps_archive: bool,
        clock: Callable[[], float],
    ) -> None:
        self.omemo = omemo
        self._desk = desk
        self._keeps_archive = keeps_archive
        self._clock = clock
        self._told: set[tuple[str, Why]] = set()
        self._news = news
        self._asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        if omemo is not None:
            desk.omemo_words = self._words
            desk.trust_device = self._ask_for_trust

    @property
    def uri(self) -> str | None:
        """None while there are no keys of ours."""
        return self.omemo.uri if self.omemo is not None and self.omemo.is_loaded else None

    async def begin(self) -> None:
        """A fresh session: our keys are seen to. Unavailable: the connection is gone."""
        if self.omemo is None:
            return
        try:
            await self.omemo.start()
        except Unavailable as error:
            if error.temporary:
                raise
            await self._desk.announce(NO_KEYS, now=self._clock())

    async def caught_up(self) -> None:
        if self.omemo is not None:
            await self.omemo.caught_up()

    async def hear(self, message: Element) -> bool:
        """Whether that was news of an admin's devices; it is done with then."""
        return self.omemo is not None and await self.omemo.hear(message)

    async def seal(self, message: Element, delivery: Delivery) -> Element | None:
        """As it may leave; None when it may not. Unavailable: the connection is gone."""
        if delivery.kind is not DeliveryKind.RETRACT:
            readers = [delivery.admin] if delivery.admin else self._readers(delivery)
            sealed = await self._sealed(message, readers, to_room=delivery.admin is None)
            if sealed is None:
                return None
            message = sealed
        return message if self._keeps_archive else stanzas.unarchived(message)

    def _readers(self, delivery: Delivery) -> list[Admin]:
        if delivery.conversation is None:
            return list(self._desk.admins)
        return [admin for admin in self._desk.admins_of(delivery.site) if not admin.notify_only]

    async def _sealed(self, message: Element, readers: Collection[Admin], *, to_room: bool) -> Element | None:
        wishes = {admin.end_to_end for admin in readers}
        required = EndToEnd.REQUIRE in wishes
        if self.omemo is None or (not required and EndToEnd.OFF in wishes):
            return message
        by_jid = {admin.address.reveal().casefold(): admin for admin in readers}
        sealed = await self.omemo.encrypt(message, list(by_jid))
        never = not required and any(why is Why.NO_DEVICE for why in sealed.unreachable.values())
        if never:
            return message
        for jid, why in sealed.unreachable.items():
            await self._tell_once(by_jid[jid], why)
        return sealed.message

    async def _tell_once(self, admin: Admin, why: Why) -> None:
        """In the clear, and without a word of the message."""
        key = (admin.name, why)
        if key not in self._told:
            self._told.add(key)
            await self._desk.tell(admin, WAITING.format(why=why.value), now=self._clock())

    @asynccontextmanager
    async def opened(self, message: Element, reading: Reading) -> AsyncIterator[Reading]:
        """The reading with its words in the clear, for the block to put on disk; raises as Omemo.opening does."""
        if self.omemo is None or not is_sealed(message):
            yield reading
            return
        async with self.omemo.opening(message, reading.sender) as body:
            yield replace(reading, body=body, is_encrypted=False)

    def concerns(self, message: Element, reading: Reading) -> bool:
        """Whether there is something to take: words, or keys."""
        return reading.says_something or (self.omemo is not None and is_sealed(message))

    # ---- devices ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tells the admins of new devices, and does what they ask about them."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_of_devices())
            tasks.create_task(self._confirm_devices())

    async def _tell_of_devices(self) -> None:
        while True:
            await self._announce(self._announcement(await self._news.get()))

    async def _confirm_devices(self) -> None:
        while True:
            await self._announce(await self._trust(*await self._asked.get()))

    async def _announce(self, words: str) -> None:
        try:
            await self._desk.announce(words, now=self._clock())
        except StoreError:
            pass  # A full disk has worse news, and the device stays as it is.

    def _announcement(self, device: NewDevice) -> str:
        name = self._name_of(device.jid)
        words = f"{name} has a new OMEMO device: {grouped(device.fingerprint)}."
        if not device.held:
            return f"{words} If it is not theirs, tell the operator at once."
        confirm = f"!trust {name} {device.fingerprint[:8]}"
        return f"{words} Nothing goes to it until someone who knows it to be theirs writes: {confirm}"

    async def _ask_for_trust(self, name: str, code: str) -> str:
        """Done apart: the command may have come in an encrypted line, which is still being opened."""
        self._asked.put_nowait((name, code))
        return ASKED

    async def _trust(self, name: str, code: str) -> str:
        admin = next((each for each in self._desk.admins if each.name.casefold() == name.casefold()), None)
        if admin is None or self.omemo is None:
            return f"No admin is called {name}; no device was confirmed."
        try:
            device = await self.omemo.trust(admin.address.reveal(), code)
        except AdminError as error:
            return f"{error.message} No device of {admin.name} was confirmed."
        except Unavailable:
            return f"The keys of {admin.name} could not be fetched, so no device was confirmed. Please try again."
        return f"{admin.name}'s device {grouped(device.fingerprint)} is confirmed."

    def _name_of(self, jid: str) -> str:
        found = [each.name for each in self._desk.admins if each.address.reveal().casefold() == jid]
        return found[0] if found else "Somebody"

    def _words(self) -> str:
        assert self.omemo is not None
        return f"The desk's OMEMO fingerprint:\n{grouped(self.omemo.fingerprint)}\n{self.omemo.uri}"


def grouped(fingerprint: str) -> str:
    """As apps show it: eight groups of eight."""
    return " ".join(fingerprint[at : at + 8] for at in range(0, len(fingerprint), 8))
