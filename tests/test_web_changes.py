"""What changes on a page that is open: who is there, who writes, words that are corrected or taken back, read marks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.browser import OWN, Browser, Served, Stream, answers, bodies, site_of, tell
from tests.desks import ADA, BERT, KEY, NOON, desk_in, hand_over, intake, start
from tests.test_frame import Framed
from tests.test_sites import SITES
from tests.test_sites import tell as tell_of_sites
from veilsupport.desk import Desk
from veilsupport.desk.attendance import AWAY
from veilsupport.errors import StoreError
from veilsupport.limits import Limits
from veilsupport.model import AttendanceChanged, Progress, Typing
from veilsupport.web import live, look
from veilsupport.web.forms import Tokens
from veilsupport.web.fragments import Fragments
from veilsupport.web.look import PROGRESS_WORDS
from veilsupport.web.pace import Pace
from veilsupport.web.pages import Pages
from veilsupport.web.windows import Windows

HANDED_OVER = PROGRESS_WORDS[Progress.HANDED_OVER]
READ = PROGRESS_WORDS[Progress.READ]
NASTY = '"}</style>\\ <b>\n'


async def answers_as(desk: Desk, body: str, handle: str) -> None:
    """An answer that can be changed by that handle."""
    come = replace(intake(), handles=(handle,))
    await desk.admin_says(ADA, desk.open_aliases()[0], body, intake=come, now=0.0, in_room=True)


async def corrects(desk: Desk, handle: str, body: str) -> None:
    await desk.admin_corrects(ADA, handle, body, intake=intake(), now=0.0, in_room=True)


async def retracts(desk: Desk, handle: str) -> None:
    await desk.admin_retracts(ADA, handle, intake=intake(), now=0.0, in_room=True)


async def ends(desk: Desk, view: Stream) -> str:
    """All that the view got, and a last message."""
    await answers(desk, "the end")
    return await view.until(">the end<")


def added(view: Stream, before: str) -> str:
    return view.text[len(before) :]


# ---- corrections and retractions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/chat/latest", "/chat/older"])
def test_a_whole_page_shows_each_message_as_it_is_now(tmp_path: Path, path: str) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("hello")
        await answers_as(desk, "at nin", "a")
        await answers_as(desk, "a secret", "b")
        assert "edited" not in (await browser.get(path)).text
        await corrects(desk, "a", "at nine")
        await retracts(desk, "b")
        page = (await browser.get(path)).text
        assert bodies(page) == ["hello", "at nine"]
        assert page.count('<span class="edited">edited</span>') == 1
        assert '<p class="body removed" dir="auto">removed by the desk</p>' in page
        assert "secret" not in page

    tell(tmp_path, story)


def test_a_correction_hides_the_old_words_and_brings_the_new_ones(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("hello")
        await answers_as(desk, "at nin", "a")
        async with browser.stream() as view:
            before = view.text
            await corrects(desk, "a", "at <nine>")
            await view.until("at &lt;nine&gt;")
            first = added(view, before)
            assert re.search(r'^<style nonce="[\w-]+">#m2 \.body,#m2v0\{display:none\}#m2::before\{content:"', first)
            assert "corrected further down" in first
            assert '<b>Ada</b> corrected <a href="#m2">an earlier message</a>:' in first
            assert first.index('id="m2v1"') < first.index("at &lt;nine&gt;")
            await corrects(desk, "a", "at ten")
            await view.until(">at ten<")
            assert "#m2 .body,#m2v1{display:none}" in view.text
            assert 'id="m2v2"' in view.text
            await retracts(desk, "a")
            await view.until("A message was removed by the desk.")
            assert "#m2 .body,#m2v2{display:none}" in view.text
            assert 'content:"removed by the desk"' in view.text
            assert 'id="m2v3"' not in view.text
        async with browser.stream() as again:
            assert bodies(again.text) == ["hello"]
            assert ">removed by the desk<" in again.text

    tell(tmp_path, story)


def test_a_retraction_leaves_one_sentence_and_is_told_to_screen_readers(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("hello")
        await answers_as(desk, "a secret", "a")
        async with browser.stream() as view:
            before = view.text
            await retracts(desk, "a")
            await view.until("was removed")
            assert re.sub(r'nonce="[\w-]+"', "", added(view, before)).splitlines() == [
                '<style >#m2 .body,#m2v0{display:none}#m2::before{content:"removed by the desk"}</style>',
                '<p class="unseen">A message was removed by the desk.</p>',
            ]

    tell(tmp_path, story)


def test_of_what_is_too_old_for_the_page_only_corrections_are_told(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("hello")
        await answers_as(desk, "old", "a")
        await answers_as(desk, "as old", "b")
        for number in range(60):
            await answers(desk, f"number {number}")
        async with browser.stream() as view:
            before = view.text
            await retracts(desk, "b")
            await corrects(desk, "a", "mended")
            await view.until(">mended<")
            assert "#m3" not in added(view, before)
            assert "corrected an earlier message:" in added(view, before)
            await retracts(desk, "a")
            await view.until("was removed")
            assert "#m2v1{display:none}" in added(view, before)

    tell(tmp_path, story)


def test_what_the_page_shows_already_is_not_told_again(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("hello")
        await answers_as(desk, "at nin", "a")

        async def meanwhile(sent: int) -> None:
            if sent == 0:  # between subscribing and reading the history
                await corrects(desk, "a", "at nine")

        async with browser.stream(before_send=meanwhile) as view:
            assert bodies(view.text) == ["hello", "at nine"]
            assert "earlier message" not in await ends(desk, view)

    tell(tmp_path, story)


def test_a_change_that_overtakes_its_message_shows_the_new_words_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("hello")
        async with browser.stream() as view:
            told = desk.listeners.tell
            held = []
            monkeypatch.setattr(desk.listeners, "tell", lambda *event: held.append(event))
            await answers_as(desk, "at nin", "a")
            await corrects(desk, "a", "at nine")
            for event in reversed(held):
                told(*event)
            monkeypatch.undo()
            assert bodies(await ends(desk, view)) == ["hello", "at nine", "the end"]

    tell(tmp_path, story)


# ---- writing -----------------------------------------------------------------------------------------------------


def test_an_admin_who_writes_is_shown_by_an_animation_that_starts_anew(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, served: Served) -> None:
        await desk.change_admins([ADA, BERT], now=NOON)
        await browser.start("hello")
        alias = desk.open_aliases()[0]
        async with browser.stream() as view:
            assert '<p class="typing"></p>' in view.text
            before = view.text
            desk.admin_types(ADA, alias)
            await view.until("typing1")
            assert '{animation-name:typing1}.typing::after{content:"Ada is writing\\2026 "}' in added(view, before)
            served.clock.now += 3
            desk.admin_types(ADA, alias)
            await view.until("typing0")
            assert added(view, before).count("content:") == 1  # the page knows the name
            desk.admin_types(BERT, alias)
            await view.until("Bert is writing")
            assert "unseen" not in added(view, before)  # nothing that a screen reader would tell

    tell(tmp_path, story)


def test_of_each_admin_a_page_is_told_every_three_seconds_in_few_bytes(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, served: Served) -> None:
        pages = Pages(
            desk=desk,
            pace=Pace(Limits(), key=KEY.forms),
            tokens=Tokens(KEY.forms),
            look=look.Look(lambda: OWN),
            windows=Windows(),
            clock=served.clock,
            sites=lambda: {"": OWN},
        )
        page = Fragments(pages, await start(desk), OWN, "n" * 22)
        added = []
        for _second in range(3600):
            added += [page.of(Typing("Ada")) for _key in range(5)]
            served.clock.now += 1
        told = [piece for piece in added if piece]
        assert len(told) == 1200
        assert {len(piece.encode()) for piece in told[1:]} == {77}
        assert "77 bytes" in (live.__doc__ or "")
        assert page.of(Typing("Bert"))
        served.clock.now -= 7200  # a clock that is set back must not end it
        assert page.of(Typing("Bert"))

    tell(tmp_path, story)


def test_a_message_of_an_admin_ends_it_at_once(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("hello")
        alias = desk.open_aliases()[0]
        async with browser.stream() as view:
            desk.admin_types(ADA, alias)
            await browser.say("and I")
            text = await view.until(">and I<")
            assert ".typing{animation-name:none}" not in text
            await answers(desk, "we are here")
            text = await view.until(">we are here<")
            assert text.index(".typing{animation-name:none}") < text.index(">we are here<")
            desk.admin_types(ADA, alias)  # at the same instant: it is the next message
            await view.until("typing0")
            assert (await ends(desk, view)).count("animation-name:none") == 2

    tell(tmp_path, story)


def test_where_a_site_does_not_want_it_nothing_is_shown(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        desk.sites = {"": replace(OWN, typing=False)}
        await browser.start("hello")
        async with browser.stream() as view:
            desk.admin_types(ADA, desk.open_aliases()[0])
            assert "is writing" not in await ends(desk, view)

    tell(tmp_path, story)


def test_no_name_and_no_sentence_ends_its_style(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        nasty = replace(ADA, name=NASTY)
        await desk.change_admins([nasty], now=NOON)
        await browser.start("hello")
        desk.sites = {"": replace(OWN, away=NASTY)}
        async with browser.stream() as view:
            before = view.text
            desk.admin_types(nasty, desk.open_aliases()[0])
            desk.admins_are_there([])
            await view.until('class="unseen"')
            styles = re.findall(r"<style[^>]*>(.*?)</style>", added(view, before), re.DOTALL)
            assert len(styles) == 2
            for style in styles:
                assert style.count('"') == 2
                assert not re.search(r"[<>&\n]", style)
            assert "<b>" not in added(view, before)

    tell(tmp_path, story)


@given(st.text())
def test_any_text_is_the_same_text_in_a_css_string(text: str) -> None:
    written = look._css(text)
    assert re.fullmatch(r"(?:[A-Za-z0-9 ]|\\[0-9a-f]{1,6} )*", written)
    assert re.sub(r"\\([0-9a-f]+) ", lambda found: chr(int(found[1], 16)), written) == text


# ---- who is there ------------------------------------------------------------------------------------------------


def test_the_first_page_says_one_of_three_things(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        said = []
        for up, there in ((True, [ADA]), (False, [ADA]), (True, []), (False, [])):
            desk.line_changed(up)
            desk.admins_are_there(there)
            page = await browser.get("/")
            assert len(page.text.encode()) + sum(len(name) + len(value) + 4 for name, value in page.headers) < 10_000
            found = re.search(r'<p class="note line (\w+)">(.*)</p>', page.text)
            assert found
            said.append((found[1], found[2]))
        assert [state for state, _ in said] == ["open", "down", "away", "away"]
        assert "is down at this moment" in said[1][1]
        assert said[2][1] == said[3][1] == AWAY

    tell(tmp_path, story)


def test_a_site_has_its_own_sentence_in_its_own_language(tmp_path: Path) -> None:
    async def run() -> None:
        sites = {**SITES, "shop": replace(SITES["shop"], away="<بسته>")}
        async with desk_in(tmp_path, sites=sites) as desk:
            desk.admins_are_there([])
            browser = Browser(site_of(desk, sites=sites).site)
            assert '<p class="note line away" lang="fa">&lt;بسته&gt;</p>' in (await browser.get("/s/shop")).text
            assert f'<p class="note line away">{AWAY}</p>' in (await browser.get("/s/clinic")).text
            framed = Framed(browser)
            assert '<p class="note line away" lang="fa">&lt;بسته&gt;</p>' in (await framed.open()).text
            page = (await framed.press(message="hello")).text
            assert 'class="lines is-away" role="status"' in page
            assert '<p class="line away" lang="fa"><span>&lt;بسته&gt;</span></p>' in page
            async with browser.stream("/embed/shop", fields=framed.page.hidden() | {"do": "live"}) as view:
                desk.sites = {**sites, "shop": replace(sites["shop"], away="Closed.")}
                desk.listeners.tell_all(AttendanceChanged())
                await view.until('<p class="unseen" lang="fa">Closed.</p>')

    asyncio.run(run())


def test_an_open_page_is_told_who_comes_and_goes(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        desk.line_changed(True)
        await browser.start("hello")
        async with browser.stream() as view:
            assert '<div class="lines is-open">' in view.text

            async def adds(change: Callable[[], None]) -> str:
                before = view.text
                change()
                await view.until(before + "<style")
                return re.sub(r'nonce="[\w-]+"', "", added(view, before))

            away = await adds(lambda: desk.admins_are_there([]))
            assert away.startswith("<style >.lines .line{display:none}.lines .away{display:block}")
            assert 'away::after{content:"Nobody is here at this moment\\2e  What' in away
            assert f'<p class="unseen">{AWAY}</p>' in away
            back = await adds(lambda: desk.admins_are_there([ADA]))
            assert back.splitlines() == [
                "<style >.lines .line{display:none}.lines .open{display:block}</style>",
                '<p class="unseen">The line to the people who answer is open.</p>',
            ]
            assert "content:" not in await adds(lambda: desk.admins_are_there([]))  # the page has this sentence
            desk.sites = {"": replace(OWN, away="Back at nine.")}
            retold = await adds(lambda: desk.listeners.tell_all(AttendanceChanged()))
            assert 'content:"Back at nine\\2e "' in retold
            before = view.text
            desk.line_changed(False)  # nobody is there either way
            desk.listeners.tell_all(AttendanceChanged())
            assert "<style" not in (await ends(desk, view))[len(before) :]

    tell(tmp_path, story)


def test_a_page_that_begins_with_the_sentence_has_it_without_a_style(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        desk.line_changed(True)
        desk.admins_are_there([])
        await browser.start("hello")
        async with browser.stream() as view:
            before = view.text
            assert f"<span>{AWAY}</span>" in before
            desk.admins_are_there([ADA])
            await view.until(".lines .open")
            desk.admins_are_there([])
            await view.until(".lines .away")
            assert "content:" not in added(view, before)

    tell(tmp_path, story)


# ---- read marks --------------------------------------------------------------------------------------------------


def test_where_a_site_shows_no_read_marks_no_page_does(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        desk.sites = {"": replace(OWN, read_marks=False)}
        await browser.start("hello")
        async with browser.stream() as view:
            [ring] = await hand_over(desk)
            before = await view.until(HANDED_OVER)
            await desk.delivery_arrived(ring.stanza_id, ADA)
            await desk.delivery_read(ring.stanza_id, ADA)
            assert "state" not in (await ends(desk, view))[len(before) :].partition('id="m2"')[0]
            assert "has been read" not in view.text
        for path in ("/chat/latest", "/chat/older"):
            page = (await browser.get(path)).text
            assert HANDED_OVER in page
            assert PROGRESS_WORDS[Progress.ON_DEVICE] not in page
            assert f">{READ}<" not in page
        desk.sites = {"": OWN}
        assert f">{READ}<" in (await browser.get("/chat/latest")).text

    tell(tmp_path, story)


def read_so_far(desk: Desk) -> list[int]:
    """What the admins are told of it."""
    told: list[int] = []
    desk.on_read = lambda _conversation, seq: told.append(seq)
    return told


def test_who_answers_in_the_box_has_looked_at_what_stood_above_it(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        told = read_so_far(desk)
        await browser.start("one")
        await answers(desk, "two")
        async with browser.stream():
            assert told == []  # an open page is nobody's look
            await browser.say("three")
        assert told == [2]
        fields = (await browser.get("/chat/compose")).hidden() | {"message": "four"}
        for _again in range(2):
            await browser.post("/chat/compose", fields)
        assert told == [2, 3]

    tell(tmp_path, story)


def test_in_the_frame_as_well(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        told = read_so_far(desk)
        framed = Framed(browser)
        await framed.open()
        await framed.press(message="one")
        await answers(desk, "two")
        await framed.press("refresh")
        assert told == []
        await framed.press(message="three")
        assert told == [2]

    tell_of_sites(tmp_path, story)


def test_the_larger_box_and_the_first_page_prove_no_look(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        told = read_so_far(desk)
        second_window = (await browser.get("/")).hidden()
        await browser.start("one")
        await answers(desk, "two")
        await browser.send_form("/chat/write", message="three")
        await browser.post("/", {**second_window, "message": "four"})
        assert bodies((await browser.get("/chat/latest")).text) == ["one", "two", "three", "four"]
        assert told == []

    tell(tmp_path, story)


def test_a_mark_that_the_disk_refuses_does_not_make_a_kept_message_look_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object) -> bool:
        raise StoreError("full")

    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("one")
        monkeypatch.setattr(desk.store, "mark_read_by_visitor", refuses)
        assert (await browser.say("two")).place == "/chat/compose#m"

    tell(tmp_path, story)
