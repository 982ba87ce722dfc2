"""The command line's `backup` and `restore`: moving house, or only being able to."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from veilsupport.cli.options import data_directory, first_line
from veilsupport.errors import SetupError
from veilsupport.model import Private
from veilsupport.moving import backup as backups
from veilsupport.moving.backup import Manifest, Restored

_VARIABLE: Final = "VEILSUPPORT_BACKUP_PASSPHRASE"
_UNKNOWN_ADDRESS: Final = "its first start shows it"
_RESTORED: Final = """\
{data} now holds the desk as it was on {made}.
Address: {address}

Before you start it: stop the desk on the old machine for good, and erase its data directory there. Two at one address
take turns at losing visitors, and two on one XMPP account send everything twice. The first start looks whether another
answers at the address, and refuses to run when one does. What was said since the backup is not here; what was burned
since is here again.
"""

_passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File with the backup's own passphrase; else the environment's {_VARIABLE}, else it is asked.",
)
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@data_directory
@_passphrase_file
@click.option("--verify", "is_check", is_flag=True, help="Only read FILE to its end, and say whether it is whole.")
@_file
def backup(data: Path, passphrase_file: Path | None, is_check: bool, file: Path) -> None:
    """Write everything that is this desk into FILE, encrypted; while it runs, or not."""
    if is_check:
        manifest = backups.verify(file, _passphrase(passphrase_file))
        click.echo(f"The backup is whole: made on {_moment(manifest)} by VeilSupport {manifest.version}.")
        return
    manifest = backups.make(data, file, _passphrase(passphrase_file, is_new=True), now=time.time())
    click.echo(f"The backup is written, as of {_moment(manifest)}. Nothing opens it but its passphrase.")
    if not manifest.has_address:
        click.echo("There is no onion address in it: this desk has never run with Tor.")


@click.command()
@data_directory
@_passphrase_file
@_file
def restore(data: Path, passphrase_file: Path | None, file: Path) -> None:
    """Make a new data directory from the backup FILE."""
    restored = backups.restore(file, data, _passphrase(passphrase_file))
    click.echo(_RESTORED.format(data=data, made=_moment(restored.manifest), address=_address(restored)), nl=False)


def _moment(manifest: Manifest) -> str:
    return f"{datetime.fromtimestamp(manifest.made_minute * 60, UTC):%Y-%m-%d %H:%M} UTC"


def _address(restored: Restored) -> str:
    if restored.address:
        return f"http://{restored.address}/"
    return _UNKNOWN_ADDRESS if restored.manifest.has_address else "none yet; its first start with Tor makes one"


def _passphrase(file: Path | None, *, is_new: bool = False) -> Private:
    """A new one is asked twice. SetupError: there is none, or it is empty."""
    given = os.environ.get(_VARIABLE)
    if file is not None:
        passphrase = first_line(file)
    elif given is not None:
        passphrase = Private(given)
    elif sys.stdin.isatty():
        passphrase = Private(click.prompt("Passphrase of the backup", hide_input=True, confirmation_prompt=is_new))
    else:
        raise SetupError("The backup's passphrase is missing.", hint=f"Give --passphrase-file, or set {_VARIABLE}.")
    if not passphrase.reveal().strip():
        raise SetupError("The backup's passphrase is empty.", hint="Give one: the backup holds the desk's keys.")
    return passphrase
