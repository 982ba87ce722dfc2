"""Whole journeys with an admin on the line, and every byte that they leave: on disk, in logs, in memory.

Marks for text, e-mail address, password, code, token, alias, JID and onion key; the archive, OMEMO, a backup, doctor
and expiry are among what they pass. What may be where by design (schema.sql, data/README.md) stands in `_by_design`;
everything else must be nowhere. What `seizure` says is held against what whoever took the disk does read.

For the image of the running process the findings are printed, and only what can be held is asserted: Python copies
strings where it likes and frees them without overwriting, so that words that passed may be found until their place is
used again. `seizure` says that a running machine can be read.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.browser import Browser
from tests.live.appliance import Appliance, run_command
from tests.live.maindesk import PASSWORDS, is_online
from tests.live.overhttp import browser_at
from tests.live.prosody import Prosody
from tests.live.test_moving import PlainAdmin, SealedAdmin
from tests.ports import free_port
from tests.test_silence import MARKS, badly, code_in, places_of, spellings, well
from veilsupport import config, controlsocket, crypto, people
from veilsupport.crypto import ApplianceKey
from veilsupport.desk import Desk
from veilsupport.directory import DATABASE, KEY, ONION_KEY, DataDirectory, Onion
from veilsupport.errors import SealError, SetupError
from veilsupport.model import Private
from veilsupport.store import Store

ANSWER: Final = "MARKanswerzqx"
PHRASE: Final = "MARKpassphrasezqx"
BACKUP: Final = "MARKbackupphrasezqx"
BURNED: Final = "MARKburnedzqx"
VOID: Final = "MARKvoidzqx"  # written while no server took it
WORDS: Final = "MARKarchivewordszqx"


class House:
    """One desk, its data directory, and everywhere that anything of it may come to lie."""

    def __init__(self, directory: Path, server: Prosody, *, passphrase: bool) -> None:
        self.data, self.temporary = directory / "data", directory / "tmp"
        self.server, self.has_passphrase = server, passphrase
        self.file = directory / "desk.backup"
        self.temporary.mkdir()
        self.phrase = directory / "phrase"
        self.phrase.write_text(PHRASE)
        self.environment = {"TMPDIR": str(self.temporary), "VEILSUPPORT_BACKUP_PASSPHRASE": BACKUP}
        self.said: list[str] = []  # what the commands printed
        self._shared = set(Path("/dev/shm").iterdir())
        os.environ["TMPDIR"] = str(self.temporary)

    def command(self, *arguments: str) -> str:
        needs = ["--passphrase-file", str(self.phrase)] if self.has_passphrase and arguments[0] == "doctor" else []
        done = run_command(*arguments, *needs, env=self.environment)
        assert "Traceback" not in done.stderr, done.stderr
        self.said.append(done.stdout + done.stderr)
        return done.stdout

    def set_up(self) -> None:
        server = self.server
        answers = ["--jid", server.jid("desk"), "--host", "127.0.0.1", "--port", str(server.port)]
        answers += ["--certificate", server.fingerprint, "--admin", f"{server.jid('ada')}=Ada"]
        answers += ["--new-passphrase-file", str(self.phrase)] if self.has_passphrase else []
        password = {"VEILSUPPORT_XMPP_PASSWORD": PASSWORDS["desk"]}
        done = run_command("setup", "--data", str(self.data), *answers, env={**self.environment, **password})
        assert done.returncode == 0, done.stderr
        with DataDirectory(self.data) as house:
            house.onion(Onion.PAGE, house.key(lambda: Private(PHRASE)))

    def appliance(self) -> Appliance:
        phrase = ["--passphrase-file", str(self.phrase)] if self.has_passphrase else []
        return Appliance(self.data, "--no-tor", "--port", str(free_port()), "--verbose", *phrase)

    def found(self, marks: list[str], appliance: Appliance) -> list[str]:
        """Where marks lie that should lie nowhere."""
        found = [each for each in places_of(marks, self.data, appliance.output) if each not in self._by_design()]
        jids = {self.server.jid(name) for name in ("desk", "ada")}  # which `doctor` tells the operator
        found += [f"a command said {mark}" for mark in {*marks} - jids if mark in "".join(self.said)]
        found += places_of(marks, self.temporary, "")
        backup = self.file.read_bytes() if self.file.exists() else b""
        found += [f"the backup has {mark}" for mark in marks for each in spellings(mark) if each in backup]
        new = {each for each in Path("/dev/shm").iterdir() if each.is_file()} - self._shared
        found += [
            f"{file.name} in shared memory" for file in new if any(m.encode() in file.read_bytes() for m in marks)
        ]
        return found

    def _by_design(self) -> set[str]:
        return {f"{config.FILE_NAME} has {self.server.jid(name)}" for name in ("desk", "ada")}


@pytest.mark.parametrize("passphrase", [False, True], ids=["open", "passphrase"])
def test_nothing_of_whole_journeys_is_found_where_it_should_not_be(
    passphrase: bool, prosody: Prosody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    house = House(tmp_path, prosody, passphrase=passphrase)
    house.set_up()
    asyncio.run(told(house))


async def told(house: House) -> None:
    ada = SealedAdmin(house.server) if house.has_passphrase else PlainAdmin(house.server)
    with house.appliance() as appliance:
        page = appliance.wait_for_page()
        await asyncio.to_thread(appliance.wait_until, "online", is_online)
        browser = browser_at(page)
        async with ada.phone:
            secrets = await journeys(house, ada, browser)
        marks = [*MARKS, ANSWER, PHRASE, BACKUP, WORDS, *PASSWORDS.values(), *secrets.values()]
        marks += [house.server.jid("desk"), house.server.jid("ada")]
        alias = next(iter(set(re.findall(r"\b[a-z]+-\d+\b", house.command("desk", "list", "--data", str(house.data))))))
        house.said.pop()  # it is for the operator to see
        assert house.found(marks, appliance) == []
        assert [each for each in places_of([alias], house.data, appliance.output) if "sqlite" not in each] == []
        print("in memory, sessions open:", in_memory(appliance, {**secrets, "answer": ANSWER, "phrase": PHRASE}))
        burned = await burned_by(page, ada)
        assert house.found([*marks, *burned.values()], appliance) == []
        print("in memory, after it was burned:", in_memory(appliance, burned))
        for _ in range(3):  # What is free is used again when others come; when, is the allocator's to say.
            await busy(page)
            print("in memory, when others had come:", in_memory(appliance, burned))
        house.server.stop()
        await browser.say(VOID)
        appliance.kill()
        marks += [*burned.values(), VOID]
        assert house.found(marks, appliance) == []
        seized(house, alias, browser.cookie.partition("=")[2])
        await expired(house)
        assert house.found([*marks, alias], appliance) == []


async def journeys(house: House, ada: PlainAdmin, browser: Browser) -> dict[str, str]:
    """Good ones and bad ones; the secrets that were given."""
    data = str(house.data)
    enable = json.dumps({"enable": crypto.archive_keys(Private(WORDS)).public.hex()})
    assert controlsocket.ask(house.data, f"archive {enable}")
    await badly(browser_at(f"http://{browser.host}"))
    token, code = await well(browser)
    room = await ada.hears(f"hello {MARKS[0]}")
    await ada.says(room, ANSWER)
    async with asyncio.timeout(30):
        while ANSWER not in (await browser.get("/chat/latest")).text:
            await asyncio.sleep(0.1)
    for line in (("doctor", "--data", data, "--no-tor"), ("backup", str(house.file), "--data", data)):
        await asyncio.to_thread(house.command, *line)
    await asyncio.to_thread(house.command, "backup", "--verify", str(house.file))
    await asyncio.to_thread(house.command, "expire", "--data", data)
    await asyncio.to_thread(house.command, "status", "--data", data)
    await asyncio.to_thread(house.command, "seizure", "--data", data)
    return {"token": token, "code": code}


async def burned_by(page: str, ada: PlainAdmin) -> dict[str, str]:
    """Someone else writes and burns; what is there no more."""
    browser = browser_at(page)
    await browser.start(f"{BURNED} hello")
    secrets = {"token": browser.cookie.partition("=")[2], "code": code_in((await browser.get("/chat")).text)}
    assert (await browser.send_form("/chat/burn")).status == 303
    return {**secrets, "text": BURNED}


async def busy(page: str) -> None:
    """What a desk does in a minute."""
    for number in range(30):
        browser = browser_at(page)
        shown = await browser.get("/")
        await browser.post("/", {**shown.hidden(), "message": os.urandom(9).hex() * 30}) if number < 5 else None
        await browser.get("/chat")


def in_memory(appliance: Appliance, marks: Mapping[str, str]) -> dict[str, int]:
    """How often each is in the image of the stopped process, of those that are."""
    assert appliance.process is not None
    pid = appliance.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        image = b"".join(parts_of(pid))
    finally:
        os.kill(pid, signal.SIGCONT)
    counted = {name: image.count(mark.encode()) for name, mark in marks.items()}
    return {name: count for name, count in counted.items() if count}


def parts_of(pid: int) -> Iterator[bytes]:
    """All that is written to, as a debugger of the system's administrator reads it."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                begin, end = (int(each, 16) for each in span.split("-"))
                memory.seek(begin)
                try:
                    yield memory.read(end - begin)
                except OSError:  # a part that only the kernel may read
                    continue


