"""The operator's archive: whether a second copy of every message is kept, sealed to recovery words.

The copy itself is made where a message is (`Core._copy`). Here is how it is turned on and off. The private half of the
archive's key never comes here: the command line makes it from the words, and only the public half arrives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from veilsupport.crypto import ArchiveSetting
from veilsupport.desk.core import ARCHIVE_SETTING, Core
from veilsupport.errors import SealError, SetupError
from veilsupport.model import AttendanceChanged

NOT_OURS: Final = SetupError(
    "The archive's key on the disk was changed by something else than this desk, so no copies are made.",
    hint="Find out who else had this disk. To begin anew: veilsupport archive disable --erase",
)


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """`public_key` None: there is no archive, on or off. `is_ours` False: its setting was changed by somebody else."""

    on: bool
    copies: int
    public_key: bytes | None
    is_ours: bool = True


class Archives(Core):
    """The archive's part of the desk."""

    def archive_state(self) -> ArchiveState:
        copies = self.store.count_copies()
        try:
            found = self._archive_setting()
        except SealError:
            return ArchiveState(on=False, copies=copies, public_key=None, is_ours=False)
        return ArchiveState(found is not None and found.on, copies, found.public_key if found else None)

    async def enable_archive(self, public_key: bytes) -> None:
        """From now on, every message. SetupError: there is one already with other words, or the setting is not ours."""
        state = self.archive_state()
        if not state.is_ours:
            raise NOT_OURS.anew()
        if state.public_key is not None and state.public_key != public_key:
            raise SetupError(
                "There is an archive already, with other recovery words.",
                hint="Erase it first, if you have lost them: veilsupport archive disable --erase",
            )
        if state.public_key is None:
            await self.erase_lost_copies()
        await self._set_archive(ArchiveSetting(True, public_key))

    async def disable_archive(self, *, erase: bool) -> int:
        """No copies from now on. `erase`: those that there are go too; how many that were."""
        state = self.archive_state()
        if not erase:
            if not state.is_ours:
                raise NOT_OURS.anew()
            if state.public_key is not None:
                await self._set_archive(ArchiveSetting(False, state.public_key))
            return 0
        self._take_archive_key(None)  # first, so that no message is copied behind the erasing
        await self.store.forget_setting(ARCHIVE_SETTING)
        return await self.erase_lost_copies()

    async def erase_lost_copies(self) -> int:
        """Copies of an archive that is no more: what an erasing left that was cut short. How many."""
        if self.store.setting(ARCHIVE_SETTING) is not None:
            return 0
        erased = 0
        while count := await self.store.erase_copies():
            erased += count
        if erased:
            await self.store.scrub()
        return erased

    async def operator_archives(self, wish: str) -> dict[str, Any]:
        """What the operator asks by `archive` on the command line, in JSON, and the answer. SetupError: not done."""
        asked = json.loads(wish)
        erased = 0
        match asked:
            case {"enable": str(key)}:
                await self.enable_archive(bytes.fromhex(key))
            case {"disable": bool(erase)}:
                erased = await self.disable_archive(erase=erase)
        state = self.archive_state()
        known = state.public_key.hex() if state.public_key else None
        return {"on": state.on, "copies": state.copies, "erased": erased, "key": known, "is_ours": state.is_ours}

    # ---- within ----------------------------------------------------------------------------------------------

    async def _set_archive(self, setting: ArchiveSetting) -> None:
        if not setting.on:
            self._take_archive_key(None)
        await self.store.set_setting(ARCHIVE_SETTING, setting.to_bytes(self.key.settings))
        self._take_archive_key(setting.public_key if setting.on else None)

    def _take_archive_key(self, public_key: bytes | None) -> None:
        """Open pages are told whether a copy is kept of what is said on them."""
        if public_key != self._archive_key:
            self._archive_key = public_key
            self.listeners.tell_all(AttendanceChanged())
