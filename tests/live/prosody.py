"""A Prosody of our own on loopback: Debian's program, our configuration, any user. Also used by packaging/tryout.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Final

from tests.live.xmppserver import XmppServer

PROSODY: Final = "/usr/bin/prosody"
_MODULES: Final = (
    *("roster", "saslauth", "tls", "disco", "ping", "pep", "carbons", "smacks", "mam", "offline"),
    *("vcard4", "vcard_legacy", "bookmarks"),
)
_CONFIG: Final = """\
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
run_as_root = true
daemonize = false
interfaces = {{ "127.0.0.1" }}
local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
component_ports = {{ {component_port} }}
component_interfaces = {{ "127.0.0.1" }}
modules_enabled = {{ {modules} }}
modules_disabled = {{ "s2s", "admin_shell", "http" }}
c2s_require_encryption = {require_encryption}
allow_registration = false
authentication = "internal_hashed"
storage = "internal"
default_archive_policy = true
smacks_hibernation_time = 600
log = {{ info = "{directory}/prosody.log" }}
certificates = "{directory}"
ssl = {{ certificate = "{directory}/server.crt", key = "{directory}/server.key" }}

VirtualHost "{domain}"
"""
_ROOMS: Final = """
Component "rooms.{domain}" "muc"
    modules_enabled = {{ {modules} }}
    restrict_room_creation = {restricted}
"""
_COMPONENT: Final = """
Component "support.{domain}"
    component_secret = "{secret}"
"""


class Prosody(XmppServer):
    """`without` leaves modules out, and `rooms` and what follows it switch things off, to play a poorer server."""

    program: ClassVar[str] = PROSODY
    logs: ClassVar[tuple[str, ...]] = ("prosody.log",)
    signed_in_line: ClassVar[str] = "Authenticated as"

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
    ) -> None:
        super().__init__(domain=domain, component_secret=component_secret)
        for name, password in accounts.items():
            self.add_account(name, password)
        parts = [
            _CONFIG.format(
                directory=self.directory,
                domain=domain,
                port=self.port,
                tls_port=self.tls_port,
                component_port=self.component_port or "",
                modules=", ".join(f'"{module}"' for module in _MODULES if module not in without),
                require_encryption=_lua(not plaintext),
            )
        ]
        if rooms:
            modules = '"muc_mam"' if room_archive else ""
            parts.append(_ROOMS.format(domain=domain, modules=modules, restricted=_lua(not room_creation)))
        if component_secret:
            parts.append(_COMPONENT.format(domain=domain, secret=component_secret))
        (self.directory / "prosody.cfg.lua").write_text("".join(parts))

    def add_account(self, name: str, password: str) -> None:
        """Written as Prosody itself stores a fresh account (it hashes the password at the first sign-in)."""
        folder = self.directory / "data" / _encoded(self.domain) / "accounts"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{_encoded(name)}.dat").write_text(f'return {{ ["password"] = "{password}"; }};\n')

    def _command(self) -> list[str]:
        return [self.program, "-F", "--config", str(self.directory / "prosody.cfg.lua")]


def _lua(value: bool) -> str:
    return "true" if value else "false"


def _encoded(name: str) -> str:
    """How Prosody writes a name into a path: util.datamanager's encode."""
    return "".join(each if each.isascii() and each.isalnum() else f"%{ord(each):02x}" for each in name)
