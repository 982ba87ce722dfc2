"""The visitor of our own, against a real desk behind a real web server on loopback; the XMPP edge is played."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.browser import site_of
from tests.desks import KEY, NOON, bodies, desk_in, hand_over
from tests.ports import free_port
from veilsupport import web
from veilsupport.config import Config
from veilsupport.desk import Desk
from veilsupport.doctor.checks import Finding, Level
from veilsupport.doctor.examination import Patient, _remember, examine, forget_test
from veilsupport.doctor.loopback import Door, Expected, Patience, loop_back
from veilsupport.limits import Act as Limited
from veilsupport.limits import By, Limits, Row
from veilsupport.model import Private

HASTY = Patience(request=2, hand_over=0.3, pause=0.01)
Story = Callable[["Stage"], Awaitable[None]]


@dataclass
class Stage:
    """A served desk, and what the visitor asked to be remembered."""

    desk: Desk
    door: Door
    said: list[Private | None] = field(default_factory=list)

    async def remember(self, token: Private | None) -> None:
        self.said.append(token)

    def visitors(self) -> int:
        """All that the desk's database knows."""
        return int(self.desk.store._db.execute("SELECT count(*) FROM visitor").fetchone()[0])

    async def loops(self, expected: Expected = Expected(), patience: Patience = HASTY) -> list[Finding]:  # noqa: B008
        return [each async for each in loop_back(self.door, expected, remember=self.remember, patience=patience)]


@contextlib.asynccontextmanager
async def served(desk: Desk, *, prefix: str = "", limits: Limits | None = None) -> AsyncIterator[Door]:
    port, stop, ready = free_port(), asyncio.Event(), asyncio.Event()
    site = site_of(desk, prefix=prefix, limits=limits).site
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(web.serve(site, unix_socket=None, port=port, stop=stop, ready=ready))
        await ready.wait()
        try:
            yield Door("127.0.0.1", port, None, prefix)
        finally:
            stop.set()


def tell(tmp_path: Path, story: Story, *, prefix: str = "", limits: Limits | None = None) -> None:
    async def run() -> None:
        async with desk_in(tmp_path) as desk, served(desk, prefix=prefix, limits=limits) as door:
            await story(Stage(desk, door))

    asyncio.run(run())


async def acknowledging(desk: Desk) -> list[str]:
    """Play the XMPP server: acknowledge the first that is due; what it said."""
    while not (due := await hand_over(desk)):
        await desk.wake.wait()
        desk.wake.clear()
    return bodies(due)


@pytest.mark.parametrize("prefix", ["", "/support"])
def test_every_hop_is_told_and_nothing_is_left(tmp_path: Path, prefix: str) -> None:
    async def story(stage: Stage) -> None:
        edge = asyncio.create_task(acknowledging(stage.desk))
        found = await stage.loops(patience=Patience(request=5, hand_over=5, pause=0.01))
        assert [each.level for each in found] == [Level.OK] * 4
        assert [words for each in found for words in ("came", "accepted", "handed over", "gone") if words in each.words]
        assert all(" s." in each.words for each in found)  # with its time
        [body] = await edge
        assert body.startswith("This is a test of the desk by its operator (doctor ")
        assert stage.visitors() == 0
        assert [each is None for each in stage.said] == [False, True]  # remembered before anything was written

    tell(tmp_path, story, prefix=prefix)


def test_what_nobody_acknowledges_is_said_and_burned(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        *well, late, gone = await stage.loops()
        assert [each.level for each in well] == [Level.OK, Level.OK]
        assert late.level is Level.WRONG
        assert "did not acknowledge" in late.words
        assert late.hint
        assert (gone.level, stage.visitors()) == (Level.OK, 0)
        assert bodies(stage.desk.due(now=NOON)) == []  # of the test, nothing goes out any more

    tell(tmp_path, story)


def test_what_cannot_be_proved_is_said(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        found = await stage.loops(Expected("nobody answers"))
        assert [each.level for each in found] == [Level.OK, Level.OK, Level.LOOK, Level.OK]
        assert "nobody answers" in found[2].words
        assert stage.visitors() == 0

    tell(tmp_path, story)


def test_interrupted_between_two_hops_it_burns_all_the_same(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        hops = loop_back(stage.door, Expected(), remember=stage.remember, patience=HASTY)
        await anext(hops)
        await anext(hops)
        assert stage.visitors() == 1
        await hops.aclose()
        assert stage.visitors() == 0

    tell(tmp_path, story)


def test_cancelled_while_it_waits_it_burns_all_the_same(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        patient = Patience(request=5, hand_over=60, pause=0.01)
        task = asyncio.create_task(stage.loops(patience=patient))
        while stage.desk.store.backlog() == 0:  # until the message is accepted
            await stage.desk.wake.wait()
            stage.desk.wake.clear()
        await asyncio.wait({task}, timeout=0.05)  # into the waiting
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.visitors() == 0

    tell(tmp_path, story)


def test_a_web_server_that_is_gone_is_said_with_where_to_look(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        [found] = await Stage(stage.desk, Door("127.0.0.1", free_port(), None)).loops()
        assert found.level is Level.WRONG
        assert "The page did not come" in found.words
        assert found.hint

    tell(tmp_path, story)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel connects, and nobody reads
            door = Door("127.0.0.1", silent.getsockname()[1], None)
            hasty = Patience(request=0.1, hand_over=0.1, pause=0.01)
            [found] = await Stage(stage.desk, door).loops(patience=hasty)
        assert "did not come within 0 s" in found.words

    tell(tmp_path, story)


def test_a_desk_that_is_busy_is_no_fault(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        *_, refused = await stage.loops()
        assert refused.level is Level.LOOK
        assert "too much to do" in refused.words

    limits = Limits((Row(Limited.START, By.OVERALL, 0.001, 0, "none may start"),))
    tell(tmp_path, story, limits=limits)


# ---- within an examination -------------------------------------------------------------------------------------------


def test_a_test_that_a_crash_left_is_burned_by_the_next_start(tmp_path: Path) -> None:
    async def go() -> None:
        async with desk_in(tmp_path) as desk, served(desk) as door:
            patient = Patient(Config(), desk, None, tmp_path, None, door.port, settle_seconds=0)
            findings = examine(patient, loops_back=True)
            async for finding in findings:
                if "accepted" in finding["words"]:
                    break
            token = desk.store.setting("doctor")
            assert token is not None  # as it would stand on the disk after SIGKILL
            await findings.aclose()
            assert desk.store.setting("doctor") is None
        async with desk_in(tmp_path) as desk:
            signed, _ = await desk.visitor_arrives(now=NOON)
            await _remember(desk, signed.token)
            await forget_test(desk, now=NOON)
            assert desk.open_session(signed.token) is None
            assert desk.store.setting("doctor") is None

    asyncio.run(go())


def test_the_token_that_burns_it_rests_sealed(tmp_path: Path) -> None:
    async def go() -> None:
        async with desk_in(tmp_path, key=KEY) as desk:
            signed, _ = await desk.visitor_arrives(now=NOON)
            await _remember(desk, signed.token)
            files = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
            assert signed.token.reveal().encode() not in files

    asyncio.run(go())
