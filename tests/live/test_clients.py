"""Other people's clients: Profanity under tmux and go-sendxmpp. First what the desk needs of them, then the desk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.desks import desk_in, start
from tests.live.chaosocks import ChaoticSocks
from tests.live.gosendxmpp import GoSendXmpp
from tests.live.phone import Phone
from tests.live.profanity import Profanity
from tests.live.prosody import Prosody
from tests.live.test_xmpp import HOST, Place, answers, progress_of
from tests.live.xmppserver import XmppServer
from veilsupport.model import Admin, Private, Progress

Runner = Callable[[Callable[[Place], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def server() -> Iterator[XmppServer]:
    """Without rooms: there the desk keeps to the direct form."""
    with Prosody(accounts={"ada": "pw"}, rooms=False) as server:
        yield server


@pytest.fixture(scope="module")
def roomy() -> Iterator[XmppServer]:
    with Prosody(accounts=dict.fromkeys(("desk", "ada", "bert"), "pw")) as server:
        yield server


@pytest.fixture
def run(server: XmppServer, tmp_path: Path) -> Runner:
    """Run a story with a desk whose bridge is up, on an account of its own."""
    name = f"desk-{tmp_path.name.replace('_', '-').lower()}"
    server.add_account(name, "pw")

    async def set_up(story: Callable[[Place], Awaitable[None]]) -> None:
        admins = [Admin("Ada", Private(server.jid("ada")))]
        async with desk_in(tmp_path, admins=admins) as desk, ChaoticSocks({(HOST, 5222): server.port}) as socks:
            place = Place(server, tmp_path, socks, desk, server.jid(name))
            async with place.bridge():
                await story(place)

    return lambda story: asyncio.run(asyncio.wait_for(set_up(story), 120))


# ---- the desk, direct form -------------------------------------------------------------------------------------------


def test_somebody_with_profanity_reads_the_visitor_and_answers(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with Profanity(place.server, "ada") as ada:
            await ada.allow(place.own)
            session = await start(place.desk, "is anyone there? ¿Привет?")
            await ada.until(f"<< chat message: {place.own}/veilsupport (win 2)")
            await ada.chat(place.own)
            [alias] = place.desk.open_aliases()
            await ada.until(f"[{alias}] is anyone there? ¿Привет?")
            await progress_of(place.desk, session, Progress.ON_DEVICE)
            await ada.say(place.own, f"@{alias} yes, we are here")
            assert await answers(place.desk, session, 1) == ["yes, we are here"]

    run(story)


def test_somebody_with_go_sendxmpp_reads_the_visitor_and_answers(run: Runner) -> None:
    async def story(place: Place) -> None:
        ada = GoSendXmpp(place.server, "ada")
        async with ada.listening() as heard:
            session = await start(place.desk, "is anyone there?")
            line = await heard.text("is anyone there?")
        [alias] = place.desk.open_aliases()
        assert line.endswith(f" {place.own}: [{alias}] is anyone there?")
        await ada.say(place.own, f"@{alias} yes\nin two lines")
        assert await answers(place.desk, session, 1) == ["yes\nin two lines"]

    run(story)


# ---- what they can do in rooms, with a phone in the place of the desk ------------------------------------------------


def test_profanity_is_invited_and_speaks_in_a_room(roomy: XmppServer) -> None:
    async def story() -> None:
        own = roomy.jid("desk")
        async with (
            Phone(own, "pw", desk=roomy.jid("ada"), port=roomy.port, nick="heron-42") as desk,
            Profanity(roomy, "ada") as ada,
        ):
            desk.subscribe()
            await ada.allow(own)
            await ada.subscribe(own)
            await desk.when(lambda: desk.desk_presence == "available")
            room = await desk.create_room("heron-42")
            desk.room_say(room, "early")
            await desk.invite(room, ada.jid, "a visitor writes")
            assert await ada.invited() == room
            await ada.join(room)
            await ada.until("heron-42: early")
            said = desk.room_say(room, "are you tehre?")
            await ada.until("heron-42: are you tehre?")
            desk.room_correct(room, said, "are you there?")
            await ada.until("heron-42: are you there?")
            await ada.room_say(room, "yse")
            heard = await desk.room_text("yse")
            assert heard.nick == "ada"
            await ada.correct("yes")
            assert (await desk.room_text("yes")).replaces == heard.id
            await GoSendXmpp(roomy, "ada", direct_tls=True).room_say(room, "and from the shell", nick="ada")
            assert (await desk.room_text("from the shell")).nick == "ada"
            await desk.destroy_room(room, "over")
            await ada.show("console")
            await ada.until(f"Room destroyed: {room}, reason: over")

    asyncio.run(asyncio.wait_for(story(), 120))


def test_profanity_speaks_omemo(roomy: XmppServer) -> None:
    async def story() -> None:
        async with Profanity(roomy, "ada") as ada, Profanity(roomy, "bert") as bert:
            await ada.subscribe(bert.jid)
            await bert.allow(ada.jid)
            await bert.subscribe(ada.jid)
            await ada.allow(bert.jid)
            for one in (ada, bert):
                await one.omemo_generate()
            own = {one: await one.omemo_fingerprints() for one in (ada, bert)}
            for one, other in ((ada, bert), (bert, ada)):
                await one.omemo_start(other.jid)
                assert await one.omemo_fingerprints(other.jid) == own[other]
                await one.omemo_trust(other.jid, own[other][0])
            await ada.say(bert.jid, "a secret")
            await bert.until("~ ada@localhost/profanity: a secret")
            await bert.say(ada.jid, "another")
            await ada.until("~ bert@localhost/profanity: another")

    asyncio.run(asyncio.wait_for(story(), 120))
