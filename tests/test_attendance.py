"""Whether somebody is there, as visitors of each site are told: who is seen, who is away, and the hours."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.desks import ADA, BERT, NOON, desk_in, hand_over, intake, start
from veilsupport import commands
from veilsupport.commands import Command
from veilsupport.crypto import ApplianceKey
from veilsupport.desk import Desk
from veilsupport.desk.attendance import AWAY
from veilsupport.errors import Duplicate
from veilsupport.hours import parse
from veilsupport.model import Admin, Attendance, AttendanceChanged, Private, Role, Site

CLEO = Admin("Cleo", Private("cleo@chat.example"), Role.READS, roles=(("shop", Role.ANSWERS),))
SITES = {
    "": Site("", "Support", ""),
    "shop": Site("shop", "The Shop", "", hours="mon-fri 9-17", away="The shop is closed."),
}
MONDAY_TEN = datetime(2027, 2, 1, 10, tzinfo=UTC).timestamp()
MONDAY_NIGHT = MONDAY_TEN + 12 * 3600


async def commanded(desk: Desk, line: str, by: Admin = ADA, *, now: float = MONDAY_TEN) -> str:
    """What is answered."""
    command = commands.parse(line)
    assert isinstance(command, Command)
    await desk.admin_commands(by, command, intake=intake(), now=now)
    return "\n".join(each.body for each in await hand_over(desk) if each.admin == by)


def staffed(desk: Desk, site: str = "", *, now: float = MONDAY_TEN) -> bool:
    return desk.attendance(site, now=now).staffed


def test_it_is_staffed_while_one_who_may_answer_there_is_seen(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, (ADA, CLEO), sites=SITES) as desk:
            assert staffed(desk)  # nobody can tell, so whoever answers counts as there
            desk.admins_are_there([CLEO])
            assert not staffed(desk)
            assert staffed(desk, "shop")
            assert desk.attendance("", now=NOON) == Attendance(False, False, AWAY)
            desk.admins_are_there([])
            assert not staffed(desk, "shop")
            desk.admins_are_there(None)
            assert staffed(desk)
            desk.line_changed(True)
            assert desk.attendance("", now=NOON) == Attendance(True, True, "")

    asyncio.run(story())


def test_a_desk_without_admins_is_not_staffed(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, (), sites=SITES) as desk:
            assert not staffed(desk)

    asyncio.run(story())


def test_open_pages_are_told_when_somebody_comes_or_goes(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, (ADA, BERT), sites=SITES) as desk:
            with desk.listen(await start(desk)) as page:
                for there in ([ADA], [ADA], [ADA, BERT], None):
                    desk.admins_are_there(there)
                assert [await page.next(0) for _ in range(4)] == [*[AttendanceChanged()] * 3, None]

    asyncio.run(story())


# ---- away ------------------------------------------------------------------------------------------------------------


def test_away_lasts_until_they_write_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, (ADA, BERT), sites=SITES) as desk:
            session = await start(desk)
            await hand_over(desk)
            with desk.listen(session) as page:
                assert await commanded(desk, "!away") == "You are away until you write again."
                assert staffed(desk)  # Bert is there
                assert "visitors read: Back at two." in await commanded(desk, "!away Back at two.", BERT)
                assert desk.attendance("", now=MONDAY_TEN).away == "Back at two."
                await desk.admin_is_back(ADA)
                await desk.admin_is_back(ADA)
                assert staffed(desk)
                assert not desk.is_away(ADA)
                assert [await page.next(0) for _ in range(4)] == [*[AttendanceChanged()] * 3, None]

    asyncio.run(story())


def test_away_and_its_words_outlive_a_restart_and_rest_sealed(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, sites=SITES) as desk:
            await commanded(desk, "!away MARKaway")
        for file in tmp_path.iterdir():
            assert b"MARKaway" not in file.read_bytes()
        async with desk_in(tmp_path, sites=SITES) as desk:
            assert desk.attendance("", now=NOON) == Attendance(False, False, "MARKaway")
        async with desk_in(tmp_path, key=ApplianceKey(b"o" * 32), sites=SITES) as desk:  # it does not open
            assert staffed(desk)

    asyncio.run(story())


def test_whose_words_are_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, (ADA, CLEO), sites=SITES) as desk:
            await commanded(desk, "!away")
            assert desk.attendance("", now=MONDAY_TEN).away == AWAY
            assert desk.attendance("shop", now=MONDAY_NIGHT).away == "The shop is closed."
            await commanded(desk, "!away the shop's first", CLEO)
            await commanded(desk, "!away the desk's latest")
            for site in ("", "shop"):
                assert desk.attendance(site, now=MONDAY_TEN).away == "the desk's latest"
            await commanded(desk, "!away the shop's latest", CLEO)
            assert desk.attendance("shop", now=MONDAY_TEN).away == "the shop's latest"
            assert desk.attendance("", now=MONDAY_TEN).away == "the desk's latest"  # Cleo would not answer there

    asyncio.run(story())


def test_the_others_are_told_who_is_away(tmp_path: Path) -> None:
    async def story() -> None:
        for rooms, whose in ((False, "Bert"), (True, "")):
            async with desk_in(tmp_path, (ADA, BERT), sites=SITES, uses_rooms=rooms) as desk:
                await desk.admin_commands(ADA, Command("away"), intake=intake(), now=NOON)
                told = {each.admin.name if each.admin else "": each.body for each in await hand_over(desk)}
                assert told == {"Ada": "You are away until you write again.", whose: "Ada is away."}

    asyncio.run(story())


def test_words_that_visitors_read_are_cleaned_and_short(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, sites=SITES) as desk:
            assert "nothing was changed" in await commanded(desk, "!away " + "x" * 501)
            assert staffed(desk)
            await commanded(desk, "!away back \u202esoon")
            assert desk.attendance("", now=NOON).away == "back soon"

    asyncio.run(story())


def test_what_was_taken_back_is_not_done_again_by_a_repetition(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, sites=SITES) as desk:
            away, hours = intake(), intake()
            await desk.admin_commands(ADA, Command("away"), intake=away, now=NOON)
            await desk.admin_is_back(ADA)
            await desk.admin_commands(ADA, Command("hours", None, "9-17"), intake=hours, now=NOON)
            await commanded(desk, "!hours off")
            for command, stanza in ((Command("away"), away), (Command("hours", None, "9-17"), hours)):
                with pytest.raises(Duplicate):
                    await desk.admin_commands(ADA, command, intake=stanza, now=NOON)
            assert not desk.is_away(ADA)
            assert desk.hours_override() is None

    asyncio.run(story())


# ---- hours -----------------------------------------------------------------------------------------------------------


def test_hours_of_a_site_hold_until_an_admin_sets_others(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, sites=SITES) as desk:
            assert staffed(desk, "shop")
            assert not staffed(desk, "shop", now=MONDAY_NIGHT)
            assert staffed(desk, now=MONDAY_NIGHT)
            assert await commanded(desk, "!hours") == "Hours by the settings: always\nshop: mon-fri 9:00-17:00 UTC"
            assert await commanded(desk, "!hours 20-23") == (
                "Hours of every site: mon-sun 20:00-23:00 UTC\n!hours off goes back to what the settings say."
            )
            for site in ("", "shop", "of before"):
                assert not staffed(desk, site)
                assert staffed(desk, site, now=MONDAY_NIGHT)
        async with desk_in(tmp_path, sites=SITES) as desk:  # after a restart
            assert desk.hours_override() == parse("20-23")
            assert await commanded(desk, "!hours always") == (
                "Hours of every site: always\n!hours off goes back to what the settings say."
            )
            assert staffed(desk, "shop", now=MONDAY_NIGHT)
            assert "by the settings" in await commanded(desk, "!hours OFF")
            assert not staffed(desk, "shop", now=MONDAY_NIGHT)
            assert "Nothing was changed. The days are" in await commanded(desk, "!hours mo 9-17")
        async with desk_in(tmp_path, sites=SITES) as desk:
            assert desk.hours_override() is None

    asyncio.run(story())


def test_the_others_are_told_of_other_hours(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, (ADA, BERT), sites=SITES) as desk:
            told = []
            for line in ("!hours 9-17", "!hours off", "!hours"):
                await desk.admin_commands(
                    ADA, Command("hours", None, line.removeprefix("!hours").strip()), intake=intake(), now=NOON
                )
                told += [each.body for each in await hand_over(desk) if each.admin == BERT]
            assert told == [
                "Ada has set the hours: mon-sun 9:00-17:00 UTC",
                "Ada has taken back the hours that were set here.",
            ]

    asyncio.run(story())


@pytest.mark.parametrize("kept", ["9-17 Atlantis/Nowhere", "nonsense"])
def test_hours_that_mean_nothing_here_any_more_leave_it_to_the_settings(tmp_path: Path, kept: str) -> None:
    """A zone that this machine does not know any more, say."""

    async def story() -> None:
        async with desk_in(tmp_path, sites=SITES) as desk:
            await desk._keep("hours", kept)
            assert desk.hours_override() is None
            assert staffed(desk)

    asyncio.run(story())


def test_open_pages_are_told_when_hours_begin_and_end_and_only_then(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, sites=SITES) as desk:
            session = await start(desk, site="shop")
            with desk.listen(session) as page:
                desk.attendance("shop", now=MONDAY_TEN - 3660)  # a page is shown a minute before nine
                desk.attendance("shop", now=MONDAY_TEN - 3600)  # and another one at nine
                heard = []
                for minutes in (0, 1, 479, 480, 481):
                    desk.attendance_tick(MONDAY_TEN - 3600 + minutes * 60)
                    heard.append(await page.next(0))
                assert heard == [AttendanceChanged(), None, None, AttendanceChanged(), None]

    asyncio.run(story())


def test_open_pages_are_told_when_an_admin_or_the_settings_change_the_hours(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, sites=SITES) as desk:
            session = await start(desk, site="shop")
            await hand_over(desk)
            with desk.listen(session) as page:
                assert staffed(desk, "shop")
                await commanded(desk, "!hours 9-11")
                assert await page.next(0) is None
                await commanded(desk, "!hours 20-23")
                assert await page.next(0) == AttendanceChanged()
                await commanded(desk, "!hours off")
                assert await page.next(0) == AttendanceChanged()
                desk.sites = {"": SITES[""], "shop": Site("shop", "The Shop", "", hours="20-23")}
                desk.attendance_tick(MONDAY_TEN)
                assert await page.next(0) == AttendanceChanged()

    asyncio.run(story())
