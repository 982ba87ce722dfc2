"""What an operator's files may hold: the configuration, and a backup that was damaged or made by someone else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import tomli_w

from tests.fuzz.chance import MARK, Chance
from tests.fuzz.run import Take
from tests.test_backup import CHEAP, WORD
from tests.test_backup import desk as some_desk
from veilsupport import config
from veilsupport.config import Config
from veilsupport.directory import KEPT
from veilsupport.errors import SetupError
from veilsupport.moving import backup
from veilsupport.moving.sealedfile import MAGIC, OpenedFile, SealingFile

_EXAMPLE: Final[dict[str, Any]] = {
    "desk": {"name": "Support", "greeting": "Write to us.", "hours": "mon-fri 9-17", "retention_days": 30},
    "xmpp": {"jid": "desk@chat.example", "host": "a" * 56 + ".onion", "port": 5222, "form": "rooms", "archive": True},
    "admin": [{"jid": "ada@chat.example", "name": "Ada", "role": "leads", "roles": {"shop": "reads"}}],
    "site": [{"name": "shop", "title": "The Shop", "origins": ["https://shop.example"], "accent": "#c2410c"}],
    "tor": {"lines": ["SafeLogging 1"]},
    "web": {"prefix": "/help"},
    "onion": {"client": [{"name": "ada", "key": "A" * 52}]},
    "health": {"port": 9000},
}


# ---- configuration -------------------------------------------------------------------------------------------------


def make_settings(chance: Chance) -> bytes:
    if chance.happens(0.02):
        return b"a = " + chance.pick([b"[", b"{b="]) * chance.random.randrange(1, 5000)
    values = json.loads(json.dumps(_EXAMPLE))
    for _ in range(chance.random.randrange(1, 4)):
        table = chance.pick([values, *_tables_in(values)])
        table[chance.word(*table, *Config.model_fields) or "x"] = _without_none(chance.value())
    return chance.bent(tomli_w.dumps(values).encode("utf-8", "replace"), share=0.3)


def _tables_in(value: Any) -> list[dict[str, Any]]:
    within = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [each for each in within if isinstance(each, dict)] + [each for one in within for each in _tables_in(one)]


def _without_none(value: Any) -> Any:
    """TOML has none."""
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_none(each) for each in value]
    return "" if value is None else value


@contextlib.asynccontextmanager
async def settings_opened(_: Path) -> AsyncIterator[Take]:
    async def take(case: bytes) -> None:
        try:
            found = config.parse(case.decode("utf-8", "replace"))
        except SetupError:
            return
        again = tomli_w.dumps(_without_nothing(found.model_dump(mode="json")))
        assert config.parse(again) == found, "it is another one when it was written"

    yield take


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nothing(each) for name, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value] if isinstance(value, list | tuple) else value


# ---- backups -------------------------------------------------------------------------------------------------------


def make_backup(chance: Chance) -> bytes:
    """What is done to a good one: outside, to the file; inside, to what is sealed in it; or another file altogether."""
    if chance.happens(0.05):
        return b"file" + chance.one_of(b"", MAGIC, MAGIC[:7]) + chance.text().encode("utf-8", "replace")
    edits = []
    for _ in range(chance.random.choice((1, 1, 2, 5))):
        # Mostly where the heads are: of the file, of the manifest, of a file in it.
        at = chance.one_of(chance.random.randrange(200), 512 * chance.random.randrange(12), chance.random.random())
        data = chance.one_of(
            b"", bytes([chance.random.getrandbits(8)]), chance.text().encode("utf-8", "replace")[:3000]
        )
        edits.append(
            (at + chance.random.randrange(160) if at >= 1 else at, chance.one_of("put", "over", "cut"), data.hex())
        )
    return chance.one_of(b"outer", b"inner", b"words") + json.dumps([edits, chance.value()]).encode()


@contextlib.asynccontextmanager
async def backups_opened(directory: Path) -> AsyncIterator[Take]:
    await asyncio.to_thread(some_desk, directory / "desk")
    backup.make(directory / "desk", directory / "good", WORD, now=6000.0, cost=CHEAP)
    good = (directory / "good").read_bytes()
    with (directory / "good").open("rb") as file:
        inner = OpenedFile(file, WORD).read(len(good)).rstrip(b"\0") + bytes(1024)
    names = sorted(path.name for path in directory.iterdir())

    async def take(case: bytes) -> None:
        bad = directory / "bad"
        bad.write_bytes(_edited(case, good, inner))
        with contextlib.suppress(SetupError):
            backup.verify(bad, WORD)
        said = ""
        try:
            backup.restore(bad, directory / "new", WORD)
            _empty(directory / "new")
        except SetupError as error:
            said = error.message + error.hint
        assert MARK not in said, "it repeats what stands in the file"
        bad.unlink()
        assert sorted(path.name for path in directory.iterdir()) == names, "something was left behind"

    yield take


def _edited(case: bytes, good: bytes, inner: bytes) -> bytes:
    layer, rest = case[:5], case[5:]
    if layer not in (b"outer", b"inner", b"words"):
        return case[4:]
    edits, value = json.loads(rest)
    if layer == b"words":
        return _sealed(_tar(value, edits))
    return functools.reduce(_edit, edits, good) if layer == b"outer" else _sealed(functools.reduce(_edit, edits, inner))


def _edit(data: bytes, edit: tuple[float, str, str]) -> bytes:
    place, what, more = edit
    at = int(place if place >= 1 else place * len(data))
    new = bytes.fromhex(more)
    match what:
        case "put":
            return data[:at] + new + data[at:]
        case "over":
            return data[:at] + new + data[at + len(new) :]
        case _:
            return data[:at]


def _sealed(content: bytes) -> bytes:
    out = io.BytesIO()
    sealing = SealingFile(out, WORD, cost=CHEAP)
    sealing.write(content)
    sealing.close()
    return out.getvalue()


def _tar(value: Any, edits: list[Any]) -> bytes:
    """A manifest that says anything, and files of any name and kind."""
    out = io.BytesIO()
    names = [*KEPT, "../up", "/etc/x", "veilsupport.sqlite", "a/b"]
    sizes = {names[int(at) % len(names)]: len(more) // 2 for at, _, more in edits}
    manifest = {"format": 1, "version": "1", "schema": 1, "made_minute": 1, "files": sizes}
    if isinstance(value, dict):
        manifest |= value
    with tarfile.open(fileobj=out, mode="w") as tar:
        content = json.dumps(manifest if len(edits) % 2 else value).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        for at, what, more in edits:
            entry = tarfile.TarInfo(names[int(at) % len(names)])
            entry.type = tarfile.SYMTYPE if what == "cut" else tarfile.REGTYPE
            entry.linkname = "/etc/passwd" if what == "cut" else ""
            entry.size = 0 if what == "cut" else len(more) // 2
            tar.addfile(entry, io.BytesIO(bytes.fromhex(more)))
    return out.getvalue()


def _empty(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    directory.rmdir()
