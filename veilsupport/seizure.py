"""What a seizure would tell, of this configuration and of what is kept now, in words for whoever runs the desk. Pure.

Every sentence is chosen by the settings and the facts; none is there for all cases but those that are true in all. What
the disk tells is the head of schema.sql in other words. Whoever changes what is kept, changes it here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from veilsupport.config import AdminSettings, Config, XmppSettings
from veilsupport.doctor.machine import Swap
from veilsupport.store.inventory import Inventory


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found on the machine. None: it cannot be seen."""

    has_passphrase: bool = False  # the appliance's key; False also while there is none
    kept: Inventory | None = None  # None: there is no database, or it cannot be read
    has_onion_key: bool = False  # in the open, on the disk
    swap: Swap = Swap.UNKNOWN
    disk_is_encrypted: bool | None = None  # by dm-crypt
    disk_spins: bool | None = None  # False: an SSD or the like, where what was overwritten may still be found


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page."""

    title: str
    sentences: tuple[str, ...]


def seizure(settings: Config, facts: Facts) -> list[Section]:
    """The whole page."""
    parts = (
        ("A disk that is switched off", _disk(settings, facts)),
        ("The machine while it runs", _running(settings, facts)),
        ("The XMPP server and its archive", _server(settings)),
        ("An admin's phone", _phone(settings)),
        ("What would make it less", _advice(settings, facts)),
    )
    return [Section(title, tuple(sentences)) for title, sentences in parts]


# ---- the disk ----------------------------------------------------------------------------------------------------


def _disk(settings: Config, facts: Facts) -> Iterator[str]:
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
            f"Nobody reads the {_count(kept.messages, 'message')} in it: each is sealed to a key that only its"
            " visitor's return code, password or open page gives."
        )
    else:
        yield "There is no message in it at the moment."
    if kept.copies:
        yield f"{_count(kept.copies, 'message')} can be read with the archive's recovery words: second copies are kept."


def _around(kept: Inventory) -> Iterator[str]:
    """What the database tells without any key."""
    if kept.is_empty:
        yield "It tells of nobody: no visitor is in it."
    else:
        since = f" since {_day(kept.oldest_minute)}" if kept.oldest_minute is not None else ""
        yield (
            f"It does tell that there are {_count(kept.conversations, 'conversation')} ({kept.open_conversations} open)"
            f" of {_count(kept.visitors, 'visitor')}{since}: their aliases and sites; in which minute each message was"
            " kept, which side wrote it, about how long it is (in steps of 256 bytes) and how far it came."
        )
        yield (
            f"And {_count(kept.sessions, 'open session')}, by minute; that {kept.by_code} come back by code and"
            f" {kept.by_email} by e-mail and password. Codes, tokens and addresses are not in it."
        )
    if kept.taken:
        yield f"In which minutes the admins wrote to the desk, {kept.taken} times, in burned conversations too."
    if kept.claimed:
        yield f"That {_count(kept.claimed, 'conversation')} had been claimed, by admins who are numbers there."
    if kept.canned:
        yield f"The names of {_count(kept.canned, 'canned answer')}."


def _behind_passphrase(facts: Facts) -> Iterator[str]:
    kept = facts.kept or Inventory()
    lines = kept.undelivered + kept.held
    also = f"{_count(lines, 'line')} that nobody has got yet; " if lines else ""
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
            f"{passwords} can be tried: whoever guesses that of one of the {_count(accounts, 'e-mail account')} reads"
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
        yield f"– {_count(kept.undelivered, 'line')} can be read that no server has taken yet."
    else:
        yield "– what waits to be delivered at that moment can be read; now nothing does."
    if kept.held:
        yield f"– {_count(kept.held, 'line')} can be read that no admin has asked for yet."
    yield from _guessed("– passwords", kept.by_email)
    if kept.by_email:
        yield "– a guessed e-mail address can be confirmed to be one of the visitors'."
    if kept.has_password:
        yield "– the XMPP password can be read: who has it signs in as the desk, and gets what the server keeps for it."
    if kept.rooms:
        yield f"– the addresses of {_count(kept.rooms, 'room')} on the server can be read."
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
        named.append(f"the accounts and public names of {_count(len(settings.admin), 'admin')}")
    if settings.site:
        named.append(_count(len(settings.site), "site"))
    clients = len(settings.onion.client) + len(settings.xmpp_onion.client if settings.xmpp_onion else ())
    if clients:
        named.append(f"the names that you gave {_count(clients, 'device')} that may reach your onion addresses")
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
        yield f"Messages are erased after {_count(desk.retention_days, 'day')}."
    if desk.idle_days:
        unused = _count(desk.idle_days, "day")
        yield f"Conversations, accounts and sessions are erased when nobody used them for {unused}."
    if not desk.retention_days and not desk.idle_days:
        yield "Nothing is erased by itself: all that was not burned is still there."
    if any(each.retention_days is not None or each.idle_days is not None for each in settings.site):
        yield "For some sites other times are set."


# ---- the running machine -----------------------------------------------------------------------------------------


def _running(settings: Config, facts: Facts) -> Iterator[str]:
    kept = facts.kept or Inventory()
    yield "Whoever controls it reads every message that comes in or goes out from then on, and can answer in your name."
    if facts.has_passphrase:
        yield "The passphrase does not help then: the appliance's key is in memory, and with it all that it protects."
    if facts.disk_is_encrypted:
        yield "Nor does the disk's encryption, which is open while the machine runs."
    if kept.messages:
        yield (
            "What was delivered before stays sealed, until its visitor comes: with a visitor's next visit their whole"
            " conversation is open."
        )
    if kept.archive or kept.copies:
        yield "The archive's copies stay shut: its recovery words are not on this machine."
    yield "It does not tell where visitors are: Tor brings them without any address."
    if settings.onion.client:
        yield "The page answers only to devices that have a key from you; this machine has the public halves."
    if settings.health.port:
        yield "Numbers of requests and messages since the start can be read on its health port, by any of its users."


# ---- the XMPP server ---------------------------------------------------------------------------------------------


def _server(settings: Config) -> Iterator[str]:
    xmpp = settings.xmpp
    if xmpp is None:
        yield "No XMPP account is set up, so nothing goes to any server."
        return
    yield from _whose_server(xmpp)
    yield "It knows the desk's account and those of the admins, when each is online, and who writes when and how much."
    yield _appearance(xmpp)
    yield from _readable(settings.admin, xmpp)
    yield from _archived(xmpp)
    quiet = [each for each in settings.admin if each.notify_only]
    if quiet:
        yield f"For {_names(quiet)} it gets no words of visitors until they ask for them, only that there is a message."


def _whose_server(xmpp: XmppSettings) -> Iterator[str]:
    if xmpp.address in ("127.0.0.1", "::1"):
        yield "It is your own, as it seems on this machine: then whoever takes this machine has taken it, too."
        return
    maybe = "If it is somebody else's, what" if xmpp.address.endswith(".onion") else "It is somebody else's: what"
    yield f"{maybe} follows is learned without you by who runs it, or makes them tell."
    yield "It does not learn where this machine is: the desk comes through Tor."


def _appearance(xmpp: XmppSettings) -> str:
    match xmpp.form:
        case "rooms":
            return (
                "Each visitor is a room on it, where it lets us. Rooms' names and subjects are never encrypted: alias,"
                " site, language, since when they wait, and whose they are. So it knows how many visitors there are."
            )
        case "component":
            return (
                "Each visitor is a contact there, by alias, with a line that says their site and since when they wait."
            )
        case _:
            return "All visitors come in one chat with each admin; how many there are shows in the words only."


def _readable(admins: Sequence[AdminSettings], xmpp: XmppSettings) -> Iterator[str]:
    if xmpp.form == "component":
        yield "It reads every word of both sides, and could write to visitors in any admin's name: here is no OMEMO."
        return
    readers = [each for each in admins if not each.notify_only]
    if xmpp.form == "rooms" and readers:
        yield _readable_rooms(readers)
    for how, sentence in (
        ("require", "Of what goes to {} alone it reads no word of a visitor: nothing leaves but encrypted (OMEMO)."),
        (
            "prefer",
            "Of what goes to {} alone it reads all until one of their apps has shown an OMEMO key, and from then on"
            " nothing. `veilsupport doctor` says how it is now.",
        ),
        ("off", "Of what goes to {} alone it reads every word: OMEMO is off."),
    ):
        those = [each for each in admins if each.omemo == how]
        if those:
            yield sentence.format(_names(those))
    if any(each.omemo != "require" for each in admins):
        yield "It could also write to visitors in the name of an admin for whom encryption is not required."


def _readable_rooms(readers: Sequence[AdminSettings]) -> str:
    wishes = {each.omemo for each in readers}
    if "require" in wishes:
        return "In rooms it reads no word of a visitor: one of those who read them requires encryption (OMEMO)."
    if "off" in wishes:
        those = [each for each in readers if each.omemo == "off"]
        return f"In rooms it reads every word of visitors: OMEMO is off for {_names(those)}."
    return (
        "In rooms it reads every word of visitors, unless all who read there have an app with OMEMO keys; then none."
        " `veilsupport doctor` says how it is now."
    )


def _archived(xmpp: XmppSettings) -> Iterator[str]:
    if xmpp.form == "component":
        yield "It keeps in its archive what it is set to keep."
    elif xmpp.archive:
        yield "All of it, as it could read it, stays in its archive for as long as its operator has set."
    else:
        yield "Our lines ask not to be kept; a server may do otherwise. What admins write is kept as their apps ask."
    if xmpp.form == "rooms":
        yield "When a conversation is burned, its room is destroyed, with the archive if the server obeys."
    else:
        yield "When a conversation is burned, the removal of its lines is asked for; the archive may still have them."


# ---- a phone -----------------------------------------------------------------------------------------------------


def _phone(settings: Config) -> Iterator[str]:
    if not settings.admin:
        yield "Nobody is set up to answer, so no phone has anything."
        return
    readers = [each for each in settings.admin if not each.notify_only]
    quiet = [each for each in settings.admin if each.notify_only]
    if readers:
        yield (
            f"An unlocked phone of {_names(readers)} shows every word of both sides in the conversations that came to"
            " it, for as long as the app keeps them."
        )
    if quiet:
        yield f"One of {_names(quiet)} shows that there were messages, and the words that were asked for."
    if any(each.omemo != "off" for each in settings.admin) and not (settings.xmpp and settings.xmpp.component):
        yield "OMEMO does not help there: it ends on the phone."
    if any("none" in (each.role, *each.roles.values()) for each in settings.admin):
        yield "Conversations of sites that an admin may not read never come to their phone."
    if settings.xmpp is not None:
        others = " and those of the other admins" if _see_each_other(settings) else ""
        yield f"It names the desk's account{others}."
    yield "Whoever holds it can answer visitors as that admin, until you remove the admin (`veilsupport admin remove`)."
    yield "It does not tell who or where visitors are. After a burning apps are asked to forget; nobody can make them."


def _see_each_other(settings: Config) -> bool:
    """Rooms show their members' accounts to each other."""
    return settings.xmpp is not None and settings.xmpp.form == "rooms" and len(settings.admin) > 1


