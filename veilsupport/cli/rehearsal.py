"""tor and the XMPP account for the length of a setup: what the operator answers is tried before it is kept.

The prompts hold the main thread, so that Ctrl-C ends whatever is going on; the loop with tor and the connection has a
thread of its own. This tor is a client only, in the directory of the desk's: what it has fetched makes the desk's own
start quick. Knows no prompts.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from veilsupport import onions, people
from veilsupport.config import Config, XmppSettings
from veilsupport.errors import SetupError, Unavailable
from veilsupport.model import Private
from veilsupport.socks import SocksProxy
from veilsupport.tor import TorDaemon, TorPhase, TorState
from veilsupport.xmpp import Account, probe
from veilsupport.xmpp.account import is_loopback
from veilsupport.xmpp.probe import Answer, Certificate

T = TypeVar("T")

_STILL_SECONDS: Final = 120.0  # without any progress, until the operator is asked what to do


class Rehearsal:
    """From `with` to its end there is a loop, and from its first need on a tor."""

    def __init__(
        self,
        settings: Config,
        tor: Path,
        *,
        on_tor: Callable[[TorState], None],
        still_seconds: float = _STILL_SECONDS,
    ) -> None:
        """`tor`: its directory. `on_tor` is called from another thread, while `account` waits, with every new state."""
        self._settings = onions.client_tor(settings, tor)
        self._on_tor = on_tor
        self._still_seconds = still_seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tor: TorDaemon | None = None
        self._tor_life: asyncio.Task[None] | None = None
        self._tor_stop = asyncio.Event()
        self._tor_moved = asyncio.Event()
        self._is_watched = False

    def __enter__(self) -> Rehearsal:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- what is tried -----------------------------------------------------------------------------------------

    def account(self, xmpp: XmppSettings, password: Private) -> Account:
        """The account, with a tor that is connected where one is needed.

        SetupError: tor cannot be started, or the account would be unsafe. Unavailable: tor does not get through.
        """
        proxy = None if is_loopback(xmpp.address) else self._call(self._connected_tor())
        return people.account_of(xmpp, password, proxy)

    def certificate(self, account: Account) -> Certificate:
        return self._call(probe.certificate(account))

    def sign_in(self, account: Account) -> None:
        self._call(probe.sign_in(account))

    def ring(self, account: Account, admins: Collection[str]) -> Ringing:
        """Send the test message and go on; SetupError and Unavailable come from what is given back."""
        return Ringing(self._loop, account, admins)

    # ---- on the loop -------------------------------------------------------------------------------------------

    def _call(self, doing: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(doing, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _connected_tor(self) -> SocksProxy:
        if self._tor_life is None or self._tor_life.done():
            self._tor = TorDaemon(self._settings, on_change=self._tor_changed)
            self._tor_life = asyncio.create_task(self._tor.run(self._tor_stop))
        assert self._tor is not None
        self._is_watched = True
        try:
            if self._tor.state.phase is not TorPhase.OFF:
                self._on_tor(self._tor.state)
            while self._tor.state.phase is not TorPhase.CONNECTED:
                await self._next_move(self._tor, self._tor_life)
        finally:
            self._is_watched = False
        return self._tor.socks

    async def _next_move(self, tor: TorDaemon, life: asyncio.Task[None]) -> None:
        """Until its progress is another. Unavailable: for long it is not; SetupError: it never will be."""
        self._tor_moved.clear()
        moved = asyncio.create_task(self._tor_moved.wait())
        try:
            done, _ = await asyncio.wait(
                (moved, life), timeout=self._still_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            moved.cancel()
        if life.done():
            life.result()
        if not done:
            raise Unavailable(tor.state.trouble or "tor does not get through to the Tor network")

    def _tor_changed(self, state: TorState) -> None:
        if self._tor_progress(state):
            self._tor_moved.set()
        if self._is_watched:
            self._on_tor(state)

    def _tor_progress(self, state: TorState) -> bool:
        """Trouble alone is no progress, and neither is a tor that dies again and again."""
        return state.trouble is None or state.phase is TorPhase.CONNECTED

    async def _end(self) -> None:
        """All tasks have ended, and tor with them."""
        self._tor_stop.set()
        if self._tor_life is not None:
            with contextlib.suppress(SetupError):
                await self._tor_life
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()


class Ringing:
    """The test message under way: `news` has each answer as it comes, and None at the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, account: Account, admins: Collection[str]) -> None:
        self.news: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._loop = loop
        self._stop = asyncio.Event()
        doing = probe.ring(account, admins, stop=self._stop, on_answer=self.news.put)
        self._doing: concurrent.futures.Future[tuple[Answer, ...]] = asyncio.run_coroutine_threadsafe(doing, loop)
        self._doing.add_done_callback(lambda _: self.news.put(None))

    def answers(self) -> tuple[Answer, ...]:
        """Those that came until now; nobody is waited for any more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        try:
            return self._doing.result()
        except BaseException:
            self._doing.cancel()
            raise
