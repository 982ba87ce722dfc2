"""What goes by age, what stays, and that nothing is left of what went."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.browser import Browser, Served
from tests.browser import tell as tell_browser
from tests.desks import ADA, BERT, NOON, desk_in, hand_over, intake, reopened, start
from tests.program import Program
from tests.program import tell as tell_program
from veilsupport import controlsocket, crypto
from veilsupport.cli import cli
from veilsupport.config import parse
from veilsupport.controlsocket import STATUS_SOCKET
from veilsupport.desk import Desk
from veilsupport.directory import DATABASE, DataDirectory
from veilsupport.errors import AdminError, Duplicate, SetupError, VisitorError
from veilsupport.model import Admin, DeliveryKind, Ended, Intake, Private, Session, SignedOut, Site, Standing
from veilsupport.people import sites_of
from veilsupport.store import Store

DAY = 86_400.0
QUIET = Admin("Quinn", Private("quinn@chat.example"), notify_only=True)
OWN = Site("", "Support", "", request_messages=0)  # some write a lot here before anybody answers
MONTH = {"": replace(OWN, retention_days=30)}
IDLE = {"": replace(OWN, idle_days=30)}
Story = Callable[[Desk], Awaitable[None]]


def tell(path: Path, story: Story, *admins: Admin, sites: Mapping[str, Site] = MONTH, rooms: bool = False) -> None:
    async def tell_it() -> None:
        async with desk_in(path, admins or (ADA,), sites=sites, uses_rooms=rooms) as desk:
            await story(desk)

    asyncio.run(tell_it())


def words(desk: Desk, session: Session) -> list[str]:
    return [each.body for each in desk.history(session, limit=999)]


async def says(desk: Desk, session: Session, body: str, *, day: float) -> None:
    await desk.visitor_says(session, body, once=body.encode(), now=NOON + day * DAY)


async def answered(desk: Desk, session: Session, body: str, *, day: float = 0) -> Intake:
    conversation = desk.conversation(session)
    assert conversation
    came = intake()
    came = replace(came, handles=(f"{came.key}-handle",))
    await desk.admin_says(ADA, conversation.alias, body, intake=came, now=NOON + day * DAY)
    return came


def rows(path: Path, sql: str) -> list[Any]:
    db = sqlite3.connect(path / DATABASE)
    found = db.execute(sql).fetchall()
    db.close()
    return found


def remains(path: Path, marks: list[bytes]) -> list[str]:
    """In which files, free pages and the log included, a mark is found."""
    return [file.name for file in path.iterdir() for mark in marks if mark in file.read_bytes()]


# ---- messages ----------------------------------------------------------------------------------------------------


def test_messages_go_when_they_are_older_than_the_days_and_not_before(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "first")
        await says(desk, session, "second", day=10)
        await hand_over(desk)
        assert await desk.expire(NOON + 30 * DAY) == 0
        assert await desk.expire(NOON + 30 * DAY + 60) == 1
        assert words(desk, session) == ["second"]
        await says(desk, session, "third", day=31)
        assert [each.seq for each in desk.history(session)] == [2, 3]

    tell(tmp_path, story)


def test_without_days_nothing_ever_goes(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "first")
        await hand_over(desk)
        assert await desk.expire(NOON + 9999 * DAY) == 0
        assert words(desk, session) == ["first"]

    tell(tmp_path, story, sites={"": OWN})


def test_each_site_has_days_of_its_own_and_a_removed_one_the_desks(tmp_path: Path) -> None:
    sites = sites_of(
        parse(
            "[desk]\nretention_days = 30\nidle_days = 90\n"
            '[[site]]\nname = "shop"\ntitle = "Shop"\nretention_days = 0\n'
            '[[site]]\nname = "clinic"\ntitle = "Clinic"\nretention_days = 5\nidle_days = 6\n'
        )
    )
    assert (sites["shop"].retention_days, sites["shop"].idle_days) == (0, 90)

    async def story(desk: Desk) -> None:
        of = {name: await start(desk, "hello", site=name) for name in ("", "shop", "clinic", "removed")}
        await hand_over(desk)
        await desk.expire(NOON + 6 * DAY)
        assert [name for name, session in of.items() if words(desk, session)] == ["", "shop", "removed"]
        assert desk.conversation(of["clinic"])
        await desk.expire(NOON + 7 * DAY)
        assert desk.conversation(of["clinic"]) is None
        await desk.expire(NOON + 31 * DAY)
        assert [name for name, session in of.items() if words(desk, session)] == ["shop"]
        await desk.expire(NOON + 91 * DAY)
        assert not any(desk.conversation(session) for session in of.values())

    tell(tmp_path, story, sites=sites)


def test_nothing_remains_of_an_expired_message_in_any_file(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.enable_archive(crypto.archive_keys(Private("some words")).public)
        session = await start(desk, "first")
        came = await answered(desk, session, "second")
        await hand_over(desk)
        await says(desk, session, "later", day=20)
        await hand_over(desk)
        marks = [sealed[:48] for (sealed,) in rows(tmp_path, "SELECT sealed FROM message WHERE seq < 3")]
        marks += [sealed[:48] for (sealed,) in rows(tmp_path, "SELECT sealed FROM archived WHERE seq < 3")]
        marks += [once for (once,) in rows(tmp_path, "SELECT once FROM posted WHERE seq = 1")]
        marks += [key for (key,) in rows(tmp_path, "SELECT key FROM handle WHERE seq = 2")]
        assert len(marks) == 6
        assert all(remains(tmp_path, [mark]) for mark in marks)
        assert await desk.expire(NOON + 31 * DAY) == 2
        assert remains(tmp_path, marks) == []
        assert rows(tmp_path, "SELECT seq FROM message") == rows(tmp_path, "SELECT seq FROM archived") == [(3,)]
        assert rows(tmp_path, "SELECT seq FROM posted") == [(3,)]
        with pytest.raises(AdminError):
            await desk.admin_corrects(ADA, f"{came.key}-handle", "too late", intake=intake(), now=NOON + 31 * DAY)

    tell(tmp_path, story)


def test_nothing_remains_of_many_that_lay_on_many_pages_among_others(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.enable_archive(crypto.archive_keys(Private("some words")).public)
        sessions = [await start(desk, "first") for _ in range(5)]
        for number in range(60):
            for each, session in enumerate(sessions):
                await desk.visitor_says(
                    session, "x" * (number * 29 + 1), once=b"%d.%d" % (each, number), now=NOON + each * DAY
                )
                await answered(desk, session, "y" * (number * 17 + 1), day=each)
        while await hand_over(desk):
            pass
        before = int((NOON + DAY * 2) // 60)
        joined = f"t JOIN message m USING (conversation, seq) WHERE m.minute < {before}"
        marks = [mark for (mark,) in rows(tmp_path, f"SELECT sealed FROM message WHERE minute < {before}")]  # noqa: S608
        for column, table in (("t.sealed", "archived"), ("once", "posted"), ("key", "handle")):
            marks += [mark for (mark,) in rows(tmp_path, f"SELECT {column} FROM {table} {joined}")]  # noqa: S608
        assert len(marks) == 2 * 245 + 125 + 120
        assert await desk.expire(NOON + 32 * DAY) == 245
        whole = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        pieces = [mark[start : start + 32] for mark in marks for start in range(0, len(mark) - 31, 64)]
        assert not [piece for piece in pieces if piece in whole]

    tell(tmp_path, story)


def test_of_what_went_to_an_admin_only_its_name_is_left_for_a_later_burning(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "first")
        [ring] = await hand_over(desk)
        await desk.delivery_read(ring.stanza_id, ADA)
        await says(desk, session, "later", day=20)
        [later] = await hand_over(desk)
        await desk.expire(NOON + 31 * DAY)
        sql = "SELECT stanza_id, seq, made_minute, due_minute, sent_minute, sent_n, sealed FROM delivery ORDER BY n"
        left = rows(tmp_path, sql)
        assert left[0] == (ring.stanza_id, None, 0, 0, None, None, None)
        assert left[1][:2] == (later.stanza_id, 2)
        await desk.delivery_read(ring.stanza_id, ADA)  # a phone that comes late
        await desk.visitor_burns(session, now=NOON + 32 * DAY)
        retracted = [each.body for each in desk.due(now=NOON + 32 * DAY) if each.kind is DeliveryKind.RETRACT]
        assert retracted == [ring.stanza_id, later.stanza_id]

    tell(tmp_path, story)


def test_in_a_room_no_delivery_of_an_expired_message_is_left(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "first")
        await desk.tell_room(session.visitor.id, "a notice", now=NOON)
        await hand_over(desk)
        await says(desk, session, "later", day=20)
        await hand_over(desk)
        await desk.expire(NOON + 31 * DAY)
        assert rows(tmp_path, "SELECT seq, kind FROM delivery") == [(2, "message")]

    tell(tmp_path, story, rooms=True)


def test_what_was_handed_to_nobody_waits_however_old_it_is(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "waits")
        now = NOON + 99 * DAY
        assert await desk.expire(now) == 0
        [due] = desk.due(now=now)
        await desk.delivery_sent([due.stanza_id], now=now)
        assert await desk.expire(now) == 0
        assert words(desk, session) == ["waits"]
        await desk.delivery_acknowledged([due.stanza_id])
        assert await desk.expire(now) == 1
        assert words(desk, session) == []

    tell(tmp_path, story)


def test_what_one_has_got_does_not_wait_for_one_whose_account_is_gone(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "old words")
        first, _ = desk.due(now=NOON)
        await desk.delivery_sent([first.stanza_id], now=NOON)
        await desk.delivery_acknowledged([first.stanza_id])
        assert await desk.expire(NOON + 31 * DAY) == 1
        assert words(desk, session) == []

    tell(tmp_path, story, ADA, BERT)


def test_what_is_held_for_whom_it_is_only_told_goes_when_another_has_it(tmp_path: Path) -> None:
    async def alone(desk: Desk) -> None:
        await start(desk, "held")
        await hand_over(desk)
        assert await desk.expire(NOON + 99 * DAY) == 0

    async def with_another(desk: Desk) -> None:
        await start(desk, "held")
        await hand_over(desk)
        assert await desk.expire(NOON + 99 * DAY) == 1
        assert rows(tmp_path / "two", "SELECT count(*) FROM delivery WHERE state = 'held'") == [(0,)]

    for name, story, *admins in (("one", alone, QUIET), ("two", with_another, QUIET, ADA)):
        (tmp_path / str(name)).mkdir()
        tell(tmp_path / str(name), story, *admins)


def test_many_go_in_small_transactions_between_which_others_write(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "0")
        for number in range(1, 1001):
            await answered(desk, session, str(number))
        await hand_over(desk)
        other = await start(desk, "another")
        order: list[str] = []

        async def expires() -> None:
            assert await desk.expire(NOON + 31 * DAY) == 1002 - 1  # but for what is not handed over yet
            order.append("expired")

        async def writes() -> None:
            for number in range(3):
                await says(desk, other, f"meanwhile {number}", day=31)
                order.append("written")

        await asyncio.gather(expires(), writes())
        assert order == ["written"] * 3 + ["expired"]
        assert words(desk, session) == []
        assert words(desk, other) == ["another", *(f"meanwhile {number}" for number in range(3))]

    tell(tmp_path, story)


@settings(max_examples=15, deadline=None)
@given(
    days=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    retention=st.integers(1, 40),
    looks=st.lists(st.integers(0, 120), min_size=1, max_size=4),
)
def test_exactly_what_is_too_old_goes(
    tmp_path_factory: pytest.TempPathFactory, days: list[int], retention: int, looks: list[int]
) -> None:
    """Never more than that. A message that a clock dated back between others goes with those before it."""

    async def story(desk: Desk) -> None:
        session = await start(desk, "0")
        for number, day in enumerate(days, start=1):
            await desk.visitor_says(session, str(number), once=b"%d" % number, now=NOON + day * DAY)
        while await hand_over(desk):
            pass
        for look in looks:
            await desk.expire(NOON + look * DAY + 1)
        furthest = max(looks)
        kept = [str(number) for number, day in enumerate([0, *days]) if day >= furthest - retention]
        assert set(kept) <= set(words(desk, session))
        if days == sorted(days):
            assert words(desk, session) == kept
        await desk.expire(NOON + (61 + retention) * DAY)
        assert words(desk, session) == []

    tell(tmp_path_factory.mktemp("desk"), story, sites={"": replace(OWN, retention_days=retention)})


# ---- what the pages make of it -----------------------------------------------------------------------------------


async def _aged(desk: Desk, session: Session, count: int) -> None:
    """`count` messages of a month ago are gone; ten of today are there."""
    desk.sites = MONTH
    for number in range(2, count + 1):
        await says(desk, session, f"old {number}", day=0)
    for number in range(1, 11):
        await says(desk, session, f"new {number}", day=31)
    while await hand_over(desk):
        pass
    assert await desk.expire(NOON + 31 * DAY) == count


def test_pages_begin_later_and_go_on(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("old 1")
        session = reopened(desk, Private(browser.cookie.partition("=")[2]))
        async with browser.stream() as view:
            await _aged(desk, session, 20)
            await says(desk, session, "and more", day=31)
            await view.until(">and more<")
            assert view.text.count(">new 10<") == 1
        latest = (await browser.get("/chat/latest")).text
        assert "old" not in latest
        assert latest.index(">new 1<") < latest.index(">and more<")
        older = await browser.get("/chat/older")
        assert ">new 1<" in older.text
        assert "Still older" not in older.text
        assert "There is nothing older." in (await browser.get("/chat/older?before=21")).text
        await desk.expire(NOON + 99 * DAY)  # but for the last, which nobody has been handed
        await hand_over(desk)
        await desk.expire(NOON + 99 * DAY)
        assert "Nothing here yet" in (await browser.get("/chat/latest")).text
        async with browser.stream() as view:
            await says(desk, session, "again", day=100)
            await view.until('id="m32"')

    tell_browser(tmp_path, story)


def test_sixty_messages_still_have_two_pages_when_the_first_are_gone(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("old 1")
        session = reopened(desk, Private(browser.cookie.partition("=")[2]))
        await _aged(desk, session, 5)
        for number in range(11, 61):
            await says(desk, session, f"new {number}", day=31)
        newest = await browser.get("/chat/older")
        assert 'href="/chat/older?before=16"' in newest.text
        oldest = await browser.get("/chat/older?before=16")
        assert ">new 1<" in oldest.text
        assert "Still older" not in oldest.text

    tell_browser(tmp_path, story)


def test_programs_and_sockets_stand_the_gap(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("old 1")
        session = reopened(desk, Private(program.token))
        async with program.signed(after=0) as phone:
            assert await phone.messages(1) == ["old 1"]
            await _aged(desk, session, 20)
            assert (await phone.messages(29))[-10:] == [f"new {number}" for number in range(1, 11)]
            await program.says("newest")
            assert await phone.messages(1) == ["newest"]
        for after in (0, 1, 7, 20):
            async with program.signed(after=after) as phone:
                ready = await phone.next("ready")
                assert ready["last_seq"] == 31
                assert await phone.messages(11) == [*(f"new {number}" for number in range(1, 11)), "newest"]
        page = (await program.get("/chat/history?after=0&limit=3")).json
        assert ([each["seq"] for each in page["messages"]], page["more"]) == ([21, 22, 23], True)
        page = (await program.get("/chat/history?before=23&limit=2")).json
        assert ([each["seq"] for each in page["messages"]], page["more"]) == ([21, 22], False)
        assert (await program.get("/chat/history?before=21")).json == {"messages": [], "more": False}
        assert (await program.post("/chat/read", {"seq": 31})).status == 204

    tell_program(tmp_path, story)


# ---- whole conversations and ways in -----------------------------------------------------------------------------


def test_a_silent_conversation_goes_whole_with_every_way_back(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "hello")
        code = session.pending_code
        assert code
        conversation = desk.conversation(session)
        assert conversation
        await hand_over(desk)
        await says(desk, session, "more", day=10)
        marks = [conversation.alias.encode(), session.visitor.id, session.token_hash]
        marks += [lookup for (lookup,) in rows(tmp_path, "SELECT lookup FROM credential")]
        assert await desk.expire(NOON + 40 * DAY) == 0
        with desk.listen(session) as page:
            assert await desk.expire(NOON + 40 * DAY + 60) == 1
            assert await page.next(1) == Ended(burned=True)
        assert remains(tmp_path, marks) == []
        with pytest.raises(VisitorError):
            await desk.visitor_returns(code, now=NOON + 41 * DAY)

    tell(tmp_path, story, sites=IDLE)


def test_its_room_is_destroyed_and_what_admins_got_is_asked_back(tmp_path: Path) -> None:
    async def in_room(desk: Desk) -> None:
        session = await start(desk, "hello")
        await desk.place_room(session.visitor.id, Private("heron@rooms.example"))
        await desk.move_position("heron@rooms.example", "last", now=NOON)
        await hand_over(desk)
        await desk.expire(NOON + 31 * DAY)
        assert [(each.kind, each.body) for each in desk.due(now=NOON + 31 * DAY)] == [
            (DeliveryKind.DESTROY, "heron@rooms.example")
        ]
        assert desk.position("heron@rooms.example") is None

    async def direct(desk: Desk) -> None:
        await start(desk, "hello")
        rings = await hand_over(desk)
        await desk.expire(NOON + 31 * DAY)
        due = desk.due(now=NOON + 31 * DAY)
        assert [(each.kind, each.body) for each in due] == [(DeliveryKind.RETRACT, ring.stanza_id) for ring in rings]

    (tmp_path / "rooms").mkdir()
    (tmp_path / "direct").mkdir()
    tell(tmp_path / "rooms", in_room, sites=IDLE, rooms=True)
    tell(tmp_path / "direct", direct, ADA, BERT, sites=IDLE)


def test_a_silent_conversation_goes_even_if_nobody_was_handed_it(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await start(desk, "nobody there")
        assert await desk.expire(NOON + 31 * DAY) == 1
        assert desk.due(now=NOON + 31 * DAY) == []

    tell(tmp_path, story, sites=IDLE)


def test_who_writes_at_this_very_moment_keeps_everything(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "hello")
        before = int((NOON + DAY) // 60)
        await says(desk, session, "wait", day=31)
        assert not await desk._burn(session.visitor.id, (), now=NOON + 31 * DAY, idle_before=before)
        assert words(desk, session) == ["hello", "wait"]
        await asyncio.gather(says(desk, session, "still here", day=62), desk.expire(NOON + 62 * DAY))
        assert words(desk, session) == ["hello", "wait", "still here"]

    tell(tmp_path, story, sites=IDLE)


def test_accounts_that_were_never_used_go_and_those_signed_in_lately_stay(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        password = Private("a long password")
        for name in ("unused", "used", "writes"):
            await desk.visitor_registers(Private(f"{name}@mail.example"), password, now=NOON)
        await desk.visitor_arrives(now=NOON)
        await desk.visitor_logs_in(Private("used@mail.example"), password, now=NOON + 20 * DAY)
        signed = await desk.visitor_logs_in(Private("writes@mail.example"), password, now=NOON)
        await says(desk, reopened(desk, signed.token), "hello", day=20)
        assert await desk.expire(NOON + 31 * DAY) == 2 + 3  # two visitors; and old sessions of those who stay
        with pytest.raises(VisitorError):
            await desk.visitor_logs_in(Private("unused@mail.example"), password, now=NOON + 31 * DAY)
        for name in ("used", "writes"):
            await desk.visitor_logs_in(Private(f"{name}@mail.example"), password, now=NOON + 31 * DAY)

    tell(tmp_path, story, sites=IDLE)


def test_old_sessions_end_but_for_the_one_that_holds_the_only_code(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        holds = await start(desk, "has not noted the code")
        noted = await start(desk, "has noted the code")
        code = noted.pending_code
        assert code
        await desk.visitor_keeps_code(noted)
        for session in (holds, noted):
            await says(desk, session, "still here", day=20)
        with desk.listen(noted) as page:
            assert await desk.expire(NOON + 31 * DAY) == 1
            assert await page.next(1) == SignedOut()
        assert len(desk.sessions(holds)) == 1
        assert desk.sessions(noted) == []
        signed = await desk.visitor_returns(code, now=NOON + 31 * DAY)
        assert words(desk, reopened(desk, signed.token)) == ["has noted the code", "still here"]

    tell(tmp_path, story, sites=IDLE)


def test_a_stanza_takes_effect_once_as_long_as_an_archive_could_bring_it_again(tmp_path: Path) -> None:
    """Nor does what is pruned ever come again: a catch-up begins at the place that is kept."""

    async def story(desk: Desk) -> None:
        old = Intake("old", "ada's archive", "1")
        await desk.skip(old, now=NOON)
        await desk.skip(Intake("room's", "a room", "1"), now=NOON + 50 * DAY)
        await desk.expire(NOON + 200 * DAY)
        with pytest.raises(Duplicate):  # the archive was read last when it came
            await desk.skip(old, now=NOON + 200 * DAY)
        await desk.skip(Intake("new", "ada's archive", "2"), now=NOON + 199 * DAY)
        await desk.expire(NOON + 200 * DAY)
        assert len(rows(tmp_path, "SELECT * FROM inbox")) == 2
        await desk.skip(Intake("room's newest", "a room", "2"), now=NOON + 199 * DAY)
        await desk.expire(NOON + 200 * DAY)
        assert rows(tmp_path, "SELECT minute FROM inbox") == [(int((NOON + 199 * DAY) // 60),)] * 2

    tell(tmp_path, story)


def test_closed_and_blocked_conversations_go_like_open_ones(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        for standing in Standing:
            session = await start(desk, "hello")
            await desk.store.set_standing(session.visitor.id, standing, minute=0)
        assert await desk.expire(NOON + 31 * DAY) == 3

    tell(tmp_path, story, sites=IDLE)


# ---- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A desk of long ago: two messages, one of them of a shop; an account that nobody used."""
    with DataDirectory(tmp_path / "data") as house:
        key = house.key(lambda: None)

        async def story() -> None:
            async with desk_in(tmp_path / "data", (ADA,), key) as desk:
                for site in ("", "shop"):
                    await desk.visitor_starts("hello", seed=site.encode(), now=DAY, site=site)
                await hand_over(desk)
                await desk.visitor_registers(Private("a@mail.example"), Private("a long password"), now=DAY)

        asyncio.run(story())
    return tmp_path / "data"