# ---- whoever takes the disk ----------------------------------------------------------------------------------------


def seized(house: House, alias: str, token: str) -> None:
    """What `seizure` says of this disk, and what can be read from it with nothing but the disk."""
    sections = json.loads(house.command("seizure", "--json", "--data", str(house.data)))
    house.said.pop()  # it counts and names, as it should
    page = " ".join(next(each["sentences"] for each in sections if each["title"].startswith("A disk")))
    database = b"".join(file.read_bytes() for file in house.data.glob(f"{DATABASE}*"))
    assert ("their aliases" in page) == (alias.encode() in database)
    assert ("accounts and public names" in page) == (
        house.server.jid("ada") in (house.data / config.FILE_NAME).read_text()
    )
    key = key_without_passphrase(house.data / KEY)
    assert ("The appliance's key is not under a passphrase" in page) == (key is not None) == (not house.has_passphrase)
    onion = house.data / "tor" / Onion.PAGE / ONION_KEY
    assert ("can speak under your onion address" in page) == onion.exists() == (key is not None)
    if key is None:
        assert "lines that nobody has got yet" in page or "1 line that nobody has got yet" in page
        return
    read = words_read(house, key)
    assert read["password"] == PASSWORDS["desk"]
    assert "the XMPP password can be read" in page
    said = re.search(r"(\d+) lines? can be read\W+(?:that )?no server", page)
    assert said, page
    assert int(said[1]) >= len(read["lines"]) > 0  # more, when something was under way
    assert any(VOID in line for line in read["lines"])
    assert not any(ANSWER in line or MARKS[0] in line for line in read["lines"]), "a delivered line can be read"
    assert token not in str(read)


