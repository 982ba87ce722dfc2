"""OMEMO's forms of XML, held against the library's own: what it writes, reads and refuses."""

from __future__ import annotations

import asyncio
import base64
import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast
from xml.etree.ElementTree import Element, SubElement, tostring

import doubleratchet
import pytest
import x3dh
import xeddsa
from hypothesis import given, settings
from hypothesis import strategies as st
from oldmemo import etree
from oldmemo.oldmemo import BundleImpl, ContentImpl, EncryptedKeyMaterialImpl, KeyExchangeImpl, StateImpl
from oldmemo.oldmemo_pb2 import OMEMOMessage
from omemo.message import EncryptedKeyMaterial, KeyExchange, Message
from omemo.session_manager import (
    DeviceListDownloadFailed,
    PublicDataInconsistency,
    SenderNotFound,
)
from omemo.types import DeviceInformation, DeviceList

from veilsupport.xmpp import omemo_xml
from veilsupport.xmpp.omemo_terms import NAMESPACE

ADA, DESK = "ada@a.example", "desk@b.example"
NS = f"{{{NAMESPACE}}}"
SIGN = 0x80


# ---- what can be in them ---------------------------------------------------------------------------------------


def identity_of(seed: bytes) -> bytes:
    return xeddsa.seed_to_ed25519_pub(seed)


def identity_with_sign(is_negative: bool) -> bytes:
    return next(
        key for key in (identity_of(bytes([each]) * 32) for each in range(99)) if (key[31] > 127) is is_negative
    )


numbers = st.integers(0, 2**32 - 1)
keys = st.binary(min_size=32, max_size=32)
identities = keys.map(identity_of)
signatures = st.binary(min_size=64, max_size=64).map(lambda each: each[:63] + bytes([each[63] & ~SIGN]))
lists = st.dictionaries(numbers, st.none(), max_size=5)


@st.composite
def bundles(draw: st.DrawFn) -> BundleImpl:
    pre_keys = draw(st.dictionaries(keys, numbers, min_size=1, max_size=4))
    shown = x3dh.Bundle(draw(identities), draw(keys), draw(signatures), frozenset(pre_keys))
    return BundleImpl(ADA, draw(numbers), shown, draw(numbers), pre_keys)


@st.composite
def sealed_keys(draw: st.DrawFn, identity_key: bytes) -> tuple[EncryptedKeyMaterial, KeyExchange | None]:
    header = doubleratchet.Header(draw(keys), draw(numbers), draw(numbers))
    public = StateImpl.serialize_public_key(header.ratchet_pub)
    parts = OMEMOMessage(
        n=header.sending_chain_length,
        pn=header.previous_sending_chain_length,
        dh_pub=public,
        ciphertext=draw(st.binary(max_size=48)),
    )
    sealed = b"\x33" + parts.SerializeToString() + draw(st.binary(min_size=8, max_size=8))
    material = EncryptedKeyMaterialImpl(DESK, draw(numbers), doubleratchet.EncryptedMessage(header, sealed))
    exchange = KeyExchangeImpl(x3dh.Header(identity_key, draw(keys), b"", b""), draw(numbers), draw(numbers))
    return material, draw(st.sampled_from([None, exchange]))


@st.composite
def messages(draw: st.DrawFn) -> tuple[Message, bytes]:
    """And the identity key of who sends it."""
    identity_key = draw(identities)
    vector = draw(st.one_of(st.binary(min_size=12, max_size=12), st.binary(min_size=16, max_size=16)))
    content = ContentImpl(draw(st.binary(max_size=40)), vector)
    sealed = frozenset(draw(st.lists(sealed_keys(identity_key), max_size=3)))
    return Message(NAMESPACE, ADA, draw(numbers), content, sealed), identity_key


class Sessions:
    """Those who know one device of Ada's, from the `known_from`th look on; `asked` how often for her list."""

    def __init__(self, identity_key: bytes, device_id: int, *, known_from: int = 1) -> None:
        self.looked = 0
        self.asked = 0
        self.trouble: Exception | None = None  # when it is looked up
        self.list_trouble: Exception | None = None  # when it is asked for
        self._device = DeviceInformation(frozenset(), frozenset(), ADA, device_id, identity_key, "", None)
        self._known_from = known_from

    async def get_device_information(self, jid: str) -> frozenset[DeviceInformation]:
        assert jid == ADA
        if self.trouble is not None:
            raise self.trouble
        self.looked += 1
        return frozenset({self._device} if self.looked >= self._known_from else ())

    async def refresh_device_list(self, namespace: str, jid: str) -> None:
        assert (namespace, jid) == (NAMESPACE, ADA)
        self.asked += 1
        if self.list_trouble is not None:
            raise self.list_trouble


