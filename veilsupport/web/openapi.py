"""The API's document (OpenAPI 3.1), generated from its table, its types, its refusals and the limits.

There is nothing to keep in step by hand: a new row or field is in the document, and on the page that people read.
What OpenAPI has no words for stands beside it as `x-websocket`, `x-errors` and `x-limits`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

import veilsupport
from veilsupport import limits
from veilsupport.errors import VisitorError
from veilsupport.model import BODY_MAX_CHARACTERS
from veilsupport.web import api, frames, refusals, shapes, socket
from veilsupport.web.guard import API_BODY_MAX_BYTES
from veilsupport.web.look import Look
from veilsupport.web.pace import Pace

Json = dict[str, Any]

_REF: Final = "#/components/schemas/"
_ALWAYS: Final = ("wrong_origin", "proxied", "wrong_host", "broken", "unavailable")
_WITH_BODY: Final = ("malformed", "unknown_field", "missing", "invalid", "empty", "too_long", "slow", "too_large")
_ABOUT: Final = f"""\
Send JSON with `Content-Type: application/json`, at most {API_BODY_MAX_BYTES:,} bytes, and the token that signing in \
gave as `Authorization: Bearer …`; cookies do not count here. Fields that do not exist are refused. Messages have at \
most {BODY_MAX_CHARACTERS:,} characters. Whatever is not 2xx is an `ErrorAnswer`; with 429 and 503 `Retry-After` says \
how many seconds to wait. 200 to a message means that it is on our disk and due to the admins. Pages of other origins \
may call the API when the operator has listed their exact origin for a site."""


def document(prefix: str = "") -> Json:
    """The whole of it; `prefix` stands before every path of ours."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "VeilSupport", "version": veilsupport.__version__, "description": _ABOUT},
        "servers": [{"url": f"{prefix}{api.ROOT}"}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "x-websocket": _websocket(),
        "x-errors": {code: {"status": status, "meaning": text} for code, (status, text) in refusals.CODES.items()},
        "x-limits": [_limit(row) for row in limits.TABLE],
    }


# ---- REST ------------------------------------------------------------------------------------------------


def _paths() -> Json:
    paths: Json = {}
    for row in api.TABLE:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    return paths


def _operation(row: api.Row) -> Json:
    operation: Json = {
        "operationId": row.does.__name__,
        "summary": row.summary,
        "responses": {**_success(row), **_refusals(codes_of(row))},
    }
    if row.needs_token:
        operation["security"] = [{"token": []}]
    if row.limit is not None:
        operation["x-limit"] = row.limit.value
    if row.method == "GET":
        operation["parameters"] = _query(row.asks)
    elif row.asks is not shapes.Nothing:
        operation["requestBody"] = {"required": not row.takes_no_body, "content": _json_of(row.asks)}
    if "{id}" in row.path:
        place = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]+$"}}
        operation["parameters"] = [place]
    return operation


def codes_of(row: api.Row) -> list[str]:
    """Every refusal that this end point knows, in the order of `refusals.CODES`."""
    codes = {*row.codes, *_ALWAYS}
    if row.needs_token:
        codes |= {"no_token", "bad_token"}
    if row.limit is not None:
        codes.add("too_fast")
    codes |= {"unknown_field", "malformed", "too_large", "slow"}
    if row.asks is not shapes.Nothing:
        codes |= {"invalid", "too_long"} if row.method == "GET" else {*_WITH_BODY, "not_json"}
    elif row.method != "GET":
        codes.add("not_json")
    return [code for code in refusals.CODES if code in codes]


def _success(row: api.Row) -> Json:
    answer: Json = {"description": HTTPStatus(row.status).phrase}
    if row.answers is not None:
        answer["content"] = _json_of(row.answers)
    return {str(row.status): answer}


def _refusals(codes: Iterable[str]) -> Json:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(refusals.CODES[code][0], []).append(code)
    return {str(status): _refusal(status, names) for status, names in by_status.items()}


