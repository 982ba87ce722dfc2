"""The parts of the tor room that need no tor: torrc, paths, words, states. The rest: live/test_tor.py."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilsupport.errors import SetupError, Unavailable
from veilsupport.socks import SocksProxy
from veilsupport.tor import OURSELVES, Access, Client, PrivateService, TorDaemon, TorPhase, TorSettings, TorState
from veilsupport.tor.child import Child, locked
from veilsupport.tor.control import Control
from veilsupport.tor.daemon import _Life, _without_lost_clients
from veilsupport.tor.onion import (
    check_reachable,
    clear_leftovers,
    prepare_directories,
    read_address,
    render_torrc,
    write_torrc,
)
from veilsupport.tor.state import (
    NO_NETWORK,
    Bootstrap,
    ClockSkew,
    ControlLost,
    DescriptorUploaded,
    Liveness,
    PrivateState,
    after,
    checked_badly,
    checked_well,
    connected,
    parse_bootstrap,
    published_anew,
    restarting,
    starting,
)

ADDRESS = "a" * 56 + ".onion"
PRIVATE_ADDRESS = "b" * 56 + ".onion"
ADA = Client("ada", "A" * 51 + "Q")
BOB = Client("bob", "B" * 51 + "Q")
BOOTSTRAPPING = replace(starting(TorState()), phase=TorPhase.BOOTSTRAPPING, progress=10)
REACHABLE = checked_well(replace(TorState(), phase=TorPhase.PUBLISHING), now=1000.0)


def settings(directory: Path = Path("/srv/veil/tor"), **changes: object) -> TorSettings:
    mine = TorSettings(directory=directory, onion=directory / "onion", web_socket=directory / "web.sock")
    return replace(mine, **changes)  # type: ignore[arg-type]


def private(directory: Path, *clients: Client) -> PrivateService:
    return PrivateService(directory / "onion-xmpp", PRIVATE_ADDRESS, 5222, 15222, clients)


def lines(of: TorSettings) -> list[str]:
    return render_torrc(of, owner_pid=4711).splitlines()


# torrc


@pytest.mark.parametrize(
    "line",
    [
        "DisableNetwork 1",
        "ClientOnly 1",
        "AvoidDiskWrites 1",
        "SafeLogging 1",
        "Log notice stdout",
        "__OwningControllerProcess 4711",
        'ControlPort unix:"/srv/veil/tor/run/control.sock"',
        'SocksPort unix:"/srv/veil/tor/run/socks.sock" ExtendedErrors',
        'HiddenServiceDir "/srv/veil/tor/onion"',
        'HiddenServicePort 80 unix:"/srv/veil/tor/web.sock"',
        "HiddenServiceExportCircuitID haproxy",
        "HiddenServicePoWDefensesEnabled 1",
        "HiddenServiceMaxStreamsCloseCircuit 0",
        "HiddenServiceEnableIntroDoSDefense 1",
    ],
)
def test_torrc_has_each_option_once(line: str) -> None:
    assert lines(settings()).count(line) == 1


def test_every_listener_in_the_torrc_is_a_unix_socket() -> None:
    ports = [line for line in lines(settings()) if line.partition(" ")[0].endswith("Port")]
    assert len(ports) == 3
    assert all("unix:" in line for line in ports)


def test_private_service_without_clients_is_not_published(tmp_path: Path) -> None:
    assert lines(settings(tmp_path, private=private(tmp_path))) == lines(settings(tmp_path))


def test_private_service_comes_last_and_takes_none_of_the_pages_options(tmp_path: Path) -> None:
    mine = lines(settings(tmp_path, private=private(tmp_path, ADA)))
    assert mine[:-3] == lines(settings(tmp_path))
    assert mine[-3:] == [
        f'HiddenServiceDir "{tmp_path}/onion-xmpp"',
        "HiddenServiceVersion 3",
        "HiddenServicePort 5222 127.0.0.1:15222",
    ]


def test_tor_that_reads_its_torrc_again_stays_online() -> None:
    mine = render_torrc(settings(), owner_pid=4711, online=True).splitlines()
    assert [line.replace("DisableNetwork 0", "DisableNetwork 1") for line in mine] == lines(settings())
    assert "DisableNetwork 0" in mine


def test_operator_lines_come_before_ours_so_that_ours_win() -> None:
    with_bridge = lines(settings(torrc_lines=("UseBridges 1", "DisableNetwork 0")))
    assert with_bridge[:2] == ["UseBridges 1", "DisableNetwork 0"]
    assert with_bridge[2:] == lines(settings())


@pytest.mark.parametrize("evil", ["Nickname a\nSocksPort 9050", "A 1\rB 2", "Nickname a\\", "A\\  ", "A \x00"])
def test_operator_line_that_is_more_than_one_is_refused(evil: str) -> None:
    with pytest.raises(SetupError, match="not one line"):
        render_torrc(settings(torrc_lines=(evil,)), owner_pid=1)


@given(st.text())
def test_no_operator_line_ever_becomes_two(line: str) -> None:
    try:
        torrc = render_torrc(settings(torrc_lines=(line,)), owner_pid=4711)
    except SetupError:
        return
    first, _, rest = torrc.partition("\n")
    assert first == line
    assert not first.rstrip().endswith("\\")
    assert rest == render_torrc(settings(), owner_pid=4711)


@pytest.mark.parametrize("name", ["a#b", 'a"b', "a\\b", "a\nb"])
def test_path_that_tor_would_misread_is_refused(name: str) -> None:
    with pytest.raises(SetupError, match="cannot use this data directory"):
        render_torrc(settings(Path("/srv") / name), owner_pid=1)


def test_relative_path_is_refused() -> None:
    with pytest.raises(SetupError):
        render_torrc(settings(Path("data/tor")), owner_pid=1)


def test_path_with_a_space_is_quoted() -> None:
    assert 'HiddenServiceDir "/srv/my data/onion"' in lines(settings(Path("/srv/my data")))


def test_longest_socket_path_fits_and_one_byte_more_is_a_setup_error() -> None:
    fixed = len("//run/control.sock")
    assert lines(settings(Path("/" + "x" * (107 - fixed))))
    with pytest.raises(SetupError, match="too long") as caught:
        render_torrc(settings(Path("/" + "x" * (108 - fixed))), owner_pid=1)
    assert "107 bytes" in caught.value.hint


def test_path_length_counts_bytes_not_letters() -> None:
    with pytest.raises(SetupError, match="too long"):
        render_torrc(settings(Path("/" + "ü" * 50)), owner_pid=1)


def test_path_of_the_web_socket_counts_too() -> None:
    with pytest.raises(SetupError, match="too long"):
        render_torrc(settings(web_socket=Path("/" + "x" * 107)), owner_pid=1)


# Files


def test_directories_and_torrc_are_ours_alone(tmp_path: Path) -> None:
    mine = settings(tmp_path / "tor")
    prepare_directories(mine)
    mine.control_socket.touch()
    write_torrc(mine)
    clear_leftovers(mine)
    assert mine.onion is not None
    for directory in (mine.directory, mine.onion, mine.directory / "run", mine.directory / "data"):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert mine.torrc.stat().st_mode & 0o777 == 0o600
    assert not mine.control_socket.exists(), "an earlier tor's socket must not be taken for the new one's"


def test_clients_are_files_of_ours_alone_and_whoever_is_gone_has_none(tmp_path: Path) -> None:
    service = private(tmp_path, ADA, BOB)
    service.directory.mkdir()
    prepare_directories(settings(tmp_path, private=service))
    write_torrc(settings(tmp_path, private=service))
    files = service.directory / "authorized_clients"
    assert (files / "ada.auth").read_text() == f"descriptor:x25519:{ADA.key}\n"
    assert files.stat().st_mode & 0o777 == 0o700
    assert (files / "ada.auth").stat().st_mode & 0o777 == 0o600
    write_torrc(settings(tmp_path, private=private(tmp_path, BOB)))
    assert [path.name for path in files.iterdir()] == ["bob.auth"]
    write_torrc(settings(tmp_path, private=private(tmp_path)))
    assert list(files.iterdir()) == []


def test_directory_that_cannot_be_made_is_a_setup_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be made"):
        prepare_directories(settings(tmp_path / "file" / "tor"))


def test_settings_that_the_disk_does_not_take_are_a_setup_error(tmp_path: Path) -> None:
    mine = settings(tmp_path)
    prepare_directories(mine)
    mine.torrc.mkdir()
    with pytest.raises(SetupError, match="cannot be written"):
        write_torrc(mine)


def test_address_is_read_when_it_is_one(tmp_path: Path) -> None:
    mine = settings(tmp_path)
    assert mine.onion is not None
    prepare_directories(mine)
    with pytest.raises(Unavailable):
        read_address(mine)
    (mine.onion / "hostname").write_text("not-an-address\n")
    with pytest.raises(Unavailable):
        read_address(mine)
    (mine.onion / "hostname").write_text(f"{ADDRESS}\n")
    assert read_address(mine) == ADDRESS


def test_lock_is_waited_for_and_then_a_setup_error(tmp_path: Path) -> None:
    waits: list[None] = []

    async def take() -> None:
        async with locked(
            settings(tmp_path, leftover_seconds=0.05), asyncio.Event(), on_wait=lambda: waits.append(None)
        ):
            pass

    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SetupError, match="another tor"):
            asyncio.run(take())
    assert waits
    asyncio.run(take())


@pytest.mark.parametrize("executable", ["no-such-tor", "/nonexistent/tor"])
def test_missing_tor_is_a_setup_error(tmp_path: Path, executable: str) -> None:
    states: list[TorState] = []
    daemon = TorDaemon(settings(tmp_path, executable=executable), on_change=states.append)
    with pytest.raises(SetupError, match="not installed"):
        asyncio.run(daemon.run(asyncio.Event()))
    assert states[-1].phase is TorPhase.FAILED


def test_tor_without_proof_of_work_is_a_setup_error(tmp_path: Path) -> None:
    old = tmp_path / "tor"
    old.write_text("#!/bin/sh\necho 'relay: yes'\necho 'pow: no'\n")
    old.chmod(0o700)
    daemon = TorDaemon(settings(tmp_path / "t", executable=str(old)), on_change=lambda state: None)
    with pytest.raises(SetupError, match="proof-of-work"):
        asyncio.run(daemon.run(asyncio.Event()))


# The self-check, against a small server in tor's place


async def _socks_and_page(answer: bytes, path: Path) -> list[bytes]:
    """Run the self-check through a proxy that answers for the page too; return the requests it saw."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        writer.write(b"\x05\x02")
        _, length = await reader.readexactly(2)
        requests.append(await reader.readexactly(length))
        await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\x01\x00")
        await reader.readexactly(4 + 1 + len(ADDRESS) + 2)
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        await check_reachable(SocksProxy(path), ADDRESS, "/check", timeout_seconds=5)
    return requests


