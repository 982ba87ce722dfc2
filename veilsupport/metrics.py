"""The numbers of one run, in the text that Prometheus reads: one table, and nothing in it that names a person.

What happens is counted through hooks that the composition hangs into the other parts, which do not know this one; what
merely stands is read off `Vitals` when somebody asks. Every label has a closed set of values that we wrote ourselves: a
request is its route's template and never its path, a limit is its row in limits.py, and sites, aliases, admins and
addresses are no labels at all. How long a delivery took is not on disk (instants there are minutes): stanza ids, which
are random, are remembered here from the making to the acknowledgement, for so many as a busy day has.

A count costs about half a microsecond, a commit two, an acknowledgement three.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from veilsupport.model import Author, DeliveryKind, DeliveryStep
from veilsupport.tor import TorPhase
from veilsupport.vitals import Vitals
from veilsupport.xmpp import LinkState, Phase

disable_created_metrics()  # type: ignore[no-untyped-call]  # They would say in which second the first visitor came.

UNDER_WAY_MAX: Final = 10_000
_DELAY_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_COMMIT_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_COMMIT_WRITES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_COUNTERS: Final = {
    "requests": ("Answers begun, by the route's template and status; 101 is an opened WebSocket.", ("route", "status")),
    "messages": ("Messages kept, by who wrote them.", ("author",)),
    "deliveries": ("What became of deliveries to the admins; `again`: the connection was lost.", ("kind", "outcome")),
    "stanzas_sent": ("Deliveries given to the XMPP connection, every attempt.", ("kind", "encrypted")),
    "circuits_closed": ("Circuits of Tor that were closed because they flooded.", ()),
    "limits_hit": ("Refusals because somebody was too fast, by the limit.", ("limit",)),
    "commits": ("Transactions of the store, by whether the disk took them.", ("kept",)),
    "xmpp_connections": ("How often the line to the admins came up.", ()),
}
_GAUGES: Final = {
    "up_seconds": "Since the appliance was started.",
    "ready": "Whether every part is ready.",
    "backlog": "Deliveries that the XMPP server has not acknowledged.",
    "backlog_oldest_seconds": "Age of the oldest of them, to the minute; 0 without any.",
    "conversations_open": "Open conversations.",
    "streams": "Live pages that are open.",
    "sockets": "WebSockets that are signed in.",
    "pressed": "Whether new conversations need a puzzle, because there is too much of something.",
    "remembered": "Strangers' doings that limits, guesses and puzzles hold in memory.",
    "rooms": "Conversations that have a room.",
    "admins": "Admins in the settings.",
    "database_bytes": "The database and its log.",
    "disk_free_bytes": "Room left on the disk of the data directory.",
    "xmpp_up": "Whether the line to the admins is up.",
    "tor_bootstrap_percent": "How far tor is connected.",
    "tor_descriptors": "Directories that hold the page's descriptor.",
    "tor_restarts": "How often tor ended by itself.",
}


class Metrics:
    """Counted on the loop's thread, commits on the store's."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        self._counters = {
            name: Counter(f"veilsupport_{name}", words, labels, registry=self._registry)
            for name, (words, labels) in _COUNTERS.items()
        }
        self._children: dict[tuple[str, ...], Counter] = {}  # `labels` takes three times as long as counting
        self._gauges = {
            name: Gauge(f"veilsupport_{name}", words, registry=self._registry) for name, words in _GAUGES.items()
        }
        self._part_ready = Gauge(
            "veilsupport_part_ready", "Whether that part is ready.", ("part",), registry=self._registry
        )
        self._tor_phase = Gauge(
            "veilsupport_tor_phase", "1 for where tor stands, 0 for the rest.", ("phase",), registry=self._registry
        )
        self._link_phase = Phase.OFF
        self._built = Gauge("veilsupport_build", "Always 1.", ("version", "tor"), registry=self._registry)
        self._descriptor_age: Gauge | None = None  # once there is a descriptor
        self._delay = self._histogram(
            "delivery_delay_seconds", "From accepted to acknowledged by the XMPP server.", _DELAY_SECONDS, ("kind",)
        )
        self._commit_seconds = self._histogram("commit_seconds", "How long a transaction took.", _COMMIT_SECONDS)
        self._commit_writes = self._histogram("commit_writes", "Writes in one transaction.", _COMMIT_WRITES)
        # Stanza id → (its kind, when it was made; None: by an earlier run, or it waits until an admin asks).
        self._under_way: OrderedDict[str, tuple[DeliveryKind, float | None]] = OrderedDict()

    # ---- what happens ----------------------------------------------------------------------------------------

    def request(self, route: str, status: int) -> None:
        self._count("requests", route, str(status))

    def message(self, author: Author) -> None:
        self._count("messages", author.value)

    def limit(self, limit: str) -> None:
        self._count("limits_hit", limit)

    def flood(self) -> None:
        """A circuit is being closed."""
        self._count("circuits_closed")

    def sent(self, kind: DeliveryKind, encrypted: bool) -> None:
        self._count("stanzas_sent", kind.value, "yes" if encrypted else "no")

    def link(self, state: LinkState) -> None:
        """How the line to the admins stands now."""
        if state.phase is Phase.ONLINE and self._link_phase is not Phase.ONLINE:
            self._count("xmpp_connections")
        self._link_phase = state.phase

    def commit(self, writes: int, seconds: float, kept: bool) -> None:
        self._count("commits", "yes" if kept else "no")
        self._commit_seconds.observe(seconds)
        self._commit_writes.observe(writes)

    def delivery(self, stanza_id: str, step: DeliveryStep, kind: DeliveryKind | None = None) -> None:
        """`kind` comes with its making, or when it is seen to be due; what is not known here is not counted."""
        if kind is not None:
            self._remember(stanza_id, kind, self._clock() if step is DeliveryStep.MADE else None)
            return
        known = self._under_way.get(stanza_id)
        if known is None:
            return
        kind, made_at = known
        if step is DeliveryStep.HELD:
            self._under_way[stanza_id] = (kind, None)
            return
        self._count("deliveries", kind.value, step.value)
        if step is DeliveryStep.ACKNOWLEDGED:
            del self._under_way[stanza_id]
            if made_at is not None:
                self._delay.labels(kind.value).observe(self._clock() - made_at)

    def _remember(self, stanza_id: str, kind: DeliveryKind, at: float | None) -> None:
        """The oldest is forgotten when there are too many: it was burned, or never kept, or waits for a dead server."""
        if stanza_id not in self._under_way and len(self._under_way) >= UNDER_WAY_MAX:
            self._under_way.popitem(last=False)
        self._under_way.setdefault(stanza_id, (kind, at))

    def _count(self, name: str, *labels: str) -> None:
        child = self._children.get((name, *labels))
        if child is None:
            counter = self._counters[name]
            child = self._children[name, *labels] = counter.labels(*labels) if labels else counter
        child.inc()

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(f"veilsupport_{name}", words, labels, buckets=buckets, registry=self._registry)

    # ---- what stands -----------------------------------------------------------------------------------------

    def text(self, vitals: Vitals) -> str:
        """Everything, in the text format 0.0.4."""
        for name, value in _standing(vitals).items():
            self._gauges[name].set(value)
        self._part_ready.clear()
        for part in vitals.parts:
            self._part_ready.labels(part.name).set(part.ready)
        self._built.clear()
        self._built.labels(vitals.version, vitals.versions["tor"] or "").set(1)
        if vitals.tor:
            for phase in TorPhase:
                self._tor_phase.labels(phase.value).set(phase is vitals.tor.phase)
            self._age_of_descriptor(vitals)
        return generate_latest(self._registry).decode()

    def _age_of_descriptor(self, vitals: Vitals) -> None:
        """Without a descriptor there is no line: an age of nothing would be a wrong number."""
        if self._descriptor_age is not None:
            self._registry.unregister(self._descriptor_age)
            self._descriptor_age = None
        if vitals.tor and vitals.tor.descriptors_uploaded and vitals.tor.descriptor_at is not None:
            words = "Since a directory last took the page's descriptor."
            self._descriptor_age = Gauge("veilsupport_tor_descriptor_age_seconds", words, registry=self._registry)
            self._descriptor_age.set(max(0.0, vitals.now - vitals.tor.descriptor_at))


def _standing(vitals: Vitals) -> dict[str, float]:
    tor = vitals.tor
    return {
        "up_seconds": vitals.now - vitals.started_at,
        "ready": vitals.is_ready,
        "backlog": vitals.backlog,
        "backlog_oldest_seconds": vitals.oldest_waiting_seconds or 0,
        "conversations_open": vitals.conversations_open,
        "streams": vitals.streams,
        "sockets": vitals.sockets,
        "pressed": vitals.pressed_by is not None,
        "remembered": vitals.remembered,
        "rooms": vitals.rooms,
        "admins": vitals.admins,
        "database_bytes": vitals.database_bytes,
        "disk_free_bytes": vitals.disk_free_bytes,
        "xmpp_up": vitals.line_is_up,
        "tor_bootstrap_percent": tor.progress if tor else 0,
        "tor_descriptors": tor.descriptors_uploaded if tor else 0,
        "tor_restarts": tor.restarts if tor else 0,
    }
