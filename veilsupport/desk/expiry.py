"""What goes by age: messages, whole conversations, and ways in that nobody uses. How old is each site's to say.

Once an hour, and whenever the operator asks. Nothing is erased by age that nobody has been handed yet, unless its whole
conversation goes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from veilsupport.desk.archive import Archives
from veilsupport.desk.core import minute_of
from veilsupport.errors import SetupError
from veilsupport.store import Aged, AgedSession

_DAY_MINUTES: Final = 1440
# A stanza must not take effect again because it was forgotten that it did. What is asked of an archive begins where it
# was read last, or, when the server has forgotten that place, five minutes before: rows from before the place that is
# furthest behind are of no use, less a day for clocks that were set. What comes without an archive is repeated by an
# app that has been off: two months are longer than servers keep lines for one.
_INBOX_DAYS: Final = 60
_CLOCK_DAYS: Final = 1
_NOTHING_SET: Final = SetupError(
    "Nothing is set to expire, so there is nothing to do.",
    hint="Set retention_days or idle_days under [desk] or [[site]], or give --retention-days or --idle-days.",
)


@dataclass(frozen=True, slots=True)
class Spans:
    """After how many days messages go, and after how many without a word whole conversations; 0: never."""

    retention_days: int = 0
    idle_days: int = 0

    def __bool__(self) -> bool:
        return self.retention_days > 0 or self.idle_days > 0


@dataclass(slots=True)
class Expired:
    """What went, or would go. `visitors` are those who never wrote; `sessions` those that nobody takes along."""

    messages: int = 0
    conversations: int = 0
    visitors: int = 0
    sessions: int = 0

    @property
    def count(self) -> int:
        return self.messages + self.conversations + self.visitors + self.sessions


@dataclass(frozen=True, slots=True)
class _Sweep:
    """One pass: by which clock, over which sites, and whether it only counts."""

    now: float
    spans_of: Callable[[str], Spans]
    dry: bool
    gone: Expired = field(default_factory=Expired)
    doomed: set[bytes] = field(default_factory=set)  # while it only counts: visitors whose sessions would go with them

    def before(self, days: int) -> int:
        """The minute before which is older than that; 0, before which nothing is, for never."""
        return max(0, minute_of(self.now) - days * _DAY_MINUTES) if days > 0 else 0


class Expiries(Archives):
    """The desk's part that time itself moves."""

    async def expire(self, now: float) -> int:
        """To be called each hour: erase what is too old by the sites' settings; how much that was."""
        await self.erase_lost_copies()
        if not any(map(self._spans_of, self.sites)):
            return 0
        return (await self._sweep(_Sweep(now, self._spans_of, dry=False))).count

    async def operator_expires(self, wish: str, *, now: float) -> dict[str, Any]:
        """The same when the operator asks, in JSON; the answer in numbers. SetupError: nothing is set, or no such site.

        `retention_days` and `idle_days`, if given, count instead of the settings; `site`: nowhere else.
        """
        asked = json.loads(wish)
        if not _is_wish(asked):
            raise ValueError("no wish that we know")
        site, given = asked.get("site"), Spans(asked.get("retention_days") or 0, asked.get("idle_days") or 0)
        if site is not None and site not in self.sites and site not in self._sites_of_conversations(now):
            raise SetupError("There is no such site.", hint="The known ones: veilsupport site list")
        if not given and not any(self._spans_of(each) for each in (self.sites if site is None else (site,))):
            raise _NOTHING_SET.anew()

        def spans_of(name: str) -> Spans:
            if site is not None and name != site:
                return Spans()
            return given or self._spans_of(name)

        gone = await self._sweep(_Sweep(now, spans_of, dry=bool(asked.get("dry_run"))))
        return {
            "messages": gone.messages,
            "conversations": gone.conversations,
            "visitors": gone.visitors,
            "sessions": gone.sessions,
        }

    # ---- within ----------------------------------------------------------------------------------------------

    def _spans_of(self, site: str) -> Spans:
        found = self.site(site)
        return Spans(found.retention_days, found.idle_days)

    def _sites_of_conversations(self, now: float) -> set[str]:
        """Those of sites that are no more are still there."""
        return {each.site for page in self.store.aged_conversations(minute=minute_of(now)) for each in page}

    async def _sweep(self, sweep: _Sweep) -> Expired:
        """Between two looks, and between two transactions, everybody else goes on."""
        for page in self.store.aged_conversations(minute=minute_of(sweep.now)):
            for each in page:
                await self._look_at(each, sweep)
            await asyncio.sleep(0)
        await self._sweep_ways_in(sweep)
        if not sweep.dry:
            await self._sweep_inbox(sweep)
            if sweep.gone.count:
                await self.store.scrub()
        return sweep.gone

    async def _look_at(self, aged: Aged, sweep: _Sweep) -> None:
        spans = sweep.spans_of(aged.site)
        idle_before, before = sweep.before(spans.idle_days), sweep.before(spans.retention_days)
        if aged.last_minute < idle_before:
            if sweep.dry:
                sweep.doomed.add(aged.id)
            if sweep.dry or await self._burn(aged.id, (), now=sweep.now, idle_before=idle_before):
                sweep.gone.conversations += 1
        elif aged.oldest_minute is not None and aged.oldest_minute < before:
            sweep.gone.messages += await self._expire_messages(aged.id, before, sweep)

    async def _expire_messages(self, conversation: bytes, before: int, sweep: _Sweep) -> int:
        if sweep.dry:
            return self.store.count_expired(conversation, before)
        gone = 0
        while count := await self.store.expire_messages(conversation, before=before):
            gone += count
        self._tallies.forget(conversation)
        return gone

    async def _sweep_ways_in(self, sweep: _Sweep) -> None:
        """Who never wrote belongs to no site: for them the desk's own span counts."""
        before = sweep.before(sweep.spans_of("").idle_days)
        for visitors in self.store.unused_visitors(before):
            if sweep.dry:
                sweep.doomed.update(visitors)
            erased = len(visitors) if sweep.dry else await self.store.expire_visitors(visitors, before=before)
            sweep.gone.visitors += erased
            await asyncio.sleep(0)
        for page in self.store.aged_sessions():
            old = [each for each in page if each.visitor not in sweep.doomed and self._is_over(each, sweep)]
            sweep.gone.sessions += len(old) if sweep.dry else await self._end_sessions(old)
            await asyncio.sleep(0)

    @staticmethod
    def _is_over(session: AgedSession, sweep: _Sweep) -> bool:
        """When a session was used last is kept nowhere, so it is over by its beginning; whoever still has use for it
        comes back by code or password. But not when the code has not been taken down yet."""
        return not session.holds_code and session.made_minute < sweep.before(
            sweep.spans_of(session.site or "").idle_days
        )

    async def _end_sessions(self, sessions: list[AgedSession]) -> int:
        ended = await self.store.expire_sessions([each.token_hash for each in sessions])
        for each in sessions:
            self._tell_signed_out(each.visitor, each.token_hash)
        return ended

    async def _sweep_inbox(self, sweep: _Sweep) -> None:
        bounds = [sweep.before(_INBOX_DAYS)]
        if (oldest := self.store.oldest_position()) is not None:
            bounds.append(oldest - _CLOCK_DAYS * _DAY_MINUTES)
        for keys in self.store.old_inbox(min(bounds)):
            await self.store.expire_inbox(keys)
            await asyncio.sleep(0)


def _is_wish(asked: object) -> bool:
    """Whether `expire` on the command line could have asked so."""
    known = {"site": str, "retention_days": int, "idle_days": int, "dry_run": bool}
    return isinstance(asked, dict) and all(isinstance(asked.get(name), kind | None) for name, kind in known.items())
