"""What leaves encrypted, who is told that it cannot, and how the pump waits for it: a real desk, no network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.desks import ADA, BERT, NOON, bodies, desk_in, start
from tests.omemos import Disk, Party, Server, news
from tests.omemos import StubLine as OmemoLine
from tests.xmppedge import OWN, Edge, StubLine, answers, in_loop, stanza_id, words
from veilsupport.desk import Desk
from veilsupport.errors import StoreError, Unavailable
from veilsupport.model import Admin, Delivery, DeliveryKind, EndToEnd
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.omemo import Omemo, Why, is_sealed
from veilsupport.xmpp.omemo_nodes import DEVICES
from veilsupport.xmpp.sealing import NO_KEYS, UNREADABLE, WAITING, WHY, Kept, Sealing
from veilsupport.xmpp.signals import Acknowledged, Heard, Resumed, Started

CHAT = DeliveryKind.MESSAGE
ROOM = "v-1@rooms.chat.example"


def wishing(admin: Admin, wish: EndToEnd) -> Admin:
    return replace(admin, end_to_end=wish)


class Side:
    """The desk's sealing over a server of a few lines."""

    def __init__(
        self,
        desk: Desk,
        server: Server,
        *,
        keeps_archive: bool = True,
        strict: bool = False,
        kept: type[Kept] = Kept,
    ) -> None:
        self.desk = desk
        self.server = server
        self.line = OmemoLine(server, OWN, Disk())
        self.kept = kept(desk, clock=lambda: NOON)
        omemo = Omemo(cast("Line", self.line), self.kept, strict=strict, told=self.kept.told)
        self.sealing = Sealing(desk, omemo, keeps_archive=keeps_archive, clock=lambda: NOON)

    async def begin(self) -> Side:
        await self.sealing.begin()
        await self.sealing.caught_up()
        return self

    async def sealed(self, text: str, admin: Admin | None, *, kind: DeliveryKind = CHAT) -> Element | None:
        """As it would leave to that admin, or to the room of everyone."""
        delivery = Delivery("s1", admin, kind, None, "", text)
        to = admin.address.reveal() if admin else ROOM
        message = stanzas.write(delivery, to) if admin else stanzas.write_to_room(delivery, to)
        return await self.sealing.seal(message, delivery)

    def told(self) -> list[str]:
        return bodies(self.desk.due(now=NOON), DeliveryKind.NOTICE)

    async def hears_list_of(self, jid: str) -> bool:
        return await self.sealing.hear(news(jid, self.server))


async def party(server: Server, admin: Admin) -> Party:
    return await Party(server, admin.address.reveal()).begin()


# ---- whether it is sealed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wish", "with_keys"), [(EndToEnd.PREFER, False), (EndToEnd.OFF, True)])
def test_plain_text_for_whom_it_was_always_so(tmp_path: Path, wish: EndToEnd, with_keys: bool) -> None:
    async def story() -> None:
        ada, server = wishing(ADA, wish), Server()
        async with desk_in(tmp_path, [ada, BERT]) as desk:
            side = await Side(desk, server).begin()
            if with_keys:
                await party(server, ada)
            message = await side.sealed("hello", ada)
            assert message is not None
            assert message.findtext("{jabber:client}body") == "hello"
            assert not is_sealed(message)
            assert side.told() == []

    in_loop(story)


def test_prefer_is_never_in_the_clear_again(tmp_path: Path) -> None:
    async def story() -> None:
        server = Server()
        async with desk_in(tmp_path, [ADA]) as desk:
            side = await Side(desk, server).begin()
            ada = await party(server, ADA)
            message = await side.sealed("hello", ADA)
            assert message is not None
            assert await ada.opens(message, cast("Party", _Sender(OWN))) == "hello"
            listed = server.nodes[ada.jid, DEVICES]
            server.nodes[ada.jid, DEVICES] = Element(listed.tag)
            assert await side.hears_list_of(ada.jid)
            assert await side.sealed("hello", ADA) is None
            assert await side.sealed("again", ADA) is None
            waiting = WAITING.format(why=WHY[Why.VANISHED])
            assert side.told() == [waiting]
            said = await side.sealed(waiting, ADA, kind=DeliveryKind.NOTICE)
            assert said is not None
            assert not is_sealed(said)
            assert await side.sealed(waiting, ADA) is None  # in a visitor's mouth it is a word like any other
            server.nodes[ada.jid, DEVICES] = listed
            await side.hears_list_of(ada.jid)
            assert await side.sealed("hello", ADA) is not None
            server.nodes[ada.jid, DEVICES] = Element(listed.tag)
            await side.hears_list_of(ada.jid)
            assert await side.sealed("hello", ADA) is None
            assert side.told() == [waiting, waiting]  # it had been well in between

    in_loop(story)


class _Sender:
    def __init__(self, jid: str) -> None:
        self.jid = jid


