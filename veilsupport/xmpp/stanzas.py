"""Message stanzas as values, both ways. Pure: elements in, values out, and back.

What is read: body, XEP-0184 receipts, XEP-0203 not at all (rule 6 in intake.py), XEP-0280 carbons, XEP-0308
corrections, XEP-0333 markers, XEP-0359 ids, XEP-0424 retractions, XEP-0461 replies with their XEP-0428 fallback, and
the signs of end-to-end encryption and of files. What is written: the same few elements, in the smallest form that
Conversations, Gajim, Dino and Profanity understand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from veilsupport import commands
from veilsupport.model import Delivery, DeliveryKind

_CLIENT: Final = "{jabber:client}"
_COMPOSING: Final = "{http://jabber.org/protocol/chatstates}composing"
_BODY: Final = _CLIENT + "body"
_OMEMO: Final = "{eu.siacs.conversations.axolotl}encrypted"
_OMEMO_PAYLOAD: Final = "{eu.siacs.conversations.axolotl}payload"
_ENCRYPTED: Final = (
    _OMEMO,
    "{urn:xmpp:omemo:1}encrypted",
    "{urn:xmpp:omemo:2}encrypted",
    "{urn:xmpp:openpgp:0}openpgp",
    "{jabber:x:encrypted}x",
)
_NOT_ACCEPTABLE: Final = "{urn:ietf:params:xml:ns:xmpp-stanzas}not-acceptable"
_FILES: Final = ("{urn:xmpp:sfs:0}file-sharing", "{urn:xmpp:reference:0}reference/{urn:xmpp:sims:1}media-sharing")
_FILE_LINK: Final = re.compile(r"\s*aesgcm://\S+", re.IGNORECASE)
_EME: Final = "{urn:xmpp:eme:0}encryption"
_DIGITS_MAX: Final = 10
NOTICE_MARK: Final = "⚙ "  # what the desk says under the visitor's name is not the visitor's
_RECEIVED: Final = "{urn:xmpp:receipts}received"
_SAYS_NOTHING: Final = {  # what servers and apps put beside what a stanza is about
    "{urn:xmpp:hints}store",
    "{urn:xmpp:sid:0}origin-id",
    "{urn:xmpp:sid:0}stanza-id",
    "{urn:xmpp:delay}delay",
}
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 §2.2


@dataclass(frozen=True, slots=True)
class Reading:
    """One message stanza. `sender` is a bare JID in lower case; ids are "" where there is none.

    `archive_id` is the stanza-id that the archive gave in which it rests: our account's, or the room's. `fallback`
    is the part of the body (in characters) that only repeats what is replied to, None when the client marked none.
    """

    sender: str = field(repr=False)
    id: str
    archive_id: str
    is_error: bool
    body: str = field(repr=False)
    receipt_of: str
    read_up_to: str
    wants_receipt: bool
    reply_to: str
    fallback: tuple[int, int] | None
    replaces: str
    retracts: str
    is_encrypted: bool
    is_file: bool
    is_composing: bool
    was_sealed: bool = False  # its words came end-to-end encrypted

    @property
    def says_something(self) -> bool:
        """Whether a person meant this for someone."""
        return bool(self.body.strip() or self.retracts) or self.is_encrypted or self.is_file


def read(message: Element, *, own: str, sender: str | None = None) -> Reading:
    """`own` is our bare JID, or the room's: only stanza-ids by it count (XEP-0359 §5), for anyone can write the others.

    `sender`: who really spoke in a room, as the room tells; without one, what is said there is nobody's.
    """
    kind = message.get("type", "normal")
    is_said = kind == "groupchat" if sender is not None else kind in ("chat", "normal")
    retracts = _retracted(message) if is_said else ""
    body = (message.findtext(_BODY) or "") if is_said and not retracts else ""
    return Reading(
        sender=message.get("from", "").partition("/")[0].casefold() if sender is None else sender,
        id=message.get("id", ""),
        archive_id=own_stanza_id(message, own),
        is_error=kind == "error",
        body=body,
        receipt_of=_attribute(message, _RECEIVED) or _attribute(message, "{urn:xmpp:chat-markers:0}received"),
        read_up_to=_attribute(message, "{urn:xmpp:chat-markers:0}displayed"),
        wants_receipt=is_said and message.find("{urn:xmpp:receipts}request") is not None,
        reply_to=_attribute(message, "{urn:xmpp:reply:0}reply"),
        fallback=_fallback(message, len(body)),
        replaces=_attribute(message, "{urn:xmpp:message-correct:0}replace"),
        retracts=retracts,
        is_encrypted=is_said and _is_encrypted(message, body),
        is_file=is_said and _is_file(message, body),
        is_composing=is_said and message.find(_COMPOSING) is not None,
    )


def own_stanza_id(message: Element, own: str) -> str:
    """The last one: a server puts its own behind whatever came with the message."""
    ids = [each.get("id", "") for each in message.findall("{urn:xmpp:sid:0}stanza-id") if each.get("by") == own]
    return ids[-1] if ids else ""


def receipt_alone(message: Element) -> str:
    """Of which stanza it says that a device has it (XEP-0184), and nothing else; "" when it says anything else."""
    told = [child for child in message if child.tag not in _SAYS_NOTHING]
    if message.get("type", "normal") not in ("chat", "normal") or [child.tag for child in told] != [_RECEIVED]:
        return ""
    return told[0].get("id", "")


def carbon(message: Element, *, own: str) -> tuple[bool, Element | None] | None:
    """(whether we sent it ourselves, the message inside) of a carbon copy; None when it is none.

    Only our own account may send them (XEP-0280 §11); a forged one has nothing inside.
    """
    for name, sent in (("received", False), ("sent", True)):
        copy = message.find(f"{{urn:xmpp:carbons:2}}{name}")
        if copy is not None:
            genuine = message.get("from", own) == own
            return sent, copy.find(f"{{urn:xmpp:forward:0}}forwarded/{_CLIENT}message") if genuine else None
    return None


def write(delivery: Delivery, to: str) -> Element:
    """One delivery to an admin's chat as a stanza; its id is the same over every attempt."""
    message = _to(to, delivery.stanza_id)
    if delivery.kind is DeliveryKind.RETRACT:
        SubElement(message, "{urn:xmpp:message-retract:1}retract", id=delivery.body)
        SubElement(message, "{urn:xmpp:hints}store")
    else:
        SubElement(message, _BODY).text = _NOT_XML.sub("", shown(delivery))
    return _tracked(message, delivery)


