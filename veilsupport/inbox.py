"""What waits for one reader. An asyncio.Queue takes 2 KB even when it is empty, and each open page has two of them."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """First in, first out. Used on the loop's thread only, with one reader at a time; whoever puts bounds it."""

    __slots__ = ("_items", "_waiter")

    def __init__(self) -> None:
        self._items: list[T] = []
        self._waiter: asyncio.Future[None] | None = None

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        return not self._items

    def last(self) -> T | None:
        """What was put last; None when nothing waits."""
        return self._items[-1] if self._items else None

    def put_nowait(self, item: T) -> None:
        self._items.append(item)
        self.wake()

    def clear(self) -> None:
        self._items.clear()

    async def get(self) -> T:
        """The next one, as soon as there is any."""
        while not self._items:
            await self.stir()
        return self._items.pop(0)

    async def stir(self) -> None:
        """Until something is put, or `wake` is called."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Whoever waits looks again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
