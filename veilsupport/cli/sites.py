"""The command line's `site`: other people's sites, whose visitors come to this desk.

Each command changes the settings' file, whole or not at all, and a running appliance takes the new sites at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from veilsupport import config, controlsocket, directory
from veilsupport.cli.options import data_directory
from veilsupport.config import Config, SiteSettings
from veilsupport.errors import SetupError

_SNIPPETS: Final = """\
A link:
  <a href="{page}s/{name}">Write to us</a>

A form that sends the first message{where}:
  <form method="post" action="{page}s/{name}/start" target="_blank">
    <textarea name="message" maxlength="4000" required></textarea> <button>Send</button>
  </form>

A picture that says whether the line is open:
  <img src="{page}badge/{name}.png" width="212" height="30" alt="Write to us">

The conversation in a frame{frame}:
  <iframe src="{page}embed/{name}" title="Write to us" width="400" height="560"></iframe>
"""


@click.group()
def site() -> None:
    """Other people's sites, whose visitors come to this desk."""


@site.command()
@data_directory
@click.argument("name")
@click.option("--title", help="The name on its pages; needed for a new site.")
@click.option("--greeting", help="The first sentence; without one, the desk's own.")
@click.option("--accent", help="Its colour, #rrggbb; made darker or lighter where it could not be read.")
@click.option(
    "--language", "languages", multiple=True, help='Of its title and greeting: en, pt-BR. May be repeated; "" for none.'
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    help='Whose pages may use the API and embed the chat. May be repeated; "" for none.',
)
def add(data: Path, name: str, **answers: Any) -> None:
    """Add the site NAME, or change what is given of it."""
    given = {key: () if answer == ("",) else answer for key, answer in answers.items() if answer not in (None, ())}
    added = _changed(data, lambda sites: _with(sites, name, given))
    click.echo(f"The site {name} is {'added' if added else 'changed'}. To see what its pages need: site show {name}")


@site.command("list")
@data_directory
def list_sites(data: Path) -> None:
    """Every site: its name, title and origins."""
    sites = config.load(data).site
    for each in sites:
        click.echo("  ".join([each.name, each.title, *each.origins]))
    if not sites:
        click.echo("There are no sites; the desk's own page is always there.")


@site.command()
@data_directory
@click.argument("name")
def show(data: Path, name: str) -> None:
    """What is set for the site NAME, and what goes into its pages."""
    settings = config.load(data)
    found = _found(settings.site, name)
    for key, value in found.model_dump().items():
        shown = "(the desk’s own)" if value in ("", None) else value
        click.echo(f"{key}: {', '.join(value) if isinstance(value, tuple) else shown}")
    told = controlsocket.ask(data, "status") or {}
    page = told.get("page") or f"http://YOUR-ADDRESS.onion{settings.web.prefix}/"
    where = "" if found.origins else " (after one more click: no origin is listed)"
    frame = "" if found.origins else " (not shown anywhere: no origin is listed)"
    click.echo("\n" + _SNIPPETS.format(page=page, name=name, where=where, frame=frame).rstrip())


@site.command()
@data_directory
@click.argument("name")
def remove(data: Path, name: str) -> None:
    """Remove the site NAME. Conversations that were begun there stay, with its name."""
    _changed(data, lambda sites: _without(sites, name))
    click.echo(f"The site {name} is removed.")


# ---- within ------------------------------------------------------------------------------------------------------


def _with(sites: Sequence[SiteSettings], name: str, given: dict[str, Any]) -> tuple[Any, ...]:
    """A known site keeps its place."""
    if name not in {each.name for each in sites}:
        return *sites, {"name": name, **given}
    return tuple(each.model_dump() | given if each.name == name else each for each in sites)


def _without(sites: Sequence[SiteSettings], name: str) -> tuple[Any, ...]:
    gone = _found(sites, name)
    return tuple(each for each in sites if each is not gone)


def _changed(data: Path, change: Callable[[Sequence[SiteSettings]], tuple[Any, ...]]) -> bool:
    """Save the changed sites and tell the running appliance; whether there are more of them now.

    SetupErrors: what is wrong with them; nothing was saved.
    """
    known = 0

    def changed(before: Config) -> Config:
        nonlocal known
        known = len(before.site)
        return _checked(before, change(before.site))

    return len(directory.change_settings(data, changed).site) > known


def _checked(before: Config, sites: tuple[Any, ...]) -> Config:
    values = [each.model_dump() if isinstance(each, SiteSettings) else each for each in sites]
    return config.check(before.model_dump() | {"site": tuple(values)})


def _found(sites: Sequence[SiteSettings], name: str) -> SiteSettings:
    for each in sites:
        if each.name == name:
            return each
    raise SetupError("There is no such site.", hint="The known ones: veilsupport site list")