def write_to_room(delivery: Delivery, room: str) -> Element:
    """One delivery to a room: the visitor's words as they are, ours with a mark in front."""
    message = _to(room, delivery.stanza_id, kind="groupchat")
    SubElement(message, _BODY).text = _NOT_XML.sub("", said_in_room(delivery))
    return _tracked(message, delivery)


def said_in_room(delivery: Delivery) -> str:
    """No visitor can write a line that looks like one of the desk's."""
    if delivery.kind in (DeliveryKind.NOTICE, DeliveryKind.NEWS):
        return NOTICE_MARK + delivery.body
    return f"'{delivery.body}" if delivery.body.startswith(NOTICE_MARK.strip()) else delivery.body


def shown(delivery: Delivery) -> str:
    """What the admin sees: the conversation's tag, which a quotation brings back, then the words."""
    if not delivery.alias or delivery.body == echo(delivery.alias):
        return delivery.body
    return commands.tag(delivery.alias, delivery.body)


def echo(alias: str) -> str:
    """The line that says where an answer without an address went."""
    return f"→ {alias}"


def receipt(to: str, of: str) -> Element:
    """XEP-0184: we have it on disk."""
    message = _to(to, "r-" + of)
    SubElement(message, _RECEIVED, id=of)
    SubElement(message, "{urn:xmpp:hints}store")
    return message


def composing(to: str, stanza_id: str, *, kind: str = "chat") -> Element:
    """XEP-0085: somebody is writing. Not for any archive (XEP-0334)."""
    message = _to(to, stanza_id, kind=kind)
    SubElement(message, _COMPOSING)
    SubElement(message, "{urn:xmpp:hints}no-store")
    return message


def displayed(to: str, stanza_id: str, of: str, *, kind: str = "chat") -> Element:
    """XEP-0333: the visitor has looked at everything up to that stanza."""
    message = _to(to, stanza_id, kind=kind)
    SubElement(message, "{urn:xmpp:chat-markers:0}displayed", id=of)
    SubElement(message, "{urn:xmpp:hints}store")
    return message


