"""The admins' language: what a line typed into an XMPP app means.

    !list                       a command; `!!` begins a literal exclamation mark, and nothing begins with `/`,
                                because clients keep such lines for themselves
    @heron-42 we are coming     an answer, addressed; `[heron-42] we are coming` as well
    > [heron-42] are you there  a quotation of what we sent (its tag addresses the answer), then the answer or a command
    we are coming               an answer to whomever the context says; the XMPP edge decides, or asks

What we send carries the tag `[heron-42]` in front, which is what a quotation brings back; in a visitor's own words
whatever looks like a tag is defused, so that no visitor can address an answer. A line that names two
conversations in any of these ways is refused: words for one visitor must not reach another. Pure: text in, values out;
whether an alias exists is the desk's business.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from veilsupport.errors import AdminError

ALIAS = r"[a-z]{2,16}-[0-9]{1,4}"
_ALIAS_ONLY = re.compile(ALIAS)
_ADDRESSED = re.compile(rf"@({ALIAS})(?![\w-])[:,]?\s*", re.IGNORECASE)
_TAG = re.compile(rf"\[({ALIAS})\]\s*")
_LOOKS_LIKE_TAG = re.compile(rf"\[(?={ALIAS}\])")
_DEFUSED = "[\u2060"  # WORD JOINER: looks the same, and is no tag


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table: what `!help` prints and what may follow the name."""

    name: str
    help: str
    takes_alias: bool = False


VERBS = (
    Verb("help", "show this"),
    Verb("list", "open conversations, the newest first"),
    Verb("close", "close it; it reopens when either side writes again", takes_alias=True),
    Verb("reopen", "open a closed or blocked one", takes_alias=True),
    Verb("block", "let the visitor read but not write", takes_alias=True),
    Verb("burn", "erase it for good, here and (as far as clients obey) on your devices", takes_alias=True),
    Verb("status", "Tor, the connection, what is waiting"),
)
_VERBS = {verb.name: verb for verb in VERBS}


@dataclass(frozen=True, slots=True)
class Command:
    """A verb of the table, and the alias that followed it (None when there was none)."""

    verb: str
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Text for a visitor. `alias` is None when the line does not say for whom."""

    body: str
    alias: str | None = None


def tag(alias: str, body: str) -> str:
    """What an admin sees of a visitor's words."""
    return f"[{alias}] {_LOOKS_LIKE_TAG.sub(_DEFUSED, body)}"


def parse(text: str) -> Command | Answer:
    """What an admin wrote. AdminError: no such command, a stray argument, a wrong address, or two conversations."""
    words, named = _without_quotation(text.strip())
    if match := _ADDRESSED.match(words) or _TAG.match(words):
        named.append(match[1].lower())
        words = words[match.end() :]
    if match := _ADDRESSED.match(words):
        named.append(match[1].lower())
    named += _quoted(words)
    if len(set(named)) > 1:
        raise AdminError("That names two conversations, so it went to nobody. Write @heron-42 and your answer.")
    alias = named[0] if named else None
    if words.startswith("!") and not words.startswith("!!"):
        return _command(words, alias)
    if words.startswith("@") and not alias:
        raise AdminError("That begins with @ but names no conversation, so it went to nobody. !list shows them.")
    return Answer(words.removeprefix("!") if words.startswith("!!") else words, alias)


def takes_alias(verb: str) -> bool:
    """Whether that command is about one conversation."""
    return _VERBS[verb].takes_alias


def _without_quotation(text: str) -> tuple[str, list[str]]:
    """Take off a leading quotation that carries our tag, and say whose; any other is the admin's own words."""
    lines = text.split("\n")
    end = next((number for number, line in enumerate(lines) if not line.startswith(">")), len(lines))
    named = _quoted("\n".join(lines[:end]))
    return ("\n".join(lines[end:]).strip(), named) if named else (text, [])


def _quoted(text: str) -> list[str]:
    """The tags that quoted lines carry."""
    lines = (line.lstrip("> ") for line in text.split("\n") if line.startswith(">"))
    return [match[1] for line in lines if (match := _TAG.match(line))]


def _command(text: str, named: str | None) -> Command:
    """`named`: the conversation that the line is about by other means."""
    name, *arguments = text[1:].split() or [""]
    verb = _VERBS.get(name.lower())
    if verb is None:
        raise AdminError(_unknown(name.lower()))
    if len(arguments) > int(verb.takes_alias):
        shape = f"!{verb.name} heron-42" if verb.takes_alias else f"!{verb.name}"
        raise AdminError(f"That is one word too many. Write: {shape}")
    if not arguments:
        return Command(verb.name, named if verb.takes_alias else None)
    alias = arguments[0].lstrip("@").lower()
    if not _ALIAS_ONLY.fullmatch(alias):
        raise AdminError(f"That is not the name of a conversation. Write: !{verb.name} heron-42")
    if named and named != alias:
        raise AdminError("That names two conversations, so nothing was done.")
    return Command(verb.name, alias)


def _unknown(name: str) -> str:
    near = nearest(name, _VERBS)
    hint = f" Did you mean !{near[0]}?" if near else ""
    return (
        f"There is no such command; nothing was sent to anyone.{hint} !help lists them."
        " To send a line that begins with ! write !! instead."
    )


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The three known words most like `word`, for "did you mean"."""
    return difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)


def help_text() -> str:
    """The answer to `!help`, made from the table."""
    shapes = [(f"!{verb.name} heron-42" if verb.takes_alias else f"!{verb.name}", verb.help) for verb in VERBS]
    lines = [f"{shape}: {help_}" for shape, help_ in shapes]
    return "\n".join(
        [
            "Answer a visitor by replying to or quoting their message, or with @heron-42 and your words.",
            "A line without any of these goes to the one you last spoke to, if no one else has written since.",
            *lines,
            "A line that shall begin with ! begins with !! instead.",
        ]
    )
