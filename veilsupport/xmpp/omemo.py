"""End-to-end encryption between the desk and its admins' apps (XEP-0384, the legacy form that Conversations speaks).

The rules:

1. All state is in memory, loaded once. What an operation changes is on disk before anything made with it leaves:
   a message key that is used twice, once before a crash and once after, gives both messages away.
2. What comes in is opened the other way round: `opening` yields the words, the caller puts them on disk, and only then
   the ratchet's step is kept. Until then the same stanza opens again, after a crash or after the block has raised.
   Words that are on disk already (Duplicate) are as good as kept.
3. What opening makes the library send (answers to key exchanges, fresh bundles) waits for that, too.
4. One operation at a time. Neither the block under `opening` nor `told` may call anything here.
5. The first devices that are seen of a JID are trusted and pinned, by identity key. One that appears later, or a known
   device with another identity key, is told about once; when `strict`, it is held until `trust` is called: nothing is
   encrypted to it and nothing of it is opened. Other devices of our own account are never trusted.
6. What does not open is never taken for words. Where a broken session is the cause, a new one is begun, once. An old
   message that comes again looks just like that, so those that have been opened are remembered (Duplicate). Others
   under a key that was used are new words, which nobody may lose: they are asked for again.
7. Only the legacy namespace is spoken. An omemo:2 envelope beside it is not looked at.
8. In what is sent nothing stays readable but the elements in `_PLAIN`, which say nothing of the words.
9. While the archives are read, from `start` to `caught_up`, used pre keys are kept and answers collected: several
   devices may have chosen the same one, and each gets a single answer.

The library is imported when the first `load` needs it (omemo_sessions.py). It logs plaintext, so its loggers are cut
off.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element, SubElement

from veilsupport.errors import AdminError, Duplicate, Unavailable
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.omemo_entries import Entries, KeptState
from veilsupport.xmpp.omemo_nodes import DEVICES, Nodes, Unreached, published_list
from veilsupport.xmpp.omemo_terms import (
    ENVELOPE,
    NAMESPACE,
    PAYLOAD,
    Device,
    DeviceTrust,
    NewDevice,
    Sealed,
    Undecryptable,
    Why,
)

if TYPE_CHECKING:
    from veilsupport.xmpp.omemo_sessions import Sessions

__all__ = [
    "Device",
    "DeviceTrust",
    "KeptState",
    "NewDevice",
    "Omemo",
    "Sealed",
    "Undecryptable",
    "Why",
    "is_sealed",
]

FALLBACK: Final = "This message is encrypted with OMEMO, and this app did not open it."
_BODY: Final = "{jabber:client}body"
_PLAIN: Final = {
    "{urn:xmpp:sid:0}origin-id",
    "{urn:xmpp:receipts}request",
    "{urn:xmpp:chat-markers:0}markable",
    "{urn:xmpp:message-correct:0}replace",
    "{http://jabber.org/protocol/chatstates}active",
    "{urn:xmpp:hints}no-store",
    "{urn:xmpp:hints}no-permanent-store",
    "{urn:xmpp:hints}store",
}
_STORE: Final = "{urn:xmpp:hints}store"
_NO_STORE: Final = ("{urn:xmpp:hints}no-store", "{urn:xmpp:hints}no-permanent-store")
_LOGGERS: Final = "omemo oldmemo twomemo slixmpp_omemo doubleratchet x3dh xeddsa".split()
_PREFIX_MIN: Final = 8
_NEWS_SECONDS: Final = 30.0  # a server that keeps its keys to itself must not keep everyone waiting


class Omemo:
    """One account's OMEMO over its line. StoreError from any operation: it has not happened.

    `told` is called, once and from within an operation, for each device that is new, and must not block. Made before
    the line's first presence, by which the server learns that we want to hear of changed devices.
    """

    def __init__(self, line: Line, state: KeptState, *, strict: bool, told: Callable[[NewDevice], None]) -> None:
        for name in _LOGGERS:
            _cut_off(logging.getLogger(name))
        line.want_news_of(DEVICES)
        self._line = line
        self._state = state
        self._strict = strict
        self._told = told
        self._nodes = Nodes(line)
        self._lock = asyncio.Lock()
        self._loaded: tuple[Entries, Sessions] | None = None
        self._catching_up = True  # and nothing has begun

    # ---- our own keys ----------------------------------------------------------------------------------------

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    @property
    def fingerprint(self) -> str:
        """Our identity key as apps show it: 64 hexadecimal digits. After `load`, as the next two."""
        return self._sessions.fingerprint

    @property
    def device_id(self) -> int:
        return self._sessions.device_id

    @property
    def uri(self) -> str:
        """For a QR code: an app that scans it verifies our key."""
        return f"xmpp:{self._line.own}?omemo-sid-{self.device_id}={self.fingerprint}"

    async def load(self) -> None:
        """Read the state, or make a new device. Every other operation does it, too. Needs no connection."""
        async with self._operation():
            pass

    async def start(self) -> None:
        """A fresh session with the server: see to it that our keys are there. Before the archives are read.

        Unavailable: the connection is gone, or, not temporary, the server keeps no keys, so that nobody can encrypt.
        """
        self._catching_up = True
        async with self._operation() as sessions:
            sessions.begin()
            await sessions.rotate()
        async with self._lock:
            try:
                await self._sessions.compare()
            except Unreached:
                raise Unavailable("the server does not show our own OMEMO keys", temporary=False) from None
            await self._publish()

    async def caught_up(self) -> None:
        """The archives are read."""
        self._catching_up = False
        async with self._operation() as sessions:
            await sessions.after_history_sync()
        await self._restore_sessions()

    async def _restore_sessions(self) -> None:
        """What a restore has taken away. One by one: somebody's silent server must not hold up the others."""
        for jid, device_id in self._sessions.lost():
            try:
                async with asyncio.timeout(_NEWS_SECONDS), self._operation() as sessions:
                    await sessions.restore(jid, device_id, wanted=self._line.is_admin(jid))
            except TimeoutError:
                continue
            except Unavailable:
                return  # The next session with the server goes on here.

    # ---- messages --------------------------------------------------------------------------------------------

    async def encrypt(self, message: Element, recipients: Collection[str]) -> Sealed:
        """The same stanza for the devices of these bare JIDs, its body sealed. It has to have a body.

        Unavailable: the connection is gone, and a device's keys were needed.
        """
        body = message.findtext(_BODY)
        assert body, "only words are encrypted"
        async with self._operation() as sessions:
            await sessions.rotate()
            envelope, unreachable = await sessions.seal(body, {jid.casefold() for jid in recipients})
        return Sealed(None if envelope is None else _sealed(message, envelope), unreachable)

    @contextlib.asynccontextmanager
    async def opening(self, message: Element, sender: str) -> AsyncIterator[str]:
        """The words of a stanza that `is_sealed`, for the block to put on disk; "" when it only carries keys.

        `sender` is the real bare JID of who wrote it, in a room as well. What the block raises undoes the opening,
        unless it is Duplicate. Undecryptable: tell its message to who wrote it. Duplicate: it was opened before.
        Unavailable: keys had to be fetched and the connection is gone; to be tried again in the next session.
        """
        envelope = message.find(ENVELOPE)
        assert envelope is not None, "is_sealed() comes first"
        trouble: Undecryptable | Duplicate | None = None
        body = ""
        async with self._operation() as sessions:
            try:
                body = await sessions.open(envelope, sender.casefold())
            except (Undecryptable, Duplicate) as error:
                trouble = error
            if trouble is None or _carries_keys_only(message):
                yield body
                return
        raise trouble

    async def decrypt(self, message: Element, sender: str) -> str:
        """`opening` where nothing needs to be on disk first."""
        async with self.opening(message, sender) as body:
            return body

    async def hear(self, message: Element) -> bool:
        """Whether that was news of someone's devices; it is done with then. Only from our own account or admins."""
        news = published_list(message)
        if news is None:
            return False
        jid, listed = news
        if self._line.is_admin(jid) or jid in ("", self._line.own):
            try:
                async with asyncio.timeout(_NEWS_SECONDS), self._operation() as sessions:
                    await sessions.look(jid or self._line.own, listed)
            except (Unavailable, TimeoutError):
                pass  # The next session asks for the list.
        return True

    # ---- devices ---------------------------------------------------------------------------------------------

    async def devices(self, jid: str) -> list[Device]:
        """All that were ever seen of that bare JID, by id. May have to fetch keys: Unavailable."""
        async with self._operation() as sessions:
            return await sessions.devices(jid.casefold())

    async def trust(self, jid: str, which: int | str) -> Device:
        """Confirm a device: its id, or the first digits of its fingerprint. AdminError: none or several are meant."""
        return await self._decide(jid.casefold(), which, DeviceTrust.TRUSTED)

    async def distrust(self, jid: str, which: int | str) -> Device:
        return await self._decide(jid.casefold(), which, DeviceTrust.DISTRUSTED)

    async def _decide(self, jid: str, which: int | str, trust: DeviceTrust) -> Device:
        async with self._operation() as sessions:
            device = _meant(await sessions.devices(jid), which)
            await sessions.set_device_trust(jid, device.id, trust)
            return Device(device.id, device.fingerprint, trust, device.active)

    # ---- within ----------------------------------------------------------------------------------------------

    @property
    def _sessions(self) -> Sessions:
        assert self._loaded is not None, "load() comes first"
        return self._loaded[1]

    @contextlib.asynccontextmanager
    async def _operation(self) -> AsyncIterator[Sessions]:
        """Rules 1 to 4."""
        async with self._lock:
            entries, sessions = self._loaded or await self._load()
            try:
                yield sessions
            except Duplicate:
                await self._flush(entries, sessions)
                raise
            except BaseException:
                sessions.undo()
                raise
            await self._flush(entries, sessions)
            try:
                if not self._catching_up:
                    await self._publish()
            except Unavailable:
                pass  # Still due: after the next operation, or when the next session starts.

    async def _load(self) -> tuple[Entries, Sessions]:
        from veilsupport.xmpp.omemo_sessions import Sessions  # not before it is needed

        entries = Entries(self._state)
        sessions = await Sessions.of(entries, self._nodes, self._line.own, strict=self._strict)
        await entries.flush()
        self._loaded = entries, sessions
        return self._loaded

    async def _flush(self, entries: Entries, sessions: Sessions) -> None:
        try:
            await entries.flush()
        except BaseException:
            sessions.undo()
            raise
        if self._line.up.is_set():
            for message in sessions.due:
                message.set("id", f"keys-{secrets.token_hex(8)}")
                self._line.post(message)
        sessions.due.clear()
        if untold := sessions.untold():
            for key, device in untold.items():
                self._told(device)
                entries.put(key, None)
            await entries.flush()

    async def _publish(self) -> None:
        """What is due of our keys; the bundle before the list that names it."""
        sessions = self._sessions
        try:
            if sessions.bundle_is_due:
                await self._nodes.publish_bundle(sessions.device_id, await sessions.bundle())
            sessions.bundle_is_due = False
            if sessions.device_list_is_due:
                await self._nodes.publish_device_list(sessions.device_list())
            sessions.device_list_is_due = False
        except Unavailable as error:
            if not error.temporary:  # The server will not take it in this session: not another try for each message.
                sessions.bundle_is_due = sessions.device_list_is_due = False
            raise