def subject(room: str, stanza_id: str, words: str) -> Element:
    """XEP-0045 §8.1: what the room is about, in the line that apps show below its name."""
    message = _to(room, stanza_id, kind="groupchat")
    SubElement(message, _CLIENT + "subject").text = _NOT_XML.sub("", words)
    return message


def subject_of(message: Element) -> str | None:
    """What a room says that it is about (XEP-0045 §8.1: no body beside it); None: it says something else."""
    if message.get("type") != "groupchat" or message.find(_BODY) is not None:
        return None
    return message.findtext(_CLIENT + "subject")


def is_of_unknown_speaker(message: Element, speaker: str) -> bool:
    """Whether an occupant says something there (and not the room itself), and we do not know which."""
    by_occupant = "/" in message.get("from", "")
    return not speaker and by_occupant and read(message, own="", sender="").says_something


def is_private(message: Element) -> bool:
    """Words for one occupant alone (XEP-0045 §7.5)."""
    is_chat = message.get("type", "normal") in ("chat", "normal")
    return is_chat and (bool(message.findtext(_BODY)) or any(message.find(each) is not None for each in _ENCRYPTED))


def is_from_outside(message: Element) -> bool:
    """A room's answer that we are not in it (XEP-0045 §7.4)."""
    return message.get("type") == "error" and message.find(f"{_CLIENT}error/{_NOT_ACCEPTABLE}") is not None


def unarchived(message: Element) -> Element:
    """The same, with the wish that no archive keeps it (XEP-0334 §4)."""
    for hint in message.findall("{urn:xmpp:hints}store"):
        message.remove(hint)
    SubElement(message, "{urn:xmpp:hints}no-store")
    return message


def _tracked(message: Element, delivery: Delivery) -> Element:
    """With what tells how far it has come; receipts are for one reader only (XEP-0184 §5.3)."""
    SubElement(message, "{urn:xmpp:sid:0}origin-id", id=delivery.stanza_id)
    if delivery.kind is DeliveryKind.MESSAGE:
        if message.get("type") == "chat":
            SubElement(message, "{urn:xmpp:receipts}request")
        SubElement(message, "{urn:xmpp:chat-markers:0}markable")
    return message


def _to(to: str, stanza_id: str, *, kind: str = "chat") -> Element:
    return Element(_CLIENT + "message", {"to": to, "type": kind, "id": stanza_id})


def _retracted(message: Element) -> str:
    """Both versions of XEP-0424 are about: 0.4's element stands in the message, 0.3's in an apply-to (XEP-0422)."""
    apply_to = message.find("{urn:xmpp:fasten:0}apply-to")
    if apply_to is not None and apply_to.find("{urn:xmpp:message-retract:0}retract") is not None:
        return apply_to.get("id", "")
    return _attribute(message, "{urn:xmpp:message-retract:1}retract")


def _attribute(message: Element, child: str) -> str:
    found = message.find(child)
    return "" if found is None else found.get("id", "")


def _fallback(message: Element, length: int) -> tuple[int, int] | None:
    for fallback in message.findall("{urn:xmpp:fallback:0}fallback"):
        if fallback.get("for") != "urn:xmpp:reply:0":
            continue
        part = fallback.find("{urn:xmpp:fallback:0}body")
        if part is None:
            continue
        start, end = small_number(part.get("start", "0")), small_number(part.get("end", str(length)))
        if start is not None and end is not None and start <= end <= length:
            return start, end
    return None


def small_number(text: str) -> int | None:
    """None for anything that is none; also for thousands of digits, at which `int` raises."""
    return int(text) if len(text) <= _DIGITS_MAX and text.isascii() and text.isdigit() else None


def _is_encrypted(message: Element, body: str) -> bool:
    """OMEMO clients also exchange keys in messages without a payload, which no person wrote: they do not count."""
    if envelope := [each for name in _ENCRYPTED for each in message.findall(name)]:
        return bool(body) or any(each.tag != _OMEMO or each.find(_OMEMO_PAYLOAD) is not None for each in envelope)
    return body.startswith("?OTR") or (bool(body) and message.find(_EME) is not None)  # XEP-0380: by a way unknown here


def _is_file(message: Element, body: str) -> bool:
    link = message.findtext("{jabber:x:oob}x/{jabber:x:oob}url")
    if link is not None and link.strip() == body.strip():
        return True
    return bool(_FILE_LINK.match(body)) or any(message.find(each) is not None for each in _FILES)
