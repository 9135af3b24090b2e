"""Docstrings say what a thing is or does."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pgjax"
FILES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_docstring_opens_with_a_preposition(file):
    for node in ast.walk(ast.parse(file.read_text())):
        text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        first = text.split()[0] if text else ""
        assert first not in ("Of", "As", "At", "By", "For", "From", "In", "On", "With"), text
