"""The admins' language: what a line typed into an XMPP app means. It depends on where the line was written.

In the chat with the desk, where every line must say for whom it is (`parse`):

    !list                       a command; `!!` begins a literal exclamation mark, and nothing begins with `/`,
                                because clients keep such lines for themselves
    !note heron-42 wrote before a command about a conversation names it first
    @heron-42 we are coming     an answer, addressed; `[heron-42] we are coming` as well
    > [heron-42] are you there  a quotation of what we sent (its tag addresses the answer), then the answer or a command
    > are you there             any other quotation, then a command; in front of an answer it is part of that
    we are coming               an answer to whomever the context says; the XMPP edge decides, or asks

In a visitor's own room, where every line is for them (`parse_in_room`):

    we are coming               an answer, word for word, quotations too; `!!` as above
    !note wrote before          a command about this conversation, behind a quotation too; it stays among the admins
    @otter-7 yes                another's name or tag: refused

In the staff room (`parse_in_staff_room`) the admins talk among themselves, and only a line with `!` is for the desk.

What we send carries the tag `[heron-42]` in front, which is what a quotation brings back; in a visitor's own words
whatever looks like a tag is defused, so that no visitor can address an answer. A line that names two
conversations in any of these ways is refused: words for one visitor must not reach another. What cannot be seen in
front of a line is as if it were not there, and other scripts' `!` are `!`: a note must not reach the visitor because a
keyboard put a mark before it. Pure: text in, values out; whether an alias exists is the desk's business.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from veilsupport.errors import AdminError
from veilsupport.model import Role

ALIAS = r"[a-z]{2,16}-[0-9]{1,4}"
_ALIAS_ONLY = re.compile(ALIAS)
# What shows nothing in front of a line: blanks, what the desk cleans away, what is no character, and what Unicode lists
# as ignorable (DerivedCoreProperties.txt, Default_Ignorable_Code_Point), such as the marks of right-to-left keyboards.
_UNSEEN = (
    "\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\ufffe\uffff\U000e0000-\U000e0fff"
)
_LINE_ENDS = "\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_IN_FRONT = re.compile(f"[{_UNSEEN}]*")
_QUOTATION = re.compile(f"(?:[{_UNSEEN}]*>[^{_LINE_ENDS}]*)*[{_UNSEEN}]*")  # and the blank lines around it
_BARE = re.compile(f"[{_UNSEEN}>]*")
_MARKS = ("!", "\uff01", "\ufe57", "\ufe15")  # as full-width, small and vertical keyboards write it

_ADDRESSED = re.compile(rf"@({ALIAS})(?![\w-])[:,]?\s*", re.IGNORECASE)
_TAG = re.compile(rf"\[({ALIAS})\]\s*")
_NAMED = re.compile(rf"(?:@(?={ALIAS}(?![\w-]))|\[(?={ALIAS}\]))({ALIAS})[]:,]?", re.IGNORECASE)  # either of them
_LOOKS_LIKE_TAG = re.compile(rf"\[(?={ALIAS}\])")
_DEFUSED = "[\u2060"  # WORD JOINER: looks the same, and is no tag


class About(Enum):
    """Whether a command is about one conversation."""

    NONE = auto()
    MAYBE = auto()
    ONE = auto()


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table.

    `words`: what may follow, "" for nothing; what stands in brackets may be left out. `role` is what it takes on the
    conversation's site, or on any site when it is about none (what holds for all sites takes more). `from_shell`: it
    makes sense on the operator's command line, where nobody is signed in as an admin and words stay in the shell's
    history.
    """

    name: str
    help: str
    about: About = About.NONE
    words: str = ""
    role: Role = Role.READS
    from_shell: bool = True

    @property
    def needs_words(self) -> bool:
        return bool(self.words) and not self.words.startswith("[")

    def shape(self, alias: str = "") -> str:
        """How it is written."""
        named = alias if self.about is About.ONE else ""
        return " ".join(filter(None, (f"!{self.name}", named, self.words)))


