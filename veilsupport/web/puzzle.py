"""Small questions in words, for when too many want to start: no script, no picture, no sound.

They keep out programs that only repeat a request, and cost a person ten seconds, also with a screen reader. They do not
keep out a program that was written for this desk; limits and tor's proof of work stand behind them.

A question's name is minute || 16 random bytes || MAC, in URL-safe base64; which question it is and what the answer
is follow from the random bytes by our key, so nothing is stored until one was answered. Each is good for half an hour
(circuits are slow, and the text comes first) and for one form: the names of those that were used are remembered, the
latest 8,192 of them, which is more than can start in that half hour.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veilsupport.errors import VisitorError

_LIFE_MINUTES: Final = 30
_EARLY_MINUTES: Final = 5
_USED_MAX: Final = 8192
_ID_BYTES: Final = 4 + 16 + 16

_NUMBERS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth")
# Short, of one spelling, and in nobody's dictionary of bad memories.
_WORDS: Final = tuple(
    "apple bread candle door engine feather garden hammer island jacket kettle ladder mirror needle orange paper "
    "river saddle table umbrella violin window yellow bottle carpet flower pencil button basket blanket".split()
)


@dataclass(frozen=True, slots=True)
class Puzzle:
    """`id` goes with the answer; `answer` is what was given to it so far."""

    id: str
    question: str
    answer: str = ""


class PuzzleError(VisitorError):
    """Not before the puzzle is solved: here it is, or another one."""

    def __init__(self, message: str, puzzle: Puzzle) -> None:
        super().__init__(message, status=403, code="puzzle")
        self.puzzle = puzzle


class Puzzles:
    """Makes and checks them. `key`: 32 secret bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._used: OrderedDict[str, bytes] = OrderedDict()  # its name → the form that it was used with

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._used)

    def issue(self, *, now: float) -> Puzzle:
        raw = int(now // 60).to_bytes(4, "big") + secrets.token_bytes(16)
        id = base64.urlsafe_b64encode(raw + self._mac(raw)).decode()
        return Puzzle(id, self._question(raw)[0])

    def check(self, id: str, answer: str, *, form: bytes = b"", now: float) -> None:
        """PuzzleError: no answer, a wrong one, or one that came too late or was used before; it has a new one.

        `form`: the one-time name of the form it came with; the same form may come again (a double click). Empty: none.
        """
        if not id:
            raise PuzzleError(_RUSH, self.issue(now=now))
        raw = self._opened(id, now)
        if raw is None or (id in self._used and (not form or self._used[id] != form)):
            raise PuzzleError(
                "This question was answered before, or is too old. Nothing was sent.", self.issue(now=now)
            )
        if _folded(answer) not in self._question(raw)[1]:
            raise PuzzleError("That was not the answer. Here is another question.", self.issue(now=now))

    def use(self, id: str, *, form: bytes = b"") -> None:
        """It has let somebody in."""
        self._used[id] = form
        if len(self._used) > _USED_MAX:
            self._used.popitem(last=False)

    def again(self, id: str, answer: str, *, now: float) -> Puzzle | None:
        """The same one with its answer, for a form that has to be sent again; None: it is good no more."""
        raw = self._opened(id, now) if id not in self._used else None
        if raw is None or _folded(answer) not in self._question(raw)[1]:
            return None
        return Puzzle(id, self._question(raw)[0], answer)

    def _opened(self, id: str, now: float) -> bytes | None:
        try:
            decoded = base64.b64decode(id, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        raw, mac = decoded[:20], decoded[20:]
        if len(decoded) != _ID_BYTES or not hmac.compare_digest(mac, self._mac(raw)):
            return None
        age = now // 60 - int.from_bytes(raw[:4], "big")
        return raw if -_EARLY_MINUTES <= age <= _LIFE_MINUTES else None

    def _question(self, raw: bytes) -> tuple[str, frozenset[str]]:
        """The question, and every answer that is right."""
        chance = hashlib.blake2b(raw, digest_size=32, key=self._key, person=b"veil puzzle pick").digest()
        make = (_sum, _difference, _nth_word, _largest)[chance[0] % 4]
        return make(chance[1:])

    def _mac(self, raw: bytes) -> bytes:
        return hashlib.blake2b(raw, digest_size=16, key=self._key, person=b"veil puzzle name").digest()


_RUSH: Final = "Very many are coming just now. Please answer the question, then send again: nothing was sent yet."


def _sum(chance: bytes) -> tuple[str, frozenset[str]]:
    one, two = 2 + chance[0] % 8, 2 + chance[1] % 8
    return f"What is {_NUMBERS[one]} plus {_NUMBERS[two]}?", _number(one + two)


def _difference(chance: bytes) -> tuple[str, frozenset[str]]:
    two, rest = 2 + chance[0] % 8, 1 + chance[1] % 9
    return f"What is {_NUMBERS[two + rest]} minus {_NUMBERS[two]}?", _number(rest)


def _nth_word(chance: bytes) -> tuple[str, frozenset[str]]:
    words, place = _some(_WORDS, chance[1:]), chance[0] % 5
    return f"What is the {_ORDINALS[place]} of these words: {', '.join(words)}?", frozenset({words[place]})


def _largest(chance: bytes) -> tuple[str, frozenset[str]]:
    numbers = _some(_NUMBERS[1:], chance)[:4]
    largest = max(map(_NUMBERS.index, numbers))
    return f"Which is the largest of these numbers: {', '.join(numbers)}?", _number(largest)


def _some(those: Sequence[str], chance: bytes) -> list[str]:
    """Five different ones."""
    left = list(those)
    return [left.pop(byte % len(left)) for byte in chance[:5]]


def _number(number: int) -> frozenset[str]:
    return frozenset({str(number), _NUMBERS[number]})


def _folded(answer: str) -> str:
    """Digits of any script and width become ours; case, blanks and punctuation around it do not count."""
    if len(answer) > 100:
        return ""
    text = unicodedata.normalize("NFKC", answer).casefold()
    text = "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in text)
    return re.sub(r"^[\W_]+|[\W_]+$", "", text)
