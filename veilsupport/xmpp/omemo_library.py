"""The OMEMO library's pieces that ours are made of: its storage over our entries, its backend.

It knows no rules and asks nobody anything. Importing it costs some 13 MB and a quarter of a second.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Final
from xml.etree.ElementTree import Element

import xeddsa
from oldmemo.oldmemo import BundleImpl, EncryptedKeyMaterialImpl, Oldmemo, SessionImpl
from omemo.backend import KeyExchangeFailed
from omemo.bundle import Bundle
from omemo.message import PlainKeyMaterial
from omemo.session_manager import BundleDownloadFailed, SessionManager
from omemo.storage import Just, Maybe, Nothing, Storage
from omemo.types import DeviceInformation, DeviceList, JSONType

from veilsupport.xmpp.omemo_entries import Entries
from veilsupport.xmpp.omemo_terms import NAMESPACE
from veilsupport.xmpp.omemo_xml import parse_bundle
from veilsupport.xmpp.stanzas import small_number

UNDECIDED: Final = "undecided"  # of trust
_DEVICES_MAX: Final = 50  # of one account; a hostile list would make us ask for as many bundles


class EntryStorage(Storage):
    """The library's view of the entries. Without its own cache, which would outlive an undo."""

    def __init__(self, entries: Entries) -> None:
        super().__init__(disable_cache=True)
        self._entries = entries

    async def _load(self, key: str) -> Maybe[JSONType]:
        text = self._entries.get(key)
        return Nothing() if text is None else Just(json.loads(text))

    async def _store(self, key: str, value: JSONType) -> None:
        self._entries.put(key, json.dumps(value))

    async def _delete(self, key: str) -> None:
        self._entries.put(key, None)


class Backend(Oldmemo):
    async def build_session_active(
        self, bare_jid: str, device_id: int, bundle: Bundle, plain_key_material: PlainKeyMaterial
    ) -> tuple[SessionImpl, EncryptedKeyMaterialImpl]:
        try:
            return await super().build_session_active(bare_jid, device_id, bundle, plain_key_material)
        except xeddsa.XEdDSAException as error:  # a bundle with a key of small order, made to do harm
            raise KeyExchangeFailed from error


class IdentityChanged(BundleDownloadFailed):
    """The device has another identity key than before. It is taken for a new device from now on."""


def sender_device(envelope: Element) -> int | None:
    """None: it does not say."""
    header = envelope.find(f"{{{NAMESPACE}}}header")
    sender = "" if header is None else header.get("sid", "")
    return small_number(sender)


def key_digest(envelope: Element, device_id: int) -> str:
    """Tells the message from every other to that device: the sealed key in it is used once."""
    keys = envelope.iterfind(f"{{{NAMESPACE}}}header/{{{NAMESPACE}}}key[@rid='{device_id}']")
    text = "".join((key.text or "").strip() for key in keys)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def parsed_list(listed: Element) -> DeviceList:
    """A list that is none is an empty one."""
    ids = [small_number(each.get("id", "")) for each in listed.iter(f"{{{NAMESPACE}}}device")]
    return {each: None for each in ids[:_DEVICES_MAX] if each is not None}


async def listed_devices(entries: Entries, jid: str) -> set[int]:
    """Those on its list as it is known, also those whose keys we have not got."""
    storage = EntryStorage(entries)
    ids = (await storage.load_list(f"/devices/{jid}/list", int)).maybe([])
    active = {each: (await storage.load_dict(f"/devices/{jid}/{each}/active", bool)).maybe({}) for each in ids}
    return {each for each in ids if active[each].get(NAMESPACE)}


def parsed_bundle(shown: Element, jid: str, device_id: int) -> BundleImpl | None:
    try:
        return parse_bundle(shown, jid, device_id)
    except ValueError:
        return None


def is_active(device: DeviceInformation) -> bool:
    return dict(device.active).get(NAMESPACE, False)


async def check_identity(entries: Entries, bundle: BundleImpl) -> None:
    """Trust is an identity key's, so a new one of a known device must earn its own. IdentityChanged: it is one."""
    key = f"/devices/{bundle.bare_jid}/{bundle.device_id}/identity_key"
    storage = EntryStorage(entries)
    known = (await storage.load_bytes(key)).maybe(None)
    if known in (None, bundle.identity_key):
        return
    await storage.store_bytes(key, bundle.identity_key)
    await storage.delete(f"/{NAMESPACE}/{bundle.bare_jid}/{bundle.device_id}/double_ratchet")
    raise IdentityChanged


def fingerprint(device: DeviceInformation) -> str:
    return "".join(SessionManager.format_identity_key(device.identity_key))


def is_pinned(entries: Entries, jid: str) -> bool:
    """Whether anything was ever decided on a device of theirs."""
    return bool(entries.below(f"/trust/{jid}/"))


def trust_name(entries: Entries, device: DeviceInformation) -> str:
    text = entries.get(trust_key(device))
    return UNDECIDED if text is None else str(json.loads(text))


def trust_key(device: DeviceInformation) -> str:
    """As the library writes it."""
    return f"/trust/{device.bare_jid}/{base64.urlsafe_b64encode(device.identity_key).decode()}"
