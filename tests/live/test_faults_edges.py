"""The desk's edges fail: the line to the admins is refused, tor hangs, the Tor network's directories are gone.

Each says so, and comes back by itself or as soon as the operator has set what is new.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.desks import desk_in
from tests.live.appliance import Appliance, run_command
from tests.live.maindesk import PASSWORDS, is_online, phone_of, set_up
from tests.live.overhttp import browser_at
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from tests.live.test_faults import LONG, desk, page_of
from tests.live.test_tor import running, settings_for
from veilsupport.model import Admin, Private
from veilsupport.tor import TorPhase, control
from veilsupport.xmpp import Account, Bridge, LinkState, Pace, Phase, Tls
from veilsupport.xmpp.account import Trust

only_long: Final = pytest.mark.skipif(not LONG, reason="takes a minute: VEILSUPPORT_TEST_LONG=1")


# ---- the line to the admins --------------------------------------------------------------------------------------


def test_changed_password_and_certificate_are_said_and_taken_from_setup(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Prosody(accounts=PASSWORDS) as server:
        set_up(data, server, host="127.0.0.1", port=server.port)
        with desk(data) as appliance:
            appliance.wait_until("online", is_online)
            asyncio.run(rings(appliance, server, "before"))
            server.stop()
            server.add_account("desk", "another password")
            appliance.wait_until("waiting", lambda told: told["xmpp"]["phase"] == "waiting")
            assert not appliance.status()["parts"]["xmpp"]["ready"]
            server.start()
            refused(appliance, "does not accept the account's name and password")
            assert appliance.stop() == 0
            fails = server.log().count("Failed authentication")
            (data / "new-password").write_text("another password\n")
            told = run_command("setup", "--data", str(data), "--password-file", str(data / "new-password"))
            assert told.returncode == 0, told.stderr
            (data / "new-password").unlink()
            appliance.start()
            appliance.wait_until("online", is_online)
            asyncio.run(rings(appliance, server, "between"))
            assert fails <= 1, "it hammers"

            server.stop()
            server.renew_certificate()
            server.start()
            refused(appliance, "is not the one with the configured fingerprint, so the password was not sent")
            assert appliance.stop() == 0
            told = run_command("setup", "--data", str(data), "--certificate", server.fingerprint)
            assert told.returncode == 0, told.stderr
            appliance.start()
            appliance.wait_until("online", is_online)
            asyncio.run(rings(appliance, server, "after"))
            assert appliance.stop() == 0


def refused(appliance: Appliance, words: str) -> None:
    """Said in the status, in the part's own words, on the terminal and in the log; and tried again slowly."""
    told = appliance.wait_until("refused", lambda told: told["xmpp"]["phase"] == "refused")
    assert words in told["xmpp"]["trouble"]
    assert words in told["parts"]["xmpp"]["state"]
    assert told["xmpp"]["next_try_at"] - time.time() > 200
    appliance.wait_for(rf"^XMPP: .*{words}", seconds=5)
    appliance.wait_for(rf"WARNING the XMPP server cannot be used: .*{words}", seconds=5)


async def rings(appliance: Appliance, server: Prosody, words: str) -> None:
    """What was written is kept, and comes."""
    async with phone_of(server) as phone:
        await browser_at(page_of(appliance)).start(words)
        await phone.room_text(words, seconds=30)


def test_line_comes_back_by_itself_once_certificate_and_password_are_what_they_were(tmp_path: Path) -> None:
    asyncio.run(asyncio.wait_for(there_and_back(tmp_path), 60))


async def there_and_back(directory: Path) -> None:
    states: list[LinkState] = []
    pace = Pace(first_pause=0.1, longest_pause=0.2, refused_pause=0.5)
    with Prosody(accounts=PASSWORDS) as server:
        ada = Admin("Ada", Private(server.jid("ada")))
        account = Account(
            *(Private(server.jid("desk")), Private(PASSWORDS["desk"]), "127.0.0.1", server.port),
            tls=Tls.STARTTLS,
            trust=Trust.PIN,
            fingerprint=server.fingerprint,
            proxy=None,
        )
        async with desk_in(directory, admins=(ada,)) as desk:
            bridge, stop = Bridge(desk, account, on_change=states.append, pace=pace), asyncio.Event()
            run = asyncio.create_task(bridge.run(stop))
            await until(lambda: bridge.state.phase is Phase.ONLINE)
            for harm, mend in ((server.renew_certificate, server.restore_certificate), lock_out(server)):
                await asyncio.to_thread(server.stop)
                harm()
                await asyncio.to_thread(server.start)
                await until(lambda: bridge.state.phase is Phase.REFUSED)
                await asyncio.to_thread(server.stop)
                mend()
                await asyncio.to_thread(server.start)
                await until(lambda: bridge.state.phase is Phase.ONLINE)
                assert bridge.state.trouble is None
            stop.set()
            await run


def lock_out(server: Prosody) -> tuple[Callable[[], None], Callable[[], None]]:
    return (
        lambda: server.add_account("desk", "another password"),
        lambda: server.add_account("desk", PASSWORDS["desk"]),
    )


async def until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.05)


# ---- tor ---------------------------------------------------------------------------------------------------------


def test_tor_that_hangs_is_started_again_with_the_same_address(
    tornet: PrivateTorNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ALIVE_SECONDS", 5)

    async def story() -> None:
        settings = replace(settings_for(tornet, tmp_path), check_seconds=1)
        async with running(settings) as service:
            address = await service.reachable()
            (pid,) = service.tor_pids()
            os.kill(pid, signal.SIGSTOP)
            await service.until(lambda state: state.restarts == 1, seconds=60)
            assert await service.reachable() == address
            assert service.tor_pids() != [pid]

    asyncio.run(asyncio.wait_for(story(), 120))


@only_long
def test_network_whose_directories_are_gone_is_said_and_the_page_is_back_when_they_are(
    tornet: PrivateTorNetwork, tmp_path: Path
) -> None:
    async def story() -> None:
        settings = replace(settings_for(tornet, tmp_path), check_seconds=1)
        async with running(settings) as service:
            await service.reachable()
            with tornet.frozen():
                state = await service.until(lambda state: state.phase is TorPhase.UNREACHABLE, seconds=90)
                assert state.trouble
                assert "not reachable" in state.summary
            await service.reachable()
            assert service.daemon.state.restarts == 0, "tor was well all the time"

    asyncio.run(asyncio.wait_for(story(), 180))


def test_service_that_starts_while_the_directories_are_gone_is_published_when_they_are_back(
    tornet: PrivateTorNetwork, tmp_path: Path
) -> None:
    async def story() -> None:
        settings = replace(settings_for(tornet, tmp_path), check_seconds=1, stall_seconds=2)
        with tornet.frozen():
            async with running(settings) as service:
                await service.until(lambda state: state.trouble is not None, seconds=60)
                assert service.daemon.state.descriptors_uploaded == 0
                tornet.thaw()
                await service.until(lambda state: state.phase is TorPhase.REACHABLE, seconds=120)

    asyncio.run(asyncio.wait_for(story(), 200))
