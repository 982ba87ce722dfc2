"""What commands do to the desk as a whole, what they tell of it, and who gives them."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import scenes
from tests.desks import ADA, BERT, NOON, hand_over, intake, reopened, start
from tests.scenes import CLEO, DORA, QUIET, Scene, Tell
from veilsupport import commands
from veilsupport.commands import Answer, Command
from veilsupport.desk.commands import LEFT_OUT
from veilsupport.desk.overview import LIST_MAX
from veilsupport.errors import AdminError, Duplicate, NotFound, StoreError
from veilsupport.model import (
    Admin,
    AttendanceChanged,
    Private,
    Role,
    Standing,
)


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    return functools.partial(scenes.tell, tmp_path)


# ---- overview --------------------------------------------------------------------------------------------------------


def test_list_begins_with_who_has_waited_longest(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        assert await scene.writes("!list") == "No conversation is open."
        _, quiet = await scene.visitor()
        _, first = await scene.visitor(site="shop")
        late = await scene.desk.visitor_starts("late", seed=b"late", now=NOON + 3000)
        last = scene.desk.conversation(reopened(scene.desk, late.token))
        assert last is not None
        await scene.desk.admin_says(ADA, quiet.alias, "hi", intake=intake(), now=NOON + 60)
        await scene.writes(f"!claim {first.alias}", BERT)
        assert scene.desk.listing(ADA, now=NOON + 3600).split("\n") == [
            f"{first.alias} (shop), Bert: waits 1 h",
            f"{last.alias}, request: waits 10 min",
            f"{quiet.alias}, Ada: quiet for 59 min",
        ]
        assert "waits 3 days" in scene.desk.listing(ADA, now=NOON + 80 * 3600)

    tell(story)


def test_a_long_list_ends_with_how_many_more_there_are(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.gather(*(start(scene.desk, f"hello {number}") for number in range(LIST_MAX + 2)))
        lines = scene.desk.listing(ADA, now=NOON).split("\n")
        assert (len(lines), lines[-1]) == (LIST_MAX + 1, "… and 2 more.")

    tell(story)


def test_who_says_who_is_there_and_what_each_has(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        await scene.writes(f"!claim {heron.alias}")
        assert await scene.writes("!who") == (
            "Ada: not to be seen from here, 1 open\nBert: not to be seen from here, 0 open"
        )
        scene.desk.admins_are_there([ADA])
        await scene.writes("!away", QUIET)
        assert await scene.writes("!who") == "Ada: there, 1 open\nBert: not there, 0 open"
        await scene.writes("!away")
        assert "Ada: away" in await scene.writes("!who")

    tell(story)


def test_status_counts(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        scene.desk.status = lambda: ["Tor: well"]
        session, heron = await scene.visitor()
        await scene.visitor()
        await scene.desk.admin_says(ADA, heron.alias, "hi", intake=intake(), now=NOON)
        await scene.told()
        with scene.desk.listen(session):
            assert (await scene.writes("!status")).split("\n") == [
                "Tor: well",
                "Conversations open: 2",
                "Waiting for an answer: 1",
                "Waiting to be delivered: 0",
                "Pages open: 1",
            ]

    tell(story)


# ---- who may read the answer ----------------------------------------------------------------------------------------


def test_in_a_room_one_is_told_only_of_what_everyone_there_may_read(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, own = await scene.visitor()
        _, shop = await scene.visitor(site="shop")
        await scene.writes(f"!claim {own.alias}")
        for by, where in ((ADA, {"place": shop}), (ADA, {"staff": True}), (CLEO, {"staff": True})):
            listed = await scene.writes("!list", by, **where)
            left_out = f"\n{LEFT_OUT}" if by == ADA or where else ""
            assert listed == f"{shop.alias} (shop), request: waits 0 min{left_out}"
            assert "Ada: not to be seen from here, 0 open" in await scene.writes("!who", by, **where)
            status = await scene.writes("!status", by, **where)
            assert "Conversations open: 1\nWaiting for an answer: 1\n" in status
        in_its_room = await scene.writes("!list", place=own)
        assert own.alias in in_its_room  # Dora, who sees nothing of it, is not there
        assert LEFT_OUT not in in_its_room
        assert own.alias in await scene.writes("!list")
        assert "Ada: not to be seen from here, 1 open" in await scene.writes("!who")
        assert "Conversations open: 2" in await scene.writes("!status")
        assert "Conversations open: 1" in await scene.writes("!status", DORA)
        assert "Ada: not to be seen from here, 0 open" in await scene.writes("!who", DORA)

    tell(story, ADA, CLEO, DORA, rooms=True)


def test_where_nothing_can_be_told_to_all_the_chat_is_named(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        await scene.visitor()
        assert await scene.writes("!list", staff=True) == f"No conversation is open.\n{LEFT_OUT}"
        assert await scene.writes("!list", DORA, staff=True) == "No conversation is open."

    tell(story, ADA, DORA, rooms=True)


# ---- what counts on every site ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["!hours 9-17", "!hours off", "!canned add hi hello", "!canned remove good"])
def test_whoever_leads_one_site_sets_nothing_for_the_others(tell: Tell, line: str) -> None:
    eve = Admin("Eve", Private("eve@chat.example"), roles=(("shop", Role.ANSWERS),))

    async def story(scene: Scene) -> None:
        await scene.writes("!canned add good good day")
        await scene.desk.operator_commands("hours 10-11", now=NOON)
        before = dict(scene.desk.store.canned()), scene.desk.hours_override()
        for someone in (DORA, eve):
            assert "not yours to do" in await scene.writes(line, someone)
        assert (dict(scene.desk.store.canned()), scene.desk.hours_override()) == before
        assert "not yours" not in await scene.writes(line)

    tell(story, ADA, DORA, eve)


def test_trust_takes_leading_wherever_the_target_has_a_role(tell: Tell) -> None:
    asked: list[str] = []

    async def trust(name: str, code: str) -> str:
        asked.append(name)
        return "It is believed in."

    async def story(scene: Scene) -> None:
        scene.desk.trust_device = trust
        for name in ("Ada", "Cleo"):
            assert "not yours to do" in await scene.writes(f"!trust {name} 1", DORA)
        assert await scene.writes("!trust Dora 1", DORA) == "It is believed in."
        assert await scene.writes("!trust Dora 1") == "It is believed in."
        assert (await scene.desk.operator_commands("trust Ada 1", now=NOON))[0]
        assert asked == ["Dora", "Dora", "Ada"]

    tell(story, ADA, CLEO, DORA)


# ---- a disk that refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["!away soon", "!hours 9-17", "!canned add hi hello", "!show", "!trust Bert 1"])
def test_what_could_not_be_stored_is_done_when_it_comes_again(tell: Tell, line: str) -> None:
    """The effect, its answer and the fact that the stanza was seen: all of them or none."""

    async def trust(name: str, code: str) -> str:
        return "It is believed in."

    async def story(scene: Scene) -> None:
        scene.desk.trust_device = trust
        await scene.visitor("a secret")
        command, stanza, write = commands.parse(line), intake(), scene.desk.store._write
        assert isinstance(command, Command)

        async def refuse(*_: object, **__: object) -> Any:
            scene.desk.store._write = write  # type: ignore[method-assign]
            raise StoreError("The disk is full.")

        scene.desk.store._write = refuse  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await scene.desk.admin_commands(QUIET, command, intake=stanza, now=NOON)
        assert not scene.desk.is_away(QUIET)
        assert scene.desk.hours_override() is None
        await scene.desk.admin_commands(QUIET, command, intake=stanza, now=NOON)
        assert [each for each in await hand_over(scene.desk) if each.admin == QUIET]
        with pytest.raises(Duplicate):
            await scene.desk.admin_commands(QUIET, command, intake=stanza, now=NOON)

    tell(story, ADA, BERT, QUIET)


# ---- canned answers --------------------------------------------------------------------------------------------------


def test_canned_answers_are_kept_sealed_listed_used_and_removed(tell: Tell, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        assert "no canned answers" in await scene.writes("!canned")
        assert await scene.and_all("!canned add Hello MARKwelcome, we read this soon") == [
            ("Ada", "", "hello is kept."),
            ("Bert", "", "Ada has kept the canned answer hello."),
        ]
        assert await scene.writes("!canned list") == "hello: MARKwelcome, we read this soon"
        for file in tmp_path.iterdir():
            assert b"MARKwelcome" not in file.read_bytes()
        assert await scene.and_all(f"!canned {heron.alias} use hello") == [
            ("Ada", heron.alias, f"Sent to {heron.alias}: MARKwelcome, we read this soon"),
            ("Bert", heron.alias, "Ada: MARKwelcome, we read this soon"),
            ("Bert", heron.alias, f"Ada answers {heron.alias}."),
        ]
        assert "words that it had are gone" in await scene.writes("!canned add hello good\nday")
        assert f"Sent to {heron.alias}" in await scene.writes(f"!canned {heron.alias} HELLO")
        assert scene.answers(session) == ["MARKwelcome, we read this soon", "good\nday"]
        assert await scene.writes("!canned") == "hello: good day"
        assert await scene.writes("!canned remove hello") == "hello is removed."
        assert "no canned answer of that name" in await scene.writes("!canned remove hello")

    tell(story)


def test_canned_answer_is_shown_in_the_room_where_only_its_name_was_written(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.writes("!canned add hello good day")
        assert await scene.and_all("!canned hello", place=heron) == [
            ("room", heron.alias, "Ada: good day"),
            ("staff room", "", f"Ada answers {heron.alias}."),
        ]
        assert scene.answers(session) == ["good day"]
        assert await scene.and_all("!canned add bye good bye", place=heron) == [
            ("room", heron.alias, "bye is kept."),
            ("staff room", "", "Ada has kept the canned answer bye."),
        ]

    tell(story, rooms=True)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("!canned add", "Nothing was kept"),
        ("!canned add hello", "Nothing was kept"),
        ("!canned add HÄLLO x", "Nothing was kept"),
        ("!canned add use x", "Nothing was kept"),
        (f"!canned add {'x' * 33} x", "Nothing was kept"),
        ("!canned add a-heron-42 x", "is kept"),
        ("!canned use", "no canned answer of that name"),
        ("!canned use god", "Did you mean good?"),
        ("!canned good", "For which conversation"),
        ("!canned good day", "no canned answer of that name"),
    ],
)
def test_what_is_wrong_with_a_canned_answer_is_said(tell: Tell, line: str, word: str) -> None:
    async def story(scene: Scene) -> None:
        await scene.writes("!canned add good good day")
        assert word in await scene.writes(line)

    tell(story)


def test_name_of_a_conversation_is_none_of_a_canned_answer(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        await scene.desk.admin_commands(ADA, Command("canned", None, "add heron-42 x"), intake=intake(), now=NOON)
        [(_, _, words)] = await scene.told()
        assert "Nothing was kept" in words

    tell(story)


def test_damaged_canned_answer_goes_to_nobody(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.writes("!canned add hello good day")
        await scene.desk.store._write(lambda db: db.execute("UPDATE canned SET sealed = zeroblob(300)"))
        assert await scene.writes("!canned") == "hello: (damaged)"
        assert "damaged on the desk's disk, so nothing was sent" in await scene.writes(f"!canned {heron.alias} hello")
        assert scene.answers(session) == []

    tell(story)


# ---- what the XMPP edge answers --------------------------------------------------------------------------------------


def test_omemo_and_trust_are_answered_by_the_edge(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        assert await scene.writes("!omemo") == "OMEMO is off."
        assert "nothing was changed" in await scene.writes("!trust bert 1")
        asked: list[tuple[str, str]] = []

        async def trust(name: str, code: str) -> str:
            asked.append((name, code))
            if code != "05":
                raise AdminError("No device waits under that code.")
            return "Bert's device is believed in."

        scene.desk.omemo_words = lambda: "Our fingerprint: 05"
        scene.desk.trust_device = trust
        assert await scene.writes("!omemo") == "Our fingerprint: 05"
        assert await scene.writes("!trust bert 05") == "Bert's device is believed in."
        assert "No device waits" in await scene.writes("!trust Bert 06")
        assert "no admin of that name" in await scene.writes("!trust Zacharias 05")
        assert "Something is missing" in await scene.writes("!trust Bert")
        assert asked == [("Bert", "05"), ("Bert", "06")]

    tell(story)


# ---- the operator ----------------------------------------------------------------------------------------------------


def test_operator_commands_as_one_who_leads_and_gets_the_answer_at_once(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        assert await scene.desk.operator_commands(f"assign {heron.alias} Bert", now=NOON) == (
            True,
            f"{heron.alias} is Bert's now.",
        )
        assert await scene.told() == [
            ("Bert", heron.alias, f"The desk has given {heron.alias} to you."),
            ("Ada", heron.alias, f"The desk has given {heron.alias} to Bert."),
        ]
        assert await scene.desk.operator_commands(f"!close {heron.alias}", now=NOON) == (
            True,
            f"{heron.alias} is closed.",
        )
        assert {words for _, _, words in await scene.told()} == {f"The desk has closed {heron.alias}."}
        assert scene.now(heron).standing is Standing.CLOSED
        assert (await scene.desk.operator_commands("hours 9-17", now=NOON))[0]
        assert await scene.desk.operator_commands("help", now=NOON) == (True, commands.shell_help())

    tell(story)


def test_operator_answers_as_the_desk_and_claims_nothing(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.writes("!canned add hello good day")
        assert (await scene.desk.operator_commands(f"canned {heron.alias} hello", now=NOON))[0]
        assert [(each.name, each.body) for each in scene.desk.history(session)][1:] == [("The desk", "good day")]
        assert scene.now(heron).owner is None

    tell(story)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("", "no such command"),
        ("clsoe heron-42", "Did you mean !close?"),
        ("close", "Which conversation?"),
        ("close qq-1", "There is no conversation"),
        ("say heron-42 hello", "only in a chat"),
        ("claim heron-42", "only in a chat"),
        ("away", "only in a chat"),
        ("!!close", "only in a chat"),
        ("canned add hello we are here", "only in a chat"),
        ("hours nonsense", "Nothing was changed"),
    ],
)
def test_what_the_operator_cannot_do_is_said_and_marked(tell: Tell, line: str, word: str) -> None:
    async def story(scene: Scene) -> None:
        done, text = await scene.desk.operator_commands(line, now=NOON)
        assert not done
        assert word in text
        assert await scene.told() == []

    tell(story)


def test_a_disk_that_refuses_is_said_to_the_operator(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        async def refuse(*_: object, **__: object) -> None:
            raise StoreError("The disk is full.")

        scene.desk.store.queue = refuse  # type: ignore[method-assign]
        assert await scene.desk.operator_commands("list", now=NOON) == (False, "The disk is full.")

    tell(story)


# ---- other admins ----------------------------------------------------------------------------------------------------


def test_what_was_due_to_one_who_is_no_more_goes_to_those_who_are_there_now(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session = await start(scene.desk, "is anyone there?")
        scene.desk.admins_are_there([ADA])
        with scene.desk.listen(session) as page:
            await scene.desk.change_admins([CLEO], now=NOON)
            assert await page.next(1) == AttendanceChanged()
        assert [(each.admin, each.body) for each in scene.desk.due(now=NOON)] == [(CLEO, "is anyone there?")]
        assert scene.desk.admins == (CLEO,)
        assert not scene.desk.attendance("shop", now=NOON).staffed  # nobody has seen Cleo yet

    tell(story, ADA)


def test_an_admin_whose_role_changes_stays_there(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        scene.desk.admins_are_there([ADA])
        await scene.desk.change_admins([replace(ADA, role=Role.ANSWERS)], now=NOON)
        assert scene.desk.attendance("", now=NOON).staffed
        await scene.desk.change_admins([replace(ADA, role=Role.READS)], now=NOON)
        assert not scene.desk.attendance("", now=NOON).staffed

    tell(story, ADA)


def test_the_answer_to_a_wrong_command_finds_its_way_when_the_room_is_gone(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.desk.visitor_burns(session, now=NOON)
        await scene.told()
        await scene.desk.admin_commands(ADA, Command("list"), intake=intake(), now=NOON, place=heron.id)
        assert await scene.told() == [("Ada", "", "That conversation is gone; nothing was sent to anyone.")]
        assert isinstance(commands.parse_in_room("hello", heron.alias), Answer)
        with pytest.raises(NotFound):
            await scene.desk.tell_room(heron.id, "x", now=NOON)

    tell(story, rooms=True)
