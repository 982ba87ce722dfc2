"""The WebSocket's protocol, over a real desk. What happens below it, byte by byte, is in test_wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CIRCUIT, ONION, Browser, Served, answers
from tests.desks import ADA, BERT, FREELY, hand_over, intake
from tests.program import EMAIL, HOST, PASSWORD, SITES, Program, Socket, tell
from tests.test_web_changes import answers_as, corrects, retracts
from veilsupport.commands import Command
from veilsupport.desk import Desk
from veilsupport.errors import StoreError
from veilsupport.limits import Act, By, Limits, Row
from veilsupport.model import Private, Progress, Progressed, Role, Said, Typing
from veilsupport.web import socket
from veilsupport.web.frames import Close

DESK = {"open": True, "staffed": True, "away": None, "archived": False, "answer_minutes": None, "conversation": "open"}


async def nothing_more(desk: Desk, *phones: Socket) -> None:
    """Whatever has happened before told these sockets nothing: the next that comes is a mark set behind it."""
    desk.listeners.tell_all(Typing("mark"))
    for phone in phones:
        assert await phone.next() == {"type": "typing", "name": "mark"}


# ---- signing in ----------------------------------------------------------------------------------------------


def test_the_first_frame_signs_in_and_ready_tells_how_things_stand(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        user = (await program.starts()).json["user"]
        await program.says("one")
        await hand_over(desk)
        await answers(desk, "two")
        await program.post("/chat/read", {"seq": 2})
        async with program.signed() as phone:
            assert await phone.next() == {
                "type": "ready",
                "user": user,
                "last_seq": 2,
                "read_seq": 2,
                "states": [{"seq": 1, "state": "handed_over"}],
                "desk": {**DESK, "open": False},
            }

    tell(tmp_path, story)


def test_the_token_in_the_address_works_for_old_clients(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        async with (
            program.socket(f"?token={program.token}") as old,
            program.socket(f"?token={program.token}&after=0") as all_,
        ):
            assert (await old.next())["type"] == "ready"
            await answers(desk, "two")
            assert await old.messages(1) == ["two"]
            assert await all_.messages(2) == ["one", "two"]

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"type": "auth", "token": "unknown"}', 4401),
        ('{"type": "auth", "token": "\\u00e9"}', 4401),
        ('{"type": "auth", "cookie": true}', 4401),
        ('{"type": "auth"}', 4400),
        ('{"type": "auth", "token": "x", "cookie": true}', 4400),
        ('{"type": "auth", "cookie": false}', 4400),
        ('{"type": "auth", "token": "x", "after": -1}', 4400),
        ('{"type": "auth", "token": "x", "more": 1}', 4400),
        ('{"type": "message", "content": "x"}', 4400),
        ('{"token": "x"}', 4400),
        ("not json", 4400),
        ("", 4400),
        ("[" * 20000, 4400),
    ],
)
def test_what_does_not_sign_in_is_told_why_and_closed(tmp_path: Path, frame: str, code: int) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        async with program.socket() as phone:
            phone.say_text(frame)
            if code == 4400:
                assert (await phone.next())["type"] == "error"
            assert await phone.closed() == code

    tell(tmp_path, story)


@pytest.mark.parametrize("query", ["?token=unknown", "?token=", "?token=a&token=b", "?after=0&x=1", "?after=x"])
def test_a_bad_address_is_closed_too(tmp_path: Path, query: str) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        async with program.socket(query) as phone:
            assert await phone.closed() == (4401 if query == "?token=unknown" else 4400)

    tell(tmp_path, story)


def test_silence_instead_of_auth_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "AUTH_SECONDS", 0.02)

    async def story(program: Program, _: Desk, __: Served) -> None:
        async with program.socket() as phone:
            assert await phone.closed() == Close.NO_AUTH

    tell(tmp_path, story)


def test_who_has_waited_longest_to_sign_in_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever holds all places for as long as they may shuts everybody out."""
    monkeypatch.setattr(socket, "WAITING_MAX", 2)

    async def story(program: Program, _: Desk, served: Served) -> None:
        await program.starts()
        async with program.socket() as first, program.socket() as second:
            await first.event()
            await second.event()
            async with program.signed() as third:
                await third.next("ready")
            assert await first.closed() == Close.NO_AUTH
            second.say(type="auth", token=program.token)
            await second.next("ready")
        assert not served.site._sockets._waiting

    tell(tmp_path, story)


