"""OMEMO's tests: a disk that can refuse, and accounts that meet over a server of a few lines, without a network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import cast
from xml.etree.ElementTree import Element, SubElement

from veilsupport.errors import StoreError, Unavailable
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.omemo import NewDevice, Omemo

_PUBSUB = "{http://jabber.org/protocol/pubsub}"
_EVENT = "{http://jabber.org/protocol/pubsub#event}"


class Disk:
    """A KeptState in memory. `log` is shared with the line, so that it shows what came first."""

    def __init__(self, entries: Mapping[str, str] = {}) -> None:
        self.entries = dict(entries)
        self.refuses = False
        self.log: list[str] = []

    def load(self) -> dict[str, str]:
        return dict(self.entries)

    async def keep(self, changes: Mapping[str, str | None]) -> None:
        await asyncio.sleep(0)
        if self.refuses:
            raise StoreError("full")
        self.log.append("kept")
        self.entries = {key: value for key, value in {**self.entries, **changes}.items() if value is not None}


class Server:
    """Everybody's published nodes: (JID, node) → payload. `silent` JIDs do not answer."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[str, str], Element] = {}
        self.silent: set[str] = set()
        self.asked: list[tuple[str, str]] = []


class StubLine:
    """What Omemo needs of a line; everybody else is an admin."""

    def __init__(self, server: Server, own: str, disk: Disk) -> None:
        self.own = own
        self.up = asyncio.Event()
        self.up.set()
        self.posted: list[Element] = []
        self.wanted: list[str] = []
        self.refuses = False  # to publish
        self.is_configured_otherwise = False  # the node, until it is configured
        self._server = server
        self._disk = disk

    def want_news_of(self, node: str) -> None:
        self.wanted.append(node)

    def is_admin(self, jid: str) -> bool:
        return jid != self.own

    def post(self, message: Element) -> None:
        self._disk.log.append("posted")
        self.posted.append(message)

    async def ask(
        self, kind: str, payload: Element, *, to: str = "", timeout_seconds: float = 30
    ) -> Element | Declined:
        await asyncio.sleep(0)
        if not self.up.is_set() or to in self._server.silent:
            raise Unavailable("gone")
        if kind == "get":
            return self._shown(to or self.own, payload)
        return self._published(payload)

    def _shown(self, jid: str, query: Element) -> Element | Declined:
        node = query[0].get("node", "")
        self._server.asked.append((jid, node))
        if (jid, node) not in self._server.nodes:
            return Declined("item-not-found")
        answer = Element("{jabber:client}iq")
        items = SubElement(SubElement(answer, f"{_PUBSUB}pubsub"), f"{_PUBSUB}items", node=node)
        SubElement(items, f"{_PUBSUB}item", id="current").append(self._server.nodes[jid, node])
        return answer

    def _published(self, query: Element) -> Element | Declined:
        if self.refuses:
            return Declined("feature-not-implemented")
        publish = query[0]
        if publish.tag.endswith("configure"):
            self.is_configured_otherwise = False
            return Element("{jabber:client}iq")
        if self.is_configured_otherwise:
            return Declined("conflict")
        self._disk.log.append("published")
        self._server.nodes[self.own, publish.get("node", "")] = publish[0][0]
        return Element("{jabber:client}iq")


class Party:
    """An account with one device of ours. `told` are the new devices of others."""

    def __init__(self, server: Server, jid: str, disk: Disk | None = None, *, strict: bool = False) -> None:
        self.jid = jid
        self.server = server
        self.disk = disk or Disk()
        self.line = StubLine(server, jid, self.disk)
        self.told: list[NewDevice] = []
        self.omemo = Omemo(cast("Line", self.line), self.disk, strict=strict, told=self.told.append)

    async def begin(self) -> Party:
        await self.omemo.start()
        await self.omemo.caught_up()
        return self

    async def sealed(self, text: str, *to: Party) -> Element:
        """As it arrives."""
        stanza = Element("{jabber:client}message", {"to": to[0].jid, "type": "chat", "id": "m1"})
        SubElement(stanza, "{jabber:client}body").text = text
        sealed = await self.omemo.encrypt(stanza, [each.jid for each in to])
        assert sealed.message is not None
        assert not sealed.unreachable
        return sealed.message

    async def opens(self, message: Element, sender: Party) -> str:
        return await self.omemo.decrypt(message, sender.jid)

    async def take_keys(self, sender: Party) -> int:
        """Open what the other side's library has sent to us; how many that was."""
        ours = [each for each in sender.line.posted if each.get("to") == self.jid]
        sender.line.posted = [each for each in sender.line.posted if each not in ours]
        for each in ours:
            assert await self.opens(each, sender) == ""
        return len(ours)

    @contextlib.contextmanager
    def offline(self) -> Iterator[None]:
        self.line.up.clear()
        yield
        self.line.up.set()


def news(jid: str, server: Server) -> Element:
    """What a server sends when that account's list has changed."""
    message = Element("{jabber:client}message", {"from": jid, "type": "headline"})
    node = "eu.siacs.conversations.axolotl.devicelist"
    items = SubElement(SubElement(message, f"{_EVENT}event"), f"{_EVENT}items", node=node)
    SubElement(items, f"{_EVENT}item", id="current").append(server.nodes[jid, node])
    return message


def listing(*device_ids: int) -> Element:
    listed = Element("{eu.siacs.conversations.axolotl}list")
    for device_id in device_ids:
        SubElement(listed, "{eu.siacs.conversations.axolotl}device", id=str(device_id))
    return listed