def key_without_passphrase(file: Path) -> ApplianceKey | None:
    try:
        with DataDirectory(file.parent) as house:
            return house.key(lambda: None)
    except (SetupError, SealError):
        return None


def words_read(house: House, key: ApplianceKey) -> dict[str, Any]:
    """All that the appliance's key opens, on a copy."""
    taken = house.data.with_name("taken")
    shutil.copytree(house.data, taken, ignore=shutil.ignore_patterns("*.sock", "*.socket", "run"))
    store = Store(taken / DATABASE)
    desk = Desk(store, key, people.admins_of(config.load(taken)), uses_rooms=True)
    try:
        lines = [each.body for each in desk.due(now=time.time() + 10**6, limit=10_000)]
        return {"password": people.stored_password(store, key).reveal(), "lines": lines}
    finally:
        desk.close()
        store.close()
        shutil.rmtree(taken)


async def expired(house: House) -> None:
    """More than a year later, with nothing but expiry."""
    values = config.load(house.data).model_dump()
    settings = config.check({**values, "desk": {**values["desk"], "retention_days": 30, "idle_days": 300}})
    with DataDirectory(house.data) as there:
        key = await asyncio.to_thread(there.key, lambda: Private(PHRASE))
        store = Store(there.database)
        desk = Desk(store, key, people.admins_of(settings), sites=people.sites_of(settings), uses_rooms=True)
        try:
            await desk.expire(time.time() + 400 * 86_400)
        finally:
            desk.close()
            store.close()
