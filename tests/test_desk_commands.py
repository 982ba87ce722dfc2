"""What commands do to a conversation: who may, what is said to whom, and where."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from tests import scenes
from tests.desks import ADA, NOON, hand_over, intake, start
from tests.scenes import CLEO, DORA, QUIET, Scene, Tell
from veilsupport import commands
from veilsupport.commands import Command
from veilsupport.errors import AdminError, Duplicate
from veilsupport.model import (
    Admin,
    Ended,
    Private,
    Role,
    Standing,
    StandingChanged,
)


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    return functools.partial(scenes.tell, tmp_path)


# ---- where the answer goes -------------------------------------------------------------------------------------------


def test_answer_goes_where_the_command_was_written(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        nothing = "There is no conversation qq-1; nothing was sent to anyone. !list shows the open ones."
        assert await scene.and_all("!close qq-1") == [("Ada", "", nothing)]
        assert await scene.and_all("!close qq-1", staff=True) == [("staff room", "", nothing)]
        [(where, alias, words)] = await scene.and_all("!list", place=heron)
        assert (where, alias) == ("room", heron.alias)
        assert heron.alias in words

    tell(story, rooms=True)


def test_without_rooms_every_answer_goes_to_the_chat(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        for place, staff in ((heron.id, False), (None, True)):
            await scene.desk.admin_commands(ADA, Command("who"), intake=intake(), now=NOON, place=place, staff=staff)
        assert [whose for whose, _, _ in await scene.told()] == ["Ada", "Ada"]

    tell(story)


def test_a_command_takes_effect_once(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        for line in (f"!claim {heron.alias}", f"!say {heron.alias} hi", "!away", "!hours 9-17", "!canned add hi hello"):
            stanza, command = intake(), commands.parse(line)
            assert isinstance(command, Command)
            await scene.desk.admin_commands(ADA, command, intake=stanza, now=NOON)
            await scene.told()
            with pytest.raises(Duplicate):
                await scene.desk.admin_commands(ADA, command, intake=stanza, now=NOON)
            assert await scene.told() == []
        assert scene.answers(session) == ["hi"]

    tell(story)


def test_a_conversation_that_is_burned_at_this_very_moment_is_said_to_be_gone(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        found = scene.desk.store.conversation_called(heron.alias)
        await scene.desk.visitor_burns(session, now=NOON)
        await scene.told()
        scene.desk.store.conversation_called = lambda _: found  # type: ignore[method-assign, assignment]  # between look and act
        await scene.writes("!canned add hi hello")
        for line in ("!claim", "!close", "!say x", "!canned use hi"):
            parsed = commands.parse_in_room(line, heron.alias)
            assert isinstance(parsed, Command)
            await scene.desk.admin_commands(ADA, parsed, intake=intake(), now=NOON, place=heron.id)
            assert ("Ada", "", "That conversation is gone; nothing was sent to anyone.") in await scene.told()

    tell(story, rooms=True)


# ---- roles -----------------------------------------------------------------------------------------------------------

NEEDS = {
    Role.READS: ["!note heron TEXT", "!show heron", "!list", "!alike heron", "!who", "!status", "!hours", "!omemo"],
    Role.ANSWERS: ["!claim heron", "!close heron", "!reopen heron", "!say heron hi", "!canned", "!away"],
    Role.LEADS: [
        "!assign heron Ada",
        "!block heron",
        "!burn heron",
        "!hours 9-17",
        "!hours off",
        "!canned add hi hello",
        "!canned remove hi",
        "!trust Ada 1",
    ],
}


@pytest.mark.parametrize("role", list(Role))
def test_each_command_takes_its_role_and_no_more(tell: Tell, role: Role) -> None:
    someone = Admin("Sam", Private("sam@chat.example"), role)

    async def story(scene: Scene) -> None:
        await scene.writes("!canned add hi hello")
        for needed, lines in NEEDS.items():
            for line in lines:
                _, heron = await scene.visitor()
                said = await scene.writes(line.replace("heron", heron.alias), someone)
                refused = "not yours to do" in said or "There is no conversation" in said
                assert refused == (role < needed), (line, said)
        assert "!list" in await scene.writes("!help", someone)

    tell(story, ADA, someone)
    assert {line.split()[0] for lines in NEEDS.values() for line in lines} == {
        f"!{verb.name}" for verb in commands.VERBS
    } - {"!help"}


def test_a_role_holds_on_its_site_only(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, own = await scene.visitor()
        session, shop = await scene.visitor(site="shop")
        assert "is closed" in await scene.writes(f"!close {shop.alias}", CLEO)
        assert "not yours to do" in await scene.writes(f"!close {own.alias}", CLEO)
        assert "not yours to do" in await scene.writes(f"!block {shop.alias}", CLEO)
        with pytest.raises(AdminError, match="not yours"):
            await scene.desk.admin_says(CLEO, own.alias, "hi", intake=intake(), now=NOON)
        await scene.desk.admin_says(CLEO, shop.alias, "hi", intake=intake(), now=NOON)
        assert scene.answers(session) == ["hi"]

    tell(story, ADA, CLEO)


def test_where_one_has_no_role_there_is_nothing_to_be_seen(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, own = await scene.visitor("a secret")
        _, shop = await scene.visitor(site="shop")
        assert await scene.writes("!list", DORA) == f"{shop.alias} (shop), request: waits 0 min"
        said = await scene.writes(f"!close {own.alias}", DORA)
        assert said.startswith(f"There is no conversation {own.alias}")
        everything = await scene.and_all(f"!close {own.alias}")
        everything += await scene.and_all(f"!note {own.alias} secret")
        everything += await scene.and_all(f"!claim {own.alias}")
        assert [whose for whose, _, _ in everything] == ["Ada"] * 3
        assert "is burned" in await scene.writes(f"!burn {shop.alias}", DORA)

    tell(story, ADA, DORA)


# ---- how it stands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "done", "standing"),
    [
        ("close", "closed", Standing.CLOSED),
        ("block", "blocked", Standing.BLOCKED),
        ("reopen", "reopened", Standing.OPEN),
    ],
)
def test_standing_is_changed_and_told(tell: Tell, verb: str, done: str, standing: Standing) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        with scene.desk.listen(session) as page:
            assert await scene.and_all(f"!{verb} {heron.alias}") == [
                ("Ada", heron.alias, f"{heron.alias} is {done}."),
                ("Bert", heron.alias, f"Ada has {done} {heron.alias}."),
            ]
            assert await page.next(1) == StandingChanged(standing)
        assert scene.now(heron).standing is standing

    tell(story)


def test_closing_leaves_a_last_line_in_the_room(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        how = f"A new message of the visitor opens it again, or !reopen {heron.alias} in the chat with the desk."
        assert await scene.and_all("!close", place=heron) == [("room", heron.alias, f"{heron.alias} is closed. {how}")]
        assert await scene.and_all(f"!close {heron.alias}") == [
            ("Ada", heron.alias, f"{heron.alias} is closed."),
            ("room", heron.alias, f"Ada has closed {heron.alias}. {how}"),
            ("staff room", "", f"Ada has closed {heron.alias}."),
        ]
        assert await scene.and_all(f"!reopen {heron.alias}", staff=True) == [
            ("staff room", "", f"{heron.alias} is reopened."),
            ("room", heron.alias, f"Ada has reopened {heron.alias}."),
        ]

    tell(story, rooms=True)


def test_no_room_is_made_just_to_be_told_that_it_is_closed(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        await start(scene.desk)
        await hand_over(scene.desk)
        [alias] = scene.desk.open_aliases()
        assert [whose for whose, _, _ in await scene.and_all(f"!close {alias}")] == ["Ada", "staff room"]

    tell(story, rooms=True)


def test_burning_in_its_own_room_is_said_elsewhere(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        stays = "Its room is destroyed, with the archive; what your devices still have of it is yours to delete."
        with scene.desk.listen(session) as page:
            assert await scene.and_all("!burn", place=heron) == [
                ("Ada", "", f"{heron.alias} is burned. {stays}"),
                ("staff room", "", f"Ada has burned {heron.alias}. {stays}"),
            ]
            assert await page.next(1) == Ended(burned=True)
        assert scene.desk.open_aliases() == []

    tell(story, rooms=True)


# ---- words -----------------------------------------------------------------------------------------------------------


def test_a_note_stays_among_the_admins(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        assert await scene.and_all(f"!note {heron.alias} wrote before") == [
            ("Ada", heron.alias, "The others have your note; the visitor does not see it."),
            ("Bert", heron.alias, "note by Ada: wrote before"),
        ]
        assert scene.answers(session) == []

    tell(story)


def test_a_note_in_its_room_stands_there_already(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        stanza, command = intake(), Command("note", heron.alias, "wrote before")
        await scene.desk.admin_commands(ADA, command, intake=stanza, now=NOON, place=heron.id)
        assert await scene.told() == []
        with pytest.raises(Duplicate):
            await scene.desk.skip(stanza, now=NOON)
        assert await scene.and_all(f"!note {heron.alias} wrote before", staff=True) == [
            ("staff room", "", "The others have your note; the visitor does not see it."),
            ("room", heron.alias, "note by Ada: wrote before"),
        ]
        assert scene.answers(session) == []

    tell(story, rooms=True)


def test_a_note_that_nobody_can_read_is_said_to_be_with_nobody(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        assert "with nobody" in await scene.writes(f"!note {heron.alias} x")

    tell(story, ADA, DORA, QUIET)


def test_saying_it_by_command_is_an_answer(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        assert await scene.and_all(f"!say {heron.alias} we are coming\nsoon") == [
            ("Ada", heron.alias, f"Sent to {heron.alias}."),
            ("Bert", heron.alias, "Ada: we are coming\nsoon"),
            ("Bert", heron.alias, f"Ada answers {heron.alias}."),
        ]
        assert scene.answers(session) == ["we are coming\nsoon"]
        assert "nothing in your message" in await scene.writes(f"!say {heron.alias} \u202e")
        assert "too long" in await scene.writes(f"!say {heron.alias} {'x' * 4001}")

    tell(story)


def test_saying_it_in_its_own_room_needs_no_more(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        assert await scene.and_all("!say hi", place=heron) == [("staff room", "", f"Ada answers {heron.alias}.")]
        assert await scene.and_all(f"!say {heron.alias} you", staff=True) == [
            ("staff room", "", f"Sent to {heron.alias}."),
            ("room", heron.alias, "Ada: you"),
        ]
        assert scene.answers(session) == ["hi", "you"]

    tell(story, rooms=True)
