"""The XMPP edge in its direct form: real servers, a real desk and store, and a phone that is none of our code."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.desks import desk_in, start
from tests.live.chaosocks import ChaoticSocks
from tests.live.ejabberd import Ejabberd
from tests.live.phone import Phone
from tests.live.prosody import Prosody
from tests.live.xmppserver import XmppServer
from veilsupport.desk import Desk
from veilsupport.model import Admin, Author, Private, Progress, Session, Typing
from veilsupport.xmpp import Account, Bridge, LinkState, Pace, Phase, Tls, Trust, direct, omemo_terms

HOST = "desk.onion"
PACE = Pace(
    dial=5, negotiate=3, set_up=10, ping=1, pong=1, first_pause=0.1, longest_pause=0.5, refused_pause=60, steady=0
)


Kind = type[Prosody] | type[Ejabberd]
SERVERS: tuple[Kind, ...] = (Prosody, Ejabberd)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[XmppServer]:
    with request.param(accounts=dict.fromkeys(("ada", "bert", "mallory"), "pw"), rooms=False) as server:
        yield server


class Place:
    """One test's desk with an account of its own, its SOCKS port, and its phone."""

    def __init__(self, server: XmppServer, directory: Path, socks: ChaoticSocks, desk: Desk, own: str) -> None:
        self.server = server
        self.socks = socks
        self.desk = desk
        self.own = own
        self.states: list[LinkState] = []
        self._news = asyncio.Event()

    def account(
        self,
        *,
        tls: Tls = Tls.STARTTLS,
        port: int = 5222,
        trust: Trust = Trust.PIN,
        fingerprint: str = "",
        password: str = "pw",
    ) -> Account:
        return Account(
            Private(self.own),
            Private(password),
            HOST,
            port,
            tls=tls,
            trust=trust,
            fingerprint=(fingerprint or self.server.fingerprint) if trust is Trust.PIN else "",
            proxy=self.socks.proxy,
        )

    @contextlib.asynccontextmanager
    async def bridge(self, account: Account | None = None) -> AsyncIterator[Bridge]:
        """Running for the length of the block, then stopped as at the program's end."""
        bridge = Bridge(self.desk, account or self.account(), on_change=self._changed, pace=PACE)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(bridge.run(stop))
            yield bridge
            stop.set()
            async with asyncio.timeout(3):
                await task

    @contextlib.asynccontextmanager
    async def crashing_bridge(self) -> AsyncIterator[Bridge]:
        """Running for the length of the block, then gone without a word."""
        bridge = Bridge(self.desk, self.account(), on_change=self._changed, pace=PACE)
        task = asyncio.create_task(bridge.run(asyncio.Event()))
        yield bridge
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def phone(self, name: str = "ada", *, receipts: bool = True) -> Phone:
        return Phone(self.server.jid(name), "pw", desk=self.own, port=self.server.port, receipts=receipts)

    async def phase(self, phase: Phase, *, seconds: float = 10) -> LinkState:
        """Wait until the line stands so."""
        async with asyncio.timeout(seconds):
            while not self.states or self.states[-1].phase is not phase:
                self._news.clear()
                await self._news.wait()
        return self.states[-1]

    def _changed(self, state: LinkState) -> None:
        self.states.append(state)
        self._news.set()


@pytest.fixture
def run(server: XmppServer, tmp_path: Path) -> Callable[[Callable[[Place], Awaitable[None]]], None]:
    """Run a story in a place of its own."""
    name = f"desk-{tmp_path.name.replace('_', '-').lower()}"
    server.add_account(name, "pw")
    admins = [Admin("Ada", Private(server.jid("ada"))), Admin("Bert", Private(server.jid("bert")))]

    async def set_up(story: Callable[[Place], Awaitable[None]]) -> None:
        routes = {(HOST, 5222): server.port, (HOST, 5223): server.tls_port}
        async with desk_in(tmp_path, admins=admins) as desk, ChaoticSocks(routes) as socks:
            await story(Place(server, tmp_path, socks, desk, server.jid(name)))

    def runner(story: Callable[[Place], Awaitable[None]]) -> None:
        asyncio.run(asyncio.wait_for(set_up(story), 60))

    return runner


Runner = Callable[[Callable[[Place], Awaitable[None]]], None]


