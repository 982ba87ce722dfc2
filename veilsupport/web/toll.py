"""What an end point of the API asks of `pace`, by its row's limit and by what came with the request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from starlette.types import Scope

from veilsupport.limits import Act
from veilsupport.model import Private, Session
from veilsupport.web import shapes
from veilsupport.web.pace import Pace, Solution
from veilsupport.web.shapes import Shape


@contextlib.contextmanager
def paced(
    pace: Pace, limit: Act | None, scope: Scope, asked: Shape, *, session: Session | None, site: str, now: float
) -> Iterator[None]:
    """Around the act. VisitorError: it is too fast, or too much; PuzzleError: not without an answer."""
    with contextlib.ExitStack() as around:
        match limit, asked:
            case Act.START, shapes.Arrival() | shapes.Credentials():
                pace.start(scope, _solution(asked.puzzle), site=site, now=now)
            case Act.LOGIN, shapes.Credentials():
                email, solution = Private(asked.email), _solution(asked.puzzle)
                around.enter_context(pace.signing_in(scope, email, solution, now=now))
            case Act.LOGIN, shapes.PasswordChange():
                email = Private(asked.email)
                around.enter_context(pace.signing_in(scope, email, Solution(), session=session, now=now))
            case Act.RETURN, shapes.ReturnCode():
                around.enter_context(pace.returning(scope, now=now))
            case Act.SEND, _ if session is not None:
                pace.send(scope, session, now=now)
            case Act() as act, _:
                pace.take(act, scope, session=session, now=now)
        yield


def _solution(given: shapes.Solution | None) -> Solution:
    return Solution(given.id, given.answer) if given else Solution()