@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
def test_self_check_asks_for_our_page_by_its_own_name(tmp_path: Path, status: str) -> None:
    requests = asyncio.run(_socks_and_page(f"HTTP/1.1 {status}\r\n\r\n".encode(), tmp_path / "s"))
    assert requests[0] == b"self-check"
    assert requests[1].startswith(b"GET /check HTTP/1.1\r\n")
    assert f"\r\nHost: {ADDRESS}\r\n".encode() in requests[1]


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 500\r\n\r\n", b"SSH-2.0\r\n", b"x" * 100_000],
    ids=["nothing", "404", "500", "no http", "endless line"],
)
def test_self_check_takes_nothing_but_success(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(Unavailable) as caught:
        asyncio.run(_socks_and_page(answer, tmp_path / "s"))
    assert ADDRESS not in str(caught.value)


# Bootstrap lines


def test_bootstrap_line_is_read() -> None:
    line = 'NOTICE BOOTSTRAP PROGRESS=45 TAG=requesting_descriptors SUMMARY="Asking for relay descriptors"'
    assert parse_bootstrap(line) == Bootstrap(45, "Asking for relay descriptors")


def test_bootstrap_line_with_trouble_is_read() -> None:
    line = (
        'WARN BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting to a relay" WARNING="Connection refused" '
        'REASON=CONNECTREFUSED COUNT=1 RECOMMENDATION=ignore HOSTID="AAAA" HOSTADDR="192.0.2.1:9001"'
    )
    assert parse_bootstrap(line) == Bootstrap(5, "Connecting to a relay", "CONNECTREFUSED")


@pytest.mark.parametrize("line", ["", "NOTICE", "PROGRESS=many", 'PROGRESS=1 SUMMARY="open'])
def test_other_lines_are_no_bootstrap(line: str) -> None:
    with pytest.raises(ValueError):
        parse_bootstrap(line)


@given(st.integers(-10, 1000))
def test_progress_stays_a_percentage(number: int) -> None:
    assert 0 <= parse_bootstrap(f"PROGRESS={number}").progress <= 100


# States


def test_bootstrap_moves_from_starting_to_publishing() -> None:
    state = after(starting(TorState()), Bootstrap(10, "Connected to a relay"))
    assert (state.phase, state.progress, state.summary) == (
        TorPhase.BOOTSTRAPPING,
        10,
        "Connected to a relay",
    )
    assert after(state, Bootstrap(100, "Done")).phase is TorPhase.PUBLISHING


def test_bootstrap_trouble_is_told_in_plain_words_until_there_is_progress() -> None:
    state = after(BOOTSTRAPPING, Bootstrap(10, "Connecting", "CONNECTREFUSED"))
    assert state.trouble == "connections to the Tor network are refused; a firewall may block Tor"
    assert after(state, Bootstrap(10, "Connecting")).trouble == state.trouble
    assert after(state, Bootstrap(15, "Connected")).trouble is None


def test_unknown_trouble_has_words_too() -> None:
    assert after(BOOTSTRAPPING, Bootstrap(10, "", "NEVER_SEEN")).trouble == "tor cannot reach the Tor network"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3600, "about 60 minutes slow"),
        (7260, "about 2 hours fast"),
        (None, "clock is wrong; Tor needs"),
        (5, "clock is wrong; Tor needs"),
    ],
)
def test_wrong_clock_is_told_and_stays_told_until_tor_is_connected(seconds: int | None, words: str) -> None:
    state = after(BOOTSTRAPPING, ClockSkew(seconds))
    assert state.trouble is not None
    assert words in state.trouble
    assert after(state, Bootstrap(30, "x")).trouble == state.trouble
    assert after(state, Bootstrap(30, "x", "TIMEOUT")).trouble == state.trouble
    assert after(state, Bootstrap(100, "Done")).trouble is None


