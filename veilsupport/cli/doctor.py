"""The command line's `doctor`: the files and the machine here, the rest by asking the desk that runs.

When none runs, the desk is started in this process for as long as the examination takes, just as `run` would, and asked
in the same way. Exit status: 0 all well, 1 something to look at, 2 something wrong.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from veilsupport import app, config, controlsocket, directory, machine
from veilsupport.cli import options
from veilsupport.cli.options import data_directory
from veilsupport.config import Config
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import DataDirectory
from veilsupport.doctor import checks
from veilsupport.doctor.checks import Finding, Level
from veilsupport.errors import SetupError, setup_errors

_EXIT: Final = {Level.OK: 0, Level.LOOK: 1, Level.WRONG: 2}
_SIGN: Final = {Level.OK: "ok", Level.LOOK: "look", Level.WRONG: "WRONG"}
_COLOUR: Final = {Level.OK: "green", Level.LOOK: "yellow", Level.WRONG: "red"}
_FINDING_SECONDS: Final = 300.0  # the longest wait for one: a desk that starts, a room that is made
_POLL_SECONDS: Final = 0.05
_WATCH: Final = app.Watch(page=lambda port: None, tor=lambda state: None, link=lambda state: None)

Tell = Callable[[Finding], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    data: Path
    passphrase_file: Path | None
    loopback: bool
    offline: bool
    no_tor: bool


@click.command()
@data_directory
@options.passphrase_file
@click.option("--no-loopback", is_flag=True, help="Do not visit the desk with a test message.")
@click.option("--offline", is_flag=True, help="Only look at files and the machine; start nothing, ask nothing.")
@click.option("--no-tor", is_flag=True, help="When no desk runs: start it without tor.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def doctor(
    data: Path, passphrase_file: Path | None, no_loopback: bool, offline: bool, no_tor: bool, as_json: bool
) -> None:
    """Examine everything, from files to a message that comes in through Tor, and say what is not well.

    A desk that does not run is started for it, and ended again. A test message reaches the admins, and is burned.
    Exits 0 when all is well, 1 when something should be looked at, 2 when something is wrong.
    """
    wish = Wish(data.absolute(), passphrase_file, not no_loopback, offline, no_tor)
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        if not as_json:
            _show(finding)

    try:
        _examine(wish, tell)
    except SetupError as error:
        tell(checks.wrong("desk", error.message, error.hint))
    worst = max((each.level for each in found), key=lambda level: _EXIT[level], default=Level.OK)
    if as_json:
        click.echo(json.dumps({"worst": worst, "findings": [asdict(each) for each in found]}, indent=2))
    else:
        click.echo(_summary(found))
    sys.exit(_EXIT[worst])


def _show(finding: Finding) -> None:
    sign = click.style(f"{_SIGN[finding.level]:5}", fg=_COLOUR[finding.level], bold=finding.level is not Level.OK)
    click.echo(f"{sign} {finding.about:10} {finding.words}")
    if finding.hint:
        click.echo(f"{'':16} → {finding.hint}")


def _summary(found: list[Finding]) -> str:
    counts = {level: sum(each.level is level for each in found) for level in (Level.WRONG, Level.LOOK)}
    if not any(counts.values()):
        return "All is well."
    return f"{counts[Level.WRONG]} wrong, {counts[Level.LOOK]} to look at."


def _examine(wish: Wish, tell: Tell) -> None:
    for finding in checks.of_directory(wish.data):
        tell(finding)
    answers = controlsocket.ask(wish.data, "status") is not None
    locked = not answers and machine.is_locked(wish.data / "lock")
    if wish.offline or answers or locked:
        tell(checks.instance(locked=locked, answers=answers))
    if wish.offline or locked:
        return
    if answers:
        _ask(wish, tell)
    else:
        _start_and_ask(wish, tell)


def _ask(wish: Wish, tell: Tell) -> None:
    """What the desk says of itself."""
    line = f"doctor {json.dumps(wish.loopback)}"
    for document in controlsocket.ask_on(wish.data, line, seconds=_FINDING_SECONDS):
        tell(_finding(document))


def _finding(document: dict[str, Any]) -> Finding:
    if "error" in document:
        return checks.wrong("desk", document["error"], document["hint"])
    return Finding(**{**document, "level": Level(document["level"])})


# ---- a desk of our own -------------------------------------------------------------------------------------------


def _start_and_ask(wish: Wish, tell: Tell) -> None:
    """What keeps it from starting is a finding, too."""
    if not (wish.data / directory.KEY).exists():
        tell(checks.wrong("desk", "Nothing is set up on this data directory.", "Run: veilsupport setup"))
        return
    tell(checks.look("desk", "It does not run: it is started for this, and ended again.", "veilsupport run"))
    try:
        with DataDirectory(wish.data) as house:
            settings = config.load(house.path)
            key = house.key(lambda: options.passphrase(wish.passphrase_file))
            asyncio.run(_live_and_ask(house, settings, key, wish, tell))
    except* SetupError as group:
        for error in setup_errors(group):
            tell(checks.wrong("desk", error.message, error.hint))


async def _live_and_ask(house: DataDirectory, settings: Config, key: ApplianceKey, wish: Wish, tell: Tell) -> None:
    port = settings.web.port if wish.no_tor else None
    living = asyncio.create_task(app.Appliance(house, settings, key, port=port, watch=_WATCH).run())
    try:
        while not living.done() and await asyncio.to_thread(controlsocket.ask, wish.data, "status") is None:
            await asyncio.wait({living}, timeout=_POLL_SECONDS)
        if not living.done():
            await asyncio.to_thread(_ask, wish, tell)
    finally:
        if not living.done():
            signal.raise_signal(signal.SIGTERM)  # as its operator ends it
        await living