def _refusal(status: int, codes: list[str]) -> Json:
    meanings = [f"`{code}`: {refusals.CODES[code][1]}" for code in codes]
    answer: Json = {"description": "; ".join(meanings), "content": _json_of(shapes.ErrorAnswer)}
    if "puzzle" in codes:
        both = [_json_of(shape)["application/json"]["schema"] for shape in (shapes.PuzzleAnswer, shapes.ErrorAnswer)]
        answer["content"] = {"application/json": {"schema": {"anyOf": both}}}
    if status in (429, 503):
        seconds = {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}
        answer["headers"] = {"Retry-After": seconds}
    return answer


def _json_of(shape: type[shapes.Shape]) -> Json:
    return {"application/json": {"schema": {"$ref": _REF + shape.__name__}}}


def _query(shape: type[shapes.Shape]) -> list[Json]:
    """A query's parameters; none of them has to be there, and none can be null."""
    found = []
    for name, schema in shape.model_json_schema()["properties"].items():
        present = {key: value for key, value in schema.items() if key not in ("title", "description")}
        if "anyOf" in present:
            present = present["anyOf"][0]
        text = schema.get("description") or present.pop("description", "")
        found.append({"name": name, "in": "query", "required": False, "description": text, "schema": present})
    return found


@functools.cache
def _schemas() -> Json:
    """Every type by its name: as we read it where it comes in, as we write it where it goes out. It is not changed."""
    asked = {row.asks for row in api.TABLE} | set(frames.HEARD_FRAMES)
    answered = {row.answers for row in api.TABLE if row.answers} | {
        *frames.TOLD_FRAMES,
        shapes.ErrorAnswer,
        shapes.PuzzleAnswer,
    }
    wanted = [(shape, "validation") for shape in asked] + [(shape, "serialization") for shape in answered - asked]
    wanted.sort(key=lambda each: each[0].__name__)
    _, definitions = models_json_schema(wanted, ref_template=_REF + "{model}")  # type: ignore[arg-type]
    schemas: Json = definitions["$defs"]
    return schemas


# ---- WebSocket and limits ----------------------------------------------------------------------------------


def _websocket() -> Json:
    def refs(shapes_: Iterable[type[shapes.Shape]]) -> list[Json]:
        return [{"$ref": _REF + shape.__name__} for shape in shapes_]

    return {
        "path": api.SOCKET_PATH,
        "description": (socket.__doc__ or "").strip(),
        "fromClient": {"oneOf": refs(frames.HEARD_FRAMES)},
        "fromServer": {"oneOf": refs(frames.TOLD_FRAMES)},
        "closeCodes": {str(int(code)): meaning for code, meaning in frames.CLOSES.items()},
    }


def _limit(row: limits.Row) -> Json:
    return {
        "act": row.act.value,
        "by": row.by.value,
        "atOnce": row.burst,
        "perMinute": round(row.per_second * 60, 2),
        "why": row.why,
    }


# ---- for people ----------------------------------------------------------------------------------------------


class Manual:
    """The same as a page, without scripts."""

    def __init__(self, look: Look, pace: Pace, clock: Callable[[], float]) -> None:
        self._look = look
        self._pace = pace
        self._clock = clock
        self._document = document(look.prefix)
        schemas = self._document["components"]["schemas"]
        self._fields = {
            name: [_field(schema, key) for key in schema.get("properties", {})] for name, schema in schemas.items()
        }

    async def show(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise VisitorError("This page does not take that.", status=405, code="method")
        self._pace.look(request.scope, session=None, now=self._clock())
        return self._look.page("api.html", api=self._document, rows=api.TABLE, codes_of=codes_of, fields=self._fields)


def _field(schema: Json, name: str) -> Json:
    """What the page says of one field."""
    found: Mapping[str, Any] = schema["properties"][name]
    return {
        "name": name,
        "kind": _kind(found),
        "optional": name not in schema.get("required", ()),
        "description": found.get("description", ""),
    }


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REF)
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "const" in schema:
        return f'"{schema["const"]}"' if isinstance(schema["const"], str) else str(schema["const"]).lower()
    if "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("type", "anything"))
