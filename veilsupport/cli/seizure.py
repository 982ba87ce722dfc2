"""The command line's `seizure`: gathers what is there, and prints the page. Reads only, and needs no passphrase."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from veilsupport import config, machine
from veilsupport.cli.options import data_directory
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import DATABASE, KEY, ONION_KEY, Onion
from veilsupport.errors import SetupError, StoreError
from veilsupport.seizure import Facts, Section, seizure
from veilsupport.store.inventory import Inventory, take

_WIDTH: Final = 100


@click.command("seizure")
@data_directory
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def command(data: Path, as_json: bool) -> None:
    """What would be told if disk, machine, server or phone were taken: of your settings, as of now.

    And what would make it less. Nothing is changed; the desk may run or not.
    """
    if not any((data / name).exists() for name in (config.FILE_NAME, KEY, DATABASE)):
        raise SetupError(
            "Nothing is set up on this data directory.",
            hint="Name the right one with --data, or run: veilsupport setup",
        )
    sections = seizure(config.load(data), facts_of(data))
    click.echo(json.dumps([asdict(each) for each in sections], indent=2) if as_json else _page(sections))


def facts_of(data: Path) -> Facts:
    """SetupError: the key file cannot be read."""
    try:
        raw = (data / KEY).read_bytes()
    except FileNotFoundError:
        raw = b""
    except OSError:
        raise SetupError(
            "The data directory cannot be read.", hint="Run this as the user that the desk runs as."
        ) from None
    return Facts(
        has_passphrase=ApplianceKey.needs_passphrase(raw),
        kept=_kept(data / DATABASE),
        has_onion_key=(data / "tor" / Onion.PAGE / ONION_KEY).exists(),
        swap=machine.swap(),
        disk_is_encrypted=machine.is_encrypted(data),
        disk_spins=machine.spins(data),
    )


def _kept(database: Path) -> Inventory | None:
    """An absent database holds nothing; one that cannot be read is not known."""
    try:
        return take(database) if database.exists() else Inventory()
    except StoreError:
        return None


def _page(sections: Sequence[Section]) -> str:
    return "\n\n".join("\n".join([each.title, "", *map(_paragraph, each.sentences)]) for each in sections)


def _paragraph(sentence: str) -> str:
    return textwrap.fill(sentence, _WIDTH, initial_indent="  ", subsequent_indent="  ")
