"""The pages of a visitor, over a real desk."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.browser import ONION, Browser, Served, answers, bodies, tell, words_of
from veilsupport.desk import Desk
from veilsupport.model import BODY_MAX_CHARACTERS
from veilsupport.web.forms import Tokens

# ---- the first page ------------------------------------------------------------------------------------------


def test_the_first_page_is_one_answer_below_ten_kilobytes(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        desk.line_changed(True)
        answer = await browser.get("/")
        assert answer.status == 200
        assert len(answer.text.encode()) + sum(len(name) + len(value) + 4 for name, value in answer.headers) < 10_000
        assert "<textarea" in answer.text
        assert "Harbour Support" in answer.text
        assert not re.search(r"<(link|img|script|svg|iframe)\b", answer.text)
        assert "'sha256-" in answer.header("content-security-policy")

    tell(tmp_path, story)


def test_the_first_page_tells_whether_the_line_is_up(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        assert "is down at this moment" in (await browser.get("/")).text
        desk.line_changed(True)
        assert "answer is open" in (await browser.get("/")).text

    tell(tmp_path, story)


def test_the_first_message_starts_a_conversation_and_gives_seven_words(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        answer = await browser.start("is anyone there?")
        cookie = answer.header("set-cookie")
        assert re.fullmatch(r"veil=[^;]+; HttpOnly; Path=/; SameSite=strict", cookie)
        chat = await browser.get("/chat")
        assert len(words_of(chat.text).split()) == 7
        assert [delivery.body for delivery in desk.due(now=2e9)] == ["is anyone there?"]
        assert (await browser.get("/")).place == "/chat"

    tell(tmp_path, story)


def test_a_double_click_starts_once(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, served: Served) -> None:
        fields = (await browser.get("/")).hidden() | {"message": "hello"}
        twin = Browser(served.site)
        await asyncio.gather(browser.post("/", fields), twin.post("/", fields))
        await browser.post("/", fields)  # Reload: now with the cookie
        assert browser.cookie == twin.cookie
        assert len(desk.due(now=2e9)) == 1

    tell(tmp_path, story)


def test_a_second_window_does_not_start_a_second_conversation(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        second = (await browser.get("/")).hidden()
        await browser.start("one")
        cookie = browser.cookie
        assert (await browser.post("/", {**second, "message": "two"})).place == "/chat"
        assert browser.cookie == cookie
        assert bodies((await browser.get("/chat/latest")).text) == ["one", "two"]

    tell(tmp_path, story)


@pytest.mark.parametrize("text", ["", "  \n ", "\u202e\u200f", "x" * (BODY_MAX_CHARACTERS + 1)])
def test_what_cannot_be_sent_comes_back_with_a_sentence(tmp_path: Path, text: str) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        answer = await browser.send_form("/", message=text)
        assert answer.status == 400
        assert 'role="alert"' in answer.text
        assert f"\n{text}</textarea>" in answer.text
        assert desk.due(now=2e9) == []

    tell(tmp_path, story)


def test_an_expired_form_keeps_the_text_and_can_be_sent_again(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, served: Served) -> None:
        fields = (await browser.get("/")).hidden() | {"message": "\nwritten <slowly>"}
        served.clock.now += 24 * 3600 + 61
        answer = await browser.post("/", fields)
        assert answer.status == 403
        assert "open for too long" in answer.text
        assert "\n\nwritten &lt;slowly&gt;</textarea>" in answer.text
        assert (await browser.post("/", {**answer.hidden(), "message": "written"})).place == "/chat"

    tell(tmp_path, story)


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 92, "A" * 10_000])
def test_a_wrong_form_token_is_refused(tmp_path: Path, token: str) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        answer = await browser.send_form("/", message="hello", token=token)
        assert (answer.status, "hello</textarea>" in answer.text) == (403, True)

    tell(tmp_path, story)


def test_a_form_token_is_good_for_its_form_and_session_only() -> None:
    tokens = Tokens(b"k" * 32)
    token = tokens.issue("say", b"session", now=0.0)
    assert len(tokens.read(token, "say", b"session", now=24 * 3600.0)) == 32
    for purpose, bound_to in (("burn", b"session"), ("say", b"other"), ("saysession", b"")):
        with pytest.raises(Exception, match="open for too long"):
            tokens.read(token, purpose, bound_to, now=0.0)
    with pytest.raises(Exception, match="open for too long"):
        Tokens(b"K" * 32).read(token, "say", b"session", now=0.0)


def test_a_proxy_that_rewrites_our_address_gives_itself_away(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        answer = await browser.send_form("/", message="hello", here=f"http://{ONION}.to/")
        assert answer.status == 403
        assert "through a proxy" in answer.text
        assert desk.due(now=2e9) == []

    tell(tmp_path, story)


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain", "application/json"])
def test_other_bodies_than_forms_are_refused(tmp_path: Path, kind: str) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        assert (await browser.post("/", {"message": "x"}, content_type=kind)).status == 415

    tell(tmp_path, story)


def test_no_such_page_and_no_such_method(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        assert (await browser.get("/nowhere")).status == 404
        assert (await browser.get("/chat/")).status == 404
        for path in ("/left", "/chat/live", "/chat/stream"):
            assert (await browser.post(path, {})).status == 405
        assert (await browser.request("DELETE", "/")).status == 405

    tell(tmp_path, story)


def test_the_stylesheet_is_cached_for_ever_under_its_hash(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start()
        found = re.search(r'href="(/static/style\.[0-9a-f]{16}\.css)"', (await browser.get("/chat")).text)
        assert found
        answer = await browser.get(found[1])
        assert answer.header("content-type") == "text/css; charset=utf-8"
        assert "immutable" in answer.header("cache-control")
        assert "@keyframes" in answer.text

    tell(tmp_path, story)


def test_the_check_is_empty_and_sets_nothing(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        for _again in range(100):
            answer = await browser.get("/check")
            assert (answer.status, answer.text, answer.header("set-cookie")) == (204, "", "")

    tell(tmp_path, story)


# ---- coming back ---------------------------------------------------------------------------------------------


def test_the_seven_words_open_the_conversation_in_another_browser(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, served: Served) -> None:
        await browser.start("first words")
        words = words_of((await browser.get("/chat")).text)
        await answers(desk, "an answer")
        other = Browser(served.site)
        assert (await other.send_form("/return", code=words.upper())).place == "/chat"
        assert bodies((await other.get("/chat/latest")).text) == ["first words", "an answer"]
        assert 'class="words"' not in (await other.get("/chat")).text

    tell(tmp_path, story)


def test_unknown_words_come_back_with_a_sentence_and_what_was_typed(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        answer = await browser.send_form("/return", code='one two "three')
        assert answer.status == 404
        assert 'value="one two &#34;three"' in answer.text
        assert "No conversation has this code" in answer.text

    tell(tmp_path, story)


def test_guessing_words_is_slowed_down_and_says_until_when(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, served: Served) -> None:
        tries = [await browser.send_form("/return", code="one two") for _ in range(10)]
        assert [answer.status for answer in tries[-2:]] == [429, 429]
        assert tries[-1].header("retry-after") == "20"
        assert "Please try again in 20 seconds." in tries[-1].text
        assert 'value="one two"' in tries[-1].text
        served.clock.now += 20
        assert (await browser.send_form("/return", code="one two")).status == 404

    tell(tmp_path, story)


def test_the_words_are_shown_until_they_are_kept(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start()
        words = words_of((await browser.get("/chat")).text)
        assert words in (await browser.get("/chat/leave")).text
        assert (await browser.send_form("/chat")).place == "/chat"
        assert words not in (await browser.get("/chat")).text
        assert words not in (await browser.get("/chat/leave")).text

    tell(tmp_path, story)


def test_email_and_password_make_an_account_and_open_it(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, served: Served) -> None:
        account = {"email": "nobody@example.org", "password": "correct horse"}
        assert (await browser.send_form("/account", **account, create="1")).place == "/chat"
        await browser.say("from my account")
        other = Browser(served.site)
        wrong = await other.send_form("/account", email=account["email"], password="wrong")
        assert wrong.status == 401
        assert 'value="nobody@example.org"' in wrong.text
        assert "wrong" not in wrong.text.replace("wrong_", "")
        assert (await other.send_form("/account", **account)).place == "/chat"
        assert bodies((await other.get("/chat/latest")).text) == ["from my account"]
        assert (await other.send_form("/account", **account, create="1")).status == 409

    tell(tmp_path, story)
