"""What an admin reads of the desk as a whole: which conversations wait, who is there, how things stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veilsupport.desk.attendance import Attendances
from veilsupport.desk.core import minute_of
from veilsupport.model import Admin, Conversation, Request, Role, Standing

LIST_MAX: Final = 30  # conversations in one answer to !list: a phone's screen or two
ALIKE_MAX: Final = 100  # of those that say the same
NONE_OPEN: Final = "No conversation is open."
_LOOKED_AT: Final = 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """One conversation on the admins' card, and how many more are folded into its line."""

    alias: str
    words: str
    folded: int = 0


class Overview(Attendances):
    """Answers in words; nothing is changed here."""

    def waiting(self, admin: Admin | None, *, now: float) -> list[Waiting]:
        """Who waits for an answer, of that admin's sites or of all; who has waited longest comes first."""
        theirs = [each for each in self._waiting() if admin is None or admin.role_at(each[0].site) >= Role.READS]
        return [Waiting(each.alias, self._line(each, minute_of(now), folded), folded) for each, folded in theirs]

    def listing(self, *readers: Admin, now: float) -> str:
        """Open conversations that all of them may read: those that wait first, the longest on top."""
        open_ones = self.store.conversations(Standing.OPEN, limit=_LOOKED_AT, folded=False)
        others = [(each, 0) for each in open_ones if not _waits(each)]
        theirs = [each for each in (*self._waiting(), *others) if _all_read(each[0], readers)]
        lines = [self._line(each, minute_of(now), folded) for each, folded in theirs[:LIST_MAX]]
        if len(theirs) > LIST_MAX:
            lines.append(f"… and {len(theirs) - LIST_MAX} more.")
        return "\n".join(lines) or NONE_OPEN

    def alike(self, conversation: Conversation, *, now: float) -> str:
        """The folded ones that began with the same words as that one."""
        found = self.store.folded(conversation.alike, limit=_LOOKED_AT) if conversation.alike else []
        others = [each for each in found if each.id != conversation.id]
        if not others:
            return "No other one that waits began with the same words."
        lines = [self._line(each, minute_of(now), 0) for each in others[:ALIKE_MAX]]
        if len(others) > ALIKE_MAX:
            lines.append(f"… and {len(others) - ALIKE_MAX} more.")
        return "\n".join([*lines, f"!show {others[0].alias} opens that one; so does answering."])

    def who(self, *readers: Admin) -> str:
        """Each admin by public name: whether they are there, and how many open conversations are theirs.

        Of those that all the readers may read.
        """
        owned = Counter(each.owner for each in self._open_for(readers))
        lines = [f"{each.name}: {self._whereabouts(each)}, {owned[self.admin_id(each)]} open" for each in self.admins]
        return "\n".join(lines) or "Nobody is set up to answer."

    def standing(self, *readers: Admin) -> str:
        """The other parts' lines, and counts; of conversations, those that all the readers may read."""
        found = self._open_for(readers)
        counts = [
            f"Conversations open: {len(found)}",
            f"Waiting for an answer: {sum(map(_waits, found))}",
            f"Waiting to be delivered: {self.store.backlog()}",
            f"Pages open: {len(self.listeners)}",
        ]
        return "\n".join([*self.status(), *counts])

    # ---- within ----------------------------------------------------------------------------------------------

    def _waiting(self) -> list[tuple[Conversation, int]]:
        """Who waits, and how many folded ones stand with them: with the first that rang, or with the first of them."""
        waiting = self.store.waiting(limit=_LOOKED_AT)
        folds = {first.alike: (first, count) for first, count in self.store.folds(limit=_LOOKED_AT)}
        lines = []
        for each in waiting:
            _, folded = folds.pop(each.alike, (each, 0)) if each.alike else (each, 0)
            lines.append((each, folded))
        lines += [(first, count - 1) for first, count in folds.values()]
        return sorted(lines, key=lambda line: line[0].waiting_minute or 0)

    def _open_for(self, readers: Sequence[Admin]) -> list[Conversation]:
        found = self.store.conversations(Standing.OPEN, limit=self.store.count_conversations(Standing.OPEN))
        return [each for each in found if _all_read(each, readers)]

    def _whereabouts(self, admin: Admin) -> str:
        if self.is_away(admin):
            return "away"
        if self._there is None:
            return "not to be seen from here"
        return "there" if self.is_seen(admin) else "not there"

    def _line(self, conversation: Conversation, minute: int, folded: int) -> str:
        """`heron-42 (shop), Bert: waits 12 min` or `heron-42, request: waits 12 min, and 7 more like this`"""
        site = f" ({conversation.site})" if conversation.site else ""
        owner = self.name_of(conversation.owner)
        whose = f", {owner}" if owner else ", request" if conversation.request is not Request.ACCEPTED else ""
        more = f", and {folded} more like this" if folded else ""
        since = conversation.waiting_minute
        if since is not None:
            return f"{conversation.alias}{site}{whose}: waits {_span(minute - since)}{more}"
        return f"{conversation.alias}{site}{whose}: quiet for {_span(minute - conversation.last_minute)}"


def _all_read(conversation: Conversation, readers: Sequence[Admin]) -> bool:
    return all(admin.role_at(conversation.site) >= Role.READS for admin in readers)


def _waits(conversation: Conversation) -> bool:
    return conversation.waiting_minute is not None


def _span(minutes: int) -> str:
    """How long, as one says it."""
    if minutes < 60:
        return f"{max(minutes, 0)} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} days"
