"""The onion services: their settings, the torrc, the address, and the self-check that alone proves it reachable.

One, the page's, is in front of the web server: for everybody, or for authorised clients alone. A second, the private
one, is in front of a port on this machine and always for authorised clients alone. Knows tor's options and where its
files lie; does not know how tor is started and watched (daemon.py), nor what listens behind.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from veilsupport.errors import SetupError, Unavailable
from veilsupport.socks import SocksProxy, dial

_SOCKET_PATH_MAX_BYTES: Final = 107  # struct sockaddr_un: 108 with the closing NUL
_ADDRESS: Final = re.compile(r"[a-z2-7]{56}\.onion")  # rend-spec-v3 §6
OURSELVES: Final = "_ourselves"  # the client that is our own tor; no rule for names admits an underscore
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")


@dataclass(frozen=True, slots=True)
class Client:
    """Who may reach a service. `name` is fit for a file name; `key`: X25519, public, 52 letters of base32."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Access:
    """By what our own tor reaches an onion service that is for clients alone; never on disk."""

    address: str = field(repr=False)  # …onion
    key: bytes = field(repr=False)  # X25519, private, 32 bytes


@dataclass(frozen=True, slots=True)
class PrivateService:
    """An onion service that only its clients can find; without any it is not published, or everybody could."""

    directory: Path  # its HiddenServiceDir, ours alone, with its key in it; may lie in memory
    address: str = field(repr=False)  # …onion, of that key: known before tor has seen it
    onion_port: int
    local_port: int  # on 127.0.0.1
    clients: tuple[Client, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class TorSettings:
    """What tor needs to know. Everything of tor's lies under `directory`, which is ours alone (0700).

    directory/torrc        written anew at every start
    directory/lock         held from before the start until tor has ended
    directory/run/         control and SOCKS sockets, control cookie
    directory/data/        tor's own state and caches; may be deleted while tor is off
    onion/                 the onion service's secret key and address; losing it loses the address
    """

    directory: Path
    onion: Path | None  # HiddenServiceDir: made here when it is not there; may lie in memory. None: a client only
    web_socket: Path | None = None  # where the web server listens, in a directory that is ours alone; with `onion`
    clients: tuple[Client, ...] = field(default=(), repr=False)  # who alone may reach the page; with none, everybody
    access: Access | None = field(default=None, repr=False)  # for the self-check, when not everybody may reach it
    pressed: bool = False  # too many want in: tor shall ask for proof of work sooner
    private: PrivateService | None = None
    executable: str = "tor"  # a name looked up in PATH and /usr/sbin, or a path
    torrc_lines: tuple[str, ...] = ()  # the operator's own lines, such as bridges
    library_path: str | None = None  # LD_LIBRARY_PATH for a bundled tor, and for nothing else
    check_path: str = "/check"  # answered with 2xx by the web server; fetched by the self-check
    check_seconds: float = 60  # between self-checks, give or take a quarter
    stall_seconds: float = 60  # without progress in bootstrap, until we say so
    leftover_seconds: float = 20  # for a tor that lost its owner to end: it looks for it every 15 s

    @property
    def control_socket(self) -> Path:
        return self.directory / "run" / "control.sock"

    @property
    def socks_socket(self) -> Path:
        return self.directory / "run" / "socks.sock"

    @property
    def torrc(self) -> Path:
        return self.directory / "torrc"


def render_torrc(settings: TorSettings, *, owner_pid: int, online: bool = False) -> str:
    """The whole torrc. Raises SetupError for paths or lines that tor would misread.

    `online` is for a tor that runs and has been told to dial: it reads this again, and must not stop.

    The operator's lines come first: of most options the last one counts, so ours win; and no HiddenService
    line of theirs can slip into our onion service.
    """
    for path in (settings.control_socket, settings.socks_socket):
        _require_usable(path)
    directory = settings.directory
    ours = [
        f"DataDirectory {_quoted(directory / 'data')}",
        "ClientOnly 1",
        "AvoidDiskWrites 1",
        "SafeLogging 1",
        "Log notice stdout",  # read by us and kept in memory only; nothing of tor's goes to disk
        "ShutdownWaitLength 2",
        # Not ControlSocket, which cannot take a path with a space in it.
        f"ControlPort unix:{_quoted(settings.control_socket)}",
        "CookieAuthentication 1",
        f"CookieAuthFile {_quoted(directory / 'run' / 'cookie')}",
        f"SocksPort unix:{_quoted(settings.socks_socket)} ExtendedErrors",
        # tor polls this every 15 s; stem turns it into TAKEOWNERSHIP, by which tor dies with us at once.
        f"__OwningControllerProcess {owner_pid}",
        # Nothing leaves the machine until our listeners are attached and we say so.
        f"DisableNetwork {0 if online else 1}",
        *_page_lines(settings),
        *_private_lines(settings.private),
    ]
    return "".join(f"{line}\n" for line in [*map(_operator_line, settings.torrc_lines), *ours])


def _page_lines(settings: TorSettings) -> list[str]:
    """None for a client only."""
    if settings.onion is None:
        return []
    assert settings.web_socket is not None, "an onion service has something behind it"
    _require_usable(settings.web_socket)
    return [
        f"HiddenServiceDir {_quoted(settings.onion)}",
        "HiddenServiceVersion 3",
        f"HiddenServicePort 80 unix:{_quoted(settings.web_socket)}",
        # The web edge must eat the line this sends: without the option a visitor could write it himself.
        "HiddenServiceExportCircuitID haproxy",
        "HiddenServiceMaxStreams 32",
        # 1 would let one stream too many kill the circuit, and with it the page that is being read.
        "HiddenServiceMaxStreamsCloseCircuit 0",
        "HiddenServicePoWDefensesEnabled 1",
        # How many may be let in a second: what waits makes tor ask for more effort. Below 100 the queue itself starves
        # honest visitors, because tor adapts the effort only every five minutes.
        # Measured on 0.4.9: a reload takes other numbers at once, and no open connection ends.
        f"HiddenServicePoWQueueRate {100 if settings.pressed else 200}",
        f"HiddenServicePoWQueueBurst {200 if settings.pressed else 1000}",
        "HiddenServiceEnableIntroDoSDefense 1",
        "HiddenServiceEnableIntroDoSRatePerSec 25",
        "HiddenServiceEnableIntroDoSBurstPerSec 200",
    ]


def _private_lines(service: PrivateService | None) -> list[str]:
    """None without clients: tor would take their absence for "open to everybody"."""
    if service is None or not service.clients:
        return []
    _require_plain(service.directory)
    return [
        f"HiddenServiceDir {_quoted(service.directory)}",
        "HiddenServiceVersion 3",
        f"HiddenServicePort {service.onion_port} 127.0.0.1:{service.local_port}",
    ]


def prepare_directories(settings: TorSettings) -> None:
    """Make them, readable by us alone; tor refuses to start otherwise. Raises SetupError."""
    within = (settings.directory, settings.directory / "run", settings.directory / "data")
    try:
        for directory in (*within, settings.onion) if settings.onion else within:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
    except OSError:
        raise SetupError(
            "tor's directory cannot be made or is not ours",
            hint="check who owns the data directory and whether its disk can be written",
        ) from None


def write_torrc(settings: TorSettings, *, online: bool = False) -> None:
    """Write torrc (0600) and the services' clients, who come first: no service is ever there without its own.

    SetupError: the disk does not take it. tor must not go on then: a service whose clients' files are empty is open to
    everybody.
    """
    torrc = render_torrc(settings, owner_pid=os.getpid(), online=online)
    try:
        if settings.onion is not None:
            _write_clients(settings.onion, settings.clients)
        if settings.private is not None:
            _write_clients(settings.private.directory, settings.private.clients)
        settings.torrc.touch(mode=0o600)
        settings.torrc.chmod(0o600)
        settings.torrc.write_text(torrc)
    except OSError:
        raise SetupError(
            "tor's settings cannot be written", hint="make room on the disk of the data directory, and look who owns it"
        ) from None


def _write_clients(onion: Path, clients: tuple[Client, ...]) -> None:
    """As tor reads them (rend-spec-v3, client authorization); whoever is no client any more loses their file."""
    directory = onion / "authorized_clients"
    directory.mkdir(mode=0o700, exist_ok=True)
    wanted = {f"{client.name}.auth": f"descriptor:x25519:{client.key}\n" for client in clients}
    for path in directory.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, line in wanted.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(line)


def clear_leftovers(settings: TorSettings) -> None:
    """Remove an earlier tor's sockets and cookie, lest a stale one be read."""
    for leftover in (settings.control_socket, settings.socks_socket, settings.directory / "run" / "cookie"):
        leftover.unlink(missing_ok=True)


def read_address(settings: TorSettings) -> str:
    """The onion address, which tor writes before its control port answers. Raises Unavailable."""
    assert settings.onion is not None, "a client only has no address"
    try:
        address = (settings.onion / "hostname").read_text().strip()
    except OSError:
        raise Unavailable("tor has not written the onion address") from None
    if not _ADDRESS.fullmatch(address):
        raise Unavailable("tor has written an onion address that is none")
    return address


async def check_reachable(socks: SocksProxy, address: str, path: str, *, timeout_seconds: float = 30) -> None:
    """Fetch our own page through our own SOCKS port; returning is the only honest "you are reachable".

    Descriptor uploads are no proof, and with every relay dead tor goes on calling the network live
    (facts/tor.md).
    Credentials never used before give the check circuits of its own. Raises Unavailable.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            connection = await dial(
                socks,
                address,
                80,
                credentials=("self-check", secrets.token_hex(8)),
                timeout_seconds=timeout_seconds,
            )
            reader, writer = await asyncio.open_connection(sock=connection)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.readline()
            finally:
                writer.close()
    except (TimeoutError, OSError, ValueError):  # ValueError: a line without end
        raise Unavailable("our own page did not come back through Tor") from None
    if not _STATUS_LINE.match(answer):
        raise Unavailable("our own page came back through Tor as an error")


def _quoted(path: Path) -> str:
    """In quotes, so that a space in it does no harm."""
    return f'"{path}"'


def _require_usable(path: Path) -> None:
    _require_plain(path)
    _require_short(path)


def _require_plain(path: Path) -> None:
    if not path.is_absolute() or re.search(r'[\x00-\x1f\x7f"\\#]', str(path)):
        raise SetupError(
            "tor cannot use this data directory",
            hint='give an absolute path without quotes, "#", backslashes and control characters',
        )


def _require_short(path: Path) -> None:
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX_BYTES:
        raise SetupError(
            "the data directory's path is too long for a unix socket",
            hint=f"choose a shorter one: every socket's path must fit into {_SOCKET_PATH_MAX_BYTES} bytes",
        )


def _operator_line(line: str) -> str:
    """One line stays one line: no line break, and no backslash at the end, which tor reads as "goes on"."""
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", line) or line.rstrip().endswith("\\"):
        raise SetupError(
            "a torrc line of the configuration is not one line",
            hint="make each torrc line an entry of its own, without line breaks or a backslash at its end",
        )
    return line