def test_one_circuit_cannot_take_all_the_waiting_places(tmp_path: Path) -> None:
    async def story(_: Program, __: Desk, served: Served) -> None:
        theirs = Program(served.site, circuit=CIRCUIT, host=ONION)
        waiting = [theirs.socket() for _ in range(socket.WAITING_PER_CIRCUIT)]
        for phone in waiting:
            await phone.event()
        async with theirs.socket() as one_more:
            assert await one_more.closed() == Close.UNAVAILABLE
        other = Program(served.site, circuit=("circ-00000001", 80), host=ONION)
        await other.starts()
        async with other.signed() as phone:
            await phone.next("ready")
        for phone in waiting:
            phone.leave()
        await asyncio.gather(*(phone.task for phone in waiting))
        assert not served.site._sockets._waiting

    tell(tmp_path, story)


def test_there_are_so_many_sockets_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "SOCKETS_MAX", 1)

    async def story(program: Program, _: Desk, served: Served) -> None:
        await program.starts()
        other = Program(served.site)
        await other.starts()
        async with program.signed() as first:
            await first.next("ready")
            async with other.signed() as second:
                assert await second.closed() == Close.UNAVAILABLE
            async with program.signed() as third:  # who has one has a place
                await third.next("ready")
        async with other.signed() as again:
            await again.next("ready")

    tell(tmp_path, story)


def test_our_own_page_signs_in_with_its_cookie_and_no_other_page_does(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        browser = Browser(served.site)
        await browser.start("from the page")
        for origin, code in ((f"http://{ONION}", None), ("", 4401), ("https://shop.example", 4401)):
            page = Program(served.site, circuit=CIRCUIT, host=ONION)
            async with page.socket(origin=origin, cookie=browser.cookie) as phone:
                phone.say(type="auth", cookie=True, after=0)
                if code is None:
                    assert await phone.messages(1) == ["from the page"]
                else:
                    assert await phone.closed() == code

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"origin": "https://evil.example"}, 403, "wrong_origin"),
        ({"origin": "null"}, 403, "wrong_origin"),
        ({"host": "evil.example"}, 421, "wrong_host"),
        ({"via": "1.1 proxy"}, 403, "proxied"),
    ],
)
def test_the_handshake_of_strangers_is_refused(tmp_path: Path, headers: dict[str, Any], status: int, code: str) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        async with program.socket(**headers) as phone:
            start, body = await phone.event(), await phone.event()
            assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
            assert json.loads(body["body"])["error"]["code"] == code

    tell(tmp_path, story)


