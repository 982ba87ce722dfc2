"""Before the first answer: what a request may hold, how the same words fold, and the operator's word list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.desks import ADA, BERT, FREELY, NOON, bodies, desk_in, hand_over, intake, reopened, start
from tests.scenes import QUIET, Scene
from veilsupport import commands, config, people
from veilsupport.desk import Desk, requests
from veilsupport.desk.requests import GREETING_RINGS, MARK, RING_HOURS, RINGS, TEXTS_MAX, Repeats
from veilsupport.errors import SetupError, StoreError, VisitorError
from veilsupport.model import (
    REQUEST_CHARACTERS,
    REQUEST_MESSAGES,
    Admin,
    Conversation,
    DeliveryKind,
    Private,
    Progress,
    Request,
    Session,
    Site,
    Standing,
)

SPAM = "Buy our very good watches, only today and only here"
HOUR = 3600.0
Story = Callable[[Scene], Awaitable[None]]


def tell(path: Path, story: Story, *admins: Admin, rooms: bool = False, words: Sequence[str] = ()) -> None:
    own = Site("", "Support", "", mark_words=tuple(words))

    async def tell_it() -> None:
        sites = {"": own, "shop": replace(own, name="shop")}
        async with desk_in(path, admins or (ADA,), sites=sites, uses_rooms=rooms) as desk:
            await story(Scene(desk))

    asyncio.run(tell_it())


def of(desk: Desk, session: Session) -> Conversation:
    found = desk.conversation(session)
    assert found
    return found


async def flood(desk: Desk, count: int, body: str = SPAM, *, site: str = "") -> list[Session]:
    return [await start(desk, body, site=site) for _ in range(count)]


async def says(desk: Desk, session: Session, body: str, *, once: str = "") -> None:
    await desk.visitor_says(session, body, once=(once or body).encode(), now=NOON)


async def answer(desk: Desk, session: Session, body: str = "yes?") -> None:
    await desk.admin_says(ADA, of(desk, session).alias, body, intake=intake(), now=NOON)


# ---- a request -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taking_on", ["answer", "!claim {}", "!assign {} Bert", "!say {} yes?"])
def test_it_is_a_request_until_somebody_answers_or_takes_it(taking_on: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        assert heron.request is Request.NEW
        assert f"{heron.alias}, request: waits" in scene.desk.listing(ADA, now=NOON)
        await scene.writes(f"!note {heron.alias} who is that?")
        await scene.writes(f"!close {heron.alias}")
        await scene.writes(f"!reopen {heron.alias}")
        assert of(scene.desk, session).request is Request.NEW
        if taking_on == "answer":
            await answer(scene.desk, session)
        else:
            await scene.writes(taking_on.format(heron.alias))
        assert (of(scene.desk, session).request, of(scene.desk, session).alike) == (Request.ACCEPTED, None)
        assert "request" not in scene.desk.listing(ADA, now=NOON)

    tell(tmp_path, story, ADA, BERT)


def test_who_writes_line_by_line_is_stopped_late_and_calmly_and_goes_on_after_the_answer(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        desk, session = scene.desk, await start(scene.desk, "1")
        for number in range(2, REQUEST_MESSAGES + 1):
            await says(desk, session, str(number))
        with pytest.raises(VisitorError, match="wait until somebody has answered") as refused:
            await says(desk, session, "21")
        assert (refused.value.status, refused.value.code) == (409, "wait_for_answer")
        await says(desk, session, "20")  # Back, or a double click: that was kept before
        assert len(desk.history(session)) == REQUEST_MESSAGES
        await answer(desk, session)
        await says(desk, session, "21")
        assert [each.body for each in desk.history(session)][-2:] == ["yes?", "21"]

    tell(tmp_path, story)


def test_a_request_holds_so_many_characters(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        session = await start(scene.desk, "x" * 4000)
        for number in range(REQUEST_CHARACTERS // 4000 - 1):
            await says(scene.desk, session, "ä" * 4000, once=str(number))
        with pytest.raises(VisitorError, match="You have told us a lot"):
            await says(scene.desk, session, "x")

    tell(tmp_path, story)


def test_the_operator_may_set_the_limits_or_lift_them(tmp_path: Path) -> None:
    settings = config.parse("[desk]\nrequest_messages = 2\nrequest_characters = 0\n[[site]]\nname='shop'\ntitle='S'\n")
    assert people.sites_of(settings)["shop"].request_messages == 2

    async def story(scene: Scene) -> None:
        scene.desk.change_sites(people.sites_of(settings))
        session = await start(scene.desk, "1")
        await says(scene.desk, session, "2")
        with pytest.raises(VisitorError):
            await says(scene.desk, session, "3")
        scene.desk.change_sites(FREELY)
        for number in range(3, 60):
            await says(scene.desk, session, str(number))

    tell(tmp_path, story)


# ---- the same words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rooms", [True, False])
def test_the_same_words_ring_a_few_times_and_all_are_kept(rooms: bool, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        sessions = await flood(scene.desk, RINGS + 7)
        assert bodies(await hand_over(scene.desk)) == [SPAM] * RINGS
        assert await hand_over(scene.desk) == []
        for session in sessions:
            [kept] = scene.desk.history(session)
            assert kept.body == SPAM
            folded = of(scene.desk, session).request is Request.FOLDED
            assert kept.progress is (Progress.KEPT if folded else Progress.HANDED_OVER)  # the truth
        waiting = scene.desk.waiting(ADA, now=NOON)
        assert sum(1 + each.folded for each in waiting) == RINGS + 7
        assert len(waiting) == RINGS
        assert [each.words.endswith(", and 7 more like this") for each in waiting] == [True, False, False]
        assert "Waiting for an answer: 10" in scene.desk.standing(ADA)

    tell(tmp_path, story, rooms=rooms)


def test_case_blanks_and_what_cannot_be_seen_make_no_difference(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        for body in (SPAM, SPAM.upper(), SPAM.replace(" ", "  \n"), "\u00ad".join(SPAM), SPAM.replace("B", "Ｂ")):
            await start(scene.desk, body)
        assert len(bodies(await hand_over(scene.desk))) == RINGS

    tell(tmp_path, story)


def test_a_greeting_rings_more_often(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await flood(scene.desk, GREETING_RINGS + 1, "Is anyone there?")
        assert len(bodies(await hand_over(scene.desk))) == GREETING_RINGS

    tell(tmp_path, story)


def test_other_words_and_other_sites_are_not_folded(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await flood(scene.desk, RINGS + 1)
        await flood(scene.desk, RINGS, site="shop")
        await start(scene.desk, "He has found out where I live, please help me")
        assert len(bodies(await hand_over(scene.desk))) == 2 * RINGS + 1

    tell(tmp_path, story)


def test_who_answers_is_rung_again(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        first, *_ = await flood(scene.desk, RINGS + 1)
        assert len(bodies(await hand_over(scene.desk))) == RINGS
        await answer(scene.desk, first)
        await start(scene.desk, SPAM)
        assert bodies(await hand_over(scene.desk)) == [SPAM]
        await scene.writes(f"!block {scene.desk.open_aliases()[0]}")  # that is no answer
        await start(scene.desk, SPAM)
        assert bodies(await hand_over(scene.desk)) == []

    tell(tmp_path, story)


@pytest.mark.parametrize("line", ["!show {}", "!claim {}", "!assign {} Bert", "!say {} yes?", "@"])
@pytest.mark.parametrize("rooms", [True, False])
def test_a_folded_one_is_opened_and_everything_in_it_comes_in_order(line: str, rooms: bool, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        *_, last = await flood(scene.desk, 2 * RINGS)
        await hand_over(scene.desk)
        fox = of(scene.desk, last).alias
        if line == "@":
            await answer(scene.desk, last)
        else:
            await _command(scene, line.format(fox))
        due = await hand_over(scene.desk)
        to = {each.admin.name if each.admin else "room" for each in due if each.kind is DeliveryKind.MESSAGE}
        assert to == ({"room"} if rooms else {"Ada", "Bert"})
        assert set(bodies(due)) == {SPAM}
        assert of(scene.desk, last).request is (Request.NEW if "show" in line else Request.ACCEPTED)
        [kept, *_] = scene.desk.history(last)
        assert kept.progress is Progress.HANDED_OVER
        await says(scene.desk, last, SPAM, once="again")
        assert SPAM in bodies(await hand_over(scene.desk))  # it stays open

    tell(tmp_path, story, ADA, BERT, rooms=rooms)


async def _command(scene: Scene, line: str) -> None:
    """Without looking at what is due."""
    parsed = commands.parse(line)
    assert isinstance(parsed, commands.Command)
    await scene.desk.admin_commands(ADA, parsed, intake=intake(), now=NOON)


def test_who_goes_on_with_other_words_is_heard(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        *_, last = await flood(scene.desk, RINGS + 2)
        await hand_over(scene.desk)
        await says(scene.desk, last, SPAM, once="2")
        assert bodies(await hand_over(scene.desk)) == []
        await says(scene.desk, last, "no, really: it is me")
        assert bodies(await hand_over(scene.desk)) == [SPAM, SPAM, "no, really: it is me"]
        assert (of(scene.desk, last).request, of(scene.desk, last).alike) == (Request.NEW, None)

    tell(tmp_path, story)


def test_folded_ones_can_be_named_and_opened_when_the_first_is_gone(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        sessions = await flood(scene.desk, RINGS + 3)
        await hand_over(scene.desk)
        names = [of(scene.desk, each).alias for each in sessions]
        told = await scene.writes(f"!alike {names[0]}")
        assert {line.partition(",")[0] for line in told.split("\n")[:-1]} == set(names[RINGS:])
        for name in names[:RINGS]:
            await scene.writes(f"!burn {name}")
        [line] = scene.desk.waiting(ADA, now=NOON)
        assert line.alias in names[RINGS:]
        assert line.words == f"{line.alias}, request: waits 0 min, and 2 more like this"
        assert len((await scene.writes(f"!alike {line.alias}")).split("\n")) == 3
        assert "No other one" in await scene.writes(f"!alike {(await scene.visitor('x'))[1].alias}")

    tell(tmp_path, story)


def test_closing_or_blocking_drops_nothing_that_nobody_has_seen(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        *_, closed, blocked = await flood(scene.desk, RINGS + 2)
        await hand_over(scene.desk)
        await scene.writes(f"!close {of(scene.desk, closed).alias}")
        await scene.writes(f"!block {of(scene.desk, blocked).alias}")
        assert scene.desk.waiting(ADA, now=NOON)[0].folded == 0
        for session in (closed, blocked):
            await _command(scene, f"!show {of(scene.desk, session).alias}")
            assert bodies(await hand_over(scene.desk)) == [SPAM]

    tell(tmp_path, story)


def test_folded_ones_stay_so_over_a_restart_and_other_admins(tmp_path: Path) -> None:
    aliases: list[str] = []

    async def before(scene: Scene) -> None:
        sessions = await flood(scene.desk, RINGS + 2)
        aliases.extend(of(scene.desk, each).alias for each in sessions[RINGS:])
        await hand_over(scene.desk)

    async def after(scene: Scene) -> None:
        await scene.desk.change_admins([BERT], now=NOON)
        assert bodies(scene.desk.due(now=NOON)) == []
        assert scene.desk.waiting(None, now=NOON)[0].folded == 2
        done, _ = await scene.desk.operator_commands(f"assign {aliases[0]} Bert", now=NOON)
        assert done
        assert bodies(scene.desk.due(now=NOON)) == [SPAM]

    tell(tmp_path, before)
    tell(tmp_path, after)


def test_who_is_told_only_that_there_is_a_message_hears_nothing_of_a_folded_one_until_it_is_opened(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        *_, last = await flood(scene.desk, RINGS + 1)
        assert len(bodies(await hand_over(scene.desk), DeliveryKind.NEWS)) == RINGS
        await scene.writes(f"!show {of(scene.desk, last).alias}", QUIET)
        assert [each.progress for each in scene.desk.history(last)] == [Progress.HANDED_OVER]

    tell(tmp_path, story, QUIET)


def test_many_at_once_ring_no_more_than_one_after_the_other(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.gather(*(start(scene.desk, SPAM) for _ in range(30)))
        assert len(bodies(await hand_over(scene.desk))) == RINGS

    tell(tmp_path, story)


def test_one_form_sent_twice_at_once_counts_once(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        for number in range(RINGS):
            twice = [start(scene.desk, SPAM, seed=b"%d" % number) for _ in range(2)]
            await asyncio.gather(*twice)
        assert len(bodies(await hand_over(scene.desk))) == RINGS
        assert len(scene.desk.open_aliases(folded=True)) == RINGS

    tell(tmp_path, story)


def test_what_the_disk_did_not_take_has_rung_nobody_and_does_not_fold_the_last_try(tmp_path: Path) -> None:
    async def refuse(*_: object, **__: object) -> Any:
        raise StoreError("The disk is full.")

    async def story(scene: Scene) -> None:
        write = scene.desk.store._write
        scene.desk.store._write = refuse  # type: ignore[method-assign]
        for _ in range(RINGS):
            with pytest.raises(StoreError):
                await start(scene.desk, SPAM)
        scene.desk.store._write = write  # type: ignore[method-assign]
        await start(scene.desk, SPAM)
        assert bodies(await hand_over(scene.desk)) == [SPAM]

    tell(tmp_path, story)


def test_opened_at_the_very_moment_of_another_message_nothing_stays_behind(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        *_, last = await flood(scene.desk, RINGS + 1)
        await hand_over(scene.desk)
        await asyncio.gather(
            _command(scene, f"!show {of(scene.desk, last).alias}"), says(scene.desk, last, SPAM, once="2")
        )
        assert bodies(await hand_over(scene.desk)) + bodies(await hand_over(scene.desk)) == [SPAM, SPAM]

    tell(tmp_path, story)


def test_a_flood_of_folded_ones_hides_nobody(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await flood(scene.desk, RINGS)
        await asyncio.gather(*(start(scene.desk, SPAM) for _ in range(1200)))
        _, heron = await scene.visitor("help me, I am locked in")
        assert heron.alias in [each.alias for each in scene.desk.waiting(ADA, now=NOON)]
        assert len(scene.desk.open_aliases(ADA)) == RINGS + 1  # whom an answer without a name may be for
        assert f"{heron.alias}, request" in scene.desk.listing(ADA, now=NOON)

    tell(tmp_path, story)


def test_burned_unheard_of_it_is_nobodys_news(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        *_, last = await flood(scene.desk, RINGS + 1)
        await hand_over(scene.desk)
        await scene.desk.visitor_burns(last, now=NOON)
        assert await hand_over(scene.desk) == []
        assert scene.desk.store.folds(limit=9) == []

    tell(tmp_path, story, rooms=True)


# ---- what is remembered of words -------------------------------------------------------------------------------------


def test_a_flood_rings_again_in_the_next_shift_and_a_clock_set_back_silences_nobody() -> None:
    for later in (RING_HOURS * HOUR, -HOUR):
        repeats = Repeats()
        folds = [repeats.said(b"%d" % number, "", SPAM, now=NOON)[1] for number in range(RINGS + 1)]
        assert folds == [False] * RINGS + [True]
        assert repeats.said(b"later", "", SPAM, now=NOON + later)[1] is False


def test_only_so_many_different_words_are_remembered() -> None:
    repeats = Repeats()
    for number in range(3 * TEXTS_MAX):
        repeats.said(b"%d" % number, "", f"different every time {number}", now=NOON)
    assert len(repeats._texts) == TEXTS_MAX


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20 * 3600)), max_size=60))
def test_nobody_is_folded_before_so_many_rang_with_the_same_words(said: list[tuple[int, int]]) -> None:
    repeats, rang = Repeats(), dict[int, int]()
    for who, at in sorted(said, key=lambda each: each[1]):
        fresh = {each: then for each, then in rang.items() if at - then < RING_HOURS * 3600}
        _, folds = repeats.said(b"%d" % who, "", SPAM, now=float(at))
        assert folds == (who not in fresh and len(fresh) >= RINGS)
        if not folds:
            rang = {who: at} | fresh


# ---- the operator's words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_marked"),
    [
        ("he has a GUN", True),
        ("Gun?", True),
        ("begun", False),
        ("guns", False),
        ("i want to  hurt\nmyself", True),
        ("hurt myselfish", False),
        ("STRASSE", True),
        ("nothing", False),
        ("a+b", True),
        ("aab", False),
    ],
)
def test_a_word_counts_by_itself_in_any_case(text: str, is_marked: bool) -> None:
    site = Site("", "", "", mark_words=("gun", "Hurt myself", "straße", "a+b", " "))
    assert requests.is_marked(site, text) is is_marked
    assert not requests.is_marked(Site("", "", ""), text)


@pytest.mark.parametrize("rooms", [True, False])
def test_a_marked_message_comes_like_any_other_with_the_mark_behind_it(rooms: bool, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        session = await start(scene.desk, "he has a gun")
        due = await hand_over(scene.desk)
        assert [(each.kind, each.body) for each in due] == [
            (DeliveryKind.MESSAGE, "he has a gun"),
            (DeliveryKind.NOTICE, MARK),
        ]
        await says(scene.desk, session, "what now")
        assert [each.kind for each in await hand_over(scene.desk)] == [DeliveryKind.MESSAGE]
        assert "gun" not in MARK

    tell(tmp_path, story, rooms=rooms, words=["gun"])


def test_who_is_told_only_that_there_is_a_message_is_told_of_the_mark(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await start(scene.desk, "he has a gun")
        [told] = await hand_over(scene.desk)
        assert told.body == f"{MARK}. New message. !show brings it."

    tell(tmp_path, story, QUIET, words=["gun"])


def test_the_word_list_is_checked() -> None:
    assert people.sites_of(config.parse('[desk]\nmark_words = ["gun", "two words"]'))[""].mark_words == (
        "gun",
        "two words",
    )
    with pytest.raises(SetupError):
        config.parse('[desk]\nmark_words = [""]')


# ---- blocked ---------------------------------------------------------------------------------------------------------


def test_blocking_follows_the_account_over_every_door(tmp_path: Path) -> None:
    email, password = Private("someone@mail.example"), Private("correct horse")

    async def story(scene: Scene) -> None:
        desk = scene.desk
        first = await desk.visitor_registers(email, password, now=NOON)
        session = reopened(desk, first.token)
        await says(desk, session, "hello")
        await hand_over(desk)
        alias = of(desk, session).alias
        assert f"{alias} is blocked." in await scene.writes(f"!block {alias} You threatened one of us.")
        again = reopened(desk, (await desk.visitor_logs_in(email, password, now=NOON)).token)
        renewed = reopened(desk, (await desk.visitor_renews(again, now=NOON)).token)
        await desk.visitor_changes_password(renewed, email, password, Private("another horse"))
        anew = reopened(desk, (await desk.visitor_logs_in(email, Private("another horse"), now=NOON)).token)
        for number, each in enumerate((renewed, anew)):
            assert of(desk, each).standing is Standing.BLOCKED
            assert [line.body for line in desk.history(each)] == ["hello", "You threatened one of us."]  # why
            with pytest.raises(VisitorError, match="ended by the desk") as refused:
                await desk.visitor_says(each, "let me in", once=b"%d" % number, now=NOON, site="shop")
            assert (refused.value.status, refused.value.code) == (403, "blocked")
        with pytest.raises(VisitorError, match="in use"):
            await desk.visitor_registers(email, password, now=NOON)
        assert bodies(await hand_over(desk)) == []
        await desk.visitor_burns(anew, now=NOON)
        assert desk.conversation(anew) is None

    tell(tmp_path, story)


def test_blocking_follows_the_return_code(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        assert session.pending_code
        await scene.writes(f"!block {heron.alias}")
        again = reopened(scene.desk, (await scene.desk.visitor_returns(session.pending_code, now=NOON)).token)
        with pytest.raises(VisitorError, match="ended by the desk"):
            await says(scene.desk, again, "let me in")
        await scene.writes(f"!reopen {heron.alias}")
        await says(scene.desk, again, "thank you")

    tell(tmp_path, story)


def test_the_reason_is_not_written_on_the_operators_command_line(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        done, said = await scene.desk.operator_commands(f"block {heron.alias} because", now=NOON)
        assert (done, scene.now(heron).standing) == (False, Standing.OPEN)
        assert "only in a chat" in said

    tell(tmp_path, story)
