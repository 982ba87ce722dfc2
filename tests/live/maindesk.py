"""The desk of most live tests: its accounts, how its operator sets it up, and who is at its phone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.live.appliance import run_command
from tests.live.phone import Phone
from tests.live.prosody import Prosody
from veilsupport.config import FILE_NAME

PASSWORDS: Final = {"desk": "desk-password", "ada": "ada-password", "markmallory": "mallory-password"}
GIVEN: Final = {"VEILSUPPORT_XMPP_PASSWORD": PASSWORDS["desk"]}  # what setup finds in its environment
BACKUP: Final = {"VEILSUPPORT_BACKUP_PASSPHRASE": "correct horse"}


def set_up(data: Path, server: Prosody, *, host: str, port: int, torrc_lines: tuple[str, ...] = ()) -> None:
    """As an operator does it, by flags; and torrc lines by hand in the file."""
    done = run_command("setup", "--data", str(data), *answers_for(server, host=host, port=port), env=GIVEN)
    assert done.returncode == 0, done.stderr
    write_torrc_lines(data, torrc_lines)


def answers_for(server: Prosody, *, host: str, port: int) -> list[str]:
    answers = ["--jid", server.jid("desk"), "--host", host, "--port", str(port), "--certificate", server.fingerprint]
    return [*answers, "--admin", f"{server.jid('ada')}=Ada"]


def write_torrc_lines(data: Path, torrc_lines: Iterable[str]) -> None:
    lines = ", ".join(f'"{line}"' for line in torrc_lines)
    with (data / FILE_NAME).open("a") as file:
        file.write(f"\n[tor]\nlines = [{lines}]\n" if lines else "")


def phone_of(server: Prosody, name: str = "ada") -> Phone:
    return Phone(server.jid(name), PASSWORDS[name], desk=server.jid("desk"), port=server.port)


def is_online(told: dict[str, dict[str, str]]) -> bool:
    return told["xmpp"]["phase"] == "online"
