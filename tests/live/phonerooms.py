"""The rooms of an admin's phone: it accepts the desk's invitations by itself and remembers what it sees there.

Written after Conversations, as facts/xmpp.md has it: an invitation from a contact (XEP-0249, or through the room) is
followed at once, under the local part of one's own JID. It knows nothing of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from xml.etree.ElementTree import Element, SubElement

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout, PresenceError

ROOM_PLUGINS: Final = ("xep_0004", "xep_0045", "xep_0059", "xep_0249", "xep_0313")
_SECONDS: Final = 20  # for any single question to a server
_HISTORY: Final = 20  # lines that a room shows at the door
_CONFIGURATION: Final = {
    "muc#roomconfig_persistentroom": True,
    "muc#roomconfig_membersonly": True,
    "muc#roomconfig_publicroom": False,
    "public_list": False,
    "muc#roomconfig_whois": "anyone",
    "muc#roomconfig_enablearchiving": True,
    "muc#roomconfig_enablelogging": True,
    "mam": True,
}
_CLIENT: Final = "{jabber:client}"
_MUC_USER: Final = "{http://jabber.org/protocol/muc#user}"
_INVITATION: Final = "{jabber:x:conference}x"
_STANZA_ID: Final = "{urn:xmpp:sid:0}stanza-id"
_DELAY: Final = "{urn:xmpp:delay}delay"
COMPOSING: Final = "{http://jabber.org/protocol/chatstates}composing"
DISPLAYED: Final = "{urn:xmpp:chat-markers:0}displayed"
REPLACE: Final = "{urn:xmpp:message-correct:0}replace"
RETRACT: Final = "{urn:xmpp:message-retract:1}retract"
_TYPES: Final = (COMPOSING, "{urn:xmpp:hints}no-store")


class Invitation(NamedTuple):
    """`kind` is "direct" (XEP-0249) or "mediated" (XEP-0045 §7.8.2)."""

    kind: str
    room: str
    reason: str


class Occupant(NamedTuple):
    """`jid` is the real, full one; empty where the room hides it."""

    affiliation: str
    role: str
    jid: str


@dataclass(frozen=True, slots=True)
class RoomGot:
    """One message of a room, our own reflected ones too. `stanza_id` is the room's; empty in a room without archive."""

    room: str
    nick: str
    id: str
    stanza_id: str
    body: str
    subject: str
    replaces: str  # id of the message that this one corrects
    retracts: str  # the room's id of the message that this one takes back
    element: Element = field(repr=False)


