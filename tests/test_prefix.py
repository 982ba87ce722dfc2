"""The prefix before every path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.browser import Browser, Served
from tests.test_sites import HOST, tell
from veilsupport.desk import Desk
from veilsupport.web import TABLE

TEMPLATES = Path(__file__).parent.parent / "veilsupport" / "web" / "templates"


def hard_coded(text: str) -> Iterator[str]:
    yield from re.findall(r'(?:href|src|action)="/[^"]*|url=/[^"]*', text)


def test_no_template_has_a_path_of_its_own() -> None:
    assert {path.name: found for path in TEMPLATES.glob("*") if (found := list(hard_coded(path.read_text())))} == {}


def test_under_a_prefix_every_path_is_there_and_nowhere_else(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        for path in ("/", "/return", "/chat", "/check", "/s/shop", "/supportx/", "/api/v1/site"):
            assert (await browser.get(path)).status == 404, path
        assert (await browser.get("/support/check")).status == 204
        assert (await browser.get("/support")).status == 200
        started = await browser.send_form("/support/", message="one")
        assert started.place == "/support/chat"
        assert "Path=/support/" in started.header("set-cookie")
        await everything_is_under(browser, "/support")
        async with browser.stream("/support/chat/live") as stream:
            assert "url=/support/chat/live?w=" in stream.text
        assert (await browser.send_form("/support/chat", keep="1")).place == "/support/chat"
        left = await browser.send_form("/support/chat/leave")
        assert left.place == "/support/left"
        assert "Path=/support/" in left.header("set-cookie")

    tell(tmp_path, story, prefix="/support")


async def everything_is_under(browser: Browser, prefix: str) -> None:
    paths = [row.path.replace("{site}", "shop") for row in TABLE] + ["/nowhere"]
    for path in paths:
        page = await browser.get(prefix + path)
        links = re.findall(r'(?:href|src|action)="(/[^"]*)', page.text) + re.findall(r"url=(/[^\"]*)", page.text)
        links += [page.place] if page.place else []
        assert [link for link in links if not link.startswith(prefix + "/")] == [], path
        for link in links:
            if "style" in link:
                assert (await browser.get(link)).status == 200


def test_sites_work_under_a_prefix_too(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        brought = await browser.post("/support/s/shop/start", {"message": "hello"}, origin=HOST)
        assert "url=/support/s/shop/arrived" in brought.text
        assert "Path=/support/s/shop/arrived" in brought.header("set-cookie")
        assert (await browser.get("/support/badge/shop.png".replace("badge/", "embed/")[:-4])).status == 200
        framed = await browser.get("/support/embed/shop")
        assert 'action="/support/embed/shop"' in framed.text

    tell(tmp_path, story, prefix="/support")
