"""Questions on a terminal of 80 columns, each asked until its answer is right. Knows nothing of what is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import click

_COLUMNS: Final = 79


def head(number: int, title: str) -> None:
    click.echo("\n" + click.style(f"{number}. {title}", bold=True))


def wrong(words: str) -> None:
    click.echo(click.style(_wrapped(words), fg="yellow"))


def tell(words: str) -> None:
    click.echo(_wrapped(words))


def _wrapped(words: str, *, first: str = "", then: str = "") -> str:
    return click.wrap_text(words, width=_COLUMNS, initial_indent=first, subsequent_indent=then)


def ask(question: str, check: Callable[[str], str], *, default: str | None) -> str:
    """Until `check` takes it; an empty answer is taken where `default` is empty."""

    def checked(value: str) -> str:
        if not value and default == "":
            return ""
        try:
            return check(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return str(prompt(question, default=default, value_proc=checked, show_default=bool(default)))


def choose(question: str, choices: list[str], *, default: str | None, lines: Collection[str] = ()) -> str:
    """One of these words; `lines` say what they mean."""
    click.echo(question)
    for line in lines:
        click.echo(_wrapped(line, first="  ", then=" " * 10))
    return str(prompt("  " + "/".join(choices), default=default, type=click.Choice(choices), show_choices=False))


def prompt(question: str, *, default: Any = None, hide_input: bool = False, **settings: Any) -> Any:
    if hide_input:
        settings["show_default"] = False
    return click.prompt(question, default=default, hide_input=hide_input, **settings)