class PhoneRooms:
    """The half of Phone that sits in rooms. Rooms are named by their bare JIDs."""

    _client: Any
    _desk: slixmpp.JID
    _news: asyncio.Condition

    def __init__(self, *, nick: str, joins: bool) -> None:
        self.nick = nick
        self.joins = joins  # whether it follows invitations
        self.invitations: list[Invitation] = []
        self.rooms: dict[str, str] = {}  # joined ones, with our nick
        self.room_names: dict[str, str] = {}
        self.subjects: dict[str, str] = {}
        self.room_inbox: dict[str, list[RoomGot]] = {}
        self.room_composing: Counter[str] = Counter()  # how often somebody else was said to write there
        self.room_displayed: list[tuple[str, str, str]] = []  # room, nick, id: others have read up to there
        self.room_refusals: list[tuple[str, str]] = []  # room, error condition of a join that failed
        self.destroyed: list[str] = []
        self._occupants: dict[str, dict[str, Occupant]] = {}
        self._doors: dict[str, asyncio.Future[None]] = {}  # where it waits to be let in
        self._following: set[str] = set()
        self._archived: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- coming and going ------------------------------------------------------------------------------------

    async def join(self, room: str, nick: str = "") -> None:
        """Raises PresenceError where it is not let in."""
        presence = self._client.make_presence(pto=f"{room}/{nick or self.nick}")
        door = SubElement(presence.xml, "{http://jabber.org/protocol/muc}x")
        SubElement(door, "{http://jabber.org/protocol/muc}history", maxstanzas=str(_HISTORY))
        before = len(self.room_inbox.get(room, ()))
        self._doors[room] = asyncio.get_running_loop().create_future()
        self._occupants[room] = {}
        presence.send()
        try:
            async with asyncio.timeout(_SECONDS):
                await self._doors[room]
        finally:
            del self._doors[room]
        await self._learn_name(room)
        if room in self._archived:
            await self._catch_up(room, before)

    async def leave(self, room: str) -> None:
        nick = self.rooms.pop(room)
        self._client.send_presence(pto=f"{room}/{nick}", ptype="unavailable")

    async def create_room(self, name: str, *, service: str = "") -> str:
        """A members-only, non-anonymous, archived room of our own; its JID. `service` is `rooms.<our domain>`."""
        room = f"room-{os.urandom(4).hex()}@{service or 'rooms.' + self._client.boundjid.domain}"
        await self.join(room)
        muc = self._client.plugin["xep_0045"]
        form = await muc.get_room_config(room, timeout=_SECONDS)
        fields = form.get_fields()
        for key, value in {**_CONFIGURATION, "muc#roomconfig_roomname": name}.items():
            if key in fields:
                fields[key]["value"] = value
        try:
            await muc.set_room_config(room, form, timeout=_SECONDS)
        except IqError as error:
            if error.condition != "not-acceptable" or "mam" not in fields:
                raise
            # ejabberd offers the field, and where archives are not allowed it refuses any form that has it.
            form.xml.remove(fields["mam"].xml)
            await muc.set_room_config(room, form, timeout=_SECONDS)
        await self._learn_name(room)
        return room

    async def invite(
        self, room: str, jid: str, reason: str = "", *, member: bool = True, direct: bool = True, mediated: bool = True
    ) -> None:
        """As an owner does it: first a member, then invited, in one way or both."""
        if member:
            await self._client.plugin["xep_0045"].set_affiliation(room, "member", jid=jid, timeout=_SECONDS)
        if mediated:
            self._client.plugin["xep_0045"].invite(room, jid, reason)
        if direct:
            self._client.plugin["xep_0249"].send_invitation(jid, room, reason=reason)

    async def destroy_room(self, room: str, reason: str = "") -> None:
        await self._client.plugin["xep_0045"].destroy(room, reason, timeout=_SECONDS)

    # ---- what it does there ----------------------------------------------------------------------------------

    def room_say(self, room: str, text: str, *extra: Element) -> str:
        """A line to everybody in the room; its stanza id."""
        return self._to_room(room, text, Element("{urn:xmpp:chat-markers:0}markable"), *extra)

    def room_correct(self, room: str, id: str, text: str) -> str:
        """XEP-0308: `text` instead of our line of that stanza id."""
        return self._to_room(room, text, replacement(id))

    def room_retract(self, room: str, stanza_id: str) -> str:
        """XEP-0424: our line of that id, which the room gave."""
        return self._to_room(room, *retraction(stanza_id))

    def room_look_at(self, room: str, stanza_id: str) -> None:
        """XEP-0333: everything up to here has been displayed."""
        self._to_room(room, None, Element(DISPLAYED, id=stanza_id), Element("{urn:xmpp:hints}store"))

    def room_types(self, room: str) -> None:
        """XEP-0085."""
        self._to_room(room, None, *map(Element, _TYPES))

    def set_subject(self, room: str, subject: str) -> None:
        self._client.plugin["xep_0045"].set_subject(room, subject)

    # ---- what it sees there ----------------------------------------------------------------------------------

    def subject_of(self, room: str) -> str:
        return self.subjects.get(room, "")

    def occupants(self, room: str) -> dict[str, Occupant]:
        """By nick."""
        return dict(self._occupants.get(room, {}))

    async def room_until(
        self, wanted: Callable[[RoomGot], bool], room: str | None = None, *, seconds: float = 10
    ) -> RoomGot:
        """The first message like that, already here or still to come; of any room where none is named."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: any(map(wanted, self._lines(room))))
            return next(filter(wanted, self._lines(room)))

    async def room_text(self, part: str, room: str | None = None, *, seconds: float = 10) -> RoomGot:
        """The first message with that text in it."""
        try:
            return await self.room_until(lambda got: part in got.body, room, seconds=seconds)
        except TimeoutError:
            there = [(got.nick, got.body) for got in self._lines(room)]
            raise AssertionError(f"{part!r} did not come; there is {there}") from None

    async def room_named(self, part: str, *, seconds: float = 10) -> str:
        """The first joined room that has that in its name or subject."""

        def found() -> list[str]:
            titles = ((room, self.room_names.get(room, "") + "\n" + self.subject_of(room)) for room in self.rooms)
            return [room for room, title in titles if part in title]

        try:
            await self.when(lambda: bool(found()), seconds=seconds)
        except TimeoutError:
            names = {room: (self.room_names.get(room), self.subject_of(room)) for room in self.rooms}
            raise AssertionError(f"no room {part!r}; there is {names}, refused {self.room_refusals}") from None
        return found()[0]

    async def when(self, true: Callable[[], bool], *, seconds: float = 10) -> None:
        """Wait for anything that a stanza can bring about. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(true)

    async def room_archive(self, room: str) -> list[RoomGot]:
        """All that the room keeps, oldest first (XEP-0313). Raises TimeoutError.

        ejabberd leaves a question unanswered that meets a room in the middle of its end, so it is asked again.
        """
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(4):
                    return await self._archive_of(room)
        async with asyncio.timeout(4):
            return await self._archive_of(room)

    async def _archive_of(self, room: str) -> list[RoomGot]:
        got = []
        async for result in self._client.plugin["xep_0313"].iterate(jid=slixmpp.JID(room), rsm={"max": 50}):
            element = result["mam_result"]["forwarded"]["stanza"].xml
            got.append(_read(element, room, result["mam_result"]["id"]))
        return got

    def _lines(self, room: str | None) -> Iterable[RoomGot]:
        if room is not None:
            return list(self.room_inbox.get(room, ()))
        return [got for lines in self.room_inbox.values() for got in lines]

    # ---- what arrives ----------------------------------------------------------------------------------------

    def _hear_invitation(self, stanza: Any) -> bool:
        """Whether it was one."""
        direct, mediated = stanza.xml.find(_INVITATION), stanza.xml.find(f"{_MUC_USER}x/{_MUC_USER}invite")
        if mediated is not None:  # Prosody puts a jabber:x:conference beside it
            reason = mediated.findtext(f"{_MUC_USER}reason") or ""
            invitation = Invitation("mediated", stanza["from"].bare, reason)
            inviter = slixmpp.JID(mediated.get("from", "")).bare
        elif direct is not None:
            invitation = Invitation("direct", direct.get("jid", ""), direct.get("reason", ""))
            inviter = stanza["from"].bare
        else:
            return False
        self.invitations.append(invitation)
        if self.joins and inviter == self._desk.bare and invitation.room not in {*self.rooms, *self._following}:
            self._following.add(invitation.room)
            self._go(self._follow(invitation.room))
        return True

    async def _follow(self, room: str) -> None:
        try:
            await self.join(room)
        except PresenceError as error:
            self.room_refusals.append((room, error.condition))
        except TimeoutError:
            self.room_refusals.append((room, "no answer"))
        finally:
            self._following.discard(room)

    def _hear_room(self, stanza: Any) -> None:
        got = _read(stanza.xml, stanza["from"].bare)
        room, nick, own = got.room, got.nick, self.rooms.get(got.room, self.nick)
        if _has_status(stanza, 104):  # its configuration has changed
            self._go(self._learn_name(room))
        if stanza.xml.find(COMPOSING) is not None and nick != own:
            self.room_composing[room] += 1
        if (displayed := marked_id(stanza.xml, DISPLAYED)) and nick != own:
            self.room_displayed.append((room, nick, displayed))
        if stanza.xml.find(f"{_CLIENT}subject") is not None and not got.body:
            self.subjects[room] = got.subject
        if _is_worth_showing(got) and not self._is_known(got):
            self.room_inbox.setdefault(room, []).append(got)

    def _is_known(self, got: RoomGot) -> bool:
        """A line of the history at the door that was here before. What came live is never taken for a copy."""
        if got.element.find(_DELAY) is None or not got.stanza_id:
            return False
        return any(each.stanza_id == got.stanza_id for each in self._lines(got.room))

    def _see_room_presence(self, presence: Any) -> None:
        room, nick = presence["from"].bare, presence["from"].resource
        item = presence.xml.find(f"{_MUC_USER}x/{_MUC_USER}item")
        if (
            presence["type"] == "error" and room in self._doors
        ):  # Prosody's has no muc element: slixmpp's join would hang
            self._doors[room].set_exception(PresenceError(presence))
        elif item is not None and presence["type"] == "unavailable":
            self._see_leaving(presence, room, nick)
        elif item is not None:
            standing = Occupant(*(item.get(key, "") for key in ("affiliation", "role", "jid")))
            self._occupants.setdefault(room, {})[nick] = standing
            if _has_status(presence, 110):
                self.rooms[room] = nick
                if room in self._doors and not self._doors[room].done():
                    self._doors[room].set_result(None)

    def _see_leaving(self, presence: Any, room: str, nick: str) -> None:
        self._occupants.get(room, {}).pop(nick, None)
        if self.rooms.get(room) == nick and not _has_status(presence, 303):  # 303: it goes on under another nick
            del self.rooms[room]
            if presence.xml.find(f"{_MUC_USER}x/{_MUC_USER}destroy") is not None:
                self.destroyed.append(room)

    async def _learn_name(self, room: str) -> None:
        try:
            info = await self._client.plugin["xep_0030"].get_info(jid=room, timeout=_SECONDS)
        except (IqError, IqTimeout):
            return
        names = (name for category, _, _, name in info["disco_info"]["identities"] if category == "conference")
        self.room_names[room] = next(names, "") or ""
        if "urn:xmpp:mam:2" in info["disco_info"]["features"]:
            self._archived.add(room)
        await self._tell()

    async def _catch_up(self, room: str, before: int) -> None:
        """What the door does not show: it has a few lines, and on ejabberd after a restart none at all."""
        kept = await self.room_archive(room)
        known = {got.stanza_id for got in self._lines(room)}
        missed = [got for got in kept if got.stanza_id not in known and _is_worth_showing(got)]
        self.room_inbox.setdefault(room, [])[before:before] = missed
        await self._tell()

    def _to_room(self, room: str, text: str | None, *extra: Element) -> str:
        message = self._client.make_message(room, text, mtype="groupchat")
        for element in extra:
            message.append(element)
        message.send()
        return str(message["id"])

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


