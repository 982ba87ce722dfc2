"""What is known about our tor, in words that an operator understands. Pure: no tor, no clock.

`TorState` is the whole truth that the rest of the program sees. `after` turns a piece of news from tor's
control port into the next state; the functions below it do the same for the daemon's own steps.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, assert_never


class TorPhase(StrEnum):
    """Where tor stands on its way to a reachable onion service."""

    OFF = "off"
    STARTING = "starting"  # the child process runs, its control port does not answer yet
    BOOTSTRAPPING = "bootstrapping"
    CONNECTED = "connected"  # to the Tor network, as a client only: nothing is to be published
    PUBLISHING = "publishing"  # connected to the Tor network; no self-check has succeeded yet
    REACHABLE = "reachable"  # the latest self-check fetched our own page through Tor
    UNREACHABLE = "unreachable"  # several self-checks in a row failed
    RESTARTING = "restarting"  # tor ended by itself; waiting to start it again
    FAILED = "failed"  # tor cannot be started as it is configured


@dataclass(frozen=True, slots=True)
class PrivateState:
    """What is known of the private onion service; `summary` is plain words and holds no address."""

    address: str = field(repr=False)
    clients: int  # that are authorised; with none it is not published
    descriptors_uploaded: int = 0  # directories that hold its descriptor since tor started or the clients changed
    summary: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "summary", self._words())

    def _words(self) -> str:
        if not self.clients:
            return "not published: no client is authorised"
        if not self.descriptors_uploaded:
            return "not published yet"
        return f"published, for {self.clients} client{'s' if self.clients > 1 else ''}"


@dataclass(frozen=True, slots=True)
class TorState:
    """`summary` and `trouble` are plain words and hold no address; instants are Unix seconds."""

    phase: TorPhase = TorPhase.OFF
    progress: int = 0  # tor's own bootstrap percentage, 0 to 100
    summary: str = "tor is off"
    address: str | None = field(default=None, repr=False)  # …onion; known as soon as tor has made the key
    checked_at: float | None = None  # when the latest self-check ended, well or not
    descriptors_uploaded: int = 0  # directories that hold our descriptor since this tor started
    descriptor_at: float | None = None  # when the latest of them took it; None before the first
    version: str | None = None  # tor's own; None until it has been asked
    clients: int = 0  # who may reach the page; 0: everybody
    restarts: int = 0
    trouble: str | None = None  # what stands in the way, or why tor ended; None when all is well
    private: PrivateState | None = None  # None: there is no private service


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """tor's progress; `problem` is control-spec's REASON when it reports trouble on the way, else None."""

    progress: int
    summary: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class DescriptorUploaded:
    """One directory of the Tor network took our descriptor. A fact, but no proof of being reachable."""

    address: str = field(repr=False)
    directory: str


@dataclass(frozen=True, slots=True)
class ClockSkew:
    """How far our clock is from the Tor network's: negative when ours is slow, None when tor does not say."""

    seconds: int | None


@dataclass(frozen=True, slots=True)
class Liveness:
    """Whether tor hears anything at all from the network. Up proves nothing (facts: it stays up for ever)."""

    up: bool


@dataclass(frozen=True, slots=True)
class ControlLost:
    """The control connection is gone; tor, which we own through it, ends too."""


News = Bootstrap | DescriptorUploaded | ClockSkew | Liveness | ControlLost

STALLED: Final = "no progress for a while; this network may block Tor, in which case bridges help"
NO_NETWORK: Final = "tor hears nothing from the network; the internet connection may be down"
_CLOCK: Final = "this machine's clock is wrong"
_UNREACHED: Final = "tor cannot reach the Tor network"
_PROBLEMS: Final = {  # control-spec §4.1.10, REASON
    "NOROUTE": "there is no route to the Tor network; the internet connection may be down",
    "CONNECTREFUSED": "connections to the Tor network are refused; a firewall may block Tor",
    "TIMEOUT": "connections to the Tor network time out; a firewall may block Tor",
    "CONNECTRESET": "connections to the Tor network are cut; a firewall may block Tor",
    "TLS_ERROR": "connections to the Tor network are tampered with or cut; a firewall may block Tor",
    "IDENTITY": "something else answers in place of the Tor network",
    "RESOURCELIMIT": "this machine has no resources left for more connections",
    "PT_MISSING": "the program for the configured bridges (pluggable transport) is missing",
}


def after(state: TorState, news: News) -> TorState:
    """The state once this news has arrived; the same object when nothing changes."""
    match news:
        case Bootstrap():
            return _bootstrapped(state, news)
        case ClockSkew(seconds):
            return replace(state, trouble=_clock_words(seconds))
        case Liveness(up):
            return _heard(state) if up else replace(state, trouble=NO_NETWORK)
        case DescriptorUploaded() | ControlLost():
            return state  # counted, and acted on, by the daemon
        case _:
            assert_never(news)


