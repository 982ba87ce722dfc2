"""What a contact shows of itself: presence, and its card when an app asks. Pure: values in, elements out."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, SubElement

_CLIENT: Final = "{jabber:client}"
NICK: Final = "{http://jabber.org/protocol/nick}nick"  # XEP-0172
_VCARD: Final = "{vcard-temp}"
_DISCO: Final = "{http://jabber.org/protocol/disco#info}"
_FEATURES: Final = (
    "http://jabber.org/protocol/chatstates",
    "http://jabber.org/protocol/disco#info",
    "http://jabber.org/protocol/nick",
    "urn:xmpp:chat-markers:0",
    "urn:xmpp:message-correct:0",
    "urn:xmpp:ping",
    "urn:xmpp:receipts",
    "vcard-temp",
)


def presence(sender: str, to: str, kind: str = "", *, show: str = "", status: str = "") -> Element:
    """`kind` is the type, "" for available."""
    made = Element(f"{_CLIENT}presence", {"from": sender, "to": to})
    if kind:
        made.set("type", kind)
    for name, text in (("show", show), ("status", status)):
        if text:
            SubElement(made, f"{_CLIENT}{name}").text = text
    return made


def request(sender: str, to: str, nick: str) -> Element:
    """Asks for leave to see them, and says under which name (XEP-0172 §4.2)."""
    made = presence(sender, to, "subscribe")
    SubElement(made, NICK).text = nick
    return made


def ending(address: str, resource: str, to: str) -> tuple[Element, Element, Element]:
    """Offline, and neither sees the other any more."""
    return (
        presence(f"{address}/{resource}", to, "unavailable"),
        presence(address, to, "unsubscribe"),
        presence(address, to, "unsubscribed"),
    )


def about(question: Element, name: str) -> Element | None:
    """What is answered to an IQ about someone of that name (XEP-0030, XEP-0054, XEP-0199); None: that is refused."""
    if question.get("type") != "get" or len(question) != 1:
        return None
    content = Element(question[0].tag)
    match content.tag:
        case "{urn:xmpp:ping}ping":
            return content
        case "{vcard-temp}vCard":
            SubElement(content, f"{_VCARD}FN").text = name
            SubElement(content, f"{_VCARD}NICKNAME").text = name
            return content
        case "{http://jabber.org/protocol/disco#info}query" if not question[0].get("node"):
            SubElement(content, f"{_DISCO}identity", category="client", type="web", name=name)
            for feature in _FEATURES:
                SubElement(content, f"{_DISCO}feature", var=feature)
            return content
    return None