def read_message(room: Any, envelope: Element, sessions: Sessions) -> Message:
    """By our module or by theirs."""
    return cast("Message", asyncio.run(room.parse_message(envelope, ADA, DESK, sessions)))


def told(message: Message) -> tuple[Any, ...]:
    """All that can be compared in it: its parts have no equality of their own."""
    content = message.content
    assert isinstance(content, ContentImpl)
    sealed = []
    for material, exchange in message.keys:
        assert isinstance(material, EncryptedKeyMaterialImpl)
        assert exchange is None or isinstance(exchange, KeyExchangeImpl)
        inside = exchange and (exchange.header, exchange.signed_pre_key_id, exchange.pre_key_id)
        encrypted = material.encrypted_message
        sealed.append((material.bare_jid, material.device_id, encrypted.header, encrypted.ciphertext, inside))
    vector = b"" if content.empty else content.initialization_vector
    return (
        message.namespace,
        message.bare_jid,
        message.device_id,
        content.ciphertext,
        vector,
        sorted(sealed, key=repr),
    )


# ---- the same as the library's -----------------------------------------------------------------------------------


@given(lists)
def test_device_list_is_written_as_the_library_does(devices: DeviceList) -> None:
    listed = etree.serialize_device_list(devices)
    assert tostring(omemo_xml.serialize_device_list(devices)) == tostring(listed)
    assert etree.parse_device_list(listed) == devices


@given(bundles())
def test_bundle_is_written_and_read_as_the_library_does(bundle: BundleImpl) -> None:
    shown = etree.serialize_bundle(bundle)
    assert tostring(omemo_xml.serialize_bundle(bundle)) == tostring(shown)
    read = omemo_xml.parse_bundle(shown, ADA, bundle.device_id)
    assert read == etree.parse_bundle(shown, ADA, bundle.device_id) == bundle


@given(messages())
def test_message_is_written_and_read_as_the_library_does(sent: tuple[Message, bytes]) -> None:
    message, identity_key = sent
    envelope = etree.serialize_message(message)
    assert tostring(omemo_xml.serialize_message(message)) == tostring(envelope)
    sessions = Sessions(identity_key, message.device_id)
    read = told(read_message(omemo_xml, envelope, sessions))
    assert read == told(read_message(etree, envelope, sessions)) == told(message)
    assert sessions.asked == 0


@pytest.mark.parametrize("is_negative", [False, True])
def test_sign_of_the_identity_key_survives_bundle_and_key_exchange(is_negative: bool) -> None:
    identity_key = identity_with_sign(is_negative)
    shown = omemo_xml.serialize_bundle(a_bundle(identity_key))
    assert omemo_xml.parse_bundle(shown, ADA, 7) == a_bundle(identity_key)
    envelope = omemo_xml.serialize_message(a_message(identity_key))
    read = read_message(omemo_xml, envelope, Sessions(identity_key, 7))
    ((_, exchange),) = read.keys
    assert exchange is not None
    assert exchange.identity_key == identity_key


def a_bundle(identity_key: bytes) -> BundleImpl:
    pre_keys = {bytes([3]) * 32: 30, bytes([4]) * 32: 40}
    return BundleImpl(ADA, 7, x3dh.Bundle(identity_key, b"\x02" * 32, b"\x01" * 64, frozenset(pre_keys)), 5, pre_keys)


def a_message(identity_key: bytes) -> Message:
    header = doubleratchet.Header(b"\x05" * 32, 1, 2)
    parts = OMEMOMessage(n=2, pn=1, dh_pub=StateImpl.serialize_public_key(header.ratchet_pub), ciphertext=b"\x06" * 32)
    encrypted = doubleratchet.EncryptedMessage(header, b"\x33" + parts.SerializeToString() + b"\x07" * 8)
    exchange = KeyExchangeImpl(x3dh.Header(identity_key, b"\x08" * 32, b"", b""), 50, 60)
    sealed = (EncryptedKeyMaterialImpl(DESK, 9, encrypted), exchange)
    return Message(NAMESPACE, ADA, 7, ContentImpl(b"words", b"\x09" * 12), frozenset({sealed}))