def expire(data: Path, *arguments: str) -> str:
    done = CliRunner().invoke(
        cli, ["expire", "--data", str(data), *arguments], catch_exceptions=False, standalone_mode=False
    )
    return done.stdout


def test_the_operator_is_told_in_numbers_before_and_after(data: Path) -> None:
    nothing = "0 messages; 0 whole conversations; 0 unused accounts and codes; 0 sessions.\n"
    shop = ("--site", "shop", "--retention-days", "30")
    assert expire(data, *shop, "--dry-run") == f"Would go: 1{nothing[1:]}"
    assert expire(data, *shop) == f"Gone: 1{nothing[1:]}"
    assert expire(data, *shop, "--dry-run") == f"Would go: {nothing}"
    (data / "veilsupport.toml").write_text("[desk]\nidle_days = 7\nretention_days = 7\n")
    told = "0 messages; 2 whole conversations; 1 unused accounts and codes; 0 sessions.\n"
    assert expire(data, "--dry-run") == f"Would go: {told}"
    assert rows(data, "SELECT count(*) FROM conversation") == [(2,)]
    assert expire(data) == f"Gone: {told}"
    assert rows(data, "SELECT count(*) FROM visitor") == [(0,)]
    assert expire(data) == f"Gone: {nothing}"


def test_a_given_span_counts_instead_of_all_that_is_set(data: Path) -> None:
    (data / "veilsupport.toml").write_text("[desk]\nidle_days = 7\n")
    assert "2 messages; 0 whole conversations; 0 unused" in expire(data, "--retention-days", "30")


