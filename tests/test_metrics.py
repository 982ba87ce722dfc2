"""The numbers: that they are right, cost little, and name nobody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.browser import ONION, Browser
from tests.desks import KEY, NOON, desk_in, hand_over, start
from tests.program import HOST, SHOP, Program
from tests.test_silence import ADA, BERT, MARKS, OTHER, ROOM, badly, in_rooms, well
from veilsupport import metrics as metrics_module
from veilsupport.desk import Desk
from veilsupport.errors import StoreError
from veilsupport.limits import Act, By, Limits, Row
from veilsupport.metrics import Metrics
from veilsupport.model import Author, DeliveryKind, DeliveryStep, Site
from veilsupport.tor import TorPhase, TorState
from veilsupport.vitals import Mode, Vitals
from veilsupport.web import TABLE, build
from veilsupport.web.api import ROOT
from veilsupport.web.api import TABLE as API_TABLE
from veilsupport.xmpp import LinkState, Phase

WELL = Vitals(
    now=NOON,
    started_at=NOON - 60,
    versions={"veilsupport": "0.1.0", "tor": "0.4.8.16", "sqlite": "3.45", "python": "3.11"},
    page=f"http://{ONION}/",
    reachable_since=NOON - 30,
    tor=TorState(
        phase=TorPhase.REACHABLE, progress=100, address=ONION, descriptors_uploaded=8, descriptor_at=NOON - 40
    ),
    xmpp=LinkState(phase=Phase.ONLINE, omemo="xmpp:desk@chat.example?omemo-sid-1=aa"),
    mode=Mode(form="rooms", passphrase=True, archive=False, private=False),
    web_is_up=True,
    line_is_up=True,
    store_keeps=True,
    disk_free_bytes=2**33,
    database_bytes=2**20,
    admins=2,
    conversations_open=3,
    backlog=1,
    oldest_due_at=NOON - 120,
    pages_open=2,
    streams=1,
    sockets=1,
    rooms=3,
    trouble=(),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def numbers(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values …) → value, of every line but the buckets."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def labels(text: str) -> set[str]:
    return {
        value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for name, value in sample.labels.items()
        if name != "le"
    }


def hung_into(desk: Desk, metrics: Metrics) -> None:
    desk.on_said, desk.on_delivery = metrics.message, metrics.delivery
    desk.store.tell_commits(metrics.commit)


def counted(
    tmp_path: Path,
    story: Callable[[Browser, Desk], Awaitable[object]],
    *,
    limits: Limits | None = None,
    clock: Clock | None = None,
) -> dict[tuple[str, ...], float]:
    """What is counted while the story is told; the text itself is kept in the directory."""

    async def go() -> str:
        metrics = Metrics(clock=clock or Clock())
        async with desk_in(tmp_path, (ADA, BERT)) as desk:
            hung_into(desk, metrics)
            limits_ = Limits() if limits is None else limits
            limits_.on_hit = lambda row: metrics.limit(row.name)
            site = build(
                desk,
                limits_,
                key=KEY.forms,
                sites=lambda: {"": Site("", "Harbour", ""), "shop": SHOP},
                onion=lambda: ONION,
                clock=lambda: NOON,
                on_bug=lambda bug: None,
                on_answer=metrics.request,
            )
            await story(Browser(site), desk)
            return metrics.text(WELL)

    text = asyncio.run(go())
    (tmp_path / "metrics.txt").write_text(text)
    return numbers(text)


# ---- nobody is named -----------------------------------------------------------------------------------------


def test_after_whole_journeys_no_label_names_anyone(tmp_path: Path) -> None:
    secrets: list[str] = []

    async def story(browser: Browser, desk: Desk) -> None:
        await badly(Browser(browser.app))
        secrets.extend(await well(Browser(browser.app, host=HOST, circuit=None)))
        program = Program(browser.app)
        await program.starts()
        await program.says("hello")
        await program.get(f"/{OTHER}")
        await program.call("DELETE", f"/auth/sessions/{OTHER}")
        await Browser(browser.app).get(f"/s/shop/{OTHER}")
        await Browser(browser.app).get(f"/s/{OTHER}")
        secrets.append(program.token)
        async with desk_in(tmp_path / "rooms", (ADA, BERT), uses_rooms=True) as other:
            other.on_delivery, other.on_said = desk.on_delivery, desk.on_said
            await in_rooms(other)
        secrets.extend([*desk.open_aliases(), "shop", "MARKada", ROOM, ONION, "desk@chat.example"])

    (tmp_path / "rooms").mkdir()
    found = counted(tmp_path, story)
    text = (tmp_path / "metrics.txt").read_text()
    for secret in (*MARKS, *secrets):
        assert secret not in text, secret
    templates = {row.path for row in TABLE} | {ROOT + row.path for row in API_TABLE}
    fixed = {"/chat/live", "/check", "/api", "/api/openapi.json", "/badge/{site}.png", "none"}
    for value in labels(text):
        is_asset = re.fullmatch(r"/static/[\w-]+(\.[0-9a-f]{16})?\.(js|css)", value)
        assert value in templates | fixed or is_asset or re.fullmatch(r"[a-z_ ]+|\d{3}|[\d.]+", value), value
    assert found["veilsupport_requests_total", "none", "404"] >= 2
    assert found["veilsupport_requests_total", "/s/{site}", "404"] == 1
    assert found["veilsupport_requests_total", "/api/v1/auth/sessions/{id}", "404"] == 1


def test_the_first_seconds_of_anything_are_not_told(tmp_path: Path) -> None:
    counted(tmp_path, lambda browser, desk: browser.start())
    assert "_created" not in (tmp_path / "metrics.txt").read_text()


# ---- they are right ------------------------------------------------------------------------------------------


def test_requests_are_counted_by_template_and_status(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk) -> None:
        await browser.start()
        await Browser(browser.app).get("/s/shop")
        program = Program(browser.app)
        await program.starts()
        await program.says("hello")
        async with program.signed() as socket:
            await socket.next("ready")

    found = counted(tmp_path, story)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "veilsupport_requests_total"}
    assert requests == {
        ("/", "200"): 1,
        ("/", "303"): 1,
        ("/s/{site}", "200"): 1,
        ("/api/v1/auth/anonymous", "201"): 1,
        ("/api/v1/chat/send", "200"): 1,
        ("/api/v1/ws", "101"): 1,
    }


def test_messages_are_counted_once_by_who_wrote_them(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk) -> None:
        session = await start(desk)
        for _ in range(2):  # a double click
            await desk.visitor_says(session, "more", once=b"1", now=NOON)
        await desk.admin_says(ADA, desk.open_aliases()[0], "yes", intake=None, now=NOON)

    found = counted(tmp_path, story)
    assert found["veilsupport_messages_total", Author.VISITOR] == 2
    assert found["veilsupport_messages_total", Author.ADMIN] == 1


def test_a_delivery_is_timed_from_accepted_to_acknowledged(tmp_path: Path) -> None:
    clock = Clock()

    async def story(browser: Browser, desk: Desk) -> None:
        await start(desk)
        clock.now = 7.0
        for delivery in await hand_over(desk):
            await desk.delivery_acknowledged([delivery.stanza_id])  # once more, as a room's archive does

    found = counted(tmp_path, story, clock=clock)
    assert found["veilsupport_deliveries_total", DeliveryKind.MESSAGE, "acknowledged"] == 1  # Ada's; Bert's is held
    assert found["veilsupport_deliveries_total", DeliveryKind.NEWS, "acknowledged"] == 1
    assert found["veilsupport_delivery_delay_seconds_sum", DeliveryKind.MESSAGE] == 7.0
    assert found["veilsupport_delivery_delay_seconds_count", DeliveryKind.MESSAGE] == 1


def test_what_is_refused_or_lost_is_counted_and_still_timed_as_a_whole(tmp_path: Path) -> None:
    clock = Clock()

    async def story(browser: Browser, desk: Desk) -> None:
        await start(desk)
        [message] = [each for each in desk.due(now=NOON) if each.kind is DeliveryKind.MESSAGE]
        await desk.delivery_sent([message.stanza_id], now=NOON)
        await desk.deliveries_lost([message.stanza_id])
        await desk.delivery_sent([message.stanza_id], now=NOON)
        await desk.delivery_refused(message.stanza_id, now=NOON)
        clock.now = 90.0
        await desk.delivery_acknowledged([message.stanza_id])

    found = counted(tmp_path, story, clock=clock)
    for outcome in ("again", "refused", "acknowledged"):
        assert found["veilsupport_deliveries_total", DeliveryKind.MESSAGE, outcome] == 1
    assert found["veilsupport_delivery_delay_seconds_sum", DeliveryKind.MESSAGE] == 90.0


def test_what_waits_until_an_admin_asks_is_no_delay(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk) -> None:
        session = await start(desk)
        await hand_over(desk)
        await desk.store.release(session.visitor.id, desk.admin_id(BERT), minute=0)
        assert [each.kind for each in await hand_over(desk)] == [DeliveryKind.MESSAGE]

    found = counted(tmp_path, story)
    assert found["veilsupport_deliveries_total", DeliveryKind.MESSAGE, "acknowledged"] == 2
    assert found["veilsupport_delivery_delay_seconds_count", DeliveryKind.MESSAGE] == 1


def test_deliveries_of_an_earlier_run_count_without_a_delay(tmp_path: Path) -> None:
    async def go() -> dict[tuple[str, ...], float]:
        metrics = Metrics()
        async with desk_in(tmp_path) as desk:
            await start(desk)
        async with desk_in(tmp_path) as desk:
            hung_into(desk, metrics)
            await hand_over(desk)
        return numbers(metrics.text(WELL))

    found = asyncio.run(go())
    assert found["veilsupport_deliveries_total", DeliveryKind.MESSAGE, "acknowledged"] == 1
    assert ("veilsupport_delivery_delay_seconds_count", DeliveryKind.MESSAGE) not in found


def test_what_is_remembered_of_deliveries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "UNDER_WAY_MAX", 3)
    metrics = Metrics()
    for number in range(5):
        metrics.delivery(f"stanza-{number}", DeliveryStep.MADE, DeliveryKind.NOTICE)
    for number in range(5):
        metrics.delivery(f"stanza-{number}", DeliveryStep.ACKNOWLEDGED)
    assert numbers(metrics.text(WELL))["veilsupport_deliveries_total", "notice", "acknowledged"] == 3
    assert not metrics._under_way


def test_a_limit_that_is_hit_is_named_by_its_row(tmp_path: Path) -> None:
    table = (Row(Act.START, By.CIRCUIT, 1, 1, ""), Row(Act.START, By.OVERALL, 1, 5, ""))

    async def story(browser: Browser, _: Desk) -> None:
        for _number in range(3):
            other = Browser(browser.app)
            await other.send_form("/", message="hello")

    found = counted(tmp_path, story, limits=Limits(table))
    hit = {key[1]: value for key, value in found.items() if key[0] == "veilsupport_limits_hit_total"}
    assert hit == {"start by circuit": 2}


def test_commits_are_counted_with_their_size_and_whether_the_disk_took_them(tmp_path: Path) -> None:
    async def go() -> dict[tuple[str, ...], float]:
        metrics = Metrics()
        async with desk_in(tmp_path) as desk:
            hung_into(desk, metrics)
            await asyncio.gather(*(desk.store.set_setting(f"s{number}", b"") for number in range(3)))
            keeps = [desk.store.keeps]
            desk.store._writer._db.execute("PRAGMA query_only = ON")  # as a disk that takes nothing
            with pytest.raises(StoreError):
                await desk.store.try_disk()
            keeps.append(desk.store.keeps)
            desk.store._writer._db.execute("PRAGMA query_only = OFF")
            await desk.store.try_disk()
            assert [*keeps, desk.store.keeps] == [True, False, True]
        return numbers(metrics.text(WELL))

    found = asyncio.run(go())
    assert found["veilsupport_commits_total", "no"] == 1
    assert found["veilsupport_commit_writes_sum",] == 5
    assert found["veilsupport_commit_seconds_count",] == found["veilsupport_commit_writes_count",]


def test_a_probe_of_the_disk_is_written(tmp_path: Path) -> None:
    """One that SQLite could skip would find no full disk."""

    async def go() -> None:
        async with desk_in(tmp_path) as desk:
            log = tmp_path / "veilsupport.sqlite-wal"
            await desk.store.set_setting("x", b"")
            before = log.stat().st_size
            await desk.store.try_disk()
            assert log.stat().st_size > before

    asyncio.run(go())


def test_the_line_counts_as_up_again_after_each_loss() -> None:
    metrics = Metrics()
    for phase in (Phase.CONNECTING, Phase.ONLINE, Phase.ONLINE, Phase.WAITING, Phase.CONNECTING, Phase.ONLINE):
        metrics.link(LinkState(phase=phase))
    metrics.sent(DeliveryKind.MESSAGE, True)
    found = numbers(metrics.text(WELL))
    assert found["veilsupport_xmpp_connections_total",] == 2
    assert found["veilsupport_stanzas_sent_total", "yes", "message"] == 1


def test_what_stands_is_read_when_it_is_asked_for() -> None:
    metrics = Metrics()
    assert WELL.tor
    found = numbers(metrics.text(WELL))
    assert found["veilsupport_ready",] == 1
    assert found["veilsupport_backlog",] == 1
    assert found["veilsupport_backlog_oldest_seconds",] == 120
    assert found["veilsupport_tor_phase", "reachable"] == 1
    assert found["veilsupport_tor_descriptor_age_seconds",] == 40
    assert found["veilsupport_build", "0.4.8.16", "0.1.0"] == 1
    restarted = replace(WELL.tor, phase=TorPhase.STARTING, descriptors_uploaded=0, restarts=1)
    found = numbers(metrics.text(replace(WELL, tor=restarted, line_is_up=False)))
    assert found["veilsupport_ready",] == 0
    assert found["veilsupport_tor_phase", "reachable"] == 0
    assert found["veilsupport_part_ready", "xmpp"] == 0
    assert ("veilsupport_tor_descriptor_age_seconds",) not in found
    assert numbers(metrics.text(replace(WELL, tor=None)))["veilsupport_ready",] == 1


def test_two_runs_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.message(Author.VISITOR)
    assert ("veilsupport_messages_total", "visitor") not in numbers(second.text(WELL))
