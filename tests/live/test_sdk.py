"""The SDK against the running appliance: in Node, and in Chromium on other people's pages."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

import pytest

from tests.live.appliance import Appliance
from tests.live.chromium import Chromium, ChromiumError, Tab
from tests.live.node import Node, NodeError
from tests.live.othersite import OtherSite
from tests.ports import free_port
from veilsupport.config import FILE_NAME

# What every program of these tests begins with. `make` gives a client whose doings are written down in it.
PRELUDE: Final = """
globalThis.make = (page, options = {}) => {
  if (globalThis.Socket) options = { WebSocket: Socket, ...options };
  const desk = new VeilSupportClient(page, options);
  Object.assign(desk, { heard: [], states: [], connections: [], settled: [] });
  desk.on("state", (each) => desk.states.push(each));
  desk.on("connection", ({ state, error }) => desk.connections.push(error ? error.code : state));
  desk.live = (from) => desk.connectWebSocket((message) => desk.heard.push([message.seq, message.content]), from);
  desk.say = (text) => desk.sendMessage(text).then((kept) => desk.settled.push([kept.seq, kept.content]));
  return desk;
};
globalThis.code = (promise) => promise.then(() => "fine", (error) => error.code);
"""


class Program(Protocol):
    """Something that uses the SDK: Node, or a page in Chromium."""

    def run(self, script: str) -> Any: ...


@pytest.fixture(scope="module")
def listed() -> Iterator[OtherSite]:
    with OtherSite() as site:
        yield site


@pytest.fixture(scope="module")
def unlisted() -> Iterator[OtherSite]:
    with OtherSite() as site:
        yield site


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory, listed: OtherSite) -> Iterator[Appliance]:
    """One for all tests that leave it running."""
    with appliance_at(tmp_path_factory.mktemp("desk") / "data", listed.origin) as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path, listed: OtherSite) -> Iterator[Appliance]:
    """One to be killed."""
    with appliance_at(tmp_path / "data", listed.origin) as running:
        yield running


@contextlib.contextmanager
def appliance_at(data: Path, origin: str) -> Iterator[Appliance]:
    """Without tor, on a port that stays the same when it is started again."""
    data.mkdir(mode=0o700)
    (data / FILE_NAME).write_text(f'[[site]]\nname = "shop"\ntitle = "A shop"\norigins = ["{origin}"]\n')
    with Appliance(data, "--no-tor", "--port", str(free_port())) as running:
        running.wait_for_page()
        yield running


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as program:
        program.run(PRELUDE)
        yield program


@pytest.fixture(params=["node", "chromium"])
def program(request: pytest.FixtureRequest, appliance: Appliance, listed: OtherSite) -> Program:
    """Each of the two, with the SDK loaded as it is there."""
    if request.param == "node":
        running: Node = request.getfixturevalue("node")
        return running
    return page_of(request.getfixturevalue("chromium"), listed, appliance.wait_for_page())


def page_of(chromium: Chromium, site: OtherSite, page: str) -> Tab:
    """A new tab on somebody's page that takes the SDK from the desk by a classic script tag."""
    site.page = f'<!doctype html><title>A shop</title><script src="{page}/static/veilsupport-client.js"></script>'
    tab = chromium.tab(site.origin)
    tab.until(lambda: tab.run("typeof VeilSupportClient === 'function'"))
    tab.run(PRELUDE)
    return tab


def wait_for(program: Program, expression: str, wanted: Any, *, seconds: float = 20) -> None:
    """Until the expression has that value."""
    end = time.monotonic() + seconds
    while (found := program.run(expression)) != wanted:
        assert time.monotonic() < end, f"{expression}: {found!r}, not {wanted!r}"
        time.sleep(0.02)


def started(program: Program, page: str, name: str = "desk") -> str:
    """A new visitor; the return code."""
    program.run(f"globalThis.{name} = make('{page}'); null")
    return str(program.run(f"{name}.start()")["code"])


