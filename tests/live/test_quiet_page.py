"""What changes on an open page without scripts, as Firefox shows it: writing, attendance, corrections, retractions.

The desk runs in this process, so that a test can do what an admin's client would. Nothing is loaded anew in between:
the document's own clock says so. Screenshots go to tests/live/screenshots/.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.browser import OWN, answers, site_of
from tests.desks import ADA, desk_in
from tests.live.firefox import Firefox
from tests.live.test_main_job import everything, shows_in_view, write_first
from tests.ports import free_port
from tests.test_web_changes import answers_as, corrects, retracts
from veilsupport.desk import Desk
from veilsupport.desk.attendance import AWAY
from veilsupport.limits import Limits
from veilsupport.model import AttendanceChanged
from veilsupport.web import serve

T = TypeVar("T")
SCREENSHOTS = Path(__file__).parent / "screenshots"
SHOP = replace(OWN, name="shop", title="The Shop", accent="#c2410c")


class Served(threading.Thread):
    """A desk and its page on a loopback port, on a loop of its own."""

    desk: Desk

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self._directory = directory
        self._ready = threading.Event()
        self._port = free_port()
        self.page = f"http://127.0.0.1:{self._port}"

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over, ready = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        sites = {"": OWN, "shop": SHOP}
        async with desk_in(self._directory, sites=sites) as self.desk, asyncio.TaskGroup() as tasks:
            built = site_of(self.desk, limits=Limits(()), sites=sites)
            self._clock, self._site = built.clock, built.site
            tasks.create_task(serve(built.site, unix_socket=None, port=self._port, stop=self._over, ready=ready))
            await ready.wait()
            self._ready.set()

    def awaits(self, work: Coroutine[Any, Any, T]) -> T:
        """Done on the desk's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def does(self, act: Callable[[], T]) -> T:
        async def work() -> T:
            return act()

        return self.awaits(work())

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """Every WebSocket is closed, and none opens, for the length of the block."""
        sockets = self._site._sockets
        self.does(sockets.end_all)
        yield
        sockets._closing = False

    def types(self) -> None:
        """Three seconds after the last time, at least: more often a page is not told."""
        self._clock.now += 3
        self.does(lambda: self.desk.admin_types(ADA, self.desk.open_aliases()[0]))

    def __enter__(self) -> Served:
        self.start()
        assert self._ready.wait(10)
        self.does(lambda: self.desk.line_changed(True))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def firefox() -> Iterator[Firefox]:
    with Firefox(width=600, height=800) as browser:
        yield browser


@pytest.fixture
def visitor(firefox: Firefox, served: Served) -> Iterator[Firefox]:
    """In a conversation, looking into the frame with the messages; it may not be loaded anew."""
    firefox.command("WebDriver:DeleteAllCookies")
    write_first(firefox, served.page, "is anyone there?")
    firefox.enter("iframe[name=view]")
    began = origin_of(firefox)
    yield firefox
    firefox.top()
    firefox.enter("iframe[name=view]")
    assert origin_of(firefox) == began
    firefox.top()


def origin_of(browser: Firefox) -> str:
    return str(browser.script("return String(performance.timeOrigin)"))


def is_visible(browser: Firefox, css: str = ".typing") -> bool:
    return browser.style(browser.find(css), "visibility") == "visible"


def written_by_css(browser: Firefox, css: str, which: str = "::after") -> str:
    return str(browser.script(f"return getComputedStyle(document.querySelector('{css}'), '{which}').content"))


def picture(browser: Firefox, name: str) -> None:
    browser.top()
    browser.screenshot(SCREENSHOTS / f"quiet-{name}.png")
    browser.enter("iframe[name=view]")


# ---- writing -----------------------------------------------------------------------------------------------------


def test_that_an_admin_writes_appears_starts_anew_and_vanishes_by_itself(visitor: Firefox, served: Served) -> None:
    place = visitor.find(".typing")
    assert not is_visible(visitor)
    height = visitor.script("return document.querySelector('.scroll').clientHeight")

    served.types()
    visitor.until(lambda: is_visible(visitor))
    assert written_by_css(visitor, ".typing") == '"Ada is writing…"'
    assert visitor.script("return document.querySelector('.scroll').clientHeight") == height  # nothing moves for it
    picture(visitor, "typing")

    def shown_for() -> float:
        return float(visitor.script("return document.querySelector('.typing').getAnimations()[0].currentTime"))

    visitor.until(lambda: shown_for() > 3500, what="half of its time")
    served.types()
    visitor.until(lambda: shown_for() < 3000, what="a new beginning")
    assert is_visible(visitor)
    visitor.until(lambda: not is_visible(visitor), timeout_seconds=12, what="its end")
    assert visitor.attribute(place, "aria-live") is None  # and no screen reader was told


def test_a_message_ends_it_at_once(visitor: Firefox, served: Served) -> None:
    served.types()
    visitor.until(lambda: is_visible(visitor))
    served.awaits(answers(served.desk, "we are here"))
    visitor.find_text("we are here", css=".m .body")
    assert not is_visible(visitor)
    served.types()
    visitor.until(lambda: is_visible(visitor), what="the next one, without a pause")


# ---- attendance --------------------------------------------------------------------------------------------------


def shown_line(browser: Firefox) -> str:
    """The one sentence that shows; all looked at in one moment, as they change places."""
    [shown] = browser.script(
        "return Array.from(document.querySelectorAll('.lines .line'))"
        ".filter((each) => getComputedStyle(each).display !== 'none').map((each) => each.innerText)"
    )
    return str(shown)


