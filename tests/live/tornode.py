"""One tor of the private network: its keys, torrc, process and control port. See privnet.py."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

TOR: Final = "/usr/sbin/tor"
TOR_GENCERT: Final = "/usr/bin/tor-gencert"
VOTING_SECONDS: Final = 300  # so long that no second vote falls into a test
VOTE_DELAY_SECONDS: Final = 2  # tor's smallest
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class Role(StrEnum):
    AUTHORITY = "authority"
    RELAY = "relay"
    EXIT = "exit"
    CLIENT = "client"


class ControlPort:
    """The little of tor's control protocol that the network needs; its socket lies in a 0700 directory."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")
        self.command("AUTHENTICATE")

    def command(self, words: str) -> list[str]:
        """Send one line; return the lines of the answer without their codes (control-spec §2.3)."""
        self._socket.sendall(f"{words}\r\n".encode())
        answer: list[str] = []
        while True:
            line = self._line()
            code, divider, rest = line[:3], line[3:4], line[4:]
            answer.append(rest)
            if divider == "+":
                answer.extend(iter(self._line, "."))
            elif divider == " " and not code.startswith("2"):
                raise RuntimeError(f"tor answered {line}")
            elif divider == " ":
                return answer

    def info(self, key: str) -> str:
        first, *rest = self.command(f"GETINFO {key}")[:-1]
        return "\n".join([first.partition("=")[2], *rest]).strip()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def _line(self) -> str:
        line = self._lines.readline()
        if not line:
            raise EOFError("tor closed the control connection")
        return line.decode("utf-8", "replace").rstrip("\r\n")


@dataclass
class Node:
    """One tor of the network, with its files and its process."""

    directory: Path
    role: Role
    port: int  # ORPort, or the SOCKS port of a client
    directory_port: int = 0  # the authority's
    fingerprint: str = ""
    authority_identity: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.directory.name

    def make_keys(self) -> None:
        """Takes a second or so; the nodes do it side by side."""
        keys = self.directory / "keys"
        keys.mkdir(mode=0o700, parents=True)
        if self.role is Role.AUTHORITY:
            certificate = keys / "authority_certificate"
            _run(
                *(
                    TOR_GENCERT,
                    "--create-identity-key",
                    "--passphrase-fd",
                    "0",
                    "-m",
                    "12",
                    "-c",
                    certificate,
                ),
                *("-i", keys / "authority_identity_key", "-s", keys / "authority_signing_key"),
            )
            self.authority_identity = found(r"^fingerprint ([0-9A-F]{40})", certificate.read_text())
        answer = _run(
            *(TOR, "--list-fingerprint", "--ignore-missing-torrc", "-f", "/nonexistent"),
            *("--defaults-torrc", "/nonexistent", "--DataDirectory", self.directory),
            *("--ORPort", "1", "--Nickname", self.name, "--Log", "err stderr"),
        )
        self.fingerprint = "".join(answer.strip().splitlines()[-1].split()[1:])

    def authority_line(self) -> str:
        identity = f"v3ident={self.authority_identity} 127.0.0.1:{self.directory_port} {self.fingerprint}"
        return f"DirAuthority {self.name} orport={self.port} no-v2 {identity}"

    def start(self, network_lines: Iterable[str]) -> None:
        lines = [*network_lines, *self._shared_lines(), *_ROLE_LINES[self.role](self)]
        torrc = self.directory / "torrc"
        torrc.write_text("".join(f"{line}\n" for line in lines))
        self.process = subprocess.Popen(
            [TOR, "--defaults-torrc", "/nonexistent", "-f", torrc, "--quiet"],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _shared_lines(self) -> list[str]:
        return [
            f"DataDirectory {self.directory}",
            f"Nickname {self.name}",
            f"ControlSocket {self.directory}/control",
            f"Log notice file {self.directory}/log",
            "SafeLogging 0",
            f"__OwningControllerProcess {os.getpid()}",  # no tor outlives the tests, however they end
            "ShutdownWaitLength 0",
            "AvoidDiskWrites 1",
        ]

    @contextlib.contextmanager
    def control(self) -> Iterator[ControlPort]:
        port = ControlPort(self.directory / "control")
        try:
            yield port
        finally:
            port.close()

    def require_alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {(self.directory / 'log').read_text()[-1500:]}")


def _relay_lines(node: Node) -> list[str]:
    return [
        "SocksPort 0",
        f"ORPort 127.0.0.1:{node.port}",
        "Address 127.0.0.1",
        "AssumeReachable 1",
        "ContactInfo test@invalid",
        "NumCPUs 1",
        # No look-up of any kind: there is no resolver.
        "ServerDNSDetectHijacking 0",
        "ServerDNSTestAddresses",
        "ServerDNSResolvConfFile /dev/null",
        "ServerDNSAllowBrokenConfig 1",
        # NO BANDWIDTH REPORTS: else one relay may report 1 and the rest 0, it gets all the weight, circuits
        # become A-B-A, which relays refuse, and onion fetches fail for minutes. All zero: a uniform choice.
        "TestingMinTimeToReportBandwidth 1 day",
        "DirReqStatistics 0",
        "HiddenServiceStatistics 0",
        "ExtraInfoStatistics 0",
    ]


def _plain_relay_lines(node: Node) -> list[str]:
    return [*_relay_lines(node), "ExitRelay 0", "ExitPolicy reject *:*"]


def _exit_lines(node: Node) -> list[str]:
    return [*_relay_lines(node), "ExitRelay 1", "ExitPolicyRejectPrivate 0", "ExitPolicy accept *:*"]


def _authority_lines(node: Node) -> list[str]:
    return [
        *_plain_relay_lines(node),
        f"DirPort 127.0.0.1:{node.directory_port}",
        "AuthoritativeDirectory 1",
        "V3AuthoritativeDirectory 1",
        f"V3AuthVotingInterval {VOTING_SECONDS}",
        f"V3AuthVoteDelay {VOTE_DELAY_SECONDS}",
        f"V3AuthDistDelay {VOTE_DELAY_SECONDS}",
        "V3AuthNIntervalsValid 3",
        f"TestingV3AuthInitialVotingInterval {VOTING_SECONDS}",
        f"TestingV3AuthInitialVoteDelay {VOTE_DELAY_SECONDS}",
        f"TestingV3AuthInitialDistDelay {VOTE_DELAY_SECONDS}",
        # Far away: `_vote` moves it here once every relay has published.
        f"TestingV3AuthVotingStartOffset {(int(time.time()) + 45) % VOTING_SECONDS}",
        "TestingDirAuthVoteExit *",
        "TestingDirAuthVoteHSDir *",
        "TestingDirAuthVoteGuard *",
        "TestingMinExitFlagThreshold 0",
        "MinUptimeHidServDirectoryV2 0",
    ]


def _client_lines(node: Node) -> list[str]:
    return ["ORPort 0", f"SocksPort 127.0.0.1:{node.port}"]


_ROLE_LINES: Final[dict[Role, Callable[[Node], list[str]]]] = {
    Role.AUTHORITY: _authority_lines,
    Role.RELAY: _plain_relay_lines,
    Role.EXIT: _exit_lines,
    Role.CLIENT: _client_lines,
}


def _run(*command: str | Path) -> str:
    return subprocess.run(
        command,
        input="passphrase\n",
        env=_ENVIRONMENT,
        check=True,
        text=True,
        timeout=60,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ).stdout


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, text
    return match[1]
