"""Health checks: who may ask, what they are told, and that the page's visitors have nothing of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Answer, Browser, site_of
from tests.desks import desk_in
from tests.ports import free_port
from tests.test_metrics import WELL
from veilsupport import config
from veilsupport.directory import DataDirectory
from veilsupport.errors import SetupError, StoreError
from veilsupport.observing import Observer
from veilsupport.observing import Sources as Observed
from veilsupport.tor import TorPhase, TorState
from veilsupport.tor.state import PrivateState
from veilsupport.vitals import Vitals
from veilsupport.web.health import Health, Sources, serve_health

PORT = 9464
HOST = f"127.0.0.1:{PORT}"


def sources(vitals: Vitals = WELL) -> Sources:
    return Sources(health=vitals.health, metrics=lambda: "veilsupport_ready 1\n")


def asked(path: str, *, vitals: Vitals = WELL, method: str = "GET", host: str = HOST, origin: str = "") -> Answer:
    browser = Browser(Health(sources(vitals), port=PORT), host=host, circuit=None)
    return asyncio.run(browser.request(method, path, origin=origin))


# ---- what is told --------------------------------------------------------------------------------------------


def test_live_as_long_as_it_answers_at_all() -> None:
    answer = asked("/live", vitals=replace(WELL, store_keeps=False))
    assert (answer.status, json.loads(answer.text)) == (200, {"live": True})


def test_ready_when_every_part_is() -> None:
    answer = asked("/ready")
    assert answer.status == 200
    told = json.loads(answer.text)
    assert told["ready"] is True
    assert list(told["parts"]) == ["web", "store", "disk", "tor", "xmpp"]


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("web", {"web_is_up": False}),
        ("store", {"store_keeps": False}),
        ("disk", {"disk_free_bytes": 2**20}),
        ("tor", {"tor": TorState(phase=TorPhase.PUBLISHING)}),
        ("xmpp", {"line_is_up": False}),
        ("xmpp_onion", {"tor": replace(WELL.tor, private=PrivateState("x.onion", clients=1))}),  # type: ignore[type-var]
    ],
)
def test_one_part_that_is_not_ready_is_enough_and_is_named(part: str, change: Mapping[str, Any]) -> None:
    answer = asked("/ready", vitals=replace(WELL, **change))
    assert answer.status == 503
    parts = json.loads(answer.text)["parts"]
    assert [name for name, state in parts.items() if not state["ready"]] == [part]


def test_what_was_not_asked_for_is_no_trouble() -> None:
    """Without tor, without an account, or with an XMPP onion that nobody may reach yet."""
    assert asked("/ready", vitals=replace(WELL, tor=None)).status == 200
    assert asked("/ready", vitals=replace(WELL, xmpp=None, line_is_up=False)).status == 200
    assert WELL.tor
    unused = replace(WELL.tor, private=PrivateState("x.onion", clients=0))
    assert asked("/ready", vitals=replace(WELL, tor=unused)).status == 200


def test_metrics_come_as_prometheus_wants_them() -> None:
    answer = asked("/metrics")
    assert (answer.status, answer.text) == (200, "veilsupport_ready 1\n")
    assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"


def test_no_answer_holds_an_address() -> None:
    for path in ("/live", "/ready", "/metrics"):
        text = asked(path).text
        assert "onion" not in text.replace("xmpp_onion", "")
        assert "@" not in text


def test_a_disk_that_gives_nothing_is_not_ready() -> None:
    def broken() -> Mapping[str, Any]:
        raise StoreError("The disk did not give it.")

    async def go() -> None:
        browser = Browser(Health(Sources(broken, lambda: ""), port=PORT), host=HOST, circuit=None)
        assert (await browser.get("/ready")).status == 503
        assert (await browser.get("/live")).status == 200

    asyncio.run(go())


# ---- who may ask ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["", "evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:9465", "localhost"]
)
def test_another_host_than_ours_is_told_nothing(host: str) -> None:
    """Whatever name a page has let point here."""
    for path in ("/live", "/ready", "/metrics"):
        answer = asked(path, host=host)
        assert (answer.status, answer.text) == (421, '{"error": "wrong_host"}\n')


def test_localhost_is_ours_too() -> None:
    assert asked("/live", host=f"localhost:{PORT}").status == 200


def test_two_hosts_are_none() -> None:
    async def go() -> int:
        browser = Browser(Health(sources(), port=PORT), host=HOST, circuit=None)
        scope = browser.scope("GET", "/live")
        scope["headers"] *= 2
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await browser.app(scope, asyncio.Queue[Any]().get, send)
        return int(sent[0]["status"])

    assert asyncio.run(go()) == 421


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "PUT", "DELETE", "TRACE"])
def test_nothing_is_changed_from_here(method: str) -> None:
    assert asked("/ready", method=method).status == 405


def test_head_has_no_body() -> None:
    answer = asked("/ready", method="HEAD")
    assert (answer.status, answer.text) == (200, "")
    assert int(answer.header("content-length")) > 0


@pytest.mark.parametrize("path", ["/", "/metrics/", "/live/x", "/chat", "/api/v1/site", "/check"])
def test_there_is_nothing_else(path: str) -> None:
    assert asked(path).status == 404


def test_pages_in_a_browser_here_can_read_nothing(tmp_path: Path) -> None:
    answer = asked("/ready", origin="http://evil.example")
    names = {name for name, _ in answer.headers}
    assert not [name for name in names if name.startswith("access-control")]
    assert answer.header("cross-origin-resource-policy") == "same-origin"  # else onload and onerror would tell
    assert answer.header("cache-control") == "no-store"


def test_the_pages_visitors_have_nothing_of_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with desk_in(tmp_path) as desk:
            served = site_of(desk)
            for browser in (Browser(served.site), Browser(served.site, host=HOST, circuit=None)):
                for path in ("/live", "/ready", "/metrics"):
                    assert (await browser.get(path)).status == 404

    asyncio.run(go())


# ---- the real server -----------------------------------------------------------------------------------------


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


def test_on_the_wire_it_tells_neither_clock_nor_software_and_takes_no_websocket() -> None:
    async def go() -> None:
        port, stop, ready = free_port(), asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve_health(sources(), port=port, stop=stop, ready=ready))
            await ready.wait()
            host = f"Host: 127.0.0.1:{port}\r\n".encode()
            answer = await raw(port, b"GET /ready HTTP/1.1\r\n" + host + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            head = answer.partition(b"\r\n\r\n")[0].lower()
            assert b"\r\nserver:" not in head
            assert b"\r\ndate:" not in head
            upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            assert (await raw(port, b"GET /ready HTTP/1.1\r\n" + host + upgrade + key)).startswith(b"HTTP/1.1 403 ")
            stop.set()

    asyncio.run(go())


def test_a_taken_port_is_said_with_the_option_that_changes_it() -> None:
    async def go() -> None:
        port = free_port()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
        async with server:
            with pytest.raises(SetupError) as refused:
                await serve_health(sources(), port=port, stop=asyncio.Event(), ready=asyncio.Event())
            assert "--health-port" in refused.value.hint

    asyncio.run(go())


# ---- where the answers come from -----------------------------------------------------------------------------


def test_a_writer_that_its_disk_holds_up_does_not_keep_anyone_waiting(tmp_path: Path) -> None:
    async def go() -> None:
        with DataDirectory(tmp_path) as house:
            house.key(lambda: None)
            async with desk_in(house.path) as desk:
                observer = Observer(
                    config.parse(""),
                    house,
                    desk,
                    desk.store,
                    sources=Observed(page=lambda: None, tor=lambda: None, link=lambda: None, trouble=tuple),
                )
                loop, may_go_on, is_held_up = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

                def held_up(_: object) -> None:
                    loop.call_soon_threadsafe(is_held_up.set)
                    asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result()

                writing = asyncio.create_task(desk.store._write(held_up))
                await is_held_up.wait()
                began = loop.time()
                assert observer.vitals().health()["parts"]["store"]["ready"]
                assert "veilsupport_backlog 0" in observer.text()
                assert loop.time() - began < 1
                assert not writing.done()
                may_go_on.set()
                await writing

    asyncio.run(go())


def test_reachable_since_begins_anew_after_each_loss(tmp_path: Path) -> None:
    async def go() -> None:
        with DataDirectory(tmp_path) as house:
            house.key(lambda: None)
            async with desk_in(house.path) as desk:
                states = [TorState(phase=TorPhase.REACHABLE)]
                seen = Observed(page=lambda: None, tor=lambda: states[-1], link=lambda: None, trouble=tuple)
                observer = Observer(config.parse(""), house, desk, desk.store, sources=seen)
                assert observer.vitals().reachable_since is None
                observer.tor_changed(states[-1])
                first = observer.vitals().reachable_since
                assert first is not None
                observer.tor_changed(states[-1])
                assert observer.vitals().reachable_since == first
                observer.tor_changed(TorState(phase=TorPhase.UNREACHABLE))
                assert observer.vitals().reachable_since is None

    asyncio.run(go())


def test_a_data_directory_that_is_gone_is_a_disk_that_gives_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        with DataDirectory(tmp_path / "data") as house:
            async with desk_in(house.path) as desk:
                seen = Observed(page=lambda: None, tor=lambda: None, link=lambda: None, trouble=tuple)
                observer = Observer(config.parse(""), house, desk, desk.store, sources=seen)
                house.path.rename(tmp_path / "elsewhere")
                with pytest.raises(StoreError):
                    observer.vitals()
                (tmp_path / "elsewhere").rename(house.path)

    asyncio.run(go())
