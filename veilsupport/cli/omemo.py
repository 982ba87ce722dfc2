"""The command line's `omemo`: by what the admins' apps know the desk."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from veilsupport import directory
from veilsupport.cli.options import data_directory
from veilsupport.cli.terminal import complain, qr_code
from veilsupport.errors import SetupError


@click.command()
@data_directory
def omemo(data: Path) -> None:
    """Show the desk's OMEMO fingerprint, and a QR code by which an admin's app verifies it."""
    told = directory.ask(data, "status")
    if told is None:
        complain(SetupError("No VeilSupport runs on this data directory.", hint="Start it with: veilsupport run"))
        sys.exit(1)
    uri = told["xmpp"] and told["xmpp"].get("omemo")
    if not uri:
        complain(SetupError("OMEMO is off for every admin.", hint='Set omemo = "prefer" for one of them.'))
        sys.exit(1)
    show(uri)


def show(uri: str) -> None:
    """The fingerprint as apps group it, the URI, and on a terminal its QR code."""
    fingerprint = uri.rpartition("=")[2]
    click.echo("The desk's OMEMO fingerprint; admins compare it with what their app shows, or scan the code:")
    click.echo("  " + " ".join(fingerprint[at : at + 8] for at in range(0, len(fingerprint), 8)))
    if sys.stdout.isatty():
        click.echo(qr_code(uri))
    click.echo(uri)
