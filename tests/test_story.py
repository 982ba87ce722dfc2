"""The story of the desk, read aloud."""

import asyncio
from pathlib import Path

from tests.desks import ADA, BERT, NOON, admin_of, bodies, desk_in, hand_over, intake, reopened, start
from veilsupport.commands import Answer, Command, parse, tag
from veilsupport.model import Author, DeliveryKind, Ended, Progress, Progressed, Said


def test_visitor_writes_phone_rings_admin_answers_visitor_reads(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            session = await start(desk, "is anyone there?")
            with desk.listen(session) as page:
                # the phone rings
                [ring] = await hand_over(desk)
                assert (ring.admin, ring.kind, ring.body) == (ADA, DeliveryKind.MESSAGE, "is anyone there?")
                assert await page.next(1) == Progressed(1, Progress.HANDED_OVER)
                await desk.delivery_arrived(ring.stanza_id, ADA)
                assert await page.next(1) == Progressed(1, Progress.ON_DEVICE)
                await desk.delivery_read(ring.stanza_id, ADA)
                assert await page.next(1) == Progressed(1, Progress.READ)

                # the admin answers by quoting
                line = parse(f"> {tag(ring.alias, ring.body)}\n\nyes, we are here")
                assert isinstance(line, Answer)
                assert line.alias == ring.alias
                await desk.admin_says(ADA, line.alias, line.body, intake=intake(), now=NOON)

                # the visitor reads, without a reload
                event = await page.next(1)
                assert isinstance(event, Said)
                assert (event.message.author, event.message.name) == (Author.ADMIN, "Ada")
                assert event.message.body == "yes, we are here"

    asyncio.run(story())


def test_visitor_comes_back_with_the_code_and_finds_everything(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path) as desk:
            session = await start(desk, "my name is nobody")
            code = session.pending_code
            assert code is not None
            assert len(code.reveal().split()) == 7
            [ring] = await hand_over(desk)
            await desk.admin_says(ADA, ring.alias, "welcome", intake=intake(), now=NOON)
            await desk.visitor_keeps_code(session)
            await desk.visitor_leaves(session)

        async with desk_in(tmp_path) as desk:  # after a restart
            signed_in = await desk.visitor_returns(code, now=NOON)
            again = reopened(desk, signed_in.token)
            assert [message.body for message in desk.history(again)] == ["my name is nobody", "welcome"]
            assert again.pending_code is None

    asyncio.run(story())


def test_visitor_burns_and_both_sides_are_asked_to_forget(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA, BERT)) as desk:
            session = await start(desk, "forget this")
            rings = await hand_over(desk)
            code = session.pending_code
            assert code is not None
            with desk.listen(session) as page:
                await desk.visitor_burns(session, now=NOON)
                assert await page.next(1) == Ended(burned=True)
            asked = await hand_over(desk)
            retracted = [each for each in asked if each.kind is DeliveryKind.RETRACT]
            assert [(each.admin, each.body, each.alias) for each in retracted] == [
                (ring.admin, ring.stanza_id, ring.alias) for ring in rings
            ]
            assert len(bodies(asked, DeliveryKind.NOTICE)) == 2
            assert desk.history(session) == []

    asyncio.run(story())


def test_admin_closes_and_the_next_message_reopens(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, admins=(ADA, BERT)) as desk:
            session = await start(desk)
            alias = (await hand_over(desk))[0].alias
            await desk.admin_commands(ADA, Command("close", alias), intake=intake(), now=NOON)
            told = {admin_of(delivery).name: delivery.body for delivery in await hand_over(desk)}
            assert told == {"Ada": f"{alias} is closed.", "Bert": f"Ada has closed {alias}."}
            assert desk.open_aliases() == []
            await desk.visitor_says(session, "one more thing", once=b"1", now=NOON)
            assert desk.open_aliases() == [alias]

    asyncio.run(story())
