"""The operator's archive: what is copied, who can open it, what becomes of it, and what visitors are told."""

from __future__ import annotations

import asyncio
import json
import math
import os
import pty
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.browser import Browser, Served
from tests.browser import tell as tell_browser
from tests.desks import ADA, BERT, FREELY, KEY, NOON, desk_in, hand_over, intake, start
from tests.program import Program
from tests.program import tell as tell_program
from veilsupport import controlsocket, crypto
from veilsupport.cli import cli
from veilsupport.controlsocket import STATUS_SOCKET
from veilsupport.crypto import ArchiveSetting
from veilsupport.desk import Desk
from veilsupport.desk.core import ARCHIVE_SETTING
from veilsupport.directory import DATABASE, DataDirectory
from veilsupport.errors import SealError, SetupError
from veilsupport.model import Author, Intake, Private, Session, Site
from veilsupport.store import Store
from veilsupport.web.look import ARCHIVED_WORDS

WORDS = Private("abacus abdomen abdominal abide abiding ability ablaze able abnormal abrasion")
KEYS = crypto.archive_keys(WORDS)
SITES = {"": Site("", "Support", ""), "shop": Site("shop", "The Shop", "")}
Story = Callable[[Desk], Awaitable[None]]


@asynccontextmanager
async def archiving(path: Path) -> AsyncIterator[Desk]:
    """A desk whose archive is on."""
    async with desk_in(path, (ADA, BERT), sites=SITES) as desk:
        await desk.enable_archive(KEYS.public)
        yield desk


def tell(path: Path, story: Story) -> None:
    async def tell_it() -> None:
        async with archiving(path) as desk:
            await story(desk)

    asyncio.run(tell_it())


def copied(path: Path, *, keys: crypto.KeyPair = KEYS) -> list[tuple[str, str]]:
    """(name, words) of every copy, opened at its own place."""
    db = sqlite3.connect(path / DATABASE)
    sql = (
        "SELECT a.sealed, a.conversation, m.author, a.seq FROM archived a"
        " JOIN message m USING (conversation, seq) ORDER BY a.conversation, a.seq"
    )
    found = [crypto.open_sealed(keys, row[0], row[1], Author(row[2]), row[3]) for row in db.execute(sql)]
    db.close()
    return found


async def answer(desk: Desk, session: Session, body: str) -> Intake:
    conversation = desk.conversation(session)
    assert conversation
    came = intake()
    came = replace(came, handles=(came.key,))
    await desk.admin_says(ADA, conversation.alias, body, intake=came, now=NOON)
    return came


# ---- what is copied ----------------------------------------------------------------------------------------------


def test_without_an_archive_nothing_is_copied(tmp_path: Path) -> None:
    async def go() -> None:
        async with desk_in(tmp_path) as desk:
            await answer(desk, await start(desk), "yes")
            assert not desk.keeps_copies
            assert desk.archive_state().copies == 0
            assert desk.store.setting(ARCHIVE_SETTING) is None

    asyncio.run(go())


