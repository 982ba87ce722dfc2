"""The command line's `setup`: answers and flags into settings, and into the secrets that rest sealed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from veilsupport import cli_omemo, config, people, rules
from veilsupport.config import Config
from veilsupport.directory import DataDirectory
from veilsupport.errors import SetupError
from veilsupport.model import Private
from veilsupport.options import data_directory, first_line, first_line_of, passphrase, passphrase_file


@click.command()
@data_directory
@passphrase_file
@click.option("--jid", help="The desk's own XMPP account, name@server.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with its password; else the environment's VEILSUPPORT_XMPP_PASSWORD, else it is asked.",
)
@click.option("--host", help="Server to dial, if it is not the JID's domain; an onion address, for example.")
@click.option("--port", type=int, help="Its port; default 5222.")
@click.option("--tls", type=click.Choice(["starttls", "direct", "none"]), help="Default starttls.")
@click.option("--certificate", help='"verify" (default), a SHA-256 fingerprint, or "any" (onion addresses only).')
@click.option(
    "--admin",
    "admins",
    multiple=True,
    metavar="JID[=NAME]",
    help="Who answers, and the name visitors see; may be given several times.",
)
@click.option("--name", help="The desk's name on the page.")
@click.option("--greeting", help="The first sentence on the page.")
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Protect the appliance's key and the onion key with the passphrase in this file; an empty file takes it off.",
)
def setup(data: Path, **answers: Any) -> None:
    """Set the account, the admins and the page; what is not given stays as it is, or is asked on a terminal."""
    with DataDirectory(data) as house:
        if any(value not in (None, ()) for value in answers.values()):
            _set_up(house, answers)
        elif sys.stdin.isatty():
            ask_and_set_up(house)
        else:
            raise SetupError(
                "There is nothing to set.", hint="Give flags, or run it on a terminal: veilsupport setup --help"
            )


def ask_and_set_up(house: DataDirectory) -> None:
    """The questions, each asked again until its answer is right."""
    click.echo("The desk needs an XMPP account of its own, and the accounts of those who answer.")
    click.echo("Leave the account empty to look around first; messages are kept until it is set.\n")
    jid = _ask("The desk's account (name@server)", rules.bare_jid, default="")
    if not jid:
        return
    answers: dict[str, Any] = {"jid": jid}
    answers["password"] = Private(click.prompt("Its password", hide_input=True))
    answers["host"] = click.prompt("Server to dial", default=jid.partition("@")[2])
    if answers["host"].endswith(".onion"):
        answers["certificate"] = _ask(
            "Certificate's SHA-256 fingerprint, or any", rules.certificate_rule, default="any"
        )
    admins: list[str] = []
    while admin := _ask("An admin's account (empty when done)", rules.bare_jid, default="" if admins else None):
        name = _ask("The name visitors see", rules.public_name, default=admin.partition("@")[0].capitalize())
        admins.append(f"{admin}={name}")
    answers["admins"] = admins
    if house.is_new:
        click.echo("\nA passphrase keeps a seized disk shut; it is then asked at every start. Empty: none.")
        answers["new_passphrase"] = Private(
            click.prompt("Passphrase", default="", hide_input=True, show_default=False, confirmation_prompt=True)
        )
    _set_up(house, answers)


def _ask(question: str, check: Callable[[str], str], *, default: str | None) -> str:
    def checked(value: str) -> str:
        if not value and default == "":
            return ""
        try:
            return check(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return str(click.prompt(question, default=default, value_proc=checked, show_default=bool(default)))


def _set_up(house: DataDirectory, answers: dict[str, Any]) -> None:
    """Check all answers together, then write; nothing is changed when one of them is wrong."""
    before = config.load(house.path)
    after = _with_answers(before, answers)
    password = answers.get("password") or _given_password(answers.get("password_file"))
    if after.xmpp and password is None and not before.xmpp:
        raise SetupError(
            "The account's password is missing.", hint="Give --password-file, or set VEILSUPPORT_XMPP_PASSWORD."
        )
    if password is not None and not password:
        raise SetupError("The account's password is empty.", hint="Look at the first line of the file.")
    new_passphrase = answers.get("new_passphrase") or first_line_of(answers.get("new_passphrase_file"))
    key = house.key(lambda: passphrase(answers.get("passphrase_file")), first=new_passphrase or None)
    if new_passphrase is not None:
        house.keep_key(key, new_passphrase or None)
    if password is not None:
        asyncio.run(people.keep_password(house.database, key, password))
    config.save(house.path, after)
    click.echo("Settings are saved.")
    if uri := asyncio.run(people.omemo_identity(house.database, after, key)):
        cli_omemo.show(uri)


def _with_answers(before: Config, answers: dict[str, Any]) -> Config:
    """SetupErrors names every wrong answer."""
    values = before.model_dump()
    xmpp = {key: answers[key] for key in ("jid", "host", "port", "tls", "certificate") if answers.get(key) is not None}
    if xmpp:
        values["xmpp"] = (values["xmpp"] or {}) | xmpp
    desk = {key: answers[key] for key in ("name", "greeting") if answers.get(key) is not None}
    values["desk"] |= desk
    if answers.get("admins"):
        known = {each.jid: each.model_dump() for each in before.admin}  # roles and the like stay as they are
        given = [_admin(each) for each in answers["admins"]]
        values["admin"] = tuple(known.get(each["jid"].strip().lower(), {}) | each for each in given)
    return config.check(values)


def _admin(answer: str) -> dict[str, str]:
    jid, _, name = answer.partition("=")
    return {"jid": jid, "name": name or jid.partition("@")[0].capitalize()}


def _given_password(file: Path | None) -> Private | None:
    if file is not None:
        return first_line(file)
    given = os.environ.get("VEILSUPPORT_XMPP_PASSWORD")
    return Private(given) if given else None
