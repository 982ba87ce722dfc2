"""Trouble that needs a human: said once when it has lasted, and once when it is over."""

from dataclasses import replace

from veilsupport.alarms import (
    BACKLOG_SECONDS,
    DISK_FINE_BYTES,
    DISK_LOW_BYTES,
    PRESSED_SECONDS,
    UNREACHABLE_SECONDS,
    Alarms,
    Readings,
)

WELL = Readings(
    page_lost_at=None,
    tor_trouble=None,
    disk_free_bytes=10 * DISK_FINE_BYTES,
    oldest_due_at=None,
    line_up_since=0.0,
    keeps_archive=True,
)


def told(alarms: Alarms, readings: Readings, *, now: float) -> list[str]:
    """What the admins are told at that moment, on a disk that takes it."""
    alarms.look(readings, now=now)
    news = alarms.news()
    for trouble, _ in news:
        alarms.told(trouble)
    return [words for _, words in news]


def test_pressure_is_told_once_with_its_cause_and_once_when_it_is_over() -> None:
    alarms = Alarms()
    pressed = replace(WELL, pressed_by="too many want to start a conversation")
    [words] = told(alarms, pressed, now=0)
    assert "too many want to start a conversation" in words
    assert "small question" in words
    assert told(alarms, pressed, now=60) == []
    assert alarms.standing == (words,)
    assert told(alarms, WELL, now=60 + PRESSED_SECONDS) == ["New conversations begin without a question again."]
    assert told(alarms, WELL, now=120 + PRESSED_SECONDS) == []


def test_pressure_that_comes_in_waves_is_told_once() -> None:
    alarms, pressed = Alarms(), replace(WELL, pressed_by="too many want to start a conversation")
    assert len(told(alarms, pressed, now=0)) == 1
    for wave in range(1, 100):
        assert told(alarms, WELL, now=240 * wave) == []
        assert not alarms.standing
        assert told(alarms, pressed, now=240 * wave + 60) == []
    assert told(alarms, WELL, now=0) == ["New conversations begin without a question again."]  # the clock was set back


def test_all_well_says_nothing() -> None:
    assert told(Alarms(), WELL, now=0) == []


def test_a_page_that_is_lost_for_a_moment_is_nobodys_business() -> None:
    lost = replace(WELL, page_lost_at=0.0)
    assert told(Alarms(), lost, now=UNREACHABLE_SECONDS - 1) == []


def test_a_lost_page_is_told_once_with_its_reason_and_once_when_it_is_back() -> None:
    alarms = Alarms()
    lost = replace(WELL, page_lost_at=0.0, tor_trouble="a firewall may block Tor")
    [words] = told(alarms, lost, now=UNREACHABLE_SECONDS)
    assert "10 minutes: a firewall may block Tor" in words
    assert told(alarms, lost, now=2 * UNREACHABLE_SECONDS) == []
    assert alarms.standing == (words,)
    assert told(alarms, WELL, now=2 * UNREACHABLE_SECONDS + 1) == ["The page can be reached through Tor again."]
    assert not alarms.standing


def test_what_the_disk_did_not_take_is_told_again_and_stands_meanwhile() -> None:
    alarms, full = Alarms(), replace(WELL, disk_free_bytes=0, keeps_archive=False)
    alarms.look(full, now=0)
    (disk, _), (archive, words) = alarms.news()
    assert len(alarms.standing) == 2
    alarms.told(disk)  # and then it was full
    alarms.look(full, now=60)
    assert alarms.news() == [(archive, words)]
    alarms.look(WELL, now=120)
    assert [trouble for trouble, _ in alarms.news()] == [disk]  # of the other nobody has heard
    alarms.told(disk)
    assert alarms.news() == []


def test_a_disk_at_the_edge_does_not_ring_again_and_again() -> None:
    alarms = Alarms()
    assert len(told(alarms, replace(WELL, disk_free_bytes=DISK_LOW_BYTES - 1), now=0)) == 1
    assert told(alarms, replace(WELL, disk_free_bytes=DISK_LOW_BYTES), now=1) == []
    assert told(alarms, replace(WELL, disk_free_bytes=DISK_FINE_BYTES), now=2) == ["There is room on the disk again."]


def test_a_backlog_is_told_only_while_somebody_can_be_told() -> None:
    late = replace(WELL, oldest_due_at=0.0)
    assert told(Alarms(), replace(late, line_up_since=None), now=BACKLOG_SECONDS) == []
    assert len(told(Alarms(), late, now=BACKLOG_SECONDS)) == 1


def test_a_line_that_has_just_come_back_has_its_time_to_catch_up() -> None:
    late = replace(WELL, oldest_due_at=0.0, line_up_since=10 * BACKLOG_SECONDS)
    assert told(Alarms(), late, now=11 * BACKLOG_SECONDS - 1) == []
    [words] = told(Alarms(), late, now=11 * BACKLOG_SECONDS)
    assert "for 15 minutes" in words


def test_a_missing_archive_is_told_and_an_unknown_one_is_not() -> None:
    assert len(told(Alarms(), replace(WELL, keeps_archive=False), now=0)) == 1
    assert told(Alarms(), replace(WELL, keeps_archive=None), now=0) == []


def test_several_troubles_are_told_together() -> None:
    wrong = replace(WELL, page_lost_at=0.0, disk_free_bytes=0, keeps_archive=False)
    assert len(told(Alarms(), wrong, now=UNREACHABLE_SECONDS)) == 3
