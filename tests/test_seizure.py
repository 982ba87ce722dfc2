"""The page changes with every switch as it must; and what it says of the disk is compared with the bytes on it."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.desks import ADA, NOON, bodies, desk_in, hand_over, start
from tests.live.appliance import run_command
from tests.test_silence import places_of
from veilsupport import crypto
from veilsupport.cli import cli
from veilsupport.cli.seizure import facts_of
from veilsupport.config import FILE_NAME, Config, parse
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import DataDirectory, Onion
from veilsupport.errors import SealError, SetupError
from veilsupport.machine import Swap
from veilsupport.model import Admin, Author, Private
from veilsupport.people import keep_password
from veilsupport.seizure import Facts, seizure
from veilsupport.store.inventory import Inventory, take

WORDS = "MARKwordszqx"
EMAIL, PASSWORD = "MARKemailzqx@mail.example", "MARKpasswordzqx"
XMPP_PASSWORD = "MARKxmppzqx"
PASSPHRASE = Private("correct horse battery staple")
QUIET = Admin("Cleo", Private("cleo@chat.example"), notify_only=True)
ACCOUNT = '[xmpp]\njid = "desk@chat.example"\n'
COMPONENT = '[xmpp]\nform = "component"\ncomponent = "support.example"\n'
ADMIN = '[[admin]]\njid = "{0}@chat.example"\nname = "{0}"\nomemo = "{1}"\n'
FULL = Inventory(conversations=3, open_conversations=2, messages=40, visitors=5, by_code=4, by_email=1, sessions=2)


def settings(text: str = ACCOUNT, **admins: str) -> Config:
    return parse(text + "".join(ADMIN.format(name, omemo) for name, omemo in admins.items()))


def page(config: Config | None = None, facts: Facts | None = None) -> dict[str, str]:
    """Each section's text by its title's first word."""
    sections = seizure(config or settings(Ada="prefer"), facts or Facts(kept=FULL))
    return {each.title.split()[-1]: "\n".join(each.sentences) for each in sections}


def part(name: str, config: Config | None = None, facts: Facts | None = None) -> str:
    titles = {"disk": "off", "running": "runs", "server": "archive", "phone": "phone", "advice": "less"}
    return page(config, facts)[titles[name]]


def kept(**more: Any) -> Facts:
    return Facts(kept=Inventory(**more))


# ---- each switch -----------------------------------------------------------------------------------------------------


def test_the_page_has_its_five_parts_and_only_whole_sentences() -> None:
    for facts in (Facts(), Facts(has_passphrase=True, kept=FULL), kept()):
        for config in (Config(), settings(Ada="off"), settings(COMPONENT, Ada="prefer")):
            sections = seizure(config, facts)
            assert len(sections) == 5
            for sentence in (each for section in sections for each in section.sentences):
                assert re.fullmatch(r"[A-Z–].*[.,:]", sentence), sentence


def test_the_passphrase() -> None:
    without, with_one = part("disk"), part("disk", facts=Facts(has_passphrase=True, kept=FULL))
    assert "is not under a passphrase" in without
    assert "guessed e-mail address can be confirmed" in without
    assert "nor does a guessed e-mail address show" in with_one
    assert "can be confirmed" not in with_one
    assert part("advice").startswith("Protect the appliance's key by a long passphrase")
    assert "Protect the appliance's key" not in part("advice", facts=Facts(has_passphrase=True))


def test_a_key_that_once_lay_in_the_open_is_not_knowable_but_on_a_magnetic_disk() -> None:
    told = [part("disk", facts=Facts(has_passphrase=True, disk_spins=spins)) for spins in (None, False, True)]
    assert ["cannot be known from here" in each for each in told] == [True, True, False]


def test_what_waits_now() -> None:
    for count, told in ((0, "now nothing does"), (7, "7 lines can be read that no server has taken")):
        assert told in part("disk", facts=kept(undelivered=count))
    locked = Facts(has_passphrase=True, kept=Inventory(undelivered=2, held=1))
    assert "nobody gets: 3 lines that nobody has got yet" in part("disk", facts=locked)
    assert "1 line can be read that no admin has asked for" in part("disk", facts=kept(held=1))


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        ({"messages": 3}, "Nobody reads the 3 messages"),
        ({"by_email": 2}, "one of the 2 e-mail accounts"),
        ({"by_email": 2}, "a guessed e-mail address can be confirmed"),
        ({"has_password": True}, "the XMPP password can be read"),
        ({"rooms": 1}, "the addresses of 1 room"),
        ({"canned": 1}, "The names of 1 canned answer."),
        ({"omemo_entries": 9}, "the desk's OMEMO keys can be read"),
        ({"taken": 5}, "wrote to the desk, 5 times"),
        ({"claimed": 1}, "1 conversation had been claimed"),
        ({"copies": 4}, "4 messages can be read with the archive's recovery words"),
        ({"visitors": 1, "oldest_minute": int(NOON // 60)}, "since 15 January 2027"),
        ({"visitors": 2, "sessions": 3}, "3 open sessions"),
    ],
)
def test_what_is_kept_is_told_and_what_is_not_is_not(counted: dict[str, Any], told: str) -> None:
    assert told in part("disk", facts=kept(**counted))
    assert told not in part("disk", facts=kept())


def test_nobody_is_in_an_empty_database() -> None:
    assert "It tells of nobody" in part("disk", facts=kept())
    assert "It tells of nobody" not in part("disk", facts=kept(taken=1))


def test_of_a_database_that_cannot_be_read_the_worst_is_told() -> None:
    told = part("disk", facts=Facts(kept=None))
    assert "no database that can be read" in told
    assert "the XMPP password and all else" in told
    assert "now nothing does" not in told
    assert "the XMPP password and all else" not in part("disk", facts=kept())


def test_disk_encryption_and_swap() -> None:
    beginnings = [part("disk", facts=Facts(disk_is_encrypted=each)).split(":")[0] for each in (True, False, None)]
    assert len(set(beginnings)) == 3
    assert [
        "Encrypt the disk" in part("advice", facts=Facts(disk_is_encrypted=each)) for each in (True, False, None)
    ] == [
        False,
        True,
        True,
    ]
    swapping = [part("disk", facts=Facts(swap=each)) + part("advice", facts=Facts(swap=each)) for each in Swap]
    assert [each for each, text in zip(Swap, swapping, strict=True) if "swap" in text.lower()] == [Swap.DISK]


def test_an_open_onion_key() -> None:
    assert "speak under your onion address" in part("disk", facts=Facts(has_onion_key=True))
    assert "speak under your onion address" not in part("disk", facts=Facts(has_onion_key=True, has_passphrase=True))


def test_the_settings_file_is_in_the_clear() -> None:
    sites = settings(ACCOUNT + '[[site]]\nname = "shop"\ntitle = "Shop"\n', Ada="prefer")
    assert "1 admin, 1 site" in part("disk", sites)
    assert "bridges" not in part("disk", sites)
    assert "bridges" in part("disk", settings(ACCOUNT + '[tor]\nlines = ["UseBridges 1"]\n'))
    assert "in the clear: " not in part("disk", Config())


def test_how_long_it_is_kept() -> None:
    assert "Nothing is erased by itself" in part("disk")
    limited = settings(ACCOUNT + "[desk]\nretention_days = 30\nidle_days = 60\n")
    assert "erased after 30 days" in part("disk", limited)
    assert "used them for 60 days" in part("disk", limited)
    assert "Nothing is erased" not in part("disk", limited)
    assert "retention_days" in part("advice")
    assert "retention_days" not in part("advice", limited)


def test_the_running_machine() -> None:
    assert "passphrase does not help" in part("running", facts=Facts(has_passphrase=True))
    assert "passphrase" not in part("running")
    assert "encryption" in part("running", facts=Facts(disk_is_encrypted=True))
    assert "recovery words" in part("running", facts=kept(archive=True))
    assert "recovery words" not in part("running", facts=kept(archive=False))
    assert "health port" in part("running", settings(ACCOUNT + "[health]\nport = 9000\n"))


def test_the_forms_on_the_server() -> None:
    forms = {form: settings(f'{ACCOUNT}form = "{form}"\n', Ada="prefer") for form in ("rooms", "direct")}
    assert "Each visitor is a room" in part("server", forms["rooms"])
    assert "All visitors come in one chat" in part("server", forms["direct"])
    component = part("server", settings(COMPONENT, Ada="prefer"))
    assert "reads every word of both sides" in component
    assert "It is your own" in component
    assert "could write to visitors in any admin's name" in component
    other = settings(f"{ACCOUNT}[xmpp_onion]\nport = 5222\n")
    assert "It is your own" not in part("server", other), "a server of one's own that the desk does not use yet"
    assert "goes to any server" in part("server", Config())
    assert "somebody else's" in part("server", forms["rooms"])
    assert "It is your own" in part("server", settings(ACCOUNT + 'host = "127.0.0.1"\n'))
    assert "If it is somebody else's" in part("server", settings(f'{ACCOUNT}host = "{"a" * 56}.onion"\n'))


@pytest.mark.parametrize(
    ("wishes", "rooms", "alone"),
    [
        ({"Ada": "require", "Bert": "off"}, "no word of a visitor", "goes to Bert alone it reads every word"),
        ({"Ada": "prefer", "Bert": "off"}, "OMEMO is off for Bert", "goes to Ada alone it reads all until"),
        ({"Ada": "prefer", "Bert": "prefer"}, "unless all who read there have", "goes to Ada, Bert alone"),
    ],
)
def test_what_the_server_reads(wishes: dict[str, str], rooms: str, alone: str) -> None:
    told = part("server", settings(**wishes))
    assert rooms in told
    assert alone in told
    assert "In rooms it reads" not in part("server", settings(f'{ACCOUNT}form = "direct"\n', **wishes))
    assert "could also write to visitors" in told
    assert "could also write" not in part("server", settings(Ada="require"))


def test_the_servers_archive() -> None:
    assert "stays in its archive" in part("server")
    assert "ask not to be kept" in part("server", settings(f"{ACCOUNT}archive = false\n", Ada="prefer"))
    assert "archive = false" in part("advice")
    for better in (settings(f"{ACCOUNT}archive = false\n", Ada="prefer"), settings(Ada="require")):
        assert "archive = false" not in part("advice", better)


def test_who_is_only_told() -> None:
    quiet = parse(ACCOUNT + ADMIN.format("Ada", "prefer") + "notify_only = true\n")
    assert "For Ada it gets no words" in part("server", quiet)
    assert "One of Ada shows that there were messages" in part("phone", quiet)
    assert "unlocked phone" not in part("phone", quiet)
    assert "notify_only" not in part("advice", quiet)
    assert "unlocked phone of Ada" in part("phone")


def test_the_phone() -> None:
    assert "no phone" in part("phone", settings())
    assert "OMEMO does not help there" in part("phone")
    assert "OMEMO" not in part("phone", settings(Ada="off"))
    assert "those of the other admins" in part("phone", settings(Ada="off", Bert="off"))
    assert "those of the other admins" not in part("phone")
    limited = parse(ACCOUNT + ADMIN.format("Ada", "prefer") + 'role = "none"\n')
    assert "may not read" in part("phone", limited)


def test_advice_names_only_what_applies() -> None:
    best = settings(f"{ACCOUNT}archive = false\n[desk]\nidle_days = 30\n", Ada="require")
    facts = Facts(has_passphrase=True, kept=FULL, swap=Swap.NONE, disk_is_encrypted=True, disk_spins=True)
    assert len(part("advice", best, facts).splitlines()) == 2  # the phones, and the backups
    assert "Require encryption" in part("advice")
    assert "archive disable" in part("advice", facts=kept(archive=True))
    assert "lines that are held" in part("advice", facts=kept(held=1))
    assert "instead of a component" in part("advice", settings(COMPONENT, Ada="prefer"))


# ---- compared with the bytes -------------------------------------------------------------------------------------


@pytest.fixture(params=[None, PASSPHRASE], ids=["open", "passphrase"])
def seized(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Private | None]:
    """A data directory as it would be found: one message delivered, one due, one held, an e-mail account, a room."""
    data = tmp_path / "data"
    with DataDirectory(data) as house:
        key = house.key(lambda: None, first=request.param)
        if request.param is None:
            house.onion(Onion.PAGE, key)

        async def fill() -> None:
            await keep_password(house.database, key, Private(XMPP_PASSWORD))
            async with desk_in(data, (ADA, QUIET), key) as desk:
                session = await start(desk, f"{WORDS}delivered")
                await hand_over(desk)
                await desk.visitor_says(session, f"{WORDS}due", once=b"1" * 32, now=NOON)
                await desk.visitor_registers(Private(EMAIL), Private(PASSWORD), now=NOON)

        asyncio.run(fill())
        (data / FILE_NAME).write_text(ACCOUNT + ADMIN.format("Ada", "prefer"))
    return data, request.param


def key_on(data: Path) -> ApplianceKey | None:
    """What somebody gets who has the disk and nothing else."""
    try:
        return ApplianceKey.from_file((data / "appliance.key").read_bytes(), None)
    except SetupError:
        return None


def rows(data: Path, sql: str) -> list[Any]:
    db = sqlite3.connect(f"file:{data}/veilsupport.sqlite?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def disk_page(data: Path) -> str:
    done = CliRunner().invoke(cli, ["seizure", "--data", str(data), "--json"])
    assert done.exit_code == 0, done.output
    return "\n".join(json.loads(done.output)[0]["sentences"])


def test_no_word_code_address_or_password_lies_in_the_open(seized: tuple[Path, Private | None]) -> None:
    data, _ = seized
    assert places_of([WORDS, EMAIL, PASSWORD, XMPP_PASSWORD], data, disk_page(data)) == []


def test_a_delivered_message_opens_to_nobody_who_has_the_disk(seized: tuple[Path, Private | None]) -> None:
    data, _ = seized
    assert "Nobody reads the 2 messages in it" in disk_page(data)
    stored = rows(
        data,
        "SELECT conversation, sealed, public_key FROM message JOIN visitor ON visitor.id = conversation WHERE seq = 1",
    )
    assert len(stored) == 1
    key = key_on(data)
    private = [] if key is None else [key.secret, key.pepper, key.outbox, key.settings, key.forms]
    for conversation, sealed, public in stored:
        for each in private:
            with pytest.raises(SealError):
                crypto.open_sealed(crypto.KeyPair(public, each), sealed, conversation, Author.VISITOR, 1)
    for (erased,) in rows(data, "SELECT sealed FROM delivery WHERE state = 'acked'"):
        assert erased is None


def test_what_is_due_and_held_opens_only_without_a_passphrase(seized: tuple[Path, Private | None]) -> None:
    data, passphrase = seized
    key, told = key_on(data), disk_page(data)
    waiting = rows(data, "SELECT stanza_id, sealed, state FROM delivery WHERE sealed IS NOT NULL AND kind = 'message'")
    assert {state for _, _, state in waiting} == {"due", "held"}
    if passphrase is not None:
        assert key is None
        assert "nobody gets: 3 lines" in told
        return
    assert key is not None
    opened = {crypto.unwrap_text(key.outbox, sealed, stanza_id.encode()) for stanza_id, sealed, _ in waiting}
    assert opened == {f"{WORDS}due", f"{WORDS}delivered"}  # what was delivered to Ada is still held for Cleo
    assert "1 line can be read that no server" in told
    assert "2 lines can be read that no admin has asked for" in told


def test_a_guessed_address_is_confirmed_only_without_a_passphrase(seized: tuple[Path, Private | None]) -> None:
    data, passphrase = seized
    key = key_on(data)
    known = {lookup for (lookup,) in rows(data, "SELECT lookup FROM credential WHERE kind = 'email'")}
    assert ("guessed e-mail address can be confirmed" in disk_page(data)) is (passphrase is None)
    if key is None:
        assert crypto.email_lookup(b"", Private(EMAIL)) not in known
        return
    assert crypto.email_lookup(key.pepper, Private(EMAIL)) in known
    assert crypto.email_lookup(key.pepper, Private("other@mail.example")) not in known


def test_a_guessed_password_opens_an_account_only_with_the_appliances_key(seized: tuple[Path, Private | None]) -> None:
    data, passphrase = seized
    key = key_on(data)
    assert ("whoever guesses that of one of the 1 e-mail account" in disk_page(data)) is (passphrase is None)
    [(salt, wrapped, visitor)] = rows(data, "SELECT salt, wrapped_key, visitor FROM credential WHERE kind = 'email'")
    for guess, right in (("wrong", False), (PASSWORD, True)):
        root = crypto.slow_hash(Private(guess), salt, crypto.PASSWORD)
        for pepper in [b"none", *([key.pepper] if key else [])]:
            try:
                crypto.unwrap(crypto.derive(root, "veil-wrap", pepper), wrapped, b"email" + visitor)
            except SealError:
                assert not (right and key and pepper == key.pepper)
            else:
                assert right
                assert key
                assert pepper == key.pepper


def test_passwords_of_older_accounts_can_be_tried_all_the_same() -> None:
    facts = Facts(has_passphrase=True, kept=Inventory(by_email=3, by_password_alone=2))
    assert "one of the 2 e-mail accounts" in part("disk", facts=facts)
    assert "can be tried" not in part("disk", facts=Facts(has_passphrase=True, kept=Inventory(by_email=3)))


def test_the_xmpp_password_opens_only_without_a_passphrase(seized: tuple[Path, Private | None]) -> None:
    data, passphrase = seized
    key = key_on(data)
    [(wrapped,)] = rows(data, "SELECT value FROM setting WHERE name = 'xmpp-password'")
    assert ("the XMPP password can be read" in disk_page(data)) is (passphrase is None)
    if key is not None:
        assert crypto.unwrap_text(key.settings, wrapped, b"xmpp-password") == XMPP_PASSWORD


def test_the_onion_key_lies_in_the_open_only_without_a_passphrase(seized: tuple[Path, Private | None]) -> None:
    data, passphrase = seized
    assert ("speak under your onion address" in disk_page(data)) is (passphrase is None)
    assert facts_of(data).has_onion_key is (passphrase is None)


def test_the_counts_are_those_of_the_database(seized: tuple[Path, Private | None]) -> None:
    data, _ = seized
    found = take(data / "veilsupport.sqlite")
    assert found is not None
    assert (found.conversations, found.messages, found.visitors, found.by_email, found.by_code) == (1, 2, 2, 1, 1)
    assert (found.undelivered, found.held, found.oldest_minute) == (1, 2, int(NOON // 60))
    assert found.has_password


def test_it_reads_beside_a_running_desk_and_leaves_no_file(tmp_path: Path) -> None:
    async def go() -> None:
        async with desk_in(tmp_path, (ADA,)) as desk:
            await start(desk, "hello")
            before = sorted(path.name for path in tmp_path.iterdir())
            found = take(tmp_path / "veilsupport.sqlite")
            assert found is not None
            assert found.messages == 1  # what was answered for is seen, though it is still in the log
            assert sorted(path.name for path in tmp_path.iterdir()) == before
            assert bodies(await hand_over(desk)) == ["hello"]
        before = sorted(path.name for path in tmp_path.iterdir())
        assert take(tmp_path / "veilsupport.sqlite") is not None
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    asyncio.run(go())


def test_the_page_is_printed_without_a_passphrase_and_fits_a_terminal(seized: tuple[Path, Private | None]) -> None:
    data, _ = seized
    done = CliRunner().invoke(cli, ["seizure", "--data", str(data)])
    assert done.exit_code == 0
    assert done.output.startswith("A disk that is switched off\n\n  ")
    assert max(map(len, done.output.splitlines())) <= 100


def test_a_directory_that_holds_no_desk_is_not_said_to_tell_nothing(tmp_path: Path) -> None:
    done = run_command("seizure", "--data", str(tmp_path / "mistyped"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Nothing is set up" in done.stderr