def test_late_bootstrap_news_does_not_shake_a_reachable_service() -> None:
    assert after(REACHABLE, Bootstrap(100, "Done")) is REACHABLE
    assert after(REACHABLE, Bootstrap(90, "x", "TIMEOUT")) is REACHABLE


def test_silent_network_is_told_until_it_is_heard_again() -> None:
    silent = after(REACHABLE, Liveness(up=False))
    assert silent.trouble == NO_NETWORK
    assert checked_badly(silent, "x", failures=2, now=1.0).trouble == NO_NETWORK
    assert after(silent, Liveness(up=True)) == REACHABLE
    assert after(REACHABLE, Liveness(up=True)) is REACHABLE


def test_news_for_the_daemon_changes_no_words() -> None:
    assert after(REACHABLE, DescriptorUploaded(ADDRESS, "AAAA")) is REACHABLE
    assert after(REACHABLE, ControlLost()) is REACHABLE


def test_one_failed_check_is_weather_and_two_are_not() -> None:
    once = checked_badly(REACHABLE, "gone", failures=1, now=2.0)
    assert (once.phase, once.checked_at, once.trouble) == (TorPhase.REACHABLE, 2.0, None)
    twice = checked_badly(once, "gone", failures=2, now=3.0)
    assert (twice.phase, twice.trouble) == (TorPhase.UNREACHABLE, "gone")
    assert checked_well(twice, now=4.0) == replace(REACHABLE, checked_at=4.0)