def starting(state: TorState) -> TorState:
    """A new tor is launched; what ended the last one stays told until this one gets somewhere."""
    return replace(
        state,
        phase=TorPhase.STARTING,
        progress=0,
        summary="tor is starting",
        descriptors_uploaded=0,
        private=_unpublished(state.private),
    )


def restarting(state: TorState, why: str) -> TorState:
    """tor ended without our asking."""
    return replace(
        state,
        phase=TorPhase.RESTARTING,
        summary="tor ended; it is started again",
        trouble=why,
        restarts=state.restarts + 1,
        private=_unpublished(state.private),
    )


def connected(state: TorState) -> TorState:
    """A client only is where it wants to be."""
    return replace(state, phase=TorPhase.CONNECTED, progress=100, summary="connected to the Tor network", trouble=None)


def published_anew(state: TorState) -> TorState:
    """The page's clients are others, so that it has to be found and fetched again."""
    if state.phase not in {TorPhase.PUBLISHING, TorPhase.REACHABLE, TorPhase.UNREACHABLE}:
        return state
    return replace(
        state,
        phase=TorPhase.PUBLISHING,
        summary="the onion service is being published for its changed clients",
        descriptors_uploaded=0,
    )


def checked_well(state: TorState, *, now: float) -> TorState:
    """A self-check fetched our own page."""
    return replace(
        state,
        phase=TorPhase.REACHABLE,
        summary="reachable: we have fetched our own page through Tor",
        checked_at=now,
        trouble=None,
    )


def checked_badly(state: TorState, trouble: str, *, failures: int, now: float) -> TorState:
    """The self-check failed (`failures` in a row). Once is weather; a fresh service gets more patience."""
    patience = 2 if state.phase is TorPhase.REACHABLE else 4
    if failures < patience:
        return replace(state, checked_at=now)
    return replace(
        state,
        phase=TorPhase.UNREACHABLE,
        summary="not reachable: our own page does not come back through Tor; trying again",
        checked_at=now,
        trouble=NO_NETWORK if state.trouble == NO_NETWORK else trouble,
    )


def _unpublished(private: PrivateState | None) -> PrivateState | None:
    return private and replace(private, descriptors_uploaded=0)


def _heard(state: TorState) -> TorState:
    return replace(state, trouble=None) if state.trouble == NO_NETWORK else state


def _bootstrapped(state: TorState, news: Bootstrap) -> TorState:
    if state.phase not in {TorPhase.STARTING, TorPhase.BOOTSTRAPPING}:
        return state
    if news.problem is not None:
        trouble = state.trouble if _is_about_clock(state) else _PROBLEMS.get(news.problem, _UNREACHED)
        return replace(state, trouble=trouble)
    if news.progress >= 100:
        return replace(
            state,
            phase=TorPhase.PUBLISHING,
            progress=100,
            summary="connected to the Tor network; the onion service is being published",
            trouble=None,
        )
    # A wrong clock lets tor advance a little and then fail: keep saying so until the end.
    further = news.progress > state.progress and not _is_about_clock(state)
    return replace(
        state,
        phase=TorPhase.BOOTSTRAPPING,
        progress=news.progress,
        summary=news.summary or state.summary,
        trouble=None if further else state.trouble,
    )


def _is_about_clock(state: TorState) -> bool:
    return state.trouble is not None and state.trouble.startswith(_CLOCK)


def _clock_words(seconds: int | None) -> str:
    if seconds is None or abs(seconds) < 60:
        return f"{_CLOCK}; Tor needs the right time"
    minutes = abs(seconds) // 60
    amount = f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
    return f"{_CLOCK}: about {amount} {'slow' if seconds < 0 else 'fast'}; Tor needs the right time"


def parse_bootstrap(line: str) -> Bootstrap:
    """Read `NOTICE BOOTSTRAP PROGRESS=50 TAG=… SUMMARY="…"` (GETINFO status/bootstrap-phase).

    Raises ValueError when it is something else.
    """
    words = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
    return bootstrap_from(words)


def bootstrap_from(words: dict[str, str]) -> Bootstrap:
    """The same from the keywords of a STATUS_CLIENT event. Raises ValueError when PROGRESS is no number."""
    progress = int(words.get("PROGRESS", ""))
    problem = words.get("REASON", "MISC") if "WARNING" in words else None
    return Bootstrap(min(max(progress, 0), 100), words.get("SUMMARY", ""), problem)
