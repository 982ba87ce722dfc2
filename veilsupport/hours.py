"""When somebody answers, as a person writes it: `mon-fri 9-17:30, sat 10-12 Europe/Berlin`.

    hours = part { "," part } [ zone ]
    part  = { day | day "-" day } time "-" time
    time  = hour [ ":" minutes ]

A part without days means those of the part before it; the first one, every day. An end that is not later than its
beginning is on the next day (`fri 22-2`). Without a zone it is UTC; the zones' rules are the machine's own (IANA's,
which the standard library's zoneinfo finds). Nothing at all, or `always`, is always. Pure: `now` is an argument.
"""

from __future__ import annotations

import difflib
import functools
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FULL_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ALWAYS: Final = "always"
_DAY_MINUTES: Final = 24 * 60
_TEXT_MAX: Final = 500
_TIMES: Final = re.compile(r"(\d{1,2})(?:[:.](\d\d))?-(\d{1,2})(?:[:.](\d\d))?", re.ASCII)
_ZONE: Final = re.compile(r"[a-z][a-z0-9_+-]*(?:/[a-z0-9_+-]+)*", re.IGNORECASE)
_EXAMPLE: Final = "Write it like this: mon-fri 9-17:30, sat 10-12 Europe/Berlin"


@dataclass(frozen=True, slots=True)
class Span:
    """On each of these days (0 is Monday) from `begin` to `end`, in minutes after midnight; `end` is at most 24:00.

    An `end` that is not after `begin` is on the next day.
    """

    days: tuple[int, ...]
    begin: int
    end: int

    def holds(self, day: int, minute: int) -> bool:
        """Whether that minute of that day is in it."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)

    def __str__(self) -> str:
        return f"{_days_in_words(self.days)} {_time_in_words(self.begin)}-{_time_in_words(self.end)}"


@dataclass(frozen=True, slots=True)
class Hours:
    """`str` gives the normal form, which `parse` understands. No spans: always."""

    spans: tuple[Span, ...] = ()
    zone: str = "UTC"

    def open_at(self, now: float) -> bool:
        """Whether Unix second `now` is within."""
        if not self.spans:
            return True
        local = datetime.fromtimestamp(now, _rules(self.zone))
        return any(span.holds(local.weekday(), local.hour * 60 + local.minute) for span in self.spans)

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.spans))} {self.zone}" if self.spans else _ALWAYS


@functools.lru_cache(maxsize=64)
def parse(text: str) -> Hours:
    """ValueError: a plain sentence that says what is wrong, and an example."""
    if len(text) > _TEXT_MAX:
        raise ValueError(f"This is too long. {_EXAMPLE}")
    text = " ".join(re.sub("[\u2010-\u2015]", "-", text).split())  # phones like to make dashes of hyphens
    text = re.sub(r"\s*([,-])\s*", r"\1", text).replace(",", ", ")
    if text.lower() in ("", _ALWAYS):
        return Hours()
    parts = text.split(", ")
    *words, last = parts[-1].split(" ")
    zone = "UTC"
    if words and _ZONE.fullmatch(last):
        parts[-1], zone = " ".join(words), _zone(last)
    spans: list[Span] = []
    for part in parts:
        spans.append(_span(part, spans[-1].days if spans else tuple(range(7))))
    found = Hours(tuple(spans), zone)
    if len(str(found)) > _TEXT_MAX:  # it is the normal form that is kept, and read again
        raise ValueError(f"This is too long. {_EXAMPLE}")
    return found


def _span(part: str, before: tuple[int, ...]) -> Span:
    *days, times = part.split(" ")
    found = _TIMES.fullmatch(times)
    if not found:
        raise ValueError(f"Each part needs days and then hours, from and to. {_EXAMPLE}")
    begin, end = _minute(found[1], found[2]), _minute(found[3], found[4])
    if begin in (end, _DAY_MINUTES):
        raise ValueError(f"From and to must differ, and 24 can only be the end. {_EXAMPLE}")
    found_days = sorted({day for word in days for day in _days(word)})
    return Span(tuple(found_days) or before, begin, end)


def _minute(hour: str, minutes: str | None) -> int:
    total = int(hour) * 60 + int(minutes or 0)
    if total > _DAY_MINUTES or int(minutes or 0) > 59:
        raise ValueError(f"Hours go from 0 to 24, and minutes to 59. {_EXAMPLE}")
    return total


def _days(word: str) -> list[int]:
    """`mon`, `mon-fri`, and over the week's end `sat-mon`."""
    first, _, last = word.partition("-")
    begin, end = _day(first), _day(last or first)
    return [(begin + step) % 7 for step in range((end - begin) % 7 + 1)]


def _day(word: str) -> int:
    word = word.lower().rstrip(".")
    for number, name in enumerate(_FULL_DAYS):
        if len(word) >= 3 and name.startswith(word):
            return number
    raise ValueError(f"The days are {' '.join(DAYS)}. {_EXAMPLE}")


def _zone(name: str) -> str:
    """The zone as IANA spells it. ValueError: there is none of that name, or no data at all."""
    if name.upper() == "UTC":
        return "UTC"
    try:
        return zoneinfo.ZoneInfo(name).key
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        pass
    known = {zone.casefold(): zone for zone in zoneinfo.available_timezones()}
    if not known:
        raise ValueError("This machine has no time zones (on Debian: apt install tzdata), so write the hours in UTC.")
    if name.casefold() in known:
        return known[name.casefold()]
    near = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.75)
    hint = f" Did you mean {known[near[0]]}?" if near else ""
    raise ValueError(f"There is no such time zone.{hint} {_EXAMPLE}")


def _rules(zone: str) -> tzinfo:
    """UTC needs no data."""
    return UTC if zone == "UTC" else zoneinfo.ZoneInfo(zone)


def _days_in_words(days: tuple[int, ...]) -> str:
    runs: list[list[int]] = []
    for day in days:
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return " ".join(DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs)


def _time_in_words(minute: int) -> str:
    return f"{minute // 60}:{minute % 60:02}"
