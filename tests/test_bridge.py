"""What comes in takes effect once, what goes out arrives once: with a real desk, without a network."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.desks import ADA, NOON, bodies, desk_in, hand_over, start
from tests.xmppedge import OWN, Edge, StubLine, answers, in_loop, stanza_id, words
from veilsupport.errors import StoreError, Unavailable
from veilsupport.model import DeliveryKind, Progress
from veilsupport.xmpp import intake, outgoing, signals, stanzas
from veilsupport.xmpp.archive import Archive
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.signals import Acknowledged, Asked, Heard, Lost, Resumed, Signal, Started


def test_answers_take_effect_once_by_our_own_servers_id_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk)
            await edge.hear(Started(1))
            await edge.hear(Heard(words("one", stanza_id("a"))), Heard(words("one", stanza_id("a"))))
            forged = stanza_id("same", by="mallory@evil.example")
            await edge.hear(Heard(words("two", forged, key="k1")), Heard(words("three", forged, key="k2")))
            await edge.hear(Heard(words("two", key="k1")))
            assert answers(desk, session) == ["one", "two", "three"]
            assert desk.position(OWN) == ("a", NOON)

    in_loop(story)


def test_forged_carbon_and_our_own_words_are_ignored(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk)
            await edge.hear(Started(1))
            inside = words("from the other device", stanza_id("a"))
            await edge.hear(Heard(_carbon("received", inside, sender="ada@chat.example/phone")))
            await edge.hear(Heard(_carbon("sent", words("mine", sender=OWN), sender=OWN)))
            await edge.hear(Heard(words("mine", sender=f"{OWN}/other")))
            assert answers(desk, session) == []
            await edge.hear(Heard(_carbon("received", inside, sender=OWN)))
            assert answers(desk, session) == ["from the other device"]

    in_loop(story)


def _carbon(kind: str, inside: Element, *, sender: str) -> Element:
    outer = Element("{jabber:client}message", {"from": sender, "to": f"{OWN}/veilsupport"})
    copy = SubElement(outer, f"{{urn:xmpp:carbons:2}}{kind}")
    SubElement(copy, "{urn:xmpp:forward:0}forwarded").append(inside)
    return outer


def test_live_words_wait_for_an_archive_that_was_read_to_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            stub = StubLine()
            edge = Edge(desk, stub)
            session = await start(desk)
            await edge.hear(Started(1))
            stub.archive = None  # the set-up of the second session is cut half-way
            await edge.hear(Started(1), Heard(words("later", stanza_id("b"))), Lost())
            assert stub.cuts == [signals.NO_SET_UP]
            assert answers(desk, session) == []
            stub.archive = [("a", words("earlier", key="k")), ("b", words("later"))]
            stub.up.set()
            await edge.hear(Resumed(1, frozenset()))  # resumed or not: it is set up from the beginning
            assert answers(desk, session) == ["earlier", "later"]
            assert edge.ready == 2

    in_loop(story)


def test_first_start_begins_at_the_archives_end(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            stub = StubLine()
            stub.archive = [("a", words("long ago"))]
            session = await start(desk)
            await Edge(desk, stub).hear(Started(1))
            assert answers(desk, session) == []
            stub.archive.append(("b", words("new")))
            await Edge(desk, stub).hear(Started(1))
            assert answers(desk, session) == ["new"]

    in_loop(story)


def test_archive_that_forgot_our_position_is_read_by_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            stub = StubLine()
            session = await start(desk)
            await desk.move_position(OWN, "expired", now=NOON)
            stub.archive = [("x", words("still there"))]
            await Edge(desk, stub).hear(Started(1))
            assert answers(desk, session) == ["still there"]
            assert desk.position(OWN) == ("x", NOON)

    in_loop(story)


def test_receipt_and_count_follow_the_commit(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            await start(desk)
            await edge.hear(Started(1))
            asking = words("hello", Element("{urn:xmpp:receipts}request"), key="m7")
            edge.incoming.hear(Heard(asking))
            edge.incoming.hear(Asked(1, 5))
            assert edge.stub.posted == []
            assert edge.stub.acknowledged == []
            await edge.hear()
            assert stanzas.read(edge.stub.posted[0], own=OWN).receipt_of == "m7"
            assert edge.stub.acknowledged == [5]
            await edge.hear(Heard(asking))  # its receipt may have been lost: confirmed again, taken once
            assert len(edge.stub.posted) == 2

    in_loop(story)


def test_flood_ends_the_session_and_is_not_kept(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            for _ in range(intake.QUEUE_MAX + 1):
                edge.incoming.hear(Heard(words("x")))
            assert edge.stub.cuts == [signals.FLOODED]
            assert edge.stub.forgotten == 1
            assert len(edge.incoming._queue) == intake.QUEUE_MAX

    in_loop(story)


def test_disk_that_refuses_is_asked_again_and_nothing_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setattr(intake, "_DISK_PAUSE_SECONDS", 0)
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            tries = 0

            async def handle(signal: Signal) -> None:
                nonlocal tries
                tries += 1
                if tries < 3:
                    raise StoreError("full")

            monkeypatch.setattr(edge.incoming, "_handle", handle)
            await edge.incoming._stubbornly(Lost())
            assert tries == 3

    in_loop(story)


@pytest.mark.parametrize("acknowledges", [True, False])
def test_what_was_acknowledged_while_the_disk_refused_is_noted_when_it_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, acknowledges: bool
) -> None:
    """Else it counts as open, with its words on the disk, and is sent twice where no archive tells that it arrived."""

    async def story() -> None:
        for module in (intake, outgoing):
            monkeypatch.setattr(module, "_DISK_PAUSE_SECONDS", 0)
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            await start(desk, "one")
            await edge.hear(Started(1))
            edge.stub.acknowledges = acknowledges
            recovered = desk.deliveries_came

            async def refused(**came: object) -> None:
                monkeypatch.setattr(desk, "deliveries_came", recovered)
                raise StoreError("full")

            monkeypatch.setattr(desk, "deliveries_came", refused)
            [stanza] = await edge.pump()
            if acknowledges:
                edge.incoming.hear(Acknowledged(stanza))
                await edge.incoming._stubbornly(edge.incoming._next())
            assert desk.unacknowledged() == []
            assert list(edge.outgoing._flying) == []

    in_loop(story)


def test_words_go_out_only_while_ready_in_order_with_one_question_behind(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk, "one")
            await desk.visitor_says(session, "two", once=b"1", now=NOON)
            await edge.hear(Started(1))
            ids = await edge.pump()
            assert [stanzas.read(each, own=OWN).body.split("] ")[1] for each in edge.stub.posted] == ["one", "two"]
            assert edge.stub.requests == 1
            assert desk.due(now=NOON) == []
            await edge.hear(*(Acknowledged(each) for each in ids))
            assert [each.progress for each in desk.history(session)] == [Progress.HANDED_OVER] * 2
            assert desk.unacknowledged() == []

    in_loop(story)


def received(stanza: str, *, beside: str = "{urn:xmpp:hints}store") -> Heard:
    message = Element(
        "{jabber:client}message", {"from": "ada@chat.example/phone", "to": OWN, "type": "chat", "id": f"r-{stanza}"}
    )
    SubElement(message, "{urn:xmpp:receipts}received", id=stanza)
    SubElement(message, beside)
    return Heard(message)


def test_how_far_lines_have_come_is_one_transaction_and_counts_follow_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk, "one")
            for text in ("two", "three"):
                await desk.visitor_says(session, text, once=text.encode(), now=NOON)
            await edge.hear(Started(1))
            one, two, three = await edge.pump()
            writes = []
            desk.store._writer.on_commit = lambda many, seconds, kept: writes.append(many)
            row: list[Signal] = [Acknowledged(one), received(one), Asked(1, 4), Acknowledged(two), received(two)]
            row.append(Acknowledged(three))
            for signal in row:
                edge.incoming.hear(signal)
            handling = asyncio.ensure_future(edge.hear())
            await asyncio.sleep(0)
            assert edge.stub.acknowledged == []
            await handling
            assert writes == [1]
            assert edge.stub.acknowledged == [4]
            assert [each.progress for each in desk.history(session)] == [
                Progress.ON_DEVICE,
                Progress.ON_DEVICE,
                Progress.HANDED_OVER,
            ]

    in_loop(story)


def test_nothing_is_gathered_past_words_or_before_the_archive_is_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk, "one")
            await edge.hear(Started(1))
            [one] = await edge.pump()
            for signal in (received(one, beside="{jabber:client}body"), Heard(words("hello")), received(one)):
                edge.incoming.hear(signal)
                assert isinstance(edge.incoming._queue[0], Heard)
            rest = [edge.incoming._next() for _ in range(3)]
            assert [isinstance(each, Heard) for each in rest] == [True, True, False]
            edge.incoming._is_set_up = False
            await edge.hear(received(one))
            assert desk.history(session)[0].progress is Progress.KEPT
            assert len(edge.incoming._held) == 1

    in_loop(story)


def test_resumption_requeues_what_slixmpp_does_not_send_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk, "kept")
            await desk.visitor_says(session, "lost in the queue", once=b"1", now=NOON)
            await edge.hear(Started(1))
            kept, lost = await edge.pump()
            await edge.hear(Resumed(1, frozenset([kept])))
            assert await edge.pump() == [lost]

    in_loop(story)


def test_fresh_session_asks_the_archive_what_arrived(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            stub = StubLine()
            edge = Edge(desk, stub)
            session = await start(desk, "arrived")
            await desk.visitor_says(session, "lost", once=b"1", now=NOON)
            await edge.hear(Started(1))
            arrived, lost = await edge.pump()
            stub.archive = [("a", words("arrived", sender=f"{OWN}/veilsupport", key=arrived))]
            again = Edge(desk, stub)  # after a crash
            await again.hear(Started(1))
            assert await again.pump() == [lost]

    in_loop(story)


def test_what_came_back_with_an_error_is_not_taken_for_handed_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk, "hello")
            await edge.hear(Started(1))
            [stanza] = await edge.pump()
            error = Element("{jabber:client}message", {"from": "ada@chat.example", "type": "error", "id": stanza})
            await edge.hear(Heard(error), Acknowledged(stanza))
            assert desk.history(session)[0].progress is Progress.KEPT
            assert [each.stanza_id for each in desk.due(now=NOON + 61)] == [stanza]

    in_loop(story)


def test_who_is_only_told_of_a_message_has_heard_of_its_visitor(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, [replace(ADA, notify_only=True)]) as desk:
            edge = Edge(desk, StubLine())
            await start(desk, "hello")
            await edge.incoming._handle(Started(1))
            assert len(await edge.pump()) == 1
            assert edge.direct.meant_by(desk.admins[0]) == desk.open_aliases()[0]

    in_loop(story)


def test_window_holds_back_until_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            for number in range(120):
                await desk.tell(ADA, f"notice {number}", now=NOON)
            await edge.hear(Started(1))
            sent = await edge.pump()
            assert len(sent) == 20
            await edge.hear(*(Acknowledged(each) for each in sent[:10]))
            assert len(await edge.pump()) == 10

    in_loop(story)


def test_nothing_is_sent_when_the_line_went_while_it_was_marked(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            stub = StubLine()
            edge = Edge(desk, stub)
            await start(desk, "hello")
            await edge.hear(Started(1))
            sending = asyncio.ensure_future(edge.outgoing._send_batch())
            await asyncio.sleep(0)
            stub.connection = 2  # lost and back, while delivery_sent was on its way to the disk
            await sending
            assert stub.posted == []
            await edge.hear(Resumed(2, frozenset()))
            assert len(await edge.pump()) == 1

    in_loop(story)


def test_desk_without_admins_sends_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=()) as desk:
            edge = Edge(desk, StubLine())
            await start(desk, "anyone?")
            await edge.hear(Started(1))
            assert await edge.pump() == []

    in_loop(story)


def test_server_without_an_archive(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            stub = StubLine()
            stub.archive = Declined("service-unavailable")
            edge = Edge(desk, stub)
            session = await start(desk)
            await edge.hear(Started(1), Heard(words("hello", stanza_id("forged"))))
            await edge.hear(Heard(words("hello", stanza_id("forged again"))))
            assert edge.incoming.archive.exists is False
            assert answers(desk, session) == ["hello"]
            assert desk.position(OWN) is None

    in_loop(story)


def test_answer_reaches_the_visitor_and_the_other_side_of_the_story(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk)
            alias = desk.open_aliases()[0]
            await edge.hear(Started(1), Heard(words(f"@{alias} yes")))
            assert answers(desk, session) == ["yes"]
            assert bodies(await hand_over(desk), DeliveryKind.NOTICE) == []

    in_loop(story)


def test_archive_pages_say_when_there_is_none() -> None:
    async def story() -> None:
        stub = StubLine()
        stub.archive = Declined("forbidden")
        with pytest.raises(Unavailable):
            await Archive(cast("Line", stub)).newest()

    in_loop(story)