VERBS = (
    Verb("help", "show this", role=Role.NONE),
    Verb("list", "who waits, and the other open ones"),
    Verb("alike", "the others that wrote the same as it, and rang nobody", About.ONE),
    Verb("who", "which of us are there, and what each has"),
    Verb("status", "Tor, the connection, what is waiting"),
    Verb("claim", "make it yours", About.ONE, role=Role.ANSWERS, from_shell=False),
    Verb("assign", "make it theirs", About.ONE, "NAME", role=Role.LEADS),
    Verb("away", "until you write again; visitors may read TEXT", words="[TEXT]", role=Role.ANSWERS, from_shell=False),
    Verb("close", "it reopens when either side writes again", About.ONE, role=Role.ANSWERS),
    Verb("reopen", "open a closed or blocked one", About.ONE, role=Role.ANSWERS),
    Verb("block", "let the visitor read but not write; TEXT says why", About.ONE, "[TEXT]", role=Role.LEADS),
    Verb("burn", "erase it for good, here and (if clients obey) on your devices", About.ONE, role=Role.LEADS),
    Verb("note", "for the other admins, not for the visitor", About.ONE, "TEXT", from_shell=False),
    Verb("say", "answer, from anywhere", About.ONE, "TEXT", role=Role.ANSWERS, from_shell=False),
    Verb("show", "bring the words of which you were only told, or not even told", About.MAYBE, from_shell=False),
    Verb(
        "canned",
        "kept answers; outside its room: !canned heron-42 use NAME",
        About.MAYBE,
        "[list | add NAME TEXT | use NAME | remove NAME]",
        role=Role.ANSWERS,
    ),
    Verb("hours", "when somebody answers, such as mon-fri 9-17 Europe/Berlin", words="[TEXT | off]"),
    Verb("omemo", "our fingerprint, and what is encrypted"),
    Verb("trust", "believe in an admin's new device", words="NAME CODE", role=Role.LEADS),
)
_VERBS = {verb.name: verb for verb in VERBS}


@dataclass(frozen=True, slots=True)
class Command:
    """A verb of the table, the conversation that it is about (None: the line does not say), and what followed."""

    verb: str
    alias: str | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Text for a visitor. `alias` is None when the line does not say for whom."""

    body: str
    alias: str | None = None


def tag(alias: str, body: str) -> str:
    """What an admin sees of a visitor's words."""
    return f"[{alias}] {_LOOKS_LIKE_TAG.sub(_DEFUSED, body)}"


def verb(name: str) -> Verb:
    """That row of the table."""
    return _VERBS[name]


def says_away(text: str) -> bool:
    """Whether the line says that its author goes away; any other shows that they are there."""
    _, words = _named_in_front(_seen(text), _NAMED)
    return _is_command(words) and _first_word(words[1:])[0].lower() == "away"


def takes_alias(name: str) -> bool:
    """Whether that command may be about one conversation."""
    return _VERBS[name].about is not About.NONE


def fits_the_shell(command: Command) -> bool:
    """Whether it may be given on the operator's command line: words for visitors stay out of the shell's history."""
    adds_words = command.verb == "canned" and _first_word(command.words)[0].lower() == "add"
    adds_words |= command.verb == "block" and bool(command.words)
    return _VERBS[command.verb].from_shell and not adds_words


def has_shape_of_alias(word: str) -> bool:
    return bool(_ALIAS_ONLY.fullmatch(word))


# ---- the three places --------------------------------------------------------------------------------------------


def parse(text: str) -> Command | Answer:
    """What an admin wrote to the desk. AdminError: no such command, wrong words, a wrong address, or two of them."""
    words, named = _without_quotation(_seen(text))
    in_front, line = _named_in_front(words, _NAMED)
    if match := _ADDRESSED.match(words) or _TAG.match(words):
        words = _seen(words[match.end() :])
    quoted = _quoted(words)
    if len({*named, *in_front, *quoted}) > 1:
        raise AdminError("That names two conversations, so it went to nobody. Write @heron-42 and your answer.")
    if match:
        named.append(match[1].lower())
    if _is_command(line):
        return _command(line, next(iter([*named, *in_front, *quoted]), None))
    alias = next(iter([*named, *quoted]), None)
    if words.startswith("@") and not alias:
        raise AdminError("That begins with @ but names no conversation, so it went to nobody. !list shows them.")
    return Answer(_literal(words), alias)


def parse_in_room(text: str, alias: str) -> Command | Answer:
    """What an admin wrote in the room of conversation `alias`.

    AdminError: as above, or any line of it begins with the name or tag of another conversation.
    """
    words, own = _seen(text), _own_name(alias)
    if match := own.match(words):  # what a tap on the visitor's nick puts in front
        words = _seen(words[match.end() :])
    if _named_in(words) - {alias}:
        raise AdminError("That names another conversation, so it went to nobody.")
    _, line = _named_in_front(words, own)
    return _command(line, alias) if _is_command(line) else Answer(_literal(words), alias)


def parse_in_staff_room(text: str) -> Command | None:
    """What an admin wrote in the staff room; None: it is not for the desk. AdminError: as above."""
    line = _behind_quotation(_seen(text))
    return _command(line, None) if _is_command(line) else None


# ---- what stands in front ----------------------------------------------------------------------------------------


