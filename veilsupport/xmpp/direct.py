"""The direct form: one chat with the desk's account, in which every line carries its conversation's alias.

Where an admin's words go, in this order:

1. `!word` is a command. Together with a reply or a quotation it is about that conversation.
2. A reply (XEP-0461), a quotation that brings our tag back, or `@heron-42` in front say it themselves. If two of them
   disagree, the admin is asked.
3. Anything else goes to the one conversation that it can be about, with a line back that says where it went: the one
   that this admin explicitly addressed last, if no other has spoken to them since; before they addressed any (after
   a restart, say), the only open one. If there are several, or none, or if it begins with a quotation that cannot
   be placed, the words are held and the admin is asked; `@heron-42` alone then sends them there. Never a guess:
   words for one visitor must not reach another.

What cannot be passed on as it is meant (encrypted text, files) is answered with why, and goes to nobody. A
correction or retraction changes what the visitor sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from veilsupport import commands
from veilsupport.commands import Answer, Command
from veilsupport.desk import Desk
from veilsupport.errors import AdminError, NotFound
from veilsupport.model import BODY_MAX_CHARACTERS, Admin, Intake
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.stanzas import Reading

HELD_SECONDS: Final = 600.0
_SHOWN_MAX: Final = 8  # conversations named in a question
_ADDRESS: Final = ("say", "canned")  # commands by which one speaks to a visitor

ENCRYPTED: Final = (
    "This was encrypted and cannot be read here, so it went to nobody."
    " Please switch encryption (OMEMO) off for this chat and write it again."
)
TRUST_UNSEALED: Final = (
    "That was not encrypted, so the server could have written it: no device was confirmed. Write it encrypted, or have"
    " the operator run veilsupport desk trust on the machine."
)
FILE: Final = "Files do not go through, so this went to nobody. Please say it in words."
CONFLICT: Final = (
    "Your reply and your @ name two conversations, so this went to nobody. Please write it again with one."
)
UNKNOWN_REPLY: Final = "It is not clear what you replied to, so this went to nobody yet."
UNCLEAR: Final = "It is not clear who this is for, so it went to nobody yet."
GONE: Final = "That conversation is gone; nothing was sent to anyone."


@dataclass(frozen=True, slots=True)
class _Held:
    body: str
    until: float


class Direct:
    """Reads the admins' lines and remembers, in memory only, whom each of them is talking to."""

    def __init__(self, desk: Desk, *, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._clock = clock
        self._possible: dict[Admin, set[str]] = {}  # not in it: nobody was addressed yet
        self._heard: dict[Admin, set[str]] = {}  # whose words went to them since we run
        self._held: dict[Admin, _Held] = {}

    def spoke(self, admin: Admin, alias: str) -> None:
        """A visitor's words went to that admin: from now on an unaddressed answer may be meant for them."""
        self._heard.setdefault(admin, set()).add(alias)
        if admin in self._possible:
            self._possible[admin].add(alias)

    def meant_by(self, admin: Admin) -> str | None:
        """The one conversation that an unaddressed line of theirs can be about; None when there is not just one.

        Before they addressed any, it is the only open one, if they have heard of it since we run: a line from the
        archive may be older than that conversation.
        """
        open_ones = set(self._desk.open_aliases(admin))
        possible = self._possible.get(admin)
        if possible is None:
            possible = open_ones if open_ones <= self._heard.get(admin, set()) else set()
        return next(iter(possible)) if len(possible) == 1 and possible <= open_ones else None

    async def take(self, admin: Admin, reading: Reading, intake: Intake) -> None:
        """What an admin wrote takes effect, or is answered with why it does not. Duplicate: it did before."""
        try:
            if why := not_for_visitors(reading):
                raise AdminError(why)
            if not await self._changed(admin, reading, intake):
                await self._route(admin, reading, intake)
        except AdminError as error:
            await self._tell(admin, error.message, intake)
        except NotFound:
            await self._tell(admin, GONE, intake)
        if reading.body and not commands.says_away(reading.body):
            await self._desk.admin_is_back(admin)

    async def _changed(self, admin: Admin, reading: Reading, intake: Intake) -> bool:
        """Whether it was a retraction, or a correction of what went to a visitor. Any other counts as a new line."""
        now = self._clock()
        if reading.retracts:
            await self._desk.admin_retracts(admin, handle_of(admin, reading.retracts), intake=intake, now=now)
            return True
        handle = handle_of(admin, reading.replaces)
        alias = self._desk.alias_of_handle(handle) if reading.replaces else None
        if alias is None:
            return False
        line = commands.parse(self._replied(reading)[0])
        if isinstance(line, Command) or line.alias not in (None, alias):
            raise AdminError(CONFLICT)
        await self._desk.admin_corrects(admin, handle, line.body, intake=intake, now=now)
        return True

    async def _route(self, admin: Admin, reading: Reading, intake: Intake) -> None:
        words, alias = self._replied(reading)
        line = commands.parse(words)
        if alias and line.alias and alias != line.alias:
            raise AdminError(CONFLICT)
        alias = line.alias or alias
        match line:
            case Command(verb):
                check_command(line, reading)
                about = alias if commands.takes_alias(verb) else None  # a reply may have named it
                await self._desk.admin_commands(admin, replace(line, alias=about), intake=intake, now=self._clock())
                if about and verb in _ADDRESS:
                    self._possible[admin] = {about}
            case Answer(body) if alias and body:
                await self._desk.admin_says(admin, alias, body, intake=intake, now=self._clock())
                self._possible[admin] = {alias}
            case Answer() if alias:
                await self._addressed_alone(admin, alias, intake)
            case Answer(body) if reading.reply_to or body.startswith(">"):
                await self._ask(admin, body, intake, UNKNOWN_REPLY)  # it may repeat another visitor's words
            case Answer(body):
                await self._unaddressed(admin, body, intake)

    def _replied(self, reading: Reading) -> tuple[str, str | None]:
        """The words without what they reply to, and the conversation that this belongs to, if it is a reply and known.

        Notices are forgotten once delivered; a reply to one is placed by the tag in the part that repeats it.
        """
        if not reading.reply_to:
            return reading.body, None
        alias = self._desk.alias_of_stanza(reading.reply_to)
        if reading.fallback is None:
            return reading.body, alias
        start, end = reading.fallback
        return reading.body[:start] + reading.body[end:], alias or _alias_in(reading.body[start:end])

    async def _addressed_alone(self, admin: Admin, alias: str, intake: Intake) -> None:
        """`@heron-42` and nothing else: send what is held there, or talk to them from now on."""
        held = self._held.get(admin)
        if held and self._clock() < held.until:
            echo = stanzas.echo(alias)
            await self._desk.admin_says(admin, alias, held.body, intake=intake, now=self._clock(), echo=echo)
            del self._held[admin]
        elif alias in self._desk.open_aliases(admin, folded=True):
            text = f"Nothing is held back. What you write now without a name goes to {alias}."
            await self._tell(admin, text, intake)
        else:
            raise AdminError(f"No open conversation is called {alias}. !list shows them.")
        self._possible[admin] = {alias}

    async def _unaddressed(self, admin: Admin, body: str, intake: Intake) -> None:
        if not body:
            await self._desk.skip(intake, now=self._clock())
            return
        alias = self.meant_by(admin)
        if alias is None:
            await self._ask(admin, body, intake, UNCLEAR)
            return
        echo = stanzas.echo(alias)
        await self._desk.admin_says(admin, alias, body, intake=intake, now=self._clock(), echo=echo)

    async def _ask(self, admin: Admin, body: str, intake: Intake, why: str) -> None:
        """Hold the words and ask; further words join those that are held."""
        open_ones = self._desk.open_aliases(admin)
        possible = self._possible.get(admin, set())
        candidates = [alias for alias in open_ones if alias in possible] or open_ones
        if not candidates:
            raise AdminError("No conversation is open, so this went to nobody. !help shows how to reopen one.")
        held = self._held.get(admin)
        if held and self._clock() < held.until:
            body = f"{held.body}\n{body}"
        if len(body) > BODY_MAX_CHARACTERS:
            raise AdminError(f"{why} It is too long to be held; write it again with @{candidates[0]} in front.")
        await self._tell(admin, _question(why, candidates), intake)
        self._held[admin] = _Held(body, self._clock() + HELD_SECONDS)

    async def _tell(self, admin: Admin, text: str, intake: Intake) -> None:
        await self._desk.tell(admin, text, intake=intake, now=self._clock())


def _question(why: str, candidates: list[str]) -> str:
    shown = [f"@{alias}" for alias in candidates[:_SHOWN_MAX]]
    rest = " (and others: !list)" if len(candidates) > _SHOWN_MAX else ""
    return "\n".join(
        [
            why,
            f"Send one of these within ten minutes, and it goes there: {' '.join(shown)}{rest}",
            "Next time reply to or quote the message, or begin with the name.",
        ]
    )


def check_command(command: Command, reading: Reading) -> None:
    """AdminError: the server could have made it up, and it says which keys are believed."""
    if command.verb == "trust" and not reading.was_sealed:
        raise AdminError(TRUST_UNSEALED)


def handle_of(admin: Admin, stanza_id: str) -> str:
    """By what that admin's line in the chat is known; nobody can name another's."""
    return f"{admin.address.reveal().casefold()}#{stanza_id}"


def not_for_visitors(reading: Reading) -> str | None:
    """Why it cannot be passed on as it is meant; None when it can."""
    if reading.is_encrypted:
        return ENCRYPTED
    return FILE if reading.is_file else None


def _alias_in(quotation: str) -> str | None:
    try:
        return commands.parse(quotation).alias
    except AdminError:
        return None
