"""The component form against real servers: each visitor is a contact on a phone that is none of our code."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.desks import desk_in, start
from tests.live.appliance import Appliance, run_command
from tests.live.chaosocks import ChaoticSocks
from tests.live.ejabberd import Ejabberd
from tests.live.gosendxmpp import GoSendXmpp
from tests.live.overhttp import browser_at
from tests.live.ownserver import PASSWORDS, BarePhone, OwnServer
from tests.live.phonecontacts import ContactsPhone, sender
from tests.live.profanity import Profanity
from tests.live.prosody import Prosody
from tests.ports import free_port
from tests.program import Program
from veilsupport import crypto
from veilsupport.config import FILE_NAME
from veilsupport.desk import Desk
from veilsupport.model import Admin, Author, Changed, MessageState, Private, Progress, Session, Typing
from veilsupport.xmpp import ComponentAccount, ContactsBridge, LinkState, Pace, Phase, direct

HOST = "server.onion"
SECRET = "component-secret"
PACE = Pace(
    dial=5, negotiate=3, set_up=10, ping=1, pong=1, first_pause=0.1, longest_pause=0.5, refused_pause=60, steady=0
)
Server = Prosody | Ejabberd
_numbers = itertools.count()


@pytest.fixture(scope="module", params=[Prosody, Ejabberd], ids=["Prosody", "Ejabberd"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param(accounts={"mallory": "pw"}, component_secret=SECRET) as server:
        yield server


class Place:
    """One test's desk, with admins of its own, and its SOCKS port in front of the component's."""

    def __init__(self, server: Server, socks: ChaoticSocks, desk: Desk) -> None:
        self.server = server
        self.socks = socks
        self.desk = desk
        self.states: list[LinkState] = []
        self._news = asyncio.Event()

    def account(self, *, secret: str = SECRET, domain: str = "") -> ComponentAccount:
        domain = domain or self.server.component
        return ComponentAccount(Private(domain), Private(secret), HOST, 5347, self.socks.proxy)

    @contextlib.asynccontextmanager
    async def bridge(self, account: ComponentAccount | None = None) -> AsyncIterator[ContactsBridge]:
        """Running for the length of the block, then stopped as at the program's end."""
        bridge = ContactsBridge(self.desk, account or self.account(), on_change=self._changed, pace=PACE)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(bridge.run(stop))
            yield bridge
            stop.set()
            async with asyncio.timeout(3):
                await task

    @contextlib.asynccontextmanager
    async def crashing_bridge(self) -> AsyncIterator[ContactsBridge]:
        """Running for the length of the block, then gone without a word."""
        bridge = ContactsBridge(self.desk, self.account(), on_change=self._changed, pace=PACE)
        task = asyncio.create_task(bridge.run(asyncio.Event()))
        yield bridge
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def phone(self, name: str = "Ada", *, accepts: bool = True, receipts: bool = True) -> ContactsPhone:
        [jid] = [each.address.reveal() for each in self.desk.admins if each.name == name] or [
            self.server.jid("mallory")
        ]
        return ContactsPhone(
            jid, "pw", component=self.server.component, port=self.server.port, accepts=accepts, receipts=receipts
        )

    async def phase(self, phase: Phase, *, seconds: float = 10) -> LinkState:
        """Wait until the line stands so."""
        async with asyncio.timeout(seconds):
            while not self.states or self.states[-1].phase is not phase:
                self._news.clear()
                await self._news.wait()
        return self.states[-1]

    def contact(self, session: Session) -> str:
        """That visitor's address."""
        conversation = self.desk.conversation(session)
        assert conversation is not None
        return f"{conversation.alias}@{self.server.component}"

    def _changed(self, state: LinkState) -> None:
        self.states.append(state)
        self._news.set()