# ---- what would make it less -------------------------------------------------------------------------------------


def _advice(settings: Config, facts: Facts) -> Iterator[str]:
    """Only what applies, the greatest effect first."""
    kept, xmpp, admins = facts.kept or Inventory(), settings.xmpp, settings.admin
    weak = [each for each in admins if each.omemo != "require"]
    if not facts.has_passphrase:
        yield "Protect the appliance's key by a long passphrase: veilsupport setup."
        if facts.disk_spins is not True:
            yield "It has lain in the open, and on an SSD it could still be found: begin on a new disk if you can."
    if facts.disk_is_encrypted is not True:
        unseen = "if it is not yet" if facts.disk_is_encrypted is None else "for example with LUKS"
        yield f"Encrypt the disk, {unseen}; and switch the machine off before it is taken: it only helps then."
    if xmpp is not None and xmpp.form == "component":
        yield 'Use an account and rooms instead of a component (form = "rooms"), where words can be encrypted (OMEMO).'
    elif weak:
        yield f'Require encryption: omemo = "require" for {_names(weak)}, once their apps can.'
    if facts.swap is Swap.DISK:
        yield "Turn swap off (swapoff -a, and its line in /etc/fstab), or encrypt it."
    if not settings.desk.idle_days and not settings.desk.retention_days:
        yield "Let old things go: retention_days and idle_days under [desk] in the settings' file."
    if kept.archive:
        yield "Turn your own archive off, if you can do without it: veilsupport archive disable."
    if kept.held:
        yield "Ask for the lines that are held, or close their conversations; or burn these, if they are folded."
    if xmpp is not None and xmpp.archive and xmpp.form != "component" and weak:
        yield "Ask the server not to keep the desk's lines: archive = false under [xmpp]; README names its price."
    if admins and not all(each.notify_only for each in admins):
        yield "Let phones lock, and their apps forget after some days; notify_only = true keeps words off them."
    yield "Keep backup files somewhere else than their passphrases, and destroy old ones."


# ---- words -------------------------------------------------------------------------------------------------------


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _names(admins: Collection[AdminSettings]) -> str:
    return ", ".join(each.name for each in admins)


def _day(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%-d %B %Y")
