"""The docstrings under the fields of a class, read from its source: what a field means is written once."""

import ast
import inspect
from itertools import pairwise


def field_notes(*owners: type) -> dict[str, str]:
    """Field -> its docstring on one line; of several owners, the last that has one."""
    notes: dict[str, str] = {}
    for owner in owners:
        tree = ast.parse(inspect.cleandoc(inspect.getsource(owner)))
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for declaration, text in pairwise(body):
            if not (isinstance(declaration, ast.AnnAssign) and isinstance(declaration.target, ast.Name)):
                continue
            value = text.value if isinstance(text, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                notes[declaration.target.id] = " ".join(value.value.split())
    return notes
