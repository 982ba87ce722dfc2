"""What of the desk goes into rooms, what to whom in person, and what is held: with a real store, without XMPP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.desks import ADA, BERT, NOON, bodies, desk_in, hand_over, intake, start
from veilsupport.commands import Command
from veilsupport.desk import Desk, Unacknowledged
from veilsupport.desk.core import NEW_MESSAGE
from veilsupport.errors import AdminError, Duplicate, NotFound
from veilsupport.model import (
    Admin,
    Changed,
    Conversation,
    Delivery,
    DeliveryKind,
    Intake,
    MessageState,
    Private,
    Progress,
    Progressed,
    Role,
    Session,
    Site,
)

CARL = Admin("Carl", Private("carl@chat.example"), role=Role.NONE, roles=(("shop", Role.ANSWERS),))
DORA = Admin("Dora", Private("dora@chat.example"), notify_only=True)
ROOM = Private("v-0123abcd@rooms.example")


def at_a_desk(
    directory: Path,
    story: Callable[[Desk], Awaitable[None]],
    *,
    admins: Sequence[Admin] = (ADA, BERT),
    uses_rooms: bool = True,
    sites: dict[str, Site] | None = None,
) -> None:
    async def tell() -> None:
        async with desk_in(directory, admins, sites=sites, uses_rooms=uses_rooms) as desk:
            await story(desk)

    asyncio.run(tell())


def places(deliveries: Sequence[Delivery]) -> list[tuple[str, str]]:
    """(where it goes, what it says): an admin's name, "staff", or the alias of the conversation whose room it is."""
    return [(each.admin.name if each.admin else each.alias or "staff", each.body) for each in deliveries]


def alias_of(desk: Desk, session: Session) -> str:
    found = desk.conversation(session)
    assert found
    return found.alias


def conversation_of(desk: Desk, session: Session) -> Conversation:
    found = desk.conversation(session)
    assert found
    return found


# ---- what goes where ---------------------------------------------------------------------------------------------


def test_a_visitors_words_go_into_the_conversations_room_once(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "hello", site="shop")
        [delivery] = desk.due(now=NOON)
        assert (delivery.admin, delivery.kind, delivery.site) == (None, DeliveryKind.MESSAGE, "shop")
        assert (delivery.conversation, delivery.alias) == (session.visitor.id, alias_of(desk, session))
        assert delivery.body == "hello"

    at_a_desk(tmp_path, story)


