"""What is too old by the settings goes each hour, as long as the clock can be believed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from veilsupport import garbage, log
from veilsupport.desk import Desk
from veilsupport.directory import DataDirectory
from veilsupport.errors import StoreError
from veilsupport.steadiness import DOUBTFUL, Marks, Steadiness

_EXPIRE_SECONDS: Final = 3600.0


class Ageing:
    """What is kept of the clock rests in the directory's lock."""

    def __init__(self, desk: Desk, directory: DataDirectory) -> None:
        self._desk = desk
        self._directory = directory
        self._steadiness = Steadiness(Marks.from_text(directory.noted), now=time.time(), uptime=_uptime())

    @property
    def trouble(self) -> tuple[str, ...]:
        """For the operator."""
        return () if self._steadiness.is_believed else (DOUBTFUL,)

    def look_at_clock(self) -> float:
        """By how many seconds it was set since the last look; 0.0: it ran on."""
        was_believed = self._steadiness.is_believed
        step = self._steadiness.look(now=time.time(), uptime=_uptime())
        if step or was_believed != self._steadiness.is_believed:
            self._note()
        if was_believed and not self._steadiness.is_believed:
            log.logger.warning(DOUBTFUL)
        return step

    async def run(self) -> None:
        """Until it is cancelled: a first sweep may take minutes. To be started last, when all that stays is made."""
        garbage.look_seldom()
        while True:
            self.look_at_clock()
            self._note()
            if self._steadiness.is_believed:
                with contextlib.suppress(StoreError):  # a full disk: the next hour
                    await self._desk.expire(time.time())
            garbage.look()
            await asyncio.sleep(_EXPIRE_SECONDS)

    def _note(self) -> None:
        self._directory.note(self._steadiness.marks.to_text())


def _uptime() -> float:
    """In seconds, as the machine itself counts them, asleep or awake; setting the clock does not change it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
