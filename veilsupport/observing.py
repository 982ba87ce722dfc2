"""What is known of the running whole: counts what happens in its parts, and gathers how they stand when somebody asks.

It changes nothing, and waits for nothing: reads run on the loop, so that a writer which its disk holds up cannot hide
that.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import veilsupport
from veilsupport import web
from veilsupport.config import Config
from veilsupport.desk import Desk
from veilsupport.directory import DataDirectory
from veilsupport.errors import StoreError
from veilsupport.limits import Limits
from veilsupport.metrics import Metrics
from veilsupport.model import Standing
from veilsupport.store import SQLITE_VERSION, Store
from veilsupport.tor import TorPhase, TorState
from veilsupport.vitals import Mode, Vitals
from veilsupport.xmpp import LinkState


@dataclass(frozen=True, slots=True)
class Sources:
    """What only the composition knows, at this moment."""

    page: Callable[[], str | None]
    tor: Callable[[], TorState | None]
    link: Callable[[], LinkState | None]
    trouble: Callable[[], tuple[str, ...]]
    pressed_by: Callable[[], str | None] = lambda: None


class Observer:
    """Made once with the parts, whose hooks it takes. `site` is set when it serves."""

    def __init__(
        self, settings: Config, directory: DataDirectory, desk: Desk, store: Store, *, sources: Sources
    ) -> None:
        self.metrics = Metrics()
        self.site: web.Site | None = None
        self._config = settings
        self._directory = directory
        self._desk = desk
        self._store = store
        self._sources = sources
        self._started_at = time.time()
        self._has_passphrase = directory.has_passphrase  # it changes while nothing runs, and only then
        self._reachable_since: float | None = None
        desk.on_said = self.metrics.message
        desk.on_delivery = self.metrics.delivery
        store.tell_commits(self.metrics.commit)

    def limits(self) -> Limits:
        """Whose refusals are counted."""
        limits = Limits()
        limits.on_hit = lambda row: self.metrics.limit(row.name)
        return limits

    def tor_changed(self, state: TorState) -> None:
        if state.phase is not TorPhase.REACHABLE:
            self._reachable_since = None
        elif self._reachable_since is None:
            self._reachable_since = time.time()

    async def serve(self, tasks: asyncio.TaskGroup, *, stop: asyncio.Event) -> None:
        """Health checks and metrics on their port, if they are wanted. SetupError: it is taken."""
        port = self._config.health.port
        if port:
            sources = web.Sources(health=lambda: self.vitals().health(), metrics=self.text)
            ready = asyncio.Event()
            tasks.create_task(web.serve_health(sources, port=port, stop=stop, ready=ready))
            await ready.wait()

    def text(self) -> str:
        """The metrics. StoreError as below."""
        return self.metrics.text(self.vitals())

    def vitals(self) -> Vitals:
        """StoreError: the disk does not even give the numbers."""
        try:
            return self._gathered()
        except OSError:
            raise StoreError("The disk did not give it.") from None

    def _gathered(self) -> Vitals:
        now, tor = time.time(), self._sources.tor()
        return Vitals(
            now=now,
            started_at=self._started_at,
            versions=_versions(tor),
            page=self._sources.page(),
            reachable_since=self._reachable_since,
            tor=tor,
            xmpp=self._sources.link(),
            mode=self._mode(tor, now),
            web_is_up=self.site is not None,
            line_is_up=self._desk.line_is_up,
            store_keeps=self._store.keeps,
            disk_free_bytes=shutil.disk_usage(self._directory.path).free,
            database_bytes=self._directory.database_bytes(),
            admins=len(self._desk.admins),
            conversations_open=self._store.count_conversations(Standing.OPEN),
            backlog=self._store.backlog(),
            oldest_due_at=self._desk.oldest_due_at(),
            pages_open=len(self._desk.listeners),
            streams=self.site.streams if self.site else 0,
            sockets=self.site.sockets if self.site else 0,
            rooms=self._store.count_rooms(),
            trouble=self._sources.trouble(),
            pressed_by=self._sources.pressed_by(),
            remembered=self.site.remembered if self.site else 0,
        )

    def _mode(self, tor: TorState | None, now: float) -> Mode:
        return Mode(
            form=self._config.xmpp.form if self._config.xmpp else None,
            passphrase=self._has_passphrase,
            archive=self._desk.attendance("", now=now).archived,
            private=bool(tor and tor.clients),
        )


def _versions(tor: TorState | None) -> dict[str, str | None]:
    return {
        "veilsupport": veilsupport.__version__,
        "tor": tor.version if tor else None,
        "sqlite": SQLITE_VERSION,
        "python": platform.python_version(),
    }
