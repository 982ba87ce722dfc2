"""The rooms of the tests' own phone, on both servers: what the desk's tests build upon must itself be true."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest
from slixmpp.exceptions import PresenceError

from tests.live.ejabberd import Ejabberd
from tests.live.phone import Phone
from tests.live.phonerooms import Invitation, Occupant
from tests.live.prosody import Prosody
from tests.live.xmppserver import XmppServer

Kind = type[Prosody] | type[Ejabberd]
SERVERS: tuple[Kind, ...] = (Prosody, Ejabberd)
ACCOUNTS = dict.fromkeys(("desk", "ada", "mallory"), "pw")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[XmppServer]:
    with request.param(accounts=ACCOUNTS) as server:
        yield server


@contextlib.asynccontextmanager
async def two(server: XmppServer, *, joins: bool = True) -> AsyncIterator[tuple[Phone, Phone]]:
    """One plays the desk, and the other, Ada's, has it as its contact."""
    desk, ada = server.jid("desk"), server.jid("ada")
    async with (
        Phone(desk, "pw", desk=ada, port=server.port, nick="heron-42", joins=False) as desk_phone,
        Phone(ada, "pw", desk=desk, port=server.port, joins=joins) as ada_phone,
    ):
        yield desk_phone, ada_phone


def run(story: Awaitable[None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await story

    asyncio.run(within())


def test_a_room_from_invitation_to_destruction(server: XmppServer) -> None:
    async def story() -> None:
        async with two(server) as (desk, ada):
            room = await desk.create_room("heron-42 · a question")
            desk.set_subject(room, "waiting since noon")
            early = desk.room_say(room, "before anybody came")
            await desk.room_text("before anybody")
            await desk.invite(room, server.jid("ada"), "a visitor writes")
            assert await ada.room_named("heron-42") == room
            assert await ada.room_named("since noon") == room
            await ada.when(lambda: len(ada.invitations) == 2)
            assert set(ada.invitations) == {
                Invitation("mediated", room, "a visitor writes"),
                Invitation("direct", room, "a visitor writes"),
            }
            assert ada.rooms == {room: "ada"}
            assert ada.occupants(room)["heron-42"] == Occupant("owner", "moderator", f"{server.jid('desk')}/phone")
            await desk.when(lambda: "ada" in desk.occupants(room))
            assert desk.occupants(room)["ada"] == Occupant("member", "participant", f"{server.jid('ada')}/phone")

            assert (await ada.room_text("before anybody", room)).id == early
            said = ada.room_say(room, "What is it abuot?")
            heard = await desk.room_text("abuot", room)
            assert (heard.nick, heard.id) == ("ada", said)
            assert heard.stanza_id
            assert (await ada.room_text("abuot")).stanza_id == heard.stanza_id

            ada.room_correct(room, said, "What is it about?")
            assert (await desk.room_text("about?")).replaces == said
            ada.room_retract(room, heard.stanza_id)
            await desk.room_until(lambda got: got.retracts == heard.stanza_id, room)
            ada.room_look_at(room, heard.stanza_id)
            await desk.when(lambda: desk.room_displayed == [(room, "ada", heard.stanza_id)])
            ada.room_types(room)
            ada.room_say(room, "At last.")
            await desk.room_text("At last.", room)
            await ada.room_text("At last.", room)
            assert (desk.room_composing[room], ada.room_composing[room]) == (1, 0)

            kept = await desk.room_archive(room)
            assert [got.body for got in kept if got.body and not got.retracts] == [
                "before anybody came",
                "What is it abuot?",
                "What is it about?",
                "At last.",
            ]
            assert kept[-1].stanza_id == ada.room_inbox[room][-1].stanza_id

            await desk.destroy_room(room, "it is over")
            await ada.when(lambda: ada.destroyed == [room])
            assert ada.rooms == {}

    run(story())


def test_it_comes_back_and_sees_nothing_twice(server: XmppServer) -> None:
    async def story() -> None:
        async with two(server) as (desk, ada):
            room = await desk.create_room("again")
            await desk.invite(room, server.jid("ada"), mediated=False)
            await ada.room_named("again")
            desk.room_say(room, "here")
            await ada.room_text("here")
            await ada.leave(room)
            await desk.when(lambda: "ada" not in desk.occupants(room))
            meanwhile = [f"meanwhile {number}" for number in range(30)]  # more than is shown at the door
            for line in meanwhile:
                desk.room_say(room, line)
            await desk.room_text(meanwhile[-1])
            await ada.join(room)
            desk.room_say(room, "now")
            await ada.room_text("now")
            await ada.leave(room)
            await ada.join(room)
            assert [got.body for got in ada.room_inbox[room] if got.body] == ["here", *meanwhile, "now"]
            await desk.destroy_room(room)

    run(story())


def test_only_members_get_in_and_only_the_contact_is_followed(server: XmppServer) -> None:
    async def story() -> None:
        async with (
            two(server, joins=False) as (desk, ada),
            Phone(server.jid("mallory"), "pw", desk=server.jid("ada"), port=server.port) as mallory,
        ):
            room = await desk.create_room("closed")
            await desk.invite(room, server.jid("ada"), direct=False)
            await ada.when(lambda: len(ada.invitations) == 1)
            assert ada.rooms == {}
            with pytest.raises(PresenceError) as refusal:
                await mallory.join(room)
            assert refusal.value.condition == "registration-required"
            bounced = mallory.room_say(room, "let me in")
            await mallory.when(lambda: bounced in mallory.errors)
            await desk.invite(room, server.jid("mallory"))
            await mallory.when(lambda: len(mallory.invitations) == 2)
            await asyncio.sleep(0.3)
            assert mallory.rooms == {}
            await mallory.join(room)
            await desk.destroy_room(room)

    run(story())


def test_the_contact_may_subscribe_and_is_seen(server: XmppServer) -> None:
    async def story() -> None:
        async with two(server) as (desk, ada):
            desk.subscribe()
            await ada.when(lambda: ada.desk_presence == "available")
            await desk.when(lambda: desk.desk_presence == "available")
            ada.send_xml("<presence><show>away</show><status>at lunch</status></presence>")
            await desk.when(lambda: (desk.desk_presence, desk.desk_status) == ("away", "at lunch"))
            said = ada.say("helo")
            ada.correct(said, "hello")
            assert (await desk.text("hello")).replaces == said
            ada.retract(said)
            await desk.until(lambda got: got.retracts == said)

    run(story())


@pytest.mark.parametrize("kind", SERVERS)
def test_a_component_may_sit_beside_the_rooms(kind: Kind) -> None:
    async def story(server: XmppServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.component_port)
        stream = (
            "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{}'>"
        )
        writer.write(stream.format(server.component).encode())
        assert b"id=" in await reader.readuntil(b"<stream:stream") + await reader.readuntil(b">")
        writer.close()
        await writer.wait_closed()

    with kind(accounts=ACCOUNTS, component_secret="secret") as with_component:
        run(story(with_component))


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("missing", ["rooms", "room_creation"])
def test_a_server_without_rooms_or_without_leave_to_make_them(kind: Kind, missing: str) -> None:
    async def story(server: XmppServer) -> None:
        async with two(server) as (desk, _):
            with pytest.raises(PresenceError) as refusal:
                await desk.create_room("no")
            assert refusal.value.condition == ("forbidden" if kind is Ejabberd else "not-allowed")

    options: dict[str, Any] = {missing: False}
    with kind(accounts=ACCOUNTS, **options) as server:
        run(story(server))


@pytest.mark.parametrize("kind", SERVERS)
def test_a_room_that_keeps_nothing(kind: Kind) -> None:
    async def story(server: XmppServer) -> None:
        async with two(server) as (desk, _):
            room = await desk.create_room("no archive")
            desk.room_say(room, "gone")
            assert (await desk.room_text("gone", room)).stanza_id == ""

    with kind(accounts=ACCOUNTS, room_archive=False) as server:
        run(story(server))
