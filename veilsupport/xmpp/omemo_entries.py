"""What OMEMO remembers: texts under keys, on disk by somebody else's hand, with the newest changes held back.

It does not know what the texts mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class KeptState(Protocol):
    """The place on disk. Values hold private keys, and both keys and values hold JIDs: seal both."""

    def load(self) -> dict[str, str]:
        """All entries; called once."""

    async def keep(self, changes: Mapping[str, str | None]) -> None:
        """Make these changes in one transaction; None deletes."""


class Entries:
    """A dict over a KeptState. Changes are seen at once, reach the disk with `flush`, and are forgotten by `undo`."""

    def __init__(self, state: KeptState) -> None:
        self._state = state
        self._kept = dict(state.load())
        self._changes: dict[str, str | None] = {}

    def get(self, key: str) -> str | None:
        return self._changes[key] if key in self._changes else self._kept.get(key)

    def put(self, key: str, value: str | None) -> None:
        """None deletes."""
        if self._kept.get(key) == value:
            self._changes.pop(key, None)
        else:
            self._changes[key] = value

    def below(self, prefix: str) -> dict[str, str]:
        """All entries whose keys begin so."""
        keys = {key for key in (*self._kept, *self._changes) if key.startswith(prefix)}
        return {key: value for key in sorted(keys) if (value := self.get(key)) is not None}

    def undo(self) -> None:
        self._changes = {}

    async def flush(self) -> None:
        """What does not reach the disk is undone, so that memory never knows more than the disk."""
        changes, self._changes = self._changes, {}
        if changes:
            await self._state.keep(changes)
            self._kept = {key: value for key, value in {**self._kept, **changes}.items() if value is not None}