# ---- what is refused ---------------------------------------------------------------------------------------------

IDENTITY = identity_with_sign(True)
FORMS = {
    "bundle": omemo_xml.serialize_bundle(a_bundle(IDENTITY)),
    "encrypted": omemo_xml.serialize_message(a_message(IDENTITY)),
}


TEXTS = [
    "",
    " ",
    "A",
    "AA",
    "AA==",
    "AB==",
    "====",
    "\u00c4" * 4,
    "A-_A",
    "QUJD\u00a0",
    "QUJD",
    " QU\n JD\t",
    "QUJD====",
]
TEXTS += [
    base64.b64encode(each).decode() for each in (b"\x05" * 33, b"\x06" * 33, b"\x05" * 64, b"\x85" * 64, b"\x05" * 12)
]
VALUES = [
    "",
    "-1",
    "+1",
    " 1 ",
    "1.0",
    "0x1",
    "4294967295",
    "4294967296",
    "9" * 20,
    "9" * 5000,
    "\u0661",
    "7",
    "1",
    "0",
]
VALUES += ["true", "false", "TRUE", "yes"]
TAGS = [f"{NS}{name}" for name in "list device bundle signedPreKeyPublic identityKey prekeys preKeyPublic".split()]
TAGS += [f"{NS}{name}" for name in "encrypted header key iv payload other".split()] + ["key", "{urn:other}device"]
ATTRIBUTES = ["id", "sid", "rid", "prekey", "preKeyId", "signedPreKeyId", "other", f"{NS}id"]
ATTRIBUTES += ["{http://www.w3.org/XML/1998/namespace}lang"]


def outcome(room: Any, form: str, element: Element) -> object:
    """What our module or theirs reads in it; ValueError for every refusal."""
    try:
        match form:
            case "bundle":
                return room.parse_bundle(element, ADA, 7)
            case _:
                return told(read_message(room, element, Sessions(IDENTITY, 7)))
    except (ValueError, SenderNotFound) as error:
        raise ValueError from error
    except Exception as error:
        if room is etree:  # It fails in many more ways.
            raise ValueError from error
        raise


def accepts(room: Any, form: str, element: Element) -> bool:
    try:
        outcome(room, form, element)
    except ValueError:
        return False
    return True


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Element]:
    name = draw(st.sampled_from(sorted(FORMS)))
    form = copy.deepcopy(FORMS[name])
    for _ in range(draw(st.integers(1, 2))):
        mutate(draw, draw(st.sampled_from(list(form.iter()))))
    return name, form


def mutate(draw: st.DrawFn, element: Element) -> None:
    match draw(st.sampled_from("remove double turn add rename text tail set unset".split())):
        case "remove" if len(element):
            element.remove(draw(st.sampled_from(list(element))))
        case "double" if len(element):
            element.append(copy.deepcopy(draw(st.sampled_from(list(element)))))
        case "turn":
            element[:] = reversed(element)
        case "add":
            SubElement(element, draw(st.sampled_from(TAGS)))
        case "rename":
            element.tag = draw(st.sampled_from(TAGS))
        case "text":
            element.text = draw(st.sampled_from(TEXTS))
        case "tail":
            element.tail = draw(st.sampled_from(TEXTS))
        case "set":
            element.set(draw(st.sampled_from([*element.keys(), *ATTRIBUTES])), draw(st.sampled_from(VALUES)))
        case "unset" if element.keys():
            del element.attrib[draw(st.sampled_from(list(element.keys())))]


@settings(max_examples=1_000, deadline=None)
@given(mutations())
def test_what_the_library_refuses_is_refused_and_the_rest_is_read_alike(mutated: tuple[str, Element]) -> None:
    name, form = mutated
    if accepts(omemo_xml, name, form):
        assert outcome(omemo_xml, name, form) == outcome(etree, name, form)


