"""What the pump and the intake must not hold against others: rooms that are given up, lines without an id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.desks import ADA, NOON, bodies, desk_in, start
from tests.xmppedge import Edge, StubLine, answers, in_loop, words
from veilsupport.model import DeliveryKind, EndToEnd
from veilsupport.xmpp.direct import TRUST_UNSEALED, Direct
from veilsupport.xmpp.sealing import NOT_SEALED
from veilsupport.xmpp.signals import Heard, Started


class RoomsAtHand:
    """Every conversation's room is ready."""

    def address(self, conversation: bytes | None) -> str | None:
        return f"v-{(conversation or b'desk').hex()}@rooms.chat.example"

    def not_ready(self) -> list[bytes]:
        return []

    def is_bringing_up(self) -> bool:
        return False

    def lost_us(self, conversation: bytes | None) -> None:
        pass

    def destroy(self, stanza_id: str, address: str) -> None:
        pass


def test_visitors_who_burn_do_not_keep_others_from_being_heard(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, uses_rooms=True) as desk:
            edge = Edge(desk, StubLine())
            await edge.hear(Started(1))
            desk.rooms_return()
            edge.outgoing.rooms = RoomsAtHand()
            for number in range(2):
                session = await start(desk, f"first of {number}")
                for line in range(9):
                    await desk.visitor_says(session, f"line {line}", once=f"{number} {line}".encode(), now=NOON)
                await edge.pump()
                await desk.visitor_burns(session, now=NOON)
                edge.outgoing.forget_room(session.visitor.id)
            await start(desk, "please help me")
            assert await edge.pump()
            assert "please help me" in "".join(each.findtext("{jabber:client}body") or "" for each in edge.stub.posted)

    in_loop(story)


def test_an_admins_line_that_has_no_id_is_never_taken_for_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA,)) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk)
            edge.stub.archive = []
            await edge.hear(Started(1))
            for text in ("one", "two", "two"):
                said = words(text, key="")
                del said.attrib["id"]
                await edge.hear(Heard(said))
            assert answers(desk, session) == ["one", "two", "two"]

    in_loop(story)


def test_who_requires_encryption_is_not_believed_in_the_clear(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(replace(ADA, end_to_end=EndToEnd.REQUIRE),)) as desk:
            edge = Edge(desk, StubLine())
            session = await start(desk)
            await edge.hear(Started(1), Heard(words("forged by the server", key="m1")))
            assert answers(desk, session) == []
            assert NOT_SEALED in bodies(desk.due(now=NOON), DeliveryKind.NOTICE)

    in_loop(story)


def test_a_key_is_not_confirmed_by_a_line_that_the_server_could_have_written(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            edge = Edge(desk, StubLine())
            await start(desk)
            await edge.hear(Started(1), Heard(words("!trust Ada 1a2b3c4d", key="m1")))
            assert TRUST_UNSEALED in bodies(desk.due(now=NOON), DeliveryKind.NOTICE)

    in_loop(story)


def test_a_line_from_before_a_restart_is_not_for_whoever_came_since(tmp_path: Path) -> None:
    """Only one conversation is open, but nothing of it went to Ada since the desk runs."""

    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            session = await start(desk)
            direct = Direct(desk, clock=lambda: NOON)
            assert direct.meant_by(ADA) is None
            direct.spoke(ADA, desk.open_aliases()[0])
            assert direct.meant_by(ADA) == desk.open_aliases()[0]
            assert answers(desk, session) == []

    in_loop(story)
