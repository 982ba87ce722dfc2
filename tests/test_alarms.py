"""Trouble that needs a human: said once when it has lasted, and once when it is over."""

from dataclasses import replace

from veilsupport.alarms import BACKLOG_SECONDS, DISK_FINE_BYTES, DISK_LOW_BYTES, UNREACHABLE_SECONDS, Alarms, Readings

WELL = Readings(
    page_lost_at=None,
    tor_trouble=None,
    disk_free_bytes=10 * DISK_FINE_BYTES,
    oldest_due_at=None,
    line_is_up=True,
    keeps_archive=True,
)


def test_all_well_says_nothing() -> None:
    assert Alarms().news(WELL, now=0) == []


def test_a_page_that_is_lost_for_a_moment_is_nobodys_business() -> None:
    lost = replace(WELL, page_lost_at=0.0)
    assert Alarms().news(lost, now=UNREACHABLE_SECONDS - 1) == []


def test_a_lost_page_is_told_once_with_its_reason_and_once_when_it_is_back() -> None:
    alarms = Alarms()
    lost = replace(WELL, page_lost_at=0.0, tor_trouble="a firewall may block Tor")
    [told] = alarms.news(lost, now=UNREACHABLE_SECONDS)
    assert "10 minutes: a firewall may block Tor" in told
    assert alarms.news(lost, now=2 * UNREACHABLE_SECONDS) == []
    assert alarms.standing == (told,)
    assert alarms.news(WELL, now=2 * UNREACHABLE_SECONDS + 1) == ["The page can be reached through Tor again."]
    assert not alarms.standing


def test_a_disk_at_the_edge_does_not_ring_again_and_again() -> None:
    alarms = Alarms()
    assert len(alarms.news(replace(WELL, disk_free_bytes=DISK_LOW_BYTES - 1), now=0)) == 1
    assert alarms.news(replace(WELL, disk_free_bytes=DISK_LOW_BYTES), now=1) == []
    assert alarms.news(replace(WELL, disk_free_bytes=DISK_FINE_BYTES), now=2) == ["There is room on the disk again."]


def test_a_backlog_is_told_only_while_somebody_can_be_told() -> None:
    late = replace(WELL, oldest_due_at=0.0)
    assert Alarms().news(replace(late, line_is_up=False), now=BACKLOG_SECONDS) == []
    assert len(Alarms().news(late, now=BACKLOG_SECONDS)) == 1


def test_a_missing_archive_is_told_and_an_unknown_one_is_not() -> None:
    assert len(Alarms().news(replace(WELL, keeps_archive=False), now=0)) == 1
    assert Alarms().news(replace(WELL, keeps_archive=None), now=0) == []


def test_several_troubles_are_told_together() -> None:
    wrong = replace(WELL, page_lost_at=0.0, disk_free_bytes=0, keeps_archive=False)
    assert len(Alarms().news(wrong, now=UNREACHABLE_SECONDS)) == 3
