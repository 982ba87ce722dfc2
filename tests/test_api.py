"""The REST API, over a real desk."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.browser import CIRCUIT, ONION, Browser, Served, answers
from tests.desks import ADA, FREELY, hand_over, intake
from tests.program import EMAIL, HOST, PASSWORD, SITES, Program, Reply, tell
from tests.test_web_changes import answers_as, corrects, retracts
from veilsupport.commands import Command
from veilsupport.desk import Desk
from veilsupport.desk.attendance import AWAY
from veilsupport.errors import StoreError, Unavailable
from veilsupport.limits import Limits
from veilsupport.web import api, refusals

LISTED = "https://shop.example"

# ---- coming in ---------------------------------------------------------------------------------------------


def test_register_answers_201_with_user_and_token(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        reply = await program.post("/auth/register", {"email": EMAIL, "password": PASSWORD})
        assert reply.status == 201
        assert reply.json["user"]["email"] == EMAIL
        assert len(bytes.fromhex(reply.json["user"]["id"])) == 16
        program.token = reply.json["token"]
        assert (await program.get("/chat/status")).status == 200

    tell(tmp_path, story)


def test_the_same_address_again_is_409_and_a_weak_password_400(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.post("/auth/register", {"email": EMAIL, "password": PASSWORD})
        again = await program.post("/auth/register", {"email": EMAIL.upper(), "password": "another one"})
        assert (again.status, again.code, again.field) == (409, "taken", "email")
        weak = await program.post("/auth/register", {"email": "x@mail.example", "password": "123"})
        assert (weak.status, weak.code, weak.field) == (400, "weak_password", "password")
        bad = await program.post("/auth/register", {"email": "nobody", "password": PASSWORD})
        assert (bad.status, bad.code, bad.field) == (400, "bad_email", "email")

    tell(tmp_path, story)


def test_log_in_finds_the_same_user(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        made = await program.post("/auth/register", {"email": EMAIL, "password": PASSWORD})
        back = await program.post("/auth/login", {"email": EMAIL, "password": PASSWORD})
        assert (back.status, back.json["user"]) == (200, made.json["user"])
        assert back.json["token"] != made.json["token"]
        wrong = await program.post("/auth/login", {"email": EMAIL, "password": "another one"})
        assert (wrong.status, wrong.code, wrong.header("www-authenticate")) == (401, "wrong_password", "Bearer")

    tell(tmp_path, story)


def test_an_anonymous_visitor_comes_back_by_code(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        started = await program.starts()
        await program.says("hello")
        elsewhere = Program(served.site)
        back = await elsewhere.post("/auth/return", {"code": started.json["code"].upper()})
        assert (back.status, back.json["user"]) == (200, started.json["user"])
        elsewhere.token = back.json["token"]
        history = await elsewhere.get("/chat/history")
        assert [message["content"] for message in history.json["messages"]] == ["hello"]
        wrong = await elsewhere.post("/auth/return", {"code": "no such words"})
        assert (wrong.status, wrong.code, wrong.field) == (404, "unknown_code", "code")

    tell(tmp_path, story)


# ---- sessions ------------------------------------------------------------------------------------------------


def test_refresh_ends_the_old_token(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        await program.starts()
        fresh = Program(served.site, token=(await program.post("/auth/refresh")).json["token"])
        assert (await fresh.get("/chat/status")).status == 200
        assert (await program.get("/chat/status")).code == "bad_token"

    tell(tmp_path, story)


def test_sessions_are_listed_and_ended(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        code = (await program.starts()).json["code"]
        other = Program(served.site, token=(await program.post("/auth/return", {"code": code})).json["token"])
        sessions = (await program.get("/auth/sessions")).json["sessions"]
        assert sorted(each["current"] for each in sessions) == [False, True]
        [theirs] = [each["id"] for each in sessions if not each["current"]]
        assert (await program.call("DELETE", f"/auth/sessions/{theirs}")).status == 204
        assert (await other.get("/auth/sessions")).status == 401
        assert (await program.call("DELETE", f"/auth/sessions/{theirs}")).code == "not_found"
        assert (await program.post("/auth/logout")).status == 204
        assert (await program.get("/auth/sessions")).status == 401

    tell(tmp_path, story)


def test_a_changed_password_ends_the_other_sessions(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        program.token = (await program.post("/auth/register", {"email": EMAIL, "password": PASSWORD})).json["token"]
        login = {"email": EMAIL, "password": PASSWORD}
        other = Program(served.site, token=(await program.post("/auth/login", login)).json["token"])
        weak = await program.post("/auth/password", {**login, "new_password": "short"})
        assert (weak.status, weak.field) == (400, "new_password")
        wrong = await program.post("/auth/password", {**login, "password": "nonsense", "new_password": "even longer"})
        assert (wrong.status, wrong.code) == (401, "wrong_password")
        assert (await program.post("/auth/password", {**login, "new_password": "even longer"})).status == 204
        assert (await other.get("/chat/status")).status == 401
        assert (await program.get("/chat/status")).status == 200
        assert (await program.post("/auth/login", login)).status == 401

    tell(tmp_path, story)


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic x", "Bearer not-a-token", f"Bearer {'x' * 999}"])
def test_what_is_no_token_opens_nothing(tmp_path: Path, given: str) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        for row in api.TABLE:
            if row.needs_token:
                path = row.path.replace("{id}", "0" * 16)
                reply = await program.call(row.method, path, authorization=given)
                assert (reply.status, reply.header("www-authenticate")) == (401, "Bearer")

    tell(tmp_path, story)


def test_the_pages_cookie_counts_for_nothing(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        browser = Browser(served.site)
        await browser.start()
        assert (await browser.get("/api/v1/chat/history")).status == 401

    tell(tmp_path, story)


# ---- the conversation ----------------------------------------------------------------------------------------


def test_a_message_is_kept_and_due_to_the_admins(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        reply = await program.says("hello")
        assert reply.json["message"] == {
            "seq": 1,
            "author": "user",
            "name": "",
            "content": "hello",
            "at": "2027-01-15T08:00Z",
            "state": "kept",
            "change": None,
        }
        assert [delivery.body for delivery in desk.due(now=2e9)] == ["hello"]

    tell(tmp_path, story)


def test_the_same_id_is_kept_once(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await asyncio.gather(*(program.says("hello", id="c-1") for _ in range(10)))
        assert (await program.says("hello", id="c-1")).json["message"]["seq"] == 1
        assert (await program.says("hello", id="c-2")).json["message"]["seq"] == 2
        assert (await program.says("hello")).json["message"]["seq"] == 3
        assert (await program.says("hello")).json["message"]["seq"] == 4
        assert len(desk.due(now=2e9)) == 4

    tell(tmp_path, story)


def test_history_pages_both_ways(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("1")
        for number in range(2, 11):
            await answers(desk, str(number))

        async def page(query: str) -> tuple[list[str], bool]:
            reply = await program.get(f"/chat/history{query}")
            return [message["content"] for message in reply.json["messages"]], reply.json["more"]

        assert await page("") == ([str(number) for number in range(1, 11)], False)
        assert await page("?limit=3") == (["8", "9", "10"], True)
        assert await page("?limit=3&before=4") == (["1", "2", "3"], False)
        assert await page("?limit=3&after=4") == (["5", "6", "7"], True)
        assert await page("?limit=3&after=7") == (["8", "9", "10"], False)
        assert await page("?after=10") == ([], False)
        assert await page("?after=2&before=5") == (["3", "4"], False)
        assert await page("?after=2&before=9&limit=2") == (["3", "4"], True)
        message = (await program.get("/chat/history?after=9")).json["messages"][0]
        assert (message["author"], message["name"]) == ("admin", "Ada")

    tell(tmp_path, story)


def test_status_tells_desk_and_states_truthfully(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        empty = await program.get("/chat/status")
        assert empty.json == {
            "desk": {
                "open": False,
                "staffed": True,
                "away": None,
                "archived": False,
                "answer_minutes": None,
                "conversation": None,
            },
            "last_seq": 0,
            "read_seq": 0,
            "states": [],
        }
        desk.line_changed(True)
        await program.says("one")
        await answers(desk, "two")
        ring = (await hand_over(desk))[0]
        await desk.delivery_arrived(ring.stanza_id, ADA)
        assert (await program.post("/chat/read", {"seq": 2})).status == 204
        assert (await program.get("/chat/status")).json == {
            "desk": {
                "open": True,
                "staffed": True,
                "away": None,
                "archived": False,
                "answer_minutes": None,
                "conversation": "open",
            },
            "last_seq": 2,
            "read_seq": 2,
            "states": [{"seq": 1, "state": "on_device"}],
        }

    tell(tmp_path, story)


def test_status_and_site_tell_who_is_there(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        desk.sites = {**SITES, "shop": replace(SITES["shop"], away="The shop is closed.")}
        desk.line_changed(True)
        desk.admins_are_there([])
        await program.starts()
        nobody = {"open": True, "staffed": False, "away": AWAY}
        shop = nobody | {"away": "The shop is closed."}

        def told(reply: Reply) -> dict[str, Any]:
            return {name: reply.json.get("desk", reply.json)[name] for name in nobody}

        assert told(await program.get("/chat/status")) == told(await program.get("/site")) == nobody
        assert told(await program.get("/chat/status", origin=LISTED)) == shop  # there it would begin
        assert told(await program.get("/site?name=shop")) == shop
        await program.post("/chat/send", {"message": "x"}, origin=LISTED)
        assert told(await program.get("/chat/status")) == shop
        desk.admins_are_there(None)
        assert told(await program.get("/chat/status")) == {"open": True, "staffed": True, "away": None}

    tell(tmp_path, story)


def test_history_shows_each_message_as_it_is_now(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        await answers_as(desk, "at nin", "a")
        await answers_as(desk, "a secret", "b")
        await corrects(desk, "a", "at nine")
        await retracts(desk, "b")
        messages = (await program.get("/chat/history")).json["messages"]
        assert [(each["content"], each["change"], each["state"]) for each in messages] == [
            ("one", None, "kept"),
            ("at nine", "corrected", "kept"),
            ("", "retracted", "kept"),
        ]

    tell(tmp_path, story)


def test_where_a_site_shows_no_read_marks_the_api_does_not(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        [ring] = await hand_over(desk)
        await desk.delivery_read(ring.stanza_id, ADA)

        async def told() -> set[str]:
            page, later = await program.get("/chat/history"), await program.get("/chat/history?after=0")
            status = (await program.get("/chat/status")).json
            return {each["state"] for each in page.json["messages"] + later.json["messages"] + status["states"]}

        assert await told() == {"read"}
        desk.sites = {"": replace(SITES[""], read_marks=False)}
        assert await told() == {"handed_over"}

    tell(tmp_path, story)


def test_a_blocked_conversation_can_be_read_only(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        await program.says("one")
        await desk.admin_commands(ADA, Command("block", desk.open_aliases()[0]), intake=intake(), now=0.0)
        refused = await program.post("/chat/send", {"message": "two"})
        assert (refused.status, refused.code) == (403, "blocked")
        assert (await program.get("/chat/status")).json["desk"]["conversation"] == "blocked"
        assert len((await program.get("/chat/history")).json["messages"]) == 1

    tell(tmp_path, story)


def test_burning_erases_and_signs_out(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        code = (await program.starts()).json["code"]
        await program.says("one")
        assert (await program.call("DELETE", "/account")).status == 204
        assert (await program.get("/chat/history")).code == "bad_token"
        assert (await program.post("/auth/return", {"code": code})).code == "unknown_code"
        assert desk.open_aliases() == []

    tell(tmp_path, story)


# ---- sites and origins ---------------------------------------------------------------------------------------


def test_a_site_presents_itself_by_name_and_by_origin(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        assert (await program.get("/site")).json["title"] == "Harbour Support"
        for reply in (await program.get("/site?name=shop"), await program.get("/site", origin=LISTED)):
            assert (reply.json["title"], reply.json["languages"]) == ("The Shop", ["de", "en"])
        assert (await program.get("/site?name=", origin=LISTED)).json["name"] == ""
        assert (await program.get("/site?name=elsewhere")).code == "not_found"

    tell(tmp_path, story)


def test_a_conversation_belongs_to_the_site_that_lists_its_origin(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, served: Served) -> None:
        for origin, site in ((LISTED, "shop"), ("http://other.example:81", "shop"), (f"http://{HOST}", ""), ("", "")):
            other = Program(served.site, token=(await program.post("/auth/anonymous", origin=origin)).json["token"])
            await other.post("/chat/send", {"message": origin or "none"}, origin=origin)
            assert [each.site for each in desk.due(now=2e9) if each.body == (origin or "none")] == [site]

    tell(tmp_path, story)


def test_listed_origins_may_read_our_answers_and_refusals(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        for reply in (await program.get("/site", origin=LISTED), await program.get("/nowhere", origin=LISTED)):
            assert reply.header("access-control-allow-origin") == LISTED
            assert reply.header("access-control-expose-headers") == "retry-after"
            assert reply.header("access-control-allow-credentials") == ""
            assert reply.header("vary") == "origin"

    tell(tmp_path, story)


def test_preflight_allows_listed_origins_their_token(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        asks: dict[str, Any] = {
            "access_control_request_method": "POST",
            "access_control_request_headers": "authorization",
        }
        reply = await program.call("OPTIONS", "/chat/send", origin=LISTED, **asks)
        assert reply.status == 204
        assert reply.header("access-control-allow-origin") == LISTED
        assert "authorization" in reply.header("access-control-allow-headers")
        assert "DELETE" in reply.header("access-control-allow-methods")
        refused = await program.call("OPTIONS", "/chat/send", origin="https://evil.example", **asks)
        assert (refused.status, refused.code) == (403, "wrong_origin")
        assert refused.header("access-control-allow-origin") == ""

    tell(tmp_path, story)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://shop.example.evil", "http://shop.example"])
def test_unlisted_origins_read_nothing_and_do_nothing(tmp_path: Path, origin: str) -> None:
    async def story(program: Program, desk: Desk, __: Served) -> None:
        await program.starts()
        read = await program.get("/site", origin=origin)
        assert read.header("access-control-allow-origin") == ""
        assert read.header("vary") == "origin"
        for method, path in (("POST", "/chat/send"), ("DELETE", "/account"), ("POST", "/auth/anonymous")):
            refused = await program.call(method, path, {"message": "x"}, origin=origin)
            assert (refused.status, refused.code) == (403, "wrong_origin")
            assert refused.header("access-control-allow-origin") == ""
        assert desk.due(now=2e9) == []

    tell(tmp_path, story)


def test_pages_stay_closed_to_listed_origins(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        browser = Browser(served.site)
        assert (await browser.post("/", {"message": "x"}, origin=LISTED)).status == 403

    tell(tmp_path, story)


def test_the_api_stands_behind_the_prefix(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        assert (await program.browser.get("/support/api/v1/site")).status == 200
        assert (await program.browser.get("/api/v1/site")).status == 404

    tell(tmp_path, story, prefix="/support")


# ---- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "raw", "code", "field"),
    [
        ("/chat/send", b"", "malformed", None),
        ("/chat/send", b"{", "malformed", None),
        ("/chat/send", b"[]", "malformed", None),
        ("/chat/send", b'"message"', "malformed", None),
        ("/chat/send", b"\xff\xfe", "malformed", None),
        ("/chat/send", b'{"message": "\\ud800"}', "malformed", None),
        ("/chat/send", b"[" * 9000, "malformed", None),
        ("/chat/send", b"{}", "missing", "message"),
        ("/chat/send", b'{"message": 1}', "invalid", "message"),
        ("/chat/send", b'{"message": null}', "invalid", "message"),
        ("/chat/send", b'{"message": ""}', "empty", "message"),
        ("/chat/send", b'{"message": " \\u202e "}', "empty", "message"),
        ("/chat/send", b'{"message": "%s"}' % (b"x" * 4001), "too_long", "message"),
        ("/chat/send", b'{"message": "x", "more": 1}', "unknown_field", "more"),
        ("/chat/send", b'{"message": "x", "%s": 1}' % (b"k" * 200), "unknown_field", "k" * 64),
        ("/chat/send", b'{"message": "x", "id": "no blanks"}', "invalid", "id"),
        ("/chat/send", b'{"message": "x", "id": ""}', "invalid", "id"),
        ("/chat/read", b'{"seq": "1"}', "invalid", "seq"),
        ("/chat/read", b'{"seq": 0}', "invalid", "seq"),
        ("/chat/read", b'{"seq": 1.5}', "invalid", "seq"),
        ("/chat/read", b'{"seq": 1e400}', "invalid", "seq"),
        ("/chat/read", b'{"seq": 1e300}', "invalid", "seq"),
        ("/chat/read", b'{"seq": true}', "invalid", "seq"),
        ("/auth/logout", b'{"x": 1}', "unknown_field", "x"),
        ("/auth/logout?x=1", b"", "unknown_field", "x"),
    ],
)
def test_unfit_bodies_are_refused_by_field(tmp_path: Path, path: str, raw: bytes, code: str, field: str | None) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        reply = await program.call("POST", path, raw=raw, content_type="application/json; charset=utf-8")
        assert (reply.status, reply.code, reply.field) == (400, code, field)
        assert reply.json["error"]["message"].endswith(".")

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("before=0", "invalid", "before"),
        ("before=-1", "invalid", "before"),
        ("after=1.0", "invalid", "after"),
        ("after= 1", "invalid", "after"),
        ("after=1_0", "invalid", "after"),
        ("after=", "invalid", "after"),
        ("after=%D9%A1", "invalid", "after"),
        ("limit=201", "invalid", "limit"),
        (f"limit={'9' * 400}", "invalid", "limit"),
        ("limit=1&limit=2", "unknown_field", None),
        ("page=1", "unknown_field", "page"),
        ("&".join(f"a{number}=1" for number in range(20)), "malformed", None),
    ],
)
def test_unfit_queries_are_refused_by_field(tmp_path: Path, query: str, code: str, field: str | None) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        reply = await program.get(f"/chat/history?{query}")
        assert (reply.status, reply.code, reply.field) == (400, code, field)

    tell(tmp_path, story)


def test_what_is_not_json_is_415_and_too_much_413(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
            reply = await program.call("POST", "/chat/send", raw=b'{"message": "x"}', content_type=kind or "x")
            assert (reply.status, reply.code) == (415, "not_json")
        long = await program.call("POST", "/chat/send", raw=b'{"message": "%s"}' % (b"x" * 16 * 1024))
        assert (long.status, long.code) == (413, "too_large")

    tell(tmp_path, story)


def test_a_message_of_4000_characters_of_any_kind_fits(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        await program.starts()
        raw = '{"message": "' + "😀" * 4000 + '", "id": "' + "i" * 64 + '"}'
        assert (await program.call("POST", "/chat/send", raw=raw.encode())).status == 200

    tell(tmp_path, story)


def test_other_methods_are_405_with_allow_and_other_paths_404(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        reply = await program.call("PUT", "/chat/history")
        assert (reply.status, reply.code, reply.header("allow")) == (405, "method", "GET, HEAD, OPTIONS")
        assert (await program.call("DELETE", "/chat/send")).header("allow") == "POST, OPTIONS"
        assert (await program.call("OPTIONS", "/chat/send")).status == 204
        for path in ("", "/", "/chat", "/chat/send/", "/auth/sessions/", "/auth/sessions/{id}", "/auth/sessions/a/b"):
            assert (await program.get(path)).status in (404, 405)
        assert (await program.get("/ws")).header("upgrade") == "websocket"

    tell(tmp_path, story)


def test_head_answers_as_get_does(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        assert (await program.call("HEAD", "/site")).status == 200

    tell(tmp_path, story)


def test_proxies_and_other_hosts_are_refused_in_json(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        assert (await program.get("/site", x_tor2web="1")).code == "proxied"
        assert (await Program(served.site, host="evil.example").get("/site")).code == "wrong_host"

    tell(tmp_path, story)


def test_a_disk_that_takes_nothing_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(program: Program, desk: Desk, _: Served) -> None:
        await program.starts()
        for trouble in (StoreError("full"), Unavailable("gone")):

            async def refuses(*_: object, trouble: Exception = trouble, **__: object) -> None:
                raise trouble

            monkeypatch.setattr(desk.store, "add_message", refuses)
            reply = await program.post("/chat/send", {"message": "x"})
            assert (reply.status, reply.code, reply.header("retry-after")) == (503, "unavailable", "60")

    tell(tmp_path, story)


# ---- limits --------------------------------------------------------------------------------------------------


def test_too_fast_is_429_and_says_how_long_to_wait(tmp_path: Path) -> None:
    async def story(program: Program, desk: Desk, served: Served) -> None:
        desk.sites = FREELY
        await program.starts()
        replies = [await program.post("/chat/send", {"message": "x"}) for _ in range(21)]
        assert [reply.status for reply in replies] == [200] * 20 + [429]
        assert (replies[-1].code, replies[-1].header("retry-after")) == ("too_fast", "2")
        served.clock.now += int(replies[-1].header("retry-after"))
        assert (await program.post("/chat/send", {"message": "x"})).status == 200

    tell(tmp_path, story)


def test_guessing_one_password_is_slowed_whatever_the_spelling_and_the_door(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        for email in ("jo@mail.example", " JO@mail.example", "\uff4ao@mail.example"):
            assert (await program.post("/auth/login", {"email": email, "password": "guessed it"})).status == 401
        assert (await program.post("/auth/login", {"email": EMAIL, "password": "guessed it"})).status == 429
        page = await Browser(served.site, circuit=None, host=HOST).send_form(
            "/account", email=EMAIL, password="guessed it"
        )
        assert page.status == 429
        assert (await program.post("/auth/login", {"email": "else@mail.example", "password": "x"})).status == 401

    tell(tmp_path, story)


def test_a_circuit_starts_five_and_a_hundred_programs_on_loopback_start(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        behind_tor = Program(served.site, circuit=CIRCUIT, host=ONION)
        assert [(await behind_tor.post("/auth/anonymous")).status for _ in range(6)] == [201] * 5 + [429]
        assert {(await program.post("/auth/anonymous")).status for _ in range(100)} == {201}

    tell(tmp_path, story)


# ---- whatever is sent ------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_FIELDS = st.sampled_from(["message", "id", "email", "password", "new_password", "code", "seq", "type"])


def test_whatever_is_sent_the_answer_is_below_500_and_has_the_shape(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, served: Served) -> None:
        await program.starts()
        for row, body, query in examples():
            path = row.path.replace("{id}", "x") + (f"?after={query}" if query else "")
            path = path.encode("ascii", "ignore").decode()
            if isinstance(body, bytes):
                reply = await program.call(row.method, path, raw=body)
            else:
                reply = await program.call(row.method, path, body)
            assert reply.status < 500
            if reply.status >= 400:
                assert reply.code in refusals.CODES
        assert served.bugs == []

    tell(tmp_path, story, limits=Limits(()), sites=SITES)


def examples() -> list[tuple[api.Row, object, str]]:
    """Drawn before, because a property cannot be awaited. Without those that end the session or cost a slow hash."""
    costly = ("/account", "/auth/logout", "/auth/refresh", "/auth/register", "/auth/login", "/auth/password")
    rows = st.sampled_from([row for row in api.TABLE if row.path not in costly])
    drawn: list[tuple[api.Row, object, str]] = []

    @settings(max_examples=300, database=None, suppress_health_check=list(HealthCheck))
    @given(rows, st.dictionaries(_FIELDS, _JSON) | st.binary(), st.text(max_size=9))
    def draw(row: api.Row, body: object, query: str) -> None:
        drawn.append((row, body, query))

    draw()
    return drawn
