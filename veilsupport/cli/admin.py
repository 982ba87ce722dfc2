"""The command line's `admin`: who answers, and what they may do where.

Each command changes the settings' file, whole or not at all, and a running appliance takes it at once: whoever was
removed is put out of every room.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

import click

from veilsupport import config, directory
from veilsupport.cli.options import data_directory
from veilsupport.config import AdminSettings, Config, RoleName
from veilsupport.errors import SetupError

_ROLES: Final = get_args(RoleName)
_UNKNOWN: Final = SetupError("There is no such admin.", hint="The known ones: veilsupport admin list")


@click.group()
def admin() -> None:
    """Who answers, and what they may do."""


@admin.command()
@data_directory
@click.argument("jid")
@click.option("--name", help="All that visitors see of them; needed for a new one.")
@click.option("--role", type=click.Choice(_ROLES), help="On every site that --roles does not name; default leads.")
@click.option(
    "--roles",
    multiple=True,
    metavar="SITE=ROLE",
    help='On that site; "=ROLE" for the desk\'s own page. May be repeated, and replaces those before; "" for none.',
)
@click.option("--omemo", type=click.Choice(["prefer", "require", "off"]), help="End-to-end encryption; default prefer.")
@click.option("--notify-only/--with-words", default=None, help="Whether their phone only gets that there is a message.")
def add(data: Path, jid: str, roles: tuple[str, ...], **answers: Any) -> None:
    """Add JID as an admin, or change what is given of them."""
    given = {key: answer for key, answer in answers.items() if answer is not None}
    if roles:
        given["roles"] = _roles(roles)
    known = {each.jid for each in config.load(data).admin}
    after = directory.change_settings(data, lambda before: _with(before, jid, given))
    [them] = [each for each in after.admin if each.jid == jid.strip().lower()]
    if them.jid in known:
        click.echo(f"{them.name} is changed.")
    else:
        click.echo(f"{them.name} is added. They add the desk's account as a contact in their app, once.")
    if after.xmpp is None:
        click.echo("The desk has no XMPP account yet: veilsupport setup")


@admin.command()
@data_directory
@click.argument("who", metavar="JID|NAME")
def remove(data: Path, who: str) -> None:
    """Remove an admin, by account or name. What they wrote stays, under their name."""
    after = directory.change_settings(data, lambda before: _changed(before, lambda each: not _is(each, who)))
    click.echo("They are removed, and put out of every room as soon as the desk runs.")
    if not after.admin:
        click.echo("Nobody is left who answers: messages are kept until there is somebody.")


@admin.command("list")
@data_directory
def list_admins(data: Path) -> None:
    """Every admin: account, name, role, and what differs from the default."""
    admins = config.load(data).admin
    for each in admins:
        click.echo("  ".join([each.jid, each.name, each.role, *_peculiar(each)]))
    if not admins:
        click.echo("There are no admins; the first: veilsupport admin add JID --name NAME")


# ---- within ------------------------------------------------------------------------------------------------------


def _roles(answers: tuple[str, ...]) -> dict[str, str]:
    """Site's name → role. SetupError: one is not written so."""
    pairs = [answer.rpartition("=") for answer in answers if answer]
    if any(not equals or role not in _ROLES for _, equals, role in pairs):
        raise SetupError(
            "--roles is not right.", hint=f"Write it as --roles shop=reads, with one of: {', '.join(_ROLES)}."
        )
    return {site: role for site, _, role in pairs}


def _with(before: Config, jid: str, given: dict[str, Any]) -> Config:
    """SetupError: a new one without a name, or what config.check finds."""
    mine = jid.strip().lower()
    known = [each.model_dump() for each in before.admin]
    old = next((each for each in known if each["jid"] == mine), None)
    if old is None and "name" not in given:
        raise SetupError("A new admin needs the name that visitors see.", hint="Give --name, such as --name Ada.")
    new = (old or {"jid": jid}) | given
    admins = [new if each is old else each for each in known] if old else [*known, new]
    return config.check(before.model_dump() | {"admin": tuple(admins)})


def _changed(before: Config, keep: Callable[[AdminSettings], bool]) -> Config:
    """Less those who are not kept. SetupError: all are."""
    left = tuple(each.model_dump() for each in before.admin if keep(each))
    if len(left) == len(before.admin):
        raise _UNKNOWN.anew()
    return config.check(before.model_dump() | {"admin": left})


def _is(each: AdminSettings, who: str) -> bool:
    return who.strip().lower() == each.jid or who.strip().casefold() == each.name.casefold()


def _peculiar(each: AdminSettings) -> list[str]:
    words = [f"{site or 'own page'}: {role}" for site, role in each.roles.items()]
    words += [f"omemo {each.omemo}"] if each.omemo != "prefer" else []
    return [*words, "told only that there is a message"] if each.notify_only else words
