"""A desk in the room form on a real server, its admins' phones, and a SOCKS port that misbehaves, for one story.

Every story has accounts of its own, so that nothing is left over from the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from xml.etree.ElementTree import Element, SubElement

import slixmpp
from slixmpp.exceptions import IqError

from tests.desks import desk_in
from tests.live.chaosocks import ChaoticSocks
from tests.live.ejabberd import Ejabberd
from tests.live.phone import Phone
from tests.live.prosody import Prosody
from tests.live.xmppserver import XmppServer
from veilsupport.desk import Desk
from veilsupport.model import Admin, Author, Conversation, EndToEnd, Private, Progress, Role, Session, Site
from veilsupport.xmpp import Account, Bridge, LinkState, Pace, Phase, Tls, Trust

SERVERS: Final = (Prosody, Ejabberd)
HOST: Final = "desk.onion"
PACE: Final = Pace(
    dial=5, negotiate=5, set_up=20, ping=2, pong=4, first_pause=0.05, longest_pause=0.5, refused_pause=60, steady=0
)
SITES: Final = {
    "": Site("", "Help", ""),
    "shop": Site("shop", "The shop", "", languages=("de",)),
    "quiet": Site("quiet", "Quiet", "", typing=False, read_marks=False),
}
_MUC: Final = "{http://jabber.org/protocol/muc#user}"
_ADMIN: Final = "{http://jabber.org/protocol/muc#admin}"


class RoomPhone(Phone):
    """What else a test does with a phone in rooms."""

    def __init__(self, *arguments: Any, corrects: bool = True, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._corrects = corrects

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if not self._corrects:
            self._client.plugin["xep_0030"].del_feature(feature="urn:xmpp:message-correct:0")
        return self

    async def features(self, jid: str) -> set[str]:
        """XEP-0030, as this account is told."""
        info = await self._client.plugin["xep_0030"].get_info(jid=jid, timeout=10)
        return set(info["disco_info"]["features"])

    async def public_rooms(self, service: str) -> set[str]:
        items = await self._client.plugin["xep_0030"].get_items(jid=service, timeout=10)
        return {item[0] for item in items["disco_items"]["items"]}

    async def affiliated(self, room: str, affiliation: str) -> set[str]:
        """Who has it, as the room tells an owner or admin."""
        found = await self._client.plugin["xep_0045"].get_affiliation_list(room, affiliation, timeout=10)
        return {str(jid) for jid in found}

    def whisper(self, room: str, nick: str, text: str) -> None:
        """XEP-0045 §7.5."""
        message = self._client.make_message(f"{room}/{nick}", text, mtype="chat")
        message.xml.append(Element(f"{_MUC}x"))
        message.send()

    async def set_affiliation(self, room: str, jid: str, affiliation: str) -> None:
        await self._client.plugin["xep_0045"].set_affiliation(room, affiliation, jid=jid, timeout=10)

    async def kick(self, room: str, nick: str) -> None:
        await self._client.plugin["xep_0045"].set_role(room, nick, "none", timeout=10)

    async def ask_through(self, room: str, nick: str) -> str:
        """What an occupant answers to a question of who it is; the error's condition if it is one."""
        try:
            await self._client.plugin["xep_0030"].get_info(jid=f"{room}/{nick}", timeout=10)
        except IqError as error:
            return str(error.condition)
        return "answered"

    def nicks(self, room: str) -> set[str]:
        return set(self.occupants(room))

    def bodies(self, room: str) -> list[str]:
        """What was said there, its subjects not."""
        return [got.body for got in self.room_inbox.get(room, ()) if got.body]


