"""Docstrings say what a thing is or does; variables are nouns."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pgjax"
FILES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
PREPOSITIONS = {"Of", "As", "At", "By", "For", "From", "In", "On", "With"}
PREPOSITIONS |= {"Without", "Before", "After", "Where", "When", "Under"}
NO_NOUNS = {"found", "made", "seen", "now", "every"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_docstring_opens_with_a_preposition(file):
    for node in ast.walk(ast.parse(file.read_text())):
        text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        first = text.split()[0] if text else ""
        assert first not in PREPOSITIONS, text


def variables(tree):
    """Names that a module assigns, or that its functions take."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_a_variable_is_called_by_its_noun():
    for file in FILES:
        names = NO_NOUNS.intersection(variables(ast.parse(file.read_text())))
        assert not names, f"{file.relative_to(PACKAGE)}: {names}"