def without(path: str) -> Callable[[Element], None]:
    def change(form: Element) -> None:
        parent, _, name = path.rpartition("/")
        found = at(form, parent)
        found.remove(at(found, name))

    return change


def doubled(path: str) -> Callable[[Element], None]:
    def change(form: Element) -> None:
        parent, _, name = path.rpartition("/")
        found = at(form, parent)
        found.append(copy.deepcopy(at(found, name)))

    return change


def within(path: str, tag: str) -> Callable[[Element], None]:
    return lambda form: at(form, path).append(Element(tag))


def saying(path: str, text: str | None) -> Callable[[Element], None]:
    return lambda form: setattr(at(form, path), "text", text)


def followed(path: str, text: str) -> Callable[[Element], None]:
    return lambda form: setattr(at(form, path), "tail", text)


def having(path: str, attribute: str, value: str) -> Callable[[Element], None]:
    return lambda form: at(form, path).set(attribute, value)


def lacking(path: str, attribute: str) -> Callable[[Element], None]:
    return lambda form: at(form, path).attrib.__delitem__(attribute)


def at(form: Element, path: str) -> Element:
    found = form.find("/".join(f"{NS}{each}" for each in path.split("/"))) if path else form
    assert found is not None
    return found


def base64_of(size: int) -> str:
    return base64.b64encode(b"\x05" * size).decode()


LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
REFUSED: list[tuple[str, Callable[[Element], None]]] = [
    *[("bundle", without(each)) for each in ("signedPreKeyPublic", "signedPreKeySignature", "identityKey", "prekeys")],
    *[("bundle", doubled(each)) for each in ("signedPreKeyPublic", "signedPreKeySignature", "identityKey", "prekeys")],
    ("bundle", lambda form: at(form, "prekeys").clear()),
    ("bundle", within("", f"{NS}other")),
    ("bundle", within("prekeys", f"{NS}other")),
    ("bundle", within("identityKey", f"{NS}other")),
    ("bundle", followed("identityKey", "words")),
    ("bundle", having("", "other", "1")),
    ("bundle", having("identityKey", "other", "1")),
    ("bundle", having("signedPreKeySignature", LANGUAGE, "de")),
    ("bundle", having("prekeys", "other", "1")),
    ("bundle", lacking("signedPreKeyPublic", "signedPreKeyId")),
    ("bundle", lacking("prekeys/preKeyPublic", "preKeyId")),
    ("bundle", having("signedPreKeyPublic", "signedPreKeyId", "4294967296")),
    ("bundle", having("prekeys/preKeyPublic", "preKeyId", "-1")),
    *[("bundle", saying("identityKey", each)) for each in (None, "", "?", base64_of(32), base64_of(34), "BQUF")],
    ("bundle", saying("identityKey", base64_of(33)[:-1])),
    ("bundle", saying("identityKey", base64.b64encode(b"\x06" * 33).decode())),
    ("bundle", saying("signedPreKeyPublic", base64_of(32))),
    ("bundle", saying("prekeys/preKeyPublic", None)),
    *[("bundle", saying("signedPreKeySignature", each)) for each in (None, base64_of(63), base64_of(64)[:-3] + "F==")],
    ("encrypted", without("header")),
    ("encrypted", without("header/iv")),
    ("encrypted", doubled("header")),
    ("encrypted", doubled("header/iv")),
    ("encrypted", doubled("payload")),
    ("encrypted", within("", f"{NS}other")),
    ("encrypted", within("header", f"{NS}other")),
    ("encrypted", having("", "other", "1")),
    ("encrypted", having("header", "other", "1")),
    ("encrypted", having("header/key", "other", "1")),
    ("encrypted", lacking("header", "sid")),
    ("encrypted", having("header", "sid", "4294967296")),
    ("encrypted", lacking("header/key", "rid")),
    ("encrypted", having("header/key", "rid", "x")),
    ("encrypted", having("header/key", "prekey", "yes")),
    ("encrypted", saying("header/key", None)),
    ("encrypted", saying("header/key", "?")),
    ("encrypted", saying("header/iv", None)),
    ("encrypted", saying("payload", None)),
    ("encrypted", saying("payload", "?")),
    ("encrypted", followed("header", "words")),
]

