"""The first evening: the questions of `setup` on a terminal, each tried out while whoever knows the answer is there.

A wrong answer is asked for again, and that one only. Nothing is written here: what was answered is given back whole,
and Ctrl-C at any place leaves everything as it was.
"""

from __future__ import annotations

import contextlib
import queue
import re
import select
import sys
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from veilsupport import config, people, rules
from veilsupport.cli import answers as answering
from veilsupport.cli import asking, options
from veilsupport.cli.answers import Answers
from veilsupport.cli.rehearsal import Rehearsal, Ringing
from veilsupport.cli.terminal import Terminal, complain, grouped
from veilsupport.cli.trial import NO_ANSWER
from veilsupport.config import Config, XmppSettings
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import DataDirectory
from veilsupport.errors import SetupError, Unavailable
from veilsupport.model import Private
from veilsupport.xmpp import Account, Tls
from veilsupport.xmpp.account import is_loopback
from veilsupport.xmpp.probe import Answer, Certificate

_GREETING_MAX: Final = 1000
_POLL_SECONDS: Final = 0.2
_ONION: Final = re.compile(r"(?:[a-z0-9-]+\.)*[a-z2-7]{56}\.onion")
_HOST: Final = re.compile(r"[^\s/@:]+")


@dataclass(frozen=True, slots=True)
class Told:
    """What the operator answered. `key`: the appliance's, if there was one; `passed_over`: keys of test answers."""

    answers: Answers
    key: ApplianceKey | None = None
    passed_over: frozenset[str] = field(default=frozenset(), repr=False)


def walk(house: DataDirectory, passphrase_file: Path | None) -> Told:
    """All the questions. click.Abort: the operator has had enough, and nothing was changed."""
    before = config.load(house.path)
    asking.tell("VeilSupport's setup. Enter takes what stands in brackets; Ctrl-C stops, and nothing is changed.")
    key, is_wrapped = (None, False) if house.is_new else _opened(house, passphrase_file)
    answers = Answers(new_passphrase=_ask_passphrase(is_new=house.is_new, is_wrapped=is_wrapped))
    if before.xmpp and before.xmpp.form == "component":
        click.echo()
        asking.tell("The desk is a component of your server: its name and secret stay as they are.")
        return Told(_ask_page(before, replace(answers, admin=_ask_admins(before, ""))), key)
    answers = _ask_account(before, answers)
    if not answers.jid:
        asking.tell("Messages are kept until there is an account: veilsupport setup asks again.")
        return Told(replace(answers, jid=None), key)
    terminal = Terminal()
    with Rehearsal(before, house.tor, on_tor=terminal.tor) as rehearsal:
        trial = _Trial(house, before, key=key, rehearsal=rehearsal, terminal=terminal)
        answers, is_tried = trial.account(answers)
        answers = replace(answers, admin=_ask_admins(before, answers.jid or ""))
        passed_over = trial.admins(answers) if is_tried else frozenset[str]()
    return Told(_ask_page(before, answers), key, passed_over)


# ---- the passphrase --------------------------------------------------------------------------------------------------


def _opened(house: DataDirectory, file: Path | None) -> tuple[ApplianceKey, bool]:
    """The key that is there, and whether it has a passphrase, which is asked until it is right."""
    while True:
        asked: list[bool] = []

        def passphrase() -> Private | None:
            asked.append(True)  # noqa: B023 - called within this round
            return options.passphrase(file)

        try:
            return house.key(passphrase), bool(asked)
        except SetupError as error:
            if not asked or options.given_passphrase(file) is not None:
                raise  # What does not come from the terminal stays as wrong as it is.
            complain(error)


