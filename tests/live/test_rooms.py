"""The room form on real servers: what admins and visitors see of each other, from the first message to the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from slixmpp.exceptions import IqError

from tests.desks import NOON, start
from tests.live.phonerooms import Invitation
from tests.live.prosody import Prosody
from tests.live.roomdesk import SERVERS, SITES, Stage, Story, sealed_envelope, tell, until
from tests.live.xmppserver import XmppServer
from veilsupport.desk import Listener
from veilsupport.desk.requests import MARK, RINGS
from veilsupport.model import Changed, Event, MessageState, Progress, Role, Standing, Typing
from veilsupport.xmpp import direct, roomtalk

Runner = Callable[[Story], None]
SPAM = "Buy our very good watches, only today and only here"


@pytest.fixture(scope="module", params=SERVERS, ids=["prosody", "ejabberd"])
def server(request: pytest.FixtureRequest) -> Iterator[XmppServer]:
    with request.param(accounts={}) as server:
        yield server


@pytest.fixture
def run(server: XmppServer, tmp_path: Path) -> Runner:
    return lambda story: tell(story, server, tmp_path)


def _is_on_disk(server: XmppServer, words: str) -> bool:
    """In plain sight. ejabberd's database keeps what is deleted until it is written anew, so it says nothing."""
    files = [file for file in (server.directory / "data").rglob("*") if file.is_file()]
    return any(words.encode() in file.read_bytes() for file in files)


async def _events(page: Listener) -> AsyncIterator[Event]:
    """All that the open page was told so far."""
    while (event := await page.next(0.01)) is not None:
        yield event


# ---- a room for each conversation ------------------------------------------------------------------------------------


def test_a_new_conversation_is_a_room_that_only_its_admins_see(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("bert") as bert,
            stage.phone("mallory") as mallory,
            stage.bridge() as bridge,
        ):
            session = await start(desk, "is anyone there?", site="shop")
            alias = stage.alias(session)
            line = await ada.room_text("is anyone there?")
            room = line.room
            assert (line.nick, line.body, room) == (alias, "is anyone there?", stage.room(session))
            assert (await bert.room_text("is anyone there?", room)).nick == alias
            name, _, service = room.partition("@")
            assert len(name.removeprefix("v-")) == 20
            assert int(name.removeprefix("v-"), 16)
            assert service == stage.server.room_service
            for phone in (ada, bert):
                await phone.when(lambda: len([each for each in phone.invitations if each.room == room]) == 2)  # noqa: B023
                assert {each for each in phone.invitations if each.room == room} == {
                    Invitation("direct", room, f"{alias} · The shop"),
                    Invitation("mediated", room, f"{alias} · The shop"),
                }
            assert mallory.invitations == []
            assert room not in await mallory.public_rooms(service)
            wanted = {"muc_membersonly", "muc_nonanonymous", "muc_hidden", "muc_persistent", "urn:xmpp:mam:2"}
            assert wanted <= await ada.features(room)
            assert ada.room_names[room] == f"{alias} · The shop"
            await ada.when(lambda: "waiting since" in ada.subject_of(room))
            subject = f"{alias} · The shop · de · request · waiting since 15 Jan 08:00 UTC"
            assert ada.subject_of(room).startswith(subject)
            await ada.when(lambda: ada.nicks(room) == {alias, "ada", "bert"})
            assert ada.occupants(room)[alias].jid == f"{stage.own}/veilsupport"
            assert ada.occupants(room)["bert"].affiliation == "member"
            assert bridge.state.form == "a room for each visitor"
            await until(lambda: stage.progress(session) == Progress.HANDED_OVER)
            assert [got.body for got in await ada.room_archive(room) if got.body] == ["is anyone there?"]

    run(story)


