"""The chat page with scripts, in Chromium: one socket in the place of the frames. An admin answers through Prosody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.appliance import Appliance
from tests.live.chromium import Chromium, Tab
from tests.live.firefox import Firefox
from tests.live.maindesk import PASSWORDS, is_online, phone_of, set_up
from tests.live.phone import Phone
from tests.live.phonerooms import RoomGot
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from tests.live.test_quiet_page import SCREENSHOTS, Served
from tests.ports import free_port
from tests.test_web_changes import answers_as, corrects, retracts
from veilsupport.config import FILE_NAME
from veilsupport.desk.attendance import AWAY

BOX = ".compose textarea"
ENTER = "\ue007"  # WebDriver §17.4.2


@pytest.fixture(scope="module")
def prosody() -> Iterator[Prosody]:
    with Prosody(accounts=PASSWORDS) as server:
        yield server


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory, prosody: Prosody) -> Iterator[Appliance]:
    data = tmp_path_factory.mktemp("desk") / "data"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    with Appliance(data, "--no-tor", "--port", str(free_port())) as running:
        running.wait_for_page()
        running.wait_until("online", is_online)
        yield running


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    """A profile of its own for each visitor: they share a host, and so would share a cookie."""
    with Chromium() as browser:
        yield browser


def begin(chromium: Chromium, page: str, words: str) -> Tab:
    """Write the first message on the page without scripts; then the chat, once the script has taken over."""
    tab = chromium.tab(page)
    tab.write("textarea", words)
    tab.click("main button")
    tab.find("section.view ~ .compose textarea")
    tab.find_text(words, css=".log .body")
    tab.run("window.neverReloaded = true")
    return tab


def say(tab: Tab, words: str) -> None:
    """As a person does, in the box that has the focus."""
    tab.type(words)
    tab.press("Enter")
    tab.find_text(words, css=".log[role] .visitor .body")


def bodies(tab: Tab) -> list[str]:
    return tab.texts(".log .body")


async def shows(tab: Tab, words: str, *, css: str = ".log[role]") -> None:
    await asyncio.to_thread(tab.find_text, words, css=css)


async def rings(phone: Phone, words: str) -> RoomGot:
    """The line with these words, in the room of its visitor."""
    return await phone.room_text(words, seconds=30)


def test_answers_appear_live_and_writing_goes_on_without_a_reload(
    chromium: Chromium, appliance: Appliance, prosody: Prosody
) -> None:
    async def story() -> None:
        async with phone_of(prosody) as phone:
            tab = await asyncio.to_thread(begin, chromium, appliance.wait_for_page(), "is anyone there?")
            rang = await rings(phone, "is anyone there?")
            await shows(tab, "handed over", css=".log[role] .state")
            phone.room_look_at(rang.room, rang.stanza_id)
            await shows(tab, "read", css=".log[role] .state")
            phone.room_types(rang.room)
            await shows(tab, "Ada is writing", css="#typing")
            said = phone.room_say(rang.room, "yes, we are hear")
            await shows(tab, "yes, we are hear", css=".log[role] .admin .body")
            assert tab.text("#typing") == ""
            phone.room_correct(rang.room, said, "yes, we are here")
            await shows(tab, "yes, we are here", css=".log[role] .admin .body")
            assert tab.text(".log[role] .admin .by b") == "Ada"
            say(tab, "thank you")
            await rings(phone, "thank you")
            assert tab.run("[document.activeElement.id, document.activeElement.value]") == ["m", ""]
            tab.type("one line")
            tab.press("Enter", shift=True)
            say(tab, "and another")
            assert bodies(tab) == ["is anyone there?", "yes, we are here", "thank you", "one line\nand another"]
            assert tab.run("window.neverReloaded")
            assert tab.run("document.querySelectorAll('iframe').length") == 0
            assert tab.complaints() == []
            assert {url.split("/")[2] for url in tab.requested()} == {appliance.wait_for_page().split("/")[2]}

    asyncio.run(story())


def test_title_counts_what_came_while_nobody_looked(chromium: Chromium, appliance: Appliance, prosody: Prosody) -> None:
    async def story() -> None:
        async with phone_of(prosody) as phone:
            tab = await asyncio.to_thread(begin, chromium, appliance.wait_for_page(), "hello from the title")
            rang = await rings(phone, "hello from the title")
            title = tab.run("document.title")
            chromium.tab()
            for number in (1, 2):
                phone.room_say(rang.room, f"answer {number}")
                await shows(tab, f"answer {number}")
            assert tab.run("document.title") == f"(2) {title}"
            tab.front()
            tab.until(lambda: tab.run("document.title") == title)

    asyncio.run(story())


def test_refused_words_go_back_into_the_box(chromium: Chromium, appliance: Appliance, prosody: Prosody) -> None:
    async def story() -> None:
        async with phone_of(prosody) as phone:
            tab = await asyncio.to_thread(begin, chromium, appliance.wait_for_page(), "before the end")
            rang = await rings(phone, "before the end")
            phone.room_say(rang.room, "!block")
            await shows(tab, "ended by the desk")
            tab.type("but I")
            tab.press("Enter")
            tab.find_text("ended by the desk", css=".compose .error")
            assert tab.run(f"document.querySelector('{BOX}').value") == "but I"
            assert bodies(tab) == ["before the end"]

    asyncio.run(story())


def test_what_is_written_while_the_desk_is_dead_goes_out_once(
    chromium: Chromium, appliance: Appliance, prosody: Prosody
) -> None:
    tab = begin(chromium, appliance.wait_for_page(), "before the crash")
    appliance.kill()
    tab.find_text("connection is lost", css=".view > .error")
    for words in ("first", "second"):
        tab.type(words)
        tab.press("Enter")
    assert tab.texts(".waiting .body") == ["first", "second"]
    appliance.start()
    appliance.wait_for_page()
    tab.until(lambda: bodies(tab) == ["before the crash", "first", "second"], timeout_seconds=40)
    tab.until(lambda: not tab.text(".view > .error"))
    assert tab.run("document.querySelector('.waiting').childElementCount") == 0


def test_two_tabs_show_the_same(chromium: Chromium, appliance: Appliance) -> None:
    first = begin(chromium, appliance.wait_for_page(), "in the first tab")
    second = chromium.tab(appliance.wait_for_page() + "/chat")
    second.find(BOX)
    second.find_text("in the first tab", css=".log[role]")
    second.type("from the second")
    second.press("Enter")
    for tab in (first, second):
        tab.until(lambda tab=tab: bodies(tab) == ["in the first tab", "from the second"])  # type: ignore[misc]


def test_burned_in_one_tab_is_gone_in_the_other(chromium: Chromium, appliance: Appliance) -> None:
    first = begin(chromium, appliance.wait_for_page(), "a secret")
    second = chromium.tab(appliance.wait_for_page() + "/chat/burn")
    second.click("main button")
    first.find_text("erased", css=".view > .error")
    assert bodies(first) == []


def test_code_is_confirmed_without_a_reload(chromium: Chromium, appliance: Appliance) -> None:
    tab = begin(chromium, appliance.wait_for_page(), "my words")
    tab.write(BOX, "half a sentence")
    tab.click(".code button")
    tab.until(lambda: not tab.text(".code"))
    assert tab.run(f"[neverReloaded, document.querySelector('{BOX}').value]") == [True, "half a sentence"]
    tab.reload()
    tab.until(lambda: tab.events("Page.javascriptDialogOpening"))  # It asks, and the driver says yes.
    tab.until(lambda: tab.run("window.neverReloaded === undefined"))
    tab.find(BOX)
    assert tab.text(".code") == ""


def test_what_was_begun_in_the_frame_moves_over_with_the_focus(chromium: Chromium, appliance: Appliance) -> None:
    tab = chromium.tab()
    tab.command("Fetch.enable", patterns=[{"urlPattern": "*/static/chat.*"}])
    tab.go(appliance.wait_for_page())
    tab.write("textarea", "the first")
    tab.click("main button")
    frame = "frames.composer.document.querySelector('#m')"
    tab.until(lambda: tab.run(f"{frame}.focus(), true"))
    tab.type("half a sent")
    paused = tab.until(lambda: tab.events("Fetch.requestPaused"))
    tab.command("Fetch.continueRequest", requestId=paused[0]["requestId"])
    tab.find(BOX)
    tab.type("ence")
    assert tab.run(f"document.querySelector('{BOX}').value") == "half a sentence"


def test_without_its_script_the_page_stays_as_it_is(chromium: Chromium, appliance: Appliance) -> None:
    tab = chromium.tab()
    tab.command("Network.setBlockedURLs", urls=["*/static/chat.*"])
    tab.go(appliance.wait_for_page())
    tab.write("textarea", "no script for me")
    tab.click("main button")
    tab.until(lambda: "no script for me" in tab.run("frames.view.document.body.innerText"))
    assert tab.run("document.querySelectorAll('iframe').length") == 2


def test_behind_a_path_prefix(chromium: Chromium, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / FILE_NAME).write_text('[web]\nprefix = "/support"\n')
    with Appliance(data, "--no-tor", "--port", str(free_port())) as running:
        page = running.wait_for_page().removesuffix("/").removesuffix("/support")
        tab = begin(chromium, page + "/support/", "behind something")
        say(tab, "and on")
        paths = {url.removeprefix(page).removeprefix(page.replace("http", "ws")) for url in tab.requested()}
        assert all(path.startswith("/support/") for path in paths), paths


@pytest.mark.parametrize("where", ["element", "attribute"])
def test_policy_keeps_injected_scripts_out(chromium: Chromium, appliance: Appliance, where: str) -> None:
    tab = begin(chromium, appliance.wait_for_page(), "policy")
    if where == "element":
        tab.run("document.head.append(Object.assign(document.createElement('script'), { text: 'window.bad = 1' }))")
    else:
        tab.run("document.body.setAttribute('onclick', 'window.bad = 1'); document.body.click()")
    assert tab.run("window.bad ?? null") is None
    tab.until(lambda: any("Content Security Policy" in line for line in tab.complaints()))


def test_screenshots_for_the_eye(chromium: Chromium, appliance: Appliance, prosody: Prosody, tmp_path: Path) -> None:
    tab = begin(chromium, appliance.wait_for_page(), "how does it look?")
    for name, width in (("desktop", 1100), ("phone", 390)):
        tab.resize(width, 800)
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        tab.screenshot(Path(__file__).parent / "screenshots" / f"chat-scripts-{name}.png")


# ---- what changes while the page is open --------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A desk in this process, to do what an admin's client would."""
    with Served(tmp_path) as running:
        yield running


