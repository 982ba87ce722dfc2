"""Takes the docstrings out of other people's modules: some 8 MB that would rest in memory and nobody would read.

Ours stay: click makes the help of them, and pydantic the API's description. What `assert` states stays everywhere.
"""

from __future__ import annotations

import ast
from pathlib import Path
from types import CodeType


def without(file: Path, code: CodeType) -> CodeType:
    """The module's code, compiled anew from its source; `code` knows the name that it goes by."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_one(node):
            node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node.body[0])]
    compiled: CodeType = compile(tree, code.co_filename, "exec", dont_inherit=True, optimize=0)
    return compiled


def _has_one(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None