def test_fresh_service_has_more_patience() -> None:
    publishing = after(BOOTSTRAPPING, Bootstrap(100, "Done"))
    assert checked_badly(publishing, "gone", failures=3, now=1.0).phase is TorPhase.PUBLISHING
    assert checked_badly(publishing, "gone", failures=4, now=1.0).phase is TorPhase.UNREACHABLE


def test_restart_is_counted_and_its_reason_stays_told_until_progress() -> None:
    again = starting(restarting(REACHABLE, "tor was killed by signal 9"))
    assert (again.restarts, again.progress, again.descriptors_uploaded) == (1, 0, 0)
    assert again.trouble == "tor was killed by signal 9"
    assert after(again, Bootstrap(5, "x")).trouble is None


def test_private_state_says_whether_it_is_published() -> None:
    assert PrivateState(PRIVATE_ADDRESS, 0).summary == "not published: no client is authorised"
    assert PrivateState(PRIVATE_ADDRESS, 1).summary == "not published yet"
    assert PrivateState(PRIVATE_ADDRESS, 1, 2).summary == "published, for 1 client"
    published = replace(REACHABLE, private=PrivateState(PRIVATE_ADDRESS, 2, 6))
    assert published.private is not None
    assert published.private.summary == "published, for 2 clients"
    for changed in (restarting(published, "killed"), starting(published)):
        assert changed.private == PrivateState(PRIVATE_ADDRESS, 2)
    assert PRIVATE_ADDRESS not in str(published)


