"""What a log line looks like, and how lines of one request are known to be so."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Answer, Browser, site_of
from tests.desks import desk_in
from tests.live.appliance import TOP, run_command
from veilsupport import log
from veilsupport.desk import Desk
from veilsupport.errors import StoreError
from veilsupport.web import Site

ID = re.compile(r"[0-9a-f]{8}")


class Written:
    """Our log in either form, in memory."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(formatter)

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()


@pytest.fixture
def text() -> Iterator[Written]:
    yield from into(Written(log.Lines()))


@pytest.fixture
def objects() -> Iterator[Written]:
    yield from into(Written(log.Objects()))


def into(written: Written) -> Iterator[Written]:
    before = (log.logger.handlers, log.logger.level)
    log.logger.handlers = [written.handler]
    log.logger.setLevel(logging.INFO)
    log._said_at.clear()
    yield written
    log.logger.handlers, level = before
    log.logger.setLevel(level)


def test_a_line_is_for_people(text: Written) -> None:
    logging.getLogger("veilsupport.tor").info("tor is connected")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d INFO tor is connected", text.lines[0])


def test_an_object_is_for_programs(objects: Written) -> None:
    logging.getLogger("veilsupport.tor").warning('tor "ended";\n%s', "it is started again")
    log.logger.info("started")
    tor, app = map(json.loads, objects.lines)
    assert {**tor, "time": ""} == {
        "time": "",
        "level": "warning",
        "part": "tor",
        "message": 'tor "ended";\nit is started again',
    }
    assert app["part"] == "app"


def test_times_are_minutes_in_both_forms(text: Written, objects: Written) -> None:
    """Whoever holds the log and has watched a line could lay seconds side by side."""
    record = logging.LogRecord("veilsupport", logging.INFO, "", 0, "x", (), None)
    record.created = 1_800_000_059.9
    assert json.loads(log.Objects().format(record))["time"] == "2027-01-15T08:00:00Z"
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d INFO", log.Lines().format(record))


def test_an_exception_is_never_written_out(text: Written) -> None:
    for formatter in (log.Objects(),):
        record = logging.LogRecord("veilsupport", logging.INFO, "", 0, "x", (), (ValueError, ValueError("MARK"), None))
        assert "MARK" not in formatter.format(record)


def test_lines_of_one_request_carry_its_number_and_others_none(text: Written, objects: Written) -> None:
    log.logger.handlers = [text.handler, objects.handler]

    async def go() -> None:
        async def one() -> None:
            with log.request():
                log.logger.info("first")
                await asyncio.sleep(0)
                log.logger.info("second")
            assert log.request_id() == ""

        await asyncio.gather(one(), one())
        log.logger.info("apart")

    asyncio.run(go())
    numbers = [json.loads(line).get("request") for line in objects.lines]
    assert numbers[:2] == numbers[2:4]
    assert numbers[0] != numbers[1]
    assert numbers[4] is None
    assert all(ID.fullmatch(number) for number in numbers[:4])
    assert text.lines[0].endswith(f"INFO first [{numbers[0]}]")
    assert text.lines[4].endswith("INFO apart")


def test_what_may_come_often_is_written_once_a_minute() -> None:
    log._said_at.clear()
    assert [log.is_time_for("a"), log.is_time_for("a"), log.is_time_for("b")] == [True, False, True]
    log._said_at["a"] -= 60
    assert log.is_time_for("a")


def test_a_process_writes_objects_and_a_bug_as_one_without_its_words() -> None:
    code = (
        "from veilsupport import log; log.set_up(as_json=True); log.logger.info('started');"
        "import logging; logging.getLogger('other').error('MARKother'); raise KeyError('MARKbug')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=TOP)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["info", "critical"]
    assert "MARK" not in done.stderr


def test_the_form_is_also_taken_from_the_environment(tmp_path: Path) -> None:
    done = run_command("run", "--data", str(tmp_path), env={"VEILSUPPORT_LOG_FORMAT": "xml"})
    assert done.returncode == 2
    assert "VEILSUPPORT_LOG_FORMAT" in done.stderr or "--log-format" in done.stderr


# ---- what of it a visitor sees -------------------------------------------------------------------------------


def visits(tmp_path: Path, *paths: str, broken: bool = False) -> list[Answer]:
    async def go() -> list[Answer]:
        async with desk_in(tmp_path) as desk:
            site = _with_broken_disk(desk) if broken else site_of(desk).site
            return [await Browser(site).get(path) for path in paths]

    return asyncio.run(go())


def _with_broken_disk(desk: Desk) -> Site:
    def attendance(site: str, *, now: float) -> None:
        raise StoreError("The disk did not give it.")

    desk.attendance = attendance  # type: ignore[method-assign,assignment]
    return site_of(desk).site


def test_an_answer_names_its_line_in_the_log_when_it_is_our_fault(tmp_path: Path, text: Written) -> None:
    first, second = visits(tmp_path, "/", "/", broken=True)
    assert (first.status, second.status) == (503, 503)
    number = first.header("x-request-id")
    assert ID.fullmatch(number)
    assert text.lines == [text.lines[0]]  # the second came in the same minute: no line, and so no number
    assert text.lines[0].endswith(f"WARNING A request was answered with status 503. [{number}]")
    assert second.header("x-request-id") == ""


def test_no_other_answer_has_a_number(tmp_path: Path, text: Written) -> None:
    for answer in visits(tmp_path, "/", "/nowhere", "/chat", "/s/nowhere"):
        assert answer.status < 500
        assert answer.header("x-request-id") == ""
    assert text.lines == []


def test_a_bug_is_logged_with_the_number_that_the_visitor_is_given(tmp_path: Path, objects: Written) -> None:
    async def go() -> list[bytes]:
        async with desk_in(tmp_path) as desk:
            served = site_of(desk)

            def broken(site: str, *, now: float) -> None:
                raise KeyError("MARKbug")

            desk.attendance = broken  # type: ignore[method-assign,assignment]
            browser = Browser(served.site)
            sent: list[dict[str, object]] = []

            async def send(message: object) -> None:
                assert isinstance(message, dict)
                sent.append(message)

            with pytest.raises(KeyError):
                await served.site(browser.scope("GET", "/"), _nothing, send)
            assert served.bugs
            headers = sent[0]["headers"]
            assert isinstance(headers, list)
            return [value for name, value in headers if name == b"x-request-id"]

    [number] = asyncio.run(go())
    lines = [json.loads(line) for line in objects.lines]
    assert [line["request"] for line in lines] == [number.decode()] * 2
    assert lines[0]["message"].startswith("A request met a bug: KeyError")
    assert "MARKbug" not in "".join(objects.lines)


async def _nothing() -> dict[str, object]:
    return {"type": "http.request", "body": b"", "more_body": False}