def test_a_room_is_sealed_when_all_can_read_it_or_one_requires_it(tmp_path: Path) -> None:
    async def story() -> None:
        server = Server()
        bert = wishing(BERT, EndToEnd.REQUIRE)
        for number, (admins, is_plain) in enumerate([([ADA, BERT], True), ([ADA, bert], False)]):
            (tmp_path / str(number)).mkdir()
            async with desk_in(tmp_path / str(number), admins) as desk:
                side = await Side(desk, server).begin()
                await party(server, BERT)
                message = await side.sealed("hello", None)
                assert message is not None
                assert is_sealed(message) is not is_plain
                assert side.told() == ([] if is_plain else [UNREADABLE.format(why=WHY[Why.NO_DEVICE])])
        async with desk_in(tmp_path, [ADA, BERT]) as desk:
            await party(server, ADA)
            message = await (await Side(desk, server).begin()).sealed("hello", None)
            assert message is not None
            assert is_sealed(message)

    in_loop(story)


def test_what_no_archive_shall_keep_says_so_also_when_sealed(tmp_path: Path) -> None:
    async def story() -> None:
        server = Server()
        async with desk_in(tmp_path, [ADA, BERT]) as desk:
            await party(server, ADA)
            side = await Side(desk, server, keeps_archive=False).begin()
            for admin in (ADA, BERT):
                message = await side.sealed("hello", admin)
                assert message is not None
                assert is_sealed(message) is (admin is ADA)
                assert message.find("{urn:xmpp:hints}no-store") is not None
                assert message.find("{urn:xmpp:hints}store") is None

    in_loop(story)


def test_a_server_without_keys_is_told_of_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, [ADA]) as desk:
            side = Side(desk, Server())
            side.line.refuses = True
            await side.begin()
            await side.begin()
            assert side.told() == [NO_KEYS]

    in_loop(story)


# ---- what comes in ---------------------------------------------------------------------------------------------------


async def _opened(side: Side, sender: Party, text: str, *extra: Element) -> stanzas.Reading:
    stanza = Element("{jabber:client}message", {"to": OWN, "from": f"{sender.jid}/phone", "type": "chat", "id": "m1"})
    SubElement(stanza, "{jabber:client}body").text = text
    sealed = (await sender.omemo.encrypt(stanza, [OWN])).message
    assert sealed is not None
    sealed.extend((*extra, stanza_id("a1")))
    async with side.sealing.opened(sealed, stanzas.read(sealed, own=OWN)) as reading:
        return reading


def test_a_file_and_a_quotation_are_known_by_the_words_within(tmp_path: Path) -> None:
    async def story() -> None:
        server = Server()
        async with desk_in(tmp_path, [ADA]) as desk:
            ada = await party(server, ADA)
            side = await Side(desk, server).begin()
            reading = await _opened(side, ada, "aesgcm://files.example/x#00")
            assert (reading.is_file, reading.is_encrypted, reading.archive_id) == (True, False, "a1")
            quoted = "> [heron-42] and what is said there is longer than the text for apps without OMEMO, by far\n"
            fallback = Element("{urn:xmpp:fallback:0}fallback", {"for": "urn:xmpp:reply:0"})
            SubElement(fallback, "{urn:xmpp:fallback:0}body", start="0", end=str(len(quoted)))
            reading = await _opened(side, ada, f"{quoted}yes", fallback)
            assert (reading.body, reading.fallback) == (f"{quoted}yes", (0, len(quoted)))

    in_loop(story)


def test_what_comes_encrypted_from_whom_it_is_off_for_stays_so(tmp_path: Path) -> None:
    async def story() -> None:
        server = Server()
        async with desk_in(tmp_path, [wishing(ADA, EndToEnd.OFF), BERT]) as desk:
            ada = await party(server, ADA)
            reading = await _opened(await Side(desk, server).begin(), ada, "hello")
            assert reading.is_encrypted
            assert reading.body != "hello"

    in_loop(story)


# ---- devices ---------------------------------------------------------------------------------------------------------


async def _with_a_tablet(side: Side, ada: Party) -> str:
    """Her list has got another device; that one's fingerprint."""
    before = side.server.nodes[ada.jid, DEVICES][0]
    tablet = await party(side.server, ADA)
    side.server.nodes[ada.jid, DEVICES].append(before)
    await side.hears_list_of(ada.jid)
    return tablet.omemo.fingerprint


def test_new_device_is_announced_before_it_counts_as_told(tmp_path: Path) -> None:
    class Refusing(Kept):
        async def keep(self, changes: Mapping[str, str | None]) -> None:
            if any("untold" in key and value is None for key, value in changes.items()) and refusals:
                refusals.pop()
                raise StoreError("full")
            await super().keep(changes)

    refusals = [1]

    async def story() -> None:
        server = Server()
        async with desk_in(tmp_path, [ADA, BERT]) as desk:
            ada = await party(server, ADA)
            side = await Side(desk, server, strict=True, kept=Refusing).begin()
            await side.sealed("hello", ADA)
            with pytest.raises(StoreError):
                await _with_a_tablet(side, ada)
            assert side.told() == []
            again = await Side(desk, server, strict=True).begin()  # as after a crash
            [first, second] = again.told()
            assert first == second
            assert first.startswith("Ada has a new OMEMO device: ")
            assert "!trust Ada " in first

    in_loop(story)


