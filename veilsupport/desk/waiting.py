"""Who waits for an answer, as the admins' card says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from veilsupport.desk.core import Core, minute_of
from veilsupport.model import Admin, Conversation, Role

_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Waiting:
    """One conversation on the card."""

    alias: str
    words: str  # alias, site, how long, and whose it is


class Waitings(Core):
    """The card's part of the desk."""

    def waiting(self, admin: Admin | None, *, now: float) -> list[Waiting]:
        """Of that admin's sites, or of all; who has waited longest comes first."""
        found = self.store.waiting(limit=_LIMIT)
        theirs = [each for each in found if admin is None or admin.role_at(each.site) >= Role.READS]
        return [Waiting(each.alias, self._waits(each, minute_of(now))) for each in theirs]

    def _waits(self, conversation: Conversation, minute: int) -> str:
        since = conversation.waiting_minute or minute
        site = self.site(conversation.site).title if conversation.site else ""
        parts = [conversation.alias, site, _span(minute - since), self.name_of(conversation.owner)]
        return " · ".join(part for part in parts if part)


def _span(minutes: int) -> str:
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