Runner = Callable[[Callable[[Place], Awaitable[None]]], None]


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Runner:
    """Run a story in a place of its own."""
    number = next(_numbers)
    admins = []
    for name in ("Ada", "Bert"):
        server.add_account(f"{name.lower()}{number}", "pw")
        admins.append(Admin(name, Private(server.jid(f"{name.lower()}{number}"))))

    async def set_up(story: Callable[[Place], Awaitable[None]]) -> None:
        routes = {(HOST, 5347): server.component_port}
        async with desk_in(tmp_path, admins=admins) as desk, ChaoticSocks(routes) as socks:
            await story(Place(server, socks, desk))

    def runner(story: Callable[[Place], Awaitable[None]]) -> None:
        asyncio.run(asyncio.wait_for(set_up(story), 60))

    return runner


async def progress_of(desk: Desk, session: Session, wanted: Progress, *, seq: int = 1) -> None:
    """Wait until that message has come so far."""
    async with asyncio.timeout(10):
        while next(each for each in desk.history(session) if each.seq == seq).progress < wanted:
            await asyncio.sleep(0.02)


async def answers(desk: Desk, session: Session, count: int, *, seconds: float = 10, patience: float = 0.3) -> list[str]:
    """The admins' words, when there are so many; and not one more a moment later."""

    def said() -> list[str]:
        return [each.body for each in desk.history(session, limit=1000) if each.author is Author.ADMIN]

    async with asyncio.timeout(seconds):
        while len(said()) < count:
            await asyncio.sleep(0.02)
    await asyncio.sleep(patience)
    return said()


# ---- how visitors appear ---------------------------------------------------------------------------------------------


