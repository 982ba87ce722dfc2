"""The archive's copies as something to read: by conversation, as text or as one JSON document, written as it is read.

Knows neither terminal nor file: `write` takes each piece of text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from veilsupport import crypto
from veilsupport.crypto import ArchiveSetting, KeyPair
from veilsupport.desk.core import ARCHIVE_SETTING, clean
from veilsupport.errors import SealError, SetupError
from veilsupport.model import Author, Conversation, MessageState, Private
from veilsupport.store import CopyReader, StoredCopy

DAMAGED: Final = "(This copy was damaged on the desk's disk and cannot be shown.)"
Write = Callable[[str], object]


@dataclass(slots=True)
class Tally:
    """What was written."""

    conversations: int = 0
    messages: int = 0
    damaged: int = 0


def keys_for(reader: CopyReader, words: Private) -> KeyPair:
    """What opens the copies. SetupError: there is no archive, or these are not its words."""
    raw = reader.setting(ARCHIVE_SETTING)
    if raw is None:
        raise SetupError("There is no archive here.", hint="Begin one with: veilsupport archive enable")
    try:
        expected = ArchiveSetting.unproved(raw).public_key
    except SealError:
        raise SetupError("The archive's setting is damaged.", hint="Put the database back from a backup.") from None
    keys = crypto.archive_keys(words)
    if keys.public != expected:
        raise SetupError(
            "These are not the words that open the archive.",
            hint="Look at the ten words once more; their order matters.",
        )
    return keys


class Transcripts:
    """All copies from the minute `since` on, of one site or (None) of all, opened one after the other."""

    def __init__(self, reader: CopyReader, keys: KeyPair, *, since: int = 0, site: str | None = None) -> None:
        self._reader = reader
        self._keys = keys
        self._since = since
        self._site = site
        self.tally = Tally()

    def write_text(self, write: Write) -> None:
        for conversation, lines in self._conversations():
            blank = "\n" if self.tally.conversations > 1 else ""
            site = f" ({_plain(conversation.site)})" if conversation.site else ""
            write(f"{blank}{_plain(conversation.alias)}{site}\n")
            for line in lines:
                write(_in_text(line))

    def write_json(self, write: Write) -> None:
        """A list of conversations; non-ASCII characters are escaped, and so is what could move a terminal's hand."""
        write("[")
        for conversation, lines in self._conversations():
            comma = ",\n" if self.tally.conversations > 1 else "\n"
            head = f'"alias": {json.dumps(conversation.alias)}, "site": {json.dumps(conversation.site)}'
            write(f'{comma}{{{head}, "messages": [')
            for number, line in enumerate(lines):
                write(("," if number else "") + "\n  " + json.dumps(line))
            write("]}")
        write("\n]\n")

    def _conversations(self) -> Iterator[tuple[Conversation, Iterator[dict[str, Any]]]]:
        """Those that have something to show."""
        for conversation in self._reader.conversations_by_alias():
            if self._site is not None and conversation.site != self._site:
                continue
            copies = self._reader.copies(conversation.id, since=self._since)
            first = next(copies, None)
            if first is not None:
                self.tally.conversations += 1
                yield conversation, self._lines(conversation, first, copies)

    def _lines(
        self, conversation: Conversation, first: StoredCopy, others: Iterator[StoredCopy]
    ) -> Iterator[dict[str, Any]]:
        yield self._opened(conversation, first)
        for copy in others:
            yield self._opened(conversation, copy)

    def _opened(self, conversation: Conversation, copy: StoredCopy) -> dict[str, Any]:
        """A damaged one is shown as such in its place, so that one bad block does not hide the rest."""
        self.tally.messages += 1
        try:
            name, body = crypto.open_sealed(self._keys, copy.sealed, conversation.id, copy.author, copy.seq)
        except SealError:
            self.tally.damaged += 1
            name, body = "", DAMAGED
        return {
            "seq": copy.seq,
            "at": f"{datetime.fromtimestamp(copy.minute * 60, UTC):%Y-%m-%dT%H:%MZ}",
            "author": copy.author.value,
            "name": name,
            "text": body,
            "edited": copy.state is MessageState.CORRECTED,
        }


def _in_text(line: dict[str, Any]) -> str:
    """Further lines of one message are indented: nothing that somebody wrote looks like the next one's beginning."""
    who = _plain(line["name"]) if line["author"] == Author.ADMIN and line["name"] else line["author"]
    edited = " (edited)" if line["edited"] else ""
    body = clean(line["text"]).replace("\n", "\n    ")
    return f"{line['at'].replace('T', ' ').replace('Z', ' UTC')}  {who}{edited}: {body}\n"


def _plain(name: str) -> str:
    """On one line, and without what moves a terminal's hand."""
    return " ".join(clean(name).split())
