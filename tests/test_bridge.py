"""The line's parts without a network: who is let near, what comes in, what goes out, and what ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast
from xml.etree.ElementTree import Element, SubElement, fromstring

import pytest
from slixmpp.stanza import Iq, Message, Presence, StreamError

from tests.desks import ADA, NOON, bodies, desk_in, hand_over, start
from veilsupport.desk import Desk
from veilsupport.errors import SetupError, StoreError, Unavailable
from veilsupport.model import Author, DeliveryKind, Private, Progress
from veilsupport.socks import SocksProxy
from veilsupport.xmpp import Account, Bridge, LinkState, Phase, Tls, Trust, intake, signals, stanzas
from veilsupport.xmpp.archive import Archive
from veilsupport.xmpp.direct import Direct
from veilsupport.xmpp.intake import Incoming
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.signals import Acknowledged, Asked, Heard, Lost, Resumed, Signal, Started, Trouble

OWN = "desk@chat.example"
ACCOUNT = Account(Private(OWN), Private("pw"), "127.0.0.1", tls=Tls.NONE, trust=Trust.ANY)


def in_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))


def line(hear: Callable[[Signal], None], *, signed_in: bool = True) -> Line:
    """A real line without a connection, as if it had one."""
    made = Line(ACCOUNT, admins=["ada@chat.example"], credentials=("a", "b"), dial_seconds=1, hear=hear)
    made._secured = made.authenticated = made._session_started = signed_in
    return made


def words(text: str, *extra: Element, sender: str = "ada@chat.example/phone", key: str = "m1") -> Element:
    element = Element("{jabber:client}message", {"from": sender, "to": OWN, "type": "chat", "id": key})
    SubElement(element, "{jabber:client}body").text = text
    element.extend(extra)
    return element


def xml(text: str) -> Element:
    return fromstring(text)  # noqa: S314 - our own text


def stanza_id(value: str, by: str = OWN) -> Element:
    return Element("{urn:xmpp:sid:0}stanza-id", by=by, id=value)


# ---- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "chat.example", "tls": Tls.NONE, "proxy": SocksProxy(("127.0.0.1", 9050))},
        {"host": "chat.example", "trust": Trust.ANY, "proxy": SocksProxy(("127.0.0.1", 9050))},
        {"host": "chat.example", "trust": Trust.PIN, "fingerprint": "ab", "proxy": SocksProxy(("127.0.0.1", 9050))},
        {"host": "chat.example"},
        {"host": "localhost"},  # a name would have to be looked up
        {"host": "10.0.0.1"},
    ],
)
def test_unsafe_accounts_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        Account(Private(OWN), Private("pw"), **wrong)


def test_account_tells_nothing_when_printed() -> None:
    account = Account(Private(OWN), Private("pw"), "secret.onion", proxy=SocksProxy(("127.0.0.1", 9050)))
    assert "secret" not in repr(account)
    assert OWN not in repr(account)
    assert "pw" not in repr(account)


# ---- the line --------------------------------------------------------------------------------------------------------


def test_nothing_but_the_offer_of_tls_is_taken_before_tls() -> None:
    async def story() -> None:
        heard: list[Signal] = []
        naked = line(heard.append, signed_in=False)
        naked.recv_stanza(Message(naked, words("forged on the way"), recv=True))
        naked._secured = True  # and nothing from anyone before we have signed in
        naked.recv_stanza(Message(naked, words("forged by the server's double"), recv=True))
        assert heard == []
        naked._secured = naked.authenticated = True
        naked.recv_stanza(Message(naked, words("real"), recv=True))
        assert len(heard) == 1
        naked.drop()

    in_loop(story)


def test_stranger_gets_nothing_but_what_an_absent_resource_would_say() -> None:
    async def story() -> None:
        heard: list[Signal] = []
        gate = line(heard.append)
        for sender in ("mallory@evil.example/x", "ada@chat.example.evil/x", "chat.example@evil.example"):
            gate.recv_stanza(Message(gate, words("hello", sender=sender), recv=True))
        gate.recv_stanza(Presence(gate, xml(PRESENCE), recv=True))
        gate.recv_stanza(Iq(gate, xml(DISCO), recv=True))
        assert heard == []
        assert gate.strangers_ignored == 3
        [(reply, _)] = [gate.waiting_queue.get_nowait() for _ in range(gate.waiting_queue.qsize())]
        assert "service-unavailable" in str(reply)
        assert "feature" not in str(reply)
        gate.drop()

    in_loop(story)


PRESENCE = "<presence xmlns='jabber:client' type='subscribe' from='mallory@evil.example'/>"
DISCO = (
    "<iq xmlns='jabber:client' type='get' id='1' from='mallory@evil.example/x'>"
    "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
)


def test_messages_leave_for_admins_only_and_never_as_errors() -> None:
    async def story() -> None:
        out = line(lambda signal: None)
        assert out._only_to_admins(_outward("ada@chat.example/phone", "chat")) is not None
        assert out._only_to_admins(_outward("ada@chat.example", "error")) is None
        assert out._only_to_admins(_outward("mallory@evil.example", "chat")) is None
        out.drop()

    in_loop(story)


def _outward(to: str, kind: str) -> Message:
    return Message(None, Element("{jabber:client}message", to=to, type=kind))


def test_what_a_handler_raises_becomes_no_stanza_and_ends_the_run(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            bridge = Bridge(desk, ACCOUNT, on_change=lambda state: None)

            def broken(signal: Signal) -> None:
                raise ZeroDivisionError

            bridge._line._hear = broken
            bridge._line._secured = bridge._line.authenticated = bridge._line._session_started = True
            bridge._line.recv_stanza(Message(bridge._line, words("hello"), recv=True))
            assert bridge._line.waiting_queue.empty()
            with pytest.raises(ExceptionGroup) as caught:
                await bridge.run(asyncio.Event())
            assert caught.group_contains(ZeroDivisionError)
            assert bridge.state.phase is Phase.OFF

    in_loop(story)


def test_server_cannot_send_us_elsewhere_and_nothing_is_looked_up() -> None:
    async def story() -> None:
        led = line(lambda signal: None)
        error = xml(
            "<stream:error xmlns:stream='http://etherx.jabber.org/streams'>"
            "<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>evil.example</see-other-host></stream:error>"
        )
        led.recv_stanza(StreamError(led, error))
        assert led.default_domain == "chat.example"
        assert led._current_connection_attempt is None
        with pytest.raises(RuntimeError):
            await led.get_dns_records("chat.example")
        led.drop()

    in_loop(story)


def test_admin_who_asks_is_let_see_us() -> None:
    async def story() -> None:
        asked = line(lambda signal: None)
        presence = xml("<presence xmlns='jabber:client' type='subscribe' from='ada@chat.example'/>")
        asked.recv_stanza(Presence(asked, presence, recv=True))
        reply, _ = asked.waiting_queue.get_nowait()
        assert (reply["type"], str(reply["to"])) == ("subscribed", "ada@chat.example")
        asked.drop()

    in_loop(story)


def test_state_says_what_happens_and_when_next(tmp_path: Path) -> None:
    async def story() -> None:
        states: list[LinkState] = []
        stop = asyncio.Event()

        def changed(state: LinkState) -> None:
            states.append(state)
            if state.phase is Phase.WAITING:
                stop.set()

        async with desk_in(tmp_path) as desk:
            account = Account(Private(OWN), Private("pw"), "127.0.0.1", 9, tls=Tls.NONE, trust=Trust.ANY)
            await Bridge(desk, account, on_change=changed, clock=lambda: NOON).run(stop)
        assert [state.phase for state in states] == [Phase.CONNECTING, Phase.WAITING, Phase.OFF]
        assert states[1].next_try_at is not None
        assert states[1].next_try_at > NOON
        assert states[1].trouble == signals.BROKEN.words

    in_loop(story)


# ---- coming in and going out -----------------------------------------------------------------------------------------


class StubLine:
    """What the intake and the pump need of a line; answers questions from a script."""

    def __init__(self) -> None:
        self.own = OWN
        self.connection = 1
        self.up = asyncio.Event()
        self.up.set()
        self.acknowledges = True
        self.posted: list[Element] = []
        self.acknowledged: list[int] = []
        self.requests = 0
        self.cuts: list[Trouble] = []
        self.forgotten = 0
        self.archive: list[tuple[str, Element]] | Declined | None = []  # None: the connection breaks

    def post(self, message: Element) -> None:
        self.posted.append(message)

    def ask_for_acknowledgement(self) -> None:
        self.requests += 1

    def acknowledge(self, asked: Asked) -> None:
        self.acknowledged.append(asked.handled)

    def cut(self, trouble: Trouble) -> None:
        self.cuts.append(trouble)
        self.up.clear()

    def forget_session(self) -> None:
        self.forgotten += 1

    def send_presence(self, **attributes: str) -> None:
        pass

    async def ask(self, kind: str, payload: Element, *, timeout_seconds: float = 30) -> Element | Declined:
        return Declined("service-unavailable")

    async def ask_archive(self, query: Element, query_id: str) -> tuple[list[Element], Element] | Declined:
        if self.archive is None:
            self.up.clear()
            raise Unavailable("gone")
        if isinstance(self.archive, Declined):
            return self.archive
        after = query.findtext("{http://jabber.org/protocol/rsm}set/{http://jabber.org/protocol/rsm}after")
        ids = [archive_id for archive_id, _ in self.archive]
        if after and after not in ids:
            return Declined("item-not-found")
        part = self.archive[ids.index(after) + 1 if after else 0 :]
        fin = Element("{urn:xmpp:mam:2}fin", complete="true")
        answer = Element("{jabber:client}iq")
        answer.append(fin)
        return [_result(archive_id, message) for archive_id, message in part], answer


def _result(archive_id: str, message: Element) -> Element:
    result = Element("{urn:xmpp:mam:2}result", id=archive_id)
    SubElement(result, "{urn:xmpp:forward:0}forwarded").append(message)
    return result


class Edge:
    """Intake and pump over a real desk and a stub of a line."""

    def __init__(self, desk: Desk, stub: StubLine) -> None:
        self.stub = stub
        self.ready = 0
        line = cast("Line", stub)
        direct = Direct(desk, clock=lambda: NOON)
        self.outgoing = Outgoing(desk, line, spoke=direct.spoke, clock=lambda: NOON)
        self.incoming = Incoming(
            desk, line, self.outgoing, direct, set_up_seconds=5, on_ready=self._is_ready, clock=lambda: NOON
        )

    def _is_ready(self) -> None:
        self.ready += 1

    async def hear(self, *heard: Signal) -> None:
        """Let the worker take these, one after the other."""
        for signal in heard:
            self.incoming.hear(signal)
        while self.incoming._queue:
            await self.incoming._handle(self.incoming._queue.popleft())

    async def pump(self) -> list[str]:
        """Send what is due; the ids."""
        before = len(self.stub.posted)
        while await self.outgoing._send_batch():
            pass
        return [message.get("id", "") for message in self.stub.posted[before:]]


def answers(desk: Desk, session: Any) -> list[str]:
    return [each.body for each in desk.history(session) if each.author is Author.ADMIN]


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
            await desk.start_position(OWN, "expired", now=NOON)
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


def test_window_holds_back_until_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            for number in range(120):
                await desk.tell(ADA, f"notice {number}", now=NOON)
            await edge.hear(Started(1))
            sent = await edge.pump()
            assert len(sent) == 100
            await edge.hear(*(Acknowledged(each) for each in sent[:40]))
            assert len(await edge.pump()) == 20

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
