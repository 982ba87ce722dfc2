"""The first evening on a real terminal with real parts: tor, a server with its certificate, an admin who answers."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.appliance import Appliance, run_command
from tests.live.phone import Phone
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from tests.live.pseudoterminal import PseudoTerminal
from tests.ports import free_port
from tests.test_cli_setup import is_untouched, settings
from veilsupport import commands, config
from veilsupport.cli.rehearsal import Rehearsal
from veilsupport.config import FILE_NAME, XmppSettings
from veilsupport.errors import Unavailable
from veilsupport.model import Private
from veilsupport.tor import TorPhase, TorState

PASSWORDS = {"desk": "desk-password", "ada": "ada-password", "bob": "bob-password"}
TEST = "This is a test from your desk"


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    with Prosody(accounts=PASSWORDS) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[Prosody]:
    """With nothing in its archives."""
    with Prosody(accounts=PASSWORDS) as running:
        yield running


class Answering:
    """Ada's phone in a thread of its own: it answers the test message with that line, and keeps what it got."""

    def __init__(self, server: Prosody, line: str = "all well") -> None:
        self.got: list[str] = []
        self._server = server
        self._line = line
        self._ready = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))

    async def _live(self) -> None:
        server = self._server
        async with Phone(server.jid("ada"), PASSWORDS["ada"], desk=server.jid("desk"), port=server.port) as phone:
            self._ready.set()
            with contextlib.suppress(AssertionError):
                await phone.text(TEST, seconds=60)
                phone.say(self._line)
            while not self._over.is_set():
                await asyncio.sleep(0.05)
            self.got = [got.body for got in phone.inbox]

    def __enter__(self) -> Answering:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def account_is_answered(screen: PseudoTerminal, server: Prosody, *, host: str, port: int) -> None:
    screen.answers("Account", server.jid("desk"))
    screen.answers("Its password", PASSWORDS["desk"])
    screen.answers("Server to dial", host)
    screen.answers("Its port", str(port))


def admin_is_answered(screen: PseudoTerminal, server: Prosody) -> None:
    screen.answers("Account of one", server.jid("ada"))
    screen.answers("Name", "")
    screen.answers("no more", "")


# ---- on a terminal ---------------------------------------------------------------------------------------------------


def test_first_start_asks_tries_and_runs(own_server: Prosody, tmp_path: Path) -> None:
    server, data = own_server, tmp_path / "data"
    command = ["run", "--no-tor", "--port", str(free_port()), "--data", str(data)]
    with Answering(server) as ada, PseudoTerminal(*command) as screen:
        screen.answers("Passphrase", "secret")
        screen.answers("once more", "secret")
        account_is_answered(screen, server, host="127.0.0.1", port=free_port())
        screen.shows("It does not work")
        screen.answers("again/other/save", "other")
        screen.answers("Server to dial", "")
        screen.answers("Its port", str(server.port))
        screen.answers("starttls/direct/none", "")
        pairs = re.findall("..", server.fingerprint.upper())
        screen.shows(":".join(pairs[:16]) + r":\n\s+" + ":".join(pairs[16:]))
        assert not server.has_signed_in(server.jid("desk"))
        screen.answers("pin/any/stop", "pin")
        admin_is_answered(screen, server)
        screen.shows("Ada has answered")
        screen.answers("desk's name", "Night line")
        assert is_untouched(data)
        screen.answers("First sentence", "")
        screen.shows("Settings are saved")
        screen.shows("XMPP: connected")
        assert max(map(len, screen.text.partition("Settings are saved")[0].splitlines())) <= 80
        assert screen.interrupts() == 0
        assert screen.echoes
    assert settings(data)["xmpp"]["certificate"] == server.fingerprint
    assert settings(data)["desk"] == {"name": "Night line"}
    assert [line.partition(".")[0] for line in ada.got] == [TEST, "Thank you, your answer has come"]
    assert "passphrase" in run_command("run", "--no-tor", "--data", str(data)).stderr


