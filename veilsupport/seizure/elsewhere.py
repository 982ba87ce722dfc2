"""What is told by what others hold: the XMPP server with its archive, and an admin's phone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from veilsupport.config import AdminSettings, Config, XmppSettings
from veilsupport.seizure.facts import names

# ---- the XMPP server ---------------------------------------------------------------------------------------------


def server_tells(settings: Config) -> Iterator[str]:
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
        yield f"For {names(quiet)} it gets no words of visitors until they ask for them, only that there is a message."


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
            yield sentence.format(names(those))
    if any(each.omemo != "require" for each in admins):
        yield "It could also write to visitors in the name of an admin for whom encryption is not required."


def _readable_rooms(readers: Sequence[AdminSettings]) -> str:
    wishes = {each.omemo for each in readers}
    if "require" in wishes:
        return "In rooms it reads no word of a visitor: one of those who read them requires encryption (OMEMO)."
    if "off" in wishes:
        those = [each for each in readers if each.omemo == "off"]
        return f"In rooms it reads every word of visitors: OMEMO is off for {names(those)}."
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


def phone_tells(settings: Config) -> Iterator[str]:
    if not settings.admin:
        yield "Nobody is set up to answer, so no phone has anything."
        return
    readers = [each for each in settings.admin if not each.notify_only]
    quiet = [each for each in settings.admin if each.notify_only]
    if readers:
        yield (
            f"An unlocked phone of {names(readers)} shows every word of both sides in the conversations that came to"
            " it, for as long as the app keeps them."
        )
    if quiet:
        yield f"One of {names(quiet)} shows that there were messages, and the words that were asked for."
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