def _ask_passphrase(*, is_new: bool, is_wrapped: bool) -> Private | None:
    """None: as it is, or none for what is new."""
    asking.head(1, "A passphrase, or none")
    asking.tell(
        "It keeps a seized disk shut, and is asked at every start. If it is lost, so is all that is kept here:"
        " nobody can set it anew."
    )
    if not is_new:
        choices = ["keep", "change", "off"] if is_wrapped else ["keep", "change"]
        match asking.choose(f"Now there is {'one' if is_wrapped else 'none'}.", choices, default="keep"):
            case "keep":
                return None
            case "off":
                return Private("")
    while first := str(asking.prompt("Passphrase (empty: none)", default="", hide_input=True)):
        if first == asking.prompt("The same once more", default="", hide_input=True):
            return Private(first)
        asking.wrong("These were two different ones.")
    return None


# ---- the account -----------------------------------------------------------------------------------------------------


def _ask_account(before: Config, answers: Answers) -> Answers:
    """jid "": none for the moment."""
    asking.head(2, "The desk's account")
    asking.tell("An XMPP account that belongs to the desk alone; through it messages reach those who answer.")
    old = before.xmpp or XmppSettings.model_construct()
    if not old.jid:
        asking.tell("Leave it empty to look around first.")
    jid = asking.ask("Account (name@server)", rules.bare_jid, default=old.jid)
    if not jid:
        return replace(answers, jid="")
    is_same = jid == old.jid
    answers = replace(answers, jid=jid, password=_ask_password(may_keep=is_same))
    old_host = old.host if is_same else ""
    return _ask_server(answers, host=old_host or jid.partition("@")[2], port=old.port if is_same else 5222)


def _ask_password(*, may_keep: bool) -> Private | None:
    """None: as it is."""
    if may_keep:
        given = str(asking.prompt("Its password (empty: as it is)", default="", hide_input=True))
        return Private(given) if given else None
    return Private(str(asking.prompt("Its password", hide_input=True)))


def _host(value: str) -> str:
    value = value.strip().lower()
    if value == "localhost":
        raise ValueError("Write 127.0.0.1 for a server on this machine: names are not looked up.")
    if value.endswith(".onion") and not _ONION.fullmatch(value):
        raise ValueError("An onion address has 56 letters and digits before .onion.")
    if not value or len(value) > 255 or not (_HOST.fullmatch(value) or is_loopback(value)):
        raise ValueError("Write a name such as chat.example, without a port.")
    return value


def _ask_server(answers: Answers, *, host: str, port: int) -> Answers:
    host = asking.ask("Server to dial, by name or onion address", _host, default=host)
    port = asking.prompt("Its port", default=port, type=click.IntRange(1, 65535))
    return replace(answers, host=host, port=port)


# ---- trying it -------------------------------------------------------------------------------------------------------


