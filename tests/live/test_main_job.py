"""The main job, whole: Firefox without scripts, an onion of a private Tor network, Prosody behind another onion.

The appliance is the process that an operator starts, under strace, so that every connection it or its tor makes is
known. Screenshots go to tests/live/screenshots/.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

from tests.live.appliance import COMMAND, Appliance
from tests.live.firefox import Firefox
from tests.live.maindesk import PASSWORDS, is_online, phone_of, set_up
from tests.live.overhttp import browser_at
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from tests.test_silence import places_of

SCREENSHOTS = Path(__file__).parent / "screenshots"


# ---- through Tor -------------------------------------------------------------------------------------------------


def test_visitor_without_scripts_and_admin_talk_live_through_an_onion(
    tornet: PrivateTorNetwork, prosody: Prosody, tmp_path: Path
) -> None:
    data, trace = tmp_path / "data", tmp_path / "trace"
    onion, close = tornet.onion_service(prosody.port)
    set_up(data, prosody, host=onion, port=5222, torrc_lines=tornet.torrc_lines)
    traced = ("strace", "-D", "-f", "-qq", "-e", "trace=connect,bind,sendto,sendmsg", "-o", str(trace), *COMMAND)
    SCREENSHOTS.mkdir(exist_ok=True)
    try:
        with Appliance(data, command=traced) as appliance:
            page = appliance.wait_for_onion()
            appliance.wait_until("online", is_online)
            with Firefox(socks=tornet.socks, width=1100, height=800) as visitor:
                code, room = asyncio.run(conversation(visitor, page, prosody))
                asyncio.run(after_tor_was_killed(visitor, appliance, prosody, tornet, room))
            with Firefox(socks=tornet.socks, width=390, height=800) as elsewhere:
                comes_back(elsewhere, page, code)
            assert appliance.stop() == 0
    finally:
        close()
    assert strays(trace.read_text(), data, loopback_ports(tornet)) == []


async def conversation(visitor: Firefox, page: str, server: Prosody) -> tuple[str, str]:
    """Write, ring, answer, read, write again; the return code, and the room that was made for them."""
    async with phone_of(server) as phone:
        await asyncio.to_thread(write_first, visitor, page, "is anyone there?")
        rang = await phone.room_text("is anyone there?", seconds=30)
        await asyncio.to_thread(shows_in_view, visitor, "handed over")
        phone.room_types(rang.room)
        await asyncio.to_thread(shows_in_view, visitor, "Ada is writing")
        phone.room_look_at(rang.room, rang.stanza_id)
        await asyncio.to_thread(shows_in_view, visitor, "read")
        streams_before = await asyncio.to_thread(view_address, visitor)
        phone.room_say(rang.room, "yes, we are here")
        await asyncio.to_thread(shows_in_view, visitor, "yes, we are here")
        assert await asyncio.to_thread(view_address, visitor) == streams_before  # the page was not loaded again
        await asyncio.to_thread(say_by_enter, visitor, "thank you")
        await phone.room_text("thank you", rang.room, seconds=30)
        await asyncio.to_thread(say_by_enter, visitor, "and one more thing")  # focus stayed in the composer
        await phone.room_text("and one more thing", rang.room, seconds=30)
        visitor.top()
        visitor.screenshot(SCREENSHOTS / "chat-desktop.png")
        words = visitor.text(visitor.find(".words"))
    assert len(words.split()) == 7
    return words, rang.room


def write_first(visitor: Firefox, page: str, words: str) -> None:
    visitor.go(page + "/")
    box = visitor.find("textarea")
    visitor.screenshot(SCREENSHOTS / "desk-desktop.png")
    visitor.write(box, words)
    visitor.click(visitor.find("main button"))
    shows_in_view(visitor, words)


def shows_in_view(visitor: Firefox, words: str, *, seconds: float = 30) -> None:
    visitor.top()
    visitor.enter("iframe[name=view]")
    shown = f"{words!r} in the view"
    visitor.until(lambda: words in everything(visitor) or None, timeout_seconds=seconds, what=shown)
    visitor.top()


def shows_or_reconnects(visitor: Firefox, words: str, net: PrivateTorNetwork) -> None:
    """The stream comes back by itself, unless the visitor's tor goes on asking for the dead tor's introduction points.

    Then its request hangs in the visitor's own tor for minutes (tor's stream state is NEW). That is what the banner is
    for, the link in it, and Tor Browser's "new circuit for this site".
    """
    try:
        shows_in_view(visitor, words, seconds=45)
    except TimeoutError:
        visitor.top()
        visitor.enter("iframe[name=view]")
        assert visitor.style(visitor.find(".lost"), "visibility") == "visible"
        net.new_identity()
        visitor.click(visitor.find(".lost a"))
        shows_in_view(visitor, words, seconds=60)
        visitor.enter("iframe[name=composer]")
        visitor.click(visitor.find("input[name=message]"))


def everything(visitor: Firefox) -> str:
    """The text as it is seen, states written by CSS included."""
    seen = visitor.script(
        "let out = document.body.innerText;"
        "for (const e of document.querySelectorAll('*')) for (const p of ['::before', '::after']) {"
        "  const c = getComputedStyle(e, p).content; if (c && c !== 'none' && c !== 'normal') out += ' ' + c; }"
        "return out;"
    )
    return str(seen)


def view_address(visitor: Firefox) -> str:
    """The stream's own address; it names the window, and a reload would make another navigation of it."""
    visitor.top()
    visitor.enter("iframe[name=view]")
    started = visitor.script("return String(performance.timeOrigin)")
    visitor.top()
    return str(started)