def returned(program: Program, page: str, code: str, name: str = "desk") -> None:
    program.run(f"globalThis.{name} = make('{page}'); null")
    program.run(f"{name}.returnWith('{code}')")


# ---- one visitor -------------------------------------------------------------------------------------------------


def test_visitor_starts_writes_and_hears_within_two_seconds(program: Program, appliance: Appliance) -> None:
    page = appliance.wait_for_page()
    words = started(program, page)
    assert len(words.replace("-", " ").split()) == 7
    kept = program.run("desk.sendMessage('one')")
    assert (kept["seq"], kept["author"], kept["content"], kept["state"]) == (1, "user", "one", "kept")
    program.run("desk.live()")
    wait_for(program, "desk.heard", [[1, "one"]])
    returned(program, page, words, "other")
    program.run("other.sendMessage('two')")
    wait_for(program, "desk.heard", [[1, "one"], [2, "two"]], seconds=2)
    program.run("desk.say('three')")
    wait_for(program, "desk.heard.length", 3, seconds=2)
    assert program.run("desk.settled") == [[3, "three"]]


def test_history_comes_in_pages_and_live_goes_on_from_there(program: Program, appliance: Appliance) -> None:
    page = appliance.wait_for_page()
    words = started(program, page, "other")
    for text in "abcde":
        program.run(f"other.sendMessage('{text}')")
    returned(program, page, words)
    newest = program.run("desk.getHistory({ limit: 2 })")
    assert ([each["content"] for each in newest["messages"]], newest["more"]) == (["d", "e"], True)
    older = program.run("desk.getHistory({ before: 4 })")
    assert ([each["content"] for each in older["messages"]], older["more"]) == (["a", "b", "c"], False)
    program.run("other.sendMessage('f')")
    program.run("desk.live()")
    program.run("other.sendMessage('g')")
    wait_for(program, "desk.heard", [[6, "f"], [7, "g"]])


def test_account_and_what_is_refused(program: Program, appliance: Appliance) -> None:
    page, email = appliance.wait_for_page(), f"{uuid4()}@chat.example"
    program.run(f"globalThis.desk = make('{page}/'); null")
    assert program.run("code(desk.sendMessage('too early'))") == "no_token"
    assert program.run(f"code(desk.register('{email}', '123'))") == "weak_password"
    user = program.run(f"desk.register('{email}', 'a long password')")
    assert user["email"] == email
    assert program.run(f"code(make('{page}').register('{email}', 'a long password'))") == "taken"
    assert program.run(f"code(make('{page}').login('{email}', 'another password'))") == "wrong_password"
    assert program.run(f"make('{page}/api/v1').login('{email}', 'a long password')")["id"] == user["id"]
    assert program.run("code(desk.sendMessage('x'.repeat(4001)))") == "too_long"
    assert program.run("code(desk.sendMessage('x'.repeat(100000)))") == "too_long"
    program.run("desk.live()")
    wait_for(program, "desk.connections.at(-1)", "online")
    assert program.run("code(desk.sendMessage('x'.repeat(4001)))") == "too_long"
    assert program.run("code(desk.sendMessage('   '))") == "empty"
    assert program.run("desk.sendMessage('and on')")["seq"] == 1
    program.run("desk.logout()")
    assert program.run("[desk.token, desk.connections.at(-1)]") == [None, "closed"]
    assert program.run("code(desk.sendMessage('too late'))") == "no_token"


def test_session_that_is_ended_elsewhere_ends_here(program: Program, appliance: Appliance) -> None:
    page = appliance.wait_for_page()
    started(program, page)
    program.run("desk.live()")
    wait_for(program, "desk.connections.at(-1)", "online")
    program.run(f"make('{page}', {{ token: desk.token }}).logout()")
    wait_for(program, "desk.connections.at(-1)", "bad_token")
    assert program.run("code(desk.sendMessage('lost?'))") == "bad_token"


