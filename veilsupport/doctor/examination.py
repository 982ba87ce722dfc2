"""The running desk, examined from within: tor, clock, the line to the admins, keys, what waits; and the loop-back.

It asks each part for what it knows and says what that means. Nothing is changed but by the loop-back, which takes back
what it did: before anything is written, the token that can burn it is kept, sealed, so that after a crash the next
examination, or the next start, finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from veilsupport import alarms, crypto
from veilsupport.config import Config, XmppSettings
from veilsupport.desk import Desk
from veilsupport.doctor import checks
from veilsupport.doctor.checks import Finding, look, ok, wrong
from veilsupport.doctor.loopback import OVER_TOR, Door, Expected, Patience, loop_back
from veilsupport.errors import SealError, StoreError, Unavailable
from veilsupport.model import Admin, EndToEnd, Private
from veilsupport.tor import TorDaemon, TorPhase, TorState
from veilsupport.tor.inquiry import inquire
from veilsupport.xmpp import Bridge, ContactsBridge, LinkState, Phase
from veilsupport.xmpp.omemo_terms import Device, DeviceTrust
from veilsupport.xmpp.rooms import IN_ROOMS

_MARK: Final = "doctor"  # the setting that holds the token of a test that is still there
_LOOK_SECONDS: Final = 0.2
_CHECK_OLD_SECONDS: Final = 300.0  # self-checks come every minute or so
_KEYS_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined. `tor` None: served on the loopback `port`."""

    settings: Config
    desk: Desk
    tor: TorDaemon | None
    tor_directory: Path
    bridge: Bridge | ContactsBridge | None
    port: int | None
    clock: Callable[[], float] = time.time
    settle_seconds: float = 120.0  # for a desk that has only just been started
    patience: Patience = OVER_TOR


async def examine(patient: Patient, *, loops_back: bool) -> AsyncGenerator[dict[str, Any], None]:
    """Every finding as it is known, as a document for the control socket."""
    async with contextlib.aclosing(_findings(patient, loops_back=loops_back)) as findings:
        async for finding in findings:
            yield asdict(finding)


async def _findings(patient: Patient, *, loops_back: bool) -> AsyncGenerator[Finding, None]:
    for finding in checks.of_process():
        yield finding
    await _settled(patient)
    async for finding in _of_tor(patient):
        yield finding
    async for finding in _of_line(patient):
        yield finding
    yield backlog(patient.desk.store.backlog(), patient.desk.oldest_due_at(), now=patient.clock())
    if not loops_back:
        return
    await forget_test(patient.desk, now=patient.clock())  # of an examination that was cut off
    async with contextlib.aclosing(_looped(patient)) as hops:
        async for finding in hops:
            yield finding


async def _settled(patient: Patient) -> None:
    """Until tor and the line have come to something, well or not."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patient.settle_seconds):
            while _is_on_its_way(patient):  # noqa: ASYNC110 - the parts tell each change to the terminal, and to it alone
                await asyncio.sleep(_LOOK_SECONDS)


def _is_on_its_way(patient: Patient) -> bool:
    tor = patient.tor.state.phase if patient.tor else TorPhase.REACHABLE
    line = patient.bridge.state.phase if patient.bridge else Phase.ONLINE
    tor_settled = tor in (TorPhase.REACHABLE, TorPhase.UNREACHABLE, TorPhase.FAILED)
    return not tor_settled or line in (Phase.OFF, Phase.CONNECTING)


# ---- tor ---------------------------------------------------------------------------------------------------------


async def _of_tor(patient: Patient) -> AsyncIterator[Finding]:
    if patient.tor is None:
        yield look("tor", "Not used: the page is served on this machine only.", "Leave out --no-tor to be reached.")
        return
    told: Mapping[str, str] = {}
    with contextlib.suppress(Unavailable):
        told = await inquire(patient.tor_directory, ("version", "consensus/valid-after", "consensus/valid-until"))
    yield page(patient.tor.state, told.get("version", "").partition(" ")[0], now=patient.clock())
    if private := patient.tor.state.private:
        words = f"Your XMPP server's onion service is {private.summary}."
        yield ok("tor", words) if private.descriptors_uploaded else look("tor", words, "See: veilsupport onion")
    if clocked := clock(told, now=patient.clock()):
        yield clocked


def page(state: TorState, version: str, *, now: float) -> Finding:
    """Whether visitors reach the page."""
    name = f"tor {version}" if version else "tor"
    if state.phase is TorPhase.REACHABLE:
        age = max(0.0, now - (state.checked_at or now))
        words = f"{name}: the page was fetched through Tor {age:.0f} s ago;"
        words += f" {state.descriptors_uploaded} directories hold its descriptor."
        return ok("tor", words) if age < _CHECK_OLD_SECONDS else look("tor", words, "Restart the desk.")
    trouble = f" ({state.trouble})" if state.trouble else ""
    words = f"{name}: {state.summary}{trouble}."
    if state.phase in (TorPhase.UNREACHABLE, TorPhase.FAILED):
        return wrong("tor", words, "Visitors do not reach the page; look at this machine's network and clock.")
    return look("tor", words, "Wait until it is connected; a network that blocks Tor needs bridges ([tor] lines).")


def clock(told: Mapping[str, str], *, now: float) -> Finding | None:
    """By the Tor network's consensus, which says from when to when it holds; None: tor has none yet."""
    try:
        begins, ends = (_instant(told[f"consensus/{key}"]) for key in ("valid-after", "valid-until"))
    except (KeyError, ValueError):
        return None
    hint = "Set this machine's clock; Tor needs it right to the minute."
    if now < begins:
        return wrong("clock", f"It is behind the Tor network's by {(begins - now) / 60:.0f} minutes or more.", hint)
    if now > ends:
        words = f"By it, the Tor network's newest list ended {(now - ends) / 60:.0f} minutes ago."
        return wrong("clock", words, hint + " If it is right, tor has been cut off for as long.")
    return ok("clock", "It agrees with the Tor network's.")


