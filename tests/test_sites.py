"""Other people's sites: their pages here, their forms, the badge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.browser import ONION, OWN, Answer, Browser, Exchange, Served, bodies, site_of, words_of
from tests.desks import NOON, desk_in
from veilsupport.desk import Desk
from veilsupport.model import Site
from veilsupport.web import TABLE, accent

HOST = "https://shop.example"
SHOP = Site("shop", "The Shop", "سلام", "#ffcc00", ("fa",), (HOST, "http://shop.onion"))
CLINIC = Site("clinic", "The Clinic", "Hello.")
SITES = {each.name: each for each in (OWN, SHOP, CLINIC)}
Story = Callable[[Browser, Desk, Served], Awaitable[None]]


def tell(tmp_path: Path, story: Story, *, prefix: str = "") -> None:
    async def run() -> None:
        async with desk_in(tmp_path) as desk:
            served = site_of(desk, sites=SITES, prefix=prefix)
            await story(Browser(served.site), desk, served)
            assert served.bugs == []

    asyncio.run(run())


async def bring(browser: Browser, text: str, *, origin: str = HOST, **headers: str) -> Answer:
    """Send the form that stands on someone else's page; a browser sends no SameSite=Strict cookie then."""
    kept, browser.cookie = browser.cookie, ""
    try:
        return await browser.post("/s/shop/start", {"message": text}, origin=origin, **headers)
    finally:
        browser.cookie = kept


async def arrive(browser: Browser, brought: Answer) -> Answer:
    """Follow the page that goes on by itself, with both cookies."""
    name_value, _, attributes = brought.header("set-cookie").partition(";")
    assert "Path=/s/shop/arrived" in attributes
    browser.cookie = "; ".join(filter(None, (browser.cookie, name_value)))
    return await browser.get("/s/shop/arrived")


def cookies(answer: Answer) -> dict[str, str]:
    given = [value for name, value in answer.headers if name == "set-cookie"]
    return {value.partition("=")[0]: value.partition("=")[2] for value in given}


def sites_of(desk: Desk) -> list[tuple[str, str]]:
    return [(delivery.body, delivery.site) for delivery in desk.due(now=2e9)]


# ---- a site's own page --------------------------------------------------------------------------------------------


