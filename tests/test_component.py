"""The component's account and its gate, without a network: who is let near, and what acknowledges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from slixmpp.stanza import Iq, Message, Presence

from tests.contactform import ACCOUNT, ADA_JID, DESK, DOMAIN, xml
from tests.desks import desk_in
from tests.xmppedge import in_loop
from veilsupport.errors import SetupError
from veilsupport.model import Admin, EndToEnd, Private
from veilsupport.socks import SocksProxy
from veilsupport.xmpp import ComponentAccount, ContactsBridge
from veilsupport.xmpp.component import Component
from veilsupport.xmpp.signals import Acknowledged, Heard, Signal

# ---- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "chat.example", "proxy": SocksProxy(("127.0.0.1", 9050))},
        {"host": "10.0.0.1", "proxy": SocksProxy(("127.0.0.1", 9050))},
        {"host": "localhost"},  # a name would have to be looked up
        {"host": "chat.onion"},
    ],
)
def test_a_component_goes_to_this_machine_or_an_onion_only(wrong: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        ComponentAccount(Private(DOMAIN), Private("secret"), **wrong)


def test_account_tells_nothing_when_printed() -> None:
    account = ComponentAccount(Private(DOMAIN), Private("pw"), "hidden.onion", proxy=SocksProxy(("127.0.0.1", 9050)))
    for part in ("hidden", DOMAIN, "pw"):
        assert part not in repr(account)


def test_an_admin_who_requires_omemo_keeps_the_program_from_starting(tmp_path: Path) -> None:
    async def story() -> None:
        strict = Admin("Ada", Private(ADA_JID), end_to_end=EndToEnd.REQUIRE)
        async with desk_in(tmp_path, admins=[strict]) as desk:
            with pytest.raises(SetupError, match="OMEMO"):
                ContactsBridge(desk, ACCOUNT, on_change=lambda state: None)

    in_loop(story)


# ---- the gate --------------------------------------------------------------------------------------------------------


def component(hear: Callable[[Signal], None], *, up: bool = True) -> Component:
    """A real one without a connection, as if it had one."""
    made = Component(ACCOUNT, admins=[ADA_JID], credentials=("a", "b"), dial_seconds=1, hear=hear)
    made._session_started = up
    if up:
        made.up.set()
    return made


def message_from(sender: str, *, to: str = DESK, kind: str = "chat") -> Element:
    return xml(
        f"<message xmlns='jabber:client' from='{sender}' to='{to}' type='{kind}' id='m'><body>hello</body></message>"
    )


def test_only_admins_pass_the_gate_and_strangers_get_no_answer() -> None:
    async def story() -> None:
        heard: list[Signal] = []
        presences: list[Element] = []
        gate = component(heard.append)
        gate.on_presence = presences.append
        for sender in ("mallory@chat.example/x", "chat.example", DOMAIN, f"{ADA_JID}.evil.example", ""):
            gate.recv_stanza(Message(gate, message_from(sender), recv=True))
            for kind in ("subscribe", "probe"):
                presence = xml(f"<presence xmlns='jabber:client' from='{sender}' to='{DESK}' type='{kind}'/>")
                gate.recv_stanza(Presence(gate, presence, recv=True))
            query = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
            question = xml(f"<iq xmlns='jabber:client' from='{sender}' to='{DESK}' type='get' id='q'>{query}</iq>")
            gate.recv_stanza(Iq(gate, question, recv=True))
        assert (heard, presences) == ([], [])
        assert gate.waiting_queue.empty()
        assert gate.strangers_ignored == 5
        gate.recv_stanza(Message(gate, message_from("Ada@chat.example/phone"), recv=True))
        assert len(heard) == 1
        gate.drop()

    in_loop(story)


def test_nothing_passes_before_the_handshake_or_leaves_without_a_session() -> None:
    async def story() -> None:
        heard: list[Signal] = []
        early = component(heard.append, up=False)
        early.recv_stanza(Message(early, message_from(ADA_JID), recv=True))
        early.post(message_from(DESK, to=ADA_JID))
        early._set_session_start(None)  # slixmpp would send then what was given to it before
        assert heard == []
        assert early.waiting_queue.empty()
        early.drop()

    in_loop(story)


def test_nothing_leaves_but_for_admins() -> None:
    async def story() -> None:
        gate = component(lambda signal: None)
        for to, kind, passes in (
            (ADA_JID, "chat", True),
            (ADA_JID, "error", False),
            ("mallory@chat.example", "chat", False),
            (DESK, "chat", False),
        ):
            assert bool(gate._only_to_ours(Message(None, message_from(DESK, to=to, kind=kind)))) is passes
        for to, passes in ((ADA_JID, True), ("mallory@chat.example", False)):
            assert (
                bool(gate._only_to_ours(Presence(None, xml(f"<presence xmlns='jabber:client' to='{to}'/>")))) is passes
            )
            assert bool(gate._only_to_ours(Iq(None, xml(f"<iq xmlns='jabber:client' to='{to}'/>")))) is passes
        gate.drop()

    in_loop(story)


def test_stanzas_come_in_as_an_account_gets_them() -> None:
    async def story() -> None:
        heard: list[Signal] = []
        gate = component(heard.append)
        accept = "jabber:component:accept"
        stanza = f"<message xmlns='{accept}' from='{ADA_JID}' to='{DESK}' type='chat'><body>hello</body></message>"
        gate._spawn_event(xml(stanza))
        [only] = heard
        assert isinstance(only, Heard)
        assert only.message.findtext("{jabber:client}body") == "hello"
        assert gate.incoming_filter(xml(f"<handshake xmlns='{accept}'/>")).tag == f"{{{accept}}}handshake"
        gate.drop()

    in_loop(story)


def test_a_ping_that_is_back_acknowledges_what_went_before_it() -> None:
    async def story() -> None:
        heard: list[Signal] = []
        gate = component(heard.append)
        for id_ in ("one", "two"):
            message = message_from(DESK, to=ADA_JID)
            message.set("id", id_)
            gate.post(message)
        gate.ask_for_acknowledgement()
        gate.post(message_from(DESK, to=ADA_JID))
        sent = [gate.waiting_queue.get_nowait()[0] for _ in range(4)]
        assert heard == []
        ping = sent[2]
        assert (ping["from"], ping["to"]) == (DESK, DESK)
        gate.recv_stanza(Iq(gate, ping.xml, recv=True))
        gate.recv_stanza(Iq(gate, ping.xml, recv=True))  # a second time it says nothing
        assert heard == [Acknowledged("one"), Acknowledged("two")]
        gate.drop()

    in_loop(story)


def test_what_a_handler_raises_becomes_no_stanza_and_is_told() -> None:
    async def story() -> None:
        def broken(signal: Signal) -> None:
            if isinstance(signal, Heard):
                raise ZeroDivisionError

        gate = component(broken)
        gate.recv_stanza(Message(gate, message_from(ADA_JID), recv=True))
        assert gate.waiting_queue.empty()
        with pytest.raises(ZeroDivisionError):
            await gate.bug
        gate.drop()

    in_loop(story)


def test_slixmpp_answers_no_presence_by_itself() -> None:
    async def story() -> None:
        gate = component(lambda signal: None)
        for kind in ("probe", "subscribe", "unsubscribe"):
            presence = xml(f"<presence xmlns='jabber:client' from='{ADA_JID}' to='heron-42@{DOMAIN}' type='{kind}'/>")
            gate.recv_stanza(Presence(gate, presence, recv=True))
        assert gate.waiting_queue.empty()
        gate.drop()

    in_loop(story)


def test_questions_of_admins_are_answered_by_what_is_known_and_else_refused() -> None:
    async def story() -> None:
        gate = component(lambda signal: None)
        gate.answer = lambda question: Element("{vcard-temp}vCard") if question[0].tag == "{vcard-temp}vCard" else None
        for payload in ("<vCard xmlns='vcard-temp'/>", "<query xmlns='jabber:iq:version'/>"):
            iq = f"<iq xmlns='jabber:client' from='{ADA_JID}/x' to='{DESK}' type='get' id='q'>{payload}</iq>"
            gate.recv_stanza(Iq(gate, xml(iq), recv=True))
        result, error = (gate.waiting_queue.get_nowait()[0] for _ in range(2))
        assert (result["type"], result["to"], result["from"], result["id"]) == ("result", f"{ADA_JID}/x", DESK, "q")
        assert (error["type"], error["error"]["condition"]) == ("error", "service-unavailable")
        gate.drop()

    in_loop(story)