def test_corrected_and_retracted_words_are_replaced_in_place(chromium: Chromium, served: Served) -> None:
    tab = begin(chromium, served.page, "when?")
    served.awaits(answers_as(served.desk, "at nin", "a"))
    served.awaits(answers_as(served.desk, "meant for someone else", "b"))
    tab.find_text("someone else", css=".log[role]")
    served.awaits(corrects(served.desk, "a", "at <b>nine</b>"))
    served.awaits(retracts(served.desk, "b"))
    tab.until(lambda: bodies(tab) == ["when?", "at <b>nine</b>", "removed by the desk"])
    assert tab.texts(".log .edited") == ["edited"]
    assert "someone else" not in tab.run("document.documentElement.innerHTML")
    assert tab.run("neverReloaded")
    tab.screenshot(SCREENSHOTS / "chat-scripts-changed.png")


def test_what_was_changed_while_the_page_was_cut_off_is_replaced_too(chromium: Chromium, served: Served) -> None:
    tab = begin(chromium, served.page, "when?")
    served.awaits(answers_as(served.desk, "at nin", "a"))
    served.awaits(answers_as(served.desk, "as it was", "b"))
    tab.find_text("as it was", css=".log[role]")
    tab.run("window.same = document.querySelector('#m3'), null")
    with served.cut_off():
        tab.find_text("connection is lost", css=".view > .error")
        served.awaits(corrects(served.desk, "a", "at nine"))
    tab.until(lambda: bodies(tab) == ["when?", "at nine", "as it was"], timeout_seconds=40)
    assert tab.run("same === document.querySelector('#m3')")  # what is the same is left alone


