"""The command line: run, setup, status. Turns answers and flags into settings, and errors into two lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

import veilsupport
from veilsupport import app, cli_desk, cli_omemo, cli_onion, cli_sites, config, directory, hardening, log, people, rules
from veilsupport.config import Config
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import DataDirectory
from veilsupport.errors import SetupError
from veilsupport.model import Private
from veilsupport.options import data_directory
from veilsupport.terminal import Terminal, complain

_EXIT_SETUP: Final = 2
_EXIT_BUG: Final = 70  # sysexits.h: EX_SOFTWARE
_CREDENTIAL: Final = "veilsupport-passphrase"  # systemd.exec(5), LoadCredential=

_passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the passphrase of the appliance's key; else it is asked, or taken from systemd's credential "
    f"{_CREDENTIAL}.",
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(veilsupport.__version__, prog_name="veilsupport")
@click.pass_context
def cli(context: click.Context) -> None:
    """VeilSupport: an anonymous support desk, from an onion page to an XMPP app and back.

    Without a command it runs.
    """
    if context.invoked_subcommand is None:
        context.invoke(run)


@cli.command()
@data_directory
@_passphrase_file
@click.option("--no-tor", is_flag=True, help="Serve on a loopback port only, without tor: for trying it out.")
@click.option("--port", type=click.IntRange(1, 65535), help="The loopback port for --no-tor; default 8080.")
@click.option("--verbose", is_flag=True, help="Log more of what happens; never who, what or where.")
def run(data: Path, passphrase_file: Path | None, no_tor: bool, port: int | None, verbose: bool) -> None:
    """Run the desk until SIGTERM or Ctrl-C."""
    log.set_up(verbose=verbose)
    if port and not no_tor:
        raise click.UsageError("--port goes with --no-tor: with tor nothing listens on a port.")
    with DataDirectory(data) as house:
        if house.is_new and sys.stdin.isatty() and not (house.path / config.FILE_NAME).exists():
            _ask_and_set_up(house)
        settings = config.load(house.path)
        key = house.key(lambda: _passphrase(passphrase_file))
        if settings.xmpp is None or not settings.admin:
            click.echo(
                "No XMPP account or no admin is set up yet: messages are kept until then. Run: veilsupport setup"
            )
        asyncio.run(_run(house, settings, key, (port or settings.web.port) if no_tor else None))


async def _run(house: DataDirectory, settings: Config, key: ApplianceKey, port: int | None) -> None:
    terminal = Terminal(prefix=settings.web.prefix)
    watch = app.Watch(page=terminal.page, tor=terminal.tor, link=terminal.link)
    await app.Appliance(house, settings, key, port=port, watch=watch).run()


@cli.command()
@data_directory
@_passphrase_file
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
            _ask_and_set_up(house)
        else:
            raise SetupError(
                "There is nothing to set.", hint="Give flags, or run it on a terminal: veilsupport setup --help"
            )


@cli.command()
@data_directory
def reload(data: Path) -> None:
    """Let the running desk take changed admins, sites and hours from the settings' file."""
    told = directory.ask(data, "reload")
    if told is None:
        complain(SetupError("No VeilSupport runs on this data directory.", hint="Start it with: veilsupport run"))
        sys.exit(1)
    if "error" in told:
        raise SetupError(told["error"], hint=told["hint"])
    click.echo("The running desk has taken the settings.")


@cli.command()
@data_directory
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def status(data: Path, as_json: bool) -> None:
    """What the running desk says of itself. Exits 1 when it does not run."""
    told = directory.ask(data, "status")
    if told is None:
        complain(SetupError("No VeilSupport runs on this data directory.", hint="Start it with: veilsupport run"))
        sys.exit(1)
    click.echo(json.dumps(told, indent=2) if as_json else _in_words(told))


cli.add_command(cli_desk.desk)
cli.add_command(cli_sites.site)
cli.add_command(cli_omemo.omemo)
cli.add_command(cli_onion.onion)