def test_from_then_on_every_message_of_both_sides_is_copied_once(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one", seed=b"form")
        await desk.visitor_says(session, "two", once=b"1", now=NOON)
        await desk.visitor_says(session, "two", once=b"1", now=NOON)  # Back and reload
        await answer(desk, session, "three")
        assert copied(tmp_path) == [("", "one"), ("", "two"), ("Ada", "three")]

    async def before() -> None:
        async with desk_in(tmp_path) as desk:
            await start(desk, "said before")

    asyncio.run(before())
    tell(tmp_path, story)


def test_a_copy_opens_only_with_the_words_and_only_in_its_own_place(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        [(sealed,)] = sqlite3.connect(tmp_path / DATABASE).execute("SELECT sealed FROM archived").fetchall()
        id = session.visitor.id
        assert crypto.open_sealed(KEYS, sealed, id, Author.VISITOR, 1) == ("", "one")
        visitors = crypto.KeyPair(session.visitor.public_key, session.private_key)
        for keys, place, author, seq in (
            (visitors, id, Author.VISITOR, 1),
            (crypto.KeyPair(KEYS.public, KEY.settings), id, Author.VISITOR, 1),
            (KEYS, bytes(16), Author.VISITOR, 1),
            (KEYS, id, Author.ADMIN, 1),
            (KEYS, id, Author.VISITOR, 2),
        ):
            with pytest.raises(SealError):
                crypto.open_sealed(keys, sealed, place, author, seq)

    tell(tmp_path, story)


def test_a_correction_replaces_the_copy_and_a_retraction_removes_it(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        first, second = await answer(desk, session, "at nin"), await answer(desk, session, "at ten")
        await desk.admin_corrects(ADA, first.key, "at nine", intake=intake(), now=NOON)
        assert copied(tmp_path) == [("", "one"), ("Ada", "at nine"), ("Ada", "at ten")]
        await desk.admin_retracts(ADA, second.key, intake=intake(), now=NOON)
        assert copied(tmp_path) == [("", "one"), ("Ada", "at nine")]

    tell(tmp_path, story)


def test_words_that_were_changed_after_the_end_of_the_archive_do_not_stay_in_it(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        came = await answer(desk, session, "at nin")
        await desk.disable_archive(erase=False)
        await desk.admin_corrects(ADA, came.key, "at nine", intake=intake(), now=NOON)
        await answer(desk, session, "more")
        assert copied(tmp_path) == [("", "one")]

    tell(tmp_path, story)


def test_burning_removes_the_copies_from_every_file(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        db = sqlite3.connect(tmp_path / DATABASE)
        [(sealed,)] = db.execute("SELECT sealed FROM archived").fetchall()
        db.close()
        assert any(sealed[:64] in file.read_bytes() for file in tmp_path.iterdir())
        await desk.visitor_burns(session, now=NOON)
        assert desk.archive_state().copies == 0
        assert not any(sealed[:64] in file.read_bytes() for file in tmp_path.iterdir())

    tell(tmp_path, story)


def test_no_word_and_no_recovery_word_rests_in_the_open(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "MARKvisitor")
        await answer(desk, session, "MARKadmin")
        await hand_over(desk)
        found = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert KEYS.public in found
        for mark in (b"MARK", KEYS.private, b"abacus", b"abdominal", b"abrasion"):
            assert mark not in found

    tell(tmp_path, story)


# ---- on and off --------------------------------------------------------------------------------------------------


def test_it_is_still_on_after_a_restart(tmp_path: Path) -> None:
    async def go() -> None:
        async with archiving(tmp_path):
            pass
        async with desk_in(tmp_path) as desk:
            await start(desk, "one")
            assert desk.archive_state().on
        assert copied(tmp_path) == [("", "one")]

    asyncio.run(go())


def test_disabling_keeps_the_copies_or_erases_them(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        desk.sites = FREELY
        session = await start(desk, "one")
        for number in range(450):  # more than one batch
            await desk.visitor_says(session, "more", once=b"%d" % number, now=NOON)
        assert await desk.disable_archive(erase=False) == 0
        await desk.visitor_says(session, "after", once=b"after", now=NOON)
        assert (desk.archive_state().on, desk.archive_state().copies) == (False, 451)
        assert await desk.disable_archive(erase=True) == 451
        state = desk.archive_state()
        assert (state.on, state.copies, state.public_key) == (False, 0, None)
        assert len(desk.history(session, limit=999)) == 452

    tell(tmp_path, story)


def test_the_same_words_go_on_and_others_do_not_mix(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        session = await start(desk, "one")
        await desk.disable_archive(erase=False)
        other = crypto.archive_keys(crypto.new_archive_words()).public
        with pytest.raises(SetupError, match="other recovery words"):
            await desk.enable_archive(other)
        assert not desk.keeps_copies
        await desk.enable_archive(KEYS.public)
        await answer(desk, session, "two")
        assert copied(tmp_path) == [("", "one"), ("Ada", "two")]
        await desk.disable_archive(erase=True)
        await desk.enable_archive(other)

    tell(tmp_path, story)


def test_an_erasing_that_was_cut_short_is_brought_to_its_end(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await start(desk, "one")
        await desk.store.forget_setting(ARCHIVE_SETTING)  # killed here

    async def later() -> None:
        async with desk_in(tmp_path) as desk:
            assert (desk.keeps_copies, desk.archive_state().copies) == (False, 1)
            await desk.expire(NOON)
            assert desk.archive_state().copies == 0

    tell(tmp_path, story)
    asyncio.run(later())


@pytest.mark.parametrize("forged", [b"\1" + b"e" * 64, b"\1" + KEYS.public + bytes(32), b"", b"\1" * 66])
def test_nothing_is_sealed_to_a_key_that_somebody_else_wrote_to_the_disk(tmp_path: Path, forged: bytes) -> None:
    async def go() -> None:
        async with desk_in(tmp_path) as desk:
            await desk.store.set_setting(ARCHIVE_SETTING, forged)
        async with desk_in(tmp_path) as desk:
            await start(desk, "one")
            state = desk.archive_state()
            assert (state.on, state.copies, state.is_ours) == (False, 0, False)
            for refused in (desk.enable_archive(KEYS.public), desk.disable_archive(erase=False)):
                with pytest.raises(SetupError, match="something else than this desk"):
                    await refused
            await desk.disable_archive(erase=True)
            await desk.enable_archive(KEYS.public)

    asyncio.run(go())


def test_a_setting_of_another_appliance_or_with_a_flipped_bit_is_not_ours() -> None:
    raw = ArchiveSetting(True, KEYS.public).to_bytes(KEY.settings)
    assert ArchiveSetting.from_bytes(raw, KEY.settings) == ArchiveSetting(True, KEYS.public)
    with pytest.raises(SealError):
        ArchiveSetting.from_bytes(raw, b"another key" * 2)
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            ArchiveSetting.from_bytes(bytes(flipped), KEY.settings)


def test_recovery_words_are_ten_and_too_many_to_try() -> None:
    words = crypto.new_archive_words().reveal().split()
    assert len(words) == 10
    assert set(words) <= set(crypto.words())
    assert 10 * math.log2(len(crypto.words())) >= 128
    assert crypto.new_archive_words() != crypto.new_archive_words()


@given(st.lists(st.sampled_from([" ", "  ", "\n", "-", ", ", ". 3) "]), min_size=9, max_size=9), st.booleans())
def test_recovery_words_are_taken_however_they_are_spaced(gaps: list[str], shout: bool) -> None:
    typed = "".join(word + gap for word, gap in zip(WORDS.reveal().split(), [*gaps, " "], strict=True))
    assert crypto.archive_keys(Private(typed.upper() if shout else typed)) == KEYS


def test_words_in_another_order_stand_for_another_key() -> None:
    assert crypto.archive_keys(Private(" ".join(reversed(WORDS.reveal().split())))) != KEYS


# ---- what visitors are told ------------------------------------------------------------------------------------


def test_every_page_where_one_can_write_says_that_copies_are_kept(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        assert ARCHIVED_WORDS not in (await browser.get("/")).text
        await desk.enable_archive(KEYS.public)
        page = await browser.get("/")
        assert ARCHIVED_WORDS in page.text
        assert len(page.text.encode()) + sum(len(name) + len(value) + 4 for name, value in page.headers) < 10_000
        await browser.start("one")
        shown = re.compile(rf'<p class="note archived">{re.escape(ARCHIVED_WORDS)}</p>')
        assert shown.search((await browser.get("/chat/latest")).text)
        async with browser.stream() as view:
            assert shown.search(view.text)
        await desk.disable_archive(erase=False)
        assert not shown.search((await browser.get("/chat/latest")).text)
        assert ARCHIVED_WORDS not in (await Browser(browser.app).get("/")).text

    tell_browser(tmp_path, story)


def test_whoever_has_the_page_open_reads_of_it_at_once(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("one")
        async with browser.stream() as view:
            assert f'<p class="event">{ARCHIVED_WORDS}' not in view.text
            await desk.enable_archive(KEYS.public)
            text = await view.until(f'<p class="event">{ARCHIVED_WORDS}')
            assert ".archived{display:block}" in text
            assert "The line to the people" not in text[text.index(".archived{display:block}") :]  # that is as before
            await desk.disable_archive(erase=False)
            await view.until(".archived{display:none}")
            desk.line_changed(True)
            await view.until(".lines .open{display:block}")

    tell_browser(tmp_path, story)


def test_programs_are_told_before_and_while_they_write(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        assert (await program.get("/site")).json["archived"] is False
        await program.starts()
        async with program.signed() as phone:
            assert (await phone.next("ready"))["desk"]["archived"] is False
            await desk.enable_archive(KEYS.public)
            assert (await phone.next("desk"))["archived"] is True
        assert (await program.get("/site")).json["archived"] is True
        assert (await program.get("/chat/status")).json["desk"]["archived"] is True

    tell_program(tmp_path, story)


# ---- reading it: the command line ------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a key and an empty database, and the words beside it."""
    with DataDirectory(tmp_path / "data") as house:
        house.key(lambda: None)
        Store(house.database).close()
    (tmp_path / "words").write_text("\n".join(WORDS.reveal().upper().split()))
    return tmp_path / "data"


def at(data: Path, story: Story) -> None:
    """On that data directory."""

    async def tell_it() -> None:
        with DataDirectory(data) as house:
            async with desk_in(data, (ADA,), house.key(lambda: None), sites=SITES) as desk:
                await story(desk)

    asyncio.run(tell_it())


def run(command: str, data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        cli, ["archive", command, "--data", str(data), *arguments], catch_exceptions=False, standalone_mode=False
    )


def export(data: Path, *arguments: str) -> Result:
    return run("export", data, "--words-file", str(data.parent / "words"), *arguments)


async def talk(desk: Desk) -> None:
    await desk.enable_archive(KEYS.public)
    session = await start(desk, "hello\nthere")
    came = await answer(desk, session, "at nin")
    await desk.admin_corrects(ADA, came.key, "at nine", intake=intake(), now=NOON)
    other = await start(desk, "from the shop", site="shop")
    await desk.visitor_says(other, "much later", once=b"1", now=NOON + 5 * 86_400)


def test_export_prints_conversations_as_text(data: Path) -> None:
    at(data, talk)
    done = export(data)
    parts = done.stdout.split("\n\n")
    assert len(parts) == 2
    own, shop = sorted(parts, key=lambda part: "(shop)" in part)
    assert re.fullmatch(
        r"[a-z]+-\d+\n2027-01-15 08:00 UTC  visitor: hello\n    there\n2027-01-15 08:00 UTC  Ada \(edited\): at nine",
        own.strip(),
    )
    assert re.fullmatch(
        r"[a-z]+-\d+ \(shop\)\n2027-01-15 08:00 UTC  visitor: from the shop\n2027-01-20 08:00 UTC  visitor: much later",
        shop.strip(),
    )
    assert "4 messages of 2 conversations." in done.stderr


def test_export_prints_json_of_one_site_and_from_one_day_on(data: Path) -> None:
    at(data, talk)
    everything = json.loads(export(data, "--format", "json").stdout)
    assert sorted(each["site"] for each in everything) == ["", "shop"]
    [shop] = json.loads(export(data, "--format", "json", "--site", "shop").stdout)
    assert [each["text"] for each in shop["messages"]] == ["from the shop", "much later"]
    [late] = json.loads(export(data, "--format", "json", "--since", "2027-01-16").stdout)
    assert late["messages"] == [
        {"seq": 2, "at": "2027-01-20T08:00Z", "author": "visitor", "name": "", "text": "much later", "edited": False}
    ]
    assert json.loads(export(data, "--format", "json", "--site", "none").stdout) == []


def test_export_has_long_conversations_whole_and_in_order(data: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.enable_archive(KEYS.public)
        desk.sites = FREELY
        session = await start(desk, "0")
        await asyncio.gather(*(start(desk, "one more") for _ in range(230)))
        for number in range(1, 430):
            await desk.visitor_says(session, str(number), once=b"%d" % number, now=NOON)

    at(data, story)
    found = json.loads(export(data, "--format", "json").stdout)
    assert len(found) == 231
    assert len({each["alias"] for each in found}) == 231
    [long] = [each["messages"] for each in found if len(each["messages"]) > 1]
    assert [each["text"] for each in long] == [str(number) for number in range(430)]


def test_wrong_words_open_nothing_and_make_no_file(data: Path) -> None:
    at(data, talk)
    (data.parent / "words").write_text(" ".join(reversed(WORDS.reveal().split())))
    output = data.parent / "out"
    for arguments in ((), ("--output", str(output))):
        with pytest.raises(SetupError, match="not the words"):
            export(data, *arguments)
    assert not output.exists()


def test_without_an_archive_words_or_desk_export_says_so(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no archive"):
        export(data)
    at(data, talk)
    with pytest.raises(SetupError, match="words are missing"):
        run("export", data)
    with pytest.raises(SetupError, match="cannot be read"):
        run("export", data, "--words-file", str(tmp_path / "none"))
    for command, *arguments in (["export"], ["enable"], ["show"], ["disable", "--erase"]):
        with pytest.raises(SetupError, match="no desk"):
            run(command, tmp_path / "elsewhere", *arguments)
    assert not (tmp_path / "elsewhere").exists()
    (data / DATABASE).write_bytes(b"no database" * 500)
    with pytest.raises(SetupError, match="cannot be read"):
        export(data)


def test_export_goes_into_a_new_file_of_ours_alone(data: Path, tmp_path: Path) -> None:
    at(data, talk)
    os.umask(0o022)
    output = tmp_path / "out"
    assert export(data, "--output", str(output)).stdout == ""
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert "much later" in output.read_text()
    output.write_text("mine")
    with pytest.raises(SetupError, match="already"):
        export(data, "--output", str(output))
    assert output.read_text() == "mine"
    with pytest.raises(SetupError, match="cannot be made"):
        export(data, "--output", str(tmp_path / "none" / "out"))


def test_a_full_disk_leaves_no_half_file(data: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.enable_archive(KEYS.public)
        desk.sites = FREELY
        session = await start(desk, "one")
        for number in range(60):
            await desk.visitor_says(session, "x" * 4000, once=b"%d" % number, now=NOON)

    at(data, story)
    code = LIMITED.format(data=data, out=data.parent / "out")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "SetupError: The file cannot be written." in done.stderr
    assert not (data.parent / "out").exists()


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from veilsupport.cli import cli
words = ["--words-file", "{data}/../words"]
cli(["archive", "export", "--data", "{data}", *words, "--output", "{out}"], standalone_mode=False)
"""


def test_export_moves_no_terminals_hand(data: Path) -> None:
    """Whoever writes to the database could seal such a copy: the archive's public key is no secret."""

    async def story(desk: Desk) -> None:
        await desk.enable_archive(KEYS.public)
        session = await start(desk, "one")
        body = "\x1b]0;title\x07 evil \u202e\x9b31m\n2027-01-15 08:00 UTC  Ada: forged"
        forged = crypto.seal(KEYS.public, session.visitor.id, Author.VISITOR, 1, "", body)
        await desk.store._write(lambda db: db.execute("UPDATE archived SET sealed = ?", (forged,)))

    at(data, story)
    text = export(data).stdout
    assert "evil" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "\n2027-01-15 08:00 UTC  Ada" not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\xff\u202e]", export(data, "--format", "json").stdout)


def test_a_damaged_copy_is_shown_as_such_and_hides_no_other(data: Path) -> None:
    async def story(desk: Desk) -> None:
        await talk(desk)
        await desk.store._write(lambda db: db.execute("UPDATE archived SET sealed = x'00' WHERE seq = 1"))

    at(data, story)
    done = export(data)
    assert done.exit_code == 1
    assert done.stdout.count("(This copy was damaged") == 2
    assert "at nine" in done.stdout
    assert "2 of them are damaged" in done.stderr


def test_export_reads_beside_a_desk_that_goes_on_and_holds_up_no_erasing(data: Path) -> None:
    async def story(desk: Desk) -> None:
        await talk(desk)
        session = await start(desk, "gone soon")
        [conversation] = [each for each in desk.open_conversations() if each.id == session.visitor.id]
        assert conversation.alias in (await asyncio.to_thread(export, data)).stdout
        assert (data / f"{DATABASE}-wal").exists()
        await desk.visitor_burns(session, now=NOON)
        assert conversation.alias not in (await asyncio.to_thread(export, data)).stdout
        assert (data / f"{DATABASE}-wal").read_bytes() == b""

    at(data, story)


# ---- turning it on and off: the command line -------------------------------------------------------------------


def test_enable_prints_the_words_and_nothing_else_to_a_pipe(data: Path) -> None:
    done = run("enable", data)
    assert len(done.stdout.split()) == 10
    assert "The archive is on." in done.stderr
    (data.parent / "words").write_text(done.stdout)
    at(data, lambda desk: _says(desk, "one"))
    assert "visitor: one" in export(data).stdout
    assert crypto.archive_keys(Private(done.stdout)).private not in (data / DATABASE).read_bytes()
    with pytest.raises(SetupError, match="on already"):
        run("enable", data)
    assert "The archive is on. Copies of messages in it: 1" in run("show", data).stdout


async def _says(desk: Desk, body: str) -> None:
    await start(desk, body)


def test_disable_wants_to_know_what_becomes_of_the_copies(data: Path) -> None:
    at(data, talk)
    with pytest.raises(SetupError, match="not said"):
        run("disable", data)
    assert "4 copies are kept" in run("disable", data, "--keep").stdout
    assert "The archive is off. Copies of messages in it: 4" in run("show", data).stdout
    assert "again, with the recovery words from before" in run("enable", data).stderr
    assert "4 copies were erased" in run("disable", data, "--erase").stdout
    assert "The archive is off. Copies of messages in it: 0" in run("show", data).stdout


def test_a_running_desk_is_asked_and_takes_it_at_once(data: Path) -> None:
    async def story(desk: Desk) -> None:
        async def answer(word: str, rest: str) -> AsyncIterator[dict[str, object]]:
            assert word == "archive"
            try:
                yield await desk.operator_archives(rest)
            except SetupError as error:
                yield {"error": error.message, "hint": error.hint}

        async with controlsocket.served(data / STATUS_SOCKET, answer):  # type: ignore[arg-type]
            await asyncio.to_thread(run, "enable", data)
            assert desk.archive_state().on
            await start(desk, "one")
            with pytest.raises(SetupError, match="on already"):
                await asyncio.to_thread(run, "enable", data)
            await asyncio.to_thread(run, "disable", data, "--erase")
            assert not desk.archive_state().on
            assert desk.archive_state().copies == 0

    at(data, story)


def test_on_a_terminal_two_of_the_words_are_asked_back_until_they_are_right(data: Path) -> None:
    code = f"from veilsupport.cli import cli; cli(['archive', 'enable', '--data', {str(data)!r}])"
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = ""

    def until(pattern: str) -> re.Match[str]:
        nonlocal shown
        while not (found := re.search(pattern, shown)):
            shown += os.read(parent, 4096).decode()
        shown = shown[found.end() :]
        return found

    words = until(r"((?:[a-z]+ ){9}[a-z]+)\r\n")[1].split()
    for _ in range(2):
        place = int(until(r"word (\d+): ")[1])
        os.write(parent, b"zzz\n")
        until("another word")
        assert int(until(r"word (\d+): ")[1]) == place
        assert controlsocket.ask(data, "status") is None
        os.write(parent, f"{words[place - 1].upper()}\n".encode())
    until("The archive is on")
    assert process.wait(30) == 0
    os.close(parent)


def test_a_passphrase_is_asked_for_where_no_desk_runs_and_not_for_reading(tmp_path: Path, data: Path) -> None:
    (tmp_path / "passphrase").write_text("open sesame")
    with DataDirectory(data) as house:
        house.keep_key(house.key(lambda: None), Private("open sesame"))
    with pytest.raises(SetupError, match="passphrase"):
        run("enable", data)
    words = run("enable", data, "--passphrase-file", str(tmp_path / "passphrase")).stdout
    (tmp_path / "words").write_text(words)
    assert json.loads(export(data, "--format", "json").stdout) == []
