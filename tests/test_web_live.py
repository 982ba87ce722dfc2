"""The live view: what is streamed, when it ends, and that nothing is lost or doubled on the way."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.browser import Browser, Served, answers, bodies, tell
from tests.desks import ADA, hand_over, intake
from veilsupport.commands import Command
from veilsupport.desk import Desk
from veilsupport.model import Event, Progress, Progressed
from veilsupport.web import live
from veilsupport.web.look import PROGRESS_WORDS
from veilsupport.web.windows import PER_CIRCUIT, Window, Windows


def test_an_answer_appears_in_the_open_view(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("one")
        async with browser.stream() as view:
            assert bodies(view.text) == ["one"]
            assert view.text.index("charset") < view.text.index("refresh") < 200
            await answers(desk, "two <3")
            await view.until("two &lt;3")
            await browser.say("three")
            await view.until("three")
            assert bodies(view.text) == ["one", "two <3", "three"]

    tell(tmp_path, story)


def test_progress_changes_on_the_open_view_and_only_grows(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("one")
        async with browser.stream() as view:
            [ring] = await hand_over(desk)
            await view.until(f'#m1 .state::after{{content:"{PROGRESS_WORDS[Progress.HANDED_OVER]}"}}')
            await desk.delivery_read(ring.stanza_id, ADA)
            await view.until("Your message has been read.")
            [visitor] = desk.listeners._of  # an event that comes late, and one for a message that is not shown
            desk.listeners.tell(visitor, Progressed(1, Progress.ON_DEVICE))
            desk.listeners.tell(visitor, Progressed(99, Progress.ON_DEVICE))
            await answers(desk, "end")
            text = await view.until(">end<")
            assert f'"{PROGRESS_WORDS[Progress.ON_DEVICE]}"' not in text
            nonces = set(re.findall(r'<style nonce="([^"]+)"', text))
            assert len(nonces) == 1

    tell(tmp_path, story)


def test_no_message_is_lost_or_doubled_however_it_falls(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("first")

        async def meanwhile(sent: int) -> None:
            """Before the head, before the history, before the first and second heartbeat or message."""
            if sent < 4:
                await answers(desk, f"while {sent} were sent")

        async with browser.stream(before_send=meanwhile) as view:
            await answers(desk, "last")
            expected = ["first", *(f"while {sent} were sent" for sent in range(4)), "last"]
            for body in expected:
                await view.until(f">{body}<")
            assert sorted(bodies(view.text)) == sorted(expected)

    tell(tmp_path, story)


def test_events_in_the_wrong_order_lose_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("first")
        async with browser.stream() as view:
            tell_now = desk.listeners.tell
            held: list[tuple[bytes, Event]] = []
            monkeypatch.setattr(desk.listeners, "tell", lambda *event: held.append(event))
            await answers(desk, "second")
            await answers(desk, "third")
            for event in reversed(held):
                tell_now(*event)
            tell_now(held[0][0], Progressed(1, Progress.READ))
            await view.until("has been read")
            assert bodies(view.text) == ["first", "second", "third"]

    tell(tmp_path, story)


def test_only_the_newest_fifty_are_shown_at_first(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("number 1")
        for number in range(2, 61):
            await answers(desk, f"number {number}")
        async with browser.stream() as view:
            await answers(desk, "number 61")
            await view.until("number 61")
            assert bodies(view.text) == [f"number {number}" for number in range(11, 62)]

    tell(tmp_path, story)


def test_the_line_and_the_standing_are_told(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("one")
        alias = desk.open_aliases()[0]
        async with browser.stream() as view:
            assert '<div class="lines is-down">' in view.text
            desk.line_changed(True)
            await view.until(".lines .line{display:none}.lines .open{display:block}")
            await desk.admin_commands(ADA, Command("close", alias), intake=intake(), now=0.0)
            await view.until("was closed")
            for _again in range(2):
                await desk.admin_commands(ADA, Command("block", alias), intake=intake(), now=0.0)
            desk.line_changed(False)
            await view.until(".lines .down{display:block}")
            assert view.text.count("ended by the desk") == 1

    tell(tmp_path, story)


def test_a_view_that_begins_closed_says_so_once_and_then_what_it_becomes(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("one")
        alias = desk.open_aliases()[0]
        await desk.admin_commands(ADA, Command("close", alias), intake=intake(), now=0.0)
        async with browser.stream() as view:
            await desk.admin_commands(ADA, Command("close", alias), intake=intake(), now=0.0)
            await desk.admin_commands(ADA, Command("reopen", alias), intake=intake(), now=0.0)
            await view.until("is open again.</p>")
            assert view.text.count("was closed") == 1

    tell(tmp_path, story)


def test_the_heartbeat_restarts_the_banners_animation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.01)

    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        async with browser.stream() as view:
            await view.until("{animation-name:lost0}")
            await view.until("{animation-name:lost1}")

    tell(tmp_path, story)


def test_a_view_ends_after_its_time_to_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LIFE_SECONDS", 0.05)
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.02)

    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        assert (await browser.stream().end()).rstrip().endswith("</html>")

    tell(tmp_path, story)


def test_a_view_ends_in_its_time_and_not_when_something_happens_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the end would tell of an event that writes nothing, such as a phone that comes or goes."""
    monkeypatch.setattr(live, "LIFE_SECONDS", 0.05)

    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        await browser.stream().end()

    tell(tmp_path, story)


