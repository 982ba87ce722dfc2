"""Requests: conversations that no admin has answered, claimed or been given yet; and how a flood of the same folds.

- A request takes text alone, and only so much of it (`Tally.has_room`); what is too much is not kept, the page keeps
  it for the visitor, and after the first answer there is no such limit.
- Words that came a few times already, from other requests through the same site within some hours, ring no more: such
  a conversation is *folded*. It is kept like any other, with one delivery for each message, held for nobody; so no
  room is made and no phone rings, and the visitor reads that each message is kept, no more. The admins' card and
  !list say "and 7 more like this"; !alike names them.
- It is opened, and what was held is due then, in order: when an admin asks for it (!show), answers, claims or assigns
  it; and by itself when its visitor writes something that is not said over and over by others as well. So whoever began
  with a plain "hello" is heard with their next line. Closing or blocking it drops nothing: it can still be opened.
- A request that somebody has taken on counts no more: what is answered is no flood. One that was blocked or burned
  does.

Which words they were is known in memory alone, as hashes under a key of this process: after a restart the first ones
ring again. On disk is a random number that requests with the same beginning share, for the card.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from veilsupport import crypto
from veilsupport.errors import VisitorError
from veilsupport.model import Author, Message, Site

MARK: Final = "⚑ word list"

RING_HOURS: Final = 6  # a flood that lasts is heard of again in each shift
RINGS: Final = 3  # one may be chance and two a misunderstanding; a fourth tells nobody anything
GREETING_CHARACTERS: Final = 20  # up to so many, different people say the same: "hello", "is anyone there?"
GREETING_RINGS: Final = 10
TALLIES_MAX: Final = 10_000  # 2 MB; of those that were not heard of for longest the bodies are opened again
TEXTS_MAX: Final = 2000  # different ones remembered, 2 MB at most; who fills that up with others is heard with each


@dataclass(slots=True)
class _Text:
    alike: bytes
    rang: dict[bytes, float] = field(default_factory=dict)  # conversation → when


class Repeats:
    """Which words requests have said of late."""

    def __init__(self) -> None:
        self._key = crypto.random_bytes(32)
        self._texts: OrderedDict[bytes, _Text] = OrderedDict()

    def said(self, conversation: bytes, site: str, text: str, *, now: float) -> tuple[bytes, bool]:
        """(what conversations that say this share, whether it is folded). One that rang is never folded by the same."""
        words = plain(text)
        key = crypto.derive(self._key, "veil-alike", f"{site}\0{words}".encode())
        found = self._texts.setdefault(key, _Text(crypto.random_bytes(16)))
        self._texts.move_to_end(key)
        if len(self._texts) > TEXTS_MAX:
            self._texts.popitem(last=False)
        # A clock that was set back makes nobody wait for it.
        found.rang = {each: at for each, at in found.rang.items() if 0 <= now - at < RING_HOURS * 3600}
        rings = GREETING_RINGS if len(words) <= GREETING_CHARACTERS else RINGS
        if conversation not in found.rang and len(found.rang) >= rings:
            return found.alike, True
        found.rang.setdefault(conversation, now)
        return found.alike, False

    def forget(self, conversation: bytes) -> None:
        """Somebody has taken it on."""
        for each in self._texts.values():
            each.rang.pop(conversation, None)


@dataclass(frozen=True, slots=True)
class Tally:
    """How much a visitor has said in a request."""

    messages: int
    characters: int

    @classmethod
    def of(cls, said: Sequence[Message]) -> Tally:
        own = [len(each.body) for each in said if each.author is Author.VISITOR]
        return cls(len(own), sum(own))

    def has_room(self, site: Site, body: str) -> bool:
        """Whether that text may still be said there before the first answer."""
        too_many = 0 < site.request_messages <= self.messages
        too_long = 0 < site.request_characters < self.characters + len(body)
        return not too_many and not too_long


class Tallies:
    """Of the requests that say something these days: else all of one's bodies would be opened for each further one."""

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, Tally] = OrderedDict()

    def known(self, conversation: bytes) -> Tally | None:
        return self._of.get(conversation)

    def keep(self, conversation: bytes, tally: Tally) -> None:
        self._of[conversation] = tally
        self._of.move_to_end(conversation)
        if len(self._of) > TALLIES_MAX:
            self._of.popitem(last=False)

    def add(self, conversation: bytes, body: str) -> None:
        """One more was said; of a request that is not known it will be seen when it is counted."""
        if known := self._of.get(conversation):
            self.keep(conversation, Tally(known.messages + 1, known.characters + len(body)))

    def forget(self, conversation: bytes) -> None:
        """It is burned, or has lost some of its messages."""
        self._of.pop(conversation, None)


def enough() -> VisitorError:
    """There is no room left."""
    return VisitorError(
        "You have told us a lot, and all of it is kept. Please wait until somebody has answered: then you can go"
        " on. This last text was not sent yet; keep it until then.",
        status=409,
        code="wait_for_answer",
    )


def is_marked(site: Site, text: str) -> bool:
    """Whether one of the operator's words stands in it, as a word or phrase of its own."""
    pattern = _pattern(site.mark_words)
    return pattern is not None and pattern.search(plain(text)) is not None


@functools.lru_cache(maxsize=8)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    wanted = sorted(filter(None, map(plain, words)))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, wanted))})(?!\w)") if wanted else None


def plain(text: str) -> str:
    """The words alone: without case, forms of letters, what cannot be seen, and the kind and number of blanks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    seen = "".join(each for each in folded if unicodedata.category(each) != "Cf")
    return " ".join(seen.split())
