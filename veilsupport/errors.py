"""Every exception of ours, named by whose fault it is.

Messages are constants: nothing that a person wrote, and no address, ever goes into one, because messages
reach pages, phones, terminals and logs. Each edge translates these in one place; whatever is not a
`VeilError` is a bug and ends the process.
"""

from collections.abc import Sequence
from typing import Self


class VeilError(Exception):
    """The common ancestor; never raised itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def anew(self) -> Self:
        """For raising a constant: an exception keeps the frames that it came through and all that they held.

        A constant would keep them for ever, and more with every time.
        """
        made = type(self).__new__(type(self), *self.args)
        vars(made).update(vars(self))
        return made


class VisitorError(VeilError):
    """The visitor asked for something that cannot be done; becomes a page or a JSON error.

    `status` is the HTTP status; `code` is stable and for programs; `field` names what was asked wrongly, where one
    can tell; `retry_after_seconds` is set with 429 and 503.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "invalid",
        field: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_seconds = retry_after_seconds


class AdminError(VeilError):
    """The admin asked for something that cannot be done; becomes a reply on the phone."""


class SetupError(VeilError):
    """The program cannot start as it is configured; becomes `error:` and `hint:` on the terminal."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Unavailable(VeilError):
    """Something outside is not there; the edge backs off and, when `temporary`, tries again."""

    def __init__(self, message: str, *, temporary: bool = True) -> None:
        super().__init__(message)
        self.temporary = temporary


class SealError(VeilError):
    """A sealed thing did not open: wrong key, or bytes that were changed. Never ignored."""


class StoreError(VeilError):
    """The database refused: full disk, read-only, locked by a stranger, or already closed."""


class Duplicate(VeilError):
    """This very thing was taken before; nothing was changed."""


class NotFound(VeilError):
    """No such row: never existed, or is gone."""


class SetupErrors(SetupError):
    """Several at once, so that the operator mends them in one go."""

    def __init__(self, problems: Sequence[SetupError]) -> None:
        super().__init__(problems[0].message, hint=problems[0].hint)
        self.problems = tuple(problems)


def setup_errors(error: BaseException) -> list[SetupError]:
    """Those that it is, or has within, if there is nothing worse among them."""
    if isinstance(error, SetupError):
        return [error]
    if isinstance(error, BaseExceptionGroup):
        found = [setup_errors(each) for each in error.exceptions]
        return [each for group in found for each in group] if all(found) else []
    return []
