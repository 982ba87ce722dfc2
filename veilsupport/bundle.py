"""What is inside the built executable: its parts with their versions and licences, and its tor.

The list of parts is made at build time (packaging/licences.py) and shipped; in a checkout it is read off what is
installed. Knows nothing of what any part is used for.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Final

from veilsupport import resources
from veilsupport.resources import IS_BUILT

TOR: Final = "bin/tor"  # inside the bundle

_UNKNOWN: Final = "not named"


@dataclass(frozen=True, slots=True)
class Component:
    """One part, by the name under which it is known."""

    name: str
    version: str
    licence: str  # an SPDX expression where one is known
    source: str = ""  # where the corresponding source is, in words; empty for the usual place of a Python package
    files: tuple[str, ...] = ()  # in the bundle: programs and libraries that are this part, wholly or mostly
    texts: tuple[str, ...] = ()  # in the bundle: its licence


# ---- what is inside ----------------------------------------------------------------------------------------------


def components() -> list[Component]:
    """Every part: as the build wrote them down, or in a checkout as they are installed, without tor."""
    if IS_BUILT:
        return [Component(**_with_tuples(each)) for each in _manifest()["components"]]
    return sorted((described(each) for each in _required()), key=lambda part: part.name.lower())


def commit() -> str | None:
    """From which commit it was built; None in a checkout, where git knows."""
    return str(_manifest()["commit"]) if IS_BUILT else None


def manifest(commit: str, parts: list[Component]) -> str:
    """What the build ships and `components` reads."""
    document = {"commit": commit, "components": [asdict(part) for part in parts]}
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def described(distribution: metadata.Distribution) -> Component:
    """An installed Python package."""
    return Component(distribution.name, distribution.version, _licence(distribution))


def _manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(resources.text(resources.MANIFEST))
    return found


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _licence(distribution: metadata.Distribution) -> str:
    """As its author states it: by expression, by a short word, or by a classifier."""
    told = distribution.metadata
    for value in [*(told.get_all("License-Expression") or ()), *(told.get_all("License") or ())]:
        if value and "\n" not in value and value != "UNKNOWN":
            return str(value)
    classifiers = [each.split(" :: ")[-1] for each in told.get_all("Classifier") or () if each.startswith("License ::")]
    return ", ".join(classifiers) or _UNKNOWN


def _required() -> list[metadata.Distribution]:
    """What pyproject.toml names, and what that requires in turn, as far as it is installed."""
    project = tomllib.loads(resources.text("pyproject.toml"))["project"]
    waiting: list[str] = list(project["dependencies"])
    found: dict[str, metadata.Distribution] = {}
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        if requirement in seen:
            continue
        seen.add(requirement)
        name, extras = _name_and_extras(requirement)
        with contextlib.suppress(metadata.PackageNotFoundError):  # for another system or another Python
            distribution = metadata.distribution(name)
            found[distribution.name] = distribution
            waiting += [each for each in distribution.requires or () if _is_wanted(each, extras)]
    return list(found.values())


def _name_and_extras(requirement: str) -> tuple[str, set[str]]:
    """`name[one,other]==2.1.*` → name, {one, other}."""
    match = re.match(r"([\w.-]+)\s*(?:\[([^\]]*)\])?", requirement)
    assert match is not None
    return match[1], {each.strip() for each in (match[2] or "").split(",") if each.strip()}


def _is_wanted(requirement: str, extras: set[str]) -> bool:
    """Whether it is required without any extra, or by one of these."""
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", requirement)
    return extra is None or extra[1] in extras


# ---- tor ---------------------------------------------------------------------------------------------------------


def tor(executable: str) -> tuple[str, str | None]:
    """Which tor to start where the settings say `executable`, and the library path that it needs; None: none.

    The executable's own tor, unless the operator named another. Its libraries lie beside the program's; no other
    child may get this path.
    """
    if IS_BUILT and executable == "tor":
        return str(resources.path(TOR)), str(resources.path(""))
    return executable, None