def test_a_sites_page_wears_its_name_words_and_colour(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        page = await browser.get("/s/shop")
        assert '<h1 lang="fa" dir="auto">The Shop</h1>' in page.text
        assert ">سلام</p>" in page.text
        assert accent.styles("#ffcc00") in page.text
        assert page.header("content-security-policy").count("'sha256-") == 2
        assert len(page.text.encode()) < 10_000
        assert accent.styles("#ffcc00") not in (await browser.get("/s/clinic")).text
        assert 'href="/s/shop/return"' in page.text
        assert "The Shop" in (await browser.get("/s/shop/return")).text
        assert "The Shop" in (await browser.get("/s/shop/account")).text
        assert "Harbour Support" in (await browser.get("/")).text

    tell(tmp_path, story)


def test_the_conversation_goes_on_in_the_sites_look_and_carries_its_name(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        assert (await browser.send_form("/s/shop", message="hello")).place == "/chat"
        for path in ("/chat", "/chat/latest", "/chat/compose", "/chat/older", "/chat/burn"):
            page = await browser.get(path)
            assert accent.styles("#ffcc00") in page.text, path
            assert "'sha256-" in page.header("content-security-policy"), path
        await browser.say("and more")
        assert sites_of(desk) == [("hello", "shop"), ("and more", "shop")]
        async with browser.stream() as stream:
            assert accent.styles("#ffcc00") in stream.text

    tell(tmp_path, story)


@pytest.mark.parametrize("path", ["/s/", "/s/nobody", "/s/shop/", "/s/nobody/start", "/embed/nobody", "/badge/no.png"])
def test_unknown_sites_are_not_found(tmp_path: Path, path: str) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        assert (await browser.get(path)).status == 404

    tell(tmp_path, story)


def test_a_site_that_is_removed_leaves_its_conversations(tmp_path: Path) -> None:
    async def run() -> None:
        sites = dict(SITES)
        async with desk_in(tmp_path) as desk:
            browser = Browser(site_of(desk, sites=sites).site)
            await browser.send_form("/s/shop", message="hello")
            del sites["shop"]
            assert "Harbour Support" in (await browser.get("/chat")).text
            assert (await browser.get("/s/shop")).status == 404

    asyncio.run(run())


def test_two_sites_are_not_made_one_person_without_asking(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        fields = (await browser.get("/s/clinic")).hidden()
        await browser.send_form("/s/shop", message="to the shop")
        refused = await browser.post("/s/clinic", {**fields, "message": "to the clinic"})
        assert refused.status == 409
        assert "to the clinic</textarea>" in refused.text
        assert 'href="/chat"' in refused.text
        assert sites_of(desk) == [("to the shop", "shop")]

    tell(tmp_path, story)


# ---- a form on someone else's page --------------------------------------------------------------------------------


def test_a_form_of_a_listed_origin_starts_at_once(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        brought = await bring(browser, "from the shop")
        assert brought.status == 200
        assert 'content="0;url=/s/shop/arrived"' in brought.text
        assert list(cookies(brought)) == ["veil-handed"]
        assert sites_of(desk) == [("from the shop", "shop")]
        arrived = await arrive(browser, brought)
        assert arrived.place == "/chat"
        given = cookies(arrived)
        assert "Max-Age=0" in given["veil-handed"]
        browser.cookie = "veil=" + given["veil"].partition(";")[0]
        assert len(words_of((await browser.get("/chat")).text).split()) == 7
        assert bodies((await browser.get("/chat/latest")).text) == ["from the shop"]

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "origin", ["null", "", "https://evil.example", f"{HOST}.evil.example", f"{HOST}:444", f"http://{ONION}"]
)
def test_from_any_other_origin_nothing_is_sent_and_the_text_is_kept(tmp_path: Path, origin: str) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        page = await bring(browser, "put into <b>my</b> mouth", origin=origin)
        assert page.status == 200
        assert "nothing has been sent yet" in page.text
        assert "put into &lt;b&gt;my&lt;/b&gt; mouth</textarea>" in page.text
        assert not cookies(page)
        assert desk.due(now=2e9) == []
        sent = await browser.post("/s/shop", {**page.hidden(), "message": "my own words"})
        assert sent.place == "/chat"
        assert sites_of(desk) == [("my own words", "shop")]

    tell(tmp_path, story)


def test_a_session_is_never_replaced_from_elsewhere(tmp_path: Path) -> None:
    """The visitor chooses; both conversations stay."""

    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("the earlier one")
        earlier = browser.cookie
        brought = await bring(browser, "from the shop")
        assert "veil" not in cookies(brought)
        page = await arrive(browser, brought)
        assert page.status == 200
        assert not cookies(page)
        assert "two conversations" in page.text
        assert "Go back there first" in page.text
        assert len(words_of(page.text).split()) == 7
        both = browser.cookie
        back = await browser.post("/s/shop/arrived", {**page.hidden(), "earlier": "1"})
        assert (back.place, list(cookies(back))) == ("/chat", ["veil-handed"])
        browser.cookie = both
        on = await browser.post("/s/shop/arrived", {**page.hidden(), "new": "1"})
        assert (on.place, sorted(cookies(on))) == ("/chat", ["veil", "veil-handed"])
        browser.cookie = earlier
        assert bodies((await browser.get("/chat/latest")).text) == ["the earlier one"]

    tell(tmp_path, story)


def test_even_a_session_that_is_shown_is_not_used_for_someone_elses_form(tmp_path: Path) -> None:
    """As from another port of the same host, which counts as the same site."""

    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("the earlier one")
        earlier = browser.cookie
        assert list(cookies(await browser.post("/s/shop/start", {"message": "forged"}, origin=HOST))) == ["veil-handed"]
        browser.cookie = earlier
        assert bodies((await browser.get("/chat/latest")).text) == ["the earlier one"]

    tell(tmp_path, story)


def test_two_people_behind_one_circuit_never_share_a_conversation(tmp_path: Path) -> None:
    """Even with the same words at the same time: a doubled start does less harm than a shared one."""

    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        first, second = await bring(browser, "I need help"), await bring(browser, "I need help")
        assert cookies(first) != cookies(second)

    tell(tmp_path, story)


@pytest.mark.parametrize("origin", ["https://elsewhere.example", HOST, "null"])
@pytest.mark.parametrize("do", ["say", "window", "live", "keep", "leave"])
def test_no_other_page_can_put_a_visitor_into_its_own_conversation(tmp_path: Path, origin: str, do: str) -> None:
    """With a session of its own making in the form's field: that would be signing the visitor in as somebody else."""

    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        signed, _code = await desk.visitor_arrives(now=NOON)
        fields = {"session": signed.token.reveal(), "do": do, "message": "hello"}
        forged = await browser.post("/embed/shop", fields, origin=origin)
        assert forged.status == 403
        assert forged.hidden() == {}
        assert cookies(forged) == {}

    tell(tmp_path, story)


@pytest.mark.parametrize("text", ["", " \n", "x" * 4001])
def test_what_cannot_be_sent_from_elsewhere_comes_back_in_its_box(tmp_path: Path, text: str) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        page = await bring(browser, text)
        assert (page.status, 'role="alert"' in page.text) == (400, True)
        assert f"\n{text}</textarea>" in page.text
        assert desk.due(now=2e9) == []

    tell(tmp_path, story)


def test_forms_from_elsewhere_are_limited_like_any_start(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        statuses = [(await bring(browser, f"number {number}")).status for number in range(6)]
        assert statuses == [200] * 5 + [429]
        assert len(desk.due(now=2e9)) == 5

    tell(tmp_path, story)


def test_arriving_without_anything_leads_home(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        assert (await browser.get("/s/shop/arrived")).place == "/s/shop"
        assert (await browser.get("/s/shop/start")).place == "/s/shop"
        browser.cookie = "veil-handed=nonsense"
        assert (await browser.get("/s/shop/arrived")).place == "/s/shop"
        assert (await browser.send_form("/s/shop", message="one")).place == "/chat"
        assert (await browser.get("/s/shop/arrived")).place == "/chat"

    tell(tmp_path, story)


def test_no_other_form_is_taken_from_elsewhere(tmp_path: Path) -> None:
    assert {row.path for row in TABLE if row.from_anywhere} == {"/s/{site}/start"}

    async def story(browser: Browser, _: Desk, __: Served) -> None:
        for row in TABLE:
            path = row.path.replace("{site}", "shop")
            if row.act and not row.from_anywhere:
                assert (await browser.post(path, {}, origin=HOST)).status == 403, path

    tell(tmp_path, story)


# ---- the badge ----------------------------------------------------------------------------------------------------


def test_the_badge_is_a_picture_for_any_page_and_says_who_is_there(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, served: Served) -> None:
        async def picture() -> bytes:
            exchange = Exchange(browser.scope("GET", "/badge/shop.png"))
            await served.site(exchange.scope, exchange.receive, exchange.send)
            headers = dict(exchange.sent[0]["headers"])
            assert headers[b"cross-origin-resource-policy"] == b"cross-origin"
            assert headers[b"cache-control"] == b"public, max-age=60"
            assert headers[b"content-type"] == b"image/png"
            return bytes(exchange.sent[1]["body"])

        down = await picture()
        desk.line_changed(True)
        up = await picture()
        desk.admins_are_there([])
        away = await picture()
        desk.line_changed(False)
        assert await picture() == away
        assert down[:4] == up[:4] == away[:4] == b"\x89PNG"
        assert len({down, up, away}) == 3
        assert (await browser.post("/badge/shop.png", {})).status == 405

    tell(tmp_path, story)
