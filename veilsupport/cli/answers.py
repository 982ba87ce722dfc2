"""What setup is told: by flags, by environment, by a file, or by what the operator types; and the settings it makes.

In the file each key is a flag's name without its dashes. Passwords are not among them, only files that hold them.
Knows no terminal.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from veilsupport import config
from veilsupport.config import Config
from veilsupport.errors import SetupError, SetupErrors
from veilsupport.model import Private


@dataclass(frozen=True, slots=True)
class Answers:
    """None, or no admin: that stays as it is. An admin is written JID=NAME."""

    jid: str | None = None
    host: str | None = None
    port: int | None = None
    tls: str | None = None
    certificate: str | None = None
    admin: tuple[str, ...] = ()
    name: str | None = None
    greeting: str | None = None
    password_file: Path | None = None
    new_passphrase_file: Path | None = None
    password: Private | None = None
    new_passphrase: Private | None = None  # "" takes it off

    @property
    def any(self) -> bool:
        """Whether anything is answered at all."""
        return self != Answers()


_SECRETS: Final = ("password", "new_passphrase", "passphrase")
_KEYS: Final = tuple(each.name for each in fields(Answers) if each.name not in _SECRETS)


def from_file(path: Path) -> tuple[Answers, list[SetupError]]:
    """What the file answers, and all that is wrong in it. A path in it is seen from the file's own directory."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        problem = SetupError("The file with the answers cannot be read.", hint="Look at its path and permissions.")
        return Answers(), [problem]
    except tomllib.TOMLDecodeError:
        problem = SetupError(
            "The file with the answers is not valid TOML.", hint='Write lines such as: jid = "desk@chat.example"'
        )
        return Answers(), [problem]
    found: dict[str, Any] = {}
    problems = []
    for key, value in values.items():
        problem_or_value = _read(key, value, path.parent)
        if isinstance(problem_or_value, SetupError):
            problems.append(problem_or_value)
        else:
            found[key.replace("-", "_")] = problem_or_value
    return Answers(**found), problems


def _read(key: str, value: object, beside: Path) -> Any:
    """The value in the shape that Answers takes, or what is wrong with it."""
    name = key.replace("-", "_")
    flag = name.replace("_", "-")
    if name in _SECRETS:
        return SetupError(
            f"The file with the answers holds a secret: {flag}.",
            hint=f"Write {flag}-file instead, with the path of a file that holds it; change it if others saw it.",
        )
    if name not in _KEYS:
        known = [each.replace("_", "-") for each in _KEYS]
        near = difflib.get_close_matches(flag, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known there: {', '.join(known)}."
        return SetupError(f"The file with the answers has an unknown key: {flag}.", hint=hint)
    match name, value:
        case "admin", [*each] if all(isinstance(admin, str) for admin in each):
            return tuple(each)
        case "port", int() if not isinstance(value, bool):
            return value
        case (("password_file" | "new_passphrase_file"), str()):
            return beside / value
        case (("admin" | "port" | "password_file" | "new_passphrase_file"), _):
            pass
        case _, str():
            return value
    shape = {"admin": '["ada@chat.example=Ada"]', "port": "5222"}.get(name, '"…"')
    return SetupError(f"The file with the answers: {flag} is not right.", hint=f"Write it as: {flag} = {shape}")


def over(first: Answers, second: Answers) -> Answers:
    """The first's answers, and the second's where the first has none."""
    given = {each.name: value for each in fields(Answers) if (value := getattr(first, each.name)) not in (None, ())}
    return replace(second, **given)


def applied(before: Config, answers: Answers, problems: list[SetupError] | None = None) -> Config:
    """The settings after these answers. SetupErrors names every wrong one, behind those `problems`."""
    wrong = list(problems or ())
    try:
        after = config.check(_values(before, answers))
    except SetupErrors as error:
        raise SetupErrors([*wrong, *error.problems]) from None
    if wrong:
        raise SetupErrors(wrong)
    return after


def _values(before: Config, answers: Answers) -> dict[str, Any]:
    values = before.model_dump()
    xmpp = _given(answers, "jid", "host", "port", "tls", "certificate")
    if xmpp:
        values["xmpp"] = (values["xmpp"] or {}) | xmpp
    values["desk"] |= _given(answers, "name", "greeting")
    if answers.admin:
        known = {each.jid: each.model_dump() for each in before.admin}  # roles and the like stay as they are
        given = [admin_in(each) for each in answers.admin]
        values["admin"] = tuple(known.get(each["jid"].strip().lower(), {}) | each for each in given)
    return values


def _given(answers: Answers, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(answers, name)) is not None}


def admin_in(answer: str) -> dict[str, str]:
    """`JID=NAME`; without a name the account's own."""
    jid, _, name = answer.partition("=")
    return {"jid": jid, "name": name or jid.partition("@")[0].capitalize()}
