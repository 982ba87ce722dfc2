"""What a disk that is switched off tells: the head of schema.sql in other words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from veilsupport.config import Config
from veilsupport.machine import Swap
from veilsupport.seizure.facts import Facts, count
from veilsupport.store.inventory import Inventory


def disk_tells(settings: Config, facts: Facts) -> Iterator[str]:
    yield _encryption(facts)
    if facts.kept is None:
        yield "There is no database that can be read, so what it would tell is not said here."
    else:
        yield from _words(facts.kept)
        yield from _around(facts.kept)
    yield from (_behind_passphrase(facts) if facts.has_passphrase else _with_open_key(settings, facts))
    yield from _in_the_clear(settings)
    yield from _time_limits(settings)
    if facts.swap is Swap.DISK:
        yield (
            "Memory is swapped to a disk that is not seen to be encrypted: words and keys may be found there. The"
            " desk's own is kept from it where the system permits that (veilsupport doctor says so), that"
            " of its tor is not."
        )
    yield (
        "A backup file tells whoever has its passphrase what this disk told on that day: also what was burned or has"
        " expired since."
    )


def _encryption(facts: Facts) -> str:
    match facts.disk_is_encrypted:
        case True:
            return "The disk is encrypted (dm-crypt): what follows is told only to who has its passphrase, too."
        case False:
            return "The disk is not seen to be encrypted, so whoever takes it reads its files: they tell what follows."
        case None:
            return "Whether the disk is encrypted cannot be seen from here. If it is not, its files tell what follows."


def _words(kept: Inventory) -> Iterator[str]:
    if kept.messages:
        yield (
            f"Nobody reads the {count(kept.messages, 'message')} in it: each is sealed to a key that only its"
            " visitor's return code, password or open page gives."
        )
    else:
        yield "There is no message in it at the moment."
    if kept.copies:
        yield f"{count(kept.copies, 'message')} can be read with the archive's recovery words: second copies are kept."


def _around(kept: Inventory) -> Iterator[str]:
    """What the database tells without any key."""
    if kept.is_empty:
        yield "It tells of nobody: no visitor is in it."
    else:
        since = f" since {_day(kept.oldest_minute)}" if kept.oldest_minute is not None else ""
        yield (
            f"It does tell that there are {count(kept.conversations, 'conversation')} ({kept.open_conversations} open)"
            f" of {count(kept.visitors, 'visitor')}{since}: their aliases and sites; in which minute each message was"
            " kept, which side wrote it, about how long it is (in steps of 256 bytes) and how far it came."
        )
        yield (
            f"And {count(kept.sessions, 'open session')}, by minute; that {kept.by_code} come back by code and"
            f" {kept.by_email} by e-mail and password. Codes, tokens and addresses are not in it."
        )
    if kept.taken:
        yield f"In which minutes the admins wrote to the desk, {kept.taken} times, in burned conversations too."
    if kept.claimed:
        yield f"That {count(kept.claimed, 'conversation')} had been claimed, by admins who are numbers there."
    if kept.canned:
        yield f"The names of {count(kept.canned, 'canned answer')}."


def _behind_passphrase(facts: Facts) -> Iterator[str]:
    kept = facts.kept or Inventory()
    lines = kept.undelivered + kept.held
    also = f"{count(lines, 'line')} that nobody has got yet; " if lines else ""
    yield (
        f"The appliance's key is under a passphrase. Without it nobody gets: {also}the XMPP password, the onion"
        " address's key, the words of canned answers, the desk's OMEMO keys; nor does a guessed e-mail address show."
    )
    yield from _guessed("Passwords", kept.by_password_alone)
    yield "A try at that passphrase takes about a second and 256 MB of memory: it holds as long as it is long."
    if facts.disk_spins is not True:
        yield (
            "Whether the key ever lay in the open, before the passphrase was set, cannot be known from here. On an SSD,"
            " it could then still be found."
        )


def _guessed(passwords: str, accounts: int) -> Iterator[str]:
    if accounts:
        yield (
            f"{passwords} can be tried: whoever guesses that of one of the {count(accounts, 'e-mail account')} reads"
            " that conversation. A try takes a tenth of a second and 64 MB of memory, so short passwords fall."
        )


def _with_open_key(settings: Config, facts: Facts) -> Iterator[str]:
    yield "The appliance's key is not under a passphrase: whoever has the disk has it. With it,"
    if facts.kept is None:
        yield "– what waits to be delivered, the XMPP password and all else that the key guards can be read."
    else:
        yield from _guarded(facts.kept)
    if facts.has_onion_key:
        yield "– somebody else can speak under your onion address, and visitors would not notice."
    if settings.xmpp_onion is not None:
        yield "– and so under the onion address of your XMPP server."


def _guarded(kept: Inventory) -> Iterator[str]:
    if kept.undelivered:
        yield f"– {count(kept.undelivered, 'line')} can be read that no server has taken yet."
    else:
        yield "– what waits to be delivered at that moment can be read; now nothing does."
    if kept.held:
        yield f"– {count(kept.held, 'line')} can be read that no admin has asked for yet."
    yield from _guessed("– passwords", kept.by_email)
    if kept.by_email:
        yield "– a guessed e-mail address can be confirmed to be one of the visitors'."
    if kept.has_password:
        yield "– the XMPP password can be read: who has it signs in as the desk, and gets what the server keeps for it."
    if kept.rooms:
        yield f"– the addresses of {count(kept.rooms, 'room')} on the server can be read."
    if kept.canned:
        yield "– the words of canned answers can be read."
    if kept.claimed:
        yield "– which admin has claimed which conversation can be read."
    if kept.omemo_entries:
        yield "– the desk's OMEMO keys can be read: they open what the admins' apps send to the desk from then on."


def _in_the_clear(settings: Config) -> Iterator[str]:
    """veilsupport.toml."""
    named = []
    if settings.xmpp is not None:
        named.append("the desk's XMPP account and server")
    if settings.admin:
        named.append(f"the accounts and public names of {count(len(settings.admin), 'admin')}")
    if settings.site:
        named.append(count(len(settings.site), "site"))
    clients = len(settings.onion.client) + len(settings.xmpp_onion.client if settings.xmpp_onion else ())
    if clients:
        named.append(f"the names that you gave {count(clients, 'device')} that may reach your onion addresses")
    if settings.tor.lines:
        named.append("your lines for tor, bridges too")
    if named:
        yield f"The settings' file names in the clear: {', '.join(named)}."
    yield (
        "Files have dates, to the second: when the desk last ran and last kept something. tor's own files name the"
        " relays by which this machine entered the Tor network, and the system's log says when the program was started."
    )


def _time_limits(settings: Config) -> Iterator[str]:
    desk = settings.desk
    if desk.retention_days:
        yield f"Messages are erased after {count(desk.retention_days, 'day')}."
    if desk.idle_days:
        unused = count(desk.idle_days, "day")
        yield f"Conversations, accounts and sessions are erased when nobody used them for {unused}."
    if not desk.retention_days and not desk.idle_days:
        yield "Nothing is erased by itself: all that was not burned is still there."
    if any(each.retention_days is not None or each.idle_days is not None for each in settings.site):
        yield "For some sites other times are set."


def _day(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%-d %B %Y")
