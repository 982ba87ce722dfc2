"""Rooms over a stub of a server: what a real one does too seldom, or never when one is looking."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from xml.etree.ElementTree import SubElement

import pytest

from tests.desks import ADA, NOON, start
from tests.roomhouse import SERVICE, House, archived, bounced, in_house, line_of, message_from
from tests.xmppedge import OWN
from veilsupport.errors import Unavailable
from veilsupport.model import Progress, Standing
from veilsupport.xmpp import stanzas, titles, upkeep
from veilsupport.xmpp.line import Declined
from veilsupport.xmpp.place import State

# ---- thrown out without a word ---------------------------------------------------------------------------------------


def test_a_room_that_says_we_are_not_in_it_is_entered_again_and_gets_all_in_order(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "one")
        room = await house.room_of(session)
        await house.until(lambda: house.server.said(room) == ["one"])
        await house.reflects(room)
        await house.says(session, "two")
        await house.says(session, "three")
        await house.until(lambda: house.server.said(room) == ["one", "two", "three"])
        for lost in house.server.posted[-2:]:
            await house.rooms.hear(bounced(room, lost), "")
        await house.until(lambda: house.server.log.count(("join", room)) == 2)
        await house.until(lambda: house.server.said(room) == ["one", "two", "three", "two", "three"])
        await house.reflects(room)
        assert house.desk.unacknowledged() == []

    in_house(tmp_path, story)


def test_what_a_room_passes_on_is_told_from_all_else_that_it_says(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "one")
        room = await house.room_of(session)
        await house.until(lambda: house.server.said(room) == ["one"])
        back = message_from(room, house.server.posted[-1])
        SubElement(back, "{urn:xmpp:sid:0}stanza-id", by="mallory@chat.example", id="forged")
        SubElement(back, "{urn:xmpp:sid:0}stanza-id", by=room, id="live-1")
        stanza_id = back.get("id", "")
        assert house.rooms.reflection(back, OWN) == (stanza_id, "live-1")
        assert house.rooms.reflection(back, ADA.address.reveal()) is None
        for attribute, other in (("type", "error"), ("type", "chat"), ("id", ""), ("from", "elsewhere@chat.example/x")):
            else_said = copy.deepcopy(back)
            else_said.set(attribute, other)
            assert house.rooms.reflection(else_said, OWN) is None
        place = house.rooms._places.at(room)
        assert place is not None
        place.state = State.OPENING
        assert house.rooms.reflection(back, OWN) is None
        place.state = State.READY
        await house.outgoing.came(acknowledged=[stanza_id], reflected={stanza_id: "live-1"})
        assert house.desk.unacknowledged() == []
        assert place.conversation is not None
        await house.desk.delivery_read_in_room(place.conversation, "live-1")
        assert house.desk.history(session)[0].progress is Progress.READ

    in_house(tmp_path, story)


def test_a_line_that_comes_back_again_and_again_keeps_no_other_waiting(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "one")
        room = await house.room_of(session)
        await house.until(lambda: house.server.said(room) == ["one"])
        await house.rooms.hear(bounced(room, house.server.posted[-1], "policy-violation"), "")
        await house.says(session, "two")
        await house.until(lambda: house.server.said(room) == ["one", "two"])
        assert house.server.log.count(("join", room)) == 1  # and nothing about it says that we are out

    in_house(tmp_path, story)


def test_what_happens_while_a_room_is_brought_up_begins_it_anew(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        waiting, go_on = asyncio.Event(), asyncio.Event()

        async def hold(what: str, to: str) -> None:
            if what == "archive" and to.startswith("v-") and not go_on.is_set():
                waiting.set()
                await go_on.wait()

        house.server.hold = hold
        session = await start(house.desk, "one")
        await house.until(waiting.is_set)
        [room] = [to for what, to in house.server.log if what == "archive" and to.startswith("v-")]
        house.rooms.expelled(room)  # while its archive is being read
        await house.hears(room, "said in between", key="m1")
        go_on.set()
        await house.until(lambda: house.server.log.count(("join", room)) == 2)
        await house.until(lambda: house.server.said(room) == ["one"])
        assert house.answers(session) == ["said in between"]
        assert [each for each in house.server.log if each == ("archive", room)] == [("archive", room)] * 2

    in_house(tmp_path, story)


def test_who_is_thrown_out_again_and_again_waits_longer_each_time(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "one")
        room = await house.room_of(session)
        place = house.rooms._places.of(session.visitor.id)
        assert place
        pauses = []
        for _ in range(4):
            await house.until(lambda: house.rooms.address(session.visitor.id))
            house.rooms.expelled(room)
            assert house.rooms.address(session.visitor.id) is None
            pauses.append(round(place.again_at - house.now))
            house.now = place.again_at
        assert pauses == [0, *upkeep._PAUSES[:3]]
        await house.until(lambda: house.rooms.address(session.visitor.id))
        house.now += 60
        house.rooms.expelled(room)
        assert place.again_at == house.now  # it had stood for long enough

    in_house(tmp_path, story)


def test_a_newcomer_does_not_wait_until_all_others_are_back(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        sessions = [await start(house.desk, "hello") for _ in range(40)]
        rooms = [await house.room_of(session) for session in sessions]
        go_on = asyncio.Event()

        async def hold(what: str, to: str) -> None:
            if what == "join" and to.startswith("v-"):
                await go_on.wait()

        house.server.hold = hold
        house.server.log.clear()
        await house.begin()
        newcomer = await start(house.desk, "is anyone there?")
        await house.pump()
        go_on.set()
        await house.until(lambda: all(house.rooms.address(each.visitor.id) for each in (newcomer, *sessions)))
        joined = [to for what, to in house.server.log if what == "join" and to.startswith("v-")]
        assert set(joined) == {*rooms, await house.room_of(newcomer)}
        assert joined.index(await house.room_of(newcomer)) <= 8  # those that were begun before

    in_house(tmp_path, story)


def test_a_line_of_somebody_whose_coming_was_not_told_is_taken_from_the_archive(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)
        await house.until(lambda: house.server.said(room) == ["hello"])
        line = line_of(room, "from Ada", key="m1")
        house.server.rooms[room].append(archived(line, ADA.address.reveal()))
        await house.rooms.hear(line, "")
        await house.until(lambda: house.answers(session) == ["from Ada"])
        assert house.server.log.count(("join", room)) == 1
        stranger = line_of(room, "from Mallory", key="m2")
        house.server.rooms[room].append(archived(stranger, "mallory@chat.example"))
        await house.rooms.hear(stranger, "")
        await house.until(lambda: house.rooms.address(session.visitor.id))
        assert house.answers(session) == ["from Ada"]

    in_house(tmp_path, story)


def test_so_is_one_that_came_while_the_room_was_brought_up(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()

        async def hold(what: str, to: str) -> None:
            if what != "archive" or not to.startswith("v-"):
                return
            line = line_of(to, "from Ada", key="m1")
            if house.server.log.count((what, to)) == 1:
                await house.rooms.hear(line, "")
            else:
                house.server.rooms[to].append(archived(line, ADA.address.reveal()))

        house.server.hold = hold
        session = await start(house.desk, "hello")
        await house.until(lambda: house.answers(session) == ["from Ada"])

    in_house(tmp_path, story)


def test_a_visitor_who_writes_while_a_session_begins_gets_one_room(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)
        go_on, house.server.log = asyncio.Event(), []

        async def hold(what: str, to: str) -> None:
            if to.startswith("desk-"):
                house.rooms.look_at(session.visitor.id)
                await go_on.wait()

        house.server.hold = hold
        house.server.connection += 1
        beginning = asyncio.create_task(house.begin())
        await asyncio.sleep(0.05)
        assert [to for _, to in house.server.log if to == room] == []  # it waits for the session
        go_on.set()
        await beginning
        await house.until(lambda: house.rooms.address(session.visitor.id))
        assert house.server.log.count(("join", room)) == 1

    in_house(tmp_path, story)


def test_what_the_last_session_left_over_waits_for_the_next_one(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)
        house.server.connection += 1  # up again, and nobody has begun
        house.rooms.destroy("stanza", room)
        await asyncio.sleep(0.05)
        assert ("destroy", room) not in house.server.log
        house.rooms.resumed()
        await house.until(lambda: ("destroy", room) in house.server.log)

    in_house(tmp_path, story)


def test_the_first_line_of_each_goes_before_the_second_of_any(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        sessions = [await start(house.desk, "hello") for _ in range(3)]
        rooms_ = [await house.room_of(session) for session in sessions]
        await house.until(lambda: all(house.server.said(room) for room in rooms_))
        for room in rooms_:
            await house.reflects(room)
        house.server.posted.clear()
        for turn, session in enumerate(sessions):
            for number in range(3 - turn):
                await house.says(session, f"{turn}.{number}")
        await house.pump()
        said = [each.findtext("{jabber:client}body") or "" for each in house.server.posted]
        assert [each for each in said if "." in each] == ["0.0", "1.0", "2.0", "0.1", "1.1", "0.2"]

    in_house(tmp_path, story)


# ---- a server in trouble ---------------------------------------------------------------------------------------------


def test_a_service_that_does_not_answer_does_not_keep_the_line_down(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        async def hold(what: str, to: str) -> None:
            if to.endswith(SERVICE):
                raise Unavailable("no answer")

        house.server.hold = hold
        await start(house.desk, "hello")
        await house.begin()
        assert house.rooms.form == "all in one chat, because of the server: it has no rooms"
        await house.until(lambda: "hello" in str(house.server.said(ADA.address.reveal())))
        house.server.hold = None
        await house.begin()
        assert house.rooms.form == "a room for each visitor"

    in_house(tmp_path, story)


def test_rooms_that_do_not_answer_are_done_without_and_a_broken_line_is_said_to_be_broken(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        async def hold(what: str, to: str) -> None:
            if what == "join":
                raise Unavailable("no answer")

        house.server.hold = hold
        await house.begin()
        assert house.rooms.form == "all in one chat, because of the server: its rooms do not answer"
        house.server.up.clear()
        try:
            await house.begin()
        except Unavailable:
            return
        raise AssertionError("a broken line was taken for a server without rooms")

    in_house(tmp_path, story)


def test_a_refusal_that_may_pass_is_not_believed_at_once(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        left = [2, 2]  # refusals of the staff room, and of a visitor's

        def answer(what: str, to: str) -> Declined | None:
            kind = 0 if to.startswith("desk-") else 1
            if what != "join" or not left[kind]:
                return None
            left[kind] -= 1
            return Declined("resource-constraint")

        house.server.answer = answer
        await house.begin()
        assert house.rooms.form == "a room for each visitor"
        session = await start(house.desk, "hello")
        assert (await house.room_of(session)).startswith("v-")
        assert house.desk.has_room(session.visitor.id)

    in_house(tmp_path, story)


def test_a_room_that_is_refused_is_not_asked_for_until_the_next_session(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.server.answer = lambda what, to: (
            Declined("not-allowed") if what == "join" and to.startswith("v-") else None
        )
        await house.begin()
        session = await start(house.desk, "hello")
        await house.until(lambda: "hello" in str(house.server.said(ADA.address.reveal())))
        await house.says(session, "more")
        await house.until(lambda: "more" in str(house.server.said(ADA.address.reveal())))
        assert len([to for what, to in house.server.log if what == "join" and to.startswith("v-")]) == 1
        house.server.answer = lambda what, to: None
        await house.begin()
        await house.says(session, "in a room")
        await house.until(lambda: house.server.said(house.rooms.address(session.visitor.id) or ""))

    in_house(tmp_path, story)


# ---- the end of a room -----------------------------------------------------------------------------------------------


def test_a_destruction_without_an_answer_is_asked_for_again(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)

        async def hold(what: str, to: str) -> None:
            if what == "destroy":
                raise Unavailable("no answer")

        house.server.hold = hold
        await house.desk.visitor_burns(session, now=NOON)
        await house.until(lambda: ("destroy", room) in house.server.log)
        house.server.hold = None
        house.now += 120
        await house.until(lambda: room not in house.server.rooms)

    in_house(tmp_path, story)


def test_a_room_is_destroyed_also_when_the_server_has_no_more_of_them_for_us(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)

        async def hold(what: str, to: str) -> None:
            if what == "destroy":
                house.server.up.clear()
                raise Unavailable("the connection broke")

        house.server.hold = hold
        await house.desk.visitor_burns(session, now=NOON)
        await house.until(lambda: ("destroy", room) in house.server.log)
        house.server.hold = None
        house.server.up.set()
        house.server.answer = lambda what, to: Declined("not-allowed") if what == "join" else None
        await house.begin()
        assert house.rooms.form.startswith("all in one chat")
        await house.until(lambda: room not in house.server.rooms)

    in_house(tmp_path, story)


def test_a_closed_room_is_left_only_when_it_shows_that_it_is_closed(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)
        await house.until(lambda: house.server.said(room) == ["hello"])
        await house.reflects(room)
        found = house.desk.conversation(session)
        assert found
        await house.desk.store.set_standing(found.id, Standing.CLOSED, minute=0)
        house.rooms.look_at(found.id)
        await house.until(lambda: "closed" in str(_subjects(house, room)))
        assert house.rooms.address(found.id) == room  # the line may yet break, and the subject with it
        house.rooms.resumed()
        await house.until(lambda: str(_subjects(house, room)).count("closed") == 2)
        await house.reflects(room)
        await house.until(lambda: room not in house.server.occupants)

    in_house(tmp_path, story)


def _subjects(house: House, room: str) -> list[str | None]:
    return [stanzas.subject_of(each) for each in house.server.posted if each.get("to") == room]


# ---- words -----------------------------------------------------------------------------------------------------------


def test_a_subject_says_how_things_stand(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        session = await start(house.desk, "hello")
        found = house.desk.conversation(session)
        assert found
        site = house.desk.site("")
        alias = found.alias
        assert titles.name(alias, site) == alias
        subject = titles.subject(found, site, language="", owner="")
        assert subject == f"{alias} · request · waiting since 15 Jan 08:00 UTC"
        await house.desk.store.set_standing(found.id, Standing.BLOCKED, minute=0)
        blocked = house.desk.conversation(session)
        assert blocked
        assert titles.subject(blocked, site, language="en", owner="Ada") == f"{alias} · en · blocked · with Ada"

    in_house(tmp_path, story)


def test_a_rush_of_new_conversations_gets_its_rooms_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_NEW_AT_ONCE", 2)

    async def story(house: House) -> None:
        await house.begin()
        sessions = [await start(house.desk, f"number {number}") for number in range(4)]
        made = [await house.room_of(session) for session in sessions[:2]]
        await house.until(lambda: all(house.server.said(room) for room in made))
        await house.until(lambda: len(house.rooms.not_ready()) == 2)
        await house.says(sessions[0], "goes on")  # at once, in a room that exists
        await house.until(lambda: "goes on" in house.server.said(made[0]))
        assert len(house.rooms.not_ready()) == 2
        for session in sessions[2:]:
            await house.later(120)
            made.append(await house.room_of(session))
        await house.until(lambda: all(house.server.said(room) for room in made))

    in_house(tmp_path, story)