def test_wrong_password_is_asked_again_alone(server: Prosody, tmp_path: Path) -> None:
    with PseudoTerminal("setup", "--data", str(tmp_path / "data")) as screen:
        screen.answers("Passphrase", "")
        screen.answers("Account", server.jid("desk"))
        screen.answers("Its password", "wrong")
        screen.answers("Server to dial", "127.0.0.1")
        screen.answers("Its port", str(server.port))
        screen.answers("pin/any/stop", "any")
        screen.shows("does not accept")
        screen.answers("Its password", PASSWORDS["desk"])
        screen.shows("accepts the account")
        assert screen.text.count("Server to dial") == 1
        assert screen.text.count("pin/any/stop") == 1
        screen.answers("Account of one", server.jid("ada"))
        screen.answers("Name", "")
        screen.answers("no more", "")
        screen.shows("Enter goes on without")
        screen.types("\n")
        screen.shows("Ada has not answered")
        screen.shows("accept the desk's account")
        screen.shows("desk's name")
        assert screen.interrupts() == 130
    assert is_untouched(tmp_path / "data")


def test_certificate_that_verifies_may_be_taken_by_its_name_and_an_unknown_one_stops_it(
    server: Prosody, tmp_path: Path
) -> None:
    trusted = {"SSL_CERT_FILE": str(server.directory / "server.crt")}
    data = ["--data", str(tmp_path / "data")]
    with PseudoTerminal("setup", *data, env=trusted) as screen:
        screen.answers("Passphrase", "")
        account_is_answered(screen, server, host="127.0.0.1", port=server.port)
        screen.shows("valid for the account's server")
        screen.answers("verify/pin/any/stop", "verify")
        screen.shows("accepts the account")
        screen.shows("Account of one")
        assert screen.interrupts() == 130
    with PseudoTerminal("setup", *data) as screen:
        screen.answers("Passphrase", "")
        account_is_answered(screen, server, host="127.0.0.1", port=server.port)
        screen.answers("pin/any/stop", "stop")
        assert screen.ends() == 130
        assert "Nothing was changed" in screen.text
    assert is_untouched(tmp_path / "data")


def test_through_tor_with_progress_and_then_the_address_with_its_code(
    tornet: PrivateTorNetwork, own_server: Prosody, tmp_path: Path
) -> None:
    server, data = own_server, tmp_path / "data"
    data.mkdir(mode=0o700)
    lines = ", ".join(f'"{line}"' for line in tornet.torrc_lines)
    (data / FILE_NAME).write_text(f"[tor]\nlines = [{lines}]\n")
    onion, close = tornet.onion_service(server.port)
    try:
        with Answering(server), PseudoTerminal("run", "--data", str(data)) as screen:
            screen.answers("Passphrase", "")
            account_is_answered(screen, server, host=onion, port=5222)
            screen.shows(r"█░* +\d+ % Tor: ")
            screen.shows("Tor: connected to the Tor network\n", seconds=90)
            screen.answers("pin/any/stop", "any", seconds=90)
            admin_is_answered(screen, server)
            screen.shows("Ada has answered", seconds=60)
            screen.answers("desk's name", "")
            screen.answers("First sentence", "")
            screen.shows("Settings are saved")
            screen.shows(r"\d+ % Tor: ")
            screen.shows("Your page is reachable", seconds=120)
            screen.shows(r"█▀▀|▄▄▄▄▄")
            screen.shows(r"http://[a-z2-7]{56}\.onion/")
            progress = [line for line in screen.text.replace("\r", "\n").splitlines() if " % Tor" in line]
            assert max(map(len, progress)) < 80
            assert screen.interrupts() == 0
    finally:
        close()


def test_tor_that_is_not_there_is_said_before_anything_is_kept(server: Prosody, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / FILE_NAME).write_text('[tor]\nexecutable = "/nonexistent/tor"\n')
    with PseudoTerminal("setup", "--data", str(data)) as screen:
        screen.answers("Passphrase", "")
        account_is_answered(screen, server, host="chat.example", port=5222)
        assert screen.ends() == 2
        assert "tor is not installed" in screen.text
    assert not (data / "appliance.key").exists()


# A private network whose only authority is not there: this tor starts, and gets nowhere.
_NOWHERE = (
    "TestingTorNetwork 1",
    f"DirAuthority gone orport=1 no-v2 v3ident={'A' * 40} 127.0.0.1:1 {'B' * 40}",
)