async def progress_of(desk: Desk, session: Session, wanted: Progress, *, seq: int = 1) -> None:
    """Wait until that message has come so far."""
    async with asyncio.timeout(10):
        while next(each for each in desk.history(session) if each.seq == seq).progress < wanted:
            await asyncio.sleep(0.02)


async def answers(desk: Desk, session: Session, count: int, *, seconds: float = 10) -> list[str]:
    """The admins' words, when there are so many; and not one more a moment later."""

    def said() -> list[str]:
        return [each.body for each in desk.history(session) if each.author is Author.ADMIN]

    async with asyncio.timeout(seconds):
        while len(said()) < count:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    return said()


def rung(phone: Phone) -> list[str]:
    """The visitors' words on that phone, without what the desk itself said."""
    return [got.body.split("] ")[1] for got in phone.inbox if got.body.startswith("[")]


# ---- the main job ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tls", "port"), [(Tls.STARTTLS, 5222), (Tls.DIRECT, 5223)])
def test_words_go_there_and_back(run: Runner, tls: Tls, port: int) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge(place.account(tls=tls, port=port)):
            session = await start(place.desk, "is anyone there?")
            ring = await ada.text("is anyone there?")
            [alias] = place.desk.open_aliases()
            assert ring.body == f"[{alias}] is anyone there?"
            await progress_of(place.desk, session, Progress.ON_DEVICE)
            ada.look_at(ring)
            await progress_of(place.desk, session, Progress.READ)
            said = ada.say("yes, we are here")
            assert await answers(place.desk, session, 1) == ["yes, we are here"]
            await ada.text(f"→ {alias}")
            assert said in ada.receipts
            assert place.desk.line_is_up
        asked = place.socks.asked[0]
        assert asked.by_name
        assert asked.host == HOST
        assert asked.credentials is not None
        assert place.states[-1].phase is Phase.OFF

    run(story)


