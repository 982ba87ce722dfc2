"""OMEMO's public keys on the servers (XEP-0163): one node for an account's list of devices, one for each bundle.

It carries elements; what stands in them is omemo_sessions.py's.
"""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, SubElement

from veilsupport.errors import Unavailable, VeilError
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.omemo_terms import NAMESPACE

DEVICES: Final = f"{NAMESPACE}.devicelist"
_PUBSUB: Final = "{http://jabber.org/protocol/pubsub}"
_OWNER: Final = "{http://jabber.org/protocol/pubsub#owner}"
_EVENT: Final = "{http://jabber.org/protocol/pubsub#event}"
_FORM: Final = "{jabber:x:data}"
_FORM_TYPE: Final = "http://jabber.org/protocol/pubsub#"
_ASK_SECONDS: Final = 20.0
_NO_ANSWER: Final = {"remote-server-not-found", "remote-server-timeout", "internal-server-error", "resource-constraint"}
# Open, as every client makes it: who writes to us must be able to read our keys without being a contact first.
_OPTIONS: Final = {"pubsub#access_model": "open", "pubsub#persist_items": "true"}


class Unreached(VeilError):
    """Somebody's server does not answer, while our own line is up."""


class Hidden(Unreached):
    """It answers, but shows nothing: it keeps no nodes, or their owner has not let us see them."""


class Nodes:
    """Reads anyone's nodes and writes our own. Unavailable: our own connection is gone."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def device_list(self, jid: str) -> Element | None:
        """`<list/>`; None when there is none."""
        return await self._payload(jid, DEVICES)

    async def bundle(self, jid: str, device_id: int) -> Element | None:
        """`<bundle/>`; None when there is none."""
        return await self._payload(jid, _bundle_node(device_id))

    async def publish_device_list(self, payload: Element) -> None:
        await self._publish(DEVICES, payload)

    async def publish_bundle(self, device_id: int, payload: Element) -> None:
        await self._publish(_bundle_node(device_id), payload)

    async def _payload(self, jid: str, node: str) -> Element | None:
        query = Element(f"{_PUBSUB}pubsub")
        SubElement(query, f"{_PUBSUB}items", node=node, max_items="1")
        try:
            answer = await self._line.ask("get", query, to=jid, timeout_seconds=_ASK_SECONDS)
        except Unavailable:
            if self._line.up.is_set():
                raise Unreached("a server left a question about keys unanswered") from None
            raise
        if isinstance(answer, Declined):
            if answer.condition == "item-not-found":
                return None
            kind = Unreached if answer.condition in _NO_ANSWER else Hidden
            raise kind("a server does not show keys")
        return answer.find(f"{_PUBSUB}pubsub/{_PUBSUB}items/{_PUBSUB}item/*")

    async def _publish(self, node: str, payload: Element) -> None:
        """As the node's one item. Unavailable, not temporary: our server has no place for it."""
        publish = Element(f"{_PUBSUB}pubsub")
        item = SubElement(SubElement(publish, f"{_PUBSUB}publish", node=node), f"{_PUBSUB}item", id="current")
        item.append(payload)
        _fill_in(SubElement(publish, f"{_PUBSUB}publish-options"), f"{_FORM_TYPE}publish-options")
        answer = await self._line.ask("set", publish)
        if isinstance(answer, Declined) and answer.condition == "conflict":  # XEP-0060 §7.1.5: made with other options
            await self._configure(node)
            answer = await self._line.ask("set", publish)
        if isinstance(answer, Declined):
            raise Unavailable("the server does not keep OMEMO keys for its accounts", temporary=False)

    async def _configure(self, node: str) -> None:
        configure = Element(f"{_OWNER}pubsub")
        _fill_in(SubElement(configure, f"{_OWNER}configure", node=node), f"{_FORM_TYPE}node_config")
        await self._line.ask("set", configure)


def published_list(message: Element) -> tuple[str, Element] | None:
    """(bare JID, `<list/>`) of the news that an account's devices have changed; None for any other message.

    It comes from the bare JID itself: what arrives from a resource or a room was written by a person's app.
    """
    items = message.find(f"{_EVENT}event/{_EVENT}items")
    sender = message.get("from", "")
    if items is None or items.get("node") != DEVICES or "/" in sender or message.get("type") == "groupchat":
        return None
    payload = items.find(f"{_EVENT}item/*")
    return None if payload is None else (sender.casefold(), payload)


def _bundle_node(device_id: int) -> str:
    return f"{NAMESPACE}.bundles:{device_id}"


def _fill_in(parent: Element, form_type: str) -> None:
    form = SubElement(parent, f"{_FORM}x", type="submit")
    for name, value in {"FORM_TYPE": form_type, **_OPTIONS}.items():
        SubElement(SubElement(form, f"{_FORM}field", var=name), f"{_FORM}value").text = value
