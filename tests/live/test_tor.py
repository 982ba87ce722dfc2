"""Our tor against a real Tor network: published, fetched, killed, orphaned, stopped, cut off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stem.control

from tests.live.firefox import Firefox
from tests.live.privnet import PrivateTorNetwork
from veilsupport import crypto, onions
from veilsupport.directory import ONION_KEY
from veilsupport.errors import SetupError, Unavailable
from veilsupport.socks import SocksProxy, dial
from veilsupport.tor import Access, Client, TorDaemon, TorPhase, TorSettings, TorState, check_reachable
from veilsupport.tor.state import STALLED

ROOT = Path(__file__).parents[2]
PAGE = (
    b"<!doctype html><meta charset=utf-8><title>off</title><noscript>scripts are off</noscript>"
    b"<script>document.title='on'</script>"
)


class Service:
    """A TorDaemon at work, with a page behind it, and everything it has said."""

    def __init__(self, settings: TorSettings) -> None:
        self.settings = settings
        self.states: list[TorState] = []
        self.circuit_lines: list[bytes] = []
        self.stop = asyncio.Event()
        self.daemon = TorDaemon(settings, on_change=self._note)
        self._changed = asyncio.Event()

    def _note(self, state: TorState) -> None:
        self.states.append(state)
        self._changed.set()

    async def until(self, wanted: Callable[[TorState], bool], *, seconds: float = 40) -> TorState:
        """The first state from now on that is wanted."""
        async with asyncio.timeout(seconds):
            while not wanted(self.daemon.state):
                self._changed.clear()
                await self._changed.wait()
        return self.daemon.state

    async def reachable(self) -> str:
        state = await self.until(lambda state: state.phase is TorPhase.REACHABLE)
        assert state.address is not None
        return state.address

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            self.circuit_lines.append(await reader.readline())
            request = await reader.readuntil(b"\r\n\r\n")
            status, body = (b"204 No Content", b"") if request.startswith(b"GET /check ") else (b"200 OK", PAGE)
            writer.write(b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n%b" % (status, body))

    def tor_pids(self) -> list[int]:
        return tor_pids(self.settings.directory)


@contextlib.asynccontextmanager
async def running(settings: TorSettings, *, web: bool = True) -> AsyncIterator[Service]:
    """The service between its start and a stop that may take 5 s and must leave no tor."""
    service = Service(settings)
    async with contextlib.AsyncExitStack() as opened:
        if web and settings.web_socket is not None:
            server = await asyncio.start_unix_server(service.serve, settings.web_socket)
            await opened.enter_async_context(server)
        run = asyncio.create_task(service.daemon.run(service.stop))
        try:
            yield service
        finally:
            service.stop.set()
            await asyncio.wait_for(run, 5)
            assert service.tor_pids() == []


async def fetch(net: PrivateTorNetwork, address: str, *, seconds: float = 20) -> bytes:
    """What a visitor gets, through the network's client tor."""
    async with asyncio.timeout(seconds):
        connection = await dial(
            SocksProxy(net.socks), address, 80, credentials=("visitor", "1"), timeout_seconds=seconds
        )
        reader, writer = await asyncio.open_connection(sock=connection)
        writer.write(f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer


async def fetch_until_there(net: PrivateTorNetwork, address: str) -> bytes:
    """The same, again and again for a while: a client may hold a descriptor of the tor that was."""
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(Unavailable, TimeoutError):
                if answer := await fetch(net, address):
                    return answer
            await asyncio.sleep(0.1)


def tor_pids(directory: Path) -> list[int]:
    """Processes that were started with this directory's torrc."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(directory / "torrc").encode() in _command(entry)
    ]


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def listening_tcp_ports(pid: int) -> list[str]:
    """Addresses on which this process listens, as /proc/net/tcp writes them."""
    mine = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(str(entry.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in mine:
                found.append(local)
    return found


def settings_for(net: PrivateTorNetwork, tmp_path: Path) -> TorSettings:
    directory = tmp_path / "a tor"  # the space is on purpose
    return TorSettings(
        directory=directory,
        onion=directory / "onion",
        web_socket=tmp_path / "web.sock",
        torrc_lines=net.torrc_lines,
    )


def cut_off(net: PrivateTorNetwork, tmp_path: Path) -> TorSettings:
    """A tor whose only authority is a closed port on loopback."""
    lines = [re.sub(r"127\.0\.0\.1:\d+|orport=\d+", _closed, line) for line in net.torrc_lines]
    return replace(settings_for(net, tmp_path), torrc_lines=tuple(lines), stall_seconds=0.5)


def _closed(match: re.Match[str]) -> str:
    return "orport=1" if match[0].startswith("orport") else "127.0.0.1:1"


def run(story: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(100):
            await story

    asyncio.run(in_time())


def test_page_is_published_and_fetched_through_tor(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings_for(tornet, tmp_path)) as service:
            address = await service.reachable()
            assert (await fetch(tornet, address)).endswith(PAGE)
            state = service.daemon.state
            assert state.descriptors_uploaded > 0
            assert state.checked_at is not None
            assert state.trouble is None
            assert all(line.startswith(b"PROXY TCP6 fc00:dead:beef:4dad::") for line in service.circuit_lines)
        phases = list(dict.fromkeys(state.phase for state in service.states))
        assert phases == [
            TorPhase.STARTING,
            TorPhase.BOOTSTRAPPING,
            TorPhase.PUBLISHING,
            TorPhase.REACHABLE,
            TorPhase.OFF,
        ]
        progress = [state.progress for state in service.states if state.phase is TorPhase.BOOTSTRAPPING]
        assert progress == sorted(progress)
        assert len(set(progress)) > 3

    run(story())


def test_client_only_is_connected_dials_and_publishes_nothing(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        client = TorSettings(directory=tmp_path / "client", onion=None, torrc_lines=tornet.torrc_lines)
        async with running(settings_for(tornet, tmp_path)) as service, running(client, web=False) as visitor:
            state = await visitor.until(lambda state: state.phase is TorPhase.CONNECTED)
            assert (state.progress, state.trouble, state.address) == (100, None, None)
            await check_reachable(visitor.daemon.socks, await service.reachable(), "/check")
            assert visitor.daemon.state == state
        assert TorPhase.PUBLISHING not in {each.phase for each in visitor.states}
        assert not list((tmp_path / "client").rglob("hostname"))

    run(story())


def test_page_for_clients_is_checked_by_us_and_by_who_holds_its_key(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    key, pair = crypto.new_onion_key(), crypto.onion_access
    access = Access(crypto.onion_address(key), pair(key).private)
    ours = Client("_ourselves", onions.base32(pair(key).public))
    page = replace(settings_for(tornet, tmp_path), access=access, check_seconds=1)
    client = TorSettings(directory=tmp_path / "client", onion=None, torrc_lines=tornet.torrc_lines)

    async def story() -> None:
        page.directory.mkdir()
        assert page.onion is not None
        page.onion.mkdir(mode=0o700)
        (page.onion / ONION_KEY).write_bytes(key)
        async with running(page) as service, running(client, web=False) as stranger:
            assert await service.reachable() == access.address
            await stranger.until(lambda state: state.phase is TorPhase.CONNECTED)
            await check_reachable(stranger.daemon.socks, access.address, "/check")
            service.daemon.serve((ours,))
            await service.until(lambda state: state.phase is TorPhase.PUBLISHING)
            await service.reachable()
            with pytest.raises(Unavailable):
                await check_reachable(stranger.daemon.socks, access.address, "/check", timeout_seconds=10)
            twin = replace(client, directory=tmp_path / "twin", access=access)
            async with running(twin, web=False) as other:
                await other.until(lambda state: state.phase is TorPhase.CONNECTED)
                await check_reachable(other.daemon.socks, access.address, "/check")
            service.daemon.serve(())
            await service.until(lambda state: state.phase is TorPhase.PUBLISHING)
            await service.reachable()
            assert (await fetch_until_there(tornet, access.address)).endswith(PAGE)
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and access.key in path.read_bytes()]

    run(story())


def test_tor_listens_on_no_tcp_port(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings_for(tornet, tmp_path)) as service:
            await service.reachable()
            (pid,) = service.tor_pids()
            assert listening_tcp_ports(pid) == []
        client = tornet.client_pid
        assert listening_tcp_ports(client) != [], "the check itself must see a port where there is one"

    run(story())


def test_killed_tor_comes_back_with_the_same_address(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings_for(tornet, tmp_path)) as service:
            address = await service.reachable()
            (pid,) = service.tor_pids()
            killed_at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            restarting = await service.until(lambda state: state.phase is TorPhase.RESTARTING)
            assert restarting.trouble == "tor was killed by signal 9"
            assert await service.reachable() == address
            print(f"reachable again {time.monotonic() - killed_at:.1f} s after the kill")
            assert service.daemon.state.restarts == 1
            assert service.tor_pids() != [pid]
            assert (await fetch_until_there(tornet, address)).endswith(PAGE)

    run(story())


def test_lost_control_connection_restarts_tor(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings_for(tornet, tmp_path)) as service:
            address = await service.reachable()
            controllers = [one for one in gc.get_objects() if type(one) is stem.control.Controller]
            (alive,) = [one for one in controllers if one.is_alive()]
            await asyncio.to_thread(alive.close)
            await service.until(lambda state: state.restarts == 1)
            assert await service.reachable() == address

    run(story())


def test_killed_owner_takes_tor_with_it(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    settings = settings_for(tornet, tmp_path)
    program = "import sys; from tests.live.test_tor import own_a_tor; own_a_tor(*sys.argv[1:])"
    arguments = [str(settings.directory), str(settings.web_socket), *settings.torrc_lines]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == "publishing\n"
            assert len(tor_pids(settings.directory)) == 1
        finally:
            owner.kill()
    killed_at = time.monotonic()
    while left := tor_pids(settings.directory):
        if time.monotonic() - killed_at > 16:
            os.kill(left[0], signal.SIGKILL)
            pytest.fail("tor outlived its owner")
        time.sleep(0.02)
    print(f"tor gone {time.monotonic() - killed_at:.2f} s after its owner")


def own_a_tor(directory: str, web_socket: str, *torrc_lines: str) -> None:
    """Run in a process of its own, to be killed."""

    def say(state: TorState) -> None:
        if state.phase is TorPhase.PUBLISHING:
            print("publishing", flush=True)

    settings = TorSettings(Path(directory), Path(directory) / "onion", Path(web_socket), torrc_lines=torrc_lines)
    asyncio.run(TorDaemon(settings, on_change=say).run(asyncio.Event()))


def test_stop_is_quick_at_every_phase(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def stopped_at(phase: TorPhase, directory: Path) -> float:
        directory.mkdir()
        async with running(settings_for(tornet, directory)) as service:
            await service.until(lambda state: state.phase is phase)
            began = time.monotonic()
        return time.monotonic() - began

    async def story() -> None:
        phases = [TorPhase.STARTING, TorPhase.BOOTSTRAPPING, TorPhase.PUBLISHING, TorPhase.REACHABLE]
        for phase in phases:
            seconds = await stopped_at(phase, tmp_path / phase)
            print(f"stopped in {seconds:.2f} s while {phase}")
            assert seconds < 3

    run(story())


def test_wrong_torrc_line_is_the_operators_to_mend(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    settings = settings_for(tornet, tmp_path)
    wrong = replace(settings, torrc_lines=(*settings.torrc_lines, "Frobnicate 1"))
    daemon = TorDaemon(wrong, on_change=lambda state: None)
    with pytest.raises(SetupError, match="does not accept its configuration") as caught:
        run(daemon.run(asyncio.Event()))
    assert "Unknown option 'Frobnicate'" in caught.value.hint
    assert daemon.state.phase is TorPhase.FAILED
    assert tor_pids(settings.directory) == []


def test_second_tor_on_the_same_directory_does_no_harm(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        settings = settings_for(tornet, tmp_path)
        async with running(settings) as service:
            address = await service.reachable()
            second = TorDaemon(replace(settings, leftover_seconds=0.5), on_change=lambda state: None)
            with pytest.raises(SetupError, match="another tor"):
                await second.run(asyncio.Event())
            assert (await fetch(tornet, address)).endswith(PAGE)
            assert service.daemon.state.restarts == 0

    run(story())


def test_tor_without_a_way_out_says_so_and_stops(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(cut_off(tornet, tmp_path)) as service:
            await service.until(lambda state: state.trouble == STALLED)
            state = await service.until(lambda state: state.trouble not in {None, STALLED})
            assert state.trouble == "connections to the Tor network are refused; a firewall may block Tor"
            assert state.phase is TorPhase.BOOTSTRAPPING
            assert state.progress < 100
            began = time.monotonic()
        assert time.monotonic() - began < 3

    run(story())


def test_page_that_is_gone_makes_the_service_unreachable(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        settings = replace(settings_for(tornet, tmp_path), check_seconds=0.5)
        async with running(settings, web=False) as service:
            async with await asyncio.start_unix_server(service.serve, settings.web_socket):
                await service.reachable()
            assert settings.web_socket is not None
            settings.web_socket.unlink()
            state = await service.until(lambda state: state.phase is TorPhase.UNREACHABLE)
            assert state.trouble
            async with await asyncio.start_unix_server(service.serve, settings.web_socket):
                await service.reachable()
                assert service.daemon.state.trouble is None

    run(story())


def test_browser_without_scripts_reads_the_page_through_tor(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings_for(tornet, tmp_path)) as service:
            address = await service.reachable()
            await asyncio.to_thread(look, address)

    def look(address: str) -> None:
        with Firefox(socks=tornet.socks) as browser:
            browser.go(f"http://{address}/")
            browser.find_text("scripts are off")
            assert browser.title() == "off"

    run(story())


def test_onion_service_of_the_network_carries_any_port(tornet: PrivateTorNetwork) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello from behind")
        writer.close()

    async def story() -> None:
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            address, close = tornet.onion_service(port)
            other, close_other = tornet.onion_service(port, onion_port=80)
            assert address != other
            for name, onion_port in ((address, 5222), (other, 80)):
                connection = await dial(
                    SocksProxy(tornet.socks), name, onion_port, credentials=None, timeout_seconds=20
                )
                reader, writer = await asyncio.open_connection(sock=connection)
                assert await asyncio.wait_for(reader.read(), 10) == b"hello from behind"
                writer.close()
            close()
            close_other()

    run(story())
