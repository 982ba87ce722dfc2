"""The desk's OMEMO fingerprint: shown by setup, and the same ever after."""

from __future__ import annotations

import re
from pathlib import Path

from tests.live.appliance import Appliance, run_command
from tests.ports import free_port

ACCOUNT = ("--jid", "desk@chat.example", "--host", "127.0.0.1", "--port", "9", "--admin", "ada@chat.example=Ada")
PASSWORD = {"VEILSUPPORT_XMPP_PASSWORD": "pw"}
URI = re.compile(r"xmpp:desk@chat\.example\?omemo-sid-\d+=[0-9a-f]{64}")


def set_up(data: Path, *more: str) -> str:
    done = run_command("setup", "--data", str(data), *ACCOUNT, *more, env=PASSWORD)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_setup_says_the_fingerprint_and_the_running_desk_has_the_same(tmp_path: Path) -> None:
    data = tmp_path / "data"
    said = URI.search(set_up(data))
    assert said is not None
    fingerprint = said[0].rpartition("=")[2]
    assert run_command("omemo", "--data", str(data)).returncode == 1  # nothing runs
    with Appliance(data, "--no-tor", "--port", str(free_port())) as appliance:
        appliance.wait_for_page()
        appliance.wait_until("keys loaded", lambda told: told["xmpp"]["omemo"])
        shown = run_command("omemo", "--data", str(data))
        assert shown.returncode == 0
        assert said[0] in shown.stdout
        assert fingerprint[:8] + " " + fingerprint[8:16] in shown.stdout
        assert said[0] in run_command("status", "--data", str(data)).stdout


def test_without_any_admin_who_wants_it_there_is_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    set_up(data)
    settings = data / "veilsupport.toml"
    settings.write_text(settings.read_text().replace('name = "Ada"', 'name = "Ada", omemo = "off"'))
    assert URI.search(set_up(data)) is None
