"""Constants that are raised: each time as another exception, because one keeps all that it came through."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from veilsupport.errors import SetupError, Unavailable, VisitorError, setup_errors
from veilsupport.moving import sealedfile

PACKAGE = Path(__file__).resolve().parent.parent / "veilsupport"


def raised_names(tree: ast.AST) -> list[str]:
    """What stands behind `raise` as a bare name."""
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return [node.id for node in raised if isinstance(node, ast.Name)]


def test_no_constant_is_raised_itself() -> None:
    found = {file.name: raised_names(ast.parse(file.read_text())) for file in PACKAGE.rglob("*.py")}
    assert {name: names for name, names in found.items() if any(each.isupper() for each in names)} == {}
    assert raised_names(ast.parse("raise _TAKEN from None")) == ["_TAKEN"]


def test_what_is_raised_anew_is_the_same_and_leaves_no_trace_in_the_constant() -> None:
    constant = VisitorError("Wait.", status=503, code="busy", retry_after_seconds=3)
    with pytest.raises(VisitorError, match=r"Wait\.") as raised:
        raise constant.anew()
    assert vars(raised.value) == vars(constant)
    assert raised.value.args == constant.args
    assert (constant.__traceback__, constant.__context__) == (None, None)
    assert not Unavailable("gone", temporary=False).anew().temporary
    assert sealedfile.DAMAGED.anew().hint == sealedfile.DAMAGED.hint


def test_setup_errors_are_found_however_deep_and_none_beside_something_worse() -> None:
    one, two = SetupError("One.", hint="1"), SetupError("Two.", hint="2")
    assert setup_errors(one) == [one]
    assert setup_errors(ExceptionGroup("", [one, ExceptionGroup("", [two])])) == [one, two]
    assert setup_errors(ExceptionGroup("", [one, ExceptionGroup("", [two, OSError()])])) == []
    assert setup_errors(OSError()) == []
