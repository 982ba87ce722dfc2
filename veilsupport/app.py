"""Composition and life: the only module that knows all edges, and the only one that installs signal handlers.

Order of life: store and desk, then the web server, then tor, then the line to the admins; and the web server
ends after tor, because a page that cannot be fetched while tor lives leaves a visitor's frame with an error that no
reload of its own cures. Expected trouble stays inside its
edge; anything else ends the process, so that whoever supervises it starts it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Final

from veilsupport import bundle, config, controlsocket, log, onions, people, pressure, web
from veilsupport.ageing import Ageing
from veilsupport.alarms import Alarms, Readings
from veilsupport.breaker import Breaker
from veilsupport.config import Config, XmppSettings
from veilsupport.controlsocket import Document
from veilsupport.crypto import ApplianceKey
from veilsupport.desk import Desk
from veilsupport.directory import ONION_KEY, DataDirectory, Onion
from veilsupport.doctor.examination import Patient, examine, forget_test
from veilsupport.errors import SetupError, StoreError
from veilsupport.observing import Observer, Sources
from veilsupport.socks import SocksProxy
from veilsupport.store import Store
from veilsupport.tor import PrivateService, TorDaemon, TorPhase, TorSettings, TorState
from veilsupport.xmpp import Bridge, ContactsBridge, LinkState
from veilsupport.xmpp.account import is_loopback

_LOOK_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Watch:
    """Whom the appliance tells what changes, for the terminal; called on the loop."""

    page: Callable[[int], None]  # the loopback port it is served on, without tor
    tor: Callable[[TorState], None]
    link: Callable[[LinkState], None]


class Appliance:
    """The running whole. Made inside the loop, run once."""

    def __init__(
        self, directory: DataDirectory, settings: Config, key: ApplianceKey, *, port: int | None, watch: Watch
    ) -> None:
        """`port`: serve on that loopback port without tor; None: through tor.

        SetupError: what it is configured for cannot be; or it would publish a restored desk of which there may be two.
        """
        if directory.is_restored and port is None:
            raise SetupError(
                "This desk comes out of a backup and has not been started since.",
                hint="Start it once, so that it is asked whether there is another: veilsupport run",
            )
        self._directory = directory
        self._config = settings
        self._port = port
        self._watch = watch
        self._sites = people.sites_of(settings)
        self._stop = asyncio.Event()
        self._web_stop = asyncio.Event()
        self._bridge_anew = asyncio.Event()  # the admins are others: the line to them has to begin anew
        self._bug: BaseException | None = None
        self._store = Store(directory.database)
        self._desk = Desk(
            self._store,
            key,
            people.admins_of(settings),
            sites=self._sites,
            uses_rooms=people.uses_rooms(settings),
            status=self._status_lines,
        )
        self._alarms = Alarms()
        self._ageing = Ageing(self._desk, directory)
        self._breaker = Breaker()
        self._observer = Observer(settings, directory, self._desk, self._store, sources=self._sources())
        self._is_tidy = False
        self._line_up_since: float | None = None
        self._page_lost_at: float | None = None if port else time.time()
        self._page_key = b""  # of its onion service; without tor there is none
        self._tor = None if port else TorDaemon(self._tor_settings(key), on_change=self._tor_changed)
        self._bridge = self._made_bridge()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises what ended it, if it was something else."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log.loop_exception_handler)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        with contextlib.suppress(StoreError):  # A full disk: visitors can read at least. `_look_around` tries again.
            await self._tidy_up()
        try:
            async with asyncio.TaskGroup() as tasks, controlsocket.served(self._directory.status_socket, self._answer):
                await self._start(tasks)
                await self._stop.wait()
                self._expiry.cancel()
        finally:
            self._desk.close()
            self._store.close()
        if self._bug is not None:
            raise self._bug

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        await self._observer.serve(tasks, stop=self._web_stop)
        ready = asyncio.Event()
        site = web.build(
            self._desk,
            self._observer.limits(),
            key=self._desk.key.forms,
            sites=lambda: self._sites,
            prefix=self._config.web.prefix,
            onion=self._onion,
            clock=time.time,
            on_bug=self._end_with,
            on_answer=self._observer.metrics.request,
            breaker=self._breaker,
            on_flood=self._close_circuit,
        )
        path = None if self._port else self._directory.web_socket
        tasks.create_task(web.serve(site, unix_socket=path, port=self._port, stop=self._web_stop, ready=ready))
        await ready.wait()
        self._observer.site = site
        if self._port:
            self._watch.page(self._port)
        tasks.create_task(self._live_behind_tor())
        if self._bridge:
            tasks.create_task(self._live_with_admins())
        tasks.create_task(self._look_around())
        tasks.create_task(self._watch_pressure())
        self._expiry = tasks.create_task(self._ageing.run())

    async def _live_behind_tor(self) -> None:
        """tor's whole life, and then the web server's end."""
        try:
            await (self._tor.run(self._stop) if self._tor else self._stop.wait())
        finally:
            self._web_stop.set()

    async def _live_with_admins(self) -> None:
        """The line to the admins, begun anew whenever they are others."""
        while self._bridge and not self._stop.is_set():
            self._bridge_anew.clear()
            over = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._bridge.run(over))
                ends = [asyncio.ensure_future(each.wait()) for each in (self._stop, self._bridge_anew)]
                try:
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for end in ends:
                        end.cancel()
                over.set()
            self._bridge = self._made_bridge()

    async def _tidy_up(self) -> None:
        """What an earlier run has left undone."""
        await self._desk.reassign(now=time.time())
        await forget_test(self._desk, now=time.time())
        self._is_tidy = True

    async def _look_around(self) -> None:
        """Each minute: office hours begin and end, and trouble that needs a human is told."""
        while not self._stop.is_set():
            self._look_at_clock()
            now = time.time()
            # A full disk is told as soon as there is room for the words; one that cannot be read, when it can.
            with contextlib.suppress(StoreError, OSError):
                self._desk.attendance_tick(now)
                self._alarms.look(self._readings(now), now=now)
                if not self._store.keeps:
                    await self._store.try_disk()
                if not self._is_tidy:
                    await self._tidy_up()
                for trouble, words in self._alarms.news():
                    await self._desk.announce(words, now=now)
                    self._alarms.told(trouble)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._stop.wait()

    def _look_at_clock(self) -> None:
        """When it was set, what has lasted so long by it begins anew: nobody is to hear of trouble that is not."""
        if step := self._ageing.look_at_clock():
            self._line_up_since = None
            self._page_lost_at = self._page_lost_at and self._page_lost_at + step

    async def _watch_pressure(self) -> None:
        await pressure.watch(
            self._breaker,
            backlog=self._store.backlog,
            clock=time.time,
            on_change=self._pressure_changed,
            stop=self._stop,
        )

    def _pressure_changed(self, pressed: bool) -> None:
        if self._tor:
            self._tor.press(pressed)

    def _close_circuit(self, number: int) -> None:
        """It floods."""
        self._observer.metrics.flood()
        if self._tor:
            self._tor.close_circuit(number)

    def _readings(self, now: float) -> Readings:
        self._line_up_since = (self._line_up_since or now) if self._desk.line_is_up else None
        return Readings(
            page_lost_at=self._page_lost_at,
            tor_trouble=self._tor.state.trouble if self._tor else None,
            disk_free_bytes=shutil.disk_usage(self._directory.path).free,
            oldest_due_at=self._desk.oldest_due_at(),
            line_up_since=self._line_up_since,
            keeps_archive=self._bridge.state.keeps_archive if self._bridge else None,
            pressed_by=self._breaker.cause,
        )

    def _tor_changed(self, state: TorState) -> None:
        if state.phase is TorPhase.REACHABLE:
            self._page_lost_at = None
        elif self._page_lost_at is None:
            self._page_lost_at = time.time()
        self._observer.tor_changed(state)
        self._watch.tor(state)

    def _link_changed(self, state: LinkState) -> None:
        self._observer.metrics.link(state)
        self._watch.link(state)

    def _end_with(self, bug: BaseException) -> None:
        """A request met a bug: let go of everything in order, then report it."""
        self._bug = self._bug or bug
        self._stop.set()

    # ---- settings into parts -----------------------------------------------------------------------------------

    def _onion(self) -> str | None:
        return self._tor.state.address if self._tor else None

    def _page(self) -> str | None:
        """Where the page is; None while that is not known yet."""
        prefix = self._config.web.prefix
        if self._port:
            return f"http://127.0.0.1:{self._port}{prefix}/"
        return f"http://{self._onion()}{prefix}/" if self._onion() else None

    def _tor_settings(self, key: ApplianceKey) -> TorSettings:
        executable, library_path = bundle.tor(self._config.tor.executable)
        onion = self._directory.onion(Onion.PAGE, key)
        self._page_key = (onion / ONION_KEY).read_bytes()
        return TorSettings(
            directory=self._directory.tor,
            onion=onion,
            clients=onions.page_clients(self._config, self._page_key),
            access=onions.access(self._page_key),
            web_socket=self._directory.web_socket,
            private=self._private_service(self._config, key),
            executable=executable,
            library_path=library_path,
            torrc_lines=self._config.tor.lines,
            check_path=self._config.web.prefix + "/check",
        )

    def _private_service(self, settings: Config, key: ApplianceKey) -> PrivateService | None:
        """The operator's own XMPP server as an onion service; None without one."""
        if settings.xmpp_onion is None:
            return None
        directory = self._directory.onion(Onion.XMPP, key)
        return onions.private_service(settings.xmpp_onion, directory, (directory / ONION_KEY).read_bytes())

    def _made_bridge(self) -> Bridge | ContactsBridge | None:
        """None while there is no account. SetupError: its password is missing or does not open."""
        xmpp = self._config.xmpp
        if xmpp is None:
            return None
        password, proxy = people.stored_password(self._store, self._desk.key), self._proxy(xmpp)
        if xmpp.form == "component":
            component = people.component_of(xmpp, password, proxy)
            return ContactsBridge(
                self._desk,
                component,
                on_change=self._link_changed,
                on_sent=self._observer.metrics.sent,
                keeps_archive=xmpp.archive,
            )
        return Bridge(
            self._desk,
            people.account_of(xmpp, password, proxy),
            on_change=self._link_changed,
            on_sent=self._observer.metrics.sent,
            wants_rooms=xmpp.form == "rooms",
            keeps_archive=xmpp.archive,
            strict_devices=xmpp.strict_devices,
            language=lambda site: next(iter(self._desk.site(site).languages), ""),
        )

    def _proxy(self, xmpp: XmppSettings) -> SocksProxy | None:
        """tor's SOCKS port; None (dial directly) for a server on this very machine only."""
        if is_loopback(xmpp.address):
            return None
        if self._tor is None:
            raise SetupError(
                "Without tor only an XMPP server on 127.0.0.1 can be reached, and yours is elsewhere.",
                hint="Leave out --no-tor, or use packaging/run --try for a first look.",
            )
        return self._tor.socks

    # ---- what is going on --------------------------------------------------------------------------------------

    def _status_lines(self) -> list[str]:
        """For `!status`; holds no address, because it travels to phones and archives."""
        lines = [f"Tor: {self._tor.state.summary}"] if self._tor else ["Tor: not used"]
        if self._bridge:
            state = self._bridge.state
            lines.append(f"XMPP: {state.summary}")
            lines.append(f"Visitors: {state.form}")
        return [*lines, *self._alarms.standing]

    def status(self) -> dict[str, Any]:
        """The running truth, for the operator only: it holds the onion address."""
        return self._observer.vitals().status()

    def _sources(self) -> Sources:
        return Sources(
            page=self._page,
            tor=lambda: self._tor.state if self._tor else None,
            link=lambda: self._bridge.state if self._bridge else None,
            trouble=lambda: (*self._alarms.standing, *self._ageing.trouble),
            pressed_by=lambda: self._breaker.cause,
        )

    async def _answer(self, word: str, rest: str) -> AsyncGenerator[Document, None]:
        """What is asked on the control socket; `error` and `hint` when it cannot be done."""
        try:
            match word:
                case "status":
                    yield self.status()
                case "live":
                    yield {"live": True}
                case "ready":
                    yield self._observer.vitals().health()
                case "metrics":
                    yield {"text": self._observer.text()}
                case "reload":
                    await self._reload(config.load(self._directory.path))
                    yield {"sites": sorted(self._sites)}
                case "desk":
                    done, text = await self._desk.operator_commands(str(json.loads(rest)), now=time.time())
                    yield {"done": done, "text": text}
                case "archive":
                    yield await self._desk.operator_archives(rest)
                case "expire":
                    yield await self._desk.operator_expires(rest, now=time.time())
                case "doctor":
                    async with contextlib.aclosing(self._examined(loops_back=json.loads(rest))) as findings:
                        async for finding in findings:
                            yield finding
                case _:
                    hint = "Restart it: it is another version."
                    yield {"error": "The running VeilSupport does not know this.", "hint": hint}
        except SetupError as error:
            yield {"error": error.message, "hint": error.hint}
        except StoreError as error:
            yield {"error": error.message, "hint": "Look at the disk that holds the data directory."}

    def _examined(self, *, loops_back: bool) -> AsyncGenerator[Document, None]:
        patient = Patient(self._config, self._desk, self._tor, self._directory.tor, self._bridge, self._port)
        return examine(patient, loops_back=loops_back)

    async def _reload(self, settings: Config) -> None:
        """Take what can be taken without a new start. SetupError: the private onion service's key cannot be kept."""
        self._sites = people.sites_of(settings)
        self._desk.change_sites(self._sites)
        self._desk.attendance_tick(time.time())
        await self._take_admins(settings)
        if self._tor:
            self._tor.serve(onions.page_clients(settings, self._page_key))
            self._tor.serve_privately(self._private_service(settings, self._desk.key))

    async def _take_admins(self, settings: Config) -> None:
        """Whoever answers from now on; the line to them begins anew, so that nobody else is let near."""
        admins = people.admins_of(settings)
        if admins == self._desk.admins:
            await self._desk.reassign(now=time.time())  # What an earlier reload met a full disk with.
            return
        try:
            await self._desk.change_admins(admins, now=time.time())
        finally:
            self._bridge_anew.set()