def test_the_third_window_ends_the_first_which_is_told_when_it_returns(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        async with browser.stream() as first, browser.stream() as second, browser.stream() as third:
            await first.end()
            back = await browser.get(f"/chat/live?w={first.window}")
            assert "in another window" in back.text
            assert "refresh" not in back.text
            async with browser.stream(f"/chat/live?w={second.window}") as again:
                assert bodies(await second.end()) == ["one"]  # its own reconnection, not a new window
                assert again.window == second.window
                assert "</html>" not in third.text

    tell(tmp_path, story)


def test_a_burned_conversation_ends_its_views(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        async with browser.stream() as view:
            await browser.send_form("/chat/burn")
            assert "This conversation was erased." in await view.end()

    tell(tmp_path, story)


def test_leaving_ends_the_views_of_that_session(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        async with browser.stream() as view:
            await browser.send_form("/chat/leave")
            await view.end()

    tell(tmp_path, story)


def test_a_view_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, served: Served) -> None:
        await browser.start("one")
        for _again in range(5):
            async with browser.stream():
                assert (len(desk.listeners), len(served.site._windows)) == (1, 1)
        assert (len(desk.listeners), len(served.site._windows)) == (0, 0)

    tell(tmp_path, story)


def test_when_the_server_stops_views_end_and_none_opens(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, served: Served) -> None:
        await browser.start("one")
        async with browser.stream() as view:
            served.site.end_streams()
            await view.end()
        await browser.stream().end()

    tell(tmp_path, story)


def test_a_view_that_has_to_end_while_its_heartbeat_waits_to_be_sent_waits_for_nothing_more(tmp_path: Path) -> None:
    """The server gives it a second, and the next heartbeat is fifteen away."""

    async def story(browser: Browser, _: Desk, served: Served) -> None:
        await browser.start("one")

        async def meanwhile(sent: int) -> None:
            if sent == 2:  # head and messages are out
                served.site.end_streams()

        await browser.stream(before_send=meanwhile).end()

    tell(tmp_path, story)


def test_opening_views_without_end_is_slowed_down(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        for _again in range(30):
            async with browser.stream():
                pass
        answer = await browser.get("/chat/live")
        assert answer.status == 429
        assert 'content="5;url=/chat/live"' in answer.text

    tell(tmp_path, story)


def test_a_window_that_comes_back_takes_its_own_place() -> None:
    windows = Windows()
    other, earlier = windows.open(b"session", "other"), windows.open(b"session", "same")
    again = windows.open(b"session", "same")
    assert (other.over, earlier.over, again.over) == (False, True, False)
    assert not windows.gave_way(b"session", "same")


def test_windows_remember_a_bounded_number() -> None:
    windows = Windows()
    for number in range(5000):
        for each in range(3):
            windows.open(number.to_bytes(2, "big"), str(each))
    assert len(windows._gave_way) == 4096


def test_there_are_so_many_live_views_and_no_more_and_who_has_one_keeps_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veilsupport.web.windows.OPEN_MAX", 1)

    async def story(browser: Browser, _: Desk, served: Served) -> None:
        other = Browser(browser.app, circuit=("circ-00000001", 80))
        await browser.start()
        await other.start()
        async with browser.stream():
            refused = await other.get("/chat/live")
            assert refused.status == 503
            assert 'content="31;url=/chat/live"' in refused.text  # it tries again by itself
            async with browser.stream():  # another window of hers
                assert served.site.streams == 2
        async with other.stream():
            assert served.site.streams == 1

    tell(tmp_path, story)


@given(st.lists(st.tuples(st.sampled_from("oocxe"), st.integers(0, 9), st.integers(0, 3)), max_size=60), st.booleans())
def test_the_count_of_live_views_is_that_of_those_in_their_place_and_comes_back_to_none(
    plan: list[tuple[str, int, int]], stops: bool
) -> None:
    """Whatever opens, is replaced, is closed once or twice, or is ended meanwhile."""
    windows = Windows()
    opened: list[Window] = []
    for act, which, name in plan:
        session, circuit = bytes([which % 3]), (None, "circ-1", "circ-2")[which % 3]
        match act:
            case "o":
                opened.append(windows.open(session, str(name), circuit))
            case "c" if opened:
                windows.close(opened[which % len(opened)])  # also one that has long ended, or was closed
            case "x":
                windows.end_session(session)
            case "e" if stops:
                windows.end_all()
        places = [each for siblings in windows._open.values() for each in siblings]
        assert len(windows) == len(places)
        assert windows._by_circuit == Counter(each.circuit for each in places if each.circuit)
    if stops:
        windows.end_all()
    for window in opened:
        windows.close(window)
    assert (len(windows), windows._by_circuit, windows._open) == (0, Counter(), {})


def test_one_circuit_cannot_take_all_live_views() -> None:
    windows = Windows()
    opened = [windows.open(bytes([number]), "name", "circ-1") for number in range(PER_CIRCUIT)]
    assert windows.are_full(b"new", "circ-1")
    assert not windows.are_full(bytes([0]), "circ-1")
    assert not windows.are_full(b"new", "circ-2")
    assert not windows.are_full(b"new", None)
    windows.open(bytes([0]), "name", "circ-1")  # the same window came back: its earlier view has ended
    windows.close(opened[0])
    assert windows.are_full(b"new", "circ-1")
    windows.close(opened[1])
    assert not windows.are_full(b"new", "circ-1")
    windows.end_all()
    assert not windows._by_circuit