def test_listed_origins_our_own_and_programs_may_connect(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        for origin in ("https://shop.example", f"http://{HOST}", ""):
            async with program.signed(origin=origin) as phone:
                await phone.next("ready")

    tell(tmp_path, story)


def test_no_socket_opens_elsewhere(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        for path in ("/", "/api/v1/chat/send", "/chat/live"):
            scope = {**program.browser.scope("GET", path), "type": "websocket", "subprotocols": []}
            async with Socket(served.site, scope, None) as phone:
                assert (await phone.event())["status"] == 404

    tell(tmp_path, story)


# ---- messages ------------------------------------------------------------------------------------------------


def test_a_message_sent_over_rest_arrives_as_content(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        async with program.signed() as phone:
            await phone.next("ready")
            await program.says("hello")
            frame = await phone.next()
            assert (frame["type"], frame["content"], frame["author"], frame["seq"]) == ("message", "hello", "user", 1)

    tell(tmp_path, story)


def test_sending_is_acked_by_id_and_other_devices_see_it(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        async with program.signed() as phone, program.signed() as laptop:
            await phone.next("ready")
            await laptop.next("ready")
            phone.say(type="message", content="hello\u202e", id="c-1")
            ack = await phone.next()
            assert (ack["type"], ack["id"], ack["seq"], ack["state"]) == ("ack", "c-1", 1, "kept")
            assert ack["content"] == "hello"
            assert await laptop.next("message") == {**{k: v for k, v in ack.items() if k != "id"}, "type": "message"}
            phone.say(type="message", content="hello\u202e", id="c-1")  # it did not know, and says it again
            assert await phone.next() == ack
            phone.say(type="message", content="without id")
            assert (await phone.next())["id"] is None
            assert [delivery.body for delivery in desk.due(now=2e9)] == ["hello", "without id"]

    tell(tmp_path, story)


def test_acks_and_messages_come_in_order_whoever_writes(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("first")
        async with program.signed(after=0) as phone, program.signed(after=0) as laptop:
            for number in range(10):
                phone.say(type="message", content=f"phone {number}", id=f"p{number}")
                laptop.say(type="message", content=f"laptop {number}", id=f"l{number}")
                await answers(desk, f"admin {number}")
            for device, own in ((phone, "phone"), (laptop, "laptop")):
                seen = [await device.next("message", "ack") for _ in range(31)]
                assert [frame["seq"] for frame in seen] == list(range(1, 32))
                assert {frame["content"].split()[0] for frame in seen if frame["type"] == "ack"} == {own}
                assert sum(frame["type"] == "ack" for frame in seen) == 10

    tell(tmp_path, story, limits=Limits(()))


def test_resuming_leaves_no_gap_and_repeats_nothing(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("1")
        async with program.signed(after=0) as phone:
            assert await phone.messages(1) == ["1"]
        for number in range(2, 131):
            await answers(desk, str(number))

        async def meanwhile(sent: int) -> None:
            if sent in (0, 1, 2, 60, 131):
                await answers(desk, f"while {sent} were sent")

        async with program.socket(before_send=meanwhile) as phone:
            phone.say(type="auth", token=program.token, after=1)
            seen = [await phone.next("message") for _ in range(129 + 5)]
            assert [frame["seq"] for frame in seen] == list(range(2, 136))

    tell(tmp_path, story)


def test_an_after_beyond_the_end_loses_nothing(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("1")
        async with program.signed(after=10**9) as phone:
            await phone.next("ready")
            await answers(desk, "2")
            assert await phone.messages(1) == ["2"]

    tell(tmp_path, story)


def test_events_in_the_wrong_order_lose_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("1")
        async with program.signed() as phone:
            await phone.next("ready")
            tell_now, held = desk.listeners.tell, list[Any]()
            monkeypatch.setattr(desk.listeners, "tell", lambda *event: held.append(event))
            await answers(desk, "2")
            await answers(desk, "3")
            for event in reversed(held):
                tell_now(*event)
            assert await phone.messages(2) == ["2", "3"]
            phone.say(type="ping")
            assert (await phone.next())["type"] == "pong"

    tell(tmp_path, story)


def test_an_own_message_that_nobody_told_about_is_acked_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        async with program.signed() as phone:
            await phone.next("ready")
            monkeypatch.setattr(desk, "_tell_said", lambda *_: None)
            phone.say(type="message", content="1", id="c1")
            assert (await phone.next())["id"] == "c1"

    tell(tmp_path, story)


def test_a_site_s_page_makes_a_conversation_of_that_site(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        async with program.signed(origin="https://shop.example") as phone:
            phone.say(type="message", content="1")
            await phone.next("ack")
            assert [delivery.site for delivery in desk.due(now=2e9)] == ["shop"]

    tell(tmp_path, story)


# ---- what else is told -----------------------------------------------------------------------------------------


def test_states_typing_reading_and_the_desk_are_told(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        alias = desk.open_aliases()[0]
        async with program.signed() as phone, program.signed() as laptop:
            await phone.next("ready")
            await laptop.next("ready")
            [ring] = await hand_over(desk)
            assert await phone.next() == {"type": "state", "seq": 1, "state": "handed_over"}
            await desk.delivery_read(ring.stanza_id, ADA)
            assert (await phone.next())["state"] == "read"
            desk.admin_types(ADA, alias)
            assert await phone.next() == {"type": "typing", "name": "Ada"}
            written: list[str] = []
            desk.on_typing = lambda conversation: written.append(conversation.alias)
            laptop.say(type="typing")
            laptop.say(type="read", seq=1)
            assert await phone.next() == {"type": "read", "seq": 1}
            assert written == [alias]
            laptop.say(type="read", seq=9)  # beyond the end: nothing
            desk.line_changed(True)
            assert await phone.next() == {"type": "desk", **DESK}
            await desk.admin_commands(ADA, Command("close", alias), intake=intake(), now=0.0)
            assert (await phone.next())["conversation"] == "closed"
            await program.says("two")
            assert (await phone.next("desk"))["conversation"] == "open"
            assert (await phone.next("message"))["content"] == "two"

    tell(tmp_path, story)


def test_who_is_there_is_told_as_it_changes(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        desk.sites = {**SITES, "shop": replace(SITES["shop"], away="The shop is closed.")}
        desk.line_changed(True)
        await program.starts()
        none_yet = {**DESK, "conversation": None}
        async with program.signed(origin="https://shop.example") as phone:
            assert (await phone.next("ready"))["desk"] == none_yet
            desk.admins_are_there([])
            away = {"staffed": False, "away": "The shop is closed."}
            assert await phone.next() == {"type": "desk", **none_yet, **away}
            desk.admins_are_there([ADA])
            assert await phone.next() == {"type": "desk", **none_yet}

    tell(tmp_path, story)


def test_whose_coming_and_going_makes_no_difference_to_a_visitor_sends_nothing(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        reader = replace(BERT, role=Role.READS)
        elsewhere = replace(BERT, role=Role.NONE, roles=(("shop", Role.LEADS),))
        desk.line_changed(True)
        await program.starts()
        await program.says("one")
        async with program.signed() as phone:
            await phone.next("ready")
            for admins in ([ADA, reader], [ADA, elsewhere], [ADA, BERT]):
                desk.admins = tuple(admins)
                desk.admins_are_there(admins)
                desk.admins_are_there([ADA])
                await nothing_more(desk, phone)
            desk.admins_are_there([ADA, BERT])
            await desk.admin_is_away(ADA, "Back at nine.")
            await nothing_more(desk, phone)
            desk.admins_are_there([ADA])
            assert (await phone.next())["away"] == "Back at nine."
            desk.admins_are_there([])
            await nothing_more(desk, phone)

    tell(tmp_path, story)


def test_how_long_answers_take_is_no_reason_to_tell_of_the_desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        async with program.signed() as phone:
            assert (await phone.next("ready"))["desk"]["answer_minutes"] is None
            monkeypatch.setattr(desk, "answer_minutes", lambda **_: 7)
            desk.admins_are_there([ADA])  # else the first phone that comes or goes would tell of the seven minutes
            await nothing_more(desk, phone)
            desk.line_changed(True)
            assert await phone.next() == {"type": "desk", **DESK, "answer_minutes": 7, "conversation": None}

    tell(tmp_path, story)


def test_a_conversation_that_begins_leaves_nothing_for_the_next_phone_to_tell(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        desk.sites = {**SITES, "shop": replace(SITES["shop"], away="The shop is closed.")}
        desk.admins_are_there([])
        await program.starts()
        async with program.signed() as own, program.signed(origin="https://shop.example") as other:
            await own.next("ready")
            await other.next("ready")
            own.say(type="message", content="one")
            await own.next("ack")
            await other.next("message")
            assert (await other.next())["away"] != "The shop is closed."  # it became one of the desk's own page
            desk.admins_are_there([BERT])
            await nothing_more(desk, own, other)

    tell(tmp_path, story)


def test_a_standing_that_is_the_same_is_not_told_again(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        alias = desk.open_aliases()[0]
        async with program.signed() as phone:
            await phone.next("ready")
            await desk.admin_commands(ADA, Command("reopen", alias), intake=intake(), now=0.0)
            await nothing_more(desk, phone)
            for _again in range(2):
                await desk.admin_commands(ADA, Command("close", alias), intake=intake(), now=0.0)
            assert (await phone.next())["conversation"] == "closed"
            await nothing_more(desk, phone)

    tell(tmp_path, story)


def test_where_a_site_shows_neither_typing_nor_reading_nothing_of_it_is_told(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        desk.sites = {"": replace(SITES[""], typing=False, read_marks=False)}
        heard: list[object] = []
        desk.on_typing = heard.append
        desk.on_read = lambda *read: heard.append(read)
        await program.starts()
        await program.says("one")
        async with program.signed() as phone:
            await phone.next("ready")
            [ring] = await hand_over(desk)
            assert (await phone.next())["state"] == "handed_over"
            async with program.signed() as laptop:
                await laptop.next("ready")
                await desk.delivery_arrived(ring.stanza_id, ADA)
                await desk.delivery_read(ring.stanza_id, ADA)
                await nothing_more(desk, phone, laptop)
            desk.admin_types(ADA, desk.open_aliases()[0])
            phone.say(type="typing")
            phone.say(type="read", seq=1)
            assert (await phone.next())["type"] == "read"  # one's own devices agree all the same
            assert heard == []

    tell(tmp_path, story)


def test_not_even_of_a_message_that_is_too_old_for_the_first_frame(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        desk.sites = {"": replace(SITES[""], read_marks=False)}
        await program.starts()
        await program.says("one")
        [ring] = await hand_over(desk)
        for number in range(50):
            await answers(desk, str(number))
        async with program.signed() as phone:
            assert (await phone.next("ready"))["states"] == []
            await desk.delivery_arrived(ring.stanza_id, ADA)
            await desk.delivery_read(ring.stanza_id, ADA)
            await nothing_more(desk, phone)

    tell(tmp_path, story)


def test_a_state_that_this_socket_was_told_is_not_told_again(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        await hand_over(desk)
        async with program.signed() as fresh, program.signed(after=0) as all_:
            await fresh.next("ready")
            assert (await all_.next("message"))["state"] == "handed_over"
            [visitor] = desk.listeners._of
            for progress in (Progress.HANDED_OVER, Progress.KEPT):
                desk.listeners.tell(visitor, Progressed(1, progress))
            await nothing_more(desk, fresh, all_)
            for _again in range(2):
                desk.listeners.tell(visitor, Progressed(1, Progress.READ))
            assert (await fresh.next())["state"] == (await all_.next())["state"] == "read"
            await nothing_more(desk, fresh, all_)

    tell(tmp_path, story)


# ---- what is changed later ---------------------------------------------------------------------------------------


def test_a_changed_message_is_told_whole(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        async with program.signed() as phone:
            await phone.next("ready")
            await answers_as(desk, "at nin", "a")
            said = await phone.next()
            await corrects(desk, "a", "at nine")
            assert await phone.next() == {**said, "type": "changed", "content": "at nine", "change": "corrected"}
            await retracts(desk, "a")
            assert await phone.next() == {**said, "type": "changed", "content": "", "change": "retracted"}
            await retracts(desk, "a")
            await nothing_more(desk, phone)

    tell(tmp_path, story)


def test_who_resumes_is_told_of_changes_to_the_last_fifty_that_they_have(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("1")
        for number in range(2, 61):
            await answers_as(desk, str(number), f"m{number}")
        for number in (3, 20, 58, 60):
            await corrects(desk, f"m{number}", f"better {number}")
        await retracts(desk, "m30")
        async with program.signed(after=58) as phone:
            assert (await phone.next())["type"] == "ready"
            seen = [await phone.next() for _ in range(5)]
            assert [(each["type"], each["seq"], each["content"]) for each in seen] == [
                ("changed", 20, "better 20"),  # the third is further back than fifty
                ("changed", 30, ""),
                ("changed", 58, "better 58"),
                ("message", 59, "59"),
                ("message", 60, "better 60"),
            ]
        for after in (None, 0):
            async with program.signed(after=after) as phone:
                assert (await phone.next())["type"] == "ready"
                phone.say(type="ping")
                assert (await phone.next())["type"] == ("pong" if after is None else "message")

    tell(tmp_path, story)


def test_a_change_falls_into_no_gap_while_resuming(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("1")
        await answers_as(desk, "at nin", "a")

        async def meanwhile(sent: int) -> None:
            if sent in (0, 1, 2):
                await corrects(desk, "a", f"while {sent} were sent")

        async with program.socket(before_send=meanwhile) as phone:
            phone.say(type="auth", token=program.token, after=2)
            while (await phone.next("changed"))["content"] != "while 2 were sent":
                pass

    tell(tmp_path, story)


def test_a_change_that_overtakes_its_message_is_told_as_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("1")
        async with program.signed() as phone:
            await phone.next("ready")
            tell_now, held = desk.listeners.tell, list[Any]()
            monkeypatch.setattr(desk.listeners, "tell", lambda *event: held.append(event))
            await answers(desk, "2")
            await answers_as(desk, "at nin", "a")
            await corrects(desk, "a", "at nine")
            for event in reversed(held):
                tell_now(*event)
            assert await phone.messages(2) == ["2", "at nine"]
            phone.say(type="ping")
            assert (await phone.next())["type"] == "pong"

    tell(tmp_path, story)


# ---- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "field", "id"),
    [
        ("nonsense", "malformed", None, None),
        ("[]", "malformed", None, None),
        ("[" * 30000, "malformed", None, None),
        ('"message"', "malformed", None, None),
        ('{"content": "x", "id": "c1"}', "missing", "type", "c1"),
        ('{"type": "writing"}', "invalid", "type", None),
        ('{"type": "auth", "token": "x"}', "invalid", "type", None),
        ('{"type": 7}', "invalid", "type", None),
        ('{"type": "message", "id": "c1"}', "missing", "content", "c1"),
        ('{"type": "message", "content": 1, "id": "c1"}', "invalid", "content", "c1"),
        ('{"type": "message", "content": "", "id": "c1"}', "empty", "content", "c1"),
        ('{"type": "message", "content": " ", "id": "c1"}', "empty", "content", "c1"),
        ('{"type": "message", "content": "%s", "id": "c1"}' % ("x" * 4001), "too_long", "content", "c1"),
        ('{"type": "message", "content": "x", "id": "no blanks"}', "invalid", "id", None),
        ('{"type": "message", "content": "x", "id": "c1", "more": 1}', "unknown_field", "more", "c1"),
        ('{"type": "read", "seq": "1"}', "invalid", "seq", None),
        ('{"type": "read"}', "missing", "seq", None),
    ],
)
def test_an_unfit_frame_is_refused_by_field_and_the_socket_stays(
    tmp_path: Path, text: str, code: str, field: str | None, id: str | None
) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        async with program.signed() as phone:
            await phone.next("ready")
            phone.say_text(text)
            error = await phone.next()
            assert (error["type"], error["error"]["code"], error["error"]["field"]) == ("error", code, field)
            assert (error["id"], error["retry_after"]) == (id, None)
            phone.say(type="message", content="still here", id="c2")
            assert (await phone.next())["id"] == "c2"

    tell(tmp_path, story)


def test_a_binary_frame_closes(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        async with program.signed() as phone:
            await phone.next("ready")
            phone.say_bytes(b"x")
            assert await phone.closed() == Close.BINARY
        async with program.socket() as phone:
            phone.say_bytes(b"x")
            assert await phone.closed() == Close.BINARY

    tell(tmp_path, story)


def test_too_fast_is_told_with_the_seconds_to_wait(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, served: Served) -> None:
        desk.sites = FREELY
        await program.starts()
        async with program.signed() as phone:
            await phone.next("ready")
            for number in range(21):
                phone.say(type="message", content="x", id=f"c{number}")
            seen = [await phone.next() for _ in range(21)]
            [error] = [frame for frame in seen if frame["type"] != "ack"]
            assert (error["error"]["code"], error["id"], error["retry_after"]) == ("too_fast", "c20", 2)
            served.clock.now += 2
            phone.say(type="message", content="x", id="c20")
            assert (await phone.next())["id"] == "c20"
            assert len(desk.due(now=2e9)) == 21

    tell(tmp_path, story)


def test_connecting_too_often_closes_with_the_seconds_to_wait(tmp_path: Path) -> None:
    limits = Limits((Row(Act.STREAM, By.SESSION, 0.5, 1, ""),))

    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        async with program.signed() as first, program.signed() as second:
            await first.next("ready")
            assert (await second.next("error"))["retry_after"] == 2
            assert await second.closed() == Close.TOO_FAST

    tell(tmp_path, story, limits=limits)


def test_a_blocked_conversation_takes_nothing(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        async with program.signed() as phone:
            await phone.next("ready")
            await desk.admin_commands(ADA, Command("block", desk.open_aliases()[0]), intake=intake(), now=0.0)
            assert (await phone.next())["conversation"] == "blocked"
            phone.say(type="message", content="two", id="c1")
            assert (await phone.next())["error"]["code"] == "blocked"

    tell(tmp_path, story)


def test_a_disk_that_takes_nothing_is_told_and_the_socket_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        async with program.signed() as phone:
            await phone.next("ready")

            async def refuses(*_: object, **__: object) -> None:
                raise StoreError("full")

            with monkeypatch.context() as patch:
                patch.setattr(desk.store, "add_message", refuses)
                phone.say(type="message", content="one", id="c1")
                error = await phone.next()
                assert (error["error"]["code"], error["id"], error["retry_after"]) == ("unavailable", "c1", 60)
            phone.say(type="message", content="one", id="c1")
            assert (await phone.next())["type"] == "ack"

    tell(tmp_path, story)


def test_a_disk_that_gives_nothing_for_a_moment_ends_the_socket_and_not_the_desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(program: Program, desk: Desk, served: Served) -> None:
        await program.starts()

        def refuses(*_: object, **__: object) -> None:
            raise StoreError("failing")

        for reads in ("conversation", "messages"):  # as it is made, and as it is told
            with monkeypatch.context() as patch:
                patch.setattr(desk.store, reads, refuses)
                await asyncio.wait_for(program.signed().task, 5)
        assert served.bugs == []
        assert len(desk.listeners) == 0
        assert served.site.sockets == 0

    tell(tmp_path, story)


# ---- the end ---------------------------------------------------------------------------------------------------


Revokes = Callable[[Program, str], Awaitable[Any]]


@pytest.mark.parametrize(
    "revokes",
    [
        lambda program, _: program.post("/auth/logout"),
        lambda program, _: program.post("/auth/refresh"),
        lambda program, own: program.call("DELETE", f"/auth/sessions/{own}"),
    ],
    ids=["logout", "refresh", "end"],
)
def test_a_token_revoked_in_mid_stream_closes_its_sockets_and_no_others(tmp_path: Path, revokes: Revokes) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        code = (await program.starts()).json["code"]
        other = Program(served.site, token=(await program.post("/auth/return", {"code": code})).json["token"])
        sessions = (await program.get("/auth/sessions")).json["sessions"]
        own = next(each["id"] for each in sessions if each["current"])
        async with program.signed() as phone, program.signed() as tablet, other.signed() as laptop:
            for device in (phone, tablet, laptop):
                await device.next("ready")
            await revokes(program, own)
            assert (await phone.closed(), await tablet.closed()) == (Close.SIGNED_OUT, Close.SIGNED_OUT)
            await other.says("still here")
            assert await laptop.messages(1) == ["still here"]

    tell(tmp_path, story)


def test_a_changed_password_closes_the_other_sessions_sockets(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        login = {"email": EMAIL, "password": PASSWORD}
        program.token = (await program.post("/auth/register", login)).json["token"]
        other = Program(served.site, token=(await program.post("/auth/login", login)).json["token"])
        async with program.signed() as mine, other.signed() as theirs:
            await mine.next("ready")
            await theirs.next("ready")
            await program.post("/auth/password", {**login, "new_password": "even longer"})
            assert await theirs.closed() == Close.SIGNED_OUT
            await program.says("x")
            assert await mine.messages(1) == ["x"]

    tell(tmp_path, story)


def test_a_burned_conversation_closes_every_socket(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        async with program.signed() as phone, program.signed() as laptop:
            await phone.next("ready")
            await laptop.next("ready")
            await desk.admin_commands(ADA, Command("burn", desk.open_aliases()[0]), intake=intake(), now=0.0)
            assert (await phone.closed(), await laptop.closed()) == (Close.BURNED, Close.BURNED)

    tell(tmp_path, story)


def test_the_eleventh_socket_of_a_session_ends_the_first(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        await program.starts()
        phones = [program.signed() for _ in range(11)]
        for phone in phones:
            await phone.next("ready")
        assert await phones[0].closed() == Close.REPLACED
        await program.says("x")
        assert await phones[1].messages(1) == ["x"]
        for phone in phones:
            phone.leave()
        await asyncio.wait_for(asyncio.gather(*(phone.task for phone in phones)), 5)
        assert len(served.site._sockets) == 0

    tell(tmp_path, story)


def test_a_reader_too_slow_is_closed_and_resumes(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("1")
        reads = asyncio.Event()

        async def slowly(sent: int) -> None:
            if sent >= 3:
                await reads.wait()

        async with program.socket(before_send=slowly) as phone:
            phone.say(type="auth", token=program.token, after=0)
            assert await phone.messages(1) == ["1"]
            for number in range(2, 302):
                await answers(desk, str(number))
            reads.set()
            last = 1
            while (event := await phone.event())["type"] == "websocket.send":
                last = json.loads(event["text"])["seq"]
            assert event["code"] == Close.TOO_SLOW
        async with program.signed(after=last) as again:
            assert await again.messages(301 - last) == [str(number) for number in range(last + 1, 302)]

    tell(tmp_path, story)


def test_a_stopping_server_tells_every_socket_and_opens_none(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        await program.starts()
        async with program.signed() as phone:
            await phone.next("ready")
            served.site.end_streams()
            assert await phone.closed() == Close.GOING_AWAY
        async with program.signed() as late:
            assert await late.closed() == Close.GOING_AWAY

    tell(tmp_path, story)


def test_what_was_being_kept_when_the_end_came_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored, and told to whom it concerns; the client, which got no ack, says it again and it is there once."""

    async def story(program: Program, desk: Desk, served: Served) -> None:
        await program.starts()
        keep, begun, goes_on = desk.store.add_message, asyncio.Event(), asyncio.Event()

        async def slowly(*arguments: Any, **named: Any) -> Any:
            begun.set()
            await goes_on.wait()
            return await keep(*arguments, **named)

        async with program.signed() as phone:
            await phone.next("ready")
            with monkeypatch.context() as patch:
                patch.setattr(desk.store, "add_message", slowly)
                phone.say(type="message", content="x", id="c1")
                await begun.wait()
                desk.wake.clear()
                served.site.end_streams()
                assert await phone.closed() == Close.GOING_AWAY
                goes_on.set()
                await asyncio.wait_for(phone.task, 5)
            assert desk.wake.is_set()
        assert (await program.says("x", id="c1")).json["message"]["seq"] == 1

    tell(tmp_path, story)


def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, served: Served) -> None:
        await program.starts()
        for early in range(4):
            async with program.signed() as phone:
                phone.say(type="message", content="x", id=f"c{early}")
                for _ in range(early):
                    await phone.event()
            assert (len(desk.listeners), len(served.site._sockets)) == (0, 0)

    tell(tmp_path, story)


@pytest.mark.parametrize("stops", [False, True])
def test_the_count_of_sockets_is_that_of_those_in_their_place_and_comes_back_to_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """Opened, replaced, signed out, refused and left, and ended by a stop, some of them by two of these at once."""
    monkeypatch.setattr(socket, "SOCKETS_PER_SESSION", 2)

    async def story(_: Program, desk: Desk, served: Served) -> None:
        sockets = served.site._sockets
        one, other = Program(served.site), Program(served.site)
        await one.starts()
        await other.starts()
        first, second, third = phones = [one.signed() for _ in range(3)]
        for phone in phones:
            await phone.next("ready")
        assert await first.closed() == Close.REPLACED
        await asyncio.wait_for(first.task, 5)
        assert len(sockets) == 2
        first.leave()  # of which nobody is there to hear any more
        async with other.signed() as elsewhere, one.socket("?token=unknown") as refused:
            await elsewhere.next("ready")
            assert await refused.closed() == Close.SIGNED_OUT
            assert len(sockets) == sum(map(len, sockets._of.values())) == 3
        assert len(sockets) == 2
        if stops:
            served.site.end_streams()
            served.site.end_streams()
        second.leave()
        await one.post("/auth/revoke")
        third.leave()
        await asyncio.wait_for(asyncio.gather(second.task, third.task), 5)
        assert (len(sockets), len(desk.listeners), dict(sockets._of)) == (0, 0, {})

    tell(tmp_path, story)


def test_a_message_told_twice_is_shown_once(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        async with program.signed() as phone:
            await phone.next("ready")
            session = desk.open_session(Private(program.token))
            assert session is not None
            message = await desk.visitor_says(session, "x", once=b"once", now=0.0)
            desk.listeners.tell(session.visitor.id, Said(message))
            phone.say(type="ping")
            assert [(await phone.next())["type"] for _ in range(2)] in (["message", "pong"], ["pong", "message"])

    tell(tmp_path, story)
