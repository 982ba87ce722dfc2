"""The settings' file: read, checked, saved.

Every unknown key and every bad value is named at once, each with a hint.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args

import tomli_w
from pydantic import BaseModel, ValidationError

from veilsupport.config.sections import Config, HealthSettings
from veilsupport.errors import SetupError, SetupErrors

FILE_NAME: Final = "veilsupport.toml"
_HEAD: Final = '# VeilSupport\'s settings; README.md, "Configuration", says what each one does.\n\n'


def load(directory: Path) -> Config:
    """The settings of that data directory; all defaults when there is no file. SetupErrors names all that is wrong."""
    path = directory / FILE_NAME
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError):
        raise SetupError(f"{FILE_NAME} cannot be read.", hint="Look at its permissions; it must be UTF-8.") from None
    return parse(text)


def parse(text: str) -> Config:
    """SetupErrors as above."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at .*\)$", str(error))
        raise SetupError(
            f"{FILE_NAME} is not valid TOML {where[0] if where else ''}".rstrip() + ".",
            hint="Look for a missing quote, bracket or equals sign there.",
        ) from None
    except RecursionError:
        raise SetupError(f"{FILE_NAME} has brackets within brackets without end.", hint="Write it anew.") from None
    return check(_tupled(values))


def check(values: dict[str, Any]) -> Config:
    """SetupErrors names all that is wrong with them."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise SetupErrors([_problem(each) for each in error.errors(include_url=False)]) from None


def with_health_port(config: Config, port: int | None) -> Config:
    """The same with that port for health checks; None: as it is."""
    return config if port is None else config.model_copy(update={"health": HealthSettings(port=port)})


def save(directory: Path, config: Config) -> None:
    """Write the file so that it is whole or not there (0600)."""
    values = config.model_dump(mode="json", exclude_defaults=True)
    write_private(directory / FILE_NAME, (_HEAD + tomli_w.dumps(values)).encode())


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Nobody else changes the file in this block, so that what was read and what is saved fit together.

    The lock is on the directory itself: a running appliance holds another one, and only reads the file.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_private(path: Path, content: bytes) -> None:
    """A file only we can read, in one step: written beside, synced, renamed. SetupError: the disk does not take it."""
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("wb") as file:
            beside.chmod(0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise SetupError(
            f"{path.name} cannot be written ({os.strerror(error.errno or 0)}).",
            hint="Look at the disk, and at the owner and permissions of the data directory.",
        ) from None


def _tupled(value: Any) -> Any:
    """TOML's arrays as tuples, which strict validation takes for frozen fields."""
    if isinstance(value, dict):
        return {key: _tupled(each) for key, each in value.items()}
    if isinstance(value, list):
        return tuple(_tupled(each) for each in value)
    return value


def _problem(error: Any) -> SetupError:
    """One thing that is wrong, by the name of its key; the value itself is not repeated."""
    where = ".".join(str(step + 1) if isinstance(step, int) else step for step in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."
        return SetupError(f"{FILE_NAME}: there is no setting {where}.", hint=hint)
    if error["type"] == "missing":
        return SetupError(f"{FILE_NAME}: {where} is missing.", hint="Add it, or run: veilsupport setup")
    hint = error["msg"].removeprefix("Value error, ")
    return SetupError(f"{FILE_NAME}: {where or 'the file'} is not right.", hint=hint)


def _known_keys(path: tuple[str | int, ...]) -> list[str]:
    """Of the table at that path."""
    table: type[BaseModel] = Config
    for step in path:
        if isinstance(step, str):  # the others count the tables of an array
            table = _table_in(table.model_fields[step].annotation)
    return list(table.model_fields)


def _table_in(annotation: Any) -> type[BaseModel]:
    """The one that a field holds: by itself, in a tuple, or perhaps."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_table_in(each) for each in get_args(annotation) if each not in (Ellipsis, NoneType))
