"""The command line's `archive` and `expire`: what is kept a second time, and what is erased by age.

The running appliance does the work, or else the database is opened here. Recovery words are made and typed in here;
the appliance gets the public half of the key that they stand for.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import click

from veilsupport import config, crypto, people
from veilsupport.cli import options
from veilsupport.cli.options import data_directory
from veilsupport.cli.running import answered
from veilsupport.desk import Desk
from veilsupport.desk.archive import NOT_OURS
from veilsupport.directory import DATABASE, DataDirectory
from veilsupport.errors import SetupError, StoreError
from veilsupport.model import Private
from veilsupport.store import copies_in
from veilsupport.transcripts import Transcripts, Write, keys_for

_ASKED_BACK: Final = 2  # of the recovery words
_WORK_SECONDS: Final = 3600.0  # erasing a year of messages from a slow disk takes its time
_WORDS_MAX_BYTES: Final = 4096
_DISK: Final = "Look at the disk that holds the data directory."
Work = Callable[[Desk], Coroutine[Any, Any, dict[str, Any]]]


@click.group()
def archive() -> None:
    """A copy of every message that only your recovery words open; off unless you turn it on."""


@archive.command()
@data_directory
@options.passphrase_file
def enable(data: Path, passphrase_file: Path | None) -> None:
    """Keep a copy of every message from now on. Shows the recovery words, this once.

    Visitors are told so on every page.
    """
    at = _Place(data, passphrase_file)
    state = at.archive({})
    if state["on"]:
        raise SetupError(
            "The archive is on already, and its words cannot be shown again.",
            hint="If you have lost them: veilsupport archive disable --erase, and enable it anew.",
        )
    if not state["is_ours"]:
        raise NOT_OURS.anew()
    key = state["key"] or _new_key()
    at.archive({"enable": key})
    again = " again, with the recovery words from before" if state["key"] else ""
    click.echo(f"The archive is on{again}. Visitors read so on every page.", err=True)


@archive.command()
@data_directory
@options.passphrase_file
@click.option("--erase", is_flag=True, help="Erase the copies that there are.")
@click.option("--keep", is_flag=True, help="Leave them; the recovery words go on opening them.")
def disable(data: Path, passphrase_file: Path | None, *, erase: bool, keep: bool) -> None:
    """Keep no copies from now on."""
    if erase and keep:
        raise click.UsageError("--erase and --keep exclude each other.")
    if not (erase or keep):
        if not sys.stdin.isatty():
            raise SetupError("What shall become of the copies is not said.", hint="Give --erase or --keep.")
        erase = click.confirm("Erase the copies that there are, for good?", default=False)
    told = _Place(data, passphrase_file).archive({"disable": erase})
    rest = f"{told['erased']} copies were erased." if erase else f"{told['copies']} copies are kept."
    click.echo(f"The archive is off. {rest}")


@archive.command()
@data_directory
@options.passphrase_file
def show(data: Path, passphrase_file: Path | None) -> None:
    """Whether it is on, and how many copies there are."""
    told = _Place(data, passphrase_file).archive({})
    if not told["is_ours"]:
        raise NOT_OURS.anew()
    click.echo(f"The archive is {'on' if told['on'] else 'off'}. Copies of messages in it: {told['copies']}")


@archive.command()
@data_directory
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Into a new file that only you can read."
)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only messages from that day on (UTC).")
@click.option("--site", help='Only of that site; "" is the desk\'s own page.')
@click.option(
    "--words-file", type=click.Path(path_type=Path, dir_okay=False), help="File with the recovery words; else asked."
)
def export(
    data: Path, *, form: str, output: Path | None, since: datetime | None, site: str | None, words_file: Path | None
) -> None:
    """Open the copies with the recovery words, and print them by conversation. The desk may run meanwhile."""
    with copies_in(_database(data)) as reader:
        keys = keys_for(reader, _given_words(words_file))
        minute = int(since.replace(tzinfo=UTC).timestamp() // 60) if since else 0
        transcripts = Transcripts(reader, keys, since=minute, site=site)
        with _written(output) as write:
            (transcripts.write_json if form == "json" else transcripts.write_text)(write)
    tally = transcripts.tally
    click.echo(f"{tally.messages} messages of {tally.conversations} conversations.", err=True)
    if tally.damaged:
        click.echo(f"{tally.damaged} of them are damaged and could not be opened.", err=True)
        sys.exit(1)


@click.command()
@data_directory
@options.passphrase_file
@click.option("--dry-run", is_flag=True, help="Say what would go; erase nothing.")
@click.option("--retention-days", type=click.IntRange(1, 36_500), help="Messages older than that, whatever is set.")
@click.option(
    "--idle-days", type=click.IntRange(1, 36_500), help="Conversations silent for longer than that, whatever is set."
)
@click.option("--site", help='Only of that site; "" is the desk\'s own page.')
def expire(data: Path, passphrase_file: Path | None, **asked: Any) -> None:
    """Erase now what is too old by the settings, or by the days that are given. A running desk does so each hour."""

    async def work(desk: Desk) -> dict[str, Any]:
        return await desk.operator_expires(json.dumps(asked), now=datetime.now(UTC).timestamp())

    gone = _Place(data, passphrase_file).done("expire", asked, work)
    verb = "Would go" if asked["dry_run"] else "Gone"
    click.echo(
        f"{verb}: {gone['messages']} messages; {gone['conversations']} whole conversations;"
        f" {gone['visitors']} unused accounts and codes; {gone['sessions']} sessions."
    )


# ---- by the appliance, or on the database --------------------------------------------------------------------


class _Place:
    """Where a command's work is done. A passphrase is asked for once at most."""

    def __init__(self, data: Path, passphrase_file: Path | None) -> None:
        self._data = data
        self._passphrase = functools.cache(lambda: options.passphrase(passphrase_file))

    def archive(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self.done("archive", asked, lambda desk: desk.operator_archives(json.dumps(asked)))

    def done(self, word: str, asked: dict[str, Any], work: Work) -> dict[str, Any]:
        """What the running appliance answers; without one, what `work` does on a desk of ours. SetupError: not done."""
        told = answered(self._data, f"{word} {json.dumps(asked)}", seconds=_WORK_SECONDS)
        return self._done_here(work) if told is None else told

    def _done_here(self, work: Work) -> dict[str, Any]:
        _database(self._data)
        with DataDirectory(self._data) as house:
            settings, key = config.load(house.path), house.key(self._passphrase)
            try:
                with people.desk_at_rest(house.database, settings, key) as desk:
                    return asyncio.run(work(desk))
            except StoreError as error:
                raise SetupError(error.message, hint=_DISK) from None


def _database(data: Path) -> Path:
    """SetupError: there is none, and none shall be made."""
    path = data / DATABASE
    if not path.exists():
        raise SetupError("There is no desk in this data directory yet.", hint="Look at --data; or: veilsupport setup")
    return path


# ---- recovery words ------------------------------------------------------------------------------------------


def _new_key() -> str:
    """The public half, in hexadecimal, of what new words stand for; when they are shown and, on a terminal, noted."""
    words = crypto.new_archive_words()
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    click.echo("These ten words open the archive, and nobody can show them again. Write them down:\n", err=True)
    click.echo(words.reveal())
    click.echo("", err=True)
    if asks:
        _ask_back(words.reveal().split())
    return crypto.archive_keys(words).public.hex()


def _ask_back(words: list[str]) -> None:
    """Some of them, each until it is right."""
    for place in sorted(secrets.SystemRandom().sample(range(len(words)), _ASKED_BACK)):
        click.prompt(f"To be sure that you have them: word {place + 1}", value_proc=_only(words[place]))


def _only(expected: str) -> Callable[[str], str]:
    def checked(answer: str) -> str:
        if answer.strip().casefold() != expected:
            raise click.BadParameter("That is another word. Look at what you wrote down.")
        return answer

    return checked


def _given_words(file: Path | None) -> Private:
    """They may stand on several lines. SetupError: the file cannot be read, or there is nobody to ask."""
    if file is None:
        if not sys.stdin.isatty():
            raise SetupError("The recovery words are missing.", hint="Give them with --words-file.")
        return Private(click.prompt("The ten recovery words", err=True))
    try:
        with file.open("rb") as opened:
            return Private(opened.read(_WORDS_MAX_BYTES).decode())
    except (OSError, UnicodeDecodeError):
        raise SetupError(
            "The file with the recovery words cannot be read.", hint="Look at its path and permissions."
        ) from None


# ---- output --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _written(output: Path | None) -> Iterator[Write]:
    """To the terminal or pipe, or into a new file, which is whole or not there. SetupError: it cannot be written."""
    if output is None:
        with contextlib.suppress(BrokenPipeError):  # whoever read it has seen enough
            yield sys.stdout.write
            sys.stdout.flush()
        return
    file = _new_file(output)
    try:
        with file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        output.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise SetupError("The file cannot be written.", hint="Look at its disk.") from None
        raise


def _new_file(path: Path) -> IO[str]:
    """For us alone (0600). SetupError: there is one of that name already, or none can be made."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise SetupError("There is a file of that name already.", hint="Name another one with --output.") from None
    except OSError:
        raise SetupError("The file cannot be made.", hint="Look at its directory's path and permissions.") from None
    return os.fdopen(handle, "w", encoding="utf-8")
