"""How many stanzas may be under way: never too many, never none, and as many as the server takes."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from veilsupport.xmpp.pacing import LARGEST, SMALLEST, Turns, Window

Event = tuple[str, int, float]  # what happens, to which stanza, and after how many seconds
EVENTS: st.SearchStrategy[list[Event]] = st.lists(
    st.tuples(
        st.sampled_from(["sent", "arrived", "dropped", "cleared"]), st.integers(0, 20), st.floats(0, 100, width=32)
    ),
    max_size=200,
)


class Server:
    """A window over a server that answers after `way` seconds, or later when it takes only so many a second."""

    def __init__(self, window: Window, *, way: float, a_second: float = float("inf")) -> None:
        self.window = window
        self.way = way
        self.a_second = a_second
        self.now = 1000.0
        self.sent = 0
        self.most = 0
        self._free_at = 0.0
        self._waiting: list[tuple[float, str]] = []

    def flood(self, count: int) -> float:
        """So many stanzas pass, as fast as the window lets them; how many a second it was."""
        began = self.now
        last = self.sent + count
        while self.sent < last or self._waiting:
            for _ in range(min(self.window.room_beside(is_busy=False), last - self.sent)):
                self._send()
            self.most = max(self.most, len(self._waiting))
            self.now, stanza_id = self._waiting.pop(0)
            self.window.arrived(stanza_id, at=self.now)
        return count / (self.now - began)

    def _send(self) -> None:
        self._free_at = max(self._free_at, self.now) + 1 / self.a_second
        self._waiting.append((self._free_at + self.way, str(self.sent)))
        self.window.sent(str(self.sent), at=self.now)
        self.sent += 1


def _after(events: Iterable[Event]) -> tuple[Window, set[str]]:
    """The window, and what is under way."""
    window, under_way, now = Window(), set[str](), 0.0
    for what, number, passed in events:
        now += passed
        match what:
            case "sent" if window.room_beside(is_busy=False):
                window.sent(str(number), at=now)
                under_way.add(str(number))
            case "arrived":
                window.arrived(str(number), at=now)
                under_way.discard(str(number))
            case "dropped":
                window.drop(str(number))
                under_way.discard(str(number))
            case "cleared":
                window.clear()
                under_way.clear()
    return window, under_way


@given(EVENTS)
def test_it_counts_what_is_under_way_and_stays_within_its_bounds(events: list[Event]) -> None:
    window, under_way = _after(events)
    assert set(window) == under_way
    assert all(each in window for each in under_way)
    assert "never sent" not in window
    room = window.room_beside(is_busy=False)
    assert 0 <= room <= LARGEST - len(under_way) or (room == 0 and len(under_way) <= LARGEST)
    assert room + len(under_way) >= SMALLEST
    assert window.room_beside(is_busy=True) == max(0, int(SMALLEST) - len(under_way))


@given(EVENTS, st.floats(0, 10_000))
def test_what_is_late_is_known(events: list[Event], instant: float) -> None:
    window, under_way = _after(events)
    late = window.older_than(instant)
    assert set(late) <= under_way
    assert set(window.older_than(float("inf"))) == under_way
    assert window.older_than(0.0) == []


def test_it_grows_while_the_server_keeps_up_however_long_the_way() -> None:
    for way in (0.001, 0.5, 3.0):
        server = Server(Window(), way=way)
        server.flood(2000)
        assert server.most == LARGEST


def test_a_few_now_and_then_do_not_make_it_grow() -> None:
    server = Server(Window(), way=0.1)
    before = server.window.room_beside(is_busy=False)
    for _ in range(100):
        server.flood(3)
    assert server.window.room_beside(is_busy=False) == before


def test_it_shrinks_until_a_throttled_servers_socket_holds_only_a_moment() -> None:
    server = Server(Window(), way=0.2, a_second=10)
    rate = server.flood(300)
    assert rate > 9  # and nothing is lost by it
    server.most = 0
    server.flood(100)
    assert server.most <= 0.2 * 10 + 1.5 * 10 + 2


def test_it_recovers_when_the_server_does() -> None:
    server = Server(Window(), way=0.2, a_second=2)
    server.flood(100)
    server.most = 0
    server.a_second = float("inf")
    server.flood(2000)
    assert server.most == LARGEST


def test_a_way_that_has_become_longer_is_not_taken_for_a_throttle() -> None:
    server = Server(Window(), way=0.1)
    server.flood(200)
    server.way = 4.0
    server.flood(200)
    server.most = 0
    server.flood(3000)
    assert server.most > 2 * SMALLEST


def test_a_new_session_is_judged_by_its_own_way() -> None:
    server = Server(Window(), way=0.01)
    server.flood(100)
    size = server.window.room_beside(is_busy=False)
    server.window.clear()
    server.way = 3.0
    server.flood(size)
    assert server.window.room_beside(is_busy=False) >= size


def test_turns_are_so_many_at_once_and_then_so_many_a_minute() -> None:
    turns = Turns(3, 60)
    assert [turns.take(now=100.0) for _ in range(4)] == [True, True, True, False]
    assert [turns.take(now=101.0) for _ in range(2)] == [True, False]
    assert sum(turns.take(now=1000.0) for _ in range(10)) == 3
    assert not turns.take(now=0.0)  # a clock that was set back
    assert turns.take(now=1.0)