def test_the_page_says_who_is_there(chromium: Chromium, served: Served) -> None:
    tab = begin(chromium, served.page, "anyone?")
    assert tab.text(".lines") == "The line to the people who answer is open."
    served.does(lambda: served.desk.admins_are_there([]))
    tab.until(lambda: tab.text(".lines") == AWAY)
    served.does(lambda: served.desk.line_changed(False))
    served.does(lambda: served.desk.admins_are_there(None))
    tab.until(lambda: "is down at this moment" in tab.text(".lines"))
    assert tab.run("document.querySelector('.lines').getAttribute('role')") == "status"


# ---- Firefox, the base of Tor Browser, at its "Standard" level ---------------------------------------------------


def test_in_firefox_through_an_onion(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    lines = ", ".join(f'"{line}"' for line in tornet.torrc_lines)
    (data / FILE_NAME).write_text(f"[tor]\nlines = [{lines}]\n")
    with Appliance(data) as appliance, Firefox(socks=tornet.socks, safest=False) as visitor:
        visitor.go(appliance.wait_for_onion() + "/")
        visitor.write(visitor.find("textarea"), "from far away")
        visitor.click(visitor.find("main button"))
        visitor.find(BOX, timeout_seconds=60)
        visitor.find_text("from far away", css=".log[role] .body")
        visitor.press("live" + ENTER)  # The focus is in the box already.
        visitor.find_text("live", css=".log[role] .body")
        visitor.find_text("kept here", css=".log[role] .m:last-child .state")
        assert visitor.find_all("iframe") == []