def test_the_lines_of_two_visitors_do_not_mix(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            one, two = await start(desk, "the first"), await start(desk, "the second")
            room1 = (await ada.room_text("the first")).room
            room2 = (await ada.room_text("the second")).room
            assert room1 != room2
            ada.room_say(room2, "to the second")
            ada.room_say(room1, "to the first")
            await stage.answered(one, "to the first")
            await stage.answered(two, "to the second")
            await stage.says(one, "thanks")
            await ada.room_text("thanks", room1)
            assert ada.bodies(room2) == ["the second", "to the second"]

    run(story)


# ---- what is said there ----------------------------------------------------------------------------------------------


def test_every_line_is_for_the_visitor_but_commands_and_notes(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("bert") as bert,
            stage.bridge(),
        ):
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            await bert.room_text("hello", room)
            ada.room_say(room, "!note this one wrote before")
            ada.room_say(room, "!clsoe")
            told = await bert.room_text("no such command", room)
            assert told.nick == stage.alias(session)
            assert told.body.startswith("⚙ ")
            assert "!close" in told.body
            ada.room_say(room, "!who")
            await ada.room_text("Bert: there", room)
            ada.room_say(room, "!!important")
            ada.room_say(room, "> hello\nhello yourself")
            await bert.room_text("hello yourself", room)
            bert.room_say(room, "and from me")
            await stage.answered(session, "!important", "> hello\nhello yourself", "and from me")
            assert [each.name for each in desk.history(session)[1:]] == ["Ada", "Ada", "Bert"]
            ada.room_say(room, "@otter-7 for somebody else")
            await ada.room_text("names another conversation", room)
            ada.room_say(room, f"@{stage.alias(session)} that is you")
            await stage.answered(session, "!important", "> hello\nhello yourself", "and from me", "that is you")
            kept = [got.body for got in await ada.room_archive(room)]
            assert "!note this one wrote before" in kept

    run(story)


def test_a_visitor_cannot_speak_as_the_desk(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "⚙ The desk says: write your password here")
            line = await ada.room_text("write your password")
            assert line.body == "'⚙ The desk says: write your password here"
            await stage.says(session, "!close")
            await ada.room_text("!close", line.room)
            await stage.says(session, "still here?")
            await ada.room_text("still here?", line.room)
            assert stage.conversation(session).standing is Standing.OPEN

    run(story)


def test_corrections_and_retractions_change_what_the_visitor_sees(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("bert") as bert,
            stage.bridge(),
        ):
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            await bert.room_text("hello", room)
            with desk.listen(session) as page:
                said = ada.room_say(room, "helo")
                await stage.answered(session, "helo")
                again = ada.room_correct(room, said, "hallo")
                await stage.answered(session, "hallo")
                ada.room_correct(room, said, "hello")  # by the first id, as XEP-0308 has it
                await stage.answered(session, "hello")
                ada.room_correct(room, again, "hello!")  # and by the last, as some do
                await stage.answered(session, "hello!")
                changes: list[Event] = []
                while len(changes) < 3:
                    changes += [event async for event in _events(page) if isinstance(event, Changed)]
                assert [each.message.body for each in changes if isinstance(each, Changed)] == [
                    "hallo",
                    "hello",
                    "hello!",
                ]
            await bert.room_text("hello!", room)
            bert.room_correct(room, said, "not yours to change")  # so it is a line of his own
            await stage.answered(session, "hello!", "not yours to change")
            ada.room_retract(room, (await ada.room_text("helo", room)).stanza_id)
            await stage.answered(session, "", "not yours to change")
            assert desk.history(session)[1].state is MessageState.RETRACTED
            bert.room_retract(room, (await ada.room_text("hello!", room)).stanza_id)  # Ada's
            bert.room_say(room, "fence")
            await stage.answered(session, "", "not yours to change", "fence")

    run(story)


def test_a_correction_may_turn_a_line_into_another_kind(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            said = ada.room_say(room, "!asign me")
            await ada.room_text("no such command", room)
            ada.room_correct(room, said, "!claim")
            await ada.room_text("is yours now", room)
            said = ada.room_say(room, "!oops I meant this for the visitor")
            ada.room_correct(room, said, "I meant this for the visitor")
            await stage.answered(session, "I meant this for the visitor")
            said = ada.room_say(room, "this one lies")
            await stage.answered(session, "I meant this for the visitor", "this one lies")
            ada.room_correct(room, said, "!note this one lies")  # taken back from the visitor
            await stage.answered(session, "I meant this for the visitor", "")
            note = ada.room_say(room, "!note and another")
            got = await ada.room_until(lambda got: got.id == note, room)
            ada.room_retract(room, got.stanza_id)  # it never reached the visitor: nobody has to be told
            ada.room_say(room, "!who")
            await ada.room_text("Ada: there", room)
            assert stage.answers(session) == ["I meant this for the visitor", ""]
            assert not any("It is not known here" in body for body in ada.bodies(room))

    run(story)


def test_what_cannot_be_passed_on_is_answered_in_words(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            ada.room_say(room, "I sent you an OMEMO encrypted message", sealed_envelope())
            await ada.room_text(direct.ENCRYPTED, room)
            ada.room_say(room, "aesgcm://files.example/x.jpg#00ff")
            await ada.room_text(direct.FILE, room)
            ada.room_say(room, "x" * 4001)
            await ada.room_text("too long", room)
            ada.room_say(room, "fence")
            await stage.answered(session, "fence")

    run(story)


def test_a_private_message_to_the_visitors_name_is_answered_in_the_chat(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            ada.whisper(room, stage.alias(session), "just between us")
            await ada.text(roomtalk.PRIVATE)
            ada.whisper(room, stage.alias(session), "!close")
            await until(lambda: len([got for got in ada.inbox if got.body == roomtalk.PRIVATE]) == 2)
            ada.room_say(room, "fence")
            await stage.answered(session, "fence")
            assert stage.conversation(session).standing is Standing.OPEN

    run(story)


# ---- whose it is -----------------------------------------------------------------------------------------------------


def test_the_first_answer_claims_and_nobody_is_refused(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("bert") as bert,
            stage.bridge(),
        ):
            session = await start(desk, "hello")
            alias = stage.alias(session)
            room = (await ada.room_text("hello")).room
            await bert.room_text("hello", room)
            await ada.when(lambda: "waiting since" in ada.subject_of(room))
            ada.room_say(room, "I am with you")
            told = await bert.room_text(f"Ada answers {alias}.")
            assert told.room == stage.staff_room()
            await bert.when(lambda: "with Ada" in bert.subject_of(room))
            assert "waiting" not in bert.subject_of(room)
            bert.room_say(room, "so am I")
            await stage.answered(session, "I am with you", "so am I")
            bert.room_say(room, "!claim")
            await ada.room_text(f"{alias} is yours now. It was Ada's.", room)
            await ada.when(lambda: "with Bert" in ada.subject_of(room))
            assert [body for body in bert.bodies(told.room) if "answers" in body] == [f"⚙ Ada answers {alias}."]
            await stage.says(session, "one more thing")
            await ada.when(lambda: "waiting since" in ada.subject_of(room))

    run(story)


def test_a_flood_of_the_same_words_is_a_few_rooms_and_a_number_on_the_card(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        sites = {"": replace(SITES[""], mark_words=("watches",))}
        async with stage.open_desk([stage.admin("Ada")], sites) as desk, stage.phone("ada") as ada, stage.bridge():
            sessions = [await start(desk, SPAM) for _ in range(RINGS + 2)]
            await until(lambda: len(desk.rooms()) == RINGS)
            for session in sessions[:RINGS]:
                await ada.room_text(SPAM, stage.room(session))
                await ada.room_text(f"⚙ {MARK}", stage.room(session))
            await ada.room_text("and 2 more like this", stage.staff_room())
            rang, folded = sessions[0], sessions[-1]
            await ada.when(lambda: " · request · waiting since" in ada.subject_of(stage.room(rang)))
            assert {got.room for got in ada.invitations} == {stage.staff_room(), *map(stage.room, sessions[:RINGS])}
            assert stage.progress(folded) is Progress.KEPT
            alias = stage.alias(folded)
            ada.room_say(stage.staff_room(), f"!alike {stage.alias(rang)}")
            await ada.room_text(f"{alias}, request: waits", stage.staff_room())
            ada.room_say(stage.staff_room(), f"!say {alias} is it you?")
            await stage.answered(folded, "is it you?")
            room = (await ada.room_until(lambda got: got.body == SPAM and got.nick == alias)).room
            assert room == stage.room(folded)
            await ada.when(lambda: "with Ada" in ada.subject_of(room))
            assert "request" not in ada.subject_of(room)
            await until(lambda: stage.progress(folded) is Progress.HANDED_OVER)

    run(story)


# ---- closed, and open again ------------------------------------------------------------------------------------------


def test_a_closed_room_is_left_and_entered_again_when_the_visitor_returns(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello")
            alias = stage.alias(session)
            room = (await ada.room_text("hello")).room
            ada.room_say(room, "!close")
            await ada.room_text(f"{alias} is closed.", room)
            await ada.when(lambda: alias not in ada.nicks(room))
            assert ada.subject_of(room) == f"{alias} · en · closed"
            assert stage.conversation(session).standing is Standing.CLOSED
            ada.room_say(room, "I forgot to say")
            ada.room_say(room, "!note nobody hears this yet")
            last = ada.room_say(room, "thank you")
            await ada.room_until(lambda got: got.id == last, room)
            await ada.leave(room)
            await stage.says(session, "I am back")
            line = await ada.room_text("I am back", room)
            assert line.nick == alias
            assert len([each for each in ada.invitations if each.room == room]) == 4
            await stage.answered(session, "I forgot to say", "thank you")
            await ada.when(lambda: "waiting since" not in ada.subject_of(room) and "closed" not in ada.subject_of(room))
            ada.room_say(room, "fence")
            await stage.answered(session, "I forgot to say", "thank you", "fence")

    run(story)


def test_a_closed_room_is_opened_again_from_the_chat(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("bert") as bert,
            stage.bridge(),
        ):
            session = await start(desk, "hello")
            alias = stage.alias(session)
            room = (await ada.room_text("hello")).room
            await bert.room_text("hello", room)
            bert.say(f"!close {alias}")  # from elsewhere: the room gets a last line all the same
            await ada.room_text(f"Bert has closed {alias}.", room)
            await ada.when(lambda: alias not in ada.nicks(room))
            await bert.leave(room)
            ada.say(f"!reopen {alias}")
            await ada.when(lambda: alias in ada.nicks(room))
            await bert.when(lambda: room in bert.rooms)
            ada.room_say(room, "are you still there?")
            await stage.answered(session, "are you still there?")
            assert stage.conversation(session).standing is Standing.OPEN

    run(story)


def test_an_answer_right_behind_the_closing_opens_it_again(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello")
            room = (await ada.room_text("hello")).room
            ada.room_say(room, "!close")
            ada.room_say(room, "bye")
            await stage.answered(session, "bye")
            ada.room_say(room, "and one more")
            await stage.answered(session, "bye", "and one more")
            assert stage.conversation(session).standing is Standing.OPEN

    run(story)


def test_a_blocked_visitors_room_is_left(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello")
            alias = stage.alias(session)
            room = (await ada.room_text("hello")).room
            ada.room_say(room, "!block")
            await ada.when(lambda: alias not in ada.nicks(room))
            assert ada.subject_of(room).endswith("blocked")
            ada.say(f"!reopen {alias}")
            await ada.when(lambda: alias in ada.nicks(room))

    run(story)


def test_what_closed_it_arrives_even_if_the_line_broke(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada:
            async with stage.crashing_bridge():
                session = await start(desk, "hello")
                alias = stage.alias(session)
                room = (await ada.room_text("hello")).room
                await until(lambda: stage.progress(session) == Progress.HANDED_OVER)
                stage.socks.freeze(up=True, down=False)  # what we say does not arrive any more
                ada.room_say(room, "!close")
                await until(lambda: stage.conversation(session).standing is Standing.CLOSED)
                await until(desk.unacknowledged)
            stage.socks.cut()
            stage.socks.thaw()
            async with stage.bridge():
                await ada.room_text(f"{alias} is closed.", room)
                await ada.when(lambda: alias not in ada.nicks(room))
                assert ada.subject_of(room).endswith("closed")

    run(story)


# ---- burned ----------------------------------------------------------------------------------------------------------


def test_burning_destroys_the_room_with_its_archive(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session, other = await start(desk, "forget me"), await start(desk, "not me")
            alias = stage.alias(session)
            room = (await ada.room_text("forget me")).room
            kept = (await ada.room_text("not me")).room
            if isinstance(stage.server, Prosody):
                await until(lambda: _is_on_disk(stage.server, "forget me"))
            await desk.visitor_burns(session, now=0)
            await ada.when(lambda: ada.destroyed == [room])
            await ada.room_text(f"{alias} has burned this conversation.")
            assert await ada.room_archive(room) == []
            assert [got.body for got in await ada.room_archive(kept) if got.body] == ["not me"]
            assert not _is_on_disk(stage.server, "forget me")
            ada.room_say(kept, f"!burn {alias}")
            await ada.room_text("names another conversation", kept)
            ada.room_say(kept, "!burn")
            await ada.when(lambda: ada.destroyed == [room, kept])
            await until(lambda: not desk.store.backlog())
            assert desk.conversation(other) is None

    run(story)


def test_burning_while_the_line_is_down_destroys_the_room_later(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada:
            async with stage.bridge():
                session = await start(desk, "forget me")
                room = (await ada.room_text("forget me")).room
                await until(lambda: stage.progress(session) == Progress.HANDED_OVER)
            await desk.visitor_burns(session, now=0)
            never_made = await start(desk, "nobody reads this")
            await desk.visitor_burns(never_made, now=0)
            async with stage.bridge():
                await ada.when(lambda: ada.destroyed == [room])
                await until(lambda: not desk.store.backlog())
                assert await ada.room_archive(room) == []
                assert not _is_on_disk(stage.server, "forget me")

    run(story)


def test_burning_in_the_middle_of_making_the_room_leaves_none(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            other = await start(desk, "stays")
            await ada.room_text("stays")
            for number in range(8):
                session = await start(desk, f"forget me {number}")
                await until(lambda: desk.room_of(session.visitor.id))  # noqa: B023
                room = stage.room(session)
                for _ in range(number * 3):
                    await asyncio.sleep(0)
                await desk.visitor_burns(session, now=0)
                await until(lambda: not desk.store.backlog())
                with pytest.raises(IqError):
                    await ada.features(room)
            ada.room_say(stage.room(other), "fence")
            await stage.answered(other, "fence")
            assert not [got for got in ada.inbox if "refused" in got.body]
            assert not [body for body in ada.bodies(stage.staff_room()) if "refused" in body]

    run(story)


# ---- typing and reading ----------------------------------------------------------------------------------------------


def test_typing_and_reading_go_both_ways(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello")
            line = await ada.room_text("hello")
            room = line.room
            with desk.listen(session) as page:
                ada.room_types(room)
                while await page.next(10) != Typing("Ada"):
                    pass
            desk.visitor_types(session)
            await ada.when(lambda: ada.room_composing[room] == 1)
            ada.room_look_at(room, line.stanza_id)
            await until(lambda: stage.progress(session) == Progress.READ)
            ada.room_say(room, "the answer")
            answer = await ada.room_text("the answer", room)
            await stage.answered(session, "the answer")
            await desk.visitor_reads(session, 2)
            await ada.when(lambda: (room, stage.alias(session), answer.stanza_id) in ada.room_displayed)

    run(story)


def test_a_site_may_switch_typing_and_reading_off(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        async with stage.open_desk([stage.admin("Ada")]) as desk, stage.phone("ada") as ada, stage.bridge():
            session = await start(desk, "hello", site="quiet")
            room = (await ada.room_text("hello")).room
            with desk.listen(session) as page:
                ada.room_types(room)
                ada.room_say(room, "the answer")
                await stage.answered(session, "the answer")
                desk.visitor_types(session)
                await desk.visitor_reads(session, 2)
                await stage.says(session, "fence")
                await ada.room_text("fence", room)
                assert not [event async for event in _events(page) if isinstance(event, Typing)]
            assert (ada.room_composing[room], ada.room_displayed) == (0, [])

    run(story)


# ---- the staff room --------------------------------------------------------------------------------------------------


def test_the_staff_room_takes_commands_and_tells_who_is_there(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert", role=Role.ANSWERS)]
        async with stage.open_desk(admins) as desk, stage.bridge():
            await until(lambda: desk.staff_room() and desk.line_is_up)
            await until(lambda: not desk.attendance("", now=NOON).staffed)
            async with stage.phone("ada") as ada, stage.phone("bert") as bert:
                staff = stage.staff_room()
                await ada.when(lambda: staff in ada.rooms and {"ada", "bert", "desk"} <= ada.nicks(staff))
                await until(lambda: desk.attendance("", now=NOON).staffed)
                session = await start(desk, "hello")
                alias = stage.alias(session)
                room = (await ada.room_text("hello")).room
                ada.room_say(staff, "is anybody awake?")  # among ourselves
                ada.room_say(staff, "!list")
                await bert.room_text(f"{alias}, request: waits", staff)
                ada.room_say(staff, f"!assign {alias} Bert")
                await bert.room_text(f"{alias} is Bert's now.", staff)
                bert.room_say(staff, f"!block {alias}")  # more than his role
                await ada.room_text("not yours to do", staff)
                bert.room_say(staff, f"!say {alias} on my way")
                await stage.answered(session, "on my way")
                await ada.room_text("Bert: on my way", room)
                bert.room_say(staff, "!away back at noon")
                await ada.room_text("You are away", staff)
                await ada.leave(staff)
                await until(lambda: not desk.attendance("", now=NOON).staffed)
                assert desk.attendance("", now=NOON).away == "back at noon"
                bert.room_say(staff, "I am back")
                await stage.answered(session, "on my way")
                await ada.join(staff)
                await until(lambda: desk.attendance("", now=NOON).staffed)

    run(story)


def test_the_card_corrects_itself_in_place(run: Runner) -> None:
    async def story(stage: Stage) -> None:
        admins = [stage.admin("Ada"), stage.admin("Bert"), stage.admin("Carl")]
        async with (
            stage.open_desk(admins) as desk,
            stage.phone("ada") as ada,
            stage.phone("bert", joins=False) as bert,
            stage.phone("carl", joins=False, corrects=False) as carl,
            stage.bridge(),
        ):
            await ada.when(lambda: bool(ada.rooms))
            staff = stage.staff_room()
            one = await start(desk, "the first")
            alias1, room1 = stage.alias(one), (await ada.room_text("the first")).room
            card = await ada.room_text("Waiting for an answer: 1", staff)
            assert alias1 in card.body
            in_chat = await bert.text("Waiting for an answer: 1")
            await carl.text("Waiting for an answer: 1")
            two = await start(desk, "the second")
            alias2 = stage.alias(two)
            again = await ada.room_text("Waiting for an answer: 2", staff)
            assert again.replaces == card.id
            assert alias1 in again.body
            assert alias2 in again.body
            assert (await bert.text("Waiting for an answer: 2")).replaces == in_chat.id
            assert (await carl.text("Waiting for an answer: 2")).replaces == ""  # anew, for a new visitor
            ada.room_say(room1, "hello")
            fewer = await ada.room_until(lambda got: got.replaces == card.id and alias1 not in got.body, staff)
            assert alias2 in fewer.body
            await bert.until(lambda got: got.replaces == in_chat.id and alias1 not in got.body)
            ada.room_say((await ada.room_text("the second")).room, "hello")
            await ada.room_text("Nobody waits for an answer.", staff)
            await bert.text("Nobody waits for an answer.")
            await stage.says(one, "and another thing")
            anew = await ada.room_until(
                lambda got: (
                    got.body.startswith("⚙ Waiting for an answer: 1") and got.id != card.id and not got.replaces
                ),
                staff,
            )
            assert alias1 in anew.body
            cards = [got for got in carl.inbox if "an answer" in got.body]
            assert [got.replaces for got in cards] == [""] * len(cards)
            assert not any("Nobody" in got.body for got in cards)
            assert carl.bodies(staff) == []

    run(story)
