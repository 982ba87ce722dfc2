"""Token buckets: never more than rate x time + burst, nothing taken by a refusal, idle buckets forgotten."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from veilsupport.limits import TABLE, Act, By, Limits, Row

ROW = Row(Act.SEND, By.SESSION, 0.5, 3, "")
OVERALL = Row(Act.SEND, By.OVERALL, 1.0, 5, "")
MINE = {By.SESSION: b"mine"}


def taken(limits: Limits, times: int, *, now: float = 0.0, whose: dict[By, object] | None = None) -> int:
    return sum(limits.take(Act.SEND, MINE if whose is None else whose, now=now) == 0.0 for _ in range(times))


def test_each_row_is_itself_whatever_stands_in_it() -> None:
    """As quick a key as can be: two rows that say the same are two buckets, and no row is ever looked at for it."""
    twin = replace(ROW)
    assert twin != ROW
    assert len({ROW, twin, ROW}) == 2
    limits = Limits((ROW, twin))
    taken(limits, 1)
    assert len(limits) == 2
    hit: list[Row] = []
    limits.on_hit = hit.append
    taken(limits, 3)
    assert [row is expected for row, expected in zip(hit, (ROW, twin), strict=True)] == [True, True]


def test_a_burst_is_allowed_and_then_no_more() -> None:
    assert taken(Limits((ROW,)), 10) == 3


def test_a_refusal_says_how_long_to_wait_and_takes_nothing() -> None:
    limits = Limits((ROW,))
    taken(limits, 3)
    assert limits.take(Act.SEND, MINE, now=1.0) == 1.0
    assert limits.take(Act.SEND, MINE, now=1.0) == 1.0
    assert limits.take(Act.SEND, MINE, now=2.0) == 0.0


def test_an_act_that_one_bucket_refuses_takes_from_none() -> None:
    limits = Limits((ROW, OVERALL))
    taken(limits, 10)  # three allowed, seven refused
    assert taken(limits, 10, whose={By.SESSION: b"other"}) == 2


def test_who_is_not_named_has_no_such_limit() -> None:
    assert taken(Limits((ROW, OVERALL)), 10, whose={}) == 5


def test_other_acts_have_their_own_buckets() -> None:
    limits = Limits()
    while limits.take(Act.SEND, MINE, now=0.0) == 0.0:
        pass
    assert limits.take(Act.STREAM, MINE, now=0.0) == 0.0


def test_a_clock_that_steps_back_gives_nothing() -> None:
    limits = Limits((ROW,))
    assert taken(limits, 3, now=100.0) == 3
    assert taken(limits, 3, now=0.0) == 0


def test_a_clock_that_was_set_back_does_not_refuse_until_it_is_there_again() -> None:
    limits = Limits((ROW,))
    assert taken(limits, 3, now=1e9) == 3
    assert taken(limits, 3, now=0.0) == 0
    assert taken(limits, 3, now=60.0) == 3


def test_a_limit_of_nothing_refuses_everybody() -> None:
    assert taken(Limits((Row(Act.SEND, By.OVERALL, 0.001, 0, ""),)), 3) == 0


def test_idle_buckets_are_forgotten() -> None:
    limits = Limits((ROW,))
    for number in range(500):
        limits.take(Act.SEND, {By.SESSION: number}, now=0.0)
    assert len(limits) == 500
    limits.forget_idle(now=2.0)
    assert len(limits) == 0


def test_idle_buckets_are_forgotten_without_being_asked() -> None:
    limits = Limits((ROW,))
    for number in range(10_000):
        limits.take(Act.SEND, {By.SESSION: number}, now=number * 1.0)
    assert len(limits) < 1024


def test_refusals_leave_no_bucket_behind() -> None:
    limits = Limits((ROW, OVERALL))
    for number in range(1000):
        limits.take(Act.SEND, {By.SESSION: number}, now=0.0)
    assert len(limits) == 5 + 1


def test_every_act_has_an_overall_row_which_bounds_the_memory() -> None:
    assert {row.act for row in TABLE if row.by is By.OVERALL} == set(Act) - {Act.REFUSAL}
    assert all(row.why and row.per_second > 0 and row.burst >= 1 for row in TABLE)


def test_there_are_never_more_buckets_than_the_table_says() -> None:
    """A bucket lasts as long as its one token takes to come back, and each token came out of the overall one."""
    overall = {row.act: row for row in TABLE if row.by is By.OVERALL}
    most = sum(overall[row.act].burst + overall[row.act].per_second / row.per_second for row in TABLE)
    assert most < 36_000
    limits = Limits()
    for step in range(60_000):  # a stranger each time, far above what anything gives
        limits.take(Act.LOGIN, {By.CIRCUIT: step}, now=step / 1000)
    login = overall[Act.LOGIN]
    circuits = next(row for row in TABLE if row.act is Act.LOGIN and row.by is By.CIRCUIT)
    assert len(limits) <= max(1024, 2 * (login.burst + login.per_second / circuits.per_second))


def test_a_rush_on_one_site_leaves_the_others_a_way_in() -> None:
    limits = Limits()
    rush = sum(limits.take(Act.START, {By.SITE: "shop"}, now=0.0) == 0.0 for _ in range(500))
    assert rush == 150
    assert limits.take(Act.START, {By.SITE: ""}, now=0.0) == 0.0


def test_a_hundred_people_may_register_and_write_ten_messages_at_once_on_loopback() -> None:
    limits = Limits()
    for person in range(100):
        assert limits.take(Act.LOGIN, {By.ACCOUNT: person}, now=0.0) == 0.0
        assert taken(limits, 10, whose={By.SESSION: person, By.ACCOUNT: person}) == 10


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from([b"a", b"b"])), max_size=80))
def test_never_more_than_rate_times_time_plus_burst(tries: list[tuple[float, bytes]]) -> None:
    limits = Limits((ROW, OVERALL))
    now = 0.0
    allowed: list[tuple[float, bytes]] = []
    for pause, who in tries:
        now += pause / 10
        if limits.take(Act.SEND, {By.SESSION: who}, now=now) == 0.0:
            allowed.append((now, who))
        if len(allowed) % 7 == 0:
            limits.forget_idle(now=now)
    for first, (since, _) in enumerate(allowed):
        for last in range(first, len(allowed)):
            span = allowed[last][0] - since
            window = allowed[first : last + 1]
            assert len(window) <= OVERALL.per_second * span + OVERALL.burst + 1e-6
            for who in (b"a", b"b"):
                assert sum(each == who for _, each in window) <= ROW.per_second * span + ROW.burst + 1e-6
