"""XEP-0045 as values: what is sent to make, enter and leave a room, and who is in it. Pure: elements in and out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element, SubElement

MUC: Final = "http://jabber.org/protocol/muc"
_USER: Final = f"{{{MUC}#user}}"
_OWNER: Final = f"{{{MUC}#owner}}"
_ADMIN: Final = f"{{{MUC}#admin}}"
_DATA: Final = "{jabber:x:data}"
_DISCO: Final = "{http://jabber.org/protocol/disco#info}"
_CLIENT: Final = "{jabber:client}"
_CREATED: Final = "201"
_OURSELVES: Final = "110"
_NEW_NICK: Final = "303"  # who has it is back at once under another

EJABBERD_ARCHIVE: Final = "mam"  # its name for a room's archive

# XEP-0045 §10.2's names, and ejabberd's `mam`. Conversations notifies of every message, and shows who is writing, only
# in a room that is both members-only and non-anonymous.
SETTINGS: Final[Mapping[str, str]] = {
    "muc#roomconfig_persistentroom": "1",
    "muc#roomconfig_membersonly": "1",
    "muc#roomconfig_publicroom": "0",
    "muc#roomconfig_whois": "anyone",
    "muc#roomconfig_moderatedroom": "0",
    "muc#roomconfig_changesubject": "0",
    "muc#roomconfig_allowinvites": "0",
    "muc#roomconfig_allowmemberinvites": "0",
    "muc#roomconfig_enablelogging": "1",
    "muc#roomconfig_enablearchiving": "1",
    EJABBERD_ARCHIVE: "1",
}
NEEDED: Final = frozenset({"muc_membersonly", "muc_nonanonymous", "muc_hidden", "muc_persistent", "urn:xmpp:mam:2"})


@dataclass(frozen=True, slots=True)
class Joined:
    """We are in; `created`: the room was not there before."""

    nick: str
    created: bool


@dataclass(frozen=True, slots=True)
class Occupant:
    """Someone in a room. `jid` is bare, "" when the room does not tell."""

    nick: str = field(repr=False)
    jid: str = field(repr=False)


def enter(room: str, nick: str) -> Element:
    """History is asked from the archive."""
    presence = Element(f"{_CLIENT}presence", to=f"{room}/{nick}")
    SubElement(SubElement(presence, f"{{{MUC}}}x"), f"{{{MUC}}}history", maxstanzas="0")
    return presence


def leave(room: str, nick: str) -> Element:
    return Element(f"{_CLIENT}presence", to=f"{room}/{nick}", type="unavailable")


def settings_query() -> Element:
    return Element(f"{_OWNER}query")


def settings_form(answer: Element, name: str) -> Element:
    """The owner's form filled in, as far as the server knows the fields; the others stay as they are."""
    wanted = {**SETTINGS, "muc#roomconfig_roomname": name}
    query = Element(f"{_OWNER}query")
    form = SubElement(query, f"{_DATA}x", type="submit")
    for offered in answer.iterfind(f".//{_DATA}x/{_DATA}field"):
        var = offered.get("var")
        if var is None:
            continue
        values = [each.text or "" for each in offered.iterfind(f"{_DATA}value")]
        filled = SubElement(form, f"{_DATA}field", var=var)
        for value in [wanted[var]] if var in wanted else values:
            SubElement(filled, f"{_DATA}value").text = value
    return query


def offers(answer: Element, var: str) -> bool:
    """Whether an owner's form has that field."""
    return any(field.get("var") == var for field in answer.iterfind(f".//{_DATA}x/{_DATA}field"))


def without(answer: Element, var: str) -> Element:
    """The same form without that field."""
    form = copy.deepcopy(answer)
    for parent in form.iterfind(f".//{_DATA}x"):
        for each in [each for each in parent.iterfind(f"{_DATA}field") if each.get("var") == var]:
            parent.remove(each)
    return form


def features_query() -> Element:
    """XEP-0030 §3.1."""
    return Element(f"{_DISCO}query")


def features(answer: Element) -> set[str]:
    return {each.get("var", "") for each in answer.iterfind(f"{_DISCO}query/{_DISCO}feature")}


