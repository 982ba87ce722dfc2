"""The script files, and the one page that runs any."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.browser import ONION, Browser, Served
from tests.test_sites import HOST, tell
from veilsupport import resources
from veilsupport.desk import Desk
from veilsupport.web import TABLE

SDK = ("veilsupport-client.js", "veilsupport-client.mjs", "veilsupport-client.d.ts")


def test_the_sdk_is_for_everyone_s_pages(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        for name in SDK:
            answer = await browser.get(f"/static/{name}")
            assert (answer.status, answer.text) == (200, resources.text(f"static/{name}"))
            kind = "text/plain" if name.endswith(".d.ts") else "text/javascript"
            assert answer.header("content-type") == f"{kind}; charset=utf-8"
            assert answer.header("cross-origin-resource-policy") == "cross-origin"
            assert answer.header("x-content-type-options") == "nosniff"
            assert answer.header("last-modified") + answer.header("etag") + answer.header("set-cookie") == ""
            assert (await browser.post(f"/static/{name}", {})).status == 405

    tell(tmp_path, story)


def test_only_listed_origins_may_import_it(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        for origin, allowed in ((HOST, HOST), ("https://other.example", ""), ("null", "")):
            answer = await browser.get("/static/veilsupport-client.mjs", origin=origin)
            assert answer.header("access-control-allow-origin") == allowed
            assert answer.header("vary") == "origin"
            assert answer.header("access-control-allow-credentials") == ""

    tell(tmp_path, story)


def test_our_page_keeps_its_scripts_by_their_hash_and_nobody_else_gets_them(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start()
        paths = re.findall(r'<script src="([^"]+)" defer></script>', (await browser.get("/chat")).text)
        assert [path.split(".")[0] for path in paths] == ["/static/veilsupport-client", "/static/chat"]
        for path in paths:
            answer = await browser.get(path, origin=HOST)
            assert answer.header("content-type") == "text/javascript; charset=utf-8"
            assert answer.header("cache-control") == "public, max-age=31536000, immutable"
            assert answer.header("cross-origin-resource-policy") == "same-origin"
            assert answer.header("access-control-allow-origin") == ""

    tell(tmp_path, story)


def test_scripts_run_on_the_live_chat_page_and_nowhere_else(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start()
        for row in TABLE:
            answer = await browser.get(row.path.replace("{site}", "shop"))
            policy = answer.header("content-security-policy")
            if row.path == "/chat":
                assert f"; script-src 'self'; connect-src 'self' ws://{ONION}" in policy
            else:
                assert "script-src" not in policy
                assert "connect-src" not in policy
                assert "<script" not in answer.text
                assert "<template" not in answer.text
            assert "unsafe" not in policy

    tell(tmp_path, story)


def test_what_the_script_copies_is_what_the_page_shows(tmp_path: Path) -> None:
    """The same template makes both; the script fills in the empty places."""

    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start("hello")
        chat = (await browser.get("/chat")).text
        shown = (await browser.get("/chat/latest")).text
        sample, message = (_first_message(each) for each in (chat, shown))
        assert re.sub(r"m1\b", "m0", re.sub(r">hello<|\d\d:\d\d UTC|datetime=\"[^\"]*\"", "", message)) == re.sub(
            r"(?<=\"auto\")><(?=/p)|\d\d:\d\d UTC|datetime=\"[^\"]*\"", "", sample
        )
        assert re.findall(r'<span class="state"><span>(.*?)</span>', chat) == [
            "kept here",
            "handed over",
            "on an admin’s device",
            "read",
        ]

    tell(tmp_path, story)


def _first_message(page: str) -> str:
    found = re.search(r'<article class="m visitor".*?</article>', page, re.DOTALL)
    assert found
    return found[0]


def test_every_event_and_state_that_the_script_names_has_its_words(tmp_path: Path) -> None:
    async def story(browser: Browser, _: Desk, __: Served) -> None:
        await browser.start()
        chat = (await browser.get("/chat")).text
        script = resources.text("static/chat.js")
        named = set(re.findall(r'words\("(\w+)"\)', script)) | {"offline", "protocol", "bad_token", "elsewhere", "gone"}
        assert named == set(re.findall(r'<li id="say-(\w+)">', chat))
        assert re.findall(r'data-standing="(\w+)"', chat) == ["open", "closed", "blocked"]

    tell(tmp_path, story)


def test_scripts_parse_and_ask_for_nothing_from_elsewhere() -> None:
    for path in resources.path("static").glob("*.*js"):
        assert subprocess.run(["node", "--check", str(path)], capture_output=True).returncode == 0
        text = path.read_text("utf-8")
        assert re.findall(r"https?://[^\"'`… ]+", text) == []
        assert not re.search(r"\beval\b|innerHTML|insertAdjacentHTML|document\.(write|cookie)", text)
        assert not re.search(r"(local|session)Storage\.|indexedDB", text)
        assert all(len(line) <= 120 for line in text.splitlines())


def test_the_types_name_what_the_class_has() -> None:
    script, types = (resources.text(f"static/veilsupport-client{end}") for end in (".js", ".d.ts"))
    body = script[script.index("class VeilSupportClient") :]
    public = set(re.findall(r"^    (?:async )?(\w+)\(.*\{$", body, re.MULTILINE)) - {"constructor"}
    declared = set(re.findall(r"^  (\w+)(?:<.*?>)?\(", types[types.index("class VeilSupportClient") :], re.MULTILINE))
    assert declared - {"constructor"} == public
    events = re.search(r"#listeners = \{(.*?)\};", script)
    assert events
    listed = re.search(r"interface Events \{(.*?)\n\}", types, re.DOTALL)
    assert listed
    assert re.findall(r"(\w+): \[\]", events[1]) == re.findall(r"^  (\w+):", listed[1], re.MULTILINE)


def test_node_imports_and_requires_it() -> None:
    static = resources.path("static")
    importing = f"import {{ VeilSupportClient }} from {str(static / 'veilsupport-client.mjs')!r};"
    requiring = f"const {{ VeilSupportClient }} = require({str(static / 'veilsupport-client.js')!r});"
    for kind, code in (("module", importing), ("commonjs", requiring)):
        command = ["node", f"--input-type={kind}", "--eval", code + "console.log(VeilSupportClient.name)"]
        assert subprocess.run(command, capture_output=True, text=True).stdout == "VeilSupportClient\n"