def say_by_enter(visitor: Firefox, words: str) -> None:
    """Typed into whatever has the focus, and sent with Enter."""

    def is_ready() -> bool | None:
        visitor.top()
        visitor.enter("iframe[name=composer]")
        box = visitor.focused()
        return (box is not None and visitor.value(box) == "") or None

    visitor.until(is_ready, what="an empty composer with the focus in it")
    visitor.press(words + "\ue007")  # WebDriver's code for Enter
    shows_in_view(visitor, words)


async def after_tor_was_killed(
    visitor: Firefox, appliance: Appliance, server: Prosody, net: PrivateTorNetwork, room: str
) -> None:
    """The same address, the same open page: the stream comes back by itself."""
    async with phone_of(server) as phone:
        for pid in tors_of(appliance):
            os.kill(pid, signal.SIGKILL)
        appliance.wait_until("restarting", lambda told: told["tor"]["restarts"] == 1)
        appliance.wait_until("reachable", lambda told: told["tor"]["phase"] == "reachable")
        appliance.wait_until("online", is_online)
        await phone.join(room)  # as an app does with its bookmarks
        phone.room_say(room, "still here")
        await asyncio.to_thread(shows_or_reconnects, visitor, "still here", net)
        await asyncio.to_thread(say_by_enter, visitor, "so am I")
        await phone.room_text("so am I", room, seconds=30)


def comes_back(visitor: Firefox, page: str, code: str) -> None:
    visitor.go(page + "/return")
    box = visitor.find("input[name=code]")
    visitor.screenshot(SCREENSHOTS / "return-phone.png")
    visitor.write(box, code.upper())
    visitor.click(visitor.find("main button"))
    for words in ("is anyone there?", "yes, we are here", "still here"):
        shows_in_view(visitor, words)
    visitor.screenshot(SCREENSHOTS / "chat-phone.png")


def tors_of(appliance: Appliance) -> list[int]:
    """Its own tor, by its command line."""
    torrc = str(appliance.data / "tor" / "torrc").encode()
    commands = {path: (path / "cmdline").read_bytes() for path in Path("/proc").glob("[0-9]*") if path.exists()}
    return [int(path.name) for path, command in commands.items() if torrc in command and b"strace" not in command]


def loopback_ports(net: PrivateTorNetwork) -> set[int]:
    """Every port of the private network that the torrc lines or its consensus name."""
    return {
        int(port)
        for file in net.directory.rglob("torrc")
        for port in re.findall(r"127\.0\.0\.1:(\d+)", file.read_text())
    }


def strays(trace: str, data: Path, ports: set[int]) -> list[str]:
    """Calls that reach for anything but our own sockets and the private network."""
    found = []
    for line in trace.splitlines():
        inet = re.search(r"AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\(\"([\d.]+)\"\)", line)
        unix = re.search(r'AF_UNIX, sun_path="([^"]*)"', line)
        elsewhere = inet and not (inet[2] == "127.0.0.1" and int(inet[1]) in ports)
        foreign = unix and not Path(unix[1]).is_relative_to(data)
        if elsewhere or foreign or "AF_INET6" in line:
            found.append(line)
    assert "AF_INET," in trace, "the trace shows no connection at all"
    return found


