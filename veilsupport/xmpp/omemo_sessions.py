"""The OMEMO library behind our rules: what it remembers, whom it trusts, and when what it makes may leave.

What the library would do by itself and this does not: send and publish in the middle of opening a message (here it is
written down as due, and omemo.py does it once the state is on disk), speak omemo:2, keep tasks of its own, ask a
server the same vain question for every message, take a bundle whose identity key is not the one it trusted.

It does not know when anything is written to disk.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Collection
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

import doubleratchet
from oldmemo.oldmemo import BundleImpl
from omemo.backend import DecryptionFailed, KeyExchangeFailed
from omemo.bundle import Bundle
from omemo.message import Message
from omemo.session_manager import (
    BundleDownloadFailed,
    BundleNotFound,
    DeviceListDownloadFailed,
    MessageNotForUs,
    NoEligibleDevices,
    NoSession,
    PublicDataInconsistency,
    SenderDistrusted,
    SenderNotFound,
    SessionManager,
)
from omemo.types import DeviceInformation, DeviceList, TrustLevel
from omemo.types import OMEMOException as LibraryError

from veilsupport.errors import Duplicate, Unavailable, VeilError
from veilsupport.xmpp import omemo_terms as terms
from veilsupport.xmpp.omemo_entries import Entries
from veilsupport.xmpp.omemo_library import (
    UNDECIDED,
    Backend,
    EntryStorage,
    IdentityChanged,
    check_identity,
    fingerprint,
    is_active,
    is_pinned,
    key_digest,
    listed_devices,
    parsed_bundle,
    parsed_list,
    sender_device,
    trust_name,
)
from veilsupport.xmpp.omemo_nodes import Hidden, Nodes, Unreached
from veilsupport.xmpp.omemo_terms import NAMESPACE, Device, DeviceTrust, NewDevice, Undecryptable, Why
from veilsupport.xmpp.omemo_xml import parse_message, serialize_bundle, serialize_device_list, serialize_message

_UNTOLD: Final = "/veilsupport/untold/"
_OPENED: Final = "/veilsupport/opened/"
_OPENED_MAX: Final = 200  # of each device; what comes twice comes soon, and the archive's keys sort out the rest
_ASK_AGAIN_SECONDS: Final = 60.0
_ROTATION_SECONDS: Final = 7 * 24 * 3600  # of the signed pre key; the library advises a week to a month
_AGE_SECONDS: Final = 3600.0  # how long its age may be reckoned by our own clock
_WORDS: Final[dict[type[Any], str]] = {MessageNotForUs: terms.NOT_FOR_US, SenderNotFound: terms.UNKNOWN_DEVICE}


class Sessions(SessionManager):
    """Our device and its sessions. `due` are the stanzas that wait for the disk; so do the two publications."""

    def __init__(self) -> None:
        super().__init__()
        self.due: list[Element] = []
        self.bundle_is_due = False
        self.device_list_is_due = False
        self.device_id = 0
        self.fingerprint = ""
        self._entries: Entries
        self._backend: Backend
        self._nodes: Nodes
        self._own = ""
        self._strict: bool
        self._ask_age_at = 0.0  # the loop's time
        self._ask_list_at: dict[str, float] = {}  # the loop's time from which a list is worth a question; inf: known
        self._hidden: set[str] = set()  # whose server shows us no list
        self._ask_bundle_at: dict[tuple[str, int], float] = {}
        self._bundleless: set[tuple[str, int]] = set()
        self._healed: set[tuple[str, int]] = set()
        self._reused: dict[tuple[str, int], str] = {}  # the message that came under a used key; until one opens

    @classmethod
    async def of(cls, entries: Entries, nodes: Nodes, own: str, *, strict: bool) -> Sessions:
        """Those in the entries, or a new device. Asks nothing of any server."""
        storage = EntryStorage(entries)
        backend = Backend(storage)
        sessions = await cls.create([backend], storage, own, None, UNDECIDED)
        await sessions.shutdown()  # it ends only the library's task that rotates keys: it would not wait for our lock
        sessions._entries, sessions._backend, sessions._nodes = entries, backend, nodes
        sessions._own, sessions._strict = own, strict
        device, _ = await sessions.get_own_device_information()
        sessions.device_id, sessions.fingerprint = device.device_id, fingerprint(device)
        return sessions

    def undo(self) -> None:
        """Nothing has happened since the last flush."""
        self._entries.undo()
        self._ask_age_at = 0.0  # A new key may have gone with the rest.
        self._ask_list_at.clear()  # A list that was undone with the rest would else be taken for an empty one.
        self.due.clear()
        self._healed.clear()

    # ---- our own keys ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A fresh session with the server: what was seen of others may be old, and what waited is gone."""
        self.before_history_sync()
        self.due.clear()
        self._ask_age_at = 0.0
        self._ask_list_at.clear()
        self._hidden.clear()
        self._ask_bundle_at.clear()
        self._bundleless.clear()
        self._healed.clear()

    async def rotate(self) -> None:
        """A new signed pre key, when it is time. To tell its age, the library unpacks all our keys: not for each line.

        For lines to those without devices, too: whoever begins a session with us takes that key.
        """
        now = asyncio.get_running_loop().time()
        if now < self._ask_age_at:
            return
        age = await self._backend.signed_pre_key_age()
        if age > _ROTATION_SECONDS:
            await self._backend.rotate_signed_pre_key()
            self.bundle_is_due = True
            age = 0
        self._ask_age_at = now + min(_AGE_SECONDS, _ROTATION_SECONDS - age)

    async def bundle(self) -> Element:
        return serialize_bundle(await self._backend.get_bundle(self._own, self.device_id))

    def device_list(self) -> Element:
        """Ours alone: the account has no other user, so any other device is what is left of a lost state."""
        return serialize_device_list({self.device_id: None})

    async def compare(self) -> None:
        """See which of our two nodes on the server are not what they should be. Unreached, Unavailable."""
        shown = await self._nodes.bundle(self._own, self.device_id)
        own = await self._backend.get_bundle(self._own, self.device_id)
        self.bundle_is_due = shown is None or parsed_bundle(shown, self._own, self.device_id) != own
        listed = await self._nodes.device_list(self._own)
        self.device_list_is_due = listed is None or set(parsed_list(listed)) != {self.device_id}

    # ---- other people's devices ------------------------------------------------------------------------------

    async def look(self, jid: str, listed: Element) -> None:
        """An account's list has changed: see to what is new on it."""
        if jid == self._own:
            self.device_list_is_due = self.device_id not in parsed_list(listed)
            return
        await self.update_device_list(NAMESPACE, jid, parsed_list(listed))
        self._ask_list_at[jid] = math.inf
        for key in [key for key in self._ask_bundle_at if key[0] == jid]:
            del self._ask_bundle_at[key]
        for device in await self.get_device_information(jid):
            await self._evaluate_custom_trust_level(device)

    async def devices(self, jid: str) -> list[Device]:
        await self._refresh(jid)
        found = []
        for device in sorted(await self.get_device_information(jid), key=lambda each: each.device_id):
            await self._evaluate_custom_trust_level(device)
            trust = DeviceTrust(trust_name(self._entries, device))
            found.append(Device(device.device_id, fingerprint(device), trust, active=is_active(device)))
        return found

    async def set_device_trust(self, jid: str, device_id: int, trust: DeviceTrust) -> None:
        for device in await self.get_device_information(jid):
            if device.device_id == device_id:
                await self.set_trust(jid, device.identity_key, trust)

    def untold(self) -> dict[str, NewDevice]:
        """New devices that nobody has been told of, by the keys of their entries."""
        return {key: NewDevice(**json.loads(text)) for key, text in self._entries.below(_UNTOLD).items()}

    # ---- sealing ---------------------------------------------------------------------------------------------

    async def seal(self, body: str, jids: Collection[str]) -> tuple[Element | None, dict[str, Why]]:
        """The envelope for all trusted devices of those who can be reached, and who cannot."""
        unreachable = {jid: why for jid in jids if (why := await self._why_not(jid))}
        reachable = frozenset(jids) - unreachable.keys()
        while reachable:
            try:
                messages, _ = await self.encrypt(reachable, {NAMESPACE: body.encode()})
                return serialize_message(next(iter(messages))), unreachable
            except NoEligibleDevices as error:
                unreachable |= dict.fromkeys(error.bare_jids, Why.UNREACHED)
                reachable -= error.bare_jids
        return None, unreachable

    async def _why_not(self, jid: str) -> Why | None:
        await self._refresh(jid)
        devices = await self.get_device_information(jid)
        here = [device for device in devices if is_active(device)]
        if here:
            levels = [await self._evaluate_custom_trust_level(device) for device in here]
            return None if TrustLevel.TRUSTED in levels else Why.HELD
        listed = await listed_devices(self._entries, jid)
        is_known = self._ask_list_at[jid] == math.inf
        if is_pinned(self._entries, jid):
            return Why.VANISHED if is_known and not listed else Why.UNREACHED
        has_none = (is_known or jid in self._hidden) and all((jid, each) in self._bundleless for each in listed)
        return Why.NO_DEVICE if has_none else Why.UNREACHED

    async def _refresh(self, jid: str) -> None:
        """Once per session with the server; after that the list's changes come as news."""
        now = asyncio.get_running_loop().time()
        if self._ask_list_at.get(jid, now) > now:
            return
        self._ask_list_at[jid] = now + _ASK_AGAIN_SECONDS
        try:
            await self.refresh_device_list(NAMESPACE, jid)
        except (Unavailable, asyncio.CancelledError):  # That says nothing of theirs: it is asked for again at once.
            del self._ask_list_at[jid]
            raise
        except DeviceListDownloadFailed as error:  # What is known from before must do.
            if isinstance(error.__cause__, Hidden):
                self._hidden.add(jid)
        else:
            self._ask_list_at[jid] = math.inf

    # ---- opening ---------------------------------------------------------------------------------------------

    async def open(self, envelope: Element, sender: str) -> str:
        """The words within; "" when only keys came. Undecryptable; Duplicate: it was opened before."""
        device_id = sender_device(envelope)
        if device_id is None:
            raise Undecryptable(terms.MALFORMED)
        self._ask_bundle_at.pop((sender, device_id), None)
        opened_key = f"{_OPENED}{sender}/{device_id}"
        opened = json.loads(self._entries.get(opened_key) or "[]")
        digest = key_digest(envelope, self.device_id)
        if digest in opened:
            raise Duplicate("This message was opened before.")
        body = await self._open(envelope, sender, device_id)
        self._entries.put(opened_key, json.dumps([*opened, digest][-_OPENED_MAX:]))
        self._healed.discard((sender, device_id))
        self._reused.pop((sender, device_id), None)
        return body

    async def _open(self, envelope: Element, sender: str, device_id: int, *, again: bool = False) -> str:
        try:
            message = await parse_message(envelope, sender, self._own, self)
            plaintext, _, _ = await self.decrypt(message)
            return "" if plaintext is None else plaintext.decode()
        except VeilError:
            raise
        except PublicDataInconsistency as error:  # another identity key than the one we know
            if again or not await self._has_changed(sender, device_id):
                raise Undecryptable(terms.MALFORMED) from error
            return await self._open(envelope, sender, device_id, again=True)
        except SenderDistrusted as error:
            raise Undecryptable(await self._refusal(sender, device_id)) from error
        except (NoSession, KeyExchangeFailed, DecryptionFailed) as error:
            if isinstance(error.__cause__, doubleratchet.DuplicateMessageException):
                raise await self._why_reused(envelope, sender, device_id) from error
            await self._heal(sender, device_id)
            raise Undecryptable(terms.BROKEN) from error
        except Exception as error:  # whatever else it does to the library: it is a broken envelope
            raise Undecryptable(_WORDS.get(type(error), terms.MALFORMED)) from error

    async def _refusal(self, jid: str, device_id: int) -> str:
        devices = await self.devices(jid)
        held = any(each.id == device_id and each.trust is DeviceTrust.HELD for each in devices)
        return terms.NEW_DEVICE if held else terms.DISTRUSTED_DEVICE

    async def _why_reused(self, envelope: Element, jid: str, device_id: int) -> VeilError:
        """Another message was opened by that key: the device sent two at once, or its state is out of a backup. Its
        next one mostly opens, and a new session would shut out what is under way; two in a row are a broken session."""
        if envelope.find(terms.PAYLOAD) is None:
            return Duplicate("Those keys were taken before.")
        digest = key_digest(envelope, self.device_id)
        if self._reused.setdefault((jid, device_id), digest) == digest:
            return Undecryptable(terms.REUSED)
        await self._heal(jid, device_id)
        return Undecryptable(terms.BROKEN)

    async def _heal(self, jid: str, device_id: int) -> None:
        """Begin a new session and let the device know, so that what it sends next opens. Once, until something does:
        two sides that answer each other's failures would go on for ever."""
        if (jid, device_id) in self._healed:
            return
        self._healed.add((jid, device_id))
        try:
            bundle = await self._download_bundle(NAMESPACE, jid, device_id)
            content, key = await self._backend.encrypt_empty()
            session, sealed_key = await self._backend.build_session_active(jid, device_id, bundle, key)
        except LibraryError:
            return
        keys = frozenset({(sealed_key, session.key_exchange)})
        await self._send_message(Message(NAMESPACE, self._own, self.device_id, content, keys), jid)
        await self._backend.store_session(session)

    def lost(self) -> list[tuple[str, int]]:
        """The devices whose sessions went with a restore (omemo_renewal.py), and have not been seen to yet."""
        pairs = [key.removeprefix(terms.LOST).rpartition("/") for key in self._entries.below(terms.LOST)]
        return [(jid, int(device_id)) for jid, _, device_id in pairs]

    async def restore(self, jid: str, device_id: int, *, wanted: bool) -> None:
        """Begin a new session, so that what the device sends next opens; unless one has been begun meanwhile."""
        if wanted and await self._backend.load_session(jid, device_id) is None:
            await self._heal(jid, device_id)
        self._entries.put(f"{terms.LOST}{jid}/{device_id}", None)

    async def _has_changed(self, jid: str, device_id: int) -> bool:
        """Whether the device has published another identity key than we know; the new one is known from then on."""
        try:
            await self._download_bundle(NAMESPACE, jid, device_id)
        except IdentityChanged:
            return True
        except LibraryError:
            pass
        return False

    # ---- trust -----------------------------------------------------------------------------------------------

    async def _evaluate_custom_trust_level(self, device: DeviceInformation) -> TrustLevel:
        """The library asks before it encrypts to a device and before it opens what came from one."""
        if device.bare_jid == self._own:
            return TrustLevel.DISTRUSTED  # Only our server could have put it on the list.
        if device.trust_level_name == UNDECIDED:
            await self._decide(device.bare_jid)
        return TrustLevel.TRUSTED if trust_name(self._entries, device) == DeviceTrust.TRUSTED else TrustLevel.DISTRUSTED

    async def _decide(self, jid: str) -> None:
        """The first devices that we see of a JID are its owner's; one that comes later is news."""
        is_later = is_pinned(self._entries, jid)
        held = is_later and self._strict
        for device in await self.get_device_information(jid):
            if trust_name(self._entries, device) != UNDECIDED:
                continue
            await self.set_trust(jid, device.identity_key, DeviceTrust.HELD if held else DeviceTrust.TRUSTED)
            if is_later:
                digits = fingerprint(device)
                news = {"jid": jid, "device_id": device.device_id, "fingerprint": digits, "held": held}
                self._entries.put(f"{_UNTOLD}{jid}/{digits}", json.dumps(news))

    async def _make_trust_decision(self, undecided: frozenset[DeviceInformation], identifier: str | None) -> None:
        raise AssertionError("no device is undecided once it has been evaluated")

    # ---- what the library wants of the servers ---------------------------------------------------------------

    async def _upload_bundle(self, bundle: Bundle) -> None:  # type: ignore[override]  # static there
        self.bundle_is_due = True

    async def _upload_device_list(self, namespace: str, device_list: DeviceList) -> None:  # type: ignore[override]
        self.device_list_is_due = True

    async def _delete_bundle(self, namespace: str, device_id: int) -> None:  # type: ignore[override]
        raise AssertionError("no backend is ever purged")

    async def _download_device_list(self, namespace: str, bare_jid: str) -> DeviceList:  # type: ignore[override]
        if self._own in ("", bare_jid):
            return {}  # It only wants to know whether its fresh id, one of 2^31, is taken.
        try:
            listed = await self._nodes.device_list(bare_jid)
            return {} if listed is None else parsed_list(listed)
        except (Unreached, ValueError) as error:
            raise DeviceListDownloadFailed from error

    async def _download_bundle(self, namespace: str, bare_jid: str, device_id: int) -> BundleImpl:  # type: ignore[override]
        """Not asked for again at once where there was none. IdentityChanged: it is not the device that we know."""
        now = asyncio.get_running_loop().time()
        key = (bare_jid, device_id)
        if self._ask_bundle_at.get(key, now) > now:
            raise BundleNotFound
        self._ask_bundle_at[key] = now + _ASK_AGAIN_SECONDS
        try:
            shown = await self._nodes.bundle(bare_jid, device_id)
        except (Unavailable, asyncio.CancelledError):
            del self._ask_bundle_at[key]
            raise
        except Unreached as error:
            raise BundleDownloadFailed from error
        bundle = None if shown is None else parsed_bundle(shown, bare_jid, device_id)
        if bundle is None:
            self._bundleless.add(key)
            raise BundleNotFound
        del self._ask_bundle_at[key]
        await check_identity(self._entries, bundle)
        return bundle

    async def _send_message(self, message: Message, bare_jid: str) -> None:  # type: ignore[override]
        """Keys without words: the answer to a key exchange, a turn of the ratchet, a new session."""
        stanza = Element("{jabber:client}message", {"to": bare_jid, "type": "chat"})
        stanza.append(serialize_message(message))
        SubElement(stanza, "{urn:xmpp:hints}store")
        self.due.append(stanza)
