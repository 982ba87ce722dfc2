"""The desk by itself: each rule of what a visitor, an admin and time may do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.desks import ADA, BERT, KEY, NOON, admin_of, bodies, desk_in, hand_over, intake, reopened, start
from veilsupport import crypto
from veilsupport.commands import Command
from veilsupport.desk import Desk, Unacknowledged
from veilsupport.desk.core import clean
from veilsupport.desk.listener import WAITING_MAX
from veilsupport.errors import AdminError, Duplicate, VisitorError
from veilsupport.model import (
    BODY_MAX_CHARACTERS,
    Admin,
    AttendanceChanged,
    Author,
    DeliveryKind,
    Ended,
    Private,
    Progress,
    ReadUpTo,
    Said,
    SignedOut,
    Site,
    Standing,
    StandingChanged,
    Typing,
)

EMAIL, PASSWORD = Private("nobody@mail.example"), Private("correct horse")


def at_a_desk(
    directory: Path, story: Callable[[Desk], Awaitable[None]], admins: tuple[Admin, ...] = (ADA, BERT)
) -> None:
    async def tell() -> None:
        async with desk_in(directory, admins) as desk:
            await story(desk)

    asyncio.run(tell())


def executing(statement: str) -> Callable[[sqlite3.Connection], object]:
    """What a disk that changes bytes would do."""
    return lambda db: db.execute(statement)


# ---- texts -------------------------------------------------------------------------------------------------------


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("  hello \r\n you ", "hello \n you"),
        ("a\x00b\x1bc\x7fd\x85e", "abcde"),
        ("pay \u202eevil\u202c now", "pay evil now"),
        ("e\u0301", "\u00e9"),
        ("a\ufffeb\uffffc", "abc"),
        ("\u0645\u0631\u062d\u0628\u0627", "\u0645\u0631\u062d\u0628\u0627"),
        ("tab\there", "tab\there"),
    ],
)
def test_text_loses_what_can_harm_a_reader(written: str, kept: str) -> None:
    assert clean(written) == kept


@pytest.mark.parametrize(("body", "code"), [("", "empty"), (" \n\u200e", "empty"), ("x" * 4001, "too_long")])
def test_a_body_that_cannot_be_taken_starts_nothing(tmp_path: Path, body: str, code: str) -> None:
    async def story(desk: Desk) -> None:
        with pytest.raises(VisitorError) as refused:
            await desk.visitor_starts(body, seed=b"s", now=NOON)
        assert refused.value.code == code
        assert desk.due(now=NOON) == []

    at_a_desk(tmp_path, story)


def test_the_longest_body_is_taken(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "x" * BODY_MAX_CHARACTERS)
        assert len(desk.history(session)[0].body) == BODY_MAX_CHARACTERS

    at_a_desk(tmp_path, story)


# ---- visitors ----------------------------------------------------------------------------------------------------


def test_the_same_start_form_starts_once_however_often_it_is_sent(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        both = await asyncio.gather(
            desk.visitor_starts("help", seed=b"form", now=NOON), desk.visitor_starts("help", seed=b"form", now=NOON)
        )
        again = await desk.visitor_starts("help", seed=b"form", now=NOON)
        assert {signed.token for signed in both} == {again.token}
        assert bodies(desk.due(now=NOON)) == ["help", "help"]  # one each for Ada and Bert
        with pytest.raises(VisitorError) as used:  # whoever saw the form must not come in by it
            await desk.visitor_starts("and this", seed=b"form", now=NOON)
        assert used.value.code == "used"

    at_a_desk(tmp_path, story)


def test_the_same_form_posts_once_and_another_text_is_another_message(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        first = await desk.visitor_says(session, "two", once=b"nonce", now=NOON)
        again = await desk.visitor_says(session, "two", once=b"nonce", now=NOON)
        other = await desk.visitor_says(session, "three", once=b"nonce", now=NOON)
        assert (first.seq, again.seq, other.seq) == (2, 2, 3)
        assert [each.body for each in desk.history(session)] == ["one", "two", "three"]

    at_a_desk(tmp_path, story)


def test_code_is_shown_until_kept_and_works_for_ever(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        signed = await desk.visitor_starts("hello", seed=b"s", now=NOON)
        code = reopened(desk, signed.token).pending_code
        assert code is not None
        assert reopened(desk, signed.token).pending_code == code
        await desk.visitor_keeps_code(reopened(desk, signed.token))
        assert reopened(desk, signed.token).pending_code is None
        for _ in range(2):
            back = await desk.visitor_returns(Private(code.reveal().upper()), now=NOON)
            assert back.visitor == signed.visitor

    at_a_desk(tmp_path, story)


def test_unknown_code_and_unknown_token_open_nothing(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await start(desk)
        with pytest.raises(VisitorError) as refused:
            await desk.visitor_returns(Private("abacus abdomen abduct abide able abnormal abrasion"), now=NOON)
        assert refused.value.status == 404
        for token in ("", "x", "A" * 43, "ü" * 500, "\ud800"):
            assert desk.open_session(Private(token)) is None

    at_a_desk(tmp_path, story)


def test_leaving_ends_this_session_only(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        signed = await desk.visitor_starts("hello", seed=b"s", now=NOON)
        code = reopened(desk, signed.token).pending_code
        assert code is not None
        other = await desk.visitor_returns(code, now=NOON)
        await desk.visitor_leaves(reopened(desk, signed.token))
        assert desk.open_session(signed.token) is None
        assert desk.open_session(other.token) is not None

    at_a_desk(tmp_path, story)


def test_email_and_password_lead_back_to_the_conversation(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        signed = await desk.visitor_registers(EMAIL, PASSWORD, now=NOON)
        session = reopened(desk, signed.token)
        assert desk.conversation(session) is None
        assert session.pending_code is None
        await desk.visitor_says(session, "first", once=b"1", now=NOON)
        back = await desk.visitor_logs_in(Private(" Nobody@MAIL.example"), PASSWORD, now=NOON)
        assert [each.body for each in desk.history(reopened(desk, back.token))] == ["first"]
        for email, password in ((EMAIL, Private("wrong password")), (Private("other@mail.example"), PASSWORD)):
            with pytest.raises(VisitorError) as refused:
                await desk.visitor_logs_in(email, password, now=NOON)
            assert refused.value.status == 401
        with pytest.raises(VisitorError) as taken:
            await desk.visitor_registers(EMAIL, Private("another password"), now=NOON)
        assert taken.value.status == 409

    at_a_desk(tmp_path, story)


@pytest.mark.parametrize(
    ("email", "password", "code"),
    [
        ("nobody", "long enough", "bad_email"),
        ("a b@c.d", "long enough", "bad_email"),
        ("a@b.c" + "c" * 300, "long enough", "bad_email"),
        ("a@b.cd", "123", "weak_password"),
        ("someone@b.cd", "Someone@b.cd", "weak_password"),
        ("a@b.cd", "x" * 1001, "weak_password"),
    ],
)
def test_malformed_registration_is_refused(tmp_path: Path, email: str, password: str, code: str) -> None:
    async def story(desk: Desk) -> None:
        with pytest.raises(VisitorError) as refused:
            await desk.visitor_registers(Private(email), Private(password), now=NOON)
        assert (refused.value.status, refused.value.code) == (400, code)

    at_a_desk(tmp_path, story)


def test_burned_visitor_is_gone_from_every_way_in(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        signed = await desk.visitor_starts("hello", seed=b"s", now=NOON)
        session = reopened(desk, signed.token)
        code = session.pending_code
        assert code is not None
        await desk.visitor_burns(session, now=NOON)
        assert desk.open_session(signed.token) is None
        with pytest.raises(VisitorError):
            await desk.visitor_returns(code, now=NOON)
        with pytest.raises(VisitorError) as gone:
            await desk.visitor_says(session, "still here?", once=b"1", now=NOON)
        assert gone.value.code == "gone"

    at_a_desk(tmp_path, story)


def test_nothing_of_a_burned_message_is_delivered_that_had_not_left(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "secret")
        await desk.visitor_burns(session, now=NOON)
        left = desk.due(now=NOON)
        assert bodies(left) == []
        assert not [each for each in left if each.kind is DeliveryKind.RETRACT]

    at_a_desk(tmp_path, story)


def test_damaged_body_is_shown_as_such_and_hides_no_other(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        await desk.visitor_says(session, "two", once=b"2", now=NOON)
        await desk.store._write(executing("UPDATE message SET sealed = zeroblob(400) WHERE seq = 1"))
        first, second = desk.history(session)
        assert "damaged" in first.body
        assert second.body == "two"

    at_a_desk(tmp_path, story)


def test_to_see_what_was_changed_or_how_far_it_came_no_other_body_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def open_sealed(*arguments: Any) -> tuple[str, str]:
        opened.append(arguments[-1])
        return crypto.bodies.open_sealed(*arguments)

    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        for number, (body, handle) in enumerate([("at nin", "a"), ("a secret", "b"), ("bye", "c")]):
            come = replace(intake(), handles=(handle,))
            await desk.admin_says(ADA, desk.open_aliases()[0], body, intake=come, now=NOON + number, in_room=True)
        await desk.admin_corrects(ADA, "a", "at nine", intake=intake(), now=NOON, in_room=True)
        await desk.admin_retracts(ADA, "b", intake=intake(), now=NOON, in_room=True)
        await desk.store._write(executing("UPDATE message SET sealed = zeroblob(400) WHERE seq IN (1, 4)"))
        monkeypatch.setattr(crypto, "open_sealed", open_sealed)
        changed = desk.changed(session, before=5)
        assert [(each.seq, each.body) for each in changed] == [(2, "at nine"), (3, "")]
        assert opened == [2, 3]
        assert [each.seq for each in desk.changed(session, before=3)] == [2]
        assert desk.changed(session, before=2) == []
        assert opened == [2, 3, 2]
        assert desk.progress(session) == [(1, Progress.KEPT)]
        assert opened == [2, 3, 2]

    at_a_desk(tmp_path, story)


# ---- open pages --------------------------------------------------------------------------------------------------


def test_every_open_page_of_a_visitor_sees_the_same(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        stranger = await start(desk)
        with desk.listen(session) as one, desk.listen(session) as other, desk.listen(stranger) as elsewhere:
            message = await desk.visitor_says(session, "two", once=b"2", now=NOON)
            assert await one.next(1) == await other.next(1) == Said(message)
            assert await elsewhere.next(0) is None
        assert len(desk.listeners) == 0

    at_a_desk(tmp_path, story)


def test_a_reader_too_slow_is_ended(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        with desk.listen(session) as slow:
            for up in range(WAITING_MAX + 1):
                desk.line_changed(up % 2 == 0)
            assert await slow.next(1) == Ended(burned=False)
            assert await slow.next(0) is None
        assert len(desk.listeners) == 0

    at_a_desk(tmp_path, story)


def test_open_pages_hear_when_the_line_changes(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        with desk.listen(session) as page:
            desk.line_changed(True)
            desk.line_changed(True)
            assert await page.next(1) == AttendanceChanged()
            assert await page.next(0) is None
            assert desk.line_is_up

    at_a_desk(tmp_path, story)


# ---- admins ------------------------------------------------------------------------------------------------------


def test_answer_reaches_the_visitor_once_and_the_other_admins_are_told(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "hello")
        alias = (await hand_over(desk))[0].alias
        stanza = intake()
        await desk.admin_says(ADA, alias, "hi", intake=stanza, now=NOON, echo="→ you")
        with pytest.raises(Duplicate):
            await desk.admin_says(ADA, alias, "hi", intake=stanza, now=NOON)
        assert [(each.author, each.name, each.body) for each in desk.history(session)][1:] == [
            (Author.ADMIN, "Ada", "hi")
        ]
        told = [(admin_of(each).name, each.alias, each.body) for each in desk.due(now=NOON)]
        assert told == [
            ("Bert", alias, "Ada: hi"),
            ("Ada", alias, "→ you"),
            ("Bert", alias, f"Ada answers {alias}."),
        ]

    at_a_desk(tmp_path, story)


def test_answer_to_nobody_goes_nowhere_and_names_the_nearest(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await start(desk)
        [alias] = desk.open_aliases()
        with pytest.raises(AdminError, match=alias):
            await desk.admin_says(ADA, alias + "9", "hi", intake=intake(), now=NOON)
        with pytest.raises(AdminError, match="!list"):
            await desk.admin_says(ADA, "qqqqqq-1", "hi", intake=intake(), now=NOON)
        with pytest.raises(AdminError, match="nothing in your message"):
            await desk.admin_says(ADA, alias, " \u202e ", intake=intake(), now=NOON)

    at_a_desk(tmp_path, story)


async def commanded(desk: Desk, verb: str, alias: str | None = None) -> str:
    """What Ada reads after her command."""
    await desk.admin_commands(ADA, Command(verb, alias), intake=intake(), now=NOON + 600)
    return "\n".join(
        each.body for each in await hand_over(desk) if each.admin == ADA and each.kind is DeliveryKind.NOTICE
    )


def test_commands_answer_in_words(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        assert await commanded(desk, "list") == "No conversation is open."
        await start(desk)
        [alias] = desk.open_aliases()
        assert await commanded(desk, "list") == f"{alias}, request: waits 10 min"
        assert "!list" in await commanded(desk, "help")
        assert "Conversations open: 1" in await commanded(desk, "status")
        assert "!close heron-42" in await commanded(desk, "close")
        assert "There is no conversation" in await commanded(desk, "burn", "qqqqqq-1")
        assert await commanded(desk, "close", alias) == f"{alias} is closed."

    at_a_desk(tmp_path, story)


def test_blocked_visitor_reads_but_cannot_write(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        [alias] = desk.open_aliases()
        with desk.listen(session) as page:
            await commanded(desk, "block", alias)
            assert StandingChanged(Standing.BLOCKED) in [await page.next(1), await page.next(1), await page.next(1)]
        with pytest.raises(VisitorError) as refused:
            await desk.visitor_says(session, "let me in", once=b"1", now=NOON)
        assert refused.value.status == 403
        await desk.admin_says(ADA, alias, "goodbye", intake=intake(), now=NOON)
        assert desk.history(session)[-1].body == "goodbye"
        await commanded(desk, "reopen", alias)
        await desk.visitor_says(session, "thank you", once=b"1", now=NOON)

    at_a_desk(tmp_path, story)


def test_admin_burns_once(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        rings = await hand_over(desk)
        with desk.listen(session) as page:
            stanza = intake()
            await desk.admin_commands(ADA, Command("burn", rings[0].alias), intake=stanza, now=NOON)
            assert await page.next(1) == Ended(burned=True)
        retracted = [each.body for each in desk.due(now=NOON) if each.kind is DeliveryKind.RETRACT]
        assert sorted(retracted) == sorted(ring.stanza_id for ring in rings)

    at_a_desk(tmp_path, story)


# ---- deliveries --------------------------------------------------------------------------------------------------


def test_messages_wait_for_an_admin_who_is_set_up_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=()) as desk:
            await start(desk, "anybody?")
        async with desk_in(tmp_path, admins=(ADA, BERT)) as desk:
            assert [(admin_of(each).name, each.body) for each in desk.due(now=NOON)] == [
                ("Ada", "anybody?"),
                ("Bert", "anybody?"),
            ]
        async with desk_in(tmp_path, admins=(BERT,)) as desk:
            assert [admin_of(each).name for each in desk.due(now=NOON)] == ["Bert"]

    asyncio.run(story())


def test_what_was_due_to_the_only_admin_goes_to_the_one_who_follows(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA,)) as desk:
            await start(desk, "anybody?")
        async with desk_in(tmp_path, admins=(BERT,)) as desk:
            assert [(admin_of(each).name, each.body) for each in desk.due(now=NOON)] == [("Bert", "anybody?")]

    asyncio.run(story())


def test_stanza_id_leads_back_to_its_conversation_and_survives_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            await start(desk)
            [ring] = desk.due(now=NOON)
            await desk.delivery_sent([ring.stanza_id], now=NOON)
        async with desk_in(tmp_path) as desk:
            assert desk.alias_of_stanza(ring.stanza_id) == ring.alias
            assert desk.alias_of_stanza("unknown") is None
            assert desk.unacknowledged() == [Unacknowledged(ring.stanza_id, NOON, False, ring.conversation)]
            assert await desk.deliveries_lost([ring.stanza_id, "unknown"]) == 1
            assert [each.stanza_id for each in desk.due(now=NOON)] == [ring.stanza_id]

    asyncio.run(story())


def test_open_pages_hear_of_other_words_for_when_nobody_is_there(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        with desk.listen(session) as page:
            desk.change_sites(dict(desk.sites))
            assert await page.next(0) is None
            desk.change_sites({"": Site("", "", "", away="Back on Monday.")})
            assert await page.next(0) == AttendanceChanged()
        assert desk.site("").away == "Back on Monday."

    at_a_desk(tmp_path, story)


def test_archive_position_is_remembered(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        assert desk.position("desk@chat.example") is None
        await desk.move_position("desk@chat.example", "", now=NOON)
        assert desk.position("desk@chat.example") == ("", NOON)

    at_a_desk(tmp_path, story)


def test_progress_of_the_message_is_that_of_the_admin_who_is_furthest(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        to_ada, to_bert = await hand_over(desk)
        await desk.delivery_read(to_bert.stanza_id, BERT)
        await desk.delivery_arrived(to_ada.stanza_id, ADA)
        assert desk.history(session)[0].progress is Progress.READ

    at_a_desk(tmp_path, story)


def test_another_key_opens_no_session(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            session = await start(desk)
            code = session.pending_code
            assert code is not None
        other = type(KEY)(b"o" * 32)
        async with desk_in(tmp_path, admins=(), key=other) as desk:
            with pytest.raises(VisitorError):
                await desk.visitor_returns(code, now=NOON)

    asyncio.run(story())


def test_damaged_keys_open_nothing_and_are_said_to_be_damaged(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        signed = await desk.visitor_starts("hello", seed=b"s", now=NOON)
        code = reopened(desk, signed.token).pending_code
        assert code is not None
        for statement in (
            "UPDATE session SET wrapped_key = zeroblob(72)",
            "UPDATE credential SET wrapped_key = zeroblob(72)",
        ):
            await desk.store._write(executing(statement))
        assert desk.open_session(signed.token) is None
        with pytest.raises(VisitorError, match="damaged"):
            await desk.visitor_returns(code, now=NOON)

    at_a_desk(tmp_path, story)


# ---- what the API adds -------------------------------------------------------------------------------------------


def test_visitor_arrives_with_a_code_and_the_first_message_makes_the_conversation(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        signed, code = await desk.visitor_arrives(now=NOON)
        session = reopened(desk, signed.token)
        assert (session.pending_code, desk.conversation(session)) == (None, None)
        await desk.visitor_says(session, "hello", once=b"1", now=NOON, site="shop")
        conversation = desk.conversation(session)
        assert conversation is not None
        assert conversation.site == "shop"
        assert {each.site for each in desk.due(now=NOON)} == {"shop"}
        assert "(shop)" in await commanded(desk, "list")
        assert (await desk.visitor_returns(code, now=NOON)).visitor == signed.visitor

    at_a_desk(tmp_path, story)


def test_a_session_is_ended_from_another_and_its_pages_are_told(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        signed, code = await desk.visitor_arrives(now=NOON)
        one = reopened(desk, signed.token)
        other = reopened(desk, (await desk.visitor_returns(code, now=NOON)).token)
        assert {each.id for each in desk.sessions(one)} == {one.id, other.id}
        stranger = await start(desk)
        for id in ("nonsense", stranger.id):
            with pytest.raises(VisitorError, match="no such session"):
                await desk.visitor_ends_session(one, id)
        with desk.listen(one) as mine, desk.listen(other) as theirs:
            await desk.visitor_ends_session(one, other.id)
            assert await theirs.next(1) == SignedOut()
            assert await mine.next(0) is None
        assert [each.id for each in desk.sessions(one)] == [one.id]

    at_a_desk(tmp_path, story)


def test_renewed_session_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        signed = await desk.visitor_starts("hello", seed=b"s", now=NOON)
        session = reopened(desk, signed.token)
        renewed = await desk.visitor_renews(session, now=NOON)
        assert desk.open_session(signed.token) is None
        again = reopened(desk, renewed.token)
        assert again.pending_code == session.pending_code
        assert [each.body for each in desk.history(again)] == ["hello"]

    at_a_desk(tmp_path, story)


def test_changed_password_opens_and_the_old_one_does_not(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = reopened(desk, (await desk.visitor_registers(EMAIL, PASSWORD, now=NOON)).token)
        other = await desk.visitor_logs_in(EMAIL, PASSWORD, now=NOON)
        await desk.visitor_says(session, "hello", once=b"1", now=NOON)
        with pytest.raises(VisitorError, match="do not belong"):
            await desk.visitor_changes_password(session, EMAIL, Private("wrong password"), Private("new password"))
        await desk.visitor_changes_password(session, EMAIL, PASSWORD, Private("new password"))
        assert desk.open_session(other.token) is None
        with pytest.raises(VisitorError):
            await desk.visitor_logs_in(EMAIL, PASSWORD, now=NOON)
        again = await desk.visitor_logs_in(EMAIL, Private("new password"), now=NOON)
        assert [each.body for each in desk.history(reopened(desk, again.token))] == ["hello"]
        stranger = await start(desk)
        with pytest.raises(VisitorError, match="do not belong"):
            await desk.visitor_changes_password(stranger, EMAIL, Private("new password"), Private("mine now please"))

    at_a_desk(tmp_path, story)


def test_reading_and_typing_reach_the_other_pages(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        [alias] = desk.open_aliases()
        with desk.listen(session) as page:
            await desk.visitor_reads(session, 1)
            await desk.visitor_reads(session, 1)
            await desk.visitor_reads(session, 99)
            desk.admin_types(ADA, alias)
            desk.admin_types(ADA, "qqqqqq-1")
            assert [await page.next(1), await page.next(1)] == [ReadUpTo(1), Typing("Ada")]
            assert await page.next(0) is None

    at_a_desk(tmp_path, story)


def test_history_after_a_number_is_without_gap(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "1")
        for number in range(2, 8):
            await desk.visitor_says(session, str(number), once=b"n", now=NOON)
        assert [each.body for each in desk.history_after(session, 3, limit=2)] == ["4", "5"]
        assert [each.body for each in desk.history_after(session, 5)] == ["6", "7"]

    at_a_desk(tmp_path, story)


def test_answer_time_is_told_once_enough_are_known(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        for number in range(5):
            assert desk.answer_minutes(now=NOON + number) is None
            conversation = desk.conversation(await start(desk))
            assert conversation is not None
            await desk.admin_says(ADA, conversation.alias, "hi", intake=intake(), now=NOON + 240)
        for alias in desk.open_aliases():
            await desk.admin_says(ADA, alias, "and", intake=intake(), now=NOON + 9999)
        assert desk.answer_minutes(now=NOON) is None  # looked up once a minute
        assert desk.answer_minutes(now=NOON + 60) == 4

    at_a_desk(tmp_path, story)


def test_damaged_outbox_stops_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA,)) as desk:
            await start(desk, "one")
            await start(desk, "two")
            await desk.store._write(executing("UPDATE delivery SET sealed = zeroblob(300) WHERE n = 1"))
            damaged, whole = desk.due(now=NOON)
            assert "damaged" in damaged.body
            assert whole.body == "two"
            await desk.store._write(executing("UPDATE delivery SET admin = zeroblob(32) WHERE n = 2"))
            assert len(desk.due(now=NOON)) == 1
        async with desk_in(tmp_path, admins=(BERT,)) as desk:
            assert len(desk.due(now=NOON)) == 2

    asyncio.run(story())


def test_numbers_from_outside_may_be_of_any_size(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        for number in (-1, 0, 2**63, 2**70):
            desk.history(session, before=number)
            desk.history_after(session, number)
            await desk.visitor_reads(session, number)
        assert [each.body for each in desk.history(session, before=2**70)] == ["one"]

    at_a_desk(tmp_path, story)


def test_closing_what_was_burned_is_refused(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk)
        alias = desk.open_aliases()[0]
        found = desk.store.conversation_called(alias)
        await desk.visitor_burns(session, now=NOON)
        assert found is not None
        desk.store.conversation_called = lambda _: found  # type: ignore[method-assign, assignment]  # burned between look and act
        assert "is gone" in await commanded(desk, "close", alias)
        with pytest.raises(AdminError, match="is gone"):
            await desk.admin_says(ADA, alias, "hello?", intake=intake(), now=NOON)

    at_a_desk(tmp_path, story)
