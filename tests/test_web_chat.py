"""The conversation's pages: reading, writing, leaving, burning."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.browser import ONION, Browser, Served, answers, bodies, tell, words_of
from tests.desks import ADA, FREELY, NOON, intake, start
from veilsupport.commands import Command
from veilsupport.desk import Desk
from veilsupport.web import TABLE


def test_without_a_session_pages_lead_to_the_desk(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        for row in TABLE:
            if row.needs_session:
                for cookie in ("", "veil=nonsense", "veil=" + "x" * 5000):
                    browser.cookie = cookie
                    answer = await browser.get(row.path)
                    assert answer.place == "/" if not row.frame else 'target="_top"' in answer.text
        assert 'target="_top"' in (await browser.get("/chat/live")).text

    tell(tmp_path, story)


def test_the_chat_page_has_stream_and_composer_as_siblings(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start()
        chat = await browser.get("/chat")
        assert re.findall(r'<iframe [^>]*src="([^"]+)"', chat.text) == ["/chat/stream", "/chat/compose"]
        assert 'href="/chat/stream" target="view"' in chat.text
        assert "frame-src 'self'" in chat.header("content-security-policy")
        assert "frame-ancestors 'none'" in chat.header("content-security-policy")
        stub = await browser.get("/chat/stream")
        assert '<meta http-equiv="refresh" content="0;url=/chat/live">' in stub.text
        assert "frame-ancestors 'self'" in stub.header("content-security-policy")
        calm = await browser.get("/chat/calm")
        assert 'src="/chat/latest"' in calm.text
        assert 'content="20;url=/chat/latest"' in (await browser.get("/chat/latest")).text

    tell(tmp_path, story)


def test_a_sent_line_brings_the_focus_back_to_an_empty_box(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        assert (await browser.say("two")).place == "/chat/compose#m"
        assert 'value=""' in (await browser.get("/chat/compose")).text

    tell(tmp_path, story)


def test_a_form_sent_twice_posts_once(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        fields = (await browser.get("/chat/compose")).hidden() | {"message": "two"}
        await asyncio.gather(*(browser.post("/chat/compose", fields) for _ in range(3)))
        assert bodies((await browser.get("/chat/latest")).text) == ["one", "two"]

    tell(tmp_path, story)


def test_a_form_of_another_session_is_refused(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, served: Served) -> None:
        await browser.start("one")
        other = Browser(served.site)
        await other.start("two")
        fields = (await other.get("/chat/compose")).hidden() | {"message": "three"}
        assert (await browser.post("/chat/compose", fields)).status == 403

    tell(tmp_path, story)


def test_the_larger_box_takes_the_text_over_and_sends_lines(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        fields = (await browser.get("/chat/compose")).hidden()
        large = await browser.post("/chat/write", {**fields, "message": "half", "longer": "1"})
        assert (large.status, "\nhalf</textarea>" in large.text) == (200, True)
        sent = await browser.post("/chat/write", {**large.hidden(), "message": "half\r\nand half"})
        assert sent.place == "/chat"
        assert bodies((await browser.get("/chat/latest")).text) == ["one", "half\nand half"]

    tell(tmp_path, story)


def test_too_fast_keeps_the_text(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("one")
        answers_ = [await browser.say(f"line {number}") for number in range(21)]
        assert answers_[-1].status == 429
        assert 'value="line 20"' in answers_[-1].text
        assert answers_[-1].header("retry-after") == "2"

    tell(tmp_path, story)


def test_a_double_click_on_the_last_line_there_may_be_is_told_that_it_is_kept(tmp_path: Path) -> None:
    """Who is told "nothing was sent" sends again, by another form: then it stands there twice."""

    async def story(browser: Browser, desk: Desk, __: Served) -> None:
        desk.sites = FREELY
        await browser.start("one")
        for number in range(19):
            await browser.say(f"line {number}")
        fields = (await browser.get("/chat/compose")).hidden() | {"message": "the last"}
        for _ in range(2):
            assert (await browser.post("/chat/compose", fields)).place == "/chat/compose#m"
        assert (await browser.say("one more")).status == 429
        assert bodies((await browser.get("/chat/latest")).text)[-2:] == ["line 18", "the last"]

    tell(tmp_path, story)


def test_text_is_shown_as_text(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("<b>\"quoted\"</b> & 'more'")
        await answers(desk, "</p><script>alert(1)</script>")
        for path in ("/chat/latest", "/chat/older"):
            text = (await browser.get(path)).text
            assert "<script" not in text
            assert "<b>&#34;" not in text
            assert bodies(text) == ["<b>\"quoted\"</b> & 'more'", "</p><script>alert(1)</script>"]

    tell(tmp_path, story)


def test_older_messages_come_in_pages(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("number 1")
        for number in range(2, 121):
            await answers(desk, f"number {number}")
        page = (await browser.get("/chat/older")).text
        seen = bodies(page)
        while more := re.search(r'href="(/chat/older\?before=\d+)"', page):
            page = (await browser.get(more[1])).text
            seen = bodies(page) + seen
        assert seen == [f"number {number}" for number in range(1, 121)]
        for nonsense in ("x", "-1", "9" * 30, "٣"):
            assert (await browser.get(f"/chat/older?before={nonsense}")).status == 200
        assert "nothing older" in (await browser.get("/chat/older?before=1")).text

    tell(tmp_path, story)


def test_blocked_visitors_read_but_do_not_write(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("one")
        await desk.admin_commands(ADA, Command("block", desk.open_aliases()[0]), intake=intake(), now=0.0)
        refused = await browser.say("two")
        assert (refused.status, 'value="two"' in refused.text) == (403, True)
        assert bodies((await browser.get("/chat/latest")).text) == ["one"]

    tell(tmp_path, story)


def test_text_for_a_conversation_that_is_gone_is_handed_back(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("one")
        fields = (await browser.get("/chat/compose")).hidden()
        await desk.admin_commands(ADA, Command("burn", desk.open_aliases()[0]), intake=intake(), now=0.0)
        answer = await browser.post("/chat/compose", {**fields, "message": "my words"})
        assert (answer.status, "\nmy words</textarea>" in answer.text) == (403, True)

    tell(tmp_path, story)


def test_a_store_that_refuses_is_said_plainly_and_the_text_kept(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        fields = (await browser.get("/")).hidden()
        desk.store._writer.close()
        answer = await browser.post("/", {**fields, "message": "hello"})
        assert (answer.status, "hello</textarea>" in answer.text) == (503, True)
        assert "cannot keep anything" in answer.text

    tell(tmp_path, story)


def test_leaving_signs_out_this_browser_only(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, served: Served) -> None:
        await browser.start("one")
        words = words_of((await browser.get("/chat")).text)
        other = Browser(served.site)
        await other.send_form("/return", code=words)
        cookie = browser.cookie
        answer = await browser.send_form("/chat/leave")
        assert (answer.place, browser.cookie) == ("/left", "")
        assert answer.header("clear-site-data") == '"cache", "cookies", "storage"'
        browser.cookie = cookie
        assert (await browser.get("/chat")).place == "/"
        assert bodies((await other.get("/chat/latest")).text) == ["one"]
        assert "You have left" in (await browser.get("/left")).text

    tell(tmp_path, story)


def test_burning_needs_a_confirmation_and_leaves_nothing(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, served: Served) -> None:
        await browser.start("one")
        words = words_of((await browser.get("/chat")).text)
        assert "Erase everything?" in (await browser.get("/chat/burn")).text
        assert bodies((await browser.get("/chat/latest")).text) == ["one"]
        assert (await browser.post("/chat/burn", {"here": f"http://{ONION}/"})).status == 403
        answer = await browser.send_form("/chat/burn")
        assert (answer.place, browser.cookie) == ("/burned", "")
        assert (await Browser(served.site).send_form("/return", code=words)).status == 404

    tell(tmp_path, story)


def test_who_is_blocked_reads_so_before_writing(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start()
        [alias] = desk.open_aliases()
        await desk.admin_commands(ADA, Command("block", alias), intake=intake(), now=NOON)
        assert "ended by the desk" in (await browser.get("/chat/latest")).text
        async with browser.stream() as stream:
            await stream.until("ended by the desk")

    tell(tmp_path, story)


def test_signing_in_anew_ends_the_session_before(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        session = await start(desk)
        code = session.pending_code
        assert code is not None
        for _again in range(3):
            await browser.send_form("/return", code=code.reveal())
        assert len(desk.sessions(session)) == 2  # the one it began with, and the browser's latest

    tell(tmp_path, story)
