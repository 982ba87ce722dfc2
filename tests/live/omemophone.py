"""An admin's phone with OMEMO: plain slixmpp-omemo, none of our code.

It trusts whatever it meets, as Conversations does until a key is verified, and opens by itself what comes: one thing
at a time, as every app must. The library does not see to that: of two openings at once, one that waits for a server
(its bundle is published anew) goes on from the ratchet as it was, and seals what comes next by a key that is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final
from xml.etree.ElementTree import Element

import slixmpp
from omemo.storage import Just, Maybe, Nothing, Storage
from omemo.types import DeviceInformation, JSONType
from slixmpp.plugins import register_plugin
from slixmpp_omemo import XEP_0384, TrustLevel

from tests.live.phone import Phone

_LEGACY: Final = "eu.siacs.conversations.axolotl"
_ENVELOPE: Final = f"{{{_LEGACY}}}encrypted"


class _Keys(Storage):
    def __init__(self, entries: dict[str, JSONType]) -> None:
        super().__init__(disable_cache=True)
        self._entries = entries

    async def _load(self, key: str) -> Maybe[JSONType]:
        return Just(self._entries[key]) if key in self._entries else Nothing()

    async def _store(self, key: str, value: JSONType) -> None:
        self._entries[key] = value

    async def _delete(self, key: str) -> None:
        self._entries.pop(key, None)


class PhoneOmemo(XEP_0384):
    """The plug-in, with what it leaves to its user."""

    default_config: Final = {**XEP_0384.default_config, "entries": None}  # type: ignore[misc]
    entries: dict[str, JSONType]

    @property
    def storage(self) -> Storage:
        return _Keys(self.entries)

    @property
    def _btbv_enabled(self) -> bool:
        return True

    async def _prompt_manual_trust(
        self, manually_trusted: frozenset[DeviceInformation], identifier: str | None
    ) -> None:
        manager = await self.get_session_manager()
        for device in manually_trusted:
            await manager.set_trust(device.bare_jid, device.identity_key, TrustLevel.TRUSTED.value)


register_plugin(PhoneOmemo)


class OmemoPhone(Phone):
    """`keys` are the device's: the same dict is the same device. `opened` are the words that came encrypted."""

    def __init__(self, jid: str, password: str, *, keys: dict[str, JSONType] | None = None, **more: Any) -> None:
        self.keys: dict[str, JSONType] = {} if keys is None else keys
        self.opened: list[str] = []
        self.opened_in: list[tuple[str, str]] = []  # room, words
        self.unopened: list[str] = []  # the names of what the library raised
        self.key_transports = 0  # messages without words
        self._turn = asyncio.Lock()
        super().__init__(jid, password, **more)

    def _made(self, jid: str, password: str, resource: str, receipts: bool) -> Any:
        client = super()._made(jid, password, resource, receipts)
        for plugin in ("xep_0060", "xep_0163", "xep_0334", "xep_0380"):
            client.register_plugin(plugin)
        client.register_plugin("xep_0384", {"entries": self.keys})
        return client

    async def __aenter__(self) -> OmemoPhone:
        await super().__aenter__()
        await self._omemo.get_session_manager()
        return self

    @property
    def _omemo(self) -> Any:
        return self._client.plugin["xep_0384"]

    # ---- what it does ----------------------------------------------------------------------------------------

    async def say_sealed(self, text: str, *extra: Element) -> str:
        """A line to the desk that only the desk can read; its stanza id."""
        return await self._send_sealed(self._message(text), {self._desk}, extra)

    async def room_say_sealed(self, room: str, text: str, to: Collection[str]) -> str:
        """A line to those in the room; `to` are their bare JIDs."""
        message = self._client.make_message(room, text, mtype="groupchat")
        return await self._send_sealed(message, {slixmpp.JID(jid) for jid in to}, ())

    async def device_id(self) -> int:
        device, _ = await (await self._omemo.get_session_manager()).get_own_device_information()
        return int(device.device_id)

    async def fingerprint(self) -> str:
        manager = await self._omemo.get_session_manager()
        device, _ = await manager.get_own_device_information()
        return "".join(manager.format_identity_key(device.identity_key))

    async def desk_fingerprints(self) -> set[str]:
        """All that it knows of the desk's devices, present and past."""
        manager = await self._omemo.get_session_manager()
        devices = await manager.get_device_information(self._desk.bare)
        return {"".join(manager.format_identity_key(device.identity_key)) for device in devices}

    async def _send_sealed(self, message: Any, to: set[slixmpp.JID], extra: Collection[Element]) -> str:
        message.set_from(self._client.boundjid)
        async with self._turn:
            sealed, errors = await self._omemo.encrypt_message(message, to)
            assert not errors
            for element in extra:
                sealed.append(element)
            sealed.send()
        return str(sealed["id"])

    # ---- what it sees ----------------------------------------------------------------------------------------

    async def words(self, text: str, *, seconds: float = 10) -> None:
        """Until exactly that has been opened."""
        try:
            await self.when(lambda: text in self.opened, seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"{text!r} did not come; there is {self.opened}, and {self.unopened}") from None

    def _hear(self, stanza: Any) -> None:
        super()._hear(stanza)
        if stanza.xml.find(_ENVELOPE) is not None and stanza["type"] != "error":
            self._go(self._open(stanza))

    async def _open(self, stanza: Any) -> None:
        room = ""
        if stanza["type"] == "groupchat":
            room, nick = stanza["from"].bare, stanza["from"].resource
            if nick == self.rooms.get(room):
                return
            stanza["type"], stanza["from"] = "chat", self.occupants(room)[nick].jid
        try:
            async with self._turn:
                opened, _ = await self._omemo.decrypt_message(stanza)
        except Exception as error:  # noqa: BLE001 - what a test may want to see
            self.unopened.append(type(error).__name__)
        else:
            self._take(opened.xml.findtext("{jabber:client}body"), room)
        await self._tell()

    def _take(self, words: str | None, room: str) -> None:
        if words is None:
            self.key_transports += 1
        else:
            self.opened.append(words)
            self.opened_in.append((room, words))
