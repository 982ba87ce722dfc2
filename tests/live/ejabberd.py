"""An ejabberd of our own on loopback: Debian's program, our configuration, any user.

It runs as an Erlang node without distribution: no name, no epmd, no cookie, no further port. Hence ejabberdctl cannot
reach it, and accounts are made through its HTTP API, which listens on loopback and knows that one command.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.live.xmppserver import XmppServer
from tests.ports import free_port

_OPEN_NODES: Final = "eu.siacs.conversations.axolotl.*"  # OMEMO's device lists and bundles, for everybody to read
# Prosody's name of a thing → ejabberd's, so that `without` reads alike for both.
_MODULES: Final = {
    "roster": "mod_roster",
    "disco": "mod_disco",
    "ping": "mod_ping",
    "pep": "mod_pubsub",
    "caps": "mod_caps",
    "carbons": "mod_carboncopy",
    "smacks": "mod_stream_mgmt",
    "mam": "mod_mam",
    "offline": "mod_offline",
    "vcard": "mod_vcard",
    "private": "mod_private",
}
_SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "mod_mam": {"assume_mam_usage": True, "default": "always"},
    "mod_pubsub": {
        "access_createnode": "local",
        "plugins": ["flat", "pep"],
        "force_node_config": {_OPEN_NODES: {"access_model": "open"}},
    },
    "mod_roster": {"versioning": True},
    "mod_stream_mgmt": {"resend_on_timeout": "if_offline"},
}


class Ejabberd(XmppServer):
    """The options are Prosody's; besides, `shaper_bytes` throttles each client as Debian's ejabberd does with 3000.

    A throttled client may first send `burst_bytes` at full speed.
    """

    program: ClassVar[str] = "/usr/bin/erl"
    logs: ClassVar[tuple[str, ...]] = ("ejabberd.log",)
    signed_in_line: ClassVar[str] = "Accepted c2s"

    def __init__(
        self,
        *,
        accounts: Mapping[str, str],
        domain: str = "localhost",
        without: Collection[str] = (),
        plaintext: bool = False,
        rooms: bool = True,
        room_creation: bool = True,
        room_archive: bool = True,
        component_secret: str | None = None,
        shaper_bytes: int | None = None,
        burst_bytes: int = 20_000,
    ) -> None:
        super().__init__(domain=domain, component_secret=component_secret)
        self._accounts = dict(accounts)
        self._api_port = free_port()
        modules: dict[str, Any] = {
            module: _SETTINGS.get(module, {}) for name, module in _MODULES.items() if name not in without
        }
        if rooms:
            modules["mod_muc"] = _rooms(creation=room_creation, archive=room_archive and "mam" not in without)
        shaper = {"rate": shaper_bytes, "burst_size": burst_bytes} if shaper_bytes else None
        config = {
            "hosts": [domain],
            "loglevel": "info",
            "certfiles": [str(self._pem())],
            "auth_password_format": "scram",
            "s2s_access": "none",
            "acme": {"auto": False},  # it would ask a certificate authority for certificates
            "listen": self._listeners(plaintext=plaintext, component_secret=component_secret),
            "acl": {"local": {"user_regexp": ""}},
            "api_permissions": {"tests": {"who": {"ip": "127.0.0.1"}, "what": ["register"]}},
            "shaper": {"limited": shaper} if shaper else {},
            "shaper_rules": {"clients": "limited" if shaper else "none", "max_user_offline_messages": 5000},
            "modules": {"mod_http_api": {}, **modules},
        }
        (self.directory / "ejabberd.yml").write_text(json.dumps(config, indent=2))  # JSON is YAML as well
        (self.directory / "inetrc").write_text('{lookup, [file]}.\n{host, {127,0,0,1}, ["localhost"]}.\n')  # no DNS

    def add_account(self, name: str, password: str) -> None:
        self._accounts[name] = password
        if self._process:
            self._register(name)

    def start(self) -> None:
        """What a killed server forgot of its accounts is told to it again."""
        super().start()
        for name in self._accounts:
            self._register(name)

    def _register(self, name: str) -> None:
        words = {"user": name, "host": self.domain, "password": self._accounts[name]}
        url = f"http://127.0.0.1:{self._api_port}/api/register"
        request = urllib.request.Request(url, json.dumps(words).encode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(request, timeout=20).close()
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 409:  # it is there already
                    raise RuntimeError(f"ejabberd makes no account: {error.read().decode()}") from None

    def _command(self) -> list[str]:
        return [self.program, "-noinput", "-mnesia", "dir", f'"{self.directory}/spool"', "-s", "ejabberd"]

    def _environment(self) -> dict[str, str]:
        """+S 1:1: one scheduler is enough for a test, and it then starts in a second on a small machine."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "ERL_LIBS": _libraries(),
            "ERL_FLAGS": "+S 1:1",
            "ERL_INETRC": str(self.directory / "inetrc"),
            "ERL_CRASH_DUMP": str(self.directory / "crash.dump"),
            "EJABBERD_CONFIG_PATH": str(self.directory / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.directory / "ejabberd.log"),
        }

    def _ports(self) -> list[int]:
        return [*super()._ports(), self._api_port]

    def _pem(self) -> Path:
        """Certificate and key in one file, as ejabberd wants them."""
        pem = self.directory / "server.pem"
        pem.write_text((self.directory / "server.crt").read_text() + (self.directory / "server.key").read_text())
        return pem

    def _listeners(self, *, plaintext: bool, component_secret: str | None) -> list[dict[str, Any]]:
        clients = {"module": "ejabberd_c2s", "max_stanza_size": 262_144, "access": "all", "shaper": "clients"}
        listeners: list[dict[str, Any]] = [
            {**clients, "port": self.port, "starttls_required": not plaintext, "starttls": True},
            {**clients, "port": self.tls_port, "tls": True},
            {"module": "ejabberd_http", "port": self._api_port, "request_handlers": {"/api": "mod_http_api"}},
        ]
        if component_secret:
            hosts = {self.component: {"password": component_secret}}
            listeners.append({"module": "ejabberd_service", "port": self.component_port, "hosts": hosts})
        return [{"ip": "127.0.0.1", **each} for each in listeners]


def _libraries() -> str:
    """The folder of Debian's ejabberd, which has the machine's architecture in its name."""
    return str(next(Path("/usr/lib").glob("*/ejabberd-*")).parent)


def _rooms(*, creation: bool, archive: bool) -> dict[str, Any]:
    return {
        "host": "rooms.@HOST@",
        "access_create": "all" if creation else "none",
        "access_mam": "all" if archive else "none",
        "default_room_options": {"mam": archive},
    }
