"""The account and its line, without a network: who is let near, and what ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from slixmpp.stanza import Iq, Message, Presence, StreamError, StreamFeatures

from tests.desks import NOON, desk_in
from tests.xmppedge import OWN, in_loop, words
from veilsupport.errors import SetupError, Unavailable
from veilsupport.model import Private
from veilsupport.socks import SocksProxy
from veilsupport.xmpp import Account, Bridge, LinkState, Phase, Tls, Trust, signals
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.signals import Heard, Signal

ACCOUNT = Account(Private(OWN), Private("pw"), "127.0.0.1", tls=Tls.NONE, trust=Trust.ANY)


def line(hear: Callable[[Signal], None], *, signed_in: bool = True) -> Line:
    """A real line without a connection, as if it had one."""
    made = Line(ACCOUNT, admins=["ada@chat.example"], credentials=("a", "b"), dial_seconds=1, hear=hear)
    made._secured = made.authenticated = made._session_started = signed_in
    return made


def xml(text: str) -> Element:
    return fromstring(text)  # noqa: S314 - our own text


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


def test_messages_leave_for_admins_and_our_rooms_only_and_never_as_errors() -> None:
    async def story() -> None:
        out = line(lambda signal: None)
        out._rooms.add(ROOM)
        for to, kind in (
            ("ada@chat.example/phone", "chat"),
            ("ada@chat.example", None),
            (ROOM, "groupchat"),
            (ROOM, None),
        ):
            assert out._only_to_ours(_outward(to, kind)) is not None
        for to, kind in (
            ("ada@chat.example", "error"),
            ("ada@chat.example", "groupchat"),
            ("mallory@evil.example", "chat"),
            ("other@rooms.chat.example", "groupchat"),
            (f"{ROOM}/Ada", "chat"),
            (ROOM, "error"),
        ):
            assert out._only_to_ours(_outward(to, kind)) is None
        out.drop()

    in_loop(story)


def test_a_room_is_heard_while_it_is_ours_and_says_who_spoke_at_that_moment() -> None:
    async def story() -> None:
        heard: list[Signal] = []
        gate = line(heard.append)
        said = words("hello", sender=f"{ROOM}/Ada")
        gate.recv_stanza(Message(gate, said, recv=True))
        assert heard == []
        gate._rooms.add(ROOM)
        gate.recv_stanza(Presence(gate, xml(OCCUPANT), recv=True))
        gate.recv_stanza(Message(gate, said, recv=True))
        gate.leave(ROOM)
        gate.recv_stanza(Message(gate, said, recv=True))
        [only] = heard
        assert isinstance(only, Heard)
        assert only.speaker == "ada@chat.example"
        gate.drop()

    in_loop(story)


def test_a_room_that_is_left_at_its_door_is_told_so() -> None:
    async def story() -> None:
        heard: list[Signal] = []
        gate = line(heard.append)
        gate.up.set()
        gate.gone.clear()
        knocking = asyncio.create_task(gate.join(ROOM, "heron-42"))
        await asyncio.sleep(0)
        gate.leave(ROOM)
        with pytest.raises(Unavailable):
            await knocking
        entering, leaving = [str(gate.waiting_queue.get_nowait()[0]) for _ in range(gate.waiting_queue.qsize())]
        assert f'to="{ROOM}/heron-42"' in entering
        assert f'to="{ROOM}/heron-42"' in leaving
        assert 'type="unavailable"' in leaving
        gate.drop()

    in_loop(story)


def test_what_a_rooms_archive_answers_comes_whole_also_when_the_room_is_left_meanwhile() -> None:
    async def story() -> None:
        gate = line(lambda signal: None)
        gate.up.set()
        gate.gone.clear()
        gate._rooms.add(ROOM)
        query = Element("{urn:xmpp:mam:2}query", queryid="q1")
        asking = asyncio.create_task(gate.ask_archive(query, "q1", of=ROOM))
        await asyncio.sleep(0)
        [question] = [gate.waiting_queue.get_nowait()[0] for _ in range(gate.waiting_queue.qsize())]
        for sender, query_id in ((ROOM, "q1"), (f"{ROOM}/Ada", "q1"), (ROOM, "another")):
            gate.recv_stanza(Message(gate, _result(sender, query_id), recv=True))
        gate.leave(ROOM)
        gate.recv_stanza(Message(gate, _result(ROOM, "q1"), recv=True))
        answer = xml(f"<iq xmlns='jabber:client' type='result' from='{ROOM}' id='{question['id']}'/>")
        gate.recv_stanza(Iq(gate, answer, recv=True))
        found = await asking
        assert isinstance(found, tuple)
        assert len(found[0]) == 2
        gate.recv_stanza(Message(gate, _result(ROOM, "q1"), recv=True))  # nobody asks any more
        assert len(found[0]) == 2
        gate.drop()

    in_loop(story)


def _result(sender: str, query_id: str) -> Element:
    message = Element("{jabber:client}message", {"from": sender})
    message.append(Element("{urn:xmpp:mam:2}result", queryid=query_id))
    return message


ROOM = "v-1@rooms.chat.example"
OCCUPANT = (
    f"<presence xmlns='jabber:client' from='{ROOM}/Ada'><x xmlns='http://jabber.org/protocol/muc#user'>"
    "<item affiliation='member' role='participant' jid='ada@chat.example/phone'/></x></presence>"
)


def _outward(to: str, kind: str | None) -> Message:
    message = Element("{jabber:client}message", to=to)
    if kind:
        message.set("type", kind)
    return Message(None, message)


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


def test_negotiation_ends_with_its_connection() -> None:
    """Else it wakes up in a later one, binds a second time and resets the counters of XEP-0198."""

    async def story() -> None:
        cut = line(lambda signal: None)
        cut.gone.clear()
        cut.plugin["xep_0198"].sm_id = "known"
        offer = xml(
            "<stream:features xmlns:stream='http://etherx.jabber.org/streams'>"
            "<sm xmlns='urn:xmpp:sm:3'/></stream:features>"
        )
        task = asyncio.ensure_future(cut._handle_stream_features(StreamFeatures(cut, offer)))
        while cut.waiting_queue.empty():  # until <resume/> is on its way
            await asyncio.sleep(0)
        cut._on_disconnected(None)
        await asyncio.wait({task})
        assert task.cancelled()
        cut.drop()

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


def test_an_admin_is_there_by_their_own_presence_and_not_by_its_errors() -> None:
    async def story() -> None:
        seen: list[tuple[str, bool]] = []
        gate = line(lambda signal: None)
        gate.on_presence = lambda jid, here: seen.append((jid, here))
        for kind in ("", "type='error'", "type='unavailable'", "type='subscribe'"):
            presence = f"<presence xmlns='jabber:client' from='ada@chat.example/phone' {kind}/>"
            gate.recv_stanza(Presence(gate, xml(presence), recv=True))
        assert seen == [("ada@chat.example/phone", True), ("ada@chat.example/phone", False)]
        gate.drop()

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
