"""Profanity, an XMPP client that is none of ours and not slixmpp, driven through tmux as somebody at a keyboard does.

    async with Profanity(server, "ada") as ada:
        await ada.until("is anyone there?")     # anywhere on the screen
        await ada.say(desk, "yes")

Its settings, its keys and its tmux server live in a temporary directory and end with the block. It dials 127.0.0.1
only, takes any certificate and asks no DNS (its look for newer versions of itself is off). What it shows is what a
person would see: a new chat is announced in the console, window 1, and its lines stand in the chat's own window.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from tests.live.phone import Phone
from tests.live.xmppserver import XmppServer

_COLUMNS: Final = 250  # so that no line of a test is broken
_LINES: Final = 60
_SECONDS: Final = 20
_STOP_SECONDS: Final = 5
_FINGERPRINT: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{8}){7}\b")
_INVITED: Final = re.compile(r"'/join (\S+)' to accept")
_SETTINGS: Final = """\
[ui]
splash=false
vercheck=false
roster=false
occupants=false
beep=false
flash=false
inpblock=10
inpblock.dynamic=false
correction.allow=true
[notifications]
message=false
room=off
invite=false
sub=false
[connection]
receipts.request=true
receipts.send=true
"""
_ACCOUNT: Final = """\
[{name}]
enabled=true
jid={jid}
resource=profanity
password={password}
server=127.0.0.1
port={port}
tls.policy=trust
muc.service={room_service}
muc.nick={nick}
"""
_PUBSUB: Final = "{http://jabber.org/protocol/pubsub}"
_OMEMO: Final = "eu.siacs.conversations.axolotl"
_DATA: Final = "{jabber:x:data}"


class Profanity:
    """Signed in for the length of the `async with` block."""

    def __init__(self, server: XmppServer, name: str, password: str = "pw", *, nick: str = "") -> None:
        self.jid = server.jid(name)
        self._server = server
        self._name = name
        self._password = password
        self._nick = nick or name
        self._directory = Path(tempfile.mkdtemp(prefix="profanity-"))
        self._pids: list[int] = []
        self._invited: list[str] = []

    async def __aenter__(self) -> Profanity:
        try:
            await _open_device_list(self._server, self._name, self._password)
            self._write_settings()
            self._tmux("new-session", "-d", "-x", str(_COLUMNS), "-y", str(_LINES), "profanity", "-a", self._name)
            pids = self._tmux("display-message", "-p", "#{pane_pid} #{pid}")
            self._pids = [int(pid) for pid in pids.split()]
            await self.until("logged in successfully")
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave neither process nor file."""
        for pid in self._pids:
            await _ended(pid)
        shutil.rmtree(self._directory, ignore_errors=True)

    # ---- screen and keyboard ---------------------------------------------------------------------------------

    def screen(self) -> str:
        """What stands there now, without the blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._tmux("capture-pane", "-p").splitlines())

    async def until(self, text: str, *, seconds: float = _SECONDS) -> str:
        """Wait until that stands on the screen; the whole screen."""
        try:
            async with asyncio.timeout(seconds):
                while text not in (screen := self.screen()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{text!r} is not on the screen:\n{self.screen()}") from None
        return screen

    def type(self, line: str) -> None:
        """A line and the Enter key."""
        self._tmux("send-keys", "-l", "--", line)
        self._tmux("send-keys", "Enter")

    async def show(self, name: str) -> None:
        """Turn to a window that is there: the JID of a chat or room, or `console`."""
        self.type("/win 1" if name == "console" else f"/win {name}")

    # ---- one to one ------------------------------------------------------------------------------------------

    async def chat(self, jid: str) -> None:
        """Turn to the chat with somebody, new or old."""
        self.type(f"/msg {jid}")

    async def say(self, jid: str, text: str) -> None:
        await self.chat(jid)
        self.type(text)

    async def correct(self, text: str) -> None:
        """XEP-0308: `text` instead of the last line of the window that is shown, chat or room."""
        self.type(f"/correct {text}")

    async def subscribe(self, jid: str) -> None:
        """Ask somebody to become a contact."""
        self.type(f"/roster add {jid}")
        self.type(f"/sub request {jid}")

    async def allow(self, jid: str) -> None:
        """Wait until they ask the same, and agree. ejabberd keeps no agreement that comes before the question."""
        await self.show("console")
        await self.until(f"Received authorization request from {jid}")
        self.type(f"/sub allow {jid}")

    # ---- rooms -----------------------------------------------------------------------------------------------

    async def invited(self) -> str:
        """Wait for an invitation that was not told of before; the JID of its room."""
        await self.show("console")
        try:
            async with asyncio.timeout(_SECONDS):
                while not (rooms := [room for room in _INVITED.findall(self.screen()) if room not in self._invited]):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"no invitation:\n{self.screen()}") from None
        self._invited.append(rooms[0])
        return str(rooms[0])

    async def join(self, room: str) -> None:
        """Accept an invitation, or walk in."""
        self.type(f"/join {room} nick {self._nick}")
        await self.until(f"You have joined the room as {self._nick}")

    async def room_say(self, room: str, text: str) -> None:
        await self.show(room)
        self.type(text)

    # ---- OMEMO -----------------------------------------------------------------------------------------------

    async def omemo_generate(self) -> None:
        """Make its keys and publish them."""
        await self.show("console")
        self.type("/omemo gen")
        await self.until("materials generated. Your Device ID")

    async def omemo_start(self, jid: str = "") -> None:
        """Encrypt in the chat with somebody, or in the room that is shown."""
        if jid:
            await self.chat(jid)
        self.type("/omemo start")
        await self.until("[OMEMO]")

    async def omemo_fingerprints(self, jid: str = "") -> list[str]:
        """Its own, or those that it knows of somebody: eight groups of eight hexadecimal digits."""
        if jid:
            await self.chat(jid)
        else:
            await self.show("console")
        self.type("/clear")
        self.type(f"/omemo fingerprint {jid}".rstrip())
        async with asyncio.timeout(_SECONDS):
            while not (found := _FINGERPRINT.findall(self.screen())):
                await asyncio.sleep(0.05)
        return list(dict.fromkeys(found))

    async def omemo_trust(self, jid: str, fingerprint: str) -> None:
        """Needed before anything can be sent: Profanity trusts no key by itself."""
        self.type(f"/omemo trust {jid} {fingerprint}")

    # ---- how it runs -----------------------------------------------------------------------------------------

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-f", "/dev/null", "-S", str(self._directory / "tmux"), *arguments]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "XDG_CONFIG_HOME": str(self._directory / "config"),
            "XDG_DATA_HOME": str(self._directory / "data"),
            "LANG": "C.UTF-8",
            "TERM": "screen",
        }
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
        if done.returncode:
            raise RuntimeError(f"tmux {arguments[0]}: {done.stderr}")
        return done.stdout

    def _write_settings(self) -> None:
        account = _ACCOUNT.format(
            name=self._name,
            jid=self.jid,
            password=self._password,
            port=self._server.port,
            room_service=self._server.room_service,
            nick=self._nick,
        )
        for folder, file, text in (("config", "profrc", _SETTINGS), ("data", "accounts", account)):
            path = self._directory / folder / "profanity" / file
            path.parent.mkdir(parents=True)
            path.write_text(text)


async def _open_device_list(server: XmppServer, name: str, password: str) -> None:
    """Publish an empty list of OMEMO devices that everybody may read.

    Profanity 0.13.1 waits for its account's list before it adds itself, and on a fresh Prosody account, where there is
    none, it waits for ever: nobody learns of its keys. Once there is one, if empty, all goes well.
    """
    pubsub = Element(f"{_PUBSUB}pubsub")
    item = SubElement(
        SubElement(pubsub, f"{_PUBSUB}publish", node=f"{_OMEMO}.devicelist"), f"{_PUBSUB}item", id="current"
    )
    SubElement(item, f"{{{_OMEMO}}}list")
    form = SubElement(SubElement(pubsub, f"{_PUBSUB}publish-options"), f"{_DATA}x", type="submit")
    for key, value in (
        ("FORM_TYPE", "http://jabber.org/protocol/pubsub#publish-options"),
        ("pubsub#access_model", "open"),
    ):
        field = SubElement(form, f"{_DATA}field", var=key)
        SubElement(field, f"{_DATA}value").text = value
    jid = server.jid(name)
    async with Phone(jid, password, desk=jid, port=server.port, resource="before-profanity") as phone:
        await phone.iq("set", jid, pubsub)


async def _ended(pid: int) -> None:
    """End a process that we started, first kindly. tmux ends with its only window."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, sent)
            async with asyncio.timeout(_STOP_SECONDS):
                while True:
                    os.kill(pid, 0)
                    await asyncio.sleep(0.02)
        except ProcessLookupError:
            return
        except TimeoutError:
            pass