def tor_is_gone(data: Path) -> bool:
    with (data / "tor" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # tor inherits it
        return True


def test_ctrl_c_while_tor_connects_takes_tor_along(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / FILE_NAME).write_text(f"[tor]\nlines = {json.dumps(_NOWHERE)}\n")
    with PseudoTerminal("setup", "--data", str(data)) as screen:
        screen.answers("Passphrase", "")
        screen.answers("Account", "desk@chat.example")
        screen.answers("Its password", "pw")
        screen.answers("Server to dial", "")
        screen.answers("Its port", "")
        screen.shows(r"% Tor: ")
        assert screen.interrupts() == 130
        assert screen.echoes
    assert tor_is_gone(data)
    assert not (data / "appliance.key").exists()


def test_tor_that_gets_nowhere_is_waited_for_no_longer_than_it_may(tmp_path: Path) -> None:
    settings = config.check({"tor": {"lines": _NOWHERE}})
    seen: list[TorState] = []
    xmpp = XmppSettings(jid="desk@chat.example")
    with Rehearsal(settings, tmp_path / "tor", on_tor=seen.append, still_seconds=2) as rehearsal:
        for _ in range(2):  # asked again, with the same tor
            with pytest.raises(Unavailable):
                rehearsal.account(xmpp, Private("pw"))
        assert TorPhase.BOOTSTRAPPING in {state.phase for state in seen}
        assert seen[-1].restarts == 0
    assert tor_is_gone(tmp_path)


# ---- unattended ------------------------------------------------------------------------------------------------------


def checked(server: Prosody, data: Path, *more: str, password: str = PASSWORDS["desk"]) -> tuple[int, str]:
    answers = ["--jid", server.jid("desk"), "--host", "127.0.0.1", "--port", str(server.port)]
    answers += ["--admin", f"{server.jid('ada')}=Ada"]
    env = {"VEILSUPPORT_XMPP_PASSWORD": password}
    done = run_command("setup", "--data", str(data), *answers, "--check", *more, env=env)
    return done.returncode, done.stdout + done.stderr


def test_check_names_what_is_wrong_and_then_nothing_is_saved(server: Prosody, tmp_path: Path) -> None:
    for more, password, words in (
        ([], PASSWORDS["desk"], "cannot be verified"),
        (["--certificate", "0" * 64], PASSWORDS["desk"], "not the one whose fingerprint is set"),
        (["--certificate", server.fingerprint], "wrong", "name and password"),
        (["--certificate", "any", "--ring", "1"], PASSWORDS["desk"], "No answer to the test message: Ada"),
    ):
        status, told = checked(server, tmp_path / "data", *more, password=password)
        assert (status, words in told, "hint:" in told) == (2, True, True), told
    assert is_untouched(tmp_path / "data")


def test_check_that_finds_all_well_saves(own_server: Prosody, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Answering(own_server):
        status, told = checked(own_server, data, "--certificate", own_server.fingerprint, "--ring", "30")
    assert status == 0, told
    assert "Test message: Ada answered." in told
    assert settings(data)["admin"] == [{"jid": own_server.jid("ada"), "name": "Ada"}]
    done = run_command("setup", "--data", str(data), "--check")
    assert done.returncode == 0, done.stderr
    assert "Settings are saved" not in done.stdout


def test_desk_passes_over_the_answer_to_the_test_message(own_server: Prosody, tmp_path: Path) -> None:
    """It has read its archive up to there before, and would ask Ada whom she means."""
    server, data = own_server, tmp_path / "data"
    assert checked(server, data, "--certificate", server.fingerprint)[0] == 0
    desk = Appliance(data, "--no-tor", "--port", str(free_port()))
    with desk:
        desk.wait_for("XMPP: connected")
        asyncio.run(asks_for_help(server))
    with Answering(server, "meant for nobody"):
        done = run_command("setup", "--data", str(data), "--check", "--ring", "30")
        assert done.returncode == 0, done.stderr
    with desk:
        desk.wait_for("XMPP: connected")
        got = asyncio.run(asks_for_help(server))
    assert [line.splitlines()[0] for line in got] == [commands.help_text().splitlines()[0]]


async def asks_for_help(server: Prosody) -> list[str]:
    """All that Ada gets until the answer is there."""
    async with Phone(server.jid("ada"), PASSWORDS["ada"], desk=server.jid("desk"), port=server.port) as ada:
        ada.say("!help")
        await ada.text("!help: show this", seconds=30)
        return [got.body for got in ada.inbox]
