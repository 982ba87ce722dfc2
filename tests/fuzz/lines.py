"""What admins write (the `!` commands and lines with a name in front), and the grammar of opening hours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tests.desks import ADA, BERT, NOON, desk_in, hand_over, intake, start
from tests.fuzz.chance import Chance
from tests.fuzz.run import Take
from veilsupport import commands, hours
from veilsupport.commands import VERBS, Command
from veilsupport.desk import Desk
from veilsupport.errors import AdminError

_HOURS: Final = b"hours "
_NAMES: Final = ("heron-42", "{{alias}}", "{{alias}}", "Ada", "bert", "use", "add", "list", "remove", "off", "hello")
_TIMES: Final = (
    "mon",
    "fri",
    "mon-fri",
    "sat-tue",
    "9-17",
    "22:30-6",
    "0-24",
    "24-1",
    ",",
    "-",
    "Europe/Berlin",
    "UTC",
)


def make(chance: Chance) -> bytes:
    if chance.happens(0.3):
        words = [chance.word(*_TIMES) for _ in range(chance.random.randrange(8))]
        return _HOURS + chance.bent(" ".join(words).encode("utf-8", "replace"))
    verb = chance.word(*(verb.name for verb in VERBS))
    if verb == "burn" and chance.happens(0.9):
        verb = "help"
    words = [chance.word(*_NAMES, *_TIMES) for _ in range(chance.random.randrange(5))]
    line = chance.one_of("!", "!", "!", "! ", "!!", "> x\n!", "@", "") + " ".join([verb, *words])
    return chance.bent(line.encode("utf-8", "replace"), share=0.15)


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Take]:
    async with desk_in(directory, (ADA, BERT)) as desk:

        async def take(case: bytes) -> None:
            text = case.decode("utf-8", "replace")
            if case.startswith(_HOURS):
                check_hours(text.removeprefix(_HOURS.decode()))
            else:
                await check_line(desk, text)

        yield take


def check_hours(text: str) -> None:
    """Refused; or the same after it was written out, and open or not at any moment."""
    try:
        found = hours.parse(text)
    except ValueError:
        return
    assert hours.parse(str(found)) == found
    for at in (0.0, NOON, 2.0**33):
        found.open_at(at)


async def check_line(desk: Desk, text: str) -> None:
    if not (open_now := desk.open_aliases(ADA)):
        await start(desk)
        open_now = desk.open_aliases(ADA)
    text = text.replace("{{alias}}", open_now[0])
    with contextlib.suppress(AdminError):
        commands.parse_in_room(text, open_now[0])
    with contextlib.suppress(AdminError):
        commands.parse_in_staff_room(text)
    try:
        parsed = commands.parse(text)
    except AdminError:
        return
    if isinstance(parsed, Command):
        await desk.admin_commands(ADA, parsed, intake=intake(), now=NOON)
        await desk.operator_commands(text, now=NOON)
    await hand_over(desk)