UNSEALABLE: list[tuple[str, Callable[[Element], None]]] = [
    ("encrypted", saying("header/key", base64_of(100))),
    ("encrypted", having("header/key", "prekey", "false")),  # Without a key exchange around it, the key is another.
]


@pytest.mark.parametrize(("form", "change"), REFUSED + UNSEALABLE)
def test_broken_form_is_refused_as_by_the_library(form: str, change: Callable[[Element], None]) -> None:
    element = copy.deepcopy(FORMS[form])
    assert accepts(omemo_xml, form, element)
    change(element)
    assert not accepts(etree, form, element)
    assert not accepts(omemo_xml, form, element)


def test_element_of_another_name_is_refused() -> None:
    for form in FORMS:
        for other in FORMS.keys() - {form}:
            assert not accepts(omemo_xml, form, FORMS[other])


@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("bundle", saying("signedPreKeySignature", base64_of(65))),
        ("bundle", lambda form: at(form, "prekeys").extend([at(form, "prekeys/preKeyPublic")] * 999)),
        ("encrypted", lambda form: at(form, "header").extend([at(form, "header/key")] * 1000)),
        ("encrypted", saying("header/iv", base64_of(11))),
        ("encrypted", saying("header/iv", base64_of(17))),
        ("encrypted", lambda form: pad_key(at(form, "header/key"))),
    ],
)
def test_too_much_or_too_long_is_refused_though_the_library_takes_it(
    form: str, change: Callable[[Element], None]
) -> None:
    element = copy.deepcopy(FORMS[form])
    change(element)
    assert accepts(etree, form, element)
    assert not accepts(omemo_xml, form, element)


def pad_key(key: Element) -> None:
    """With a field that protocol buffers skip."""
    content = base64.b64decode(key.text or "") + b"\x7a\xe8\x07" + bytes(1000)
    key.text = base64.b64encode(content).decode()


@pytest.mark.parametrize("form", FORMS)
def test_broken_lines_and_white_space_change_nothing(form: str) -> None:
    element = copy.deepcopy(FORMS[form])
    for each in element.iter():
        text = each.text or ""
        if text or len(each):  # A device is empty.
            each.text = "\n".join(["", *(text[at : at + 19] for at in range(0, len(text), 19)), "\t "])
        each.tail = "\r\n "
    assert outcome(omemo_xml, form, element) == outcome(etree, form, element) == outcome(etree, form, FORMS[form])


# ---- the sender's device -----------------------------------------------------------------------------------------


def test_unknown_device_is_asked_for_once() -> None:
    sessions = Sessions(IDENTITY, 7, known_from=2)
    assert read_message(omemo_xml, FORMS["encrypted"], sessions).device_id == 7
    assert sessions.asked == 1
    sessions = Sessions(IDENTITY, 8)
    with pytest.raises(SenderNotFound):
        read_message(omemo_xml, FORMS["encrypted"], sessions)
    assert sessions.asked == 1


def test_device_whose_list_is_not_to_be_had_is_not_found() -> None:
    sessions = Sessions(IDENTITY, 8)
    sessions.list_trouble = DeviceListDownloadFailed()
    with pytest.raises(SenderNotFound):
        read_message(omemo_xml, FORMS["encrypted"], sessions)
    assert sessions.looked == 1


def test_other_trouble_with_the_device_is_not_hidden() -> None:
    sessions = Sessions(IDENTITY, 7)
    sessions.trouble = PublicDataInconsistency()
    with pytest.raises(PublicDataInconsistency):
        read_message(omemo_xml, FORMS["encrypted"], sessions)


@pytest.mark.parametrize("change", [change for form, change in REFUSED if form == "encrypted"])
def test_nothing_is_asked_for_a_broken_form(change: Callable[[Element], None]) -> None:
    envelope = copy.deepcopy(FORMS["encrypted"])
    change(envelope)
    sessions = Sessions(IDENTITY, 7)
    with pytest.raises(ValueError):
        read_message(omemo_xml, envelope, sessions)
    assert sessions.looked == sessions.asked == 0


# ---- what it is for ----------------------------------------------------------------------------------------------


def test_no_validator_of_schemas_is_imported() -> None:
    code = (
        "import sys, veilsupport.xmpp.omemo_sessions; print({'oldmemo', 'xmlschema', 'elementpath'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "{'oldmemo'}"