def test_without_anything_set_or_for_no_such_site_expire_refuses(data: Path, tmp_path: Path) -> None:
    for arguments in ((), ("--dry-run",), ("--site", "shop")):
        with pytest.raises(SetupError, match="Nothing is set to expire"):
            expire(data, *arguments)
    with pytest.raises(SetupError, match="no such site"):
        expire(data, "--site", "shpo", "--idle-days", "7")
    with pytest.raises(SetupError, match="no desk"):
        expire(tmp_path / "elsewhere", "--idle-days", "7")
    assert rows(data, "SELECT count(*) FROM message") == [(2,)]


def test_a_running_desk_is_asked(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as house:
        Store(house.database).close()

    async def story(desk: Desk) -> None:
        session = await start(desk, "hello")
        await hand_over(desk)

        async def answer(word: str, rest: str) -> AsyncIterator[dict[str, object]]:
            assert (word, json.loads(rest)["retention_days"]) == ("expire", 30)
            yield await desk.operator_expires(rest, now=NOON + 31 * DAY)

        async with controlsocket.served(tmp_path / "data" / STATUS_SOCKET, answer):  # type: ignore[arg-type]
            told = await asyncio.to_thread(expire, tmp_path / "data", "--retention-days", "30")
        assert told.startswith("Gone: 1 messages;")
        assert words(desk, session) == []

    tell(tmp_path / "data", story, sites={"": OWN})
