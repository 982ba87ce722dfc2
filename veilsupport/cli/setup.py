"""The command line's `setup`: answers into settings, and into the secrets that rest sealed.

By flags, environment and file here; on a terminal by questions (evening.py). Whatever the way, all answers are
checked together and written at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from veilsupport import config, people
from veilsupport.cli import answers as answering
from veilsupport.cli import evening as cli_evening
from veilsupport.cli import omemo as cli_omemo
from veilsupport.cli.answers import Answers
from veilsupport.cli.options import data_directory, first_line, first_line_of, passphrase, passphrase_file
from veilsupport.cli.trial import examine
from veilsupport.config import Config
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import DataDirectory
from veilsupport.errors import SetupError, StoreError
from veilsupport.model import Private

_PREFIX: Final = "VEILSUPPORT_SETUP_"
_PASSWORD: Final = "VEILSUPPORT_XMPP_PASSWORD"  # noqa: S105 - the name of the variable
_RING_SECONDS: Final = 120


def _answer(flag: str, *names: str, **settings: Any) -> Callable[[Any], Any]:
    """An option that the environment may give as well."""
    variable = _PREFIX + flag.removeprefix("--").upper().replace("-", "_")
    return click.option(flag, *names, envvar=variable, show_envvar=True, **settings)


class _Admin(click.ParamType[str]):
    """JID=NAME. Names may have spaces, so that in the environment semicolons stand between them."""

    name = "admin"
    envvar_list_splitter = ";"


_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command()
@data_directory
@passphrase_file
@_answer("--jid", help="The desk's own XMPP account, name@server.")
@_answer("--password-file", type=_FILE, help=f"File with its password; else the environment's {_PASSWORD}.")
@_answer("--host", help="Server to dial, if it is not the JID's domain; an onion address, for example.")
@_answer("--port", type=int, help="Its port; default 5222.")
@_answer("--tls", type=click.Choice(["starttls", "direct", "none"]), help="Default starttls.")
@_answer("--certificate", help='"verify" (default), a SHA-256 fingerprint, or "any" (onion addresses only).')
@_answer(
    "--admin",
    multiple=True,
    type=_Admin(),
    metavar="JID[=NAME]",
    help="Who answers, and the name visitors see; may be given several times, in the environment with ; between.",
)
@_answer("--name", help="The desk's name on the page.")
@_answer("--greeting", help="The first sentence on the page.")
@_answer(
    "--new-passphrase-file",
    type=_FILE,
    help="Protect the appliance's key and the onion key with the passphrase in this file; an empty file takes it off.",
)
@_answer(
    "--answers",
    "answers_file",
    type=_FILE,
    help="TOML file with answers: each key is a flag's name. Flags and environment go before it.",
)
@click.option(
    "--check", is_flag=True, help="First try tor, certificate and sign-in; when one fails nothing is saved, and exit 2."
)
@click.option(
    "--ring",
    "ring_seconds",
    type=click.IntRange(1, 3600),
    is_flag=False,
    flag_value=_RING_SECONDS,
    metavar="[SECONDS]",
    help=f"With --check: also send every admin a test message, and wait for their answers; default {_RING_SECONDS}.",
)
def setup(
    data: Path,
    passphrase_file: Path | None,
    answers_file: Path | None,
    check: bool,
    ring_seconds: int | None,
    **given: Any,
) -> None:
    """Set the account, the admins and the page; what is not given stays as it is.

    With nothing given, on a terminal, it asks, and tries the answers out.
    """
    if ring_seconds and not check:
        raise click.UsageError("--ring goes with --check.")
    answers, problems = _gathered(Answers(**given), answers_file)
    is_asked = not check and not problems and sys.stdin.isatty() and not replace(answers, password=None).any
    with DataDirectory(data) as house:
        if is_asked:
            ask_and_set_up(house, passphrase_file)
        elif check or problems or answers.any:
            _set_up(
                house,
                answers,
                problems=problems,
                passphrase_file=passphrase_file,
                check=check,
                ring_seconds=ring_seconds,
            )
        else:
            raise SetupError(
                "There is nothing to set.", hint="Give flags, or run it on a terminal: veilsupport setup --help"
            )


def ask_and_set_up(house: DataDirectory, passphrase_file: Path | None = None) -> ApplianceKey | None:
    """The questions, and then what they were answered with. The appliance's key, if it was needed."""
    told = cli_evening.walk(house, passphrase_file)
    if not told.answers.any:
        return told.key
    key = told.key or house.key(lambda: None, first=told.answers.new_passphrase or None)
    after = answering.applied(config.load(house.path), told.answers)
    _write(house, after, told.answers, key, passed_over=told.passed_over)
    return key


def _gathered(given: Answers, file: Path | None) -> tuple[Answers, list[SetupError]]:
    """Flag over environment over file; click has put the first two together."""
    in_file, problems = answering.from_file(file) if file else (Answers(), [])
    told = os.environ.get(_PASSWORD)
    if told and given.password_file is None:
        given = answering.over(Answers(password=Private(told)), given)
    return answering.over(given, in_file), problems


def _set_up(
    house: DataDirectory,
    answers: Answers,
    *,
    problems: list[SetupError],
    passphrase_file: Path | None,
    check: bool,
    ring_seconds: int | None,
) -> None:
    """Check all answers together, then write; nothing is changed when one of them is wrong."""
    before = config.load(house.path)
    after = answering.applied(before, answers, problems)
    answers = _with_secrets(answers)
    if after.xmpp and answers.password is None and after.xmpp.jid != (before.xmpp and before.xmpp.jid):
        # Another account's password is not for this one's server to hear.
        raise SetupError("The account's password is missing.", hint=f"Give --password-file, or set {_PASSWORD}.")
    if answers.password is not None and not answers.password:
        raise SetupError("The account's password is empty.", hint="Look at the first line of the file.")
    known = before.xmpp is not None and not house.is_new
    key = house.key(lambda: passphrase(passphrase_file)) if check and known else None
    passed_over: Collection[str] = ()
    if check:
        password = answers.password or (people.kept_password(house.database, key) if key else None)
        passed_over = examine(after, password, house.tor, ring_seconds=ring_seconds)
    if answers.any or passed_over:
        key = key or house.key(lambda: passphrase(passphrase_file), first=answers.new_passphrase or None)
        _write(house, after, answers, key, passed_over=passed_over)


def _with_secrets(answers: Answers) -> Answers:
    """Those read that lie in files."""
    password = answers.password
    if password is None and answers.password_file is not None:
        password = first_line(answers.password_file)
    new_passphrase = answers.new_passphrase
    if new_passphrase is None:
        new_passphrase = first_line_of(answers.new_passphrase_file)
    return answering.over(Answers(password=password, new_passphrase=new_passphrase), answers)


def _write(
    house: DataDirectory, after: Config, answers: Answers, key: ApplianceKey, *, passed_over: Collection[str] = ()
) -> None:
    """What a full disk most likely refuses comes first."""
    try:
        if answers.password is not None:
            asyncio.run(people.keep_password(house.database, key, answers.password))
        if passed_over:
            asyncio.run(people.pass_over(house.database, after, key, passed_over, now=time.time()))
        config.save(house.path, after)
        if answers.new_passphrase is not None:
            house.keep_key(key, answers.new_passphrase or None)
        click.echo("Settings are saved.")
        if uri := asyncio.run(people.omemo_identity(house.database, after, key)):
            cli_omemo.show(uri)
    except StoreError as error:
        raise SetupError(error.message, hint="Look at the disk that holds the data directory.") from None
