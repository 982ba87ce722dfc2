"""Who may import whom: the table of design.md, held for every import in the package, function bodies included."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "veilsupport"
CORE = {"errors", "model"}
LEAVES = {"config", "log", "resources", "socks"}
ALLOWED = {
    # the core
    "errors": set[str](),
    "model": {"errors"},
    "crypto": CORE,
    "limits": CORE,
    "guesses": set[str](),
    "breaker": set[str](),
    "steadiness": set[str](),
    "store": CORE,
    "commands": CORE,
    "hours": CORE,
    "alarms": CORE,
    "inbox": set[str](),
    "desk": CORE | {"crypto", "limits", "store", "commands", "hours", "inbox"},
    # leaves
    "resources": set[str](),
    "bundle": {"resources"},
    "unpacked": {"hardening", "resources"},
    "log": CORE,
    "hardening": set[str](),
    "garbage": set[str](),
    "rules": {"hours"},
    "config": CORE | {"rules"},
    "socks": CORE,
    "directory": CORE | {"config", "controlsocket", "crypto", "machine"},
    "machine": set[str](),
    "controlsocket": {"errors"},
    # the edges
    "web": CORE | LEAVES | {"breaker", "desk", "guesses", "inbox", "limits"},
    "xmpp": CORE | LEAVES | {"desk", "commands"},
    "tor": CORE | LEAVES,
    # what knows several of them
    "people": CORE | {"config", "crypto", "desk", "socks", "store", "xmpp"},
    "onions": CORE | {"bundle", "config", "crypto", "tor"},
    "pressure": {"breaker", "errors"},
    "ageing": CORE | {"desk", "directory", "garbage", "log", "steadiness"},
    "vitals": CORE | {"alarms", "tor", "xmpp"},
    "metrics": CORE | {"tor", "vitals", "xmpp"},
    "observing": CORE | {"config", "desk", "directory", "limits", "metrics", "store", "tor", "vitals", "web", "xmpp"},
    "doctor": CORE
    | {"alarms", "config", "controlsocket", "crypto", "desk", "directory", "machine", "socks", "store", "tor", "xmpp"},
    "seizure": {"config", "machine", "store"},
    "transcripts": CORE | {"crypto", "desk", "store"},
    "moving": CORE | {"config", "crypto", "directory", "onions", "people", "socks", "store", "tor", "xmpp"},
    "app": CORE
    | LEAVES
    | {"ageing", "alarms", "breaker", "bundle", "controlsocket", "crypto", "desk", "directory", "doctor", "observing"}
    | {"onions", "people", "pressure", "store", "tor", "web", "xmpp"},
    "cli": CORE
    | LEAVES
    | {"app", "bundle", "controlsocket", "crypto", "desk", "directory", "doctor", "hardening", "machine", "moving"}
    | {"onions", "people", "rules", "seizure", "store", "tor", "transcripts", "xmpp"},
}
# Who alone may import what from outside: the one place to look when a library changes.
ONLY = {
    "nacl": {"crypto"},
    "argon2": {"crypto"},
    "sqlite3": {"store"},
    "stem": {"tor"},
    "slixmpp": {"xmpp"},
    "omemo": {"xmpp"},
    "oldmemo": {"xmpp"},
    "doubleratchet": {"xmpp"},
    "twomemo": {"xmpp"},
    "slixmpp_omemo": {"xmpp"},
    "x3dh": {"xmpp"},
    "xeddsa": {"xmpp"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "websockets": {"web"},
    "jinja2": {"web"},
    "prometheus_client": {"metrics"},
    "pydantic": {"config", "web"},
    "click": {"cli"},
}


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_import_is_in_the_table(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        assert not [name for name in imports_of(path) if name.startswith("veilsupport")]
        return
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("veilsupport.")}
    rooms = {name for name in ours if not name.startswith("__")} & {p.stem for p in PACKAGE.iterdir()}
    assert rooms - {room} <= ALLOWED[room], f"{room} may not import {rooms - {room} - ALLOWED[room]}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_has_one_importer(path: Path) -> None:
    for name in imports_of(path):
        library = name.split(".")[0]
        assert room_of(path) in ONLY.get(library, {room_of(path)}), f"{library} is imported by {path}"
