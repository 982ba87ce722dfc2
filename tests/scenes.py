"""A desk with several admins, and what each of them reads: for the tests of what admins do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.desks import ADA, BERT, NOON, desk_in, hand_over, intake, start
from veilsupport import commands
from veilsupport.commands import Command
from veilsupport.desk import Desk
from veilsupport.model import (
    Admin,
    Author,
    Conversation,
    Delivery,
    DeliveryKind,
    Private,
    Role,
    Session,
    Site,
)

CLEO = Admin("Cleo", Private("cleo@chat.example"), Role.READS, roles=(("shop", Role.ANSWERS),))
DORA = Admin("Dora", Private("dora@chat.example"), Role.NONE, roles=(("shop", Role.LEADS),))
QUIET = Admin("Quinn", Private("quinn@chat.example"), notify_only=True)
SITES = {"": Site("", "Support", ""), "shop": Site("shop", "The Shop", "")}
Told = tuple[str, str, str]  # (whose chat, "room" or "staff room", the conversation's alias, the words)


class Scene:
    """A desk, and what its people read."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def visitor(self, body: str = "hello", *, site: str = "") -> tuple[Session, Conversation]:
        """A new one; their words have reached the admins."""
        session = await start(self.desk, body, site=site)
        found = self.desk.conversation(session)
        assert found is not None
        if self.desk.uses_rooms:
            await self.desk.place_room(found.id, Private(f"{found.alias}@rooms.example"))
        await hand_over(self.desk)
        return session, found

    async def told(self) -> list[Told]:
        """All that is said to admins since the last look."""
        return [_told(each) for each in await hand_over(self.desk) if each.kind is DeliveryKind.NOTICE]

    async def writes(
        self, line: str, by: Admin = ADA, *, place: Conversation | None = None, staff: bool = False
    ) -> str:
        """A command; what is read of its answer where it was written."""
        everything = await self.and_all(line, by, place=place, staff=staff)
        where = "room" if place else "staff room" if staff else by.name
        return "\n".join(words for whose, _, words in everything if whose == where)

    async def and_all(
        self, line: str, by: Admin = ADA, *, place: Conversation | None = None, staff: bool = False
    ) -> list[Told]:
        """A command; all that is said to anyone because of it."""
        parsed = commands.parse_in_room(line, place.alias) if place else commands.parse(line)
        assert isinstance(parsed, Command)
        at = place.id if place else None
        await self.desk.admin_commands(by, parsed, intake=intake(), now=NOON, place=at, staff=staff)
        return await self.told()

    def now(self, conversation: Conversation) -> Conversation:
        found = self.desk.store.conversation(conversation.id)
        assert found is not None
        return found

    def owner(self, conversation: Conversation) -> str:
        return self.desk.name_of(self.now(conversation).owner)

    def answers(self, session: Session) -> list[str]:
        return [each.body for each in self.desk.history(session) if each.author is Author.ADMIN]


def _told(delivery: Delivery) -> Told:
    place = "room" if delivery.conversation else "staff room"
    return delivery.admin.name if delivery.admin else place, delivery.alias, delivery.body


Story = Callable[[Scene], Awaitable[None]]
Tell = Callable[..., None]  # `tell` below, in a directory of the test's own


def tell(directory: Path, story: Story, *admins: Admin, rooms: bool = False) -> None:
    """A story at a desk with Ada and Bert, or whoever is named, in the direct form or in rooms."""

    async def tell_it() -> None:
        async with desk_in(directory, admins or (ADA, BERT), sites=SITES, uses_rooms=rooms) as desk:
            await story(Scene(desk))

    asyncio.run(tell_it())
