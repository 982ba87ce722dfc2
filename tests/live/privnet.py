"""A private Tor network on loopback: one authority, five relays, one exit, and clients. Ready in about 11 s.

Nothing in it can dial anything but itself: every tor here, and every tor of a test that is given
`torrc_lines`, knows no other directory authority. Four tricks make it fast and certain; each cost a failure
to find (facts/tor.md): HOLD THE VOTE, RESET BACK-OFF, CLIENTS LAST, NO BANDWIDTH REPORTS.

    with PrivateTorNetwork() as net:
        net.torrc_lines                         # what any other tor needs to join
        net.socks                               # (host, port) of a ready client
        address, close = net.onion_service(5222)  # an onion service in front of 127.0.0.1:5222
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.live.tornode import VOTE_DELAY_SECONDS, VOTING_SECONDS, ControlPort, Node, Role, found
from tests.ports import free_ports
from veilsupport.errors import Unavailable
from veilsupport.socks import SocksProxy, dial

_RELAYS: Final = 5  # fewer make vanguards-lite build A-B-A paths, which relays refuse
_READY_SECONDS: Final = 60
_POLL_SECONDS: Final = 0.05
_UNMAPPED_PORT: Final = 9


class PrivateTorNetwork:
    """`start` blocks until the client has a circuit; `stop` leaves neither process nor file."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="privnet-"))
        ports = iter(free_ports(1 + _RELAYS + 1 + 2 + 1))
        self._authority = Node(self.directory / "auth", Role.AUTHORITY, next(ports), next(ports))
        relays = [Node(self.directory / f"relay{i}", Role.RELAY, next(ports)) for i in range(_RELAYS)]
        self._relays = [*relays, Node(self.directory / "exit", Role.EXIT, next(ports))]
        self._client = Node(self.directory / "client", Role.CLIENT, next(ports))
        self._host = Node(self.directory / "host", Role.CLIENT, next(ports))  # of `onion_service`

    @property
    def torrc_lines(self) -> tuple[str, ...]:
        """What makes any tor a member of this network and of no other."""
        return (
            "TestingTorNetwork 1",
            "PathsNeededToBuildCircuits 0.67",
            self._authority.authority_line(),
        )

    @property
    def socks(self) -> tuple[str, int]:
        """The client's SOCKS port, for browsers and XMPP clients."""
        return ("127.0.0.1", self._client.port)

    @property
    def client_pid(self) -> int:
        assert self._client.process is not None
        return self._client.process.pid

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """While all directories and relays say nothing; the clients live on."""
        for node in (self._authority, *self._relays):
            assert node.process is not None
            node.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        for node in (self._authority, *self._relays):
            assert node.process is not None
            node.process.send_signal(signal.SIGCONT)

    def new_identity(self) -> None:
        """What Tor Browser does for "new circuit for this site": forget circuits and onion descriptors."""
        control = ControlPort(self._client.directory / "control")
        control.command("SIGNAL NEWNYM")
        control.close()

    def start(self) -> None:
        public = [self._authority, *self._relays]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(Node.make_keys, public))
        for node in public:
            node.start(self.torrc_lines)
        self._vote()
        self._wait_until(self._lists_all, [self._authority])
        # RESET BACK-OFF: relays that asked the authority too early would wait for seconds; SIGHUP makes them
        # ask now. Never the authority: it would reread its torrc and forget the moved vote.
        for node in self._relays:
            assert node.process is not None
            node.process.send_signal(signal.SIGHUP)
        # CLIENTS LAST: one that asks a relay which has no microdescriptors yet gets 404 and waits for 10 s.
        self._wait_until(self._has_directory, self._relays)
        self._start_clients([self._client])

    def stop(self) -> None:
        nodes = [self._authority, *self._relays, self._client, self._host]
        running = [node.process for node in nodes if node.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def onion_service(self, local_port: int, *, onion_port: int = 5222) -> tuple[str, Callable[[], None]]:
        """Put `…onion:onion_port` in front of 127.0.0.1:`local_port`; return the address and what ends it.

        Returns when the client reaches it, whether or not anything listens on the local port yet.
        """
        if self._host.process is None:
            self._start_clients([self._host])
        with self._host.control() as control:
            command = f"ADD_ONION NEW:ED25519-V3 Flags=Detach,DiscardPK Port={onion_port},127.0.0.1:{local_port}"
            name = found(r"^ServiceID=(\w+)$", "\n".join(control.command(command)))

        def close() -> None:
            with self._host.control() as control:
                control.command(f"DEL_ONION {name}")

        address = f"{name}.onion"
        _until(lambda: self._reaches(address), "the onion service")
        return address, close

    def _start_clients(self, clients: list[Node]) -> None:
        for client in clients:
            client.directory.mkdir(mode=0o700)
            client.start(self.torrc_lines)
        self._wait_until(self._has_circuit, clients)

    def _vote(self) -> None:
        """HOLD THE VOTE until every relay's descriptor is at the authority, then move it to now.

        Otherwise the first vote races the uploads, lists some of the relays, and the next is 20 s away. tor
        reschedules as soon as the option changes.
        """
        self._wait_until(self._has_all_descriptors, [self._authority])
        due = int(time.time()) + 1 + 2 * VOTE_DELAY_SECONDS
        with self._authority.control() as control:
            control.command(f"SETCONF TestingV3AuthVotingStartOffset={due % VOTING_SECONDS}")

    def _has_all_descriptors(self, control: ControlPort) -> bool:
        descriptors = re.findall(r"^router ", control.info("desc/all-recent"), re.MULTILINE)
        return len(descriptors) == 1 + len(self._relays)

    def _lists_all(self, control: ControlPort) -> bool:
        return len(re.findall(r"^r ", control.info("ns/all"), re.MULTILINE)) == 1 + len(self._relays)

    def _has_directory(self, control: ControlPort) -> bool:
        return self._lists_all(control) and control.info("status/enough-dir-info") == "1"

    def _has_circuit(self, control: ControlPort) -> bool:
        return self._has_directory(control) and control.info("status/circuit-established") == "1"

    def _wait_until(self, ready: Callable[[ControlPort], bool], nodes: list[Node]) -> None:
        waiting = list(nodes)

        def all_ready() -> bool:
            for node in list(waiting):
                node.require_alive()
                with contextlib.suppress(OSError, EOFError), node.control() as control:
                    if ready(control):
                        waiting.remove(node)
            return not waiting

        _until(all_ready, f"the private Tor network ({ready.__name__})")

    def _reaches(self, address: str) -> bool:
        """By a port that the service does not have: only the service itself can refuse that."""
        dialled = _dial_once(self.socks, address, _UNMAPPED_PORT)
        try:
            # In a thread, as the caller may have a loop of its own running.
            with concurrent.futures.ThreadPoolExecutor() as pool:
                pool.submit(asyncio.run, dialled).result()
        except Unavailable as error:
            return error.message == "the other side refused the connection"
        return True

    def __enter__(self) -> PrivateTorNetwork:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


async def _dial_once(socks: tuple[str, int], address: str, port: int) -> None:
    connection = await dial(SocksProxy(socks), address, port, credentials=None, timeout_seconds=10)
    connection.close()


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _READY_SECONDS
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} is not ready after {_READY_SECONDS} s")
        time.sleep(_POLL_SECONDS)
