"""README says what the program does. `python -m tests.test_readme` writes the parts that are made from the code."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path

import click
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from veilsupport import commands
from veilsupport.cli import cli
from veilsupport.config import Config

README = Path(__file__).resolve().parent.parent / "README.md"


def commands_part() -> str:
    return "\n".join(f"    {line}" for line in commands.help_text().splitlines())


def cli_part() -> str:
    """The help of the program and of each command, as `--help` prints it."""
    parts = []
    for name, command in commands_of("veilsupport", cli):
        context = click.Context(
            command, info_name=name, terminal_width=100, max_content_width=100, **cli.context_settings
        )
        parts.append(command.get_help(context))
    return "\n\n".join("\n".join(f"    {line}".rstrip() for line in part.splitlines()) for part in parts)


def commands_of(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    """The command itself, then those within, however deep."""
    within = sorted(command.commands.items()) if isinstance(command, click.Group) else []
    found = [each for part, inner in within for each in commands_of(f"{name} {part}", inner)]
    return [(name, command), *found]


def settings_part() -> str:
    """One row for each key, with its default."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for section, field in Config.model_fields.items():
        inner = model_in(field.annotation)
        title = f"[[{section}]]" if section in ("admin", "site") else f"[{section}]"
        for key, setting in inner.model_fields.items():
            default = "required" if setting.default is PydanticUndefined else f"`{written(setting.default)}`"
            rows.append(f"| `{title} {key}` | {default} | {setting.description} |")
    return "\n".join(rows)


def model_in(annotation: object) -> type[BaseModel]:
    """The section's model inside `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    [found] = [each for each in typing.get_args(annotation) if isinstance(each, type) and issubclass(each, BaseModel)]
    return found


def written(default: object) -> str:
    return "[]" if default == () else f'"{default}"' if isinstance(default, str) else str(default)


PARTS = types.MappingProxyType({"commands": commands_part, "cli": cli_part, "settings": settings_part})


def with_part(text: str, name: str, part: str) -> str:
    pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    assert pattern.search(text), f"README has no place for {name}"
    return pattern.sub(lambda found: f"{found[1]}\n{part}\n\n{found[2]}", text)


@pytest.mark.parametrize("name", PARTS)
def test_readme_is_as_the_program_says(name: str) -> None:
    text = README.read_text("utf-8")
    assert text == with_part(text, name, PARTS[name]()), "run: python -m tests.test_readme"


def test_every_setting_has_a_meaning() -> None:
    assert "None |" not in settings_part()


def test_every_file_that_readme_names_is_there() -> None:
    for name in re.findall(r"`((?:veilsupport|tests|packaging|data|static)/[\w./-]*)`", README.read_text("utf-8")):
        if name != "data/veilsupport.toml":
            assert (README.parent / name).exists(), name


if __name__ == "__main__":
    whole = README.read_text("utf-8")
    for part_name, make in PARTS.items():
        whole = with_part(whole, part_name, make())
    README.write_text(whole, "utf-8")
