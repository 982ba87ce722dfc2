"""The store's outbox by itself: whose turn it is, what is held, read and asked back; and what else a desk keeps."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_store import ADA, BERT, added, delivery, message, opened, until_scrubbed, visitor
from veilsupport.errors import Duplicate, NotFound
from veilsupport.model import Author, DeliveryKind, MessageState, Progress, Standing
from veilsupport.store import NOBODY, ROOM, NewDelivery, NewMessage, Store, StoredDelivery, Taken

NOTICE = DeliveryKind.NOTICE


def at_a_store(directory: Path, story: Callable[[Store], Awaitable[None]]) -> None:
    async def tell() -> None:
        store = opened(directory)
        try:
            await story(store)
        finally:
            store.close()

    asyncio.run(tell())


def ids(deliveries: Sequence[StoredDelivery]) -> list[str]:
    return [each.stanza_id for each in deliveries]


async def say(store: Store, conversation: bytes, *stanza_ids: str, to: bytes = ADA, minute: int = 1) -> None:
    """One message for each stanza id."""
    for stanza_id in stanza_ids:
        await store.add_message(conversation, message(deliveries=(delivery(stanza_id, to),)), minute=minute)


async def leave(store: Store, *stanza_ids: str) -> None:
    """They are sent, one after the other, and the server has them."""
    for stanza_id in stanza_ids:
        await store.mark_sent([stanza_id], minute=2)
    await store.mark_acked(stanza_ids)


def progress(store: Store, conversation: bytes) -> list[int]:
    return [int(each.progress) for each in store.messages(conversation, before=None, limit=99)]


# ---- whose turn it is --------------------------------------------------------------------------------------------


def test_a_flood_of_one_conversation_does_not_delay_the_first_message_of_another(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        loud = await added(store, 1, "heron-42")
        quiet = await added(store, 2, "fox-7")
        flood = [f"flood-{number:03}" for number in range(200)]
        await say(store, loud, *flood, to=ROOM)
        await say(store, quiet, "first", "second", to=ROOM)
        await store.queue([delivery("notice", ADA, NOTICE)], minute=1)
        assert ids(store.due(minute=1, limit=3)) == ["flood-000", "first", "notice"]
        assert ids(store.due(minute=1, limit=50)) == [*flood[:47], "first", "second", "notice"]

    at_a_store(tmp_path, story)


conversations = st.integers(0, 3)  # 3: deliveries that belong to no conversation
turns = st.lists(
    st.one_of(
        st.tuples(st.just("say"), conversations, st.integers(1, 6)),
        st.tuples(st.just("send"), st.integers(0, 7), st.integers(1, 12)),  # (whose rooms are shut, as bits; limit)
        st.tuples(st.just("acknowledge"), st.just(0), st.integers(1, 6)),
        st.tuples(st.just("lose"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(turns)
def test_each_conversation_has_its_turn_and_keeps_its_order(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, int, int]]
) -> None:
    """Random histories against lists of what waits, is under way and has arrived."""

    async def story(store: Store) -> None:
        talks = [await added(store, who, f"fox-{who}") for who in range(3)]
        said: list[list[str]] = [[], [], [], []]
        waiting: list[list[str]] = [[], [], [], []]
        under_way: list[str] = []
        arrived: list[str] = []
        for act, a, b in plan:
            if act == "say":
                for _ in range(b):
                    stanza_id = f"{a}-{sum(map(len, said)):04}"
                    said[a].append(stanza_id)
                    waiting[a].append(stanza_id)
                    if a == 3:
                        await store.queue([delivery(stanza_id, ADA, NOTICE)], minute=1)
                    else:
                        await say(store, talks[a], stanza_id, to=ROOM)
            elif act == "send":
                shut = {who for who in range(3) if a >> who & 1}
                batch = ids(store.due(minute=1, limit=b, without=[talks[who] for who in shut]))
                open_ones = {who: line for who, line in enumerate(waiting) if who not in shut}
                assert len(batch) == min(b, sum(map(len, open_ones.values())))
                taken = Counter(int(stanza_id[0]) for stanza_id in batch)
                for who, line in open_ones.items():
                    assert [each for each in batch if each.startswith(f"{who}-")] == line[: taken[who]]
                    if taken[who] < len(line):  # left out only when everyone else is as far
                        assert max(taken.values()) <= taken[who] + 1
                assert await store.mark_sent(batch, minute=1) == set(batch)
                under_way += batch
                waiting = [[each for each in line if each not in batch] for line in waiting]
            elif act == "acknowledge":
                await store.mark_acked(under_way[:b])
                arrived += under_way[:b]
                del under_way[:b]
            else:
                assert await store.requeue(under_way) == len(under_way)
                waiting = [
                    sorted(line + [each for each in under_way if each.startswith(f"{who}-")])
                    for who, line in enumerate(waiting)
                ]
                under_way.clear()
        for who, line in enumerate(said):
            seen = [each for each in [*arrived, *under_way] if each.startswith(f"{who}-")]
            assert sorted(seen + waiting[who]) == line
            if not any(act == "lose" for act, _, _ in plan):
                assert seen == line[: len(seen)]

    at_a_store(tmp_path_factory.mktemp("turns"), story)


def test_what_a_room_cannot_take_yet_waits_and_takes_nobodys_turn(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        shut = await added(store, 1, "heron-42")
        other = await added(store, 2, "fox-7")
        await say(store, shut, "r1", "r2", "r3", to=ROOM)
        await say(store, shut, "chat", to=BERT)
        await say(store, other, "o1", "o2", to=ROOM)
        await store.queue([delivery("staff", ROOM, NOTICE), delivery("d", ROOM, DeliveryKind.DESTROY)], minute=1)
        assert ids(store.due(minute=1, limit=9, without=[shut])) == ["chat", "o1", "o2", "staff", "d"]
        assert ids(store.due(minute=1, limit=3, without=[shut])) == ["chat", "o1", "staff"]
        assert ids(store.due(minute=1, limit=9, without=[shut, other])) == ["chat", "staff", "d"]
        assert len(store.due(minute=1, limit=9)) == 8

    at_a_store(tmp_path, story)


def test_what_nobody_is_there_for_takes_nobodys_turn(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        for number in range(9):
            await say(store, await added(store, number, f"fox-{number}"), f"nobody-{number}", to=NOBODY)
        await say(store, await added(store, 99, "heron-42"), "to Ada")
        assert ids(store.due(minute=1, limit=5)) == ["to Ada"]
        assert store.backlog() == 10

    at_a_store(tmp_path, story)


def test_what_is_for_those_who_are_no_more_takes_nobodys_turn(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        gone = [delivery(f"gone-{number}", b"G" * 32, DeliveryKind.RETRACT) for number in range(9)]
        await store.queue([*gone, delivery("Ada's", ADA, NOTICE), delivery("staff", ROOM, NOTICE)], minute=1)
        await say(store, await added(store), "nobody's", to=NOBODY)
        assert ids(store.due(minute=1, limit=3, to=[ADA, BERT])) == ["Ada's", "staff"]
        assert ids(store.due(minute=1, limit=3, to=[])) == ["staff"]

    at_a_store(tmp_path, story)


def test_what_is_due_is_found_without_looking_at_what_was_delivered(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        asked: list[str] = []
        store._db.set_trace_callback(asked.append)
        store.due(minute=1, limit=50, without=[b"x" * 16], to=[ADA, BERT])
        store._db.set_trace_callback(None)
        [sql] = asked
        plan = [step for *_, step in store._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
        walks = [step for step in plan if step.startswith("SCAN") and "subquery" not in step]
        assert walks == ["SCAN delivery USING INDEX delivery_due"]

    at_a_store(tmp_path, story)


def test_behind_what_was_refused_and_has_to_wait_its_line_goes_on(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        loud, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        await say(store, loud, *(f"l{number}" for number in range(9)))
        await say(store, other, "o1", "o2")
        await store.mark_sent(["l0", "o1"], minute=1)
        await store.mark_refused("l0", minute=1)
        await store.mark_refused("o1", minute=1)
        assert ids(store.due(minute=1, limit=2)) == ["l1", "o2"]
        assert ids(store.due(minute=2, limit=2)) == ["l0", "o1"]

    at_a_store(tmp_path, story)


def test_a_flood_is_passed_without_looking_at_what_was_delivered(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        await say(store, await added(store), *(f"flood-{number}" for number in range(9)))
        asked: list[str] = []
        store._db.set_trace_callback(asked.append)
        store.due(minute=1, limit=2)
        store._db.set_trace_callback(None)
        plan = [step for sql in asked for *_, step in store._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
        assert len(asked) == 4
        assert not [step for step in plan if "TEMP B-TREE" in step]
        walks = {step for step in plan if step.startswith("SCAN") and "subquery" not in step}
        in_order = {"SCAN delivery USING INDEX delivery_due", "SCAN d USING INDEX delivery_turn"}
        assert in_order <= walks <= in_order | {"SCAN head"}

    at_a_store(tmp_path, story)


async def steps_of_a_turn(directory: Path, *, lines: int, each: int, **asked: Any) -> int:
    """How much SQLite has to do to find five, when so many lines of so many deliveries wait."""
    store = opened(directory)
    try:
        for number in range(lines):
            talk = await added(store, number, f"fox-{number}")
            await store.queue(
                [delivery(f"{number}-{i}", ROOM, NOTICE) for i in range(each)], minute=1, conversation=talk
            )
        for number in range(9):
            talk = await added(store, 10_000 + number, f"late-{number}")
            await say(store, talk, f"late-{number}", to=ROOM)
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        store._db.set_progress_handler(step, 1)
        found = ids(store.due(minute=1, limit=5, **asked))
        store._db.set_progress_handler(None, 1)
        assert len(found) == 5
        return steps
    finally:
        store.close()


@pytest.mark.parametrize(
    ("few", "many"),
    [((1, 100), (1, 10_000)), ((3, 33), (3, 3_333)), ((100, 1), (2_000, 1)), ((99, 21), (99, 101))],
    ids=["a flood of one", "floods of three", "one of each", "floods of many"],
)
def test_whose_turn_it_is_costs_no_more_with_a_long_backlog(
    tmp_path: Path, few: tuple[int, int], many: tuple[int, int]
) -> None:
    async def tell() -> list[int]:
        short, long = tmp_path / "short", tmp_path / "long"
        for each in (short, long):
            each.mkdir()
        return [await steps_of_a_turn(at, lines=n, each=m) for at, (n, m) in ((short, few), (long, many))]

    short, long = asyncio.run(tell())
    assert 100 < long < 1.1 * short


def test_a_shut_rooms_long_backlog_costs_nothing(tmp_path: Path) -> None:
    async def tell() -> list[int]:
        short, long = tmp_path / "short", tmp_path / "long"
        for each in (short, long):
            each.mkdir()
        shut = [(0).to_bytes(16)]
        return [await steps_of_a_turn(at, lines=1, each=n, without=shut) for at, n in ((short, 100), (long, 10_000))]

    short, long = asyncio.run(tell())
    assert 100 < long < 1.1 * short


def test_oldest_backlog_is_the_minute_of_what_waits_longest(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        assert store.oldest_backlog() is None
        id = await added(store)
        await say(store, id, "s1", minute=5)
        await say(store, id, "s2", minute=7)
        assert store.oldest_backlog() == 5
        await store.mark_sent(["s1"], minute=9)
        assert store.oldest_backlog() == 5
        await store.mark_acked(["s1"])
        assert store.oldest_backlog() == 7

    at_a_store(tmp_path, story)


# ---- how far it has come -----------------------------------------------------------------------------------------


def test_what_the_room_has_is_known_by_the_id_of_its_archive(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        one, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        await say(store, one, "s1", to=ROOM)
        await say(store, other, "s2", to=ROOM)
        await store.mark_sent(["s1", "s2"], minute=2)
        moved = [await store.mark_come(archived={each: b"archive-1"}) for each in ("s1", "s2")]
        assert [(step.conversation, step.progress) for steps in moved for step in steps] == [
            (one, Progress.HANDED_OVER),
            (other, Progress.HANDED_OVER),
        ]
        assert store.backlog() == 0
        assert store.stanza_archived_as(one, b"archive-1", "") == "s1"
        assert store.stanza_archived_as(other, b"archive-1", "") == "s2"  # each room counts for itself
        assert store.stanza_archived_as(one, b"archive-2", "") is None
        assert store.stanza_archived_as(one, b"archive-2", "s1") == "s1"
        assert await store.mark_come(archived={"s1": b"archive-1"}) == []
        until_scrubbed(store)
        for file in tmp_path.iterdir():
            assert b"sealed s1" not in file.read_bytes(), file

    at_a_store(tmp_path, story)


def test_reading_in_a_room_reads_what_came_before_it_there_and_nowhere_else(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        one, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        await say(store, one, "s1", to=ROOM)
        await say(store, other, "o1", to=ROOM)
        await say(store, one, "s2", "s3", to=ROOM)
        await leave(store, "s1", "o1", "s2", "s3")
        assert [step.seq for step in await store.mark_read("s2", ROOM)] == [2, 3]
        assert progress(store, one) == [0, 3, 3, 1]
        assert progress(store, other) == [0, 1]
        assert await store.mark_read("s2", ADA) == []  # it is the room's to read

    at_a_store(tmp_path, story)


def test_reading_in_a_chat_reads_what_left_before_it_even_of_other_conversations(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        one, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        await say(store, one, "s1", "s2", "s3")
        await say(store, other, "o1")
        await say(store, other, "b1", to=BERT)
        await store.mark_sent(["s1"], minute=2)
        await store.requeue(["s1"])  # lost, and so it leaves behind those that came later
        await leave(store, "s2", "o1", "b1", "s1", "s3")
        assert {(step.conversation, step.seq) for step in await store.mark_read("o1", ADA)} == {(one, 3), (other, 2)}
        assert progress(store, one) == [0, 1, 3, 1]
        assert progress(store, other) == [0, 3, 1]
        await store.mark_read("s1", ADA)
        assert progress(store, one) == [0, 3, 3, 1]

    at_a_store(tmp_path, story)


# ---- held until asked for ----------------------------------------------------------------------------------------


def test_held_deliveries_wait_for_the_one_who_asks(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        one, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        for id, stanza_id, admin in ((one, "a1", ADA), (one, "b1", BERT), (other, "a2", ADA)):
            held = NewDelivery(stanza_id, admin, DeliveryKind.MESSAGE, b"sealed", held=True)
            await store.add_message(id, message(deliveries=(held,)), minute=1)
        assert store.due(minute=1, limit=9) == []
        assert (store.backlog(), store.oldest_backlog()) == (0, None)
        assert await store.mark_sent(["a1"], minute=1) == set()
        taken = Taken(b"show", None, None)
        assert await store.release(one, ADA, minute=1, taken=taken) == 1
        with pytest.raises(Duplicate):
            await store.release(one, BERT, minute=1, taken=taken)
        assert await store.release(one, ADA, minute=1) == 0
        assert ids(store.due(minute=1, limit=9)) == ["a1"]

    at_a_store(tmp_path, story)


@pytest.mark.parametrize("standing", [Standing.CLOSED, Standing.BLOCKED])
def test_what_nobody_asked_for_goes_when_the_conversation_ends(tmp_path: Path, standing: Standing) -> None:
    async def story(store: Store) -> None:
        one, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        for id, mark in ((one, b"MARKone"), (other, b"other")):
            held = NewDelivery(mark.decode(), ADA, DeliveryKind.MESSAGE, mark, held=True)
            await store.add_message(id, message(deliveries=(held,)), minute=1)
        await store.set_standing(one, standing, minute=2)
        await store.set_standing(one, Standing.OPEN, minute=3)
        assert await store.release(one, ADA, minute=3) == 0
        assert len(store.messages(one, before=None, limit=9)) == 2
        until_scrubbed(store)
        for file in tmp_path.iterdir():
            assert b"MARKone" not in file.read_bytes(), file
        await store.set_standing(other, Standing.OPEN, minute=3)
        assert await store.release(other, ADA, minute=3) == 1

    at_a_store(tmp_path, story)


def test_who_becomes_quiet_is_told_once_and_what_they_asked_for_still_comes(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        one, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        held = NewDelivery("asked", ADA, DeliveryKind.MESSAGE, b"sealed", held=True)
        await store.add_message(one, message(deliveries=(held,)), minute=1)
        await store.release(one, ADA, minute=1)
        await say(store, one, "lost", "w1", "w2")
        await say(store, other, "w3", to=ADA)
        await say(store, other, "to Bert", to=BERT)
        await store.queue([delivery("notice", ADA, NOTICE)], minute=1)
        await store.mark_sent(["lost"], minute=1)
        await store.requeue(["lost"])  # it may have arrived
        told = iter(["news-1", "news-2", "more"])

        async def hold() -> None:
            await store.hold_for([ADA], [BERT], lambda admin: delivery(next(told), admin, DeliveryKind.NEWS), minute=2)

        await hold()
        await hold()
        due = {each.stanza_id: each.conversation for each in store.due(minute=2, limit=99)}
        assert due == {
            "asked": one,
            "lost": one,
            "to Bert": other,
            "notice": None,
            "news-1": one,
            "news-2": other,
        }
        await store.hold_for([], [ADA, BERT], lambda admin: delivery(next(told), admin), minute=3)
        assert {each.stanza_id for each in store.due(minute=3, limit=99)} == {*due, "w1", "w2", "w3"}

    at_a_store(tmp_path, story)


# ---- whose it is, and who waits ----------------------------------------------------------------------------------


def answer(*, by: bytes | None, if_claimed: Sequence[NewDelivery] = (), handles: Sequence[bytes] = ()) -> NewMessage:
    return NewMessage(Author.ADMIN, lambda seq: b"answer", (), claimed_by=by, if_claimed=if_claimed, handles=handles)


def owner(store: Store, id: bytes) -> bytes | None:
    found = store.conversation(id)
    assert found
    return found.owner


def test_the_first_answer_claims_and_only_then_the_others_are_told(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        assert owner(store, id) is None
        first = await store.add_message(id, answer(by=ADA, if_claimed=[delivery("c1", BERT, NOTICE)]), minute=2)
        second = await store.add_message(id, answer(by=BERT, if_claimed=[delivery("c2", ADA, NOTICE)]), minute=2)
        assert (first.claimed, first.conversation.owner) == (True, ADA)
        assert (second.claimed, second.conversation.owner) == (False, ADA)
        assert owner(store, id) == ADA
        assert ids(store.due(minute=2, limit=9)) == ["c1"]

    at_a_store(tmp_path, story)


def test_a_conversation_is_given_to_another_or_to_nobody(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        taken = Taken(b"assign", None, None)
        await store.set_owner(id, BERT, minute=2, notices=[delivery("n1", BERT, NOTICE)], taken=taken)
        assert owner(store, id) == BERT
        assert [(each.stanza_id, each.conversation) for each in store.due(minute=2, limit=9)] == [("n1", id)]
        with pytest.raises(Duplicate):
            await store.set_owner(id, ADA, minute=2, taken=taken)
        await store.set_owner(id, None, minute=2)
        assert owner(store, id) is None
        with pytest.raises(NotFound):
            await store.set_owner(b"gone" * 4, ADA, minute=2, taken=Taken(b"again", None, None))
        await store.queue((), minute=2, taken=Taken(b"again", None, None))  # what failed was not taken

    at_a_store(tmp_path, story)


def waiting_since(store: Store, id: bytes) -> int | None:
    found = store.conversation(id)
    assert found
    return found.waiting_minute


def test_a_visitor_waits_from_the_first_unanswered_message_on(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        assert waiting_since(store, id) == 1
        kept = await store.add_message(id, message(), minute=5)
        assert (kept.conversation.waiting_minute, waiting_since(store, id)) == (1, 1)
        await store.add_message(id, message(author=Author.DESK), minute=6)
        assert waiting_since(store, id) == 1  # what the desk says by itself is no answer
        await store.add_message(id, answer(by=ADA), minute=7)
        assert waiting_since(store, id) is None
        await store.add_message(id, message(author=Author.DESK), minute=8)
        assert waiting_since(store, id) is None
        await store.add_message(id, message(), minute=9)
        assert waiting_since(store, id) == 9

    at_a_store(tmp_path, story)


def test_closing_ends_the_wait_and_the_next_message_begins_another(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        await store.set_standing(id, Standing.OPEN, minute=2)
        assert waiting_since(store, id) == 1
        await store.set_standing(id, Standing.CLOSED, minute=2)
        assert waiting_since(store, id) is None
        await store.set_standing(id, Standing.CLOSED, minute=3)
        kept = await store.add_message(id, message(), minute=4)
        assert (kept.reopened, waiting_since(store, id)) == (True, 4)

    at_a_store(tmp_path, story)


def test_who_waited_when_it_was_closed_waits_again_when_it_is_opened(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        await store.add_message(id, answer(by=ADA), minute=2)
        await store.set_standing(id, Standing.CLOSED, minute=3)
        await store.set_standing(id, Standing.OPEN, minute=4)
        assert waiting_since(store, id) is None
        for minute in (5, 6):
            await store.add_message(id, message(), minute=minute)
        await store.set_standing(id, Standing.CLOSED, minute=7)
        await store.set_standing(id, Standing.OPEN, minute=8)
        assert waiting_since(store, id) == 5

    at_a_store(tmp_path, story)


def test_those_who_wait_longest_come_first(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        for number, minute in ((1, 30), (2, 10), (3, 20), (4, 5), (5, 1)):
            await store.add_visitor(visitor(number), minute=1)
            await store.add_message(visitor(number).id, message(), minute=minute, aliases=iter([f"fox-{number}"]))
        await store.add_message(visitor(4).id, answer(by=ADA), minute=40)
        await store.set_standing(visitor(5).id, Standing.BLOCKED, minute=40)
        assert [each.alias for each in store.waiting(limit=9)] == ["fox-2", "fox-3", "fox-1"]
        assert [each.alias for each in store.waiting(limit=1)] == ["fox-2"]

    at_a_store(tmp_path, story)


# ---- corrections and retractions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [20, 400, 9000])  # within a page, and over several
def test_corrected_words_are_in_no_file_any_more(tmp_path: Path, length: int) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        before = NewMessage(Author.ADMIN, lambda seq: b"MARK" * length, ())
        await store.add_message(id, before, minute=1)
        assert any(b"MARKMARK" in file.read_bytes() for file in tmp_path.iterdir())
        await store.change_message(id, 2, b"other" * length, MessageState.CORRECTED, minute=2)
        for file in tmp_path.iterdir():
            assert b"MARKMARK" not in file.read_bytes(), file
        await store.change_message(id, 2, b"", MessageState.RETRACTED, minute=3)
        for file in tmp_path.iterdir():
            assert b"otherother" not in file.read_bytes(), file
        found = store.messages(id, before=None, limit=9)
        assert [(each.seq, each.sealed, each.state) for each in found] == [
            (1, b"hello#1", MessageState.SAID),
            (2, b"", MessageState.RETRACTED),
        ]
        assert found[1].minute == 1  # when it was said

    at_a_store(tmp_path, story)


def test_the_handles_of_message_and_correction_name_the_same(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        assert store.handled(b"h1") is None
        await store.add_message(id, answer(by=ADA, handles=[b"h1", b"h2"]), minute=1)
        await store.add_message(id, answer(by=ADA, handles=[b"h9", b"h1"]), minute=1)  # the first to use it has it
        await store.change_message(id, 2, b"better", MessageState.CORRECTED, minute=1, handles=[b"h3", b"h1"])
        for handle in (b"h1", b"h2", b"h3"):
            found = store.handled(handle)
            assert found
            assert (found.conversation.alias, found.public_key) == ("heron-42", b"p" * 32)
            assert (found.message.seq, found.message.sealed, found.message.state) == (2, b"better", "corrected")
        other = store.handled(b"h9")
        assert other
        assert other.message.seq == 3
        await store.burn(id, minute=2, retract=delivery)
        assert store.handled(b"h1") is None

    at_a_store(tmp_path, story)


def test_a_correction_takes_effect_once_and_only_where_there_is_something(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        taken = Taken(b"key", b"archive", b"7")
        told = [delivery("n1", BERT, NOTICE)]
        await store.change_message(id, 1, b"new", MessageState.CORRECTED, minute=2, notices=told, taken=taken)
        with pytest.raises(Duplicate):
            await store.change_message(id, 1, b"newer", MessageState.CORRECTED, minute=2, taken=taken)
        for where, seq in ((id, 2), (b"gone" * 4, 1)):
            with pytest.raises(NotFound):
                await store.change_message(where, seq, b"x", MessageState.CORRECTED, minute=2, handles=[b"h"])
        assert store.handled(b"h") is None
        assert store.messages(id, before=None, limit=9)[0].sealed == b"new"
        assert store.position(b"archive") == (b"7", 2)
        assert [(each.stanza_id, each.conversation) for each in store.due(minute=2, limit=9)] == [("n1", id)]

    at_a_store(tmp_path, story)


# ---- rooms -------------------------------------------------------------------------------------------------------


def test_burning_asks_chats_and_no_room_for_what_they_got(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        await say(store, id, "room-1", "room-2", to=ROOM)
        await say(store, id, "chat-1", "chat-2", to=BERT)
        held = NewDelivery("held", ADA, DeliveryKind.MESSAGE, b"sealed", held=True)
        await store.add_message(id, message(deliveries=(held,)), minute=1)
        await store.set_room(id, b"sealed address")
        await leave(store, "room-1", "chat-1")
        asked: list[tuple[str, bytes]] = []

        def retract(stanza_id: str, admin: bytes) -> NewDelivery:
            asked.append((stanza_id, admin))
            return delivery(f"r-{stanza_id}", admin, DeliveryKind.RETRACT)

        await store.burn(id, minute=2, retract=retract, notices=[delivery("d", ROOM, DeliveryKind.DESTROY)])
        assert asked == [("chat-1", BERT)]
        assert ids(store.due(minute=2, limit=9)) == ["r-chat-1", "d"]
        assert store.rooms() == []

    at_a_store(tmp_path, story)


def test_burning_forgets_how_far_the_rooms_archive_was_read(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        for archive in (b"room", b"other"):
            await store.move_position(archive, b"7", minute=1)
        await store.burn(id, minute=2, retract=lambda stanza_id, admin: None, archive=b"room")
        assert (store.position(b"room"), store.position(b"other")) == (None, (b"7", 1))

    at_a_store(tmp_path, story)


def test_what_is_for_no_admin_is_not_asked_back(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        await say(store, id, "to Ada", to=ADA)
        await say(store, id, "to Bert", to=BERT)
        await leave(store, "to Ada", "to Bert")

        def retract(stanza_id: str, admin: bytes) -> NewDelivery | None:
            return delivery(f"r-{stanza_id}", admin, DeliveryKind.RETRACT) if admin == ADA else None

        await store.burn(id, minute=3, retract=retract)
        assert ids(store.due(minute=3, limit=9)) == ["r-to Ada"]

    at_a_store(tmp_path, story)


def test_rooms_are_listed_newest_conversation_first(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        one, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        await added(store, 3, "owl-1")
        await store.set_room(one, b"first")
        await store.set_room(one, b"one")
        await store.set_room(other, b"other")
        await store.add_message(other, message(), minute=9)
        assert [(each.alias, address) for each, address in store.rooms()] == [("fox-7", b"other"), ("heron-42", b"one")]
        assert [address for _, address in store.rooms(one)] == [b"one"]
        assert store.rooms(visitor(3).id) == []
        with pytest.raises(NotFound):
            await store.set_room(b"gone" * 4, b"x")

    at_a_store(tmp_path, story)


def test_what_is_due_to_a_room_is_placed_elsewhere_and_nothing_else(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        one, other = await added(store, 1, "heron-42"), await added(store, 2, "fox-7")
        await say(store, one, "acked", "sent", "due", to=ROOM)
        await say(store, one, "chat", to=BERT)
        await say(store, other, "other", to=ROOM)
        staff, destroy = delivery("staff", ROOM, NOTICE), delivery("destroy", ROOM, DeliveryKind.DESTROY)
        await store.queue([staff, destroy], minute=1)
        await store.mark_sent(["acked", "sent"], minute=1)
        await store.mark_acked(["acked"])

        def place(stored: StoredDelivery) -> list[NewDelivery]:
            return [delivery(f"{stored.stanza_id}-{admin.decode()[0]}", admin, stored.kind) for admin in (ADA, BERT)]

        await store.empty_rooms(one, place, minute=2)
        assert [(each.stanza_id, each.seq) for each in store.due(minute=2, limit=99)] == [
            ("chat", 5),
            ("other", 2),
            ("staff", None),
            ("destroy", None),
            ("sent-A", 3),
            ("sent-B", 3),
            ("due-A", 4),
            ("due-B", 4),
        ]
        await store.empty_rooms(None, place, minute=2)
        assert [(each.stanza_id, each.conversation) for each in store.due(minute=2, limit=99)][-4:] == [
            ("other-A", other),
            ("other-B", other),
            ("staff-A", None),
            ("staff-B", None),
        ]
        assert not store.is_due_in_room(one)
        assert not store.is_due_in_room(other)

    at_a_store(tmp_path, story)


def test_a_notice_apart_belongs_to_no_conversation(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        apart = NewDelivery("staff", ROOM, NOTICE, b"sealed", apart=True)
        await store.set_standing(id, Standing.CLOSED, minute=2, notices=[apart, delivery("room", ROOM, NOTICE)])
        found = {each.stanza_id: (each.conversation, each.alias) for each in store.due(minute=2, limit=9)}
        assert found == {"staff": (None, ""), "room": (id, "heron-42")}

    at_a_store(tmp_path, story)


def test_nothing_is_queued_for_a_conversation_that_is_gone(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        with pytest.raises(NotFound):
            await store.queue([delivery("n", ROOM, NOTICE)], minute=1, conversation=b"gone" * 4)
        assert store.due(minute=1, limit=9) == []

    at_a_store(tmp_path, story)


def test_what_is_set_is_told_and_its_asking_noted_in_one_piece(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        id = await added(store)
        held = NewDelivery("held", ADA, DeliveryKind.MESSAGE, b"sealed", held=True)
        await store.add_message(id, message(deliveries=(held,)), minute=1)
        changes: dict[str, Callable[..., Awaitable[object]]] = {
            "setting": lambda **told: store.set_setting("away", b"value", minute=2, **told),
            "canned": lambda **told: store.set_canned("hours", b"words", minute=2, **told),
            "release": lambda **told: store.release(id, ADA, minute=2, **told),
        }
        for name, change in changes.items():
            taken = Taken(name.encode(), b"archive", name.encode())
            with pytest.raises(NotFound):
                await change(notices=[delivery(name, BERT, NOTICE)], taken=taken, place=b"gone" * 4)
            await change(notices=[delivery(name, BERT, NOTICE)], taken=taken, place=id)
            assert store.position(b"archive") == (name.encode(), 2)
            with pytest.raises(Duplicate):
                await change(notices=[delivery(f"{name} again", BERT, NOTICE)], taken=taken)
            await change(notices=[delivery(f"{name} apart", BERT, NOTICE)])
        assert (store.setting("away"), store.canned()) == (b"value", [("hours", b"words")])
        due = {each.stanza_id: each.conversation for each in store.due(minute=2, limit=9)}
        assert due == {
            "held": id,
            **dict.fromkeys(changes, id),
            **{f"{name} apart": None for name in changes},
        }

    at_a_store(tmp_path, story)


# ---- canned answers, OMEMO ---------------------------------------------------------------------------------------


def test_canned_answers_are_kept_replaced_and_forgotten(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        assert await store.set_canned("hours", b"MARKone", minute=1, taken=Taken(b"k", None, None)) is False
        with pytest.raises(Duplicate):
            await store.set_canned("hours", b"again", minute=1, taken=Taken(b"k", None, None))
        assert await store.set_canned("bye", b"bye", minute=1) is False
        assert await store.set_canned("hours", b"two", minute=1) is True
        assert store.canned() == [("bye", b"bye"), ("hours", b"two")]
        assert await store.set_canned("bye", None, minute=1) is True
        assert await store.set_canned("bye", None, minute=1) is False
        assert store.canned() == [("hours", b"two")]
        until_scrubbed(store)
        for file in tmp_path.iterdir():
            assert b"MARKone" not in file.read_bytes(), file

    at_a_store(tmp_path, story)


def test_omemo_entries_change_together_and_leave_nothing_behind(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        await store.keep_omemo([(b"a", b"MARKone"), (b"b", b"two")])
        await store.keep_omemo([(b"a", b"three"), (b"b", None), (b"c", b"four"), (b"d", None)])
        assert dict(store.omemo()) == {b"a": b"three", b"c": b"four"}
        with pytest.raises(sqlite3.IntegrityError):
            await store.keep_omemo([(b"a", b"five"), (b"e", "no bytes")])  # type: ignore[list-item]
        assert dict(store.omemo()) == {b"a": b"three", b"c": b"four"}
        until_scrubbed(store)
        for file in tmp_path.iterdir():
            assert b"MARKone" not in file.read_bytes(), file

    at_a_store(tmp_path, story)
