"""The ladder of embedding in Firefox without scripts: link, form, badge and frame on pages of another origin.

The host's pages come from `localhost`, the desk from `127.0.0.1`: two sites to a browser. What is seen here is what
packaging/integrations/README.md says. Screenshots go to tests/live/screenshots/.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.appliance import Appliance, run_command
from tests.live.firefox import Element, Firefox
from tests.live.othersite import OtherSite
from tests.live.overhttp import browser_at
from tests.live.privnet import PrivateTorNetwork
from tests.ports import free_port
from veilsupport.config import FILE_NAME

_serials = itertools.count()
SCREENSHOTS = Path(__file__).parent / "screenshots"

# What Tor Browser sets, beyond the level "Safest", that matters between sites.
TOR_BROWSER: dict[str, object] = {
    "privacy.firstparty.isolate": True,
    "network.cookie.cookieBehavior": 1,  # no cookies for third parties
    "network.http.referer.hideOnionSource": True,
    "privacy.resistFingerprinting": True,
    "browser.privatebrowsing.autostart": True,
    "dom.security.https_only_mode": False,
}

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">{head}<title>Shop</title>
<body style="font: 16px sans-serif; background: #fff8e7; margin: 1rem"><h1>A shop</h1>
<p><a id="link" href="{desk}/s/shop">Write to us</a>
<img src="{desk}/badge/shop.png" width="212" height="30" alt="desk"></p>
<form id="form" method="post" action="{desk}/s/shop/start">
<textarea name="message" required></textarea> <button>Send</button></form>
<iframe src="{desk}/embed/shop" title="Write to us" width="400" height="560"></iframe>"""


@dataclass
class Stage:
    desk: str  # the desk's address, without the last slash
    listed: OtherSite
    unlisted: OtherSite


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    data = tmp_path_factory.mktemp("desk") / "data"
    with (
        OtherSite(host="localhost") as listed,
        OtherSite(host="localhost") as unlisted,
        Appliance(data, "--no-tor", "--port", str(free_port())) as appliance,
    ):
        page = appliance.wait_for_page()
        add_site(data, listed.origin)  # while it runs
        SCREENSHOTS.mkdir(exist_ok=True)
        yield Stage(page, listed, unlisted)


def add_site(data: Path, *origins: str) -> None:
    flags = [flag for origin in origins for flag in ("--origin", origin)]
    done = run_command(
        *("site", "add", "shop", "--data", str(data), "--title", "The Shop", "--accent", "#c2410c"),
        *("--greeting", "Ask us anything about your order.", *flags),
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["safest", "tor-browser"])
def visitor(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Firefox]:
    stage.listed.page = stage.unlisted.page = PAGE.format(desk=stage.desk, head="")
    with Firefox(width=900, height=900, prefs=TOR_BROWSER if request.param == "tor-browser" else {}) as browser:
        yield browser


def first_message(browser: Firefox, text: str) -> str:
    """Written in the frame; the return code."""
    browser.enter("iframe")
    browser.write(browser.find("textarea"), text)
    browser.click(browser.find("main button"))
    browser.enter("iframe")
    browser.find_text(text, css=".m .body")
    return browser.text(browser.find(".words"))


def elsewhere_says(desk: str, code: str, text: str) -> None:
    """The same visitor in another browser, whose words come over the live view."""

    async def story() -> None:
        other = browser_at(desk + "/")
        await other.send_form("/return", code=code)
        await other.say(text)

    asyncio.run(story())


def test_in_a_frame_a_conversation_is_live_without_scripts_and_cookies(stage: Stage, visitor: Firefox) -> None:
    visitor.go(stage.listed.origin)
    visitor.enter("iframe")
    visitor.find("textarea")
    visitor.top()
    visitor.screenshot(SCREENSHOTS / "frame-start.png")
    code = first_message(visitor, "is anyone there?")
    visitor.top()
    visitor.script("document.querySelector('iframe').scrollIntoView()")
    visitor.screenshot(SCREENSHOTS / "frame-code.png")
    visitor.enter("iframe")
    visitor.write(visitor.find("#m"), "a draft")
    elsewhere_says(stage.desk, code, "said elsewhere")
    visitor.find_text("said elsewhere", css=".m .body")  # streamed: nothing was loaded anew
    assert visitor.value(visitor.find("#m")) == "a draft"
    visitor.click(button(visitor, "I have kept them"))
    visitor.enter("iframe")
    visitor.until(lambda: not visitor.find_all(".words") and bool(visitor.find_all("#m")), what="no code")
    assert visitor.value(visitor.find("#m")) == "a draft"
    visitor.write(visitor.find("#m"), " sent by Enter\ue007")
    visitor.enter("iframe")
    visitor.find_text("a draft sent by Enter", css=".m .body")
    visitor.top()
    visitor.screenshot(SCREENSHOTS / "frame-live.png")
    assert str(visitor.script("return document.readyState")) == "complete"  # the host's page is not kept loading
    calm_and_window(visitor)


