"""The command line's `status`: what the running desk says of itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from veilsupport.cli.options import data_directory
from veilsupport.cli.running import asked

_NOT_READY: Final = 3
_FORMS: Final = {"rooms": "rooms", "direct": "one chat", "component": "a contact for each visitor"}
_PARTS: Final = {  # as the operator knows them
    "web": "web server",
    "store": "database",
    "disk": "disk",
    "tor": "Tor",
    "xmpp": "XMPP",
    "xmpp_onion": "XMPP onion",
}


@click.command()
@data_directory
@click.option("--json", "form", flag_value="json", help="As one JSON document.")
@click.option("--metrics", "form", flag_value="metrics", help="The numbers of this run, as Prometheus reads them.")
def status(data: Path, form: str | None) -> None:
    """What the running desk says of itself.

    Exits 0 when all parts are ready, 3 when it runs and one is not, 1 when it does not run.
    """
    told = asked(data, "metrics" if form == "metrics" else "status")
    if form == "metrics":
        click.echo(told["text"], nl=False)
        return
    click.echo(json.dumps(told, indent=2) if form == "json" else in_words(told, now=time.time()))
    if not told.get("ready", True):
        sys.exit(_NOT_READY)


def in_words(told: dict[str, Any], *, now: float) -> str:
    """One fact a line, the names in one column. What another version does not tell is left out."""
    lines = [(name, words) for part in (_whole, _page, _line, _work, _machine) for name, words in part(told, now)]
    width = max(len(name) for name, _ in lines) + 1
    return "\n".join(f"{name + ':':<{width}} {words}" for name, words in lines)


def _whole(told: dict[str, Any], _now: float) -> Iterator[tuple[str, str]]:
    uptime = told.get("uptime_seconds")
    yield "VeilSupport", f"{told['version']}" + (f", up {span(uptime)}" if uptime is not None else "")
    if "parts" in told:
        missing = [_PARTS.get(name, name) for name, part in told["parts"].items() if not part["ready"]]
        yield "Ready", f"no: {', '.join(missing)}" if missing else "yes"
    for words in told.get("trouble", ()):
        yield "Trouble", words


def _page(told: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    yield "Page", told["page"] or "not there yet"
    since = told.get("reachable_since")
    if since:
        yield "Reachable", f"for {span(now - since)}, since {time.strftime('%Y-%m-%d %H:%M', time.localtime(since))}"
    yield "Tor", _state(told["tor"])
    private = (told["tor"] or {}).get("private")
    if private:
        yield "XMPP onion", f"{private['address']} ({private['summary']})"


def _line(told: dict[str, Any], _now: float) -> Iterator[tuple[str, str]]:
    link = told["xmpp"]
    yield "XMPP", _state(link, unused="not set up")
    if link and link.get("form"):
        yield "Visitors appear as", link["form"]
    if link and link.get("omemo"):
        yield "OMEMO", link["omemo"]
    if mode := told.get("mode"):
        yield "Mode", _mode(mode)


def _work(told: dict[str, Any], _now: float) -> Iterator[tuple[str, str]]:
    yield "Admins", str(told["admins"])
    yield "Conversations open", str(told["conversations_open"])
    oldest = told.get("oldest_waiting_seconds")
    yield (
        "Waiting to be delivered",
        str(told["waiting_to_be_delivered"]) + (f", the oldest for {span(oldest)}" if oldest is not None else ""),
    )
    yield "Pages open", str(told["pages_open"])


def _machine(told: dict[str, Any], _now: float) -> Iterator[tuple[str, str]]:
    if "disk_free_bytes" in told:
        yield "Disk", f"{_size(told['disk_free_bytes'])} free; the database has {_size(told['database_bytes'])}"
    if versions := told.get("versions"):
        names = {"tor": "tor", "sqlite": "SQLite", "python": "Python"}
        yield "Versions", ", ".join(f"{name} {versions[key]}" for key, name in names.items() if versions.get(key))


def _state(state: dict[str, Any] | None, *, unused: str = "not used") -> str:
    if state is None:
        return unused
    return str(state["summary"]) + (f" ({state['trouble']})" if state.get("trouble") else "")


def _mode(mode: dict[str, Any]) -> str:
    return ", ".join(
        [
            *([_FORMS.get(mode["form"], mode["form"])] if mode["form"] else []),
            "passphrase" if mode["passphrase"] else "no passphrase",
            "archive on" if mode["archive"] else "archive off",
            *(["private page"] if mode["private"] else []),
        ]
    )


def span(seconds: float) -> str:
    """How long, as one says it."""
    minutes = int(max(0.0, seconds) // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.1f} MB"
