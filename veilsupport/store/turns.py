"""Whose turn it is: the oldest delivery of every line, then the second of each. A line is what waits of a conversation.

What belongs to no conversation makes a line for each recipient and kind. A night's backlog must not make each look at
it dearer, so two ways lead there, and both end at the same deliveries:

1. Mostly the oldest few that are due are of as many lines as are asked for. Then nothing else can come before them.
2. When a flood stands in front, an index leads from each line's first to the next line's, past what is behind it. That
   costs a step for each line (and recipient), however long they are, and some more for the lines that have their turn.

It does not know what a delivery says. What became due while it looked is seen the next time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from veilsupport.store import rows

_LOOK: Final = 4  # so many times what is asked for, of the oldest
_ROW: Final = "d.n, d.conversation, d.admin, d.kind, d.due_minute"
# Left to itself, SQLite walks all that was ever delivered in the order of conversations, to save sorting.
_OLDEST: Final = (
    "SELECT n, conversation, admin, kind, due_minute FROM delivery INDEXED BY delivery_due"
    " WHERE state = 'due' ORDER BY n LIMIT ?"
)
# A line's part for one recipient, as schema.sql has it in the index.
_PART: Final = "coalesce({0}.conversation, {0}.kind) || {0}.admin"
_HEADS: Final = (
    "WITH RECURSIVE head (n) AS (SELECT * FROM"  # noqa: S608 - constants of ours, as below
    " (SELECT d.n FROM delivery d INDEXED BY delivery_turn WHERE d.state = 'due'"
    f" ORDER BY {_PART.format('d')}, d.n LIMIT 1)"
    " UNION ALL SELECT (SELECT d.n FROM delivery d INDEXED BY delivery_turn WHERE d.state = 'due'"
    f" AND {_PART.format('d')} > {_PART.format('e')} ORDER BY {_PART.format('d')}, d.n LIMIT 1)"
    " FROM head JOIN delivery e ON e.n = head.n)"
    f" SELECT {_ROW} FROM head JOIN delivery d ON d.n = head.n"
)
_BEHIND: Final = (
    f"SELECT {_ROW} FROM delivery d INDEXED BY delivery_turn WHERE d.state = 'due'"  # noqa: S608
    f" AND {_PART.format('d')} = (SELECT {_PART.format('e')} FROM delivery e WHERE e.n = ?1)"
    " AND d.n > ?1 AND d.due_minute NOT BETWEEN ?2 AND ?3 ORDER BY d.n LIMIT ?4"
)

Ask = Callable[..., list[Any]]  # SQL and its values


class Due(NamedTuple):
    n: int
    conversation: bytes | None
    admin: bytes
    kind: str
    due_minute: int

    @property
    def line(self) -> object:
        return self.conversation or (self.admin, self.kind)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of whom and when. No pause is longer than the longest one: what seems to wait for more was marked before the
    clock was set back."""

    minute: int
    shut: frozenset[bytes]  # conversations whose room cannot take anything at this moment
    to: frozenset[bytes] | None  # None: everyone but nobody

    @classmethod
    def of(cls, minute: int, without: Collection[bytes], to: Collection[bytes] | None) -> Wanted:
        return cls(minute, frozenset(without), None if to is None else frozenset({rows.ROOM, *to}))

    @property
    def pauses(self) -> tuple[int, int]:
        """The first and last minute until which something may have to wait."""
        return self.minute + 1, self.minute + rows.REFUSAL_PAUSE_MINUTES[-1]

    def is_for(self, due: Due) -> bool:
        if due.admin == rows.ROOM and due.conversation in self.shut:
            return False
        return due.admin != rows.NOBODY if self.to is None else due.admin in self.to

    def is_time(self, due: Due) -> bool:
        first, last = self.pauses
        return not first <= due.due_minute <= last


def find(ask: Ask, wanted: Wanted, limit: int) -> list[int]:
    """The `n` of those whose turn it is."""
    look = _LOOK * limit
    oldest = [Due(*row) for row in ask(_OLDEST, look)]
    taken = _taken([due for due in oldest if wanted.is_for(due) and wanted.is_time(due)], limit)
    if len(oldest) < look or (len(taken) == limit and all(turn == 1 for turn, _ in taken)):
        return [n for _, n in taken]
    return [n for _, n in _taken(_of_each_line(ask, wanted, limit), limit)]


def _taken(found: Iterable[Due], limit: int) -> list[tuple[int, int]]:
    """(turn, n) of the first `limit`."""
    seen: Counter[object] = Counter()
    turns = []
    for due in sorted(found):
        seen[due.line] += 1
        turns.append((seen[due.line], due.n))
    return sorted(turns)[:limit]


def _of_each_line(ask: Ask, wanted: Wanted, limit: int) -> list[Due]:
    """Of the `limit` lines with the oldest heads, as many as can have a turn while each of the others has one."""
    heads = [
        head
        for first in map(Due._make, ask(_HEADS))
        if wanted.is_for(first)
        for head in ([first] if wanted.is_time(first) else _behind(ask, wanted, first, 1))
    ]
    lines = set(list(dict.fromkeys(head.line for head in sorted(heads)))[:limit])
    heads = [head for head in heads if head.line in lines]
    more = limit - len(lines)
    return heads + [due for head in heads if more for due in _behind(ask, wanted, head, more)]


def _behind(ask: Ask, wanted: Wanted, first: Due, many: int) -> Sequence[Due]:
    """The next ones for the same recipient in that line, for which it is time."""
    return [Due(*row) for row in ask(_BEHIND, first.n, *wanted.pauses, many)]
