"""What several commands of the command line share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

_HERE: Final = Path(__file__).resolve().parent.parent


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