# ---- without Tor: faults ---------------------------------------------------------------------------------------


def test_kill_9_between_accept_and_hand_over_loses_and_doubles_nothing(prosody: Prosody, tmp_path: Path) -> None:
    data = tmp_path / "data"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    with Appliance(data, "--no-tor", "--port", "18473") as appliance:
        page = appliance.wait_for_page()
        appliance.wait_until("online", is_online)
        prosody.stop()
        browser = browser_at(page)
        asyncio.run(browser.start("written into the void"))
        appliance.kill()
        prosody.start()

        async def rings_once() -> None:
            async with phone_of(prosody) as phone:
                appliance.start()
                room = (await phone.room_text("written into the void", seconds=30)).room
                assert appliance.wait_for_page() == page
                await browser.say("the second")
                await phone.room_text("the second", room, seconds=30)
                assert sum("void" in got.body for got in phone.room_inbox[room]) == 1
                appliance.kill()
                phone.room_say(room, "written while you were dead")
                appliance.start()
                appliance.wait_until("online", is_online)
                await browser.say("the third")  # leaves only when the room has been caught up with
                await phone.room_text("the third", room, seconds=30)

        asyncio.run(rings_once())
        shown = asyncio.run(browser.get("/chat/latest")).text
        assert shown.count("written while you were dead") == 1
        assert shown.count("the second") == 1


def test_server_that_goes_and_comes_back_gets_everything_once(prosody: Prosody, tmp_path: Path) -> None:
    data = tmp_path / "data"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    with Appliance(data, "--no-tor", "--port", "18474") as appliance:
        browser = browser_at(appliance.wait_for_page())
        appliance.wait_until("online", is_online)

        async def goes_on() -> None:
            await browser.start("before")
            prosody.stop()
            for number in range(5):
                await browser.say(f"during {number}")
            prosody.start()
            async with phone_of(prosody) as phone:
                room = (await phone.room_text("during 4", seconds=60)).room
                await browser.say("after")
                await phone.room_text("after", room, seconds=30)
                bodies = [got.body for got in phone.room_inbox[room] if "during" in got.body or "after" in got.body]
                assert bodies == [f"during {number}" for number in range(5)] + ["after"]

        asyncio.run(goes_on())
        assert appliance.stop() == 0


def test_nothing_of_a_talk_is_logged_or_rests_in_the_open(prosody: Prosody, tmp_path: Path) -> None:
    """The same search as test_silence, with an admin and a stranger on the line."""
    data = tmp_path / "data"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    marks = ["MARKvisitorzqx", "MARKadminzqx", "MARKtypozqx", "MARKstrangerzqx", "markmallory", PASSWORDS["desk"]]
    with Appliance(data, "--no-tor", "--port", "18475", "--verbose") as appliance:
        browser = browser_at(appliance.wait_for_page())
        appliance.wait_until("online", is_online)

        async def talk() -> None:
            async with phone_of(prosody) as phone, phone_of(prosody, "markmallory") as stranger:
                await browser.start("MARKvisitorzqx")
                rang = await phone.room_text("MARKvisitorzqx")
                phone.room_say(rang.room, "MARKadminzqx")
                phone.room_say(rang.room, "!MARKtypozqx")
                await phone.room_text("no such command", rang.room)
                stranger.say("MARKstrangerzqx")
                phone.say("!MARKtypozqx")
                phone.say("@qqqqqq-1 MARKtypozqx")
                await phone.text("no such command")
                await phone.text("no conversation")

        asyncio.run(talk())
        appliance.wait_until("stranger ignored", lambda told: told["xmpp"]["strangers_ignored"] == 1)
        assert "MARKadminzqx" in asyncio.run(browser.get("/chat/latest")).text
        appliance.kill()
        assert places_of(marks, data, appliance.output) == []
        appliance.start()
        appliance.wait_for_page()
        assert appliance.stop() == 0
        assert places_of(marks, data, appliance.output) == []