def test_burned_conversation_ends_on_every_device(program: Program, appliance: Appliance) -> None:
    page = appliance.wait_for_page()
    words = started(program, page)
    returned(program, page, words, "other")
    program.run("desk.sendMessage('a secret')")
    program.run("desk.live()")
    wait_for(program, "desk.connections.at(-1)", "online")
    program.run("other.deleteAccount()")
    wait_for(program, "desk.connections.at(-1)", "gone")
    assert program.run(f"code(make('{page}').returnWith('{words}'))") == "unknown_code"


# ---- over losses -------------------------------------------------------------------------------------------------


def test_kill_9_and_start_again_leaves_no_gap_no_repeat_and_sends_what_waited_once(
    mortal: Appliance, node: Node, chromium: Chromium, listed: OtherSite
) -> None:
    page = mortal.wait_for_page()
    tab = page_of(chromium, listed, page)
    words = started(node, page)
    returned(tab, page, words)
    node.run("desk.say('before')")
    node.run("desk.live()")
    tab.run("desk.live({ after: 0 })")
    for each in (node, tab):
        wait_for(each, "desk.heard.length", 1)
    mortal.kill()
    for each in (node, tab):
        wait_for(each, "desk.connections.at(-1)", "offline")
    for number in range(3):
        node.run(f"desk.say('node {number}'), null")
        tab.run(f"desk.say('page {number}'), null")
    mortal.start()
    mortal.wait_for_page()
    for each in (node, tab):
        wait_for(each, "desk.settled.length", 4 if each is node else 3, seconds=60)
        wait_for(each, "desk.heard.length", 7, seconds=20)
    heard = node.run("desk.heard")
    assert [seq for seq, _ in heard] == [1, 2, 3, 4, 5, 6, 7]
    assert tab.run("desk.heard") == heard
    for who in ("node", "page"):
        assert [text for _, text in heard if who in text] == [f"{who} {number}" for number in range(3)]


def test_message_whose_acknowledgement_was_lost_stands_once(appliance: Appliance, node: Node) -> None:
    """The socket dies right after the frame was written: the desk may have it or not, and the client cannot know."""
    page = appliance.wait_for_page()
    node.run("globalThis.dies = (text) => text.includes('content'), null")
    node.run(
        """globalThis.Dying = class extends Socket {
             send(text) { super.send(text); if (dies(text)) setTimeout(() => this.stream.destroy(), 1); }
           }; null"""
    )
    node.run(f"globalThis.desk = make('{page}', {{ WebSocket: Dying }}); null")
    words = node.run("desk.start()")["code"]
    node.run("desk.live()")
    for number in range(5):
        node.run(f"desk.say('number {number}'), null")
    time.sleep(4)  # It dies again and again; some of the acknowledgements come through before it does.
    node.run("globalThis.dies = () => false, null")
    wait_for(node, "desk.settled.length", 5, seconds=40)
    wanted = [[number + 1, f"number {number}"] for number in range(5)]
    assert node.run("desk.settled") == wanted
    wait_for(node, "desk.heard", wanted)
    returned(node, page, words, "other")
    assert [each["content"] for each in node.run("other.getHistory()")["messages"]] == [text for _, text in wanted]


def test_over_rest_a_message_waits_for_the_desk_too(mortal: Appliance, node: Node) -> None:
    started(node, mortal.wait_for_page())
    mortal.kill()
    node.run("desk.say('are you there?'), desk.say('hello?'), null")
    mortal.start()
    wait_for(node, "desk.settled", [[1, "are you there?"], [2, "hello?"]], seconds=40)


