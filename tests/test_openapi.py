"""The API's document, and that it is true.

schemathesis reads the document and sends what it allows and what it forbids, to a real server, and holds every
answer against it: statuses, shapes, headers. Bounded to about a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.browser import Served, site_of
from tests.desks import desk_in
from tests.ports import free_port
from tests.program import SITES, Program, tell
from veilsupport import limits
from veilsupport.crypto import Cost, passwords
from veilsupport.desk import Desk
from veilsupport.limits import Limits
from veilsupport.web import api, frames, openapi, refusals, serve
from veilsupport.web.shapes import Shape

DOCUMENT: Final = openapi.document()
SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)


class Server(threading.Thread):
    """A desk without limits, on a loopback port, on a loop of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self._directory = directory
        self._serving = threading.Event()
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}{api.ROOT}"
        self.bugs: list[BaseException] = []

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over, ready = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        async with desk_in(self._directory) as desk, asyncio.TaskGroup() as tasks:
            served = site_of(desk, limits=Limits(()), sites=SITES)
            self.bugs = served.bugs
            tasks.create_task(serve(served.site, unix_socket=None, port=self._port, stop=self._over, ready=ready))
            await ready.wait()
            self._serving.set()

    def token(self) -> str:
        """A new visitor's."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
            connection.request("POST", f"{api.ROOT}/auth/anonymous")
            return str(json.load(connection.getresponse())["token"])

    def __enter__(self) -> Server:
        self.start()
        assert self._serving.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "PASSWORD", Cost(passes=1, memory_kib=8))  # or it would take minutes
        with Server(tmp_path_factory.mktemp("desk")) as running:
            yield running
            assert running.bugs == []


@SCHEMA.parametrize()
@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_document_says(case: Any, server: Server) -> None:
    if "security" in case.operation.definition.raw:
        case.headers["Authorization"] = f"Bearer {server.token()}"
    # A WebSocket's handshake without its headers is never accepted, however right its query is. What happens without a
    # right token is tested below: schemathesis now and then leaves the token in that we gave.
    without = [ignored_auth, *([positive_data_acceptance] if case.path == "/ws" else [])]
    case.call_and_validate(base_url=server.url, timeout=10, excluded_checks=without)


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", "Bearer " + "A" * 43, "Basic d3Jvbmc="])
def test_what_needs_a_token_is_refused_without_a_right_one(server: Server, given: str | None) -> None:
    needing = [
        (method.upper(), path)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if "security" in operation
    ]
    assert len(needing) > 5
    for method, path in needing:
        with contextlib.closing(HTTPConnection(server.url.split("/")[2], timeout=10)) as connection:
            headers = {"content-type": "application/json"} | ({"authorization": given} if given else {})
            connection.request(method, api.ROOT + path.replace("{id}", "0" * 16), body="{}", headers=headers)
            assert connection.getresponse().status == 401, (method, path)


# ---- what is in it -----------------------------------------------------------------------------------------


def test_every_row_type_frame_code_and_limit_is_in_it() -> None:
    operations = {(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert operations == {(row.method.lower(), row.path) for row in api.TABLE}
    schemas = DOCUMENT["components"]["schemas"]
    shapes: list[type[Shape]] = [*frames.HEARD_FRAMES, *frames.TOLD_FRAMES, *(row.asks for row in api.TABLE)]
    assert {shape.__name__ for shape in shapes} <= schemas.keys()
    assert DOCUMENT["x-errors"].keys() == refusals.CODES.keys()
    assert len(DOCUMENT["x-limits"]) == len(limits.TABLE)
    assert DOCUMENT["x-websocket"]["closeCodes"].keys() == {str(int(code)) for code in frames.Close}
    assert "resume" in DOCUMENT["x-websocket"]["description"]
    told = {frame: DOCUMENT["components"]["schemas"][frame.__name__]["properties"] for frame in frames.TOLD_FRAMES}
    for frame, properties in told.items():
        line = rf"^    {properties['type']['const']} "
        assert re.search(line, DOCUMENT["x-websocket"]["description"], re.MULTILINE), frame


def test_nothing_in_it_points_nowhere() -> None:
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(DOCUMENT))
    assert set(references) <= DOCUMENT["components"]["schemas"].keys()


def test_every_code_of_ours_is_listed() -> None:
    """Each `code="…"` that an error carries in whatever the API passes through; `used` is about a form."""
    package = Path(openapi.__file__).parent.parent
    web = [package / "web" / f"{name}.py" for name in ("acts", "api", "guard", "origins", "pace", "refusals", "socket")]
    files = [*web, *package.glob("desk/*.py"), *package.glob("crypto/*.py")]
    found = {code for file in files for code in re.findall(r'\bcode="(\w+)"', file.read_text())}
    assert len(found) > 15
    assert found - {"used"} <= refusals.CODES.keys()


def test_it_is_served_with_the_prefix_and_as_a_page_without_scripts(tmp_path: Path) -> None:
    async def story(program: Program, _: Desk, __: Served) -> None:
        served = await program.browser.get("/support/api/openapi.json")
        assert served.header("content-type") == "application/json"
        assert json.loads(served.text) == openapi.document("/support")
        assert json.loads(served.text)["servers"] == [{"url": "/support/api/v1"}]
        page = await program.browser.get("/support/api")
        assert page.status == 200
        assert "<script" not in page.text
        for row in api.TABLE:
            assert f"{row.method} {row.path}" in page.text
        for code in refusals.CODES:
            assert code in page.text
        assert (await program.browser.post("/support/api", {})).status == 405

    tell(tmp_path, story, prefix="/support")
