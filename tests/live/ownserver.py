"""The operator's own Prosody as packaging/prosody ships it, and a phone that signs in without TLS.

The shipped setup script writes the shipped configuration into a temporary directory; only what veilsupport.lua is there
for (ports and paths) is added. As root, Prosody runs as Debian's user for it, as it would.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final
from xml.etree.ElementTree import Element, fromstring

import pytest
import slixmpp

from tests.live.appliance import TOP
from tests.live.phone import Phone
from tests.live.prosody import PROSODY
from tests.live.tornode import found
from tests.live.xmppserver import XmppServer

SHIPPED: Final = TOP / "packaging" / "prosody"
PASSWORDS: Final = {"desk": "desk-password", "ada": "ada-password", "bob": "bob-password"}
DISCO: Final = "http://jabber.org/protocol/disco#info"
_MUC: Final = "http://jabber.org/protocol/muc"
_AS_PROSODY: Final = ("setpriv", "--reuid", "prosody", "--regid", "prosody", "--clear-groups")
_PATHS: Final = {"data_path": "data", "pidfile": "prosody.pid", "log": "prosody.log"}


class OwnServer(XmppServer):
    """Debian's Prosody with the shipped configuration, for that onion address."""

    program: ClassVar[str] = PROSODY
    logs: ClassVar[tuple[str, ...]] = ("prosody.log",)

    def __init__(self, onion: str, accounts: Mapping[str, str]) -> None:
        super().__init__(domain=onion, component_secret="is made by setup")
        self.config = self.directory / "prosody.cfg.lua"
        self.settings = self.directory / "veilsupport.lua"
        (self.directory / "certs").mkdir()  # Debian's package has it
        run(SHIPPED / "setup", onion, self.directory)
        own: dict[str, int | str] = {"c2s_port": self.port, "component_port": self.component_port}
        own |= {name: f'"{self.directory}/{file}"' for name, file in _PATHS.items()}
        added = "".join(f"\t{name} = {value},\n" for name, value in own.items())
        self.settings.write_text(self.settings.read_text().replace("return {\n", f"return {{\n{added}"))
        if os.geteuid() == 0:
            shutil.chown(self.directory, "prosody")
        for name, password in accounts.items():
            run("prosodyctl", "--config", self.config, "register", name, onion, password)

    @property
    def secret(self) -> str:
        return found(r'component_secret = "(\w+)"', self.settings.read_text())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _command(self) -> list[str]:
        as_prosody = _AS_PROSODY if os.geteuid() == 0 else ()
        return [*as_prosody, PROSODY, "-F", "--config", str(self.config)]

    def _ports(self) -> list[int]:
        return [self.port, self.component_port]


class BarePhone(Phone):
    """On a server without TLS, as Conversations is with an onion address."""

    def _made(self, jid: str, password: str, resource: str, receipts: bool) -> Any:
        client = super()._made(jid, password, resource, receipts)
        client.enable_starttls = False
        client.enable_plaintext = True
        client.plugin["feature_mechanisms"].unencrypted_scram = True
        return client

    async def __aenter__(self) -> BarePhone:
        await super().__aenter__()
        return self

    async def ask(self, kind: str, to: str, payload: str) -> Element:
        """An IQ's result. IqError: it was refused."""
        iq = self._client.make_iq(ito=to, itype=kind)
        iq.append(fromstring(payload))  # noqa: S314 - our own text
        answer: Element = (await iq.send(timeout=10)).xml
        return answer

    async def features(self, of: str) -> set[str]:
        answer = await self.ask("get", of, f"<query xmlns='{DISCO}'/>")
        return {each.get("var", "") for each in answer.iter(f"{{{DISCO}}}feature")}

    async def refused(self, kind: str, to: str, payload: str) -> str:
        """The condition with which it is refused."""
        with pytest.raises(slixmpp.exceptions.IqError) as error:
            await self.ask(kind, to, payload)
        return str(error.value.condition)

    async def enters(self, room: str) -> str:
        """The condition with which it is refused; empty when it is not."""
        presence = self._client.make_presence(pto=f"{room}/{self._client.boundjid.user}")
        presence.append(Element(f"{{{_MUC}}}x"))
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        matcher = slixmpp.xmlstream.matcher.MatchXPath("{jabber:client}presence")
        handler = slixmpp.xmlstream.handler.Callback("enters", matcher, lambda got: self._note(answered, got, room))
        self._client.register_handler(handler)
        presence.send()
        got = await asyncio.wait_for(answered, 10)
        self._client.remove_handler("enters")
        return str(got["error"]["condition"]) if got["type"] == "error" else ""

    def _note(self, answered: asyncio.Future[Any], got: Any, room: str) -> None:
        if got["from"].bare == room and not answered.done():
            answered.set_result(got)


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
