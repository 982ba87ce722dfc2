"""`setup --check`: tor, the server's certificate, the sign-in and the test message, one after the other, no prompts.

Each finding is a line; the first that is bad ends it.
"""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import Final

from veilsupport.cli.rehearsal import Rehearsal
from veilsupport.cli.terminal import Terminal, grouped
from veilsupport.config import Config, XmppSettings
from veilsupport.errors import SetupError, SetupErrors, Unavailable
from veilsupport.model import Private
from veilsupport.xmpp import Account, Tls, Trust

NO_ANSWER: Final = (
    "They have to accept the desk's account as a contact first; and if their app only sends encrypted messages, it has"
    " to send this one without, or after the desk has run once."
)


def examine(settings: Config, password: Private | None, tor: Path, *, ring_seconds: int | None) -> frozenset[str]:
    """Print what is found; the keys of the answers to the test message. `tor`: its directory.

    SetupError: what is wrong; SetupErrors: which admins have not answered.
    """
    terminal = Terminal()
    if settings.xmpp is None or password is None:
        raise SetupError("There is no account to check.", hint="Give --jid and --password-file.")
    if settings.xmpp.form == "component":
        raise SetupError("A component cannot be checked from here.", hint="Run it, and look at: veilsupport status")
    with Rehearsal(settings, tor, on_tor=terminal.tor) as rehearsal:
        try:
            account = rehearsal.account(settings.xmpp, password)
            _check_account(rehearsal, account, xmpp=settings.xmpp, terminal=terminal)
            if not ring_seconds:
                return frozenset()
            return _check_admins(rehearsal, account, settings=settings, seconds=ring_seconds, terminal=terminal)
        except Unavailable as error:
            raise SetupError(
                f"The check did not get through: {error.message}.", hint="Look at host, port and tls, and try again."
            ) from None


def _check_account(rehearsal: Rehearsal, account: Account, *, xmpp: XmppSettings, terminal: Terminal) -> None:
    if account.tls is not Tls.NONE:
        shown = rehearsal.certificate(account)
        terminal.say(f"Certificate, SHA-256:\n{grouped(shown.fingerprint)}\nCertificate: {shown.words}.")
        if account.trust is Trust.VERIFY and not shown.verifies:
            raise SetupError(
                f"The server's certificate cannot be verified: it is {shown.words}.",
                hint="If the fingerprint above is your server's, give it with --certificate.",
            )
        if account.trust is Trust.PIN and shown.fingerprint != xmpp.certificate:
            raise SetupError(
                "The server's certificate is not the one whose fingerprint is set.",
                hint="If it was renewed and the fingerprint above is your server's, give that with --certificate.",
            )
    rehearsal.sign_in(account)
    terminal.say("Sign-in: the server accepts the account's name and password.")


def _check_admins(
    rehearsal: Rehearsal, account: Account, *, settings: Config, seconds: int, terminal: Terminal
) -> frozenset[str]:
    names = {admin.jid: admin.name for admin in settings.admin}
    if not names:
        raise SetupError("There is no admin to send a test message to.", hint="Give --admin, once for each.")
    ringing = rehearsal.ring(account, list(names))
    until = time.monotonic() + seconds
    try:
        while answer := ringing.news.get(timeout=max(0.0, until - time.monotonic())):
            terminal.say(f"Test message: {names[answer.admin]} {'cannot get it' if answer.came_back else 'answered'}.")
    except queue.Empty:
        pass  # Whoever has not answered is named below.
    answers = ringing.answers()
    answered = {answer.admin for answer in answers if not answer.came_back}
    silent = [name for jid, name in names.items() if jid not in answered]
    if silent:
        raise SetupErrors([SetupError(f"No answer to the test message: {name}.", hint=NO_ANSWER) for name in silent])
    return frozenset().union(*(answer.keys for answer in answers))