def test_an_answer_in_the_room_is_told_to_nobody_and_the_claim_to_the_staff_room(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        await hand_over(desk)
        alias = alias_of(desk, session)
        await desk.admin_says(ADA, alias, "hi", intake=intake(), now=NOON, in_room=True)
        assert places(desk.due(now=NOON)) == [("staff", f"Ada answers {alias}.")]
        await desk.admin_says(BERT, alias, "hi too", intake=intake(), now=NOON, in_room=True)
        assert len(desk.due(now=NOON)) == 1
        assert desk.name_of(conversation_of(desk, session).owner) == "Ada"

    at_a_desk(tmp_path, story)


def test_an_answer_from_elsewhere_is_shown_in_the_room(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        await hand_over(desk)
        alias = alias_of(desk, session)
        await desk.admin_says(ADA, alias, "hi", intake=intake(), now=NOON, echo="→ you")
        assert set(places(desk.due(now=NOON))) == {
            (alias, "Ada: hi"),
            ("Ada", "→ you"),
            ("staff", f"Ada answers {alias}."),
        }

    at_a_desk(tmp_path, story)


def test_who_has_a_say_depends_on_the_site(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        assert desk.admins_of("") == [ADA, BERT]
        assert desk.admins_of("shop") == [ADA, BERT, CARL]
        assert desk.admins_of("shop", Role.LEADS) == [ADA, BERT]
        assert desk.admins_of("shop", Role.ANSWERS) == [ADA, BERT, CARL]
        await start(desk, "from the shop", site="shop")
        await start(desk, "from elsewhere")
        assert places(desk.due(now=NOON)) == [
            ("Ada", "from the shop"),
            ("Bert", "from the shop"),
            ("Carl", "from the shop"),
            ("Ada", "from elsewhere"),
            ("Bert", "from elsewhere"),
        ]

    at_a_desk(tmp_path, story, admins=(ADA, BERT, CARL), uses_rooms=False)


def test_a_site_that_nobody_reads_delays_no_other(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        for number in range(60):  # more than are asked for at once
            await start(desk, f"anybody? {number}")
        await start(desk, "hello", site="shop")
        assert places(desk.due(now=NOON)) == [("Carl", "hello")]
        assert desk.store.backlog() == 61

    at_a_desk(tmp_path, story, admins=(CARL,), uses_rooms=False)


def test_what_a_visitor_types_and_reads_is_shown_where_the_site_wants_it(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        typed: list[str] = []
        read: list[int] = []
        desk.on_typing = lambda conversation: typed.append(conversation.site)
        desk.on_read = lambda conversation, seq: read.append(seq)
        for site in ("shop", "quiet"):
            session = await start(desk, site=site)
            await desk.visitor_says(session, "more", once=b"1", now=NOON)
            desk.visitor_types(session)
            await desk.visitor_reads(session, 1 if site == "shop" else 2)
        assert (typed, read) == (["shop"], [1])

    quiet = Site("quiet", "", "", typing=False, read_marks=False)
    at_a_desk(tmp_path, story, sites={"": Site("", "", ""), "shop": Site("shop", "", ""), "quiet": quiet})


def test_the_edge_hears_that_a_conversation_changed(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        changed: list[bytes] = []
        desk.on_changed = changed.append
        session = await start(desk)
        await desk.admin_says(ADA, alias_of(desk, session), "hi", intake=intake(), now=NOON)
        await desk.visitor_says(session, "thanks", once=b"1", now=NOON)
        await desk.visitor_says(session, "thanks", once=b"1", now=NOON)
        assert changed == [session.visitor.id] * 3

    at_a_desk(tmp_path, story)


# ---- how far it has come -----------------------------------------------------------------------------------------


def test_the_visitor_sees_when_the_room_has_it_and_when_it_is_read(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session, other = await start(desk, "one"), await start(desk, "elsewhere")
        await desk.visitor_says(session, "two", once=b"1", now=NOON)
        sent = {each.body: each.stanza_id for each in desk.due(now=NOON)}
        await desk.delivery_sent(sent.values(), now=NOON)
        id = session.visitor.id
        assert desk.unacknowledged() == [
            Unacknowledged(sent["one"], NOON, True, id),
            Unacknowledged(sent["elsewhere"], NOON, True, other.visitor.id),
            Unacknowledged(sent["two"], NOON, True, id),
        ]
        with desk.listen(session) as page:
            for words in ("one", "two", "elsewhere"):
                await desk.delivery_in_room(sent[words], f"archived-{words}")
            assert [await page.next(1), await page.next(1)] == [
                Progressed(1, Progress.HANDED_OVER),
                Progressed(2, Progress.HANDED_OVER),
            ]
            await desk.delivery_read_in_room(other.visitor.id, "archived-two")  # another room's id says nothing there
            await desk.delivery_read_in_room(id, "unknown")
            assert await page.next(0) is None
            await desk.delivery_read_in_room(id, "archived-two")
            assert [await page.next(1), await page.next(1)] == [
                Progressed(1, Progress.READ),
                Progressed(2, Progress.READ),
            ]
        assert [each.progress for each in desk.history(other)] == [Progress.HANDED_OVER]
        assert desk.unacknowledged() == []

    at_a_desk(tmp_path, story)


# ---- those who are only told -------------------------------------------------------------------------------------


def test_who_only_wants_to_be_told_gets_the_words_when_asking(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "hello")
        alias = alias_of(desk, session)
        assert places(await hand_over(desk)) == [(alias, "hello"), ("Dora", NEW_MESSAGE)]
        await desk.admin_says(ADA, alias, "hi", intake=intake(), now=NOON)
        assert ("Dora", "Ada: hi") not in places(await hand_over(desk))
        id, minute = session.visitor.id, int(NOON // 60)
        assert await desk.store.release(id, desk.admin_id(ADA), minute=minute) == 0
        assert await desk.store.release(id, desk.admin_id(DORA), minute=minute) == 1
        assert places(await hand_over(desk)) == [("Dora", "hello")]

    at_a_desk(tmp_path, story, admins=(ADA, DORA))


def test_where_all_are_only_told_the_room_stays_empty(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await start(desk, "hello")
        assert places(desk.due(now=NOON)) == [("Dora", NEW_MESSAGE)]

    at_a_desk(tmp_path, story, admins=(DORA,))


def test_what_was_held_and_never_asked_for_is_burned_without_a_trace(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "hello")
        await desk.visitor_burns(session, now=NOON)
        assert [each.kind for each in desk.due(now=NOON)] == [DeliveryKind.NOTICE]
        assert await desk.store.release(session.visitor.id, desk.admin_id(DORA), minute=0) == 0

    at_a_desk(tmp_path, story, admins=(DORA,), uses_rooms=False)


def test_news_without_words_are_known_from_what_the_desk_says(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await start(desk, "hello")
        [news] = desk.due(now=NOON)
        assert (news.admin, news.kind, news.body) == (DORA, DeliveryKind.NEWS, NEW_MESSAGE)

    at_a_desk(tmp_path, story, admins=(DORA,), uses_rooms=False)


# ---- corrections -------------------------------------------------------------------------------------------------


def test_a_corrected_answer_reads_anew_by_whichever_handle(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        alias = alias_of(desk, session)
        said = Intake("key-1", handles=("ada#m1", "room#9"))
        await desk.admin_says(ADA, alias, "come at nin", intake=said, now=NOON, in_room=True)
        with desk.listen(session) as page:
            once = Intake("key-2", handles=("ada#m2",))
            await desk.admin_corrects(ADA, "room#9", " come at nine ", intake=once, now=NOON, in_room=True)
            event = await page.next(1)
            assert isinstance(event, Changed)
            assert (event.message.body, event.message.state) == ("come at nine", MessageState.CORRECTED)
            assert event.message == desk.history(session)[-1]
            with pytest.raises(Duplicate):
                await desk.admin_corrects(ADA, "room#9", "again", intake=once, now=NOON, in_room=True)
            await desk.admin_corrects(ADA, "ada#m2", "at ten", intake=intake(), now=NOON, in_room=True)
            await desk.admin_retracts(ADA, "ada#m1", intake=intake(), now=NOON, in_room=True)
            assert [each.message.body for each in (await page.next(1), await page.next(1)) if isinstance(each, Changed)]
            assert await page.next(0) is None
        last = desk.history(session)[-1]
        assert (last.seq, last.body, last.name, last.state) == (2, "", "Ada", MessageState.RETRACTED)
        assert len(desk.history(session)) == 2

    at_a_desk(tmp_path, story)


def test_a_correction_of_something_unknown_is_said_to_be_so(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await start(desk)
        with pytest.raises(AdminError, match="not known"):
            await desk.admin_corrects(ADA, "ada#m1", "better", intake=intake(), now=NOON)
        with pytest.raises(AdminError, match="not known"):
            await desk.admin_retracts(ADA, "ada#m1", intake=intake(), now=NOON)

    at_a_desk(tmp_path, story)


# ---- rooms that come and go --------------------------------------------------------------------------------------


def test_where_a_room_is_refused_its_words_go_to_each_in_person(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session, other = await start(desk, "one"), await start(desk, "elsewhere")
        await desk.visitor_says(session, "two", once=b"1", now=NOON)
        desk.wake.clear()
        assert desk.has_room(session.visitor.id)
        await desk.place_directly(session.visitor.id, now=NOON)
        assert desk.wake.is_set()
        assert not desk.has_room(session.visitor.id)
        await desk.visitor_says(session, "three", once=b"2", now=NOON)
        both = [(name, words) for words in ("one", "two", "three") for name in ("Ada", "Bert")]
        assert places(desk.due(now=NOON)) == [(alias_of(desk, other), "elsewhere"), *both]
        for _ in range(2):
            rings = [each for each in await hand_over(desk) if each.admin]
            for ring in rings:
                await desk.delivery_read(ring.stanza_id, ring.admin or ADA)
        assert {each.progress for each in desk.history(session)} == {Progress.READ}

    at_a_desk(tmp_path, story)


def test_without_any_room_all_goes_to_each_in_person_news_too(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        one, two = await start(desk, "one"), await start(desk, "two", site="shop")
        await desk.announce("The disk is full.", now=NOON)
        await desk.tell_room(one.visitor.id, "a note", now=NOON)
        burned = await start(desk, "burn me")
        await desk.place_room(burned.visitor.id, ROOM)
        await desk.visitor_burns(burned, now=NOON)
        await desk.place_directly(None, now=NOON)
        due = desk.due(now=NOON)
        assert [each.body for each in due if each.admin is None] == [ROOM.reveal()]  # it is still to be destroyed
        assert {(name, words) for name, words in places(due) if "burned" not in words and "@" not in words} == {
            ("Ada", "one"),
            ("Ada", "two"),
            ("Carl", "two"),
            ("Ada", "a note"),
            ("Ada", "The disk is full."),
            ("Carl", "The disk is full."),
        }
        assert not desk.has_room(two.visitor.id)
        desk.rooms_return()
        await desk.visitor_says(two, "more", once=b"1", now=NOON)
        assert places(desk.due(now=NOON))[-1] == (alias_of(desk, two), "more")

    at_a_desk(tmp_path, story, admins=(ADA, CARL))


def test_rooms_return_for_those_that_were_refused_one_too(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        await desk.place_directly(session.visitor.id, now=NOON)
        desk.rooms_return()
        assert desk.has_room(session.visitor.id)
        await desk.visitor_says(session, "two", once=b"1", now=NOON)
        assert places(desk.due(now=NOON)) == [
            ("Ada", "one"),
            ("Bert", "one"),
            (alias_of(desk, session), "two"),
        ]

    at_a_desk(tmp_path, story)


async def while_the_disk_is_slow(desk: Desk, *acts: Awaitable[object]) -> None:
    """All of these are begun, in order, before any of them is on disk."""
    slow = threading.Event()
    begun: list[asyncio.Future[object]] = []
    for act in (desk.store._write(lambda db: slow.wait(20)), *acts):
        begun.append(asyncio.ensure_future(act))
        await asyncio.sleep(0)
    slow.set()
    await asyncio.gather(*begun)


def test_words_said_at_the_moment_a_room_is_refused_go_to_each_in_person(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        await while_the_disk_is_slow(
            desk,
            desk.visitor_says(session, "two", once=b"1", now=NOON),
            desk.place_directly(session.visitor.id, now=NOON),
            desk.visitor_says(session, "three", once=b"2", now=NOON),
        )
        both = [(name, words) for words in ("one", "two", "three") for name in ("Ada", "Bert")]
        assert places(desk.due(now=NOON)) == both

    at_a_desk(tmp_path, story)


def test_what_is_burned_or_arrives_at_the_moment_a_room_is_refused_goes_nowhere(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session, other = await start(desk, "burn me"), await start(desk, "arrived")
        [_, arrived] = desk.due(now=NOON)
        await desk.delivery_sent([arrived.stanza_id], now=NOON)
        await while_the_disk_is_slow(
            desk,
            desk.visitor_burns(session, now=NOON),
            desk.delivery_in_room(arrived.stanza_id, "archived"),
            desk.place_directly(None, now=NOON),
        )
        assert bodies(desk.due(now=NOON)) == []
        assert desk.history(other)[0].progress is Progress.HANDED_OVER

    at_a_desk(tmp_path, story)


def test_a_visitors_words_are_never_dropped_for_want_of_a_reader(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA,), uses_rooms=True) as desk:
            await start(desk, "hello")
        async with desk_in(tmp_path, admins=(CARL,)) as desk:  # who does not read that site
            await desk.place_directly(None, now=NOON)
            assert desk.due(now=NOON) == []
        async with desk_in(tmp_path, admins=(BERT,)) as desk:
            assert places(desk.due(now=NOON)) == [("Bert", "hello")]

    asyncio.run(story())


# ---- where a room is ---------------------------------------------------------------------------------------------


def test_a_rooms_address_is_known_to_the_desk_and_readable_in_no_file(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, uses_rooms=True) as desk:
            session = await start(desk)
            assert desk.room_of(session.visitor.id) is None
            await desk.place_room(session.visitor.id, Private("v-1@rooms.example"))
            await desk.place_room(session.visitor.id, ROOM)
            with pytest.raises(NotFound):
                await desk.place_room(b"gone" * 4, ROOM)
            unreadable(tmp_path, ROOM.reveal(), ROOM.reveal().partition("@")[0], "rooms.example")
        unreadable(tmp_path, ROOM.reveal(), "rooms.example")
        async with desk_in(tmp_path, uses_rooms=True) as desk:
            room = desk.room_of(session.visitor.id)
            assert room
            assert (room.address, room.conversation.alias) == (ROOM, alias_of(desk, session))
            assert desk.rooms() == [room]

    asyncio.run(story())


def unreadable(directory: Path, *texts: str) -> None:
    for file in directory.iterdir():
        for text in texts:
            assert text.encode() not in file.read_bytes(), file


def test_the_staff_room_and_omemo_are_remembered_and_readable_in_no_file(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, uses_rooms=True) as desk:
            assert (desk.staff_room(), desk.omemo_entries()) == (None, {})
            await desk.place_staff_room(ROOM)
            await desk.keep_omemo({"ada@chat.example/7": "session 7", "identity": "MARK one", "gone": "x"})
            await desk.keep_omemo({"identity": "MARK two", "gone": None})
            unreadable(tmp_path, ROOM.reveal(), "rooms.example", "ada@chat", "session 7", "identity", "MARK")
        async with desk_in(tmp_path, uses_rooms=True) as desk:
            assert desk.staff_room() == ROOM
            assert desk.omemo_entries() == {"ada@chat.example/7": "session 7", "identity": "MARK two"}
            await desk.store._write(lambda db: db.execute("UPDATE setting SET value = zeroblob(300)"))
            assert desk.staff_room() is None  # damaged: another is made

    asyncio.run(story())


def test_a_damaged_address_is_no_room_and_hides_no_other(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session, other = await start(desk), await start(desk)
        await desk.place_room(session.visitor.id, ROOM)
        await desk.place_room(other.visitor.id, Private("v-2@rooms.example"))
        damage = "UPDATE room SET address = zeroblob(300) WHERE conversation = ?"
        await desk.store._write(lambda db: db.execute(damage, (session.visitor.id,)))
        assert desk.room_of(session.visitor.id) is None
        assert [each.address.reveal() for each in desk.rooms()] == ["v-2@rooms.example"]
        await desk.visitor_burns(session, now=NOON)
        assert desk.history(session) == []

    at_a_desk(tmp_path, story)


def test_burning_destroys_the_room_and_asks_back_what_went_to_chats(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "in the room")
        await desk.place_room(session.visitor.id, ROOM)
        await hand_over(desk)
        await desk.place_directly(session.visitor.id, now=NOON)
        await desk.visitor_says(session, "in the chats", once=b"1", now=NOON)
        rings = await hand_over(desk)
        alias = alias_of(desk, session)
        await desk.visitor_burns(session, now=NOON)
        due = desk.due(now=NOON)
        assert [(each.admin, each.body) for each in due if each.kind is DeliveryKind.RETRACT] == [
            (ring.admin, ring.stanza_id) for ring in rings
        ]
        assert [(each.admin, each.body) for each in due if each.kind is DeliveryKind.DESTROY] == [(None, ROOM.reveal())]
        [notice] = [each for each in due if each.kind is DeliveryKind.NOTICE]
        assert places([notice])[0][0] == "staff"
        assert alias in notice.body
        assert {each.conversation for each in due} == {None}
        assert desk.rooms() == []

    at_a_desk(tmp_path, story)


def test_burning_a_conversation_without_a_room_destroys_none(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        await hand_over(desk)
        await desk.visitor_burns(session, now=NOON)
        assert [each.kind for each in desk.due(now=NOON)] == [DeliveryKind.NOTICE]

    at_a_desk(tmp_path, story)


def test_news_of_a_closing_go_to_the_staff_room(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        await hand_over(desk)
        alias = alias_of(desk, session)
        await desk.admin_commands(ADA, Command("close", alias), intake=intake(), now=NOON)
        assert ("staff", f"Ada has closed {alias}.") in places(desk.due(now=NOON))

    at_a_desk(tmp_path, story)


def test_no_id_of_an_archive_rests_in_a_file_and_a_burned_rooms_place_in_it_is_forgotten(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "hello")
        await desk.place_room(session.visitor.id, ROOM)
        [due] = await hand_over(desk)
        await desk.delivery_in_room(due.stanza_id, "1800000000123456")
        await desk.move_position(ROOM.reveal(), "1800000000123457", now=NOON)
        taken = Intake("key", ROOM.reveal(), "1800000000123458")
        await desk.skip(taken, now=NOON)
        assert desk.position(ROOM.reveal()) == ("1800000000123458", NOON)
        for file in tmp_path.iterdir():
            assert b"18000000001234" not in file.read_bytes(), file
        await desk.delivery_read_in_room(session.visitor.id, "1800000000123456")
        assert desk.progress(session) == [(1, Progress.READ)]
        await desk.visitor_burns(session, now=NOON)
        assert desk.position(ROOM.reveal()) is None

    at_a_desk(tmp_path, story)


def test_a_position_of_version_2_is_read_and_a_damaged_one_is_of_no_archive(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        for kept, read in ((b"archive-id-7", "archive-id-7"), (b"", ""), (b"\0\xff damaged", "damaged")):
            await desk.store.move_position(desk._hashed("desk@chat.example"), kept, minute=1)
            assert desk.position("desk@chat.example") == (read, 60.0)

    at_a_desk(tmp_path, story)


# ---- who is an admin no more -------------------------------------------------------------------------------------


def test_who_is_no_more_says_does_and_hears_nothing(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        alias = alias_of(desk, session)
        await desk.admin_says(BERT, alias, "hi", intake=Intake("b1", handles=("b1",)), now=NOON, in_room=True)
        await hand_over(desk)
        await desk.change_admins([ADA], now=NOON)
        for deed in (
            desk.admin_says(BERT, alias, "ha", intake=intake(), now=NOON),
            desk.admin_corrects(BERT, "b1", "ha", intake=intake(), now=NOON),
            desk.admin_retracts(BERT, "b1", intake=intake(), now=NOON),
        ):
            with pytest.raises(AdminError, match="do not answer here any more"):
                await deed
        command = intake()
        await desk.admin_commands(BERT, Command("burn", alias), intake=command, now=NOON)
        with pytest.raises(Duplicate):
            await desk.skip(command, now=NOON)
        await desk.tell(BERT, "You do not answer here any more.", intake=intake(), now=NOON)
        with desk.listen(session) as page:
            desk.admin_types(BERT, alias)
            assert await page.next(0) is None
        assert [each.body for each in desk.history(session)] == ["is anyone there?", "hi"]
        assert (desk.due(now=NOON), desk.store.backlog()) == ([], 0)

    at_a_desk(tmp_path, story)


def test_a_role_counts_as_it_is_now_and_not_as_the_line_remembers_it(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        alias = alias_of(desk, session)
        await desk.admin_says(BERT, alias, "hi", intake=Intake("b1", handles=("b1",)), now=NOON)
        await desk.change_admins([ADA, replace(BERT, role=Role.READS)], now=NOON)
        with pytest.raises(AdminError, match="not yours"):
            await desk.admin_says(BERT, alias, "ha", intake=intake(), now=NOON)
        with pytest.raises(AdminError, match="not yours"):
            await desk.admin_retracts(BERT, "b1", intake=intake(), now=NOON)
        with desk.listen(session) as page:
            desk.admin_types(BERT, alias)
            assert await page.next(0) is None
        await desk.admin_commands(BERT, Command("close", alias), intake=intake(), now=NOON)
        assert alias in desk.open_aliases()

    at_a_desk(tmp_path, story)


def test_nothing_is_asked_back_from_who_is_no_more(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        gone = await start(desk, "burned before")
        await hand_over(desk)
        await desk.visitor_burns(gone, now=NOON)
        await desk.change_admins([ADA], now=NOON)
        await desk.visitor_burns(session, now=NOON)
        asked = [each.admin for each in desk.due(now=NOON) if each.kind is DeliveryKind.RETRACT]
        assert asked == [ADA, ADA]
        assert desk.store.backlog() == len(desk.due(now=NOON))

    at_a_desk(tmp_path, story, uses_rooms=False)


# ---- after a restart with other admins ---------------------------------------------------------------------------


def test_what_nobody_got_goes_to_those_who_read_the_site_and_is_held_for_the_quiet(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=()) as desk:
            await start(desk, "hello")
            session = await start(desk, "from the shop", site="shop")
        async with desk_in(tmp_path, admins=(CARL, DORA)) as desk:
            assert places(desk.due(now=NOON)) == [
                ("Dora", NEW_MESSAGE),
                ("Carl", "from the shop"),
                ("Dora", NEW_MESSAGE),
            ]
            await hand_over(desk)
            assert await desk.store.release(session.visitor.id, desk.admin_id(DORA), minute=0) == 1
            assert places(desk.due(now=NOON)) == [("Dora", "from the shop")]

    asyncio.run(story())


def test_what_was_held_for_one_who_left_goes_to_those_who_are_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(DORA,)) as desk:
            await start(desk, "hello")
        async with desk_in(tmp_path, admins=(ADA,)) as desk:
            assert places(desk.due(now=NOON)) == [("Ada", "hello")]
        async with desk_in(tmp_path, admins=(ADA, DORA)) as desk:
            assert places(desk.due(now=NOON)) == [("Ada", "hello")]

    asyncio.run(story())


def test_what_was_held_for_one_who_left_is_not_said_again_where_a_room_has_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA, DORA), uses_rooms=True) as desk:
            alias = alias_of(desk, await start(desk, "hello"))
        async with desk_in(tmp_path, admins=(ADA,), uses_rooms=True) as desk:
            assert places(await hand_over(desk)) == [(alias, "hello")]
        async with desk_in(tmp_path, admins=(BERT,)) as desk:
            assert desk.due(now=NOON) == []

    asyncio.run(story())


def test_what_is_due_to_a_room_stays_so_over_a_change_of_admins(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA,), uses_rooms=True) as desk:
            session = await start(desk, "hello")
            before = desk.due(now=NOON)
        async with desk_in(tmp_path, admins=(BERT,), uses_rooms=True) as desk:
            assert desk.due(now=NOON) == before
            assert places(before) == [(alias_of(desk, session), "hello")]

    asyncio.run(story())


def test_what_is_due_to_a_room_that_nobody_reads_any_more_goes_to_those_who_are_left(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session, shop = await start(desk, "hello"), await start(desk, "from the shop", site="shop")
        await desk.tell_room(session.visitor.id, "for the room only", now=NOON)
        await desk.change_admins([CARL, DORA], now=NOON)
        assert sorted(places(await hand_over(desk))) == sorted(
            [(alias_of(desk, shop), "from the shop"), *[("Dora", NEW_MESSAGE)] * 2]
        )
        await start(desk, "more")
        await desk.change_admins([CARL], now=NOON)  # Who reads none of these.
        assert desk.due(now=NOON) == []
        await desk.change_admins([ADA], now=NOON)
        assert [body for _, body in places(desk.due(now=NOON))] == ["hello", "more"]

    at_a_desk(tmp_path, story, admins=(ADA, CARL, DORA), sites={"": Site("", "", ""), "shop": Site("shop", "", "")})


def test_who_wants_all_words_again_gets_those_that_were_held(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await start(desk, "hello")
        assert places(await hand_over(desk)) == [("Dora", NEW_MESSAGE)]
        await desk.change_admins([replace(DORA, notify_only=False)], now=NOON)
        assert places(desk.due(now=NOON)) == [("Dora", "hello")]
        await desk.change_admins([DORA], now=NOON)
        assert places(await hand_over(desk)) == [("Dora", NEW_MESSAGE)]
        await desk.reassign(now=NOON)
        assert desk.due(now=NOON) == []

    at_a_desk(tmp_path, story, admins=(DORA,), uses_rooms=False)


def test_what_was_asked_for_comes_over_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(DORA,)) as desk:
            alias = alias_of(desk, await start(desk, "hello"))
            await hand_over(desk)
            await desk.admin_commands(DORA, Command("show", alias), intake=intake(), now=NOON)
        async with desk_in(tmp_path, admins=(DORA,)) as desk:
            assert places(desk.due(now=NOON)) == [("Dora", "hello")]

    asyncio.run(story())


def test_who_no_longer_reads_a_site_gets_nothing_more_of_it(tmp_path: Path) -> None:
    barred = Admin("Ada", ADA.address, role=Role.NONE, roles=(("shop", Role.LEADS),))

    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA,)) as desk:
            await start(desk, "hello")
            await start(desk, "from the shop", site="shop")
            await desk.tell(ADA, "The disk is full.", now=NOON)
        async with desk_in(tmp_path, admins=(barred,)) as desk:
            assert places(desk.due(now=NOON)) == [("Ada", "from the shop"), ("Ada", "The disk is full.")]
        async with desk_in(tmp_path, admins=(barred, BERT)) as desk:
            assert ("Bert", "hello") in places(desk.due(now=NOON))
            assert ("Ada", "hello") not in places(desk.due(now=NOON))

    asyncio.run(story())
