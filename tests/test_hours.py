"""The hours by themselves: what a person writes, and when that is."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilsupport import hours
from veilsupport.hours import DAYS, Hours, Span, parse

MINUTES = st.integers(0, 24 * 60 - 1)
DAYS_OF_A_SPAN = st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days)))
SPANS = st.builds(Span, DAYS_OF_A_SPAN, MINUTES, MINUTES.map(lambda minute: minute + 1)).filter(
    lambda span: span.begin != span.end
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Etc/GMT+5"])
HOURS = st.builds(Hours, st.lists(SPANS, min_size=1, max_size=4).map(tuple), ZONES)


def at(day: str, time: str, zone: str = "UTC") -> float:
    """That day of a week in February 2027, which begins on Monday the first."""
    hour, minute = map(int, time.split(":"))
    local = datetime(2027, 2, 1 + DAYS.index(day), hour, minute, tzinfo=zoneinfo.ZoneInfo(zone))
    return local.timestamp()


@given(HOURS)
def test_the_normal_form_is_understood(written: Hours) -> None:
    assert parse(str(written)) == written


@given(st.text(max_size=60) | st.text("mon fri sat-9:0,UTC/Europe", max_size=60))
def test_anything_is_understood_or_answered_with_an_example(text: str) -> None:
    told = normal = ""
    try:
        normal = str(parse(text))
    except ValueError as error:
        told = str(error)
    assert "mon-fri 9-17:30" in told or str(parse(normal)) == normal


def test_what_is_too_long_in_its_normal_form_is_refused_at_once() -> None:
    written = ",".join(f"{hour % 24}-{(hour + 1) % 24}" for hour in range(60))
    assert len(written) < 500
    with pytest.raises(ValueError, match="too long"):
        parse(f"mon {written}")


@given(HOURS, st.integers(0, 7 * 24 * 60), st.integers(1, 6))
def test_a_week_later_it_is_the_same(written: Hours, minute: int, weeks: int) -> None:
    """In winter, when no zone here changes its clocks."""
    now = datetime(2027, 1, 4, tzinfo=UTC) + timedelta(minutes=minute)
    assert written.open_at(now.timestamp()) == written.open_at((now + timedelta(weeks=weeks)).timestamp())


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", "always"),
        (" Always ", "always"),
        ("9-17", "mon-sun 9:00-17:00 UTC"),
        ("mon-fri 9-17:30, sat 10-12 Europe/Berlin", "mon-fri 9:00-17:30, sat 10:00-12:00 Europe/Berlin"),
        ("Monday – Friday 9.15 – 12,14-18", "mon-fri 9:15-12:00, mon-fri 14:00-18:00 UTC"),
        ("sat-mon 0-24 utc", "mon sat-sun 0:00-24:00 UTC"),
        ("tue thu mon. 22-2 europe/berlin", "mon-tue thu 22:00-2:00 Europe/Berlin"),
    ],
)
def test_ways_to_write_it(text: str, normal: str) -> None:
    assert str(parse(text)) == normal


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("mon-fri", "needs days and then hours"),
        ("mon, fri 9-17", "needs days and then hours"),
        ("9", "needs days and then hours"),
        (",", "needs days and then hours"),
        ("Europe/Berlin", "needs days and then hours"),
        ("9-17 ../../etc/passwd", "needs days and then hours"),
        ("mo 9-17", "The days are mon tue"),
        ("noday 9-17", "The days are mon tue"),
        ("9-25", "0 to 24"),
        ("9-24:01", "0 to 24"),
        ("9:60-10", "0 to 24"),
        ("9-9", "must differ"),
        ("24-3", "must differ"),
        ("9-17 Europe/Berln", r"Did you mean Europe/Berlin\?"),
        ("9-17 Europe", "no such time zone"),
        ("9-17 Atlantis", "no such time zone"),
        ("9-10, " * 200, "too long"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse(text)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("mon-fri 9-17:30", [("mon", "9:00"), ("fri", "17:29")], [("mon", "8:59"), ("fri", "17:30"), ("sat", "12:00")]),
        ("fri 22-2", [("fri", "22:00"), ("sat", "1:59")], [("fri", "1:00"), ("sat", "2:00"), ("sat", "23:00")]),
        ("sun 22-2", [("sun", "23:00"), ("mon", "1:00")], [("sun", "1:00"), ("mon", "22:00")]),
        ("0-24", [("mon", "0:00"), ("sun", "23:59")], []),
        ("9-12, 14-18", [("wed", "11:59"), ("wed", "14:00")], [("wed", "12:00"), ("wed", "13:59")]),
        ("mon 20-0", [("mon", "23:59")], [("tue", "0:00"), ("mon", "0:00")]),
    ],
)
def test_when_it_is(text: str, inside: list[tuple[str, str]], outside: list[tuple[str, str]]) -> None:
    for day, time in inside:
        assert parse(text).open_at(at(day, time)), (day, time)
    for day, time in outside:
        assert not parse(text).open_at(at(day, time)), (day, time)


def test_a_zone_keeps_its_own_clock_in_summer_and_winter() -> None:
    written = parse("9-17 Europe/Berlin")
    for month, utc_hour in ((1, 8), (7, 7)):  # nine o'clock there
        begin = datetime(2027, month, 4, utc_hour, tzinfo=UTC).timestamp()
        assert written.open_at(begin)
        assert not written.open_at(begin - 1)
    assert parse("9-17").open_at(at("mon", "9:00"))
    assert not parse("9-17").open_at(at("mon", "9:00", "Europe/Berlin"))


def test_a_machine_without_zones_knows_utc_and_says_what_is_missing(tmp_path: Path) -> None:
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(tmp_path)])
    zoneinfo.ZoneInfo.clear_cache()
    hours.parse.cache_clear()
    try:
        assert parse("0-24 UTC").open_at(1_800_000_000.0)
        with pytest.raises(ValueError, match="apt install tzdata"):
            parse("9-17 Europe/Berlin")
    finally:
        zoneinfo.reset_tzpath(list(before))
