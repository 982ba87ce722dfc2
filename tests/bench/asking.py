"""Requests of the measures themselves, one after the other on a kept connection; not for load."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`seconds`: from before the request to the answer's last byte."""

    status: int
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Line:
    """One visitor's connection. `token`: of their session, for the API and as the pages' cookie."""

    def __init__(self, port: int, token: str = "") -> None:
        self.token = token
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        self._link.connect()

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", "Cookie": f"veil={self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        began = time.monotonic()
        self._link.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self._link.getresponse()
        return Answer(answer.status, answer.read(), time.monotonic() - began)

    def must(self, method: str, path: str, body: object = None) -> Answer:
        """RuntimeError: it was refused."""
        answer = self.ask(method, path, body)
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._link.close()