def has_rooms(answer: Element) -> bool:
    """Whether it is a service with rooms of its own: a gateway into another network has them too, of another type."""
    identities = answer.iterfind(f"{_DISCO}query/{_DISCO}identity")
    kinds = {(each.get("category"), each.get("type")) for each in identities}
    return MUC in features(answer) and ("conference", "text") in kinds


def destruction(reason: str) -> Element:
    query = Element(f"{_OWNER}query")
    SubElement(SubElement(query, f"{_OWNER}destroy"), f"{_OWNER}reason").text = reason
    return query


def affiliation_query(affiliation: str) -> Element:
    query = Element(f"{_ADMIN}query")
    SubElement(query, f"{_ADMIN}item", affiliation=affiliation)
    return query


def affiliated(answer: Element) -> set[str]:
    """The bare JIDs of such a list."""
    return {item.get("jid", "").casefold() for item in answer.iterfind(f"{_ADMIN}query/{_ADMIN}item")} - {""}


def affiliations(members: Iterable[str], *, removed: Iterable[str] = ()) -> Element:
    """Make them members, and take it from those removed, which also puts them out of a members-only room."""
    query = Element(f"{_ADMIN}query")
    for affiliation, jids in (("member", members), ("none", removed)):
        for jid in jids:
            SubElement(query, f"{_ADMIN}item", affiliation=affiliation, jid=jid)
    return query


def invitations(room: str, to: str, reason: str) -> tuple[Element, Element]:
    """Direct (XEP-0249) and mediated (§7.8.2): some apps know only one of them."""
    direct = Element(f"{_CLIENT}message", to=to)
    SubElement(direct, "{jabber:x:conference}x", jid=room, reason=reason)
    mediated = Element(f"{_CLIENT}message", to=room)
    invite = SubElement(SubElement(mediated, f"{_USER}x"), f"{_USER}invite", to=to)
    SubElement(invite, f"{_USER}reason").text = reason
    return direct, mediated


def real_speaker(archived: Element) -> str:
    """Whose line it is, by the room archive's own note (XEP-0313 §5.1.2); the last one, as with stanza-ids."""
    items = archived.findall(f"{_USER}x/{_USER}item")
    return _bare(items[-1].get("jid", "")) if items else ""


class Occupants:
    """Who is in which of our rooms, kept by their presence in the order in which it comes."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, Occupant]] = {}
        self._own: dict[str, str] = {}  # our nick in each room that we are in

    def __contains__(self, room: str) -> bool:
        """Whether we are in it."""
        return room in self._own

    def of(self, room: str) -> list[Occupant]:
        return list(self._rooms.get(room, {}).values())

    def speaker(self, room: str, nick: str) -> str:
        """The bare JID behind a nick; "" when it is not known."""
        found = self._rooms.get(room, {}).get(nick)
        return found.jid if found else ""

    def own_nick(self, room: str) -> str:
        return self._own.get(room, "")

    def take(self, presence: Element) -> Joined | None:
        """One presence from a room. Joined: it is our own, and we are in now; `in` tells whether we still are."""
        room, _, nick = presence.get("from", "").partition("/")
        room = room.casefold()
        codes = {status.get("code") for status in presence.iterfind(f"{_USER}x/{_USER}status")}
        kind = presence.get("type")
        ourselves = _OURSELVES in codes or nick == self._own.get(room)
        if kind == "unavailable":
            self._gone(room, nick, ourselves=ourselves and _NEW_NICK not in codes)
            return None
        if kind is not None:
            return None
        item = presence.find(f"{_USER}x/{_USER}item")
        jid = _bare(item.get("jid", "")) if item is not None else ""
        self._rooms.setdefault(room, {})[nick] = Occupant(nick, jid)
        if not ourselves:
            return None
        again = room in self._own
        self._own[room] = nick
        return None if again else Joined(nick, _CREATED in codes)

    def forget(self, room: str) -> None:
        self._rooms.pop(room, None)
        self._own.pop(room, None)

    def clear(self) -> None:
        self._rooms.clear()
        self._own.clear()

    def _gone(self, room: str, nick: str, *, ourselves: bool) -> None:
        self._rooms.get(room, {}).pop(nick, None)
        if ourselves:
            self.forget(room)


def _bare(jid: str) -> str:
    return jid.partition("/")[0].casefold()