def calm_and_window(visitor: Firefox) -> None:
    visitor.enter("iframe")
    visitor.click(button(visitor, "Calm mode"))
    visitor.enter("iframe")
    visitor.click(button(visitor, "Refresh"))
    visitor.enter("iframe")
    visitor.find_text("said elsewhere", css=".m .body")
    visitor.click(button(visitor, "Own window"))
    visitor.until(lambda: len(visitor.command("WebDriver:GetWindowHandles")) == 2, what="a second window")
    first, second = visitor.command("WebDriver:GetWindowHandles")
    visitor.command("WebDriver:SwitchToWindow", {"handle": second})
    shows_in_chat(visitor, "a draft sent by Enter")
    visitor.command("WebDriver:SwitchToWindow", {"handle": first})


def button(visitor: Firefox, words: str) -> Element:
    return visitor.until(
        lambda: next((each for each in visitor.find_all("button") if visitor.text(each) == words), None), what=words
    )


def shows_in_chat(visitor: Firefox, words: str) -> None:
    visitor.top()
    visitor.enter("iframe[name=view]")
    visitor.find_text(words, css=".m .body")
    visitor.top()


def bring(visitor: Firefox, host: OtherSite, text: str) -> None:
    """By the form on the host's own page."""
    address = f"{host.origin}/{next(_serials)}"
    visitor.go(address)
    visitor.until(lambda: visitor.url() == address, what="the host's page, loaded anew")
    visitor.write(visitor.find("#form textarea"), text)
    visitor.click(visitor.find("#form button"))


def test_a_form_of_a_listed_page_leads_straight_into_the_conversation(stage: Stage, visitor: Firefox) -> None:
    bring(visitor, stage.listed, "from the shop")
    shows_in_chat(visitor, "from the shop")
    words = visitor.text(visitor.find(".words"))
    assert len(words.split()) == 7
    visitor.screenshot(SCREENSHOTS / "chat-of-site.png")
    bring(visitor, stage.listed, "and another")  # with a session now, which a form from elsewhere must not replace
    visitor.find_text("two conversations")
    visitor.screenshot(SCREENSHOTS / "two-conversations.png")
    visitor.click(button(visitor, "Back to the earlier one"))
    shows_in_chat(visitor, "from the shop")
    bring(visitor, stage.listed, "a third")
    visitor.click(button(visitor, "Go on in the new one"))
    shows_in_chat(visitor, "a third")


def test_an_unlisted_page_may_not_frame_us_and_its_form_needs_one_more_click(stage: Stage, visitor: Firefox) -> None:
    visitor.go(stage.unlisted.origin)
    shows_badge(visitor)
    visitor.enter("iframe")
    # Until the browser has put its own page there: one that comes later fails whatever Marionette is doing then.
    visitor.until(lambda: visitor.script("return document.documentURI").startswith("about:neterror") or None)
    assert visitor.find_all("textarea") == []
    stage.unlisted.page = stage.unlisted.page.partition("<iframe")[0]
    bring(visitor, stage.unlisted, "from somewhere")
    visitor.find_text("nothing has been sent yet")
    visitor.screenshot(SCREENSHOTS / "brought.png")
    visitor.click(button(visitor, "Send"))
    shows_in_chat(visitor, "from somewhere")


def shows_badge(visitor: Firefox) -> None:
    visitor.until(lambda: visitor.script("return document.querySelector('img').naturalWidth") == 424, what="the badge")


def test_a_page_without_referrer_says_no_origin_and_needs_one_more_click(stage: Stage, visitor: Firefox) -> None:
    stage.listed.page = PAGE.format(desk=stage.desk, head='<meta name="referrer" content="no-referrer">')
    bring(visitor, stage.listed, "from nowhere")
    visitor.find_text("nothing has been sent yet")


def test_the_link_leads_to_the_sites_own_page(stage: Stage, visitor: Firefox) -> None:
    visitor.go(stage.listed.origin)
    shows_badge(visitor)
    visitor.click(visitor.find("#link"))
    visitor.find_text("Ask us anything about your order.")
    visitor.screenshot(SCREENSHOTS / "site.png")
    visitor.write(visitor.find("textarea"), "by the link")
    visitor.click(visitor.find("main button"))
    shows_in_chat(visitor, "by the link")


# ---- from one onion to another -----------------------------------------------------------------------------------


def test_from_an_onion_the_frame_is_live_and_the_form_needs_one_more_click(
    tornet: PrivateTorNetwork, tmp_path: Path
) -> None:
    """Tor Browser says no origin when a page of an onion sends a form elsewhere: an onion's name is a secret."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    lines = ", ".join(f'"{line}"' for line in tornet.torrc_lines)
    (data / FILE_NAME).write_text(f"[tor]\nlines = [{lines}]\n")
    with OtherSite(host="localhost") as host:
        onion, close = tornet.onion_service(host.port, onion_port=80)
        try:
            add_site(data, f"http://{onion}")
            host.origin = f"http://{onion}"
            with Appliance(data) as appliance:
                host.page = PAGE.format(desk=appliance.wait_for_onion().rstrip("/"), head="")
                with Firefox(socks=tornet.socks, prefs=TOR_BROWSER) as visitor:
                    visitor.go(host.origin)
                    first_message(visitor, "through two onions")
                    bring(visitor, host, "from an onion")
                    visitor.find_text("nothing has been sent yet")
                    visitor.click(button(visitor, "Send"))
                    shows_in_chat(visitor, "from an onion")
        finally:
            close()
