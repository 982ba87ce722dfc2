"""What every request passes, and every answer carries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from tests.browser import FORM, ONION, OWN, Browser, Exchange, Served, site_of
from tests.desks import desk_in
from veilsupport.errors import StoreError
from veilsupport.web import guard
from veilsupport.web.guard import Guard
from veilsupport.web.look import Look
from veilsupport.web.origins import Origins

FIXED = {
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-robots-tag": "noindex, noarchive",
}


def visit(tmp_path: Path, story: Callable[[Browser, Served], Awaitable[None]], **browser: object) -> None:
    async def run() -> None:
        async with desk_in(tmp_path) as desk:
            served = site_of(desk)
            await story(Browser(served.site, **browser), served)  # type: ignore[arg-type]
            assert served.bugs == []

    asyncio.run(run())


def test_every_answer_carries_the_fixed_headers_and_no_clock(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Served) -> None:
        for path in ("/", "/return", "/nowhere", "/check", "/chat"):
            answer = await browser.get(path)
            assert {name: answer.header(name) for name in FIXED} == FIXED
            assert answer.header("cache-control") == "no-store"
            policy = answer.header("content-security-policy")
            assert policy.startswith("default-src 'none'; base-uri 'none'")
            assert "unsafe" not in policy
            assert {name for name, _ in answer.headers}.isdisjoint({"server", "date", "last-modified", "etag"})

    visit(tmp_path, story)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", f"www.{ONION}", f"{ONION}.to", f"{ONION}:80", ONION.upper(), "127.0.0.1", "localhost:8080"],
)
def test_over_a_circuit_only_the_onion_itself_is_answered(tmp_path: Path, host: str) -> None:
    async def story(browser: Browser, _: Served) -> None:
        assert (await browser.get("/")).status == 421

    visit(tmp_path, story, host=host)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:9", 200),
        (ONION, 421),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:8080:1", 421),
    ],
)
def test_on_loopback_only_loopback_names_are_answered(tmp_path: Path, host: str, status: int) -> None:
    async def story(browser: Browser, _: Served) -> None:
        assert (await browser.get("/")).status == status

    visit(tmp_path, story, host=host, circuit=None)


def test_before_the_address_is_known_nothing_is_answered_over_a_circuit(tmp_path: Path) -> None:
    async def run() -> None:
        async with desk_in(tmp_path) as desk:
            for host in (ONION, "None", "127.0.0.1"):
                assert (await Browser(site_of(desk, onion=None).site, host=host).get("/")).status == 421

    asyncio.run(run())


def test_two_host_headers_are_refused(tmp_path: Path) -> None:
    async def story(browser: Browser, served: Served) -> None:
        scope = browser.scope("GET", "/")
        scope["headers"].append((b"host", ONION.encode()))
        exchange = Exchange(scope)
        await served.site(scope, exchange.receive, exchange.send)
        assert exchange.answer().status == 421

    visit(tmp_path, story)


@pytest.mark.parametrize("header", ["x_tor2web", "via", "forwarded", "x_forwarded_for", "x_real_ip"])
def test_a_proxy_that_leads_out_of_tor_gets_a_warning_without_a_link(tmp_path: Path, header: str) -> None:
    async def story(browser: Browser, _: Served) -> None:
        answer = await browser.get("/", **{header: "1"})
        assert answer.status == 403
        assert "through a proxy" in answer.text
        assert "<a " not in answer.text.replace('<a class="skip" href="#main">', "")
        assert ONION not in answer.text  # in two pieces, so that it is not rewritten
        assert "a" * 56 in answer.text

    visit(tmp_path, story)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (f"http://{ONION}", 303),
        ("", 303),
        ("null", 403),
        ("http://evil.example", 403),
        (f"https://{ONION}", 403),
        (f"http://{ONION}.evil.example", 403),
    ],
)
def test_forms_are_taken_from_our_own_pages_only(tmp_path: Path, origin: str, status: int) -> None:
    async def story(browser: Browser, _: Served) -> None:
        fields = (await browser.get("/")).hidden() | {"message": "hello"}
        assert (await browser.post("/", fields, origin=origin)).status == status

    visit(tmp_path, story)


def pieces(*bodies: bytes) -> list[Message]:
    return [{"type": "http.request", "body": body, "more_body": True} for body in bodies]


async def send_pieces(served: Served, browser: Browser, messages: list[Message], **headers: str) -> Exchange:
    scope = browser.scope("POST", "/", body=b"", content_type=FORM, **headers)
    exchange = Exchange(scope, messages)
    await asyncio.wait_for(served.site(scope, exchange.receive, exchange.send), 5)
    return exchange


def test_a_body_that_is_announced_too_large_is_refused_unread(tmp_path: Path) -> None:
    async def story(browser: Browser, served: Served) -> None:
        exchange = await send_pieces(served, browser, [], content_length="70000")
        assert exchange.answer().status == 413
        assert exchange.answer().header("connection") == "close"

    visit(tmp_path, story)


def test_a_body_that_turns_out_too_large_is_refused(tmp_path: Path) -> None:
    async def story(browser: Browser, served: Served) -> None:
        exchange = await send_pieces(served, browser, pieces(*[b"x" * 1024] * 65))
        assert exchange.answer().status == 413

    visit(tmp_path, story)


def test_a_body_that_does_not_come_to_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)

    async def story(browser: Browser, served: Served) -> None:
        exchange = await send_pieces(served, browser, pieces(b"message=hel"))
        assert exchange.answer().status == 408

    visit(tmp_path, story)


def test_a_client_that_leaves_in_the_middle_gets_no_answer(tmp_path: Path) -> None:
    async def story(browser: Browser, served: Served) -> None:
        messages: list[Message] = [*pieces(b"message=hel"), {"type": "http.disconnect"}]
        assert (await send_pieces(served, browser, messages)).sent == []

    visit(tmp_path, story)


def test_a_bug_shows_a_plain_page_and_is_reported() -> None:
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    bugs: list[BaseException] = []
    look = Look(lambda: OWN)
    app = Guard(broken, look=look, onion=lambda: ONION, on_bug=bugs.append, origins=Origins(lambda: {"": OWN}))

    async def run() -> Exchange:
        exchange = Exchange(Browser(app).scope("GET", "/"))
        with pytest.raises(ZeroDivisionError):
            await app(exchange.scope, exchange.receive, exchange.send)
        return exchange

    answer = asyncio.run(run()).answer()
    assert answer.status == 500
    assert "made a mistake" in answer.text
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


def test_a_disk_that_gives_nothing_for_a_moment_is_no_bug_also_within_a_stream() -> None:
    async def without_disk(_scope: Scope, _receive: Receive, _send: Send) -> None:
        async with asyncio.TaskGroup():
            raise StoreError("The disk did not give it.")

    bugs: list[BaseException] = []
    app = Guard(
        without_disk,
        look=Look(lambda: OWN),
        onion=lambda: ONION,
        on_bug=bugs.append,
        origins=Origins(lambda: {"": OWN}),
    )
    answer = asyncio.run(Browser(app).get("/chat/live"))
    assert answer.status == 503
    assert bugs == []


def test_lifespan_is_not_spoken(tmp_path: Path) -> None:
    async def story(_browser: Browser, served: Served) -> None:
        exchange = Exchange({"type": "lifespan"})
        await served.site(exchange.scope, exchange.receive, exchange.send)
        assert exchange.sent == []

    visit(tmp_path, story)


PATHS = ["/", "/return", "/account", "/chat", "/chat/compose", "/chat/write", "/chat/older", "/chat/live", "/x"]
NASTY = st.one_of(st.text(max_size=60), st.sampled_from(["\x00", "\ud7ff", "%", "&=&", "x" * 5000, "\u202eabc"]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "PROPFIND"]),
    path=st.sampled_from(PATHS),
    query=st.text(max_size=30),
    fields=st.dictionaries(st.sampled_from(["message", "code", "email", "password", "longer"]), NASTY),
    raw=st.binary(max_size=200),
    kind=st.sampled_from([FORM, "multipart/form-data; boundary=x", "text/plain", "", "application/json"]),
    cookie=st.one_of(st.just(""), st.text(max_size=40).map(lambda text: f"veil={text}")),
    honest=st.booleans(),
)
def test_whatever_is_sent_the_answer_is_never_5xx(
    tmp_path: Path,
    method: str,
    path: str,
    query: str,
    fields: dict[str, str],
    raw: bytes,
    kind: str,
    cookie: str,
    honest: bool,
) -> None:
    async def story(browser: Browser, _: Served) -> None:
        if honest and method == "POST":
            answer = await browser.post(path, (await browser.get(path)).hidden() | fields)
        else:
            browser.cookie = cookie
            answer = await browser.request(method, path, body=raw, content_type=kind)
        assert 200 <= answer.status < 500

    visit(tmp_path, story)
