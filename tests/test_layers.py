"""Who may import whom: the table of design.md, held for every import in the package, function bodies included."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "veilsupport"
CORE = {"errors", "model"}
LEAVES = {"config", "log", "resources", "socks"}
ALLOWED = {
    "errors": set[str](),
    "model": {"errors"},
    "crypto": CORE,
    "limits": CORE,
    "guesses": set[str](),
    "breaker": set[str](),
    "pressure": {"breaker", "errors"},
    "store": CORE,
    "commands": CORE,
    "hours": CORE,
    "desk": CORE | {"crypto", "limits", "store", "commands", "hours"},
    "alarms": CORE,
    "resources": set[str](),
    "bundle": {"resources"},
    "unpacked": {"hardening", "resources"},
    "log": CORE,
    "hardening": set[str](),
    "steadiness": set[str](),
    "ageing": CORE | {"desk", "directory", "log", "steadiness"},
    "rules": {"hours"},
    "vitals": CORE | {"alarms", "tor", "xmpp"},
    "metrics": CORE | {"tor", "vitals", "xmpp"},
    "observing": CORE | {"config", "desk", "directory", "limits", "metrics", "store", "tor", "vitals", "web", "xmpp"},
    "config": CORE | {"rules"},
    "people": CORE | {"config", "crypto", "desk", "socks", "store", "xmpp"},
    "socks": CORE,
    "directory": CORE | {"crypto", "config"},
    "sealedfile": CORE | {"crypto"},
    "backup": CORE | {"config", "crypto", "directory", "sealedfile", "store"},
    "twin": CORE | {"socks", "tor"},
    "restored": CORE
    | {"bundle", "config", "crypto", "desk", "directory", "onions", "people", "store", "tor", "twin", "xmpp"},
    "cli_backup": CORE | {"backup", "options"},
    "controlsocket": set[str](),
    "web": CORE | LEAVES | {"breaker", "desk", "guesses", "limits"},
    "xmpp": CORE | LEAVES | {"desk", "commands"},
    "tor": CORE | LEAVES,
    "app": CORE
    | LEAVES
    | {
        "alarms",
        "breaker",
        "pressure",
        "bundle",
        "controlsocket",
        "ageing",
        "crypto",
        "onions",
        "people",
        "observing",
        "store",
        "desk",
        "directory",
        "checkup",
        "web",
        "xmpp",
        "tor",
    },
    "machine": set[str](),
    "checks": CORE | {"config", "crypto", "directory", "machine", "store"},
    "loopback": CORE | {"checks", "socks"},
    "checkup": CORE | {"alarms", "checks", "config", "crypto", "desk", "loopback", "tor", "xmpp"},
    "seizure": {"config", "machine", "store"},
    "cli_doctor": CORE | {"app", "checks", "config", "crypto", "directory", "machine", "options"},
    "cli_seizure": CORE | {"config", "crypto", "directory", "machine", "options", "seizure", "store"},
    "onions": CORE | {"config", "crypto", "tor"},
    "terminal": CORE | {"tor", "xmpp"},
    "options": CORE,
    "cli_desk": CORE | {"directory", "options", "terminal"},
    "cli_sites": CORE | LEAVES | {"directory", "options"},
    "transcripts": CORE | {"crypto", "desk", "store"},
    "cli_keeping": CORE | LEAVES | {"crypto", "desk", "directory", "options", "people", "store", "transcripts"},
    "cli_omemo": CORE | {"directory", "options", "terminal"},
    "cli_admin": CORE | LEAVES | {"directory", "options"},
    "cli_onion": CORE | LEAVES | {"crypto", "directory", "onions", "options", "terminal"},
    "answers": CORE | {"config"},
    "asking": set[str](),
    "rehearsal": CORE | LEAVES | {"bundle", "people", "tor", "xmpp"},
    "examination": CORE | LEAVES | {"rehearsal", "terminal", "xmpp"},
    "cli_evening": CORE
    | LEAVES
    | {"answers", "asking", "crypto", "directory", "examination", "options", "people"}
    | {"rehearsal", "rules", "terminal", "xmpp"},
    "cli_setup": CORE
    | LEAVES
    | {"answers", "cli_evening", "cli_omemo", "crypto", "directory", "examination", "options", "people"},
    "cli_status": CORE | {"directory", "options", "terminal"},
    "cli_version": {"bundle", "resources"},
    "cli": CORE
    | LEAVES
    | {"app", "crypto", "directory", "hardening", "options", "restored", "terminal"}
    | {
        "cli_backup",
        "cli_desk",
        "cli_doctor",
        "cli_keeping",
        "cli_omemo",
        "cli_onion",
        "cli_setup",
        "cli_sites",
        "cli_status",
        "cli_version",
    }
    | {"cli_admin", "cli_seizure"},
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
    "click": {
        "cli",
        "cli_doctor",
        "asking",
        "cli_evening",
        "cli_seizure",
        "cli_backup",
        "cli_desk",
        "cli_omemo",
        "cli_admin",
        "cli_onion",
        "cli_setup",
        "cli_keeping",
        "cli_sites",
        "cli_status",
        "options",
        "cli_version",
    },
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
