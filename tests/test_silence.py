"""Whole journeys, failing ones too, with marks in everything people can send; and no mark anywhere afterwards.

For what a visitor sends the appliance is the real one, as a process. What it prints and every byte of its data
directory are searched, while it runs, after the visitor has burned, after a clean stop and after SIGKILL. For what
admins and their server send it is the desk alone, without XMPP, over a real store.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.desks import NOON, desk_in, hand_over, reopened
from tests.live.appliance import Appliance
from tests.live.overhttp import browser_at
from veilsupport.commands import Command, parse
from veilsupport.desk import Desk
from veilsupport.errors import AdminError, Duplicate
from veilsupport.model import Admin, Intake, Private, Session

BODY = "MARKbodyzqx"
EMAIL = "MARKemailzqx@mail.example"
PASSWORD = "MARKpasswordzqx"
OTHER = "MARKotherzqx"  # headers, paths, queries, names of fields
MARKS = (BODY, EMAIL, PASSWORD, OTHER)
ROOM = "MARKroomzqx@MARKroomszqx.example"
CORRECTED = "MARKcorrectedzqx"
CANNED = "MARKcannedzqx"
STANZA = "MARKstanzazqx"  # what others call their stanzas
ADA = Admin("MARKadazqx", Private("MARKjidzqx@chat.example"))
BERT = Admin("MARKbertzqx", Private("MARKbertsjidzqx@chat.example"), notify_only=True)
DESK_MARKS = [BODY, *ROOM.removesuffix(".example").split("@"), CORRECTED, CANNED, STANZA, "MARKadazqx", "MARKjidzqx"]


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


async def in_rooms(desk: Desk) -> Session:
    """A visitor's words in a room, an admin's answers, corrected and taken back, canned and encrypted; some refused."""
    signed_in = await desk.visitor_starts(f"hello {BODY}", seed=b"form", now=NOON)
    session = reopened(desk, signed_in.token)
    conversation = desk.conversation(session)
    assert conversation
    await desk.place_room(session.visitor.id, Private(ROOM))
    for delivery in await hand_over(desk):
        await desk.delivery_in_room(delivery.stanza_id, "archived-1")

    def stanza(number: int) -> Intake:
        return Intake(f"{STANZA}{number}", ROOM, f"archived-{number + 1}", (f"{ROOM}#{number}", f"{STANZA}{number}"))

    await desk.admin_says(ADA, conversation.alias, f"hi {BODY}", intake=stanza(1), now=NOON, in_room=True)
    await desk.admin_corrects(ADA, f"{ROOM}#1", CORRECTED, intake=stanza(2), now=NOON)
    await desk.admin_corrects(ADA, f"{STANZA}2", f"again {CORRECTED}", intake=stanza(3), now=NOON, in_room=True)
    await desk.admin_says(BERT, conversation.alias, f"me too {BODY}", intake=stanza(4), now=NOON, echo=BODY)
    await desk.admin_retracts(BERT, f"{STANZA}4", intake=stanza(5), now=NOON)
    for refused in (
        desk.admin_corrects(ADA, f"{STANZA}99", CORRECTED, intake=stanza(6), now=NOON),
        desk.admin_says(ADA, f"{CORRECTED}-1", BODY, intake=stanza(7), now=NOON),
        desk.admin_retracts(ADA, f"{STANZA}4", intake=stanza(5), now=NOON),
    ):
        with pytest.raises((AdminError, Duplicate)):
            await refused
    await desk.visitor_says(session, f"more {BODY}", once=b"1", now=NOON)
    await desk.place_staff_room(Private(f"staff-{ROOM}"))
    await desk.keep_omemo({f"{STANZA}-session": STANZA})
    lines = (f"!canned add hours {CANNED}", "!canned", f"!canned {conversation.alias} use hours", f"!canned {CANNED}")
    for number, line in enumerate(lines, start=8):
        command = parse(line)
        assert isinstance(command, Command)
        await desk.admin_commands(ADA, command, intake=stanza(number), now=NOON)
    assert [name for name, _ in desk.store.canned()] == ["hours"]
    assert CANNED in [message.body for message in desk.history(session)]
    return session


def test_nothing_that_admins_say_or_their_rooms_are_called_is_found_anywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def journeys() -> None:
        async with desk_in(tmp_path, (ADA, BERT), uses_rooms=True) as desk:
            session = await in_rooms(desk)
            assert places_of(DESK_MARKS, tmp_path, caplog.text) == []  # all that a kill at this moment would leave
            await desk.place_directly(session.visitor.id, now=NOON)
            await desk.store.release(session.visitor.id, desk.admin_id(BERT), minute=0)
            assert places_of(DESK_MARKS, tmp_path, caplog.text) == []
        assert places_of(DESK_MARKS, tmp_path, caplog.text) == []
        async with desk_in(tmp_path, (ADA, BERT)) as desk:
            assert any(BODY in delivery.body for delivery in await hand_over(desk))
            await desk.visitor_burns(session, now=NOON)
            assert ROOM in [delivery.body for delivery in desk.due(now=NOON)]
            await hand_over(desk)
            assert places_of(DESK_MARKS, tmp_path, caplog.text) == []
        assert places_of(DESK_MARKS, tmp_path, caplog.text) == []

    asyncio.run(journeys())


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"..." + base64.b64encode(BODY.encode()))
    assert places_of([BODY], tmp_path, f"log: {BODY}") == [f"output has {BODY}", f"file has {BODY}"]
