"""The command line's `omemo`: by what the admins' apps know the desk."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from veilsupport.cli.options import data_directory
from veilsupport.cli.running import asked, fail
from veilsupport.cli.terminal import qr_code
from veilsupport.errors import SetupError
from veilsupport.xmpp.sealing import grouped


@click.command()
@data_directory
def omemo(data: Path) -> None:
    """Show the desk's OMEMO fingerprint, and a QR code by which an admin's app verifies it."""
    told = asked(data, "status")
    uri = told["xmpp"] and told["xmpp"].get("omemo")
    if not uri:
        fail(SetupError("OMEMO is off for every admin.", hint='Set omemo = "prefer" for one of them.'))
    show(uri)


def show(uri: str) -> None:
    """The fingerprint as apps group it, the URI, and on a terminal its QR code."""
    fingerprint = uri.rpartition("=")[2]
    click.echo("The desk's OMEMO fingerprint; admins compare it with what their app shows, or scan the code:")
    click.echo(f"  {grouped(fingerprint)}")
    if sys.stdout.isatty():
        click.echo(qr_code(uri))
    click.echo(uri)