class _Trial:
    """The account and the admins, tried as the desk would use them."""

    def __init__(
        self,
        house: DataDirectory,
        before: Config,
        *,
        key: ApplianceKey | None,
        rehearsal: Rehearsal,
        terminal: Terminal,
    ) -> None:
        self._house = house
        self._before = before
        self._key = key
        self._rehearsal = rehearsal
        self._terminal = terminal

    def account(self, answers: Answers) -> tuple[Answers, bool]:
        """What it is after all, and whether it has been tried."""
        asking.head(3, "The way to the server")
        while True:
            try:
                if answers.certificate is None:
                    answers = replace(answers, certificate=self._ask_certificate(answers))
                if self._is_accepted(self._account(answers)):
                    return answers, True
                answers = replace(answers, password=_ask_password(may_keep=False))
            except Unavailable as error:
                asking.wrong(f"It does not work: {error.message}.")
                choice = asking.choose("What now?", ["again", "other", "save"], default="again", lines=_WHAT_NOW)
                if choice == "save":
                    return self._untried(answers), False
                if choice == "other":
                    answers = self._other_server(answers)

    def admins(self, answers: Answers) -> frozenset[str]:
        """The test message; the keys of the answers to it."""
        asking.head(5, "A test message")
        after = answering.applied(self._before, answers)
        names = {admin.jid: admin.name for admin in after.admin}
        for admin in after.admin:
            if admin.omemo == "require":
                asking.tell(f"{admin.name} gets it unencrypted this once; it holds no word of anyone.")
        try:
            found = _waited_for(self._rehearsal.ring(self._account(answers), list(names)), names)
        except (Unavailable, SetupError) as error:
            asking.wrong(f"The test message did not get through: {error.message}.")
            return frozenset()
        return frozenset().union(*(answer.keys for answer in found))

    def _is_accepted(self, account: Account) -> bool:
        """Whether name and password are right. Unavailable: nobody said."""
        click.echo("Signing in …")
        try:
            self._rehearsal.sign_in(account)
        except SetupError as error:
            asking.wrong(f"{error.message} {error.hint}")
            return False
        asking.tell("The server accepts the account's name and password.")
        return True

    def _account(self, answers: Answers) -> Account:
        """With tor connected, where it needs one. Unavailable: it does not get through."""
        others = self._before.model_copy(update={"admin": ()})  # who answers is asked later
        xmpp = answering.applied(others, replace(answers, admin=())).xmpp
        assert xmpp is not None
        password = answers.password
        if password is None and self._key is not None:
            password = people.kept_password(self._house.database, self._key)
        try:
            return self._rehearsal.account(xmpp, password or Private(""))
        finally:
            self._terminal.settle()

    def _ask_certificate(self, answers: Answers) -> str:
        """By what the server is known from now on; never without the operator's word."""
        host = answers.host or ""
        known_by_itself = _is_known_by_itself(host)
        rule = self._before.xmpp.certificate if self._before.xmpp else "verify"
        probing = "any" if known_by_itself else "verify"
        account = self._account(replace(answers, certificate=probing))
        if account.tls is Tls.NONE:
            return probing
        shown = self._rehearsal.certificate(account)
        click.echo(f"The server's certificate has this SHA-256 fingerprint:\n\n{grouped(shown.fingerprint)}\n")
        asking.tell(f"It is {shown.words}.")
        return _decided(shown, rule, known_by_itself=known_by_itself)

    def _other_server(self, answers: Answers) -> Answers:
        """Asked again, and by the certificate that stands there."""
        old = self._before.xmpp
        answers = _ask_server(answers, host=answers.host or "", port=answers.port or 5222)
        kinds = ["starttls", "direct", *(["none"] if _is_known_by_itself(answers.host or "") else [])]
        now = answers.tls or (old.tls if old else "starttls")
        tls = asking.choose("How TLS begins there.", kinds, default=now if now in kinds else kinds[0])
        return replace(answers, tls=tls, certificate=None)

    def _untried(self, answers: Answers) -> Answers:
        asking.tell("It is kept as it is, untried; later, veilsupport setup --check tries it.")
        if answers.certificate is not None:
            return answers
        if not _is_known_by_itself(answers.host or ""):
            asking.tell("The server will have to show a certificate that is valid for its name.")
            return replace(answers, certificate="verify")
        rule = asking.ask("Its certificate's SHA-256 fingerprint, verify or any", rules.certificate_rule, default="any")
        return replace(answers, certificate=rule)


_WHAT_NOW: Final = (
    "again: try once more",
    "other: another server name, port or kind of TLS",
    "save:  keep these answers without having tried them",
)


def _decided(shown: Certificate, rule: str, *, known_by_itself: bool) -> str:
    """Asks for the rule. click.Abort: the operator does not know this certificate."""
    choices, lines = [], []
    if shown.verifies:
        choices.append("verify")
        lines.append("verify: take whatever certificate is valid for the name, also when it is renewed")
    choices.append("pin")
    lines.append("pin:    take this very certificate and no other; compare the fingerprint with your server's")
    if known_by_itself:
        choices.append("any")
        lines.append("any:    take any: the address itself is proof enough")
    choices.append("stop")
    lines.append("stop:   this is not right")
    now = {"verify": "verify", "any": "any", shown.fingerprint: "pin"}.get(rule)
    if rule not in ("verify", "any", shown.fingerprint):
        asking.wrong("It is not the certificate that was pinned until now.")
    default = now if now in choices else None
    match asking.choose("How shall the desk know its server?", choices, default=default, lines=lines):
        case "pin":
            return shown.fingerprint
        case "stop":
            click.echo("Nothing was changed.")
            raise click.Abort
        case other:
            return other