def is_sealed(message: Element) -> bool:
    """Whether there is something here for `opening`. Other envelopes (omemo:2, OpenPGP) are not for us."""
    return message.find(ENVELOPE) is not None


def _carries_keys_only(message: Element) -> bool:
    """Nobody wrote anything: not worth a word when it does not open."""
    return message.find(f"{ENVELOPE}/{PAYLOAD}") is None


def _sealed(message: Element, envelope: Element) -> Element:
    """Rule 8."""
    sealed = Element(message.tag, dict(message.attrib))
    SubElement(sealed, _BODY).text = FALLBACK
    sealed.append(envelope)
    SubElement(sealed, "{urn:xmpp:eme:0}encryption", {"namespace": NAMESPACE, "name": "OMEMO"})
    sealed.extend(copy.deepcopy(child) for child in message if child.tag in _PLAIN)
    if all(sealed.find(hint) is None for hint in (_STORE, *_NO_STORE)):
        SubElement(sealed, _STORE)
    return sealed


def _meant(devices: list[Device], which: int | str) -> Device:
    """Apps show a fingerprint in groups, so blanks do not count. Text is never taken for an id: servers choose ids."""
    if isinstance(which, int):
        found = [each for each in devices if each.id == which]
    else:
        digits = "".join(which.split()).lower()
        found = [each for each in devices if len(digits) >= _PREFIX_MIN and each.fingerprint.startswith(digits)]
    if len(found) != 1:
        raise AdminError("No such device is known." if not found else "More than one device begins so.")
    return found[0]


def _cut_off(logger: logging.Logger) -> None:
    logger.handlers = [logging.NullHandler()]
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
