"""What is to be reached, as a share of another figure of the same run or as a bound; and whether it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.bench.figures import Figures


@dataclass(frozen=True, slots=True)
class Goal:
    """`figure` must be at least `at_least`, or at most `at_most`."""

    words: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, figures: Figures) -> bool | None:
        """None: that was not measured."""
        value = figures.get(self.figure)
        if value is None:
            return None
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def line(self, figures: Figures) -> str:
        verdict = {True: "met", False: "MISSED", None: "not measured"}[self.is_met(figures)]
        bound = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        value = figures.get(self.figure)
        found = "–" if value is None else f"{value:.4g}"
        return f"{verdict:12} {found:>9}  {bound:9} {self.words}"


GOALS: Final = (
    Goal("messages a second, by Prosody's with its archive", "product_by_prosody_archive", at_least=10),
    Goal("messages a second, by ejabberd's with its archive", "product_by_ejabberd_archive", at_least=2),
    Goal("messages a second, by the bare skeleton's", "product_by_skeleton", at_least=0.8),
    Goal("messages a second, by Node's with the same sealing", "product_by_node", at_least=0.9),
    Goal("ms from said to seen, p99, 1,000 live", "live_1000_said_seen_p99_ms", at_most=15),
    Goal("ms from accepted to seen, p99, 1,000 live", "live_1000_accepted_seen_p99_ms", at_most=15),
    Goal("ms from said to seen, p99, 10,000 live", "live_10000_said_seen_p99_ms", at_most=50),
    Goal("ms from accepted to seen, p99, 10,000 live", "live_10000_accepted_seen_p99_ms", at_most=50),
    Goal("KiB for each idle WebSocket", "idle_sockets_each_kib", at_most=25),
    Goal("KiB for each idle stream", "idle_streams_each_kib", at_most=25),
    Goal("% of a core for 10,000 idle WebSockets", "idle_sockets_cpu_percent", at_most=2),
    Goal("% of a core for 5,000 idle streams", "idle_streams_cpu_percent", at_most=2),
    Goal("s until 10,000 are back", "storm_seconds", at_most=6),
    Goal("of them failed", "storm_failed", at_most=0),
    Goal("history page, 5 million stored by 10 thousand", "history_newest_p50_ratio", at_most=2),
    Goal("ms of loop lag, p99, each sync 5 ms, 1,000 a second", "slow_disk_paced_lag_p99_ms", at_most=10),
    Goal("messages a second, each sync 5 ms", "slow_disk_closed_messages_per_second", at_least=1000),
    Goal("MiB more for 100 log-ins at once", "log_ins_100_one_core_extra_memory_mib", at_most=150),
    Goal("ms of loop lag meanwhile, p99", "log_ins_100_one_core_ping_lag_p99_ms", at_most=20),
    Goal("ms more than the onion's bare round trip", "onion_above_bare_ms", at_most=15),
    Goal("bytes of the first page, all it needs", "first_page_received_bytes", at_most=10_000),
    Goal("responses until the first page is painted", "first_page_requests", at_most=1),
)
