"""Commands run in this process, as their operator meets them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from veilsupport.cli import cli
from veilsupport.errors import SetupError, SetupErrors


def printed(*arguments: str) -> str:
    """What a command prints that succeeds."""
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.output)


def refusal(*arguments: str) -> str:
    """What is not right with it, one sentence and one hint after the other."""
    with pytest.raises(SetupError) as found:
        printed(*arguments)
    problems = found.value.problems if isinstance(found.value, SetupErrors) else (found.value,)
    return "\n".join(f"{each.message} {each.hint}" for each in problems)