def test_trust_is_done_apart_and_answered_to_all(tmp_path: Path) -> None:
    async def story() -> None:
        server = Server()
        async with desk_in(tmp_path, [ADA, BERT]) as desk:
            ada = await party(server, ADA)
            side = await Side(desk, server, strict=True).begin()
            tries: list[int] = []
            side.sealing.on_keys = lambda: tries.append(1)
            await side.sealed("hello", ADA)
            digits = await _with_a_tablet(side, ada)
            assert len(tries) == 1
            worker = asyncio.create_task(side.sealing.run())
            assert "answer comes here" in await desk.trust_device("Ada", digits[:8])
            await desk.trust_device("Ada", "00000000")
            async with asyncio.timeout(5):
                while len(side.told()) < 6:
                    await asyncio.sleep(0)
            worker.cancel()
            assert any("is confirmed." in each for each in side.told())
            assert any("No such device is known." in each for each in side.told())
            assert len(tries) == 3
            assert (side.sealing.uri or "?") in desk.omemo_words()

    in_loop(story)


# ---- the pump --------------------------------------------------------------------------------------------------------


class Gate:
    """Seals nothing that has one of these words in it."""

    def __init__(self, edge: Edge) -> None:
        self.shut: set[str] = set()
        self.error: Exception | None = None
        edge.outgoing.seal = self.seal

    async def seal(self, message: Element, delivery: Delivery) -> Element | None:
        if any(word in delivery.body for word in self.shut):
            if self.error:
                raise self.error
            return None
        return message


def _texts(stub: StubLine) -> list[str]:
    return [(each.findtext("{jabber:client}body") or "").rpartition("] ")[2] for each in stub.posted]


def test_what_is_behind_one_that_waits_goes_after_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            gate = Gate(edge)
            await edge.hear(Started(1))
            gate.shut = {"one"}
            session = await start(desk, "one")
            await edge.pump()
            await desk.visitor_says(session, "two", once=b"2", now=NOON)
            await start(desk, "somebody else's")
            await edge.pump()
            assert _texts(edge.stub) == ["somebody else's"]
            await edge.pump()
            assert len(_texts(edge.stub)) == 1
            edge.outgoing.try_again()
            await edge.pump()
            assert len(_texts(edge.stub)) == 1
            gate.shut = set()
            await desk.visitor_says(session, "three", once=b"3", now=NOON)
            edge.outgoing.try_again()
            await edge.pump()
            assert _texts(edge.stub)[1:] == ["one", "two", "three"]
            await edge.hear(*(Acknowledged(each.get("id", "")) for each in edge.stub.posted))
            edge.outgoing.try_again()
            await edge.pump()
            assert len(_texts(edge.stub)) == 4
            assert desk.unacknowledged() == []

    in_loop(story)


@pytest.mark.parametrize("is_resumed", [True, False])
def test_what_waits_is_due_again_in_the_next_session(tmp_path: Path, is_resumed: bool) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            gate = Gate(edge)
            await edge.hear(Started(1))
            gate.shut = {"one"}
            gate.error = Unavailable("gone")
            await start(desk, "one")
            await edge.pump()
            gate.shut = set()
            edge.stub.connection = 2
            await edge.hear(Resumed(2, frozenset()) if is_resumed else Started(2))
            await edge.pump()
            edge.outgoing.try_again()
            await edge.pump()
            assert _texts(edge.stub) == ["one"]

    in_loop(story)


def test_disk_that_refuses_while_sealing_holds_back_all_that_was_marked(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            gate = Gate(edge)
            for number in range(3):
                await desk.tell(ADA, f"notice {number}", now=NOON)
            await edge.hear(Started(1))
            gate.shut, gate.error = {"notice 1"}, StoreError("full")
            with pytest.raises(StoreError):
                await edge.pump()
            gate.shut = set()
            await edge.pump()
            assert _texts(edge.stub) == ["notice 0", "notice 1", "notice 2"]

    in_loop(story)


# ---- the intake ------------------------------------------------------------------------------------------------------


def test_keys_that_do_not_come_leave_a_held_line_to_the_next_session(tmp_path: Path) -> None:
    """Among those that came while the session was set up."""

    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk)
            [alias] = desk.open_aliases()
            hears = edge.incoming._sealing.hear

            async def gone(message: Element) -> bool:
                raise Unavailable("gone")

            edge.incoming._sealing.hear = gone  # type: ignore[method-assign]
            await edge.hear(Heard(words(f"@{alias} hello", stanza_id("a1"))))
            await edge.hear(Started(1))
            assert edge.ready == 0
            assert len(edge.stub.cuts) == 1
            edge.incoming._sealing.hear = hears  # type: ignore[method-assign]
            edge.stub.up.set()
            edge.stub.connection = 2
            await edge.hear(Resumed(2, frozenset()))
            assert edge.ready == 1
            assert answers(desk, session) == ["hello"]

    in_loop(story)