def _in_words(told: dict[str, Any]) -> str:
    lines = [f"VeilSupport {told['version']}", f"Page: {told['page'] or 'not there yet'}"]
    for part, name in (("tor", "Tor"), ("xmpp", "XMPP")):
        state = told[part]
        trouble = f" ({state['trouble']})" if state and state.get("trouble") else ""
        lines.append(f"{name}: {state['summary'] if state else 'not used'}{trouble}")
    private = (told["tor"] or {}).get("private")
    if private:
        lines.append(f"XMPP onion: {private['address']} ({private['summary']})")
    if told["xmpp"] and told["xmpp"].get("form"):
        lines.append(f"Visitors appear as: {told['xmpp']['form']}")
    if told["xmpp"] and told["xmpp"].get("omemo"):
        lines.append(f"OMEMO: {told['xmpp']['omemo']}")
    lines += [
        *(f"Trouble: {words}" for words in told.get("trouble", ())),
        f"Admins: {told['admins']}",
        f"Conversations open: {told['conversations_open']}",
        f"Waiting to be delivered: {told['waiting_to_be_delivered']}",
        f"Pages open: {told['pages_open']}",
    ]
    return "\n".join(lines)


# ---- setting up --------------------------------------------------------------------------------------------------


def _ask_and_set_up(house: DataDirectory) -> None:
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
    new_passphrase = answers.get("new_passphrase") or _first_line_of(answers.get("new_passphrase_file"))
    key = house.key(lambda: _passphrase(answers.get("passphrase_file")), first=new_passphrase or None)
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
        return _first_line(file)
    given = os.environ.get("VEILSUPPORT_XMPP_PASSWORD")
    return Private(given) if given else None


def _passphrase(file: Path | None) -> Private | None:
    """From the file, systemd's credential, or the terminal; None when none of them is there."""
    if file is not None:
        return _first_line(file)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / _CREDENTIAL).exists():
        return _first_line(Path(credentials) / _CREDENTIAL)
    if sys.stdin.isatty():
        return Private(click.prompt("Passphrase of the appliance's key", hide_input=True))
    return None


def _first_line_of(file: Path | None) -> Private | None:
    return None if file is None else _first_line(file)


def _first_line(file: Path) -> Private:
    try:
        return Private(file.read_text("utf-8").partition("\n")[0].rstrip("\r"))
    except (OSError, UnicodeDecodeError):
        raise SetupError(
            "A file named on the command line cannot be read.", hint="Look at its path and permissions."
        ) from None


# ---- the way out -------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Exit status: 0 well, 1 not running, 2 not set up rightly, 70 a bug (type and place are logged, nothing more)."""
    log.set_up()
    hardening.forbid_core_dumps()
    hardening.allow_many_connections()
    try:
        cli.main(args=arguments, prog_name="veilsupport", standalone_mode=False)
    except click.ClickException as error:
        complain(
            SetupError(error.format_message(), hint="veilsupport --help and veilsupport COMMAND --help tell more.")
        )
        sys.exit(_EXIT_SETUP)
    except click.Abort:
        sys.exit(130)
    except BaseException as error:  # noqa: BLE001 - the top of the program
        sys.exit(_report(error))
    sys.exit(0)


def _report(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    wrong = _setup_errors(error)
    if wrong:
        for each in wrong:
            complain(each)
        return _EXIT_SETUP
    log.logger.critical("This is a bug in VeilSupport; it stops here: %s", log.place(error))
    return _EXIT_BUG


def _setup_errors(error: BaseException) -> list[SetupError]:
    """Those within, if there is nothing worse among them."""
    if isinstance(error, SetupError):
        return [error]
    if isinstance(error, BaseExceptionGroup):
        found = [_setup_errors(each) for each in error.exceptions]
        return [each for group in found for each in group] if all(found) else []
    return []