def _instant(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()


# ---- the line to the admins --------------------------------------------------------------------------------------


async def _of_line(patient: Patient) -> AsyncIterator[Finding]:
    xmpp, bridge, admins = patient.settings.xmpp, patient.bridge, patient.desk.admins
    if xmpp is None or bridge is None:
        yield look("xmpp", "No account is set up.", "Run: veilsupport setup")
        return
    yield line(bridge.state, xmpp)
    if bridge.state.phase is not Phase.ONLINE:
        return
    yield archive(bridge.state, xmpp)
    yield form(bridge.state, xmpp)
    sees = bridge.sees if isinstance(bridge, Bridge) else patient.desk.is_seen
    yield presence([each.name for each in admins if sees(each)], [each.name for each in admins])
    if isinstance(bridge, Bridge):
        async for finding in _of_keys(admins, bridge):
            yield finding


def line(state: LinkState, xmpp: XmppSettings) -> Finding:
    if state.phase is Phase.ONLINE:
        return ok("xmpp", f"Connected and signed in; {met(xmpp)}.")
    words = f"{state.summary}{f' ({state.trouble})' if state.trouble else ''}."
    words = words[0].upper() + words[1:]
    if state.phase is Phase.REFUSED:
        return wrong("xmpp", words, "Run: veilsupport setup")
    return wrong("xmpp", words, "Messages are kept meanwhile. Look whether the server runs, and at its address.")


def met(xmpp: XmppSettings) -> str:
    """By what the server was known: one that is not known so gets no password, so being signed in proves it."""
    if xmpp.form == "component" or xmpp.tls == "none":
        return "without TLS: it is on this machine, or its onion address is its key"
    if xmpp.certificate == "verify":
        return "its certificate is valid for its name"
    if xmpp.certificate == "any":
        return "its certificate was not looked at: it is on this machine, or its onion address is its key"
    return "its certificate is the pinned one"


def archive(state: LinkState, xmpp: XmppSettings) -> Finding:
    if xmpp.form == "component":
        words = "A component has none: what admins write while the desk is down comes back to them."
        return look("archive", words, 'form = "rooms", with an account, has one.')
    if state.keeps_archive is False:
        return look("archive", alarms.ARCHIVE, "Ask the server's operator for message archives (XEP-0313).")
    if state.keeps_archive is None:
        return look("archive", "It is not known yet whether the server keeps one.", "Ask again in a minute.")
    ours = "" if xmpp.archive else "; our own lines ask not to be kept"
    return ok("archive", f"The server keeps what is written while the desk is down{ours}.")


def form(state: LinkState, xmpp: XmppSettings) -> Finding:
    words = f"Visitors appear as: {state.form}."
    if xmpp.form == "rooms" and state.form != IN_ROOMS:
        return look("rooms", words, 'Use a server that lets its users make rooms, or set form = "direct".')
    return ok("rooms", words)


def presence(seen: Collection[str], names: Collection[str]) -> Finding:
    """By public names. Nobody in sight may also mean that nobody has accepted us as a contact."""
    if not names:
        return look("admins", "Nobody is set up to answer.", "Run: veilsupport setup")
    if not seen:
        hint = "Each adds the desk's account as a contact, and comes into the room that it invites them to."
        return look("admins", "None can be seen from here.", hint)
    unseen = sorted(set(names) - set(seen))
    but = f"; not at the moment: {', '.join(unseen)}" if unseen else ""
    return ok("admins", f"{len(seen)} of {len(names)} can be seen from here{but}.")


# ---- OMEMO -------------------------------------------------------------------------------------------------------


async def _of_keys(admins: Collection[Admin], bridge: Bridge) -> AsyncIterator[Finding]:
    uri = bridge.state.omemo
    if uri is None:
        yield look("omemo", "It is off for everybody: the server can read all that is said.", 'Set omemo = "prefer".')
        return
    yield ok("omemo", f"Our fingerprint: {uri.rpartition('=')[2]}.")
    devices: dict[str, Collection[Device]] = {}
    for admin in admins:
        try:
            async with asyncio.timeout(_KEYS_SECONDS):
                devices[admin.name] = await bridge.devices_of(admin)
        except (Unavailable, TimeoutError):
            yield look("omemo", f"{admin.name}: their keys could not be fetched.", "Try it again.")
        else:
            yield keys_of(admin, devices[admin.name])
    if bridge.state.form == IN_ROOMS and len(devices) == len(admins):
        yield rooms_sealed([each for each in admins if not each.notify_only], devices)


def keys_of(admin: Admin, devices: Collection[Device]) -> Finding:
    """How what goes to that admin alone leaves, and to which of their devices."""
    counts = {trust: sum(each.trust is trust and each.active for each in devices) for trust in DeviceTrust}
    counted = ", ".join(f"{count} {trust}" for trust, count in counts.items() if count)
    known = f"{admin.name}: {counted or 'no device with keys'}"
    if admin.end_to_end is EndToEnd.OFF:
        return ok("omemo", f"{known}; set to off, so what goes to them alone leaves in the clear.")
    if counts[DeviceTrust.HELD]:
        hint = f"If it is theirs, an admin writes: !trust {admin.name} and the beginning of its fingerprint"
        return look("omemo", f"{known}; what is held gets nothing.", hint)
    if counts[DeviceTrust.TRUSTED]:
        return ok("omemo", f"{known}; what goes to them leaves encrypted.")
    hint = "They turn OMEMO on in their app, and open the chat with the desk."
    if devices or admin.end_to_end is EndToEnd.REQUIRE:
        return wrong("omemo", f"{known}; nothing can go to them encrypted, so no words of visitors do.", hint)
    return look("omemo", f"{known}; what goes to them leaves in the clear.", hint)


def rooms_sealed(readers: Collection[Admin], devices: Mapping[str, Collection[Device]]) -> Finding:
    """As sealing.py decides it: when somebody requires it, or all of them ever showed keys and none is set to off."""
    spoilers = [each.name for each in readers if each.end_to_end is EndToEnd.OFF or not devices[each.name]]
    if any(each.end_to_end is EndToEnd.REQUIRE for each in readers) or not spoilers:
        return ok("omemo", "What is said in rooms leaves encrypted.")
    hint = 'One who requires it (omemo = "require") makes it so for all, and those who cannot read are told.'
    return look("omemo", f"What is said in rooms leaves in the clear, because of: {', '.join(spoilers)}.", hint)


# ---- what waits, and the loop-back -------------------------------------------------------------------------------


def backlog(waiting: int, oldest_at: float | None, *, now: float) -> Finding:
    if not waiting or oldest_at is None:
        return ok("backlog", "Nothing waits to be delivered.")
    minutes = max(0, int((now - oldest_at) // 60))
    words = f"{waiting} waiting to be delivered, the oldest for {minutes} min."
    if now - oldest_at < alarms.BACKLOG_SECONDS:
        return ok("backlog", words)
    return look("backlog", words, "Look at the lines on xmpp and omemo above.")


def expected_of(patient: Patient) -> Expected:
    """Whether a message from the desk's own page can be seen to be handed over."""
    readers = patient.desk.admins_of("")
    if patient.bridge is None:
        return Expected("no account is set up")
    if not readers:
        return Expected("nobody answers on the desk's own page")
    if all(each.notify_only for each in readers):
        return Expected("all who answer are only told that there is a message, until they ask for it")
    if patient.bridge.state.phase is not Phase.ONLINE:
        return Expected("there is no connection to the admins' server")
    return Expected()


async def _looped(patient: Patient) -> AsyncGenerator[Finding, None]:
    door = _door(patient)
    if isinstance(door, Finding):
        yield door
        return

    async def remember(token: Private | None) -> None:
        await _remember(patient.desk, token)

    hops = loop_back(door, expected_of(patient), remember=remember, patience=patient.patience)
    try:
        async with contextlib.aclosing(hops):
            async for finding in hops:
                yield finding
    finally:
        await forget_test(patient.desk, now=patient.clock())


def _door(patient: Patient) -> Door | Finding:
    prefix = patient.settings.web.prefix
    if patient.tor is None:
        return Door("127.0.0.1", patient.port or 0, None, prefix)
    address = patient.tor.state.address
    if address is None or patient.tor.state.phase is not TorPhase.REACHABLE:
        return wrong("loop-back", "Not tried: the page cannot be reached through Tor.", "See the line on tor above.")
    return Door(address, 80, patient.tor.socks, prefix)


async def forget_test(desk: Desk, *, now: float) -> None:
    """Burn what a loop-back has left behind; nothing when it left nothing. To be called at each start, too."""
    with contextlib.suppress(SealError, StoreError):
        sealed = desk.store.setting(_MARK)
        if sealed is None:
            return
        session = desk.open_session(Private(crypto.unwrap_text(desk.key.settings, sealed, _MARK.encode())))
        if session is not None:
            await desk.visitor_burns(session, now=now)
        await _remember(desk, None)


async def _remember(desk: Desk, token: Private | None) -> None:
    if token is None:
        await desk.store.forget_setting(_MARK)
        return
    await desk.store.set_setting(_MARK, crypto.wrap_text(desk.key.settings, token.reveal(), _MARK.encode()))