def test_a_desk_that_hangs_for_a_while_gets_everything_once(appliance: Appliance, program: Program) -> None:
    """As when the laptop sleeps: the connection is open and nothing moves on it."""
    page = appliance.wait_for_page()
    started(program, page)
    program.run("desk.live()")
    wait_for(program, "desk.connections.at(-1)", "online")
    assert appliance.process is not None
    os.kill(appliance.process.pid, signal.SIGSTOP)
    try:
        program.run("desk.say('one'), desk.say('two'), null")
        time.sleep(5)
        assert program.run("desk.settled") == []
    finally:
        os.kill(appliance.process.pid, signal.SIGCONT)
    wait_for(program, "desk.settled", [[1, "one"], [2, "two"]])
    wait_for(program, "desk.heard", [[1, "one"], [2, "two"]])


def test_frozen_tab_catches_up(appliance: Appliance, chromium: Chromium, listed: OtherSite, node: Node) -> None:
    page = appliance.wait_for_page()
    tab = page_of(chromium, listed, page)
    words = started(node, page)
    returned(tab, page, words)
    tab.run("desk.live({ after: 0 })")
    wait_for(tab, "desk.connections.at(-1)", "online")
    chromium.tab()
    tab.freeze(True)
    node.run("desk.say('while you slept')")
    time.sleep(3)
    tab.freeze(False)
    tab.front()
    wait_for(tab, "desk.heard", [[1, "while you slept"]], seconds=30)


# ---- across origins ----------------------------------------------------------------------------------------------


def test_page_of_an_origin_that_is_not_listed_gets_nothing(
    appliance: Appliance, chromium: Chromium, listed: OtherSite, unlisted: OtherSite
) -> None:
    page = appliance.wait_for_page()
    token = None
    tab = page_of(chromium, listed, page)
    started(tab, page)
    token = tab.run("desk.token")
    stranger = page_of(chromium, unlisted, page)  # The script itself is public.
    assert stranger.run(f"code(make('{page}').start())") == "connection"
    stranger.run(f"globalThis.desk = make('{page}', {{ token: '{token}' }}); desk.live(), null")
    assert stranger.run("code(desk.getHistory())") == "connection"
    wait_for(stranger, "desk.connections", ["connecting", "offline"])
    assert any("CORS" in line for line in stranger.complaints())
    tab.run("desk.live()")
    wait_for(tab, "desk.connections.at(-1)", "online")


def test_cookie_of_the_desk_s_own_page_is_of_no_use_to_another_origin(
    appliance: Appliance, chromium: Chromium, listed: OtherSite, unlisted: OtherSite
) -> None:
    """Another port of the same host is the same site: the browser sends the cookie along, SameSite or not."""
    page = appliance.wait_for_page()
    own = chromium.tab(page)
    own.write("textarea", "a secret")
    own.click("main button")
    own.find(".compose textarea")
    for site, end in ((listed, ["connecting", "bad_token"]), (unlisted, ["connecting", "offline"])):
        tab = page_of(chromium, site, page)
        tab.run(f"globalThis.desk = make('{page}', {{ cookie: true }}); desk.live({{ after: 0 }}), null")
        wait_for(tab, "desk.connections.slice(0, 2)", end)
        assert tab.run("desk.heard") == []
        sent = tab.events("Network.webSocketWillSendHandshakeRequest")[0]["request"]["headers"]
        assert sent["Origin"] == site.origin
        tab.run("desk.disconnect()")


def test_module_is_for_listed_origins(
    appliance: Appliance, chromium: Chromium, listed: OtherSite, unlisted: OtherSite
) -> None:
    page = appliance.wait_for_page()
    importing = f"import('{page}/static/veilsupport-client.mjs').then((it) => typeof it.VeilSupportClient)"
    listed.page = unlisted.page = "<!doctype html><title>A shop</title>"
    assert chromium.tab(listed.origin).run(importing) == "function"
    with pytest.raises(ChromiumError, match="dynamically imported module"):
        chromium.tab(unlisted.origin).run(importing)