def test_two_visitors_are_two_contacts_with_nick_and_presence(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge() as bridge:
            one = await start(place.desk, "I am the first")
            two = await start(place.desk, "I am the second")
            first, second = place.contact(one), place.contact(two)
            for contact in (first, second):
                await ada.when(lambda contact=contact: ada.contacts.get(contact, ("",))[0] == "chat")  # type: ignore[misc]
                assert ada.contacts[contact][1].startswith("request · waiting since ")
                assert (contact, contact.partition("@")[0]) in ada.requests
                assert await ada.nickname(contact) == contact.partition("@")[0]
                await ada.when(lambda contact=contact: ada.roster.get(contact) == "both")  # type: ignore[misc]
            await ada.text("the first")
            await ada.text("the second")
            assert ada.lines(first) == ["I am the first"]
            assert ada.lines(second) == ["I am the second"]
            await ada.when(lambda: f"desk@{place.server.component}" in ada.contacts)
            assert bridge.state.form == "a contact for each visitor"
        asked = place.socks.asked[0]
        assert asked.by_name
        assert asked.host == HOST
        assert asked.credentials is not None
        assert place.states[-1].phase is Phase.OFF

    run(story)


def test_presence_follows_the_conversation(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.bridge():
                session = await start(place.desk, "hello")
                contact = place.contact(session)
                await ada.when(lambda: "waiting since" in ada.contacts.get(contact, ("", ""))[1])
                ada.chat(contact).say("yes?")
                await ada.when(lambda: ada.contacts[contact] == ("chat", "with Ada"))
                ada.say("!close")
                await ada.text("is closed")
                await ada.when(lambda: ada.contacts[contact][0] == "unavailable")
                requests = len(ada.requests)
                await place.desk.visitor_says(session, "one more thing", once=b"1", now=0)
                await ada.when(lambda: ada.contacts[contact][0] == "chat")
                await ada.when(lambda: len(ada.requests) == requests)  # it is a contact already
            await ada.when(lambda: ada.contacts[contact][0] == "unavailable")  # the desk is gone

    run(story)


def test_whoever_comes_later_sees_how_it_stands(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.bridge():
            open_one, closed = await start(place.desk, "open"), await start(place.desk, "closed")
            async with place.phone() as ada:
                await ada.text("closed")
                ada.chat(place.contact(closed)).say("!close")
                await ada.when(lambda: ada.roster.get(place.contact(open_one)) == "both")
                await ada.when(lambda: ada.contacts.get(place.contact(closed), ("",))[0] == "unavailable")
            async with place.phone() as ada:
                await ada.when(lambda: ada.contacts.get(place.contact(open_one), ("",))[0] == "chat")
                assert ada.contacts.get(place.contact(closed), ("unavailable",))[0] == "unavailable"

    run(story)


def test_who_is_there_is_known_from_presence_and_acceptance_is_not_needed_for_words(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.bridge(), place.phone(accepts=False) as ada:
            session = await start(place.desk, "hello")
            await ada.text("hello")
            ada.chat(place.contact(session)).say("hello yourself")
            assert await answers(place.desk, session, 1) == ["hello yourself"]
            assert "Ada: not to be seen from here" in place.desk.who()
            async with place.phone("Bert") as bert:
                await bert.when(lambda: "Bert: there" in place.desk.who())
            await seen(lambda: "Bert: not there" in place.desk.who())
        async with place.bridge():
            await seen(lambda: "Bert: not there" in place.desk.who())  # who let us see them, lets us still

    run(story)


async def seen(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.02)


def test_many_visitors_at_once(run: Runner) -> None:
    visitors = 60

    async def story(place: Place) -> None:
        sessions = [await start(place.desk, f"question {number}") for number in range(visitors)]
        async with place.phone() as ada, place.bridge():
            for number, session in enumerate(sessions):
                contact = place.contact(session)
                await ada.text(f"question {number}", seconds=20)
                await ada.when(lambda contact=contact: ada.contacts.get(contact, ("",))[0] == "chat", seconds=20)  # type: ignore[misc]
                ada.chat(contact).say(f"answer {number}")
            for number, session in enumerate(sessions):
                assert (await answers(place.desk, session, 1, patience=0))[0] == f"answer {number}"

    run(story)


def test_burning_takes_the_contact_off(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge():
            session = await start(place.desk, "forget me")
            contact = place.contact(session)
            ring = await ada.text("forget me")
            await ada.when(lambda: ada.roster.get(contact) == "both")
            await progress_of(place.desk, session, Progress.ON_DEVICE)
            await place.desk.visitor_burns(session, now=0)
            retraction = await ada.until(lambda got: got.retracts == ring.id)
            assert retraction.element.get("from") == ring.element.get("from")
            await ada.when(lambda: ada.contacts[contact][0] == "unavailable")
            await ada.when(
                lambda: {kind for each, kind in ada.ended if each == contact} == {"unsubscribe", "unsubscribed"}
            )
            await ada.when(lambda: ada.roster[contact] == "none")
            assert await ada.nickname(contact) == "service-unavailable"
            await ada.text("has burned this conversation")
            async with asyncio.timeout(5):
                while place.desk.store.backlog():
                    await asyncio.sleep(0.02)

    run(story)


def test_burned_while_the_line_was_down_is_taken_off_later(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.crashing_bridge():
                session = await start(place.desk, "forget me")
                contact = place.contact(session)
                ring = await ada.text("forget me")
                await progress_of(place.desk, session, Progress.HANDED_OVER)
                await ada.when(lambda: ada.roster.get(contact) == "both")
            await place.desk.visitor_burns(session, now=0)
            async with place.bridge():
                retraction = await ada.until(lambda got: got.retracts == ring.id)
                assert sender(retraction.element) == contact
                await ada.when(lambda: ada.roster[contact] == "none")

    run(story)


# ---- words -----------------------------------------------------------------------------------------------------------


def test_words_go_there_and_back_and_states_are_true(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge():
            one, two = await start(place.desk, "the first"), await start(place.desk, "the second")
            ring = await ada.text("the first")
            later = await ada.text("the second")
            for session in (one, two):
                await progress_of(place.desk, session, Progress.ON_DEVICE)
            ada.chat(place.contact(two)).look_at(later)
            await progress_of(place.desk, two, Progress.READ)
            assert place.desk.history(one)[0].progress is Progress.ON_DEVICE  # another chat, not looked at
            said = ada.chat(place.contact(one)).say("yes, we are here")
            assert await answers(place.desk, one, 1) == ["yes, we are here"]
            assert await answers(place.desk, two, 0) == []
            await ada.when(lambda: said in ada.receipts)
            ada.look_at(ring)
            await progress_of(place.desk, one, Progress.READ)
            assert place.desk.line_is_up

    run(story)


def test_characters_that_xml_forbids_do_not_break_the_line(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge():
            session = await start(place.desk, "a\uffffb\ufffec <&>]]>")
            await ada.text("abc")
            assert ada.lines(place.contact(session)) == ["abc <&>]]>"]
            assert len(place.socks.asked) == 1

    run(story)


def test_others_are_told_and_commands_are_answered_where_they_were_written(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.phone("Bert") as bert, place.bridge():
            session = await start(place.desk, "hello")
            contact = place.contact(session)
            await ada.text("hello")
            await bert.text("hello")
            ada.chat(contact).say("welcome")
            told = await bert.text("welcome")
            assert told.body == "⚙ Ada: welcome"
            assert sender(told.element) == contact
            ada.say("!note be kind to them")
            note = await bert.text("be kind")
            assert note.body == "⚙ note by Ada: be kind to them"
            done = await ada.text("The others have your note")
            assert sender(done.element) == contact
            bert.chat(contact).say("!help")
            assert sender((await bert.text("goes to the visitor")).element) == contact
            bert.say("@nobody-7 yes")
            assert sender((await bert.text("names another conversation")).element) == contact
            bert.chat(f"desk@{place.server.component}").say("!list")
            assert sender((await bert.text(contact.partition("@")[0] + ", Ada")).element).startswith("desk@")
            bert.say("is anybody there?")
            await bert.text("went to nobody")
            bert.say(f"@{contact.partition('@')[0]} from the desk's chat")
            assert await answers(place.desk, session, 2) == ["welcome", "from the desk's chat"]

    run(story)


def test_corrections_and_retractions_change_what_the_visitor_sees(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge():
            session = await start(place.desk, "hello")
            await ada.text("hello")
            said = ada.chat(place.contact(session)).say("helo")
            assert await answers(place.desk, session, 1) == ["helo"]
            with place.desk.listen(session) as page:
                ada.correct(said, "hello to you")
                while not isinstance(event := await page.next(10), Changed):
                    assert event is not None
                assert event.message.body == "hello to you"
                ada.retract(said)
                while not isinstance(event := await page.next(10), Changed):
                    assert event is not None
                assert event.message.state is MessageState.RETRACTED

    run(story)


def test_typing_and_reading_are_shown_both_ways(run: Runner) -> None:
    async def story(place: Place) -> None:
        desk = place.desk
        async with place.phone() as ada, place.bridge():
            one, two = await start(desk, "the first"), await start(desk, "the second")
            await ada.text("the second")
            await ada.when(lambda: ada.roster.get(place.contact(two)) == "both")
            with desk.listen(one) as page, desk.listen(two) as other:
                ada.chat(place.contact(one)).types()
                while await page.next(10) != Typing("Ada"):
                    pass
                while (event := await other.next(0.3)) is not None:
                    assert not isinstance(event, Typing)
            desk.visitor_types(two)
            await ada.when(lambda: ada.composed == [place.contact(two)])
            said = ada.say("an answer")
            await answers(desk, one, 1)
            await desk.visitor_reads(one, 2)
            await ada.when(lambda: ada.displayed == [said])

    run(story)


def test_what_is_encrypted_is_answered_and_not_passed_on(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge():
            session = await start(place.desk, "hello")
            await ada.text("hello")
            envelope = Element("{eu.siacs.conversations.axolotl}encrypted")
            SubElement(envelope, "{eu.siacs.conversations.axolotl}payload").text = "AAAA"
            ada.chat(place.contact(session)).say("I sent you an OMEMO encrypted message", envelope)
            answer = await ada.text(direct.ENCRYPTED)
            assert sender(answer.element) == place.contact(session)
            assert await answers(place.desk, session, 0) == []

    run(story)


def test_apps_of_other_makers_see_contacts_too(run: Runner) -> None:
    async def story(place: Place) -> None:
        ada, bert = (each.address.reveal().partition("@")[0] for each in place.desk.admins)
        go = GoSendXmpp(place.server, bert)
        async with Profanity(place.server, ada) as profanity, go.listening() as heard, place.bridge():
            session = await start(place.desk, "hello from the page")
            contact = place.contact(session)
            await profanity.allow(contact)
            await profanity.subscribe(contact)
            await heard.text("hello from the page")
            await profanity.chat(contact)
            await profanity.until("hello from the page")
            await progress_of(place.desk, session, Progress.ON_DEVICE)
            await profanity.until(f"{contact} [chat]")  # their presence, beside the name above the window
            await profanity.say(contact, "helo from Profanity")
            assert await answers(place.desk, session, 1) == ["helo from Profanity"]
            await profanity.correct("hello from Profanity")
            await seen(lambda: place.desk.history(session)[-1].body == "hello from Profanity")
            await go.say(contact, "and from Bert")
            assert await answers(place.desk, session, 2) == ["hello from Profanity", "and from Bert"]
            await profanity.until("⚙ Bert: and from Bert")

    run(story)


class BareContactsPhone(ContactsPhone, BarePhone):  # type: ignore[misc]  # each has a way to ask of its own
    """On a server without TLS."""


def test_it_runs_on_the_prosody_that_is_shipped(tmp_path: Path) -> None:
    async def story(own: OwnServer) -> None:
        account = ComponentAccount(Private(own.component), Private(own.secret), port=own.component_port)
        async with desk_in(tmp_path, admins=[Admin("Ada", Private(own.jid("ada")))]) as desk:
            bridge = ContactsBridge(desk, account, on_change=lambda state: None, pace=PACE)
            stop = asyncio.Event()
            running = asyncio.create_task(bridge.run(stop))
            phone = BareContactsPhone(own.jid("ada"), PASSWORDS["ada"], component=own.component, port=own.port)
            async with phone as ada:
                session = await start(desk, "hello")
                ring = await ada.text("hello")
                ada.chat(sender(ring.element)).say("welcome")
                assert await answers(desk, session, 1) == ["welcome"]
                await seen(lambda: ada.roster.get(sender(ring.element)) == "both")
            stop.set()
            await running

    with OwnServer(crypto.onion_address(crypto.new_onion_key()), PASSWORDS) as own:
        asyncio.run(asyncio.wait_for(story(own), 60))


# ---- who is let near -------------------------------------------------------------------------------------------------


def test_stranger_and_forged_sender_have_no_effect_and_get_no_answer(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.phone("Mallory") as mallory, place.bridge() as bridge:
            session = await start(place.desk, "hello")
            contact, ada_jid = place.contact(session), place.desk.admins[0].address.reveal()
            await ada.text("hello")
            mallory.chat(contact).say("come to my place")
            mallory.ask_to_see(contact)
            mallory.send_xml(f"<presence type='probe' to='{contact}'/>")
            for payload in ("<vCard xmlns='vcard-temp'/>", "<query xmlns='http://jabber.org/protocol/disco#info'/>"):
                assert await mallory.ask("get", contact, payload, seconds=0.5) == "no answer"
            ada.chat(contact).say("hello")
            assert await answers(place.desk, session, 1) == ["hello"]
            assert bridge.state.strangers_ignored == 1
            assert (mallory.inbox, mallory.receipts, mallory.contacts, mallory.ended) == ([], [], {}, [])
            with contextlib.suppress(OSError):
                mallory.send_xml(
                    f"<message from='{ada_jid}' to='{contact}' type='chat' id='f'><body>forged</body></message>"
                )
                await asyncio.sleep(0.5)
            assert await answers(place.desk, session, 1) == ["hello"]

    run(story)


def test_what_is_no_visitors_address_is_answered_as_such(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone("Bert") as bert, place.bridge():
            await place.phase(Phase.ONLINE)
            unknown = f"heron-4242@{place.server.component}"
            bert.ask_to_see(unknown)
            await bert.when(lambda: (unknown, "unsubscribed") in bert.ended)
            assert await bert.nickname(unknown) == "service-unavailable"
            bert.chat(unknown).say("hello?")
            await bert.text("There is no conversation")

    run(story)


def test_wrong_secret_and_unknown_name_are_said(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.bridge(place.account(secret="wrong")):
            state = await place.phase(Phase.REFUSED)
            assert "the component's name and secret" in (state.trouble or "")
            assert state.next_try_at is not None
        assert len(place.socks.asked) == 1
        assert b"wrong" not in place.socks.sent_up
        async with place.bridge(place.account(domain="other.localhost")):
            state = await place.phase(Phase.REFUSED)
            assert "component" in (state.trouble or "")

    run(story)


def test_another_connection_under_our_name_keeps_us_off_until_it_is_gone(run: Runner) -> None:
    """Prosody refuses the second; ejabberd would share out between them what admins write."""

    async def story(place: Place) -> None:
        ghost = await other_component(place.server)
        async with place.phone() as ada, place.bridge():
            await seen(lambda: len([each for each in place.states if each.phase is Phase.WAITING]) >= 4)
            for state in place.states[1:]:
                assert "connected as this component already" in (state.trouble or "")
            assert not place.desk.line_is_up
            session = await start(place.desk, "hello")
            ghost.close()
            await place.phase(Phase.ONLINE)
            await ada.text("hello")
            ada.chat(place.contact(session)).say("at last")
            assert await answers(place.desk, session, 1) == ["at last"]

    run(story)


async def other_component(server: Server) -> asyncio.StreamWriter:
    """XEP-0114 by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.component_port)
    spaces = "xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
    writer.write(f"<stream:stream {spaces} to='{server.component}'>".encode())
    await reader.readuntil(b"<stream:stream")
    found = re.search(r"\sid=['\"]([^'\"]+)", (await reader.readuntil(b">")).decode())
    assert found is not None
    digest = hashlib.sha1((found[1] + SECRET).encode(), usedforsecurity=False).hexdigest()
    writer.write(f"<handshake>{digest}</handshake>".encode())
    assert b"handshake" in await reader.readuntil(b">")
    return writer


def test_what_the_server_will_not_take_is_not_handed_over(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        admins = [Admin("Carl", Private(server.jid("has-no-account")))]
        async with (
            desk_in(tmp_path, admins=admins) as desk,
            ChaoticSocks({(HOST, 5347): server.component_port}) as socks,
        ):
            place = Place(server, socks, desk)
            async with place.bridge():
                session = await start(desk, "anyone?")
                await place.phase(Phase.ONLINE)
                await seen(lambda: not desk.due(now=time.time()))  # it has left
                await seen(lambda: bool(desk.due(now=time.time() + 61)))  # and is back
                await asyncio.sleep(1)
                assert desk.history(session)[0].progress is Progress.KEPT

    asyncio.run(asyncio.wait_for(story(), 30))


def test_the_program_runs_so_by_its_settings(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        jid = server.jid("ada-of-the-program")
        (tmp_path / FILE_NAME).write_text(
            f'[xmpp]\nform = "component"\ncomponent = "{server.component}"\nport = {server.component_port}\n'
            f'[[admin]]\njid = "{jid}"\nname = "Ada"\n'
        )
        secret = tmp_path / "secret"
        secret.write_text(SECRET)
        done = await asyncio.to_thread(run_command, "setup", "--data", str(tmp_path), "--password-file", str(secret))
        assert done.returncode == 0, done.stderr
        secret.unlink()
        with Appliance(tmp_path, "--no-tor", "--port", str(free_port())) as appliance:
            page = await asyncio.to_thread(appliance.wait_for_page)
            async with ContactsPhone(jid, "pw", component=server.component, port=server.port) as ada:
                visitor = Program(browser_at(page).app, host=page.partition("//")[2])
                await visitor.starts()
                await visitor.says("is anyone there?")
                ring = await ada.text("is anyone there?")
                ada.chat(sender(ring.element)).say("yes")
                async with asyncio.timeout(10):
                    while "yes" not in (await visitor.get("/chat/history")).answer.text:
                        await asyncio.sleep(0.05)
                assert appliance.status()["xmpp"]["form"] == "a contact for each visitor"
            assert await asyncio.to_thread(appliance.stop) == 0

    server.add_account("ada-of-the-program", "pw")
    asyncio.run(asyncio.wait_for(story(), 60))


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_server_restarts_and_nothing_is_lost(run: Runner, server: Server) -> None:
    async def story(place: Place) -> None:
        async with place.bridge():
            session = await start(place.desk, "before")
            await progress_of(place.desk, session, Progress.HANDED_OVER)
            await asyncio.to_thread(server.stop)
            await place.phase(Phase.WAITING)
            assert not place.desk.line_is_up
            await place.desk.visitor_says(session, "during", once=b"1", now=0)
            await asyncio.to_thread(server.start)
            await place.phase(Phase.ONLINE, seconds=20)
            await place.desk.visitor_says(session, "after", once=b"2", now=0)
            await progress_of(place.desk, session, Progress.HANDED_OVER, seq=3)
            async with place.phone() as ada:
                await ada.text("after")
                assert ada.lines(place.contact(session)) == ["before", "during", "after"]
                ada.chat(place.contact(session)).say("welcome back")
                assert await answers(place.desk, session, 1) == ["welcome back"]

    run(story)


def test_crash_between_sent_and_acknowledged_loses_nothing(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.crashing_bridge():
                await place.phase(Phase.ONLINE)
                place.socks.freeze(up=False, down=True)  # it arrives, and we never learn of it
                session = await start(place.desk, "arrived")
                await ada.text("arrived")
                place.socks.thaw()
                place.socks.freeze(up=True, down=True)  # this one does not
                await place.desk.visitor_says(session, "stuck", once=b"1", now=0)
                async with asyncio.timeout(5):
                    while len(place.desk.unacknowledged()) < 2:
                        await asyncio.sleep(0.02)
            place.socks.cut()
            place.socks.thaw()
            async with place.bridge():
                await progress_of(place.desk, session, Progress.HANDED_OVER, seq=2)
                await ada.text("stuck")
                assert ada.lines(place.contact(session)) == ["arrived", "stuck"]

    run(story)


def test_answer_during_our_absence_comes_back_to_the_admin(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.bridge():
                session = await start(place.desk, "hello")
                await ada.text("hello")
            lost = ada.chat(place.contact(session)).say("is anyone there?")
            await ada.when(lambda: lost in ada.bounced)
            async with place.bridge():
                await place.phase(Phase.ONLINE)
                ada.say("again")
                assert await answers(place.desk, session, 1) == ["again"]

    run(story)


def test_dead_link_is_noticed(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.bridge():
            await place.phase(Phase.ONLINE)
            place.socks.freeze()
            state = await place.phase(Phase.WAITING)
            assert "does not answer" in (state.trouble or "")
            place.socks.cut()
            place.socks.thaw()
            await place.phase(Phase.ONLINE)

    run(story)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_each_line_is_there_once_and_in_order(run: Runner, seed: int) -> None:
    """The phone shows a stanza id once, and says a line again until it has its receipt."""
    lines = 60

    async def story(place: Place) -> None:
        chance = random.Random(seed)
        async with place.phone() as ada, place.bridge():
            session = await start(place.desk, "o0")
            ada.chat(place.contact(session))
            for number in range(lines):
                if number:
                    await place.desk.visitor_says(session, f"o{number}", once=str(number).encode(), now=0)
                await insist(ada, f"i{number}", chance, place.socks)
            await ada.text(f"o{lines - 1}", seconds=20)
            said = [line for line in ada.lines(place.contact(session)) if line.startswith("o")]
            assert said == [f"o{number}" for number in range(lines)]
            assert await answers(place.desk, session, lines) == [f"i{number}" for number in range(lines)]

    run(story)


async def insist(ada: ContactsPhone, text: str, chance: random.Random, socks: ChaoticSocks) -> None:
    """Say it until it is confirmed, always under the same id, while the link is cut now and then."""
    id = f"line-{text}"
    for _ in range(50):
        ada.say_as(id, text)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() / 50)
            socks.cut()
        with contextlib.suppress(TimeoutError):
            await ada.when(lambda: id in ada.receipts, seconds=0.4)
            return
    raise AssertionError(f"{text} was never confirmed")