class Stage:
    """One story's place. `admin` makes people and their accounts; `desk` is open from `run` on."""

    desk: Desk

    def __init__(self, server: XmppServer, directory: Path, socks: ChaoticSocks) -> None:
        self.server = server
        self.directory = directory
        self.socks = socks
        self.states: list[LinkState] = []
        self._key = secrets.token_hex(4)
        self._accounts: set[str] = set()
        self._news = asyncio.Event()

    # ---- people ----------------------------------------------------------------------------------------------

    def jid(self, name: str) -> str:
        """Of this story's account of that name, which is made when it is first mentioned."""
        account = f"{name}-{self._key}"
        if account not in self._accounts:
            self._accounts.add(account)
            self.server.add_account(account, "pw")
        return self.server.jid(account)

    @property
    def own(self) -> str:
        return self.jid("desk")

    def admin(
        self,
        name: str,
        *,
        role: Role = Role.LEADS,
        roles: tuple[tuple[str, Role], ...] = (),
        notify_only: bool = False,
        end_to_end: EndToEnd = EndToEnd.OFF,
    ) -> Admin:
        return Admin(name, Private(self.jid(name.lower())), role, roles, end_to_end, notify_only)

    def phone(
        self, name: str, *, joins: bool = True, nick: str = "", resource: str = "phone", corrects: bool = True
    ) -> RoomPhone:
        """`corrects`: whether that app shows corrections."""
        return RoomPhone(
            self.jid(name),
            "pw",
            desk=self.own,
            port=self.server.port,
            joins=joins,
            nick=nick or name,
            resource=resource,
            corrects=corrects,
        )

    # ---- the desk --------------------------------------------------------------------------------------------

    def account(self) -> Account:
        return Account(
            Private(self.own),
            Private("pw"),
            HOST,
            5223,
            tls=Tls.DIRECT,
            trust=Trust.PIN,
            fingerprint=self.server.fingerprint,
            proxy=self.socks.proxy,
        )

    @contextlib.asynccontextmanager
    async def open_desk(
        self, admins: Sequence[Admin], sites: Mapping[str, Site] | None = None, *, uses_rooms: bool = True
    ) -> AsyncIterator[Desk]:
        """The desk of this story's directory; one after the other, as the program is started again."""
        async with desk_in(self.directory, admins, sites=sites or SITES, uses_rooms=uses_rooms) as desk:
            self.desk = desk
            yield desk

    def made_bridge(self, *, wants_rooms: bool = True) -> Bridge:
        return Bridge(
            self.desk,
            self.account(),
            on_change=self._changed,
            wants_rooms=wants_rooms,
            language=lambda name: (*SITES[name].languages, "en")[0],
            pace=PACE,
        )

    @contextlib.asynccontextmanager
    async def bridge(self, *, wants_rooms: bool = True) -> AsyncIterator[Bridge]:
        """Running for the length of the block, then stopped as at the program's end."""
        bridge = self.made_bridge(wants_rooms=wants_rooms)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(bridge.run(stop))
            yield bridge
            stop.set()
            async with asyncio.timeout(5):
                await task

    @contextlib.asynccontextmanager
    async def crashing_bridge(self) -> AsyncIterator[Bridge]:
        """Running for the length of the block, then gone without a word."""
        task = asyncio.create_task((bridge := self.made_bridge()).run(asyncio.Event()))
        yield bridge
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def phase(self, phase: Phase, *, seconds: float = 20) -> LinkState:
        """Wait until the line stands so."""
        async with asyncio.timeout(seconds):
            while not self.states or self.states[-1].phase is not phase:
                self._news.clear()
                await self._news.wait()
        return self.states[-1]

    async def cut(self, bridge: Bridge, *, resumed: bool) -> None:
        """The connection breaks, and the server remembers its session, or has forgotten it; until it is up again."""
        if not resumed:
            bridge._line.plugin["xep_0198"].sm_id = "unknown"
        before = len(self.states)
        self.socks.cut()
        await until(lambda: any(state.phase is Phase.ONLINE for state in self.states[before:]))

    def _changed(self, state: LinkState) -> None:
        self.states.append(state)
        self._news.set()

    # ---- visitors --------------------------------------------------------------------------------------------

    def conversation(self, session: Session) -> Conversation:
        found = self.desk.conversation(session)
        assert found is not None
        return found

    def alias(self, session: Session) -> str:
        return self.conversation(session).alias

    def staff_room(self) -> str:
        found = self.desk.staff_room()
        assert found is not None
        return found.reveal()

    def room(self, session: Session) -> str:
        """Its address, as the desk knows it."""
        found = self.desk.room_of(session.visitor.id)
        assert found is not None
        return found.address.reveal()

    def answers(self, session: Session) -> list[str]:
        """The admins' words, as the visitor sees them; those taken back are empty."""
        history = self.desk.history(session, limit=10_000)
        return [each.body for each in history if each.author is Author.ADMIN]

    async def answered(self, session: Session, *expected: str, seconds: float = 10) -> None:
        """Until the visitor sees that, and nothing else, from the admins."""
        try:
            await until(lambda: self.answers(session) == list(expected), seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"the visitor sees {self.answers(session)}, not {list(expected)}") from None

    async def says(self, session: Session, body: str) -> None:
        await self.desk.visitor_says(session, body, once=secrets.token_bytes(8), now=0)

    def progress(self, session: Session, seq: int = 1) -> Progress:
        return next(each.progress for each in self.desk.history(session, limit=10_000) if each.seq == seq)


Story = Callable[[Stage], Awaitable[None]]


async def until(true: Callable[[], Any], *, seconds: float = 15) -> None:
    """Wait for anything. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def tell(story: Story, server: XmppServer, directory: Path, *, seconds: float = 60) -> None:
    """Run a story on a stage of its own."""

    async def within() -> None:
        async with asyncio.timeout(seconds), ChaoticSocks({(HOST, 5223): server.tls_port}) as socks:
            await story(Stage(server, directory, socks))

    try:
        asyncio.run(within())
    except BaseExceptionGroup as group:
        raise _innermost(group) from None


def _innermost(error: BaseException) -> BaseException:
    """What pytest should show."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


# ---- elements of other clients ---------------------------------------------------------------------------------------


def sealed_envelope() -> Element:
    """What OMEMO puts beside a fallback text."""
    envelope = Element("{eu.siacs.conversations.axolotl}encrypted")
    SubElement(envelope, "{eu.siacs.conversations.axolotl}payload").text = "AAAA"
    return envelope


def claimed_speaker(jid: str) -> Element:
    """As if the room had noted in its archive that the line is theirs."""
    forged = Element(f"{_MUC}x")
    SubElement(forged, f"{_MUC}item", jid=jid, affiliation="owner", role="moderator")
    return forged


def bare(jid: str) -> str:
    return str(slixmpp.JID(jid).bare)