def test_private_service_is_changed_before_tor_runs(tmp_path: Path) -> None:
    states: list[TorState] = []
    daemon = TorDaemon(settings(tmp_path), on_change=states.append)
    assert daemon.state.private is None
    daemon.serve_privately(private(tmp_path, ADA))
    daemon.serve_privately(private(tmp_path, ADA))
    assert [state.private for state in states] == [PrivateState(PRIVATE_ADDRESS, 1)]
    daemon.serve_privately(None)
    assert daemon.state.private is None


@pytest.mark.parametrize("show", [str, repr, "{}".format])
def test_state_and_news_print_without_the_address(show: Callable[[object], str]) -> None:
    assert ADDRESS not in show(replace(TorState(), address=ADDRESS))
    assert ADDRESS not in show(DescriptorUploaded(ADDRESS, "AAAA"))


# A client only, and a page for clients alone


def client_only(directory: Path) -> TorSettings:
    return TorSettings(directory=directory, onion=None)


def test_client_only_publishes_nothing_and_has_no_directory_for_it(tmp_path: Path) -> None:
    mine = client_only(tmp_path / "tor")
    prepare_directories(mine)
    write_torrc(mine)
    assert "HiddenService" not in mine.torrc.read_text()
    assert sorted(path.name for path in mine.directory.iterdir()) == ["data", "run", "torrc"]


def test_client_only_is_connected_and_waits_for_nothing_more() -> None:
    state = connected(after(BOOTSTRAPPING, Bootstrap(100, "Done")))
    assert (state.phase, state.progress, state.trouble) == (TorPhase.CONNECTED, 100, None)
    assert "published" not in state.summary


def test_clients_of_the_page_are_written_before_it_can_be_published(tmp_path: Path) -> None:
    mine = settings(tmp_path, clients=(ADA, BOB))
    prepare_directories(mine)
    write_torrc(mine)
    files = tmp_path / "onion" / "authorized_clients"
    assert {path.name for path in files.iterdir()} == {"ada.auth", "bob.auth"}
    write_torrc(settings(tmp_path))
    assert list(files.iterdir()) == [], "without clients everybody may come"


def test_page_of_others_clients_has_to_be_found_again_once_it_was_published() -> None:
    anew = published_anew(replace(REACHABLE, descriptors_uploaded=6))
    assert (anew.phase, anew.descriptors_uploaded) == (TorPhase.PUBLISHING, 0)
    assert published_anew(BOOTSTRAPPING) is BOOTSTRAPPING