def test_two_tabs_and_a_program_see_the_same(
    appliance: Appliance, chromium: Chromium, listed: OtherSite, node: Node
) -> None:
    page = appliance.wait_for_page()
    words = started(node, page)
    tabs = [page_of(chromium, listed, page) for _ in range(2)]
    for tab in tabs:
        returned(tab, page, words)
    programs: list[Program] = [node, *tabs]
    for program in programs:
        program.run("desk.live({ after: 0 })")
        wait_for(program, "desk.connections.at(-1)", "online")
    for number, program in enumerate([*programs, *programs]):
        program.run(f"desk.say('{number}')")
    wanted = [[number + 1, str(number)] for number in range(6)]
    for program in programs:
        wait_for(program, "desk.heard", wanted)


def test_nothing_but_the_desk_is_asked_and_no_address_holds_the_token(
    appliance: Appliance, chromium: Chromium, listed: OtherSite
) -> None:
    page = appliance.wait_for_page()
    tab = page_of(chromium, listed, page)
    started(tab, page)
    tab.run("desk.live()")
    tab.run("desk.say('hello')")
    asked = [url for url in tab.requested() if not url.startswith("data:")]
    assert {url.split("/")[2] for url in asked} == {page.split("/")[2], listed.origin.split("/")[2]}
    assert not any(tab.run("desk.token") in url for url in asked)
    assert tab.run("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    assert tab.complaints() == [] or all("favicon" in line for line in tab.complaints())


# ---- the line, against a desk made of paper ----------------------------------------------------------------------

PAPER: Final = """
globalThis.timers = [];
globalThis.setTimeout = (act, ms) => timers.push({ act, ms, on: true });
globalThis.clearTimeout = (number) => { if (number) timers[number - 1].on = false; };
globalThis.due = () => timers.filter((each) => each.on);
globalThis.run = (each) => { each.on = false; each.act(); };
globalThis.sockets = [];
globalThis.Paper = class {
  constructor() { this.sent = []; sockets.push(this); }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.closed = true; }
  says(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
  ready() { this.onopen(); this.says({ type: "ready", last_seq: 7, read_seq: 0, states: [], desk: {} }); }
};
globalThis.desk = make("http://desk.example", { token: "t", WebSocket: Paper });
desk.live();
"""


@pytest.fixture
def paper(node: Node) -> Callable[[str], Any]:
    node.run(PAPER)
    return node.run


def test_first_frame_signs_in_and_says_where_to_go_on(paper: Callable[[str], Any]) -> None:
    paper("sockets[0].ready()")
    assert paper("sockets[0].sent") == [{"type": "auth", "token": "t"}]
    paper("sockets[0].says({ type: 'message', seq: 8, content: 'x' }); sockets[0].onclose({ code: 1012 })")
    paper("run(due()[0]); sockets[1].ready()")
    assert paper("sockets[1].sent") == [{"type": "auth", "token": "t", "after": 8}]
    paper("sockets[1].says({ type: 'message', seq: 8, content: 'x' })")
    assert paper("desk.heard") == [[8, "x"]]


def test_a_changed_message_is_given_to_whoever_asked_for_it(paper: Callable[[str], Any]) -> None:
    paper("globalThis.changed = [], desk.on('changed', (message) => changed.push(message)); sockets[0].ready()")
    paper("sockets[0].says({ type: 'changed', seq: 3, content: '', change: 'retracted' })")
    assert paper("changed") == [{"seq": 3, "content": "", "change": "retracted"}]
    assert paper("desk.heard") == []  # it is no new message
    paper("sockets[0].onclose({ code: 1012 }); run(due()[0]); sockets[1].ready()")
    assert paper("sockets[1].sent") == [{"type": "auth", "token": "t", "after": 7}]


def test_waits_grow_with_chance_in_them_and_begin_anew_after_success(paper: Callable[[str], Any]) -> None:
    waits = []
    for number in range(8):
        paper(f"sockets[{number}].onclose({{ code: 1006 }})")
        waits.append(paper("due().map((each) => each.ms)"))
        paper("run(due()[0])")
    for tries, [ms] in enumerate(waits):
        longest = min(30_000, 1000 * 2**tries)
        assert longest / 2 <= ms <= longest
    paper("sockets[8].ready(); sockets[8].onclose({ code: 1006 })")
    assert paper("due()[0].ms") <= 1000


def test_the_desk_says_how_long_to_wait(paper: Callable[[str], Any]) -> None:
    paper("sockets[0].says({ type: 'error', error: { code: 'unavailable', message: '' }, retry_after: 60 })")
    paper("sockets[0].onclose({ code: 4503 })")
    assert 60_000 < paper("due()[0].ms") <= 61_000


def test_silence_is_asked_about_and_then_believed(paper: Callable[[str], Any]) -> None:
    paper("sockets[0].ready()")
    assert paper("due().map((each) => each.ms)") == [45_000]
    paper("run(due()[0])")
    assert paper("sockets[0].sent.at(-1)") == {"type": "ping"}
    paper("sockets[0].says({ type: 'pong' })")
    assert paper("due().map((each) => each.ms)") == [45_000]
    paper("run(due()[0]); run(due()[0])")
    assert paper("[sockets[0].closed, desk.connections.at(-1)]") == [True, "offline"]
    paper("sockets[0].onclose({ code: 1006 })")  # Its own end comes minutes later, and changes nothing.
    assert paper("due().length") == 1


@pytest.mark.parametrize(
    ("close", "told"), [(4400, "protocol"), (4401, "bad_token"), (4409, "elsewhere"), (4410, "gone")]
)
def test_some_ends_are_final(paper: Callable[[str], Any], close: int, told: str) -> None:
    paper("sockets[0].ready(); desk.say('x').catch((error) => (desk.refused = error.code)), null")
    paper(f"sockets[0].onclose({{ code: {close} }})")
    assert paper("[desk.connections.at(-1), desk.refused, due().length]") == [told, told, 0]
    paper("desk.live(); sockets[1].ready()")
    assert paper("desk.connections.at(-1)") == "online"  # When the page wants it, it begins anew.


def test_too_fast_waits_and_keeps_the_order(paper: Callable[[str], Any]) -> None:
    paper("sockets[0].ready(); desk.say('a'); desk.say('b'); null")
    first = paper("sockets[0].sent.at(-1)")
    refusal = "{ type: 'error', error: { code: 'too_fast', message: '', field: null }, retry_after: 2, id: '%s' }"
    paper(f"sockets[0].says({refusal % first['id']})")
    assert paper("due().map((each) => each.ms)") == [45_000, 2_000]
    paper("run(due()[1])")
    assert paper("sockets[0].sent.filter((each) => each.content).map((each) => each.content)") == ["a", "a"]
    assert paper("sockets[0].sent.at(-1)") == first
    paper(f"sockets[0].says({{ type: 'ack', id: '{first['id']}', seq: 8, content: 'a' }})")
    assert paper("sockets[0].sent.at(-1).content") == "b"


def test_listener_that_throws_stops_nothing(node: Node) -> None:
    node.run(PAPER)
    node.run("process.on('uncaughtException', (error) => (globalThis.thrown = error.message)), null")
    node.run("desk.on('message', () => { throw new Error('the page\\'s own') }), sockets[0].ready()")
    node.run("sockets[0].says({ type: 'message', seq: 8, content: 'x' })")
    node.run("desk.on('message', () => (globalThis.after = true)), null")
    node.run("sockets[0].says({ type: 'message', seq: 9, content: 'y' })")
    assert node.run("[thrown, after, desk.heard.length]") == ["the page's own", True, 2]


def test_errors_of_node_are_told() -> None:
    """The harness itself: a script that throws does not pass as a value."""
    with Node() as program, pytest.raises(NodeError, match="x is not defined"):
        program.run("x")
