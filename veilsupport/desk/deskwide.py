"""What commands do to the desk as a whole: who is away, the hours, canned answers, trust in devices."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from veilsupport import commands, crypto, hours
from veilsupport.desk.answers import accepted
from veilsupport.desk.attendance import With
from veilsupport.desk.commands import Asked, Commands, Effect
from veilsupport.desk.core import clean, minute_of
from veilsupport.errors import AdminError, SealError
from veilsupport.hours import Hours
from veilsupport.model import Role
from veilsupport.store import NewDelivery

AWAY_MAX_CHARACTERS: Final = 500
_CANNED_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
_CANNED_SHOWN: Final = 60  # characters of each in the list
_ACTIONS: Final = ("list", "add", "use", "remove")


def _omemo_is_off() -> str:
    return "OMEMO is off."


async def _nothing_to_trust(admin: str, code: str) -> str:
    return "OMEMO is off, so nothing was changed."


class DeskWide(Commands):
    """The XMPP edge sets `omemo_words`, the answer to `!omemo`, and `trust_device`, which is given an admin's public
    name and the code, and answers what came of it (AdminError: why nothing did).
    """

    omemo_words: Callable[[], str] = staticmethod(_omemo_is_off)
    trust_device: Callable[[str, str], Awaitable[str]] = staticmethod(_nothing_to_trust)

    async def _be_away(self, asked: Asked) -> Effect:
        words = clean(asked.command.words)
        if len(words) > AWAY_MAX_CHARACTERS:
            raise AdminError(f"That is more than {AWAY_MAX_CHARACTERS} characters, so nothing was changed.")

        async def keep(told: Sequence[NewDelivery]) -> None:
            await self.admin_is_away(asked.admin, words, self._with(asked, told))

        read = f" While nobody else is there, visitors read: {words}" if words else ""
        return Effect(f"You are away until you write again.{read}", f"{asked.admin.name} is away.", store=keep)

    def _with(self, asked: Asked, told: Sequence[NewDelivery]) -> With:
        return With(minute_of(asked.now), told, self._seen(asked), asked.place)

    # ---- hours -----------------------------------------------------------------------------------------------

    async def _hours(self, asked: Asked) -> Effect:
        words = asked.command.words
        if not words:
            return Effect(self._hours_in_words(self.hours_override()))
        self._must_lead(asked.admin, self.sites)
        wanted = None if words.lower() == "off" else _hours(words)

        async def keep(told: Sequence[NewDelivery]) -> None:
            await self.set_hours(wanted, now=asked.now, together=self._with(asked, told))

        done = "taken back the hours that were set here." if wanted is None else f"set the hours: {wanted}"
        return Effect(self._hours_in_words(wanted), f"{asked.admin.name} has {done}", store=keep)

    def _hours_in_words(self, override: Hours | None) -> str:
        if override is not None:
            return f"Hours of every site: {override}\n!hours off goes back to what the settings say."
        lines = [f"{name or 'Hours by the settings'}: {hours.parse(site.hours)}" for name, site in self.sites.items()]
        return "\n".join(lines)

    # ---- canned answers --------------------------------------------------------------------------------------

    async def _canned(self, asked: Asked) -> Effect:
        words = asked.command.words
        action, rest = [*words.split(None, 1), "", ""][:2]
        match action.lower():
            case "" | "list":
                return Effect(self._canned_list())
            case "add":
                return self._add_canned(asked, rest)
            case "remove":
                return self._remove_canned(asked, rest)
            case "use":
                return self._use_canned(asked, rest)
        return self._use_canned(asked, words)

    def _canned_list(self) -> str:
        lines = [f"{name}: {_beginning(self._opened_canned(name, sealed))}" for name, sealed in self.store.canned()]
        return "\n".join(lines) or "There are no canned answers. !canned add NAME TEXT keeps one."

    def _add_canned(self, asked: Asked, rest: str) -> Effect:
        self._must_lead(asked.admin, self.sites)
        name, text = [*rest.split(None, 1), "", ""][:2]
        name = name.lower()
        if not text or not _CANNED_NAME.fullmatch(name) or name in _ACTIONS or commands.has_shape_of_alias(name):
            raise AdminError(
                "Nothing was kept. Write: !canned add NAME TEXT, with a name of a to z, 0 to 9 and hyphens, at most 32,"
                " that is none of a conversation."
            )
        sealed = crypto.wrap_text(self.key.settings, accepted(text), b"canned" + name.encode())
        before = " The words that it had are gone." if name in dict(self.store.canned()) else ""
        return self._changed_canned(asked, name, sealed, f"{name} is kept.{before}", "kept")

    def _remove_canned(self, asked: Asked, name: str) -> Effect:
        self._must_lead(asked.admin, self.sites)
        found, _ = self._canned_called(name)
        return self._changed_canned(asked, found, None, f"{found} is removed.", "removed")

    def _changed_canned(self, asked: Asked, name: str, sealed: bytes | None, answer: str, done: str) -> Effect:
        async def keep(told: Sequence[NewDelivery]) -> None:
            minute, seen = minute_of(asked.now), self._seen(asked)
            await self.store.set_canned(name, sealed, minute=minute, notices=told, taken=seen, place=asked.place)

        return Effect(answer, f"{asked.admin.name} has {done} the canned answer {name}.", store=keep)

    def _use_canned(self, asked: Asked, name: str) -> Effect:
        """In the conversation's room the others see only the command, so the words are shown there."""
        found, text = self._canned_called(name)
        if asked.conversation is None:
            raise AdminError(f"For which conversation? Write: !canned heron-42 use {found}")
        told = self._to_others(asked.admin, asked.one, f"{asked.admin.name}: {text}")
        return self._said(asked, text, told, "" if asked.in_its_room else f"Sent to {asked.one.alias}: {text}")

    def _canned_called(self, name: str) -> tuple[str, str]:
        """Its name and words. AdminError: there is none, or it was damaged."""
        known = dict(self.store.canned())
        if name.lower() not in known:
            near = commands.nearest(name.lower(), known)
            hint = f"Did you mean {' or '.join(near)}?" if near else "!canned shows them."
            raise AdminError(f"There is no canned answer of that name, so nothing was done. {hint}")
        text = self._opened_canned(name.lower(), known[name.lower()])
        if not text:
            raise AdminError("That answer was damaged on the desk's disk, so nothing was sent. Add it anew.")
        return name.lower(), text

    def _opened_canned(self, name: str, sealed: bytes) -> str:
        """ "" when it was damaged."""
        try:
            return crypto.unwrap_text(self.key.settings, sealed, b"canned" + name.encode())
        except SealError:
            return ""

    # ---- OMEMO -----------------------------------------------------------------------------------------------

    async def _omemo(self, asked: Asked) -> Effect:
        return Effect(self.omemo_words())

    async def _trust(self, asked: Asked) -> Effect:
        name, _, code = asked.command.words.rpartition(" ")
        if not name:
            raise AdminError("Something is missing there, so nothing was done. Write: !trust NAME CODE")
        whose = self._admin_called(name.strip())
        sites = {*self.sites, *(site for site, _ in whose.roles)}
        self._must_lead(asked.admin, [site for site in sites if whose.role_at(site) > Role.NONE])
        return Effect(await self.trust_device(whose.name, code))


def _hours(words: str) -> Hours:
    """AdminError: what is wrong with them."""
    try:
        return hours.parse(words)
    except ValueError as error:
        raise AdminError(f"Nothing was changed. {error}") from None


def _beginning(text: str) -> str:
    first = " ".join(text.split()) or "(damaged)"
    return first if len(first) <= _CANNED_SHOWN else first[: _CANNED_SHOWN - 1] + "…"
