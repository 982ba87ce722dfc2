"""Whole journeys, failing ones too, with marks in everything a visitor can send; and no mark anywhere afterwards.

The appliance is the real one, as a process. What it prints and every byte of its data directory are searched,
while it runs, after the visitor has burned, after a clean stop and after SIGKILL.
"""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path

from tests.browser import Browser
from tests.live.appliance import Appliance
from tests.live.overhttp import browser_at

BODY = "MARKbodyzqx"
EMAIL = "MARKemailzqx@mail.example"
PASSWORD = "MARKpasswordzqx"
OTHER = "MARKotherzqx"  # headers, paths, queries, names of fields
MARKS = (BODY, EMAIL, PASSWORD, OTHER)


def spellings(mark: str) -> list[bytes]:
    """As it is, in other cases and encodings in which it could rest."""
    plain = mark.encode()
    return [
        plain,
        plain.lower(),
        mark.encode("utf-16-le"),
        plain.hex().encode(),
        base64.b64encode(plain).rstrip(b"=")[:-1],
    ]


def places_of(marks: list[str], data: Path, output: str) -> list[str]:
    """Where a mark is found: a file's name, or "output"."""
    found = []
    for mark in marks:
        for spelling in spellings(mark):
            if spelling in output.encode():
                found.append(f"output has {mark}")
            for file in data.rglob("*"):
                if file.is_file() and spelling in file.read_bytes():
                    found.append(f"{file.name} has {mark}")
    return found


async def well(browser: Browser) -> list[str]:
    """A journey in which all goes well; the secrets that it was given."""
    await browser.start(f"hello {BODY}")
    token = browser.cookie.partition("=")[2]
    chat = await browser.get("/chat")
    await browser.say(f"more {BODY}")
    other = Browser(browser.app, host=browser.host, circuit=None)
    registered = await other.send_form("/account", email=EMAIL, password=PASSWORD, create="1")
    assert registered.status == 303, registered.text
    await other.say(f"by mail {BODY}")
    assert "hello" in (await browser.get("/chat/latest")).text
    return [token, code_in(chat.text)]


def code_in(page: str) -> str:
    found = re.search(r'class="words">([^<]+)<', page)
    assert found
    return found[1].strip()


async def badly(browser: Browser) -> None:
    """Everything that is refused: too long, wrong, malformed, not there, forged."""
    await browser.send_form("/", message=BODY * 2000)
    await browser.post("/", {"message": BODY, "token": OTHER})
    await browser.send_form("/return", code=f"{OTHER} abacus abdomen")
    await browser.send_form("/account", email=EMAIL, password=PASSWORD + "wrong", enter="1")
    await browser.send_form("/account", email=OTHER, password=PASSWORD, create="1")
    await browser.get(f"/{OTHER}?{OTHER}={OTHER}")
    await browser.get("/chat/live?w=" + OTHER, cookie=f"veil={OTHER}")
    await browser.get("/", user_agent=OTHER, referer=OTHER, x_forwarded_for=OTHER)
    await browser.get("/", host=f"{OTHER}.example")
    await browser.post("/", {OTHER: OTHER}, origin=f"http://{OTHER}.example")
    await browser.request(OTHER, "/")
    await browser.request("POST", "/", body=OTHER.encode() * 9000)
    await browser.request("POST", "/", body=OTHER.encode(), content_type=f"multipart/form-data; boundary={OTHER}")


def test_nothing_that_a_visitor_sends_or_is_given_is_found_anywhere(tmp_path: Path) -> None:
    with Appliance(tmp_path / "data", "--no-tor", "--port", "18471", "--verbose") as appliance:
        page = appliance.wait_for_page()
        browser = browser_at(page)

        async def journeys() -> list[str]:
            await badly(browser_at(page))
            return await well(browser)

        marks = [*MARKS, *asyncio.run(journeys())]
        assert places_of(marks, appliance.data, appliance.output) == []
        appliance.kill()
        assert places_of(marks, appliance.data, appliance.output) == []
        appliance.start()
        appliance.wait_for_page()
        burned = asyncio.run(browser.send_form("/chat/burn"))
        assert burned.status == 303
        assert places_of(marks, appliance.data, appliance.output) == []
        assert appliance.stop() == 0
        assert places_of(marks, appliance.data, appliance.output) == []


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"..." + base64.b64encode(BODY.encode()))
    assert places_of([BODY], tmp_path, f"log: {BODY}") == [f"output has {BODY}", f"file has {BODY}"]
