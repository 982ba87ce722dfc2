"""The room form's rules where things go wrong: broken lines, lost rooms, poor servers, outsiders, and crowds."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from slixmpp.exceptions import IqError, PresenceError

from tests.desks import FREELY, NOON, start
from tests.live.ejabberd import Ejabberd
from tests.live.prosody import Prosody
from tests.live.roomdesk import SERVERS, Stage, Story, claimed_speaker, tell, until
from tests.live.xmppserver import XmppServer
from veilsupport.desk.answers import NOT_YOURS
from veilsupport.model import Progress, Role, Standing
from veilsupport.xmpp import Bridge, Phase, tending

Kind = type[Prosody] | type[Ejabberd]
Runner = Callable[[Story], None]
both = pytest.mark.parametrize("kind", SERVERS, ids=["prosody", "ejabberd"])


@pytest.fixture(scope="module", params=SERVERS, ids=["prosody", "ejabberd"])
def server(request: pytest.FixtureRequest) -> Iterator[XmppServer]:
    with request.param(accounts={}) as server:
        yield server


@pytest.fixture
def run(server: XmppServer, tmp_path: Path) -> Runner:
    return lambda story: tell(story, server, tmp_path)


# ---- the line breaks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resumed", [True, False], ids=["resumed", "fresh"])
def test_what_was_said_meanwhile_comes_once_and_in_order(run: Runner, resumed: bool) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge() as bridge:
            sessions = [await start(desk, f"hello {number}") for number in range(3)]
            rooms = [(await ada.room_text(f"hello {number}")).room for number in range(3)]
            ada.room_say(rooms[0], "before")
            await stage.answered(sessions[0], "before")
            if not resumed:
                bridge._line.plugin["xep_0198"].sm_id = "unknown"
            stage.socks.refuse = True
            stage.socks.cut()
            await stage.phase(Phase.WAITING)
            for number in range(3):
                for line in ("one", "two", "three"):
                    ada.room_say(rooms[number], f"{line} {number}")
                    await stage.says(sessions[number], f"{line} back {number}")
            await ada.room_text("three 2", rooms[2])
            stage.socks.refuse = False
            for number in range(3):
                before = ["before"] if number == 0 else []
                await stage.answered(
                    sessions[number], *before, *(f"{line} {number}" for line in ("one", "two", "three"))
                )
                await ada.room_text(f"three back {number}", rooms[number])
            await until(lambda: not desk.unacknowledged())
            for number in range(3):
                ada.room_say(rooms[number], "fence")
                await ada.room_text("fence", rooms[number])
                said = [body for body in ada.bodies(rooms[number]) if "back" in body]
                assert said == [f"{line} back {number}" for line in ("one", "two", "three")]
                await until(lambda: stage.answers(sessions[number])[-1] == "fence")  # noqa: B023
                assert len(stage.answers(sessions[number])) == (5 if number == 0 else 4)

    run(story)


def test_after_a_fresh_session_everybody_in_the_room_is_known(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("bert") as bert,
            stage.bridge() as bridge,
        ):
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            await bert.room_text("hello", room)
            for number in range(5):
                await stage.cut(bridge, resumed=False)
                ada.room_say(room, f"ada {number}")
                await until(lambda: f"ada {number}" in stage.answers(session))  # noqa: B023
                bert.room_say(room, f"bert {number}")
                await until(lambda: f"bert {number}" in stage.answers(session))  # noqa: B023
            assert stage.answers(session) == [f"{who} {number}" for number in range(5) for who in ("ada", "bert")]
            assert len([each for each in ada.invitations if each.room == room]) == 2
            assert ada.nicks(room) == {stage.alias(session), "ada", "bert"}
            place = bridge._rooms._places.at(room)
            assert place
            await until(lambda: place.is_ready and not place.looks_stale)
            bert.room_say(room, "fence")
            await ada.room_text("fence", room)
            subjects = [got.subject for got in ada.room_inbox[room] if got.subject]
            assert len(subjects) == len(set(subjects))  # the same one is not set again

    run(story)


def test_what_was_said_while_the_program_was_off_comes_once(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.phone("ada") as ada:
            async with stage.open_desk([stage.admin("Ada")]) as desk:
                async with stage.crashing_bridge():
                    session = await start(desk, "hello")
                    room = (await ada.room_text("hello")).room
                    await until(lambda: stage.progress(session) == Progress.HANDED_OVER)
                said = ada.room_say(room, "one")
                ada.room_correct(room, said, "the first")
                ada.room_say(room, "two")
                ada.room_say(room, "!note not for them")
                last = await ada.room_text("not for them", room)
                ada.room_look_at(room, last.stanza_id)
            async with stage.open_desk([stage.admin("Ada")]), stage.bridge():
                await stage.answered(session, "the first", "two")
                ada.room_say(room, "three")
                await stage.answered(session, "the first", "two", "three")

    run(story)


def test_a_crash_while_a_room_is_made_loses_neither_words_nor_invitations(run: Runner) -> None:
    """After each of the stanzas that make a room nothing leaves any more, and the program dies."""

    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada:
            for count in range(1, 9):
                async with stage.crashing_bridge() as bridge:
                    await until(lambda: desk.line_is_up and not bridge._rooms.is_bringing_up())
                    spent = _let_out(bridge, count)
                    session = await start(desk, f"hello {count}")
                    async with asyncio.timeout(10):
                        await spent.wait()
                async with stage.bridge():
                    line = await ada.room_text(f"hello {count}", seconds=20)
                    wanted = {"muc_membersonly", "muc_nonanonymous", "muc_hidden", "muc_persistent", "urn:xmpp:mam:2"}
                    assert wanted <= await ada.features(line.room)
                    ada.room_say(line.room, "hi")
                    await stage.answered(session, "hi")
                    await until(lambda: not desk.unacknowledged())
                    assert ada.bodies(line.room).count(f"hello {count}") == 1

    run(story)


def _let_out(bridge: Bridge, count: int) -> asyncio.Event:
    """So many more stanzas leave, and then none; it is set when one was kept."""
    kept = asyncio.Event()
    left = itertools.count(count, -1)

    def gate(stanza: Any) -> Any:
        if next(left) > 0:
            return stanza
        kept.set()
        return None

    bridge._line.add_filter("out", gate)
    return kept


def test_a_room_that_somebody_destroyed_is_made_again(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with (
            stage.open_desk([stage.admin("Ada")]) as desk,
            stage.phone("ada") as ada,
            stage.phone("desk", joins=False, resource="operator") as operator,
            stage.bridge(),
        ):
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            staff = stage.staff_room()
            await until(lambda: stage.progress(session) == Progress.HANDED_OVER)
            for destroyed in (room, staff):
                await operator.destroy_room(destroyed)
                await ada.when(lambda: destroyed in ada.destroyed)  # noqa: B023
            await stage.says(session, "still there?")
            again = (await ada.room_text("still there?", seconds=20)).room
            ada.room_say(again, "of course")
            await stage.answered(session, "of course")
            assert (again == room) is isinstance(stage.server, Ejabberd)  # Prosody keeps a tombstone
            assert ada.bodies(again).count("still there?") == 1
            await ada.when(lambda: stage.staff_room() in ada.rooms)
            ada.room_say(stage.staff_room(), "!list")
            await ada.room_text(f"{stage.alias(session)}, Ada: quiet", stage.staff_room())

    run(story)


def test_thrown_out_of_a_room_it_comes_back(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with (
            stage.open_desk([stage.admin("Ada")]) as desk,
            stage.phone("ada") as ada,
            stage.phone("desk", joins=False, resource="operator") as operator,
            stage.bridge(),
        ):
            session = await start(desk, "hello")
            room, alias = (await ada.room_text("hello")).room, stage.alias(session)
            await until(lambda: stage.progress(session) == Progress.HANDED_OVER)
            await operator.set_affiliation(room, stage.jid("ada"), "owner")
            await ada.set_affiliation(room, stage.own, "admin")  # an owner cannot be kicked
            await ada.kick(room, alias)
            ada.room_say(room, "while it was out")
            await ada.when(lambda: alias in ada.nicks(room))
            await stage.answered(session, "while it was out")
            await stage.says(session, "here I am")
            await ada.room_text("here I am", room)
            await ada.set_affiliation(room, stage.own, "outcast")  # for good: so there will be another room
            await stage.says(session, "and here")
            other = (await ada.room_text("and here", seconds=20)).room
            assert other != room
            ada.room_say(other, "welcome")
            await stage.answered(session, "while it was out", "welcome")
            assert (await ada.features(other)) >= {"muc_membersonly"}

    run(story)


def test_an_admin_may_have_taken_the_visitors_name(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello")
            room, alias = (await ada.room_text("hello")).room, stage.alias(session)
            ada.room_say(room, "!close")
            await ada.when(lambda: alias not in ada.nicks(room))
            await ada.leave(room)
            await ada.join(room, nick=alias)
            ada.room_say(room, "I am the admin")
            await stage.says(session, "I am back")
            line = await ada.room_text("I am back", room)
            assert line.nick.startswith(f"{alias}-")
            ada.room_say(room, "it is still me")
            await stage.answered(session, "I am the admin", "it is still me")
            await until(lambda: not desk.unacknowledged())

    run(story)


def test_it_goes_on_after_a_restart_of_the_server(run: Runner, server: XmppServer) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.bridge():
            async with stage.phone("ada") as ada:
                session = await start(desk, "hello")
                room = (await ada.room_text("hello")).room
                ada.room_say(room, "hi")
                await stage.answered(session, "hi")
                await until(lambda: not desk.unacknowledged())
            await asyncio.to_thread(server.stop)
            await stage.phase(Phase.WAITING)
            await stage.says(session, "during")
            await asyncio.to_thread(server.start)
            await stage.phase(Phase.ONLINE)
            async with stage.phone("ada", joins=False) as ada:
                await ada.join(room)
                await ada.room_text("during", room)
                ada.room_say(room, "welcome back")
                await stage.answered(session, "hi", "welcome back")
                assert [body for body in ada.bodies(room) if body == "during"] == ["during"]

    run(story)


# ---- who is in -------------------------------------------------------------------------------------------------------


def test_who_is_removed_is_out_of_every_room_and_unheard(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        ada_, bert_ = stage.admin("Ada"), stage.admin("Bert")
        async with stage.phone("ada") as ada, stage.phone("bert") as bert:
            async with stage.open_desk([ada_, bert_]) as desk, stage.bridge():
                session, closed = await start(desk, "hello"), await start(desk, "closed one")
                room, old = (await bert.room_text("hello")).room, (await bert.room_text("closed one")).room
                await ada.room_text("closed one", old)
                bert.room_say(old, "!close")
                await bert.when(lambda: stage.alias(closed) not in bert.nicks(old))
                staff = stage.staff_room()
                await bert.when(lambda: {room, old, staff} <= set(bert.rooms))
            bert.room_say(room, "while nobody looked")  # an admin's word when it was said, and none when it is read
            async with stage.open_desk([ada_]) as desk, stage.bridge():
                await bert.when(lambda: not {room, old, staff} & set(bert.rooms))
                for door in (room, old, staff):
                    with pytest.raises(PresenceError):
                        await bert.join(door)
                bert.room_say(room, "let me in")
                bert.say(f"@{stage.alias(session)} by the chat")
                ada.room_say(room, "from Ada")
                await stage.answered(session, "from Ada")
                await stage.says(closed, "I am back")
                await ada.room_text("I am back", old)
                assert "bert" not in ada.nicks(old)
                assert not any("I am back" in body for body in bert.bodies(old))

    run(story)


def test_who_is_added_is_called_into_the_open_rooms(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        ada_, bert_ = stage.admin("Ada"), stage.admin("Bert")
        async with stage.phone("ada") as ada, stage.phone("bert") as bert:
            async with stage.open_desk([ada_]) as desk, stage.bridge():
                session = await start(desk, "hello")
                room = (await ada.room_text("hello")).room
                await until(lambda: stage.progress(session) == Progress.HANDED_OVER)
            async with stage.open_desk([ada_, bert_]), stage.bridge():
                await bert.when(lambda: {room, stage.staff_room()} <= set(bert.rooms), seconds=20)
                assert (await bert.room_text("hello", room)).nick == stage.alias(session)
                bert.room_say(room, "I am new here")
                await stage.answered(session, "I am new here")
                assert len([each for each in ada.invitations if each.room == room]) == 2

    run(story)


def test_what_one_sees_and_may_do_depends_on_the_site(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [
            stage.admin("Ada"),
            stage.admin("Shopkeeper", role=Role.NONE, roles=(("shop", Role.ANSWERS),)),
            stage.admin("Reader", role=Role.READS),
            stage.admin("Told", notify_only=True),
        ]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("shopkeeper") as keeper,
            stage.phone("reader") as reader,
            stage.phone("told") as told,
            stage.bridge(),
        ):
            desks_own, shops = await start(desk, "to the desk"), await start(desk, "to the shop", site="shop")
            room, shop = (await ada.room_text("to the desk")).room, (await ada.room_text("to the shop")).room
            await keeper.room_text("to the shop", shop)
            await reader.room_text("to the desk", room)
            await told.text("New message")
            await ada.when(lambda: {"ada", "reader"} <= ada.nicks(room))
            await ada.when(lambda: {"ada", "reader", "shopkeeper"} <= ada.nicks(shop))
            assert "shopkeeper" not in ada.nicks(room)
            assert room not in {each.room for each in keeper.invitations}
            for phone in (keeper, told):
                with pytest.raises(PresenceError):
                    await phone.join(room)
            assert not {room, shop} & {each.room for each in told.invitations}
            reader.room_say(room, "I would say")
            await ada.room_text(NOT_YOURS, room)
            keeper.room_say(shop, "it is in the post")
            await stage.answered(shops, "it is in the post")
            ada.room_say(room, "hello")
            await stage.answered(desks_own, "hello")
            assert not any("to the" in got.body for got in told.inbox)

    run(story)


# ---- what the server refuses -----------------------------------------------------------------------------------------

POOR: list[tuple[str, str]] = [
    ("rooms", "it has no rooms"),
    ("room_creation", "it does not let this account make rooms"),
    ("room_archive", "its rooms have no archive"),
]


@both
@pytest.mark.parametrize(("missing", "why"), POOR)
def test_without_rooms_all_goes_on_in_one_chat(kind: Kind, missing: str, why: str, tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada:
            session = await start(desk, "written before anybody looked")  # due to a room, for all one knew
            async with stage.bridge() as bridge:
                await ada.text("written before anybody looked")
                told = await ada.text("gives this desk no room for each visitor")
                assert why in told.body
                assert bridge.state.form == f"all in one chat, because of the server: {why}"
                ada.say("hello")
                await stage.answered(session, "hello")
                await stage.cut(bridge, resumed=False)
                await stage.says(session, "thanks")
                await ada.text("thanks")
                assert len([got for got in ada.inbox if "gives this desk no room" in got.body]) == 1
                assert ada.rooms == {}
                await until(lambda: desk.attendance("", now=NOON).staffed)  # by their presence, without a staff room

    options: dict[str, Any] = {missing: False}
    with kind(accounts={}, **options) as server:
        tell(story, server, tmp_path)


@both
def test_rooms_return_when_the_server_lets_them(kind: Kind, tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.bridge() as bridge:
            async with stage.phone("ada") as ada:
                session = await start(desk, "hello")
                await ada.text("hello")
                await until(lambda: stage.progress(session) >= Progress.HANDED_OVER)
            await asyncio.to_thread(stage.server.stop)
            _allow_rooms(stage.server)
            await asyncio.to_thread(stage.server.start)
            async with stage.phone("ada") as ada:
                await until(lambda: bridge.state.form == "a room for each visitor")
                await stage.says(session, "now in a room")
                room = (await ada.room_text("now in a room")).room
                ada.room_say(room, "indeed")
                await stage.answered(session, "indeed")

    with kind(accounts={}, room_creation=False) as server:
        tell(story, server, tmp_path)


def _allow_rooms(server: XmppServer) -> None:
    if isinstance(server, Prosody):
        config = server.directory / "prosody.cfg.lua"
        config.write_text(config.read_text().replace("restrict_room_creation = true", "restrict_room_creation = false"))
    else:
        _configure_rooms(server, access_create="all")


def _configure_rooms(server: XmppServer, **options: Any) -> None:
    """Of ejabberd, from its next start on."""
    config = server.directory / "ejabberd.yml"
    settings = json.loads(config.read_text())
    settings["modules"]["mod_muc"] |= options
    config.write_text(json.dumps(settings))


def test_one_room_too_many_goes_on_in_the_chat(tmp_path: Path) -> None:
    """ejabberd lets nobody be in more than 100 rooms unless it is told otherwise; here it is three."""

    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge() as bridge:
            one, two = await start(desk, "one"), await start(desk, "two")
            room = (await ada.room_text("one")).room
            await ada.room_text("two")
            three = await start(desk, "three")
            ring = await ada.text("three")
            told = await ada.room_text(
                f"refused a room for {stage.alias(three)}: it allows no more", stage.staff_room()
            )
            assert "It goes on in the chat" in told.body
            ada.reply(ring, "by the chat")
            await stage.answered(three, "by the chat")
            ada.room_say(room, "by the room")
            await stage.answered(one, "by the room")
            assert bridge.state.form == "a room for each visitor"
            await stage.says(three, "thanks")
            await ada.text("thanks")
            ada.say(f"!close {stage.alias(one)}")
            await ada.when(lambda: stage.alias(one) not in ada.nicks(room))
            await ada.leave(room)  # the limit is hers as well
            await stage.cut(bridge, resumed=False)  # the next session tries again, and now there is room for it
            await stage.says(three, "in a room at last")
            await ada.room_text("in a room at last", seconds=20)
            assert len([got for got in ada.inbox if "in a room" in got.body]) == 0
            assert stage.answers(two) == []

    server = Ejabberd(accounts={})
    _configure_rooms(server, max_user_conferences=3)
    with server:
        tell(story, server, tmp_path)


# ---- outsiders -------------------------------------------------------------------------------------------------------


def test_an_outsider_is_neither_heard_nor_answered(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with (
            stage.open_desk([stage.admin("Ada")]) as desk,
            stage.phone("ada") as ada,
            stage.phone("mallory") as mallory,
            stage.bridge() as bridge,
        ):
            session = await start(desk, "hello")
            room, alias = (await ada.room_text("hello")).room, stage.alias(session)
            mallory.say(f"@{alias} from a stranger")
            mallory.say("!list")
            with pytest.raises(PresenceError):
                await mallory.join(room)
            mallory.room_say(room, "from outside")
            await mallory.when(lambda: len(mallory.errors) >= 1)
            trap = await mallory.create_room("come in")
            await mallory.invite(trap, stage.own, "you are needed here")
            mallory.room_say(trap, f"@{alias} from another room")
            ada.room_say(room, "fence")
            await stage.answered(session, "fence")
            await mallory.room_text("from another room", trap)
            assert mallory.nicks(trap) == {"mallory"}
            assert mallory.inbox == []
            assert mallory.receipts == []
            assert bridge.state.strangers_ignored >= 3

    run(story)


def test_a_forged_sender_is_not_let_through_by_the_server(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with (
            stage.open_desk([stage.admin("Ada")]) as desk,
            stage.phone("ada") as ada,
            stage.phone("mallory") as mallory,
            stage.bridge(),
        ):
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            body = f"<body>@{escape(stage.alias(session))} forged</body>"
            for sender in (f"{stage.jid('ada')}/phone", f"{room}/ada"):
                mallory.send_xml(f"<message type='chat' from='{sender}' to='{stage.own}'>{body}</message>")
                mallory.send_xml(f"<message type='groupchat' from='{sender}' to='{stage.own}'>{body}</message>")
            ada.room_say(room, "fence")
            await stage.answered(session, "fence")

    run(story)


def test_who_was_put_into_a_room_is_told_of_and_not_heard(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("mallory") as mallory,
            stage.phone("desk", joins=False, resource="operator") as operator,
            stage.bridge() as bridge,
        ):
            session, other = await start(desk, "hello"), await start(desk, "unseen")
            room, alias = (await ada.room_text("hello")).room, stage.alias(session)
            quiet = (await ada.room_text("unseen")).room
            await operator.set_affiliation(room, stage.jid("mallory"), "owner")  # as a server's admin can
            await mallory.join(room)
            await ada.room_text(tending.STRANGER, room)
            mallory.room_say(room, "by a stranger in the room")
            mallory.room_say(room, "!burn")
            mallory.whisper(room, alias, "psst")
            assert await mallory.ask_through(room, alias) == "service-unavailable"
            await mallory.leave(room)
            await mallory.join(room)
            ada.room_say(room, "fence")
            await stage.answered(session, "fence")
            # The same while we are away: what an archive says of its speakers is the room's own word.
            stage.socks.refuse = True
            bridge._line.plugin["xep_0198"].sm_id = "unknown"
            stage.socks.cut()
            await stage.phase(Phase.WAITING)
            mallory.room_say(room, "as if I were Ada", claimed_speaker(stage.jid("ada")))
            mallory.room_say(room, "!close", claimed_speaker(stage.jid("ada")))
            await ada.room_text("as if I were Ada", room)
            ada.room_say(room, "Ada herself")
            await mallory.room_text("Ada herself", room)
            stage.socks.refuse = False
            await stage.answered(session, "fence", "Ada herself")
            ada.room_say(room, "second fence")
            await stage.answered(session, "fence", "Ada herself", "second fence")
            assert stage.conversation(session).standing is Standing.OPEN
            strangers = [body for body in ada.bodies(room) if tending.STRANGER in body]
            assert len(strangers) == 1
            assert not any(tending.STRANGER in body for body in ada.bodies(quiet))
            assert mallory.inbox == []
            assert stage.answers(other) == []

    run(story)


def test_a_member_who_is_none_of_ours_is_out_in_the_next_session(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with (
            stage.open_desk([stage.admin("Ada")]) as desk,
            stage.phone("ada") as ada,
            stage.phone("mallory") as mallory,
            stage.phone("desk", joins=False, resource="operator") as operator,
            stage.bridge() as bridge,
        ):
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            await operator.set_affiliation(room, stage.jid("mallory"), "member")
            await mallory.join(room)
            await ada.room_text(tending.STRANGER, room)
            await stage.cut(bridge, resumed=False)
            await mallory.when(lambda: room not in mallory.rooms)
            ada.room_say(room, "alone at last")
            await stage.answered(session, "alone at last")
            with pytest.raises(IqError):
                await mallory.affiliated(room, "member")

    run(story)


# ---- crowds ----------------------------------------------------------------------------------------------------------


def test_a_flood_does_not_keep_a_newcomer_waiting(tmp_path: Path) -> None:
    """Through a server that lets three kilobytes a second through."""
    flood = 150

    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            desk.sites = FREELY
            session = await start(desk, "line 0")
            room = (await ada.room_text("line 0")).room
            for number in range(1, flood):
                await stage.says(session, f"line {number}")
            await ada.room_text("line 40", room, seconds=60)  # the burst that the server lets through is over
            newcomer = await start(desk, "is anyone there?")
            line = await ada.room_text("is anyone there?", seconds=60)
            behind = [body for body in ada.bodies(room) if body.startswith("line ")]
            print(f"the newcomer is heard after {len(behind)} of {flood} lines")
            assert len(behind) < flood - 40
            ada.room_say(line.room, "here")
            await stage.answered(newcomer, "here", seconds=60)
            await ada.room_text(f"line {flood - 1}", room, seconds=120)
            lines = [body for body in ada.bodies(room) if body.startswith("line ")]
            assert lines == [f"line {number}" for number in range(flood)]
            assert len(stage.socks.asked) == 1  # no ping went unanswered
            await until(lambda: not desk.unacknowledged(), seconds=60)

    with Ejabberd(accounts={}, shaper_bytes=3000) as server:
        tell(story, server, tmp_path, seconds=180)


def test_thirty_visitors_at_once_and_two_admins(run: Runner) -> None:
    visitors = 30

    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("bert") as bert,
            stage.bridge(),
        ):
            sessions = await asyncio.gather(*(start(desk, f"visitor {number}.") for number in range(visitors)))
            rooms = [(await ada.room_text(f"visitor {number}.", seconds=30)).room for number in range(visitors)]
            assert len(set(rooms)) == visitors
            for number in range(visitors):
                phone = (ada, bert)[number % 2]
                await phone.room_text(f"visitor {number}.", rooms[number], seconds=30)
                for line in range(3):
                    phone.room_say(rooms[number], f"answer {number}.{line}")
                    await stage.says(sessions[number], f"question {number}.{line}")
            for number in range(visitors):
                await stage.answered(sessions[number], *(f"answer {number}.{line}" for line in range(3)), seconds=30)
                await ada.room_text(f"question {number}.2", rooms[number], seconds=30)
                asked = [body for body in ada.bodies(rooms[number]) if "question" in body]
                assert asked == [f"question {number}.{line}" for line in range(3)]
                owner = desk.name_of(stage.conversation(sessions[number]).owner)
                assert owner == ("Ada", "Bert")[number % 2]
            await until(lambda: not desk.unacknowledged())

    run(story)