def test_the_sentence_about_those_who_answer_changes_with_the_desk(visitor: Firefox, served: Served) -> None:
    assert "is open" in shown_line(visitor)
    served.does(lambda: served.desk.admins_are_there([]))
    visitor.until(lambda: shown_line(visitor) == "", what="the written sentence")
    assert written_by_css(visitor, ".lines .away") == f'"{AWAY}"'
    picture(visitor, "away")

    def changes_the_words() -> None:
        served.desk.sites = {"": replace(OWN, away='Wir sind "morgen" wieder da </style> \\ <b>')}
        served.desk.listeners.tell_all(AttendanceChanged())

    served.does(changes_the_words)
    visitor.until(lambda: "morgen" in written_by_css(visitor, ".lines .away"), what="other words")
    assert written_by_css(visitor, ".lines .away") == '"Wir sind \\"morgen\\" wieder da </style> \\\\ <b>"'
    served.does(lambda: served.desk.line_changed(False))
    served.does(lambda: served.desk.admins_are_there([ADA]))
    visitor.until(lambda: "is down" in shown_line(visitor), what="the line down")
    served.does(lambda: served.desk.line_changed(True))
    visitor.until(lambda: "is open" in shown_line(visitor), what="the line up")
    told = [visitor.text(each) for each in visitor.find_all(".log .unseen")]
    assert told == [AWAY, served.desk.sites[""].away, *told[2:]]
    assert len(told) == 4


# ---- corrections and retractions ---------------------------------------------------------------------------------


def test_old_words_are_nowhere_to_be_read_and_the_new_ones_are(visitor: Firefox, served: Served) -> None:
    served.awaits(answers_as(served.desk, "call 555-1234", "a"))
    served.awaits(answers_as(served.desk, "meant for someone else", "b"))
    for number in range(20):
        served.awaits(answers(served.desk, f"number {number}"))
    visitor.find_text("number 19", css=".m .body")
    served.awaits(corrects(served.desk, "a", "call 555-9999"))
    visitor.find_text("call 555-9999", css=".m .body")
    visitor.until(lambda: "555-1234" not in everything(visitor))
    assert "Ada corrected an earlier message:" in everything(visitor)
    picture(visitor, "corrected")
    served.awaits(retracts(served.desk, "b"))
    visitor.until(lambda: "someone else" not in everything(visitor))
    assert written_by_css(visitor, "#m3", "::before") == '"removed by the desk"'
    visitor.click(visitor.find("a[href='#m2']"))
    visitor.until(lambda: is_in_sight(visitor, "#m2"), what="the place of the first message")
    picture(visitor, "retracted")
    served.awaits(corrects(served.desk, "a", "call 555-0000"))  # the stream has gone on
    visitor.find_text("call 555-0000", css=".m .body")
    visitor.until(lambda: "555-9999" not in everything(visitor))


def is_in_sight(browser: Firefox, css: str) -> bool:
    code = "const it = document.querySelector(arguments[0]).getBoundingClientRect();"
    code += "return it.top >= 0 && it.bottom <= innerHeight"
    return bool(browser.script(code, css))


def test_when_the_stream_comes_back_all_has_its_new_form(firefox: Firefox, served: Served) -> None:
    firefox.command("WebDriver:DeleteAllCookies")
    write_first(firefox, served.page, "is anyone there?")
    served.awaits(answers_as(served.desk, "call 555-1234", "a"))
    served.awaits(answers_as(served.desk, "meant for someone else", "b"))
    served.awaits(corrects(served.desk, "a", "call 555-9999"))
    served.awaits(retracts(served.desk, "b"))
    shows_in_view(firefox, "corrected an earlier message")
    firefox.click(firefox.find("a[target=view]"))
    shows_in_view(firefox, "edited")
    firefox.enter("iframe[name=view]")
    assert [firefox.text(each) for each in firefox.find_all(".body")] == [
        "is anyone there?",
        "call 555-9999",
        "removed by the desk",
    ]
    assert "earlier message" not in everything(firefox)
    picture(firefox, "new-form")


# ---- in a frame --------------------------------------------------------------------------------------------------


def test_a_frame_for_other_sites_shows_the_same(firefox: Firefox, served: Served) -> None:
    firefox.command("WebDriver:DeleteAllCookies")
    firefox.go(served.page + "/embed/shop")
    firefox.write(firefox.find("textarea"), "from a shop")
    firefox.click(firefox.find("main button"))
    firefox.find_text("from a shop", css=".m .body")
    began = origin_of(firefox)
    firefox.write(firefox.find("#m"), "a draft")
    served.types()
    firefox.until(lambda: is_visible(firefox))
    served.awaits(answers_as(served.desk, "at nin", "a"))
    served.awaits(corrects(served.desk, "a", "at nine"))
    served.does(lambda: served.desk.admins_are_there([]))
    firefox.find_text("at nine", css=".m .body")
    assert "at nin " not in everything(firefox).replace("\n", " ")
    served.types()
    firefox.until(lambda: is_visible(firefox))
    tops = (
        "return ['.scroll', '.typing', '.compose'].map((it) => document.querySelector(it).getBoundingClientRect().top)"
    )
    assert firefox.script(tops) == sorted(firefox.script(tops))
    firefox.screenshot(SCREENSHOTS / "quiet-frame.png")
    assert firefox.value(firefox.find("#m")) == "a draft"
    assert origin_of(firefox) == began
