"""What several commands of the command line share: the data directory, and the passphrase of its key."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from veilsupport.errors import SetupError
from veilsupport.model import Private

_HERE: Final = Path(__file__).resolve().parent.parent.parent
_CREDENTIAL: Final = "veilsupport-passphrase"  # systemd.exec(5), LoadCredential=


def _default_data() -> Path:
    """`data/` of a checkout; beside the working directory for the built executable."""
    return Path("data") if getattr(sys, "frozen", False) else _HERE / "data"


data_directory = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=_default_data,
    show_default="data/",
    help="Directory that holds everything: settings, database, keys, tor's state.",
)
passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the passphrase of the appliance's key; else it is asked, or taken from systemd's credential "
    f"{_CREDENTIAL}.",
)


def passphrase(file: Path | None) -> Private | None:
    """From the file, systemd's credential, or the terminal; None when none of them is there."""
    if (given := given_passphrase(file)) is not None:
        return given
    if sys.stdin.isatty():
        return Private(click.prompt("Passphrase of the appliance's key", hide_input=True))
    return None


def given_passphrase(file: Path | None) -> Private | None:
    """The same without asking. A credential without a word is none: so the unit and the containers leave it out."""
    if file is not None:
        return first_line(file)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / _CREDENTIAL).exists():
        return first_line(Path(credentials) / _CREDENTIAL) or None
    return None


def first_line_of(file: Path | None) -> Private | None:
    return None if file is None else first_line(file)


def first_line(file: Path) -> Private:
    try:
        return Private(file.read_text("utf-8").partition("\n")[0].rstrip("\r"))
    except (OSError, UnicodeDecodeError):
        raise SetupError(
            "A file named on the command line cannot be read.", hint="Look at its path and permissions."
        ) from None
