"""The desk in a frame on a site's own pages, over a real desk."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.browser import ONION, Answer, Browser, Served, answers, bodies, words_of
from tests.test_sites import HOST, arrive, sites_of, tell
from veilsupport.desk import Desk


class Framed:
    """The frame's page, without any cookie; in calm mode, where an answer has an end."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.page = Answer(0, [], "")

    async def open(self) -> Answer:
        self.page = await self.browser.get("/embed/shop")
        return self.page

    async def press(self, do: str = "say", **fields: str) -> Answer:
        self.page = await self.browser.post(
            "/embed/shop", {**self.page.hidden(), "calm": "1", "do": do, **fields}, origin=f"http://{ONION}"
        )
        assert not self.browser.cookie
        return self.page


def test_the_frame_is_for_the_sites_origins_only_and_needs_no_cookie(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        framed = Framed(browser)
        for page in (await framed.open(), await framed.press(message="hello")):
            assert f"frame-ancestors {HOST} http://shop.onion" in page.header("content-security-policy")
            assert page.header("cross-origin-resource-policy") == "cross-origin"
            assert page.header("cache-control") == "no-store"
        assert (await browser.get("/embed/clinic")).header("content-security-policy").endswith("frame-ancestors 'none'")
        assert bodies((await framed.press(message="more")).text) == ["hello", "more"]
        assert sites_of(desk) == [("hello", "shop"), ("more", "shop")]
        assert 'value="more"' not in framed.page.text
        assert 'id="m" name="message" value=""' in framed.page.text

    tell(tmp_path, story)


def test_in_the_frame_every_button_keeps_the_draft_and_a_reload_posts_nothing_twice(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        framed = Framed(browser)
        await framed.open()
        fields = framed.page.hidden()
        await framed.press(message="hello")
        code = words_of(framed.page.text)
        assert len(code.split()) == 7
        assert 'value="a draft"' in (await framed.press("refresh", message="a draft")).text
        assert "Your seven words" not in (await framed.press("keep", message="a draft")).text
        assert 'value="a draft"' in framed.page.text
        again = await browser.post("/embed/shop", {**fields, "message": "hello", "calm": "1"})
        assert bodies(again.text) == ["hello"]
        assert len(desk.due(now=2e9)) == 1
        assert (await browser.send_form("/return", code=code)).place == "/chat"

    tell(tmp_path, story)


def test_the_frame_ignores_the_browsers_own_session(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, served: Served) -> None:
        await browser.start("mine")
        assert "Send</button>" in (await browser.get("/embed/shop")).text
        page = await browser.get("/embed/shop")
        await browser.post("/embed/shop", {**page.hidden(), "message": "framed", "calm": "1"})
        assert bodies((await browser.get("/chat/latest")).text) == ["mine"]

    tell(tmp_path, story)


def test_live_in_the_frame_is_an_answer_that_does_not_end(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, served: Served) -> None:
        framed = Framed(browser)
        await framed.open()
        await framed.press(message="hello")
        fields = {name: value for name, value in framed.page.hidden().items() if name != "calm"}
        async with browser.stream("/embed/shop", fields={**fields, "do": "live", "message": "a draft"}) as stream:
            assert 'value="a draft"' in stream.text
            await answers(desk, "we are here")
            await stream.until("we are here")
            assert "</html>" not in stream.text
            served.site.end_streams()
            assert "animation-delay:0s" in await stream.end()

    tell(tmp_path, story)


def test_leaving_the_frame_ends_its_session(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        framed = Framed(browser)
        await framed.open()
        await framed.press(message="hello")
        before = framed.page
        assert "You have left" in (await framed.press("leave")).text
        framed.page = before
        gone = await framed.press(message="my words")
        assert gone.status == 403
        assert "my words</textarea>" in gone.text
        assert len(desk.due(now=2e9)) == 1
        assert (await framed.press(message="anew")).status == 200
        assert sites_of(desk)[-1] == ("anew", "shop")

    tell(tmp_path, story)


def test_from_the_frame_into_a_window_of_its_own(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        framed = Framed(browser)
        await framed.open()
        await framed.press(message="hello")
        handed = await browser.post("/embed/shop", {**framed.page.hidden(), "do": "window"})
        browser.cookie = ""
        assert (await arrive(browser, handed)).place == "/chat"

    tell(tmp_path, story)


def test_the_frames_form_is_as_strict_as_any(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        framed = Framed(browser)
        await framed.open()
        assert (await framed.press(message="x", token="")).status == 403
        assert (await framed.press(message="x", here=f"http://{ONION}.to/")).status == 403
        await framed.open()
        assert (await framed.press(message=" ")).status == 400
        await framed.press(message="hello")
        session = framed.page.hidden()["session"]
        other = await browser.get("/embed/shop")
        mixed = await browser.post("/embed/shop", {**other.hidden(), "session": session, "message": "y", "calm": "1"})
        assert mixed.status == 403  # its form token is not this session's
        assert len(desk.due(now=2e9)) == 1

    tell(tmp_path, story)


NASTY = st.one_of(st.text(max_size=60), st.sampled_from(["say", "keep", "window", "leave", "live", "\x00", "x" * 5000]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/embed/shop", "/s/shop/start", "/s/shop/arrived", "/s/shop", "/badge/shop.png"]),
    fields=st.dictionaries(st.sampled_from(["message", "session", "do", "token", "here", "new"]), NASTY),
    origin=st.sampled_from([HOST, "null", f"http://{ONION}"]),
    started=st.booleans(),
)
def test_whatever_another_page_sends_the_answer_is_never_5xx(
    tmp_path: Path, path: str, fields: dict[str, str], origin: str, started: bool
) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        framed = Framed(browser)
        await framed.open()
        honest = (await framed.press(message="hello")).hidden() if started else framed.page.hidden()
        answer = await browser.post(path, honest | fields | {"calm": "1"}, origin=origin)
        assert 200 <= answer.status < 500

    tell(tmp_path, story)