def test_onion_server_may_have_any_certificate_or_none(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.bridge(place.account(trust=Trust.ANY)):
            await place.phase(Phase.ONLINE)

    run(story)


def test_what_was_written_while_nobody_answered_rings_later(run: Runner) -> None:
    async def story(place: Place) -> None:
        session = await start(place.desk, "early")
        async with place.bridge():
            await progress_of(place.desk, session, Progress.HANDED_OVER)
            async with place.phone() as ada:
                await ada.text("early")

    run(story)


def test_characters_that_xml_forbids_do_not_break_the_line(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge():
            await start(place.desk, "a\uffffb\ufffec <&>]]>")
            ring = await ada.text("abc")
            assert ring.body.endswith("abc <&>]]>")
            assert len(place.socks.asked) == 1

    run(story)


def test_burned_words_are_retracted(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge():
            session = await start(place.desk, "forget me")
            ring = await ada.text("forget me")
            await progress_of(place.desk, session, Progress.HANDED_OVER)
            await place.desk.visitor_burns(session, now=0)
            got = await ada.until(lambda got: got.retracts == ring.id)
            assert got.body == ""

    run(story)


# ---- who is let near -------------------------------------------------------------------------------------------------


def test_stranger_is_ignored_and_counted(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.phone("mallory") as mallory, place.bridge() as bridge:
            session = await start(place.desk)
            await ada.text("is anyone there?")
            [alias] = place.desk.open_aliases()
            mallory.say(f"@{alias} come to my place")
            mallory.subscribe()
            mallory.send_xml(
                f"<iq type='get' id='q' to='{place.own}/veilsupport'>"
                "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
            )
            ada.say("hello")
            assert await answers(place.desk, session, 1) == ["hello"]
            assert bridge.state.strangers_ignored == 1
            assert mallory.inbox == []
            assert mallory.receipts == []

    run(story)


def test_forged_carbons_and_stanza_ids_have_no_effect(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.phone("mallory") as mallory, place.bridge():
            session = await start(place.desk)
            await ada.text("is anyone there?")
            [alias] = place.desk.open_aliases()
            carbon = Element("{urn:xmpp:carbons:2}received")
            forwarded = SubElement(carbon, "{urn:xmpp:forward:0}forwarded")
            attributes = {"from": f"{place.server.jid('bert')}/x", "to": place.own, "type": "chat"}
            inside = SubElement(forwarded, "{jabber:client}message", attributes)
            SubElement(inside, "{jabber:client}body").text = f"@{alias} forged"
            mallory.say("", carbon)
            ada.say("", carbon)
            forged = Element("{urn:xmpp:sid:0}stanza-id", by=place.own, id="same")
            ada.say("one", forged)
            ada.say("two", forged)
            assert await answers(place.desk, session, 2) == ["one", "two"]

    run(story)


def test_wrong_certificate_gets_no_password(run: Runner) -> None:
    async def story(place: Place) -> None:
        for tls, port in ((Tls.STARTTLS, 5222), (Tls.DIRECT, 5223)):
            async with place.bridge(place.account(tls=tls, port=port, fingerprint="ab" * 32)):
                state = await place.phase(Phase.REFUSED)
                assert "fingerprint" in (state.trouble or "")
                assert state.next_try_at is not None
        async with place.bridge(place.account(trust=Trust.VERIFY)):
            state = await place.phase(Phase.REFUSED)
            assert "not trusted" in (state.trouble or "")
        assert not place.server.has_signed_in(place.own)
        async with place.bridge(), asyncio.timeout(10):
            while not place.server.has_signed_in(place.own):
                await asyncio.sleep(0.1)

    run(story)


def test_wrong_password_is_said_and_not_tried_in_the_clear(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.bridge(place.account(password="wrong")):
            state = await place.phase(Phase.REFUSED)
            assert "name and password" in (state.trouble or "")
        assert len(place.socks.asked) == 1

    run(story)


@pytest.mark.parametrize(("tls", "port"), [(Tls.STARTTLS, 5223), (Tls.DIRECT, 5222), (Tls.NONE, 5222)])
def test_wrong_tls_mode_ends_in_a_word_and_not_in_a_hang(run: Runner, tls: Tls, port: int) -> None:
    async def story(place: Place) -> None:
        async with place.bridge(place.account(tls=tls, port=port)):
            async with asyncio.timeout(15):
                while not any(state.phase in (Phase.WAITING, Phase.REFUSED) for state in place.states):
                    await asyncio.sleep(0.05)
            assert not any(state.phase is Phase.ONLINE for state in place.states)

    run(story)


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_server_restarts_and_nothing_is_lost_or_doubled(run: Runner, server: XmppServer) -> None:
    async def story(place: Place) -> None:
        async with place.bridge():
            session = await start(place.desk, "before")
            await progress_of(place.desk, session, Progress.HANDED_OVER)
            await asyncio.to_thread(server.stop)
            await place.phase(Phase.WAITING)
            assert not place.desk.line_is_up
            await place.desk.visitor_says(session, "during", once=b"1", now=0)
            await asyncio.to_thread(server.start)
            await place.phase(Phase.ONLINE)
            await place.desk.visitor_says(session, "after", once=b"2", now=0)
            await progress_of(place.desk, session, Progress.HANDED_OVER, seq=3)
            async with place.phone() as ada:
                await ada.text("after")
                assert rung(ada) == ["before", "during", "after"]

    run(story)


def test_answer_during_our_absence_arrives_once(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.bridge():
                session = await start(place.desk)
                await ada.text("is anyone there?")
            [alias] = place.desk.open_aliases()
            ada.say(f"@{alias} yes")  # after a restart nothing goes without saying
            ada.say("still yes")
            assert await answers(place.desk, session, 0) == []
            async with place.bridge():
                assert await answers(place.desk, session, 2) == ["yes", "still yes"]
            async with place.bridge():
                await place.phase(Phase.ONLINE)
                assert await answers(place.desk, session, 2) == ["yes", "still yes"]

    run(story)


def test_crash_between_sent_and_acknowledged_neither_loses_nor_doubles(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.crashing_bridge():
                session = await start(place.desk, "early")  # whatever must be asked of the server is asked for it
                await progress_of(place.desk, session, Progress.HANDED_OVER)
                place.socks.freeze(up=False, down=True)  # it arrives, and we never learn of it
                await place.desk.visitor_says(session, "arrived", once=b"0", now=0)
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
                await progress_of(place.desk, session, Progress.HANDED_OVER, seq=3)
                await asyncio.sleep(0.5)
                assert rung(ada) == ["early", "arrived", "stuck"]

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


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        (Prosody, ("mam",)),
        (Prosody, ("smacks",)),
        (Prosody, ("mam", "smacks", "carbons")),
        (Ejabberd, ("mam", "smacks", "carbons")),
    ],
)
def test_poorer_servers_carry_words_too(tmp_path: Path, kind: Kind, without: tuple[str, ...]) -> None:
    async def story(server: XmppServer) -> None:
        async with (
            desk_in(tmp_path, admins=[Admin("Ada", Private(server.jid("ada")))]) as desk,
            ChaoticSocks({(HOST, 5222): server.port}) as socks,
        ):
            place = Place(server, tmp_path, socks, desk, server.jid("desk"))
            async with place.phone() as ada, place.bridge() as bridge:
                session = await start(desk, "hello")
                await ada.text("hello")
                await progress_of(desk, session, Progress.ON_DEVICE)
                socks.cut()
                await place.phase(Phase.WAITING)
                await place.phase(Phase.ONLINE)
                ada.say("welcome")
                assert await answers(desk, session, 1) == ["welcome"]
                assert bridge.state.keeps_archive is ("mam" not in without)

    with kind(accounts={"desk": "pw", "ada": "pw"}, without=without, rooms=False) as server:
        asyncio.run(asyncio.wait_for(story(server), 30))


# ---- whom an answer is for -------------------------------------------------------------------------------------------


def test_reply_quotation_address_and_doubt(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.phone("bert") as bert, place.bridge():
            first = await start(place.desk, "I am the first")
            second = await start(place.desk, "I am the second\nwith two lines")
            ring1, ring2 = await ada.text("the first"), await ada.text("the second")
            alias1, alias2 = ring1.body[1:].split("]")[0], ring2.body[1:].split("]")[0]
            ada.reply(ring1, "by reply")
            assert await answers(place.desk, first, 1) == ["by reply"]
            ada.quote(ring2, "by quotation")
            assert await answers(place.desk, second, 1) == ["by quotation"]
            ada.say(f"@{alias1} by name")
            assert await answers(place.desk, first, 2) == ["by reply", "by name"]
            ada.say("by habit")
            assert await answers(place.desk, first, 3) == ["by reply", "by name", "by habit"]
            await ada.text(f"→ {alias1}")
            bert.say("whom do I mean?")
            question = await bert.text("not clear who")
            assert f"@{alias1}" in question.body
            assert f"@{alias2}" in question.body
            bert.say(f"@{alias2}")
            assert await answers(place.desk, second, 2) == ["by quotation", "whom do I mean?"]
            told = await ada.text("whom do I mean?")
            assert told.body == f"[{alias2}] Bert: whom do I mean?"
            assert len(await answers(place.desk, first, 3)) == 3

    run(story)


def test_encrypted_text_corrections_and_commands(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.bridge():
            session = await start(place.desk)
            await ada.text("is anyone there?")
            envelope = Element("{eu.siacs.conversations.axolotl}encrypted")
            SubElement(envelope, "{eu.siacs.conversations.axolotl}payload").text = "AAAA"
            ada.say("I sent you an OMEMO encrypted message", envelope)
            await ada.text(omemo_terms.MALFORMED)
            ada.say("This message is encrypted", Element("{jabber:x:encrypted}x"))
            await ada.text(direct.ENCRYPTED)
            said = ada.say("helo")
            assert await answers(place.desk, session, 1) == ["helo"]
            ada.correct(said, "hello")
            async with asyncio.timeout(10):
                while await answers(place.desk, session, 1) != ["hello"]:
                    pass
            ada.say("aesgcm://files.example/x.jpg#00ff")
            await ada.text(direct.FILE)
            ada.say("!lst")
            await ada.text("Did you mean !list?")
            ada.say("!list")
            [alias] = place.desk.open_aliases()
            await ada.until(lambda got: alias in got.body and "Ada" in got.body)  # who has it
            assert await answers(place.desk, session, 1) == ["hello"]

    run(story)


def test_typing_goes_both_ways_where_it_is_plain_who_is_meant(run: Runner) -> None:
    async def story(place: Place) -> None:
        desk = place.desk
        async with place.phone() as ada, place.bridge():
            one = await start(desk, "the first")
            await ada.text("the first")
            with desk.listen(one) as page:
                ada.types()
                while await page.next(10) != Typing("Ada"):
                    pass
            desk.visitor_types(one)
            async with asyncio.timeout(10):
                while not ada.composing:
                    await asyncio.sleep(0.02)
            two = await start(desk, "the second")
            await ada.text("the second")
            desk.visitor_types(two)  # it could be either of the two: nothing is shown
            with desk.listen(two) as page:
                ada.types()
                await start(desk, "the third")
                await ada.text("the third")
                assert not isinstance(await page.next(0.3), Typing)
            assert ada.composing == 1

    run(story)
