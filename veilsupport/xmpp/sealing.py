"""Whether what leaves for an admin or a room is end-to-end encrypted (OMEMO), and what is said when it cannot be.

Each admin says how they want it. `require`: not one word of a visitor leaves for them in the clear. `prefer`: in the
clear only as long as none of their apps has ever shown a key; a server that hides the keys later gets nothing.
`off`: never, and what they encrypt is answered in words. A room is encrypted when one of its members requires it, or
when all of them can read it so; who then cannot is told. That, and what waits for an admin who cannot be reached, is
told in the clear, once, until they have been reached again.

This module knows neither the library nor the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from veilsupport.desk import Desk
from veilsupport.errors import AdminError, StoreError, Unavailable
from veilsupport.model import Admin, Delivery, DeliveryKind, EndToEnd
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.omemo import NewDevice, Omemo, Undecryptable, Why, is_sealed
from veilsupport.xmpp.omemo_terms import ENVELOPE
from veilsupport.xmpp.stanzas import Reading

WAITING: Final = (
    "A message waits for you that may only leave encrypted (OMEMO), and cannot yet: {why}. Open this chat in an app"
    " with OMEMO, or ask the operator to change the setting; it comes as soon as it can."
)
UNREADABLE: Final = (
    "What is said in a room of this desk leaves encrypted (OMEMO), and you cannot read it: {why}. Use an app with"
    " OMEMO, or ask the operator to change the setting; what comes after that, you can read."
)
WHY: Final = {
    Why.NO_DEVICE: "none of your apps shows OMEMO keys",
    Why.VANISHED: "your apps with OMEMO have all gone from your account's list",
    Why.HELD: "none of your devices is confirmed",
    Why.UNREACHED: "the keys of your apps could not be fetched",
}
NO_KEYS: Final = "Your server does not keep this desk's OMEMO keys, so nobody can write to it encrypted."
OFF: Final = "OMEMO is off for all of you."
NOT_SEALED: Final = (
    "That was not encrypted, although you are set to OMEMO only, so it could be anyone's. It went to nobody; please"
    " switch encryption on in this chat and write it again."
)
ASKED: Final = "The device is looked up; the answer comes here."
_SAID_IN_THE_CLEAR: Final = {form.format(why=why) for form in (WAITING, UNREADABLE) for why in WHY.values()}
_BODY: Final = "{jabber:client}body"


class Kept:
    """OMEMO's state, in the desk's hands, and the news of devices: they are on disk as announcements before the state
    forgets that nobody was told. A crash in between announces a device twice."""

    def __init__(self, desk: Desk, *, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._clock = clock
        self._news: list[NewDevice] = []

    def load(self) -> dict[str, str]:
        return self._desk.omemo_entries()

    def told(self, device: NewDevice) -> None:
        """Right before the `keep` by which the state forgets it; when that fails, it is told again."""
        self._news.append(device)

    async def keep(self, changes: Mapping[str, str | None]) -> None:
        news, self._news = self._news, []
        for device in news:
            await self._desk.announce(_announcement(self._desk.admins, device), now=self._clock())
        await self._desk.keep_omemo(changes)


class Sealing:
    """Decides for each stanza. `keeps_archive` False: our lines ask not to be kept by any archive.

    `on_keys` is called when somebody may have become reachable.
    """

    def __init__(self, desk: Desk, omemo: Omemo | None, *, keeps_archive: bool, clock: Callable[[], float]) -> None:
        self.omemo = omemo
        self.on_keys: Callable[[], None] = lambda: None
        self._desk = desk
        self._keeps_archive = keeps_archive
        self._clock = clock
        self._told: set[tuple[str, str]] = set()  # admins' names, and the words
        self._asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._off = {admin.address.reveal().casefold() for admin in desk.admins if admin.end_to_end is EndToEnd.OFF}
        self._required = {
            admin.address.reveal().casefold() for admin in desk.admins if admin.end_to_end is EndToEnd.REQUIRE
        }
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
            if ("", NO_KEYS) not in self._told:
                await self._desk.announce(NO_KEYS, now=self._clock())
                self._told.add(("", NO_KEYS))

    async def caught_up(self) -> None:
        if self.omemo is not None:
            await self.omemo.caught_up()

    async def hear(self, message: Element) -> bool:
        """Whether that was news of an admin's devices; it is done with then."""
        if self.omemo is None or not await self.omemo.hear(message):
            return False
        self.on_keys()
        return True

    async def seal(self, message: Element, delivery: Delivery) -> Element | None:
        """As it may leave; None when it may not. Unavailable: the connection is gone."""
        said_in_the_clear = delivery.kind is DeliveryKind.NOTICE and delivery.body in _SAID_IN_THE_CLEAR
        if delivery.kind is not DeliveryKind.RETRACT and not said_in_the_clear:
            readers = [delivery.admin] if delivery.admin else self._readers(delivery)
            sealed = await self._sealed(message, readers)
            if sealed is None:
                return None
            message = sealed
        return message if self._keeps_archive else stanzas.unarchived(message)

    def _readers(self, delivery: Delivery) -> list[Admin]:
        if delivery.conversation is None:
            return list(self._desk.admins)
        return [admin for admin in self._desk.admins_of(delivery.site) if not admin.notify_only]

    async def _sealed(self, message: Element, readers: Collection[Admin]) -> Element | None:
        wishes = {admin.end_to_end for admin in readers}
        required = EndToEnd.REQUIRE in wishes
        if self.omemo is None or (not required and EndToEnd.OFF in wishes):
            return message
        by_jid = {admin.address.reveal().casefold(): admin for admin in readers}
        sealed = await self.omemo.encrypt(message, list(by_jid))
        if not required and Why.NO_DEVICE in sealed.unreachable.values():
            return message
        self._reached({by_jid[jid].name for jid in by_jid.keys() - sealed.unreachable.keys()})
        for jid, why in sealed.unreachable.items():
            await self._tell_once(by_jid[jid], (UNREADABLE if sealed.message else WAITING).format(why=WHY[why]))
        return sealed.message

    def _reached(self, names: Collection[str]) -> None:
        self._told = {each for each in self._told if each[0] not in names}

    async def _tell_once(self, admin: Admin, words: str) -> None:
        """In the clear, and without a word of the message."""
        if (admin.name, words) not in self._told:
            await self._desk.tell(admin, words, now=self._clock())
            self._told.add((admin.name, words))

    @asynccontextmanager
    async def opened(self, message: Element, reading: Reading) -> AsyncIterator[Reading]:
        """The reading with its words in the clear, for the block to put on disk; raises as Omemo.opening does."""
        if self.omemo is None or not is_sealed(message) or reading.sender in self._off:
            if reading.sender in self._required and (reading.body or reading.is_file) and not reading.is_encrypted:
                raise Undecryptable(NOT_SEALED)
            yield reading
            return
        async with self.omemo.opening(message, reading.sender) as body:
            yield _read_again(message, reading, body)

    def concerns(self, message: Element, reading: Reading) -> bool:
        """Whether there is something to take: words, or keys."""
        return reading.says_something or (self.omemo is not None and is_sealed(message))

    # ---- devices ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Does what the admins ask about devices."""
        while True:
            words = await self._trust(*await self._asked.get())
            self.on_keys()
            try:
                await self._desk.announce(words, now=self._clock())
            except StoreError:
                pass  # A full disk has worse news.

    async def _ask_for_trust(self, name: str, code: str) -> str:
        """Done apart: the command may have come in an encrypted line, which is still being opened."""
        if self.omemo is None:
            raise AdminError(OFF)
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
        except StoreError:
            return f"The disk refuses, so no device of {admin.name} was confirmed. Please try again."
        return f"{admin.name}'s device {grouped(device.fingerprint)} is confirmed."

    def _words(self) -> str:
        if self.omemo is None:
            return OFF
        return f"The desk's OMEMO fingerprint:\n{grouped(self.omemo.fingerprint)}\n{self.omemo.uri}"


def _announcement(admins: Collection[Admin], device: NewDevice) -> str:
    name = next((each.name for each in admins if each.address.reveal().casefold() == device.jid), "Somebody")
    words = f"{name} has a new OMEMO device: {grouped(device.fingerprint)}."
    if not device.held:
        return f"{words} If it is not theirs, tell the operator at once."
    confirm = f"!trust {name} {device.fingerprint[:8]}"
    return f"{words} Nothing goes to it until someone who knows it to be theirs writes: {confirm}"


def _read_again(message: Element, reading: Reading, body: str) -> Reading:
    """Whether it is a file, and which part repeats what it replies to, shows in the words only."""
    clear = Element(message.tag, dict(message.attrib))
    SubElement(clear, _BODY).text = body
    clear.extend(each for each in message if each.tag not in (_BODY, ENVELOPE))
    in_room = message.get("type") == "groupchat"
    again = stanzas.read(clear, own="", sender=reading.sender if in_room else None)
    return replace(again, archive_id=reading.archive_id, is_encrypted=False, was_sealed=True)


def grouped(fingerprint: str) -> str:
    """As apps show it: eight groups of eight."""
    return " ".join(fingerprint[at : at + 8] for at in range(0, len(fingerprint), 8))
