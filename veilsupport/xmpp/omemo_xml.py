"""OMEMO's three forms of XML: an account's list of devices, a device's bundle of keys, a sealed message.

XEP-0384 0.3, as Conversations writes it. Each `parse_` takes exactly the elements and attributes of its form, each as
often as it may stand there, and raises ValueError for anything else. The library can do that too, but with a validator
of XML schemas, which takes 12 MB of memory for these few elements. Others' lists are read leniently, elsewhere.

Keys travel in Curve25519's form, without the sign that the library's Ed25519 form of an identity key has. A bundle
carries the sign in a bit of its signature that is else 0 (its second half is below 2^253). A key exchange does not
carry it: it is the sender's, known from the bundle.

It knows no rules. Only `parse_message` may ask for anything: the sessions for the sender's device.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import Element, SubElement

import x3dh
import xeddsa
from oldmemo.oldmemo import BundleImpl, ContentImpl, EncryptedKeyMaterialImpl, KeyExchangeImpl, StateImpl
from omemo.message import EncryptedKeyMaterial, KeyExchange, Message
from omemo.session_manager import DeviceListDownloadFailed, SenderNotFound, SessionManager
from omemo.types import DeviceList

from veilsupport.xmpp.omemo_terms import NAMESPACE
from veilsupport.xmpp.stanzas import small_number

_NUMBER_MAX: Final = 2**32 - 1
_SIGN: Final = 0x80  # in the last byte
_WHITE: Final = re.compile("[ \t\r\n]+")  # Android's Base64 breaks its lines
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
# How often something may stand there.
_ONCE: Final = range(1, 2)
_PERHAPS: Final = range(2)
_PRE_KEYS: Final = range(1, 1_001)  # apps publish 100
_SEALED_KEYS: Final = range(1_001)  # one for each device of everyone in a room
# How many bytes it may have.
_PUBLIC_KEY_BYTES: Final = range(33, 34)  # the first tells the kind
_SIGNATURE_BYTES: Final = range(64, 65)
_SEALED_KEY_BYTES: Final = range(1, 1_001)  # with a key exchange about 200
_VECTOR_BYTES: Final = range(12, 17)  # 12, or 16 in older apps
_PAYLOAD_BYTES: Final = range(1, 2**31)  # the stanza ends before that


# ---- the list of devices -----------------------------------------------------------------------------------------


def serialize_device_list(devices: DeviceList) -> Element:
    listed = Element(_tag("list"))
    for device_id in devices:
        SubElement(listed, _tag("device"), id=str(device_id))
    return listed


# ---- the bundle --------------------------------------------------------------------------------------------------


def serialize_bundle(bundle: BundleImpl) -> Element:
    keys, ids = bundle.bundle, bundle.pre_key_ids
    signature = bytearray(keys.signed_pre_key_sig)
    signature[-1] |= keys.identity_key[-1] & _SIGN
    shown = Element(_tag("bundle"))
    signed = SubElement(shown, _tag("signedPreKeyPublic"), signedPreKeyId=str(bundle.signed_pre_key_id))
    signed.text = _public_text(keys.signed_pre_key)
    SubElement(shown, _tag("signedPreKeySignature")).text = _text(bytes(signature))
    identity = SubElement(shown, _tag("identityKey"))
    identity.text = _public_text(xeddsa.ed25519_pub_to_curve25519_pub(keys.identity_key))
    listed = SubElement(shown, _tag("prekeys"))
    for key in keys.pre_keys:
        SubElement(listed, _tag("preKeyPublic"), preKeyId=str(ids[key])).text = _public_text(key)
    return shown


def parse_bundle(shown: Element, jid: str, device_id: int) -> BundleImpl:
    """Its signature is not verified: that is done where a session is built."""
    parts = _children(
        _named(shown, "bundle"),
        signedPreKeyPublic=_ONCE,
        signedPreKeySignature=_ONCE,
        identityKey=_ONCE,
        prekeys=_ONCE,
    )
    (signed,), (signature_part,), (identity,), (listed,) = parts.values()
    pre_keys = _children(listed, preKeyPublic=_PRE_KEYS)["preKeyPublic"]
    signature = bytearray(_content(signature_part, _SIGNATURE_BYTES))
    is_negative = bool(signature[-1] & _SIGN)
    signature[-1] &= ~_SIGN
    ids = {_public_key(each, "preKeyId"): _number(each, "preKeyId") for each in pre_keys}
    keys = x3dh.Bundle(
        xeddsa.curve25519_pub_to_ed25519_pub(_public_key(identity), is_negative),
        _public_key(signed, "signedPreKeyId"),
        bytes(signature),
        frozenset(ids),
    )
    return BundleImpl(jid, device_id, keys, _number(signed, "signedPreKeyId"), ids)


# ---- the message -------------------------------------------------------------------------------------------------


def serialize_message(message: Message) -> Element:
    content = message.content
    assert isinstance(content, ContentImpl)
    envelope = Element(_tag("encrypted"))
    header = SubElement(envelope, _tag("header"), sid=str(message.device_id))
    for sealed, exchange in message.keys:
        assert isinstance(sealed, EncryptedKeyMaterialImpl)
        key = SubElement(header, _tag("key"), rid=str(sealed.device_id))
        key_bytes = sealed.serialize()
        if exchange is not None:
            assert isinstance(exchange, KeyExchangeImpl)
            key.set("prekey", "true")
            key_bytes, _ = exchange.serialize(key_bytes)
        key.text = _text(key_bytes)
    SubElement(header, _tag("iv")).text = _text(content.initialization_vector)
    if not content.empty:
        SubElement(envelope, _tag("payload")).text = _text(content.ciphertext)
    return envelope


async def parse_message(envelope: Element, sender: str, own: str, sessions: SessionManager) -> Message:
    """SenderNotFound: its device is on no list, or shows no keys. May ask a server for them, but not for a broken form.

    This version names no JID beside the device ids, so every key is taken for one of our own account's.
    """
    parts = _children(_named(envelope, "encrypted"), header=_ONCE, payload=_PERHAPS)
    (header,), payloads = parts.values()
    keys, (vector,) = _children(header, "sid", key=_SEALED_KEYS, iv=_ONCE).values()
    device_id = _number(header, "sid")
    vector_bytes = _content(vector, _VECTOR_BYTES)
    contents = [ContentImpl(_content(each, _PAYLOAD_BYTES), vector_bytes) for each in payloads]
    sealed_keys = [_sealed_key(each) for each in keys]
    identity_key = await _identity_key_of(sender, device_id, sessions)
    is_negative = bool(identity_key[-1] & _SIGN)
    materials = [_material(*each, own=own, is_negative=is_negative) for each in sealed_keys]
    content = contents[0] if contents else ContentImpl.make_empty()
    return Message(NAMESPACE, sender, device_id, content, frozenset(materials))


def _sealed_key(key: Element) -> tuple[int, bytes, bool]:
    """(for which device, what is in it, whether with a key exchange)."""
    sealed = _content(key, _SEALED_KEY_BYTES, "rid", optional="prekey")
    has_exchange = _BOOLEANS.get(key.get("prekey", "false"))
    if has_exchange is None:
        raise ValueError("neither true nor false")
    return _number(key, "rid"), sealed, has_exchange


def _material(
    device_id: int, sealed: bytes, has_exchange: bool, *, own: str, is_negative: bool
) -> tuple[EncryptedKeyMaterial, KeyExchange | None]:
    exchange = None
    if has_exchange:
        exchange, sealed = KeyExchangeImpl.parse(sealed, is_negative)
    return EncryptedKeyMaterialImpl.parse(sealed, own, device_id), exchange


async def _identity_key_of(jid: str, device_id: int, sessions: SessionManager) -> bytes:
    found = await _known_key(jid, device_id, sessions)
    if found is None:
        try:
            await sessions.refresh_device_list(NAMESPACE, jid)
        except DeviceListDownloadFailed as error:
            raise SenderNotFound from error
        found = await _known_key(jid, device_id, sessions)
    if found is None:
        raise SenderNotFound
    return found


async def _known_key(jid: str, device_id: int, sessions: SessionManager) -> bytes | None:
    devices = await sessions.get_device_information(jid)
    return next((each.identity_key for each in devices if each.device_id == device_id), None)


# ---- what a form is made of --------------------------------------------------------------------------------------


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _named(element: Element, name: str) -> Element:
    if element.tag != _tag(name):
        raise ValueError("another element")
    return element


def _children(parent: Element, *attributes: str, **counts: range) -> Mapping[str, list[Element]]:
    """By name, in the order of the names asked for; nothing else may be there."""
    _check_attributes(parent, *attributes)
    found = {name: parent.findall(_tag(name)) for name in counts}
    if sum(map(len, found.values())) != len(parent):
        raise ValueError("an unknown element")
    if any(len(found[name]) not in count for name, count in counts.items()):
        raise ValueError("too few or too many of an element")
    if _has_words(parent.text) or any(_has_words(child.tail) for child in parent):
        raise ValueError("words between elements")
    return found


def _check_attributes(element: Element, *names: str, optional: str | None = None) -> None:
    if not set(names) <= set(element.keys()) <= {*names, optional}:
        raise ValueError("an attribute is missing, or is one too many")


def _has_words(text: str | None) -> bool:
    return bool(_WHITE.sub("", text or ""))


def _number(element: Element, attribute: str) -> int:
    number = small_number(element.get(attribute, ""))
    if number is None or number > _NUMBER_MAX:
        raise ValueError("not a number of 32 bits")
    return number


def _content(leaf: Element, lengths: range, *attributes: str, optional: str | None = None) -> bytes:
    """The bytes in it, of which only one spelling is taken."""
    _check_attributes(leaf, *attributes, optional=optional)
    text = _WHITE.sub("", leaf.text or "")
    content = base64.b64decode(text)
    if len(leaf) or len(content) not in lengths or _text(content) != text:
        raise ValueError("not base64, or of another length")
    return content


def _public_key(leaf: Element, *attributes: str) -> bytes:
    return StateImpl.parse_public_key(_content(leaf, _PUBLIC_KEY_BYTES, *attributes))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _public_text(key: bytes) -> str:
    return _text(StateImpl.serialize_public_key(key))
