"""What the XMPP servers of the live tests have in common: a child of ours on loopback, in a temporary directory.

    with Prosody(accounts={"desk": "secret", "ada": "pw"}) as server:    # or Ejabberd, with the same options
        server.jid("ada")        # ada@localhost
        server.port              # STARTTLS on 127.0.0.1; server.tls_port: direct TLS
        server.fingerprint       # SHA-256 of its self-signed certificate

Nothing of the system's own server is read or touched. It speaks to no other server and asks no DNS.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from tests.ports import free_ports

_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 15
_CERTIFICATE: Final = ("server.key", "server.crt")


class XmppServer:
    """`start` returns when it takes connections. Rooms are at `rooms.<domain>`, a component at `support.<domain>`."""

    program: ClassVar[str]
    logs: ClassVar[tuple[str, ...]]  # inside its directory
    signed_in_line: ClassVar[str]  # what its log says before the JID of one who showed the right password

    def __init__(self, *, domain: str, component_secret: str | None) -> None:
        self.domain = domain
        self.room_service = f"rooms.{domain}"
        self.component = f"support.{domain}"
        self.directory = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-"))
        self.port, self.tls_port, *more = free_ports(3 if component_secret else 2)
        self.component_port = more[0] if more else 0  # XEP-0114 on 127.0.0.1; 0 without a secret
        self._process: subprocess.Popen[bytes] | None = None
        self._make_certificate()

    def jid(self, name: str) -> str:
        return f"{name}@{self.domain}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER form, in hexadecimal."""
        pem = (self.directory / "server.crt").read_text()
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def add_account(self, name: str, password: str) -> None:
        """Before the start or while it runs."""
        raise NotImplementedError

    def renew_certificate(self) -> None:
        """Another one, with another key; after the next start."""
        for name in _CERTIFICATE:
            (self.directory / name).rename(self.directory / f"{name}.before")
        self._make_certificate()

    def restore_certificate(self) -> None:
        for name in _CERTIFICATE:
            (self.directory / f"{name}.before").rename(self.directory / name)

    def has_signed_in(self, jid: str) -> bool:
        """Whether that account ever showed its password, as the log says."""
        return any(self.signed_in_line in line and jid in line for line in self.log().splitlines())

    # ---- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for whoever started it
            )
        deadline = time.monotonic() + _START_SECONDS
        while not all(map(answers, self._ports())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{type(self).__name__} does not start:\n{self.log()}")
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
        files = (self.directory / name for name in ("output.log", *self.logs))
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def close(self) -> None:
        """Leave neither process nor file."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str] | None:
        """None: the one of the tests."""
        return None

    def _ports(self) -> list[int]:
        return [port for port in (self.port, self.tls_port, self.component_port) if port]

    def _make_certificate(self) -> None:
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650".split()
        names = f"subjectAltName=DNS:{self.domain},DNS:{self.room_service}"
        files = ["-keyout", str(self.directory / "server.key"), "-out", str(self.directory / "server.crt")]
        subprocess.run(
            [*command, "-subj", "/CN=VeilSupport test server", "-addext", names, *files],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
        )


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
