"""The command line: all commands, `run` and `reload` themselves, and how errors become two lines and an exit status."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

import veilsupport
from veilsupport import app, config, hardening, log
from veilsupport.cli import admin as cli_admin
from veilsupport.cli import backup as cli_backup
from veilsupport.cli import desk as cli_desk
from veilsupport.cli import doctor as cli_doctor
from veilsupport.cli import keeping as cli_keeping
from veilsupport.cli import omemo as cli_omemo
from veilsupport.cli import onion as cli_onion
from veilsupport.cli import options
from veilsupport.cli import seizure as cli_seizure
from veilsupport.cli import setup as cli_setup
from veilsupport.cli import sites as cli_sites
from veilsupport.cli import status as cli_status
from veilsupport.cli import version as cli_version
from veilsupport.cli.options import data_directory
from veilsupport.cli.running import asked
from veilsupport.cli.terminal import Terminal, complain
from veilsupport.config import Config
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import DataDirectory
from veilsupport.errors import SetupError, setup_errors
from veilsupport.moving import restored

_EXIT_SETUP: Final = 2
_EXIT_BUG: Final = 70  # sysexits.h: EX_SOFTWARE
_HELP: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"]}


@click.group(invoke_without_command=True, context_settings=_HELP)
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
@options.passphrase_file
@click.option("--no-tor", is_flag=True, help="Serve on a loopback port only, without tor: for trying it out.")
@click.option("--port", type=click.IntRange(1, 65535), help="The loopback port for --no-tor; default 8080.")
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    help="Answer health checks and metrics on that port of 127.0.0.1; 0: nowhere.",
)
@click.option("--verbose", is_flag=True, help="Log more of what happens; never who, what or where.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="VEILSUPPORT_LOG_FORMAT",
    show_envvar=True,
    help="Lines for people, or a JSON object a line.",
)
@click.option("--alone", is_flag=True, help="After a restore: do not ask whether another desk answers at the address.")
def run(
    data: Path,
    passphrase_file: Path | None,
    no_tor: bool,
    port: int | None,
    health_port: int | None,
    verbose: bool,
    log_format: str,
    alone: bool,
) -> None:
    """Run the desk until SIGTERM or Ctrl-C."""
    log.set_up(verbose=verbose, as_json=log_format == "json")
    if port and not no_tor:
        raise click.UsageError("--port goes with --no-tor: with tor nothing listens on a port.")
    with DataDirectory(data) as house:
        key = None
        if house.is_new and sys.stdin.isatty() and config.load(house.path).xmpp is None:
            key = cli_setup.ask_and_set_up(house)
        settings = config.with_health_port(config.load(house.path), health_port)
        key = key or house.key(lambda: options.passphrase(passphrase_file))
        if settings.xmpp is None or not settings.admin:
            click.echo(
                "No XMPP account or no admin is set up yet: messages are kept until then. Run: veilsupport setup"
            )
        if house.is_restored:
            asyncio.run(_first_start(house, settings, key, uses_tor=not no_tor, alone=alone))
        asyncio.run(_run(house, settings, key, (port or settings.web.port) if no_tor else None))


async def _run(house: DataDirectory, settings: Config, key: ApplianceKey, port: int | None) -> None:
    terminal = Terminal(prefix=settings.web.prefix)
    watch = app.Watch(page=terminal.page, tor=terminal.tor, link=terminal.link)
    await app.Appliance(house, settings, key, port=port, watch=watch).run()


async def _first_start(
    house: DataDirectory, settings: Config, key: ApplianceKey, *, uses_tor: bool, alone: bool
) -> None:
    if uses_tor and not alone:
        click.echo("This desk comes out of a backup. Is another one at its address? That is asked through Tor.")
    on_change = Terminal(prefix=settings.web.prefix).tor
    await restored.first_start(house, settings, key, uses_tor=uses_tor, alone=alone, on_change=on_change)


@cli.command()
@data_directory
def reload(data: Path) -> None:
    """Let the running desk take changed admins, sites and hours from the settings' file."""
    asked(data, "reload")
    click.echo("The running desk has taken the settings.")


cli.add_command(cli_setup.setup)
cli.add_command(cli_status.status)
cli.add_command(cli_version.version)
cli.add_command(cli_doctor.doctor)
cli.add_command(cli_seizure.command)
cli.add_command(cli_desk.desk)
cli.add_command(cli_admin.admin)
cli.add_command(cli_sites.site)
cli.add_command(cli_omemo.omemo)
cli.add_command(cli_onion.onion)
cli.add_command(cli_keeping.archive)
cli.add_command(cli_keeping.expire)
cli.add_command(cli_backup.backup)
cli.add_command(cli_backup.restore)
for command in cli.commands.values():
    command.context_settings = {**_HELP, **command.context_settings}  # also when it is called by itself


# ---- the way out -------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Exit status: 0 well, 1 not running, 2 not set up rightly, 70 a bug (type and place are logged, nothing more)."""
    log.set_up()
    hardening.forbid_core_dumps()
    hardening.lock_memory()
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
    wrong = setup_errors(error)
    if wrong:
        for each in wrong:
            complain(each)
        return _EXIT_SETUP
    log.logger.critical("This is a bug in VeilSupport; it stops here: %s", log.place(error))
    return _EXIT_BUG