def replacement(id: str) -> Element:
    """XEP-0308."""
    return Element(REPLACE, id=id)


def retraction(id: str) -> tuple[str, Element, Element, Element]:
    """XEP-0424 §3, with the fallback that clients send: its text is meant for nobody who understands."""
    text = "/me retracted a previous message, but it's unsupported by your client."
    fallback = Element("{urn:xmpp:fallback:0}fallback", {"for": "urn:xmpp:message-retract:1"})
    SubElement(fallback, "{urn:xmpp:fallback:0}body")
    return text, Element(RETRACT, id=id), fallback, Element("{urn:xmpp:hints}store")


def _is_worth_showing(got: RoomGot) -> bool:
    return bool(got.body or got.retracts or got.subject)


def _has_status(stanza: Any, code: int) -> bool:
    """XEP-0045 §15.6."""
    return stanza.xml.find(f"{_MUC_USER}x/{_MUC_USER}status[@code='{code}']") is not None


def marked_id(element: Element, name: str) -> str:
    """The id to which a part of a message refers; empty without that part."""
    found = element.find(name)
    return "" if found is None else found.get("id", "")


def _read(element: Element, room: str, archive_id: str = "") -> RoomGot:
    stanza_ids = (each.get("id", "") for each in element.iterfind(_STANZA_ID) if each.get("by") == room)
    return RoomGot(
        room,
        slixmpp.JID(element.get("from", "")).resource,
        element.get("id", ""),
        archive_id or next(stanza_ids, ""),
        element.findtext(f"{_CLIENT}body") or "",
        element.findtext(f"{_CLIENT}subject") or "",
        marked_id(element, REPLACE),
        marked_id(element, RETRACT),
        element,
    )