def _seen(text: str) -> str:
    """Without what nobody sees in front of it; line ends become line feeds."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _without_front(text, _IN_FRONT).rstrip()


def _behind_quotation(text: str) -> str:
    return _without_front(text, _QUOTATION)


def _without_front(text: str, pattern: re.Pattern[str]) -> str:
    match = pattern.match(text)
    return text[match.end() :] if match else text


def _named_in_front(text: str, name: re.Pattern[str]) -> tuple[list[str], str]:
    """The names between and behind the quotations in front, and what follows all of these."""
    names, rest = [], _behind_quotation(text)
    while match := name.match(rest):
        names.append(match[1].lower())
        rest = _behind_quotation(rest[match.end() :])
    return names, rest


def _is_command(words: str) -> bool:
    return words.startswith(_MARKS) and not words[1:].startswith(_MARKS)


def _literal(words: str) -> str:
    """`!!`, behind a quotation too, is one exclamation mark."""
    line = _behind_quotation(words)
    if not (line.startswith(_MARKS) and line[1:].startswith(_MARKS)):
        return words
    return words.removesuffix(line) + line[1:]


# ---- who is named ------------------------------------------------------------------------------------------------


def _without_quotation(text: str) -> tuple[str, list[str]]:
    """Take off a leading quotation that carries our tag, and say whose; any other is the admin's own words."""
    lines = text.split("\n")
    end = next((number for number, line in enumerate(lines) if not _seen(line).startswith(">")), len(lines))
    named = _quoted("\n".join(lines[:end]))
    return (_seen("\n".join(lines[end:])), named) if named else (text, [])


def _quoted(text: str) -> list[str]:
    """The tags that quoted lines carry."""
    lines = (_bare(line) for line in text.split("\n") if _seen(line).startswith(">"))
    return [match[1] for line in lines if (match := _TAG.match(line))]


def _named_in(text: str) -> set[str]:
    """By whose name or tag a line begins, quoted or not."""
    lines = (_bare(line) for line in text.split("\n"))
    return {match[1].lower() for line in lines if (match := _ADDRESSED.match(line) or _TAG.match(line))}


def _bare(line: str) -> str:
    """Without the marks of quotation, and what cannot be seen between them."""
    return _without_front(line, _BARE)


def _own_name(alias: str) -> re.Pattern[str]:
    """`@heron-42`, `heron-42:` or `heron-42,` in front."""
    name = re.escape(alias)
    return re.compile(rf"(?:@(?={name}(?![\w-]))|(?={name}[:,]))({name})[:,]?", re.IGNORECASE)


# ---- commands ----------------------------------------------------------------------------------------------------


def _command(text: str, named: str | None) -> Command:
    """`named`: the conversation that the line is about by other means."""
    name, rest = _first_word(text[1:])
    verb = _VERBS.get(name.lower())
    if verb is None:
        raise AdminError(_unknown(name.lower()))
    alias, words = None, rest
    if verb.about is not About.NONE:
        alias, words = _alias_and_words(verb, rest, named)
    if words and not verb.words:
        raise AdminError(f"That is one word too many, so nothing was done. Write: {verb.shape('heron-42')}")
    if verb.needs_words and not words:
        raise AdminError(f"Something is missing there, so nothing was done. Write: {verb.shape('heron-42')}")
    return Command(verb.name, alias, words)


def _alias_and_words(verb: Verb, text: str, named: str | None) -> tuple[str | None, str]:
    """The conversation, by the first word or as `named`, and what follows."""
    first, rest = _first_word(text)
    alias = first.removeprefix("@").lower()
    if not _ALIAS_ONLY.fullmatch(alias):
        if first.startswith("@") or (first and not verb.words):
            raise AdminError(
                f"That is not the name of a conversation, so nothing was done. Write: {verb.shape('heron-42')}"
            )
        return named, text
    if named and named != alias:
        raise AdminError("That names another conversation, so nothing was done.")
    return alias, rest


def _first_word(text: str) -> tuple[str, str]:
    """Also what follows it."""
    first, *rest = text.split(None, 1) or [""]
    return first, rest[0].strip() if rest else ""


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


# ---- help --------------------------------------------------------------------------------------------------------


def help_text(room: bool = False) -> str:
    """The answer to `!help`, in a visitor's room or elsewhere, made from the table."""
    lines = [f"{verb.shape('' if room else 'heron-42')}: {verb.help}" for verb in VERBS]
    return "\n".join([*(_ROOM_HELP if room else _CHAT_HELP), *lines])


def shell_help() -> str:
    """The same for the operator's command line."""
    verbs = [verb for verb in VERBS if verb.from_shell]
    lines = [f"{verb.shape('heron-42').removeprefix('!')}: {verb.help}" for verb in verbs]
    text = "\n".join(lines)
    for with_words in (" | add NAME TEXT", "; TEXT says why"):  # `fits_the_shell`
        text = text.replace(with_words, "")
    return text.replace("block heron-42 [TEXT]", "block heron-42")


_ROOM_HELP = (
    "What you write here goes to the visitor. Lines with ! stay among us; !! sends one that begins with !.",
    "Your corrections and retractions change what the visitor sees.",
)
_CHAT_HELP = (
    "Answer a visitor by replying to or quoting their message, or with @heron-42 and your words.",
    "A line without any of these goes to the one you last spoke to, if no one else has written since.",
    "A line that shall begin with ! begins with !! instead.",
)
