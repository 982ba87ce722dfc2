"""Our own tor, supervised: started, followed while it connects, checked from outside, started again, ended.

stem's launcher does not fit (facts/tor.md): it cannot set the environment, feeds the torrc through stdin, so
that the first SIGHUP kills tor, and closes tor's output. So the process is asyncio's (child.py), and stem has
the control port (control.py).

tor cannot outlive us: the control connection owns it, and before that is up tor watches our process id.
Whenever tor ends by itself, hangs, or that connection breaks, it is started again with the same key and address.

Without an onion service of the page's it is a client only: connected, and nothing is published or checked.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from veilsupport.errors import SetupError, Unavailable
from veilsupport.socks import SocksProxy
from veilsupport.tor.child import Child, find_executable, launch, locked, set_within
from veilsupport.tor.control import Control
from veilsupport.tor.onion import (
    OURSELVES,
    Client,
    PrivateService,
    TorSettings,
    check_reachable,
    prepare_directories,
    read_address,
    write_torrc,
)
from veilsupport.tor.state import (
    STALLED,
    ControlLost,
    DescriptorUploaded,
    Liveness,
    News,
    PrivateState,
    TorPhase,
    TorState,
    after,
    checked_badly,
    checked_well,
    connected,
    published_anew,
    restarting,
    starting,
)

logger = logging.getLogger("veilsupport.tor")

_CONTROL_SECONDS: Final = 30  # for the control port to answer after the start
_UPLOAD_SECONDS: Final = 60  # for the first descriptor upload, before we check anyway
_RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0)  # after that many failed self-checks
_SETTLED_SECONDS: Final = 60  # a tor that lived as long is restarted without back-off
_FIRST_DELAY_SECONDS: Final = 0.2
_FLOODING_MAX: Final = 256  # circuits that wait to be closed
_LONGEST_DELAY_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Life:
    """One tor from its start to its end."""

    child: Child
    settings: TorSettings  # what this tor has read
    over: asyncio.Event = field(default_factory=asyncio.Event)
    bootstrapped: asyncio.Event = field(default_factory=asyncio.Event)
    check_now: asyncio.Event = field(default_factory=asyncio.Event)
    directories: set[str] = field(default_factory=set)  # fingerprints of those that hold our descriptor
    private_directories: set[str] = field(default_factory=set)  # the same for the private service


class TorDaemon:
    """Runs tor for as long as `run` runs. Does not know who uses the address it gives."""

    def __init__(self, settings: TorSettings, *, on_change: Callable[[TorState], None]) -> None:
        """`on_change` is called on the event loop with every new state."""
        self.state = TorState(clients=_count(settings.clients), private=_private_state(settings))
        self.socks = SocksProxy(settings.socks_socket)
        self._settings = settings
        self._on_change = on_change
        self._changed = asyncio.Event()  # the settings
        self._flooding: dict[int, None] = {}  # circuits to close, each once, the first one first
        self._flood = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; tor has ended on return. Expected trouble stays inside and is told in `state`.

        Raises SetupError when tor cannot be started as it is configured.
        """
        try:
            prepare_directories(self._settings)
            async with locked(self._settings, stop, on_wait=self._note_leftover) as lock_fd:
                await self._supervise(lock_fd, stop)
        except SetupError as error:
            self._become(replace(self.state, phase=TorPhase.FAILED, summary=error.message))
            raise
        self._become(
            TorState(
                address=self.state.address,
                restarts=self.state.restarts,
                clients=_count(self._settings.clients),
                private=_private_state(self._settings),
            )
        )

    def serve_privately(self, service: PrivateService | None) -> None:
        """Change the private service or its clients; a running tor takes it at once.

        When somebody is no client any more, all connections to it are cut: those who still are come back.
        """
        if service == self._settings.private:
            return
        self._settings = replace(self._settings, private=service)
        self._become(replace(self.state, private=_private_state(self._settings)))
        self._changed.set()

    def press(self, pressed: bool) -> None:
        """Too many want in, or no more: a running tor asks for proof of work sooner. Open connections go on."""
        if pressed != self._settings.pressed:
            self._settings = replace(self._settings, pressed=pressed)
            self._changed.set()

    def close_circuit(self, number: int) -> None:
        """Whoever came over it floods. When too many wait to be closed, this one goes on for now."""
        if len(self._flooding) < _FLOODING_MAX:
            self._flooding[number] = None
            self._flood.set()

    def serve(self, clients: tuple[Client, ...]) -> None:
        """Change who may reach the page; a running tor takes it at once. With none everybody may.

        When somebody may no more, everybody when it was open to all, all connections to it are cut.
        """
        if clients == self._settings.clients:
            return
        self._settings = replace(self._settings, clients=clients)
        self._become(replace(self.state, clients=_count(clients)))
        self._changed.set()

    async def _supervise(self, lock_fd: int, stop: asyncio.Event) -> None:
        executable = await find_executable(self._settings)
        delay = _FIRST_DELAY_SECONDS
        while not stop.is_set():
            started_at = time.monotonic()
            self._become(starting(self.state))
            settings = self._settings
            life = _Life(await launch(settings, executable, lock_fd=lock_fd), settings)
            await self._live(life, stop)
            if stop.is_set():
                return
            if self.state.restarts == 0:
                life.child.raise_if_misconfigured()
            logger.warning("tor ended; it is started again")
            self._become(restarting(self.state, life.child.why_ended()))
            await set_within(stop, delay)
            settled = time.monotonic() - started_at > _SETTLED_SECONDS
            delay = _FIRST_DELAY_SECONDS if settled else min(delay * 2, _LONGEST_DELAY_SECONDS)

    async def _live(self, life: _Life, stop: asyncio.Event) -> None:
        """From the started tor to its end: by itself, because we lost control of it, or by `stop`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(life.child.read_complaints())  # this and the next end with tor
            tasks.create_task(_watch_exit(life))
            attendant = tasks.create_task(self._attend(life))
            stopper = tasks.create_task(_relay(stop, life.over))
            try:
                await life.over.wait()
            finally:
                stopper.cancel()
                attendant.cancel()
                await life.child.end()

    async def _attend(self, life: _Life) -> None:
        """Take control, let tor dial, and check for ever that we can be reached, if we publish anything."""
        control = None
        try:
            control = await Control.connect(self._settings.control_socket, timeout_seconds=_CONTROL_SECONDS)
            self._become(replace(self.state, version=await control.version()))
            if self._settings.onion is not None:
                self._become(replace(self.state, address=read_address(self._settings)))
            await control.listen(lambda news: self._hear(life, news))
            await control.release_network()
            await self._admit_ourselves(control)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take_changes(life, control))
                tasks.create_task(self._close_flooding(control))
                await self._bootstrap(life)
                if self._settings.onion is None:
                    self._become(connected(self.state))
                else:
                    await set_within(life.check_now, _UPLOAD_SECONDS)
                    await self._check_for_ever(life, control)
        except* Unavailable:
            logger.warning("tor cannot be controlled")
            life.over.set()
        finally:
            if control is not None:
                await control.close()

    async def _take_changes(self, life: _Life, control: Control) -> None:
        """Let tor read what has changed since it was started, and whatever changes from now on."""
        while True:
            self._changed.clear()
            if life.settings is not self._settings:
                before, life.settings = life.settings, self._settings
                self._count_anew(life, before)
                try:
                    await _read_changed(before, life.settings, control)
                    logger.info("tor has read its changed settings")
                except SetupError:
                    if replace(before, pressed=life.settings.pressed) != life.settings:
                        raise
                    # A full disk in a rush: who may come in is the same, so tor goes on, and asks for less work.
                    life.settings = before
                    logger.warning("tor's settings cannot be written, so it goes on with those that it has")
            await self._changed.wait()

    async def _close_flooding(self, control: Control) -> None:
        self._flooding.clear()  # An earlier tor's circuits went with it, and their numbers may come again.
        while True:
            self._flood.clear()
            while self._flooding:
                number = next(iter(self._flooding))
                await control.close_circuit(number)
                self._flooding.pop(number, None)
            await self._flood.wait()

    def _count_anew(self, life: _Life, before: TorSettings) -> None:
        """Descriptors that were uploaded for other clients count no more."""
        if life.settings.private != before.private:
            life.private_directories.clear()
        if life.settings.clients != before.clients:
            life.directories.clear()
            self._become(published_anew(self.state))

    async def _admit_ourselves(self, control: Control) -> None:
        if self._settings.access is not None:
            await control.admit(self._settings.access)

    def _hear(self, life: _Life, news: News) -> None:
        if life.over.is_set():
            return
        state = after(self.state, news)
        if state.phase is TorPhase.PUBLISHING:
            life.bootstrapped.set()
        if state.phase is not TorPhase.PUBLISHING or self._settings.onion is not None:  # else it is `connected` soon
            self._become(state)
        match news:
            case ControlLost():
                life.over.set()
            case DescriptorUploaded(address, directory) if address == self.state.address:
                self._count_upload(life, directory)
            case DescriptorUploaded(address, directory) if self.state.private and address == self.state.private.address:
                life.private_directories.add(directory)
                private = replace(self.state.private, descriptors_uploaded=len(life.private_directories))
                self._become(replace(self.state, private=private))
            case Liveness(up=True) if self.state.phase is TorPhase.UNREACHABLE:
                life.check_now.set()

    def _count_upload(self, life: _Life, directory: str) -> None:
        life.directories.add(directory)
        self._become(replace(self.state, descriptors_uploaded=len(life.directories), descriptor_at=time.time()))
        if len(life.directories) == 1 or self.state.phase is TorPhase.UNREACHABLE:
            life.check_now.set()

    async def _bootstrap(self, life: _Life) -> None:
        """Until tor is connected, however long that takes; says so when nothing moves."""
        while not life.bootstrapped.is_set():
            before = self.state.progress
            if await set_within(life.bootstrapped, self._settings.stall_seconds):
                break
            if self.state.progress == before and self.state.trouble is None:
                self._become(replace(self.state, trouble=STALLED))
        logger.info("tor is connected to the Tor network")

    async def _check_for_ever(self, life: _Life, control: Control) -> None:
        failures = 0
        while True:
            life.check_now.clear()
            await control.answers()  # A tor that hangs is as good as none: it is started again.
            await self._admit_ourselves(control)  # tor forgets it whenever it is given other settings.
            trouble = await self._trouble_reaching_us()
            if trouble is None:
                failures = 0
                self._become(checked_well(self.state, now=time.time()))
                pause = self._settings.check_seconds * secrets.SystemRandom().uniform(0.75, 1.25)
            else:
                failures += 1
                self._become(checked_badly(self.state, trouble, failures=failures, now=time.time()))
                pause = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1]
            await set_within(life.check_now, pause)

    async def _trouble_reaching_us(self) -> str | None:
        assert self.state.address is not None
        try:
            await check_reachable(self.socks, self.state.address, self._settings.check_path)
        except Unavailable as error:
            return error.message
        return None

    def _note_leftover(self) -> None:
        self._become(replace(self.state, summary="waiting for an earlier tor to end"))

    def _become(self, state: TorState) -> None:
        before, self.state = self.state, state
        if state == before:
            return
        if state.phase is not before.phase and state.phase in {TorPhase.REACHABLE, TorPhase.UNREACHABLE}:
            logger.info("the onion service is %s", state.phase.value)
        self._on_change(state)


def _private_state(settings: TorSettings) -> PrivateState | None:
    service = settings.private
    return PrivateState(service.address, len(service.clients)) if service else None


async def _read_changed(before: TorSettings, after: TorSettings, control: Control) -> None:
    """SetupError: they cannot be written."""
    without = _without_lost_clients(before, after)
    if without != after:
        # Off the network first, so that it comes back with introduction points that nobody knows. When only
        # its clients change tor keeps them (measured on 0.4.9), and whoever has read where they are comes
        # in by them for hours. Its circuits, which carry new connections too, end with it.
        await _read_again(without, control)
    await _read_again(after, control)


async def _read_again(settings: TorSettings, control: Control) -> None:
    write_torrc(settings, online=True)
    await control.reload()


def _without_lost_clients(before: TorSettings, after: TorSettings) -> TorSettings:
    """`after`, less each service that somebody may reach no more."""
    was, now = (set(each.private.clients if each.private else ()) for each in (before, after))
    page_was, page_is = set(before.clients), set(after.clients)  # with none, everybody may
    cuts_page = bool(page_is) and not (page_was and page_was <= page_is)
    return replace(after, onion=None if cuts_page else after.onion, private=after.private if was <= now else None)


def _count(clients: tuple[Client, ...]) -> int:
    """Without our own tor."""
    return sum(client.name != OURSELVES for client in clients)


async def _watch_exit(life: _Life) -> None:
    await life.child.process.wait()
    life.over.set()


async def _relay(source: asyncio.Event, target: asyncio.Event) -> None:
    await source.wait()
    target.set()