def _is_known_by_itself(host: str) -> bool:
    return host.endswith(".onion") or is_loopback(host)


# ---- those who answer ------------------------------------------------------------------------------------------------


def _ask_admins(before: Config, own: str) -> tuple[str, ...]:
    """At least one."""
    asking.head(4, "Those who answer")
    asking.tell("Visitors see the name of whoever answers, and never the account.")
    old = [admin.jid for admin in before.admin]
    names = {admin.jid: admin.name for admin in before.admin}
    if old:
        asking.tell("Enter keeps what stands in brackets, - takes it out.")
    found: dict[str, str] = {}
    while True:
        now = old.pop(0) if old else ""
        many = " (empty: no more)" if found and not now else ""

        def checked(value: str) -> str:
            return "-" if value.strip() == "-" and now else _new_admin(value, own, found)  # noqa: B023 - asked at once

        jid = asking.ask(f"Account of one{many}", checked, default=now or ("" if found else None))
        if jid == "-":
            continue
        if not jid:
            return tuple(f"{each}={name}" for each, name in found.items())
        default = names.get(jid) or jid.partition("@")[0].capitalize()
        found[jid] = asking.ask(
            "  Name that visitors see", lambda name: _new_name(name, found.values()), default=default
        )


def _new_admin(value: str, own: str, taken: Collection[str]) -> str:
    jid = rules.bare_jid(value)
    if jid == own:
        raise ValueError("The desk's own account cannot be an admin's too.")
    if jid in taken:
        raise ValueError("This one is there already.")
    return jid


def _new_name(value: str, taken: Collection[str]) -> str:
    name = rules.public_name(value)
    if name.casefold() in {each.casefold() for each in taken}:
        raise ValueError("Somebody else has this name.")
    return name


def _waited_for(ringing: Ringing, names: dict[str, str]) -> tuple[Answer, ...]:
    """Show who answers, until all have or the operator presses Enter; name those who have not."""
    asking.tell(f"Sent to {', '.join(names.values())}. Let everyone answer it in their app; Enter goes on without.")
    try:
        while not select.select([sys.stdin], [], [], _POLL_SECONDS)[0]:
            with contextlib.suppress(queue.Empty):
                answer = ringing.news.get_nowait()
                if answer is None:
                    break
                click.echo(_outcome(answer, names))
        else:
            sys.stdin.readline()
    finally:
        answers = ringing.answers()
    silent = names.keys() - {answer.admin for answer in answers}
    for jid in sorted(silent):
        click.echo(f"  {names[jid]} has not answered.")
    if silent:
        asking.tell(NO_ANSWER)
    return answers


def _outcome(answer: Answer, names: dict[str, str]) -> str:
    name = names[answer.admin]
    return f"  {name} cannot get it: is the account right?" if answer.came_back else f"  {name} has answered."


# ---- the page --------------------------------------------------------------------------------------------------------


def _ask_page(before: Config, answers: Answers) -> Answers:
    asking.head(6, "The page")
    name = asking.ask("The desk's name", rules.public_name, default=before.desk.name)
    greeting = asking.ask("First sentence", _greeting, default=before.desk.greeting)
    return replace(answers, name=name, greeting=greeting)


def _greeting(value: str) -> str:
    if len(value) > _GREETING_MAX:
        raise ValueError(f"Write at most {_GREETING_MAX} characters.")
    return value
