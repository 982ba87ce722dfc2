"""The command line's `desk`: what the admins tell the desk by `!`, told by the operator to the running appliance.

The language and its words are the desk's; here is only the way to it. Whatever would put words for a visitor into the
shell's history is not part of it (commands.py, `fits_the_shell`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from veilsupport import controlsocket
from veilsupport.cli.options import data_directory
from veilsupport.cli.running import fail, refusal
from veilsupport.errors import SetupError

_LINE_MAX_BYTES: Final = 60_000  # the appliance reads no longer line
_NOT_RUNNING: Final = SetupError(
    "No VeilSupport runs on this data directory, so nothing was done.", hint="Start it with: veilsupport run"
)


@click.command(context_settings={"ignore_unknown_options": True})
@data_directory
@click.argument("words", metavar="COMMAND...", nargs=-1, type=click.UNPROCESSED)
def desk(data: Path, words: tuple[str, ...]) -> None:
    """Tell the running desk what an admin can: list, close heron-42, hours off; `help` shows all.

    Exits 1 when it was not done.
    """
    line = f"desk {json.dumps(' '.join(words) or 'help')}"
    if len(line) > _LINE_MAX_BYTES:
        raise click.UsageError("That is too long.")
    told = controlsocket.ask(data, line)
    if told is None:
        fail(_NOT_RUNNING)
    if why := refusal(told):
        fail(why)
    if not told["done"]:
        fail(SetupError(told["text"], hint="What can be said here: veilsupport desk help"))
    click.echo(told["text"])
