"""The command line's `status`: what the running desk says of itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from veilsupport import directory
from veilsupport.errors import SetupError
from veilsupport.options import data_directory
from veilsupport.terminal import complain


@click.command()
@data_directory
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def status(data: Path, as_json: bool) -> None:
    """What the running desk says of itself. Exits 1 when it does not run."""
    told = directory.ask(data, "status")
    if told is None:
        complain(SetupError("No VeilSupport runs on this data directory.", hint="Start it with: veilsupport run"))
        sys.exit(1)
    click.echo(json.dumps(told, indent=2) if as_json else _in_words(told))


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