OURS = Client(OURSELVES, "C" * 51 + "Q")


@pytest.mark.parametrize(
    ("was", "now", "cut"),
    [
        ((), (ADA, OURS), True),  # everybody might
        ((ADA, OURS), (ADA, BOB, OURS), False),
        ((ADA, BOB, OURS), (BOB, OURS), True),
        ((ADA, OURS), (), False),  # everybody may
        ((), (), False),
    ],
)
def test_page_is_cut_off_when_somebody_may_reach_it_no_more(
    tmp_path: Path, was: tuple[Client, ...], now: tuple[Client, ...], *, cut: bool
) -> None:
    before, after_it = settings(tmp_path, clients=was), settings(tmp_path, clients=now)
    without = _without_lost_clients(before, after_it)
    assert (without.onion is None) is cut
    assert replace(without, onion=after_it.onion) == after_it


def test_page_and_private_service_are_cut_off_each_for_itself(tmp_path: Path) -> None:
    both = settings(tmp_path, clients=(ADA,), private=private(tmp_path, ADA, BOB))
    assert _without_lost_clients(both, replace(both, clients=(BOB,))) == replace(both, clients=(BOB,), onion=None)
    fewer = replace(both, private=private(tmp_path, ADA))
    assert _without_lost_clients(both, fewer) == replace(fewer, private=None)


def test_clients_are_counted_without_our_own_tor(tmp_path: Path) -> None:
    states: list[TorState] = []
    daemon = TorDaemon(settings(tmp_path), on_change=states.append)
    daemon.serve((ADA, OURS))
    daemon.serve((ADA, OURS))
    assert [state.clients for state in states] == [1]
    daemon.serve(())
    assert daemon.state.clients == 0


class Reloads(Control):
    """Counts how often tor was told to read its torrc again."""

    def __init__(self) -> None:
        super().__init__(None)
        self.count = 0

    async def reload(self) -> None:
        self.count += 1


async def let_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_rush_on_a_full_disk_does_not_end_tor(tmp_path: Path) -> None:
    mine = settings(tmp_path)
    prepare_directories(mine)

    async def story() -> None:
        daemon, control = TorDaemon(mine, on_change=lambda state: None), Reloads()
        life = _Life(cast(Child, None), mine)
        mine.torrc.mkdir()
        taking = asyncio.create_task(daemon._take_changes(life, control))
        daemon.press(True)
        await let_run()
        assert not taking.done()
        assert control.count == 0
        daemon.press(False)
        mine.torrc.rmdir()
        daemon.press(True)
        await let_run()
        assert control.count == 1
        assert "HiddenServicePoWQueueRate 100" in mine.torrc.read_text()
        mine.torrc.unlink()
        mine.torrc.mkdir()
        daemon.serve((ADA,))  # who may come in is another matter
        with pytest.raises(SetupError):
            await taking

    asyncio.run(story())


class Hurried(asyncio.SelectorEventLoop):
    """A loop whose clock can be set forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def test_a_tor_that_takes_its_time_in_a_flood_is_not_given_up() -> None:
    loop = Hurried()

    class Slow:
        """stem's controller, where each answer takes twenty seconds."""

        def msg(self, _line: str) -> Slow:
            loop.ahead += 20
            return self

        signal = msg

        def content(self) -> list[tuple[str]]:
            return [("250",)]

    async def story() -> None:
        control = Control(Slow())
        await control.close_circuit(7)
        await control.reload()
        await control.admit(Access(ADDRESS, b"k" * 32))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(story())


@pytest.mark.parametrize("show", [str, repr])
def test_access_and_clients_print_nothing(tmp_path: Path, show: Callable[[object], str]) -> None:
    shown = show(settings(tmp_path, clients=(ADA,), access=Access(ADDRESS, b"k" * 32)))
    assert ADDRESS not in shown
    assert ADA.key not in shown
    assert "kkkk" not in shown
