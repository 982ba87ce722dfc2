"""Stanzas as values: whatever a server, an admin or a stranger writes, reading it raises nothing."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

from hypothesis import given
from hypothesis import strategies as st

from veilsupport.xmpp import stanzas

TAGS = (
    "{jabber:client}body",
    "{urn:xmpp:receipts}received",
    "{urn:xmpp:receipts}request",
    "{urn:xmpp:chat-markers:0}displayed",
    "{urn:xmpp:reply:0}reply",
    "{urn:xmpp:fallback:0}fallback",
    "{urn:xmpp:fallback:0}body",
    "{urn:xmpp:message-correct:0}replace",
    "{urn:xmpp:message-retract:1}retract",
    "{urn:xmpp:message-retract:0}retract",
    "{urn:xmpp:fasten:0}apply-to",
    "{urn:xmpp:sid:0}stanza-id",
    "{eu.siacs.conversations.axolotl}encrypted",
    "{eu.siacs.conversations.axolotl}header",
    "{urn:xmpp:eme:0}encryption",
    "{jabber:x:oob}x",
    "{jabber:x:oob}url",
    "{urn:xmpp:carbons:2}received",
    "{urn:xmpp:forward:0}forwarded",
    "{jabber:client}message",
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["chat", "groupchat", "error", "urn:xmpp:reply:0", "0", "-1", "²", "١", "9" * 5000]),
)
ATTRIBUTES = st.dictionaries(st.sampled_from(["id", "by", "for", "start", "end", "from", "type", "sid"]), VALUES)
NODES: st.SearchStrategy[object] = st.recursive(
    st.builds(lambda tag, attributes, text: (tag, attributes, text, []), st.sampled_from(TAGS), ATTRIBUTES, VALUES),
    lambda inner: st.builds(
        lambda tag, attributes, text, within: (tag, attributes, text, within),
        st.sampled_from(TAGS),
        ATTRIBUTES,
        VALUES,
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


def grown(parent: Element, node: tuple[str, dict[str, str], str, list[object]]) -> None:
    tag, attributes, text, within = node
    child = SubElement(parent, tag, attributes)
    child.text = text
    for each in within:
        grown(child, each)  # type: ignore[arg-type]  # a tree of the same


@given(ATTRIBUTES, st.lists(NODES, max_size=4), st.sampled_from([None, "", "ada@chat.example"]))
def test_reading_raises_for_no_stanza(attributes: dict[str, str], nodes: list[object], sender: str | None) -> None:
    message = Element("{jabber:client}message", attributes)
    for node in nodes:
        grown(message, node)  # type: ignore[arg-type]
    stanzas.read(message, own="desk@chat.example", sender=sender)
    stanzas.carbon(message, own="desk@chat.example")


def test_a_number_of_five_thousand_digits_is_none() -> None:
    assert stanzas.small_number("9" * 5000) is None
    assert stanzas.small_number("\u00b2") is None  # isdigit, and int() raises
    assert stanzas.small_number("42") == 42
