"""A Prosody of our own on loopback: Debian's program, our configuration, a temporary directory, any user.

    with Prosody(accounts={"desk": "secret", "ada": "pw"}) as server:
        server.jid("ada")        # ada@localhost
        server.port              # STARTTLS on 127.0.0.1; server.tls_port: direct TLS
        server.fingerprint       # SHA-256 of its self-signed certificate

Nothing of the system's Prosody is read or touched. It speaks to no other server. Also used by packaging/tryout.py.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

PROSODY: Final = "/usr/bin/prosody"
_START_SECONDS: Final = 20
_STOP_SECONDS: Final = 10
_MODULES: Final = ("roster", "saslauth", "tls", "disco", "ping", "pep", "carbons", "smacks", "mam", "offline")
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
component_ports = {{ }}
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

Component "rooms.{domain}" "muc"
    modules_enabled = {{ "muc_mam" }}
    restrict_room_creation = false
"""


class Prosody:
    """`start` returns when it takes connections. `without` leaves modules out, to play a poorer server."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, str],
        domain: str = "localhost",
        without: Collection[str] = (),
        plaintext: bool = False,
    ) -> None:
        self.domain = domain
        self.directory = Path(tempfile.mkdtemp(prefix="prosody-"))
        self.port, self.tls_port = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._make_certificate()
        for name, password in accounts.items():
            self.add_account(name, password)
        modules = ", ".join(f'"{module}"' for module in _MODULES if module not in without)
        text = _CONFIG.format(
            directory=self.directory,
            domain=domain,
            port=self.port,
            tls_port=self.tls_port,
            modules=modules,
            require_encryption="false" if plaintext else "true",
        )
        (self.directory / "prosody.cfg.lua").write_text(text)

    def jid(self, name: str) -> str:
        return f"{name}@{self.domain}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER form, in hexadecimal."""
        pem = (self.directory / "server.crt").read_text()
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def add_account(self, name: str, password: str) -> None:
        """Written as Prosody itself stores a fresh account (it hashes the password at the first sign-in)."""
        folder = self.directory / "data" / _encoded(self.domain) / "accounts"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{_encoded(name)}.dat").write_text(f'return {{ ["password"] = "{password}"; }};\n')

    # ---- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [PROSODY, "-F", "--config", str(self.directory / "prosody.cfg.lua")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C in a terminal is for whoever started it
            )
        deadline = time.monotonic() + _START_SECONDS
        while not all(_answers(port) for port in (self.port, self.tls_port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prosody does not start:\n{self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """As the system would stop it."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """As a crash would stop it: nothing is saved, nobody is told."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def log(self) -> str:
        files = (self.directory / name for name in ("output.log", "prosody.log"))
        return "\n".join(file.read_text() for file in files if file.exists())

    def close(self) -> None:
        """Leave neither process nor file."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Prosody:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _make_certificate(self) -> None:
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650".split()
        names = f"subjectAltName=DNS:{self.domain},DNS:rooms.{self.domain}"
        files = ["-keyout", str(self.directory / "server.key"), "-out", str(self.directory / "server.crt")]
        subprocess.run(
            [*command, "-subj", "/CN=VeilSupport test server", "-addext", names, *files],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
        )


def _encoded(name: str) -> str:
    """How Prosody writes a name into a path: util.datamanager's encode."""
    return "".join(each if each.isascii() and each.isalnum() else f"%{ord(each):02x}" for each in name)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
