"""Python's annotations in plain words: what a value in a study file may be."""

import ast
from collections.abc import Sequence

WORDS = {
    **{"str": "text", "RecipePath": "path in the recipe", "Any": "anything", "None": "none"},
    **{"int": "whole number", "StrictInt": "whole number", "bool": "true or false"},
    **{"float": "number", "FiniteFloat": "number"},
}
MANY = {"text": "texts", "whole number": "whole numbers", "number": "numbers", "anything": "anything"}
NUMBERS = {2: "two", 3: "three", 4: "four"}


def in_words(annotation: str) -> str:
    """`int | None` -> whole number, or none; classes of keys -> block.

    Raises:
        SyntaxError: it is no annotation.
    """
    return _words(ast.parse(annotation, mode="eval").body)


def _words(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):
        return ", or ".join(map(_words, _choices(node)))
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _several(ast.unparse(node.value), inner)
    text = ast.unparse(node)
    return WORDS.get(text, "block")


def _choices(node: ast.expr) -> list[ast.expr]:
    return [*_choices(node.left), node.right] if isinstance(node, ast.BinOp) else [node]


def _several(kind: str, inner: Sequence[ast.expr]) -> str:
    if kind == "Literal":
        values = [str(ast.literal_eval(value)) for value in inner]
        return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
    if kind == "dict":
        return f"names, each with {_with_article(_words(inner[1]))}"
    whole = isinstance(inner[-1], ast.Constant) and inner[-1].value is ...
    item = _words(inner[0])
    if kind == "list" or whole:
        return f"list of {MANY.get(item, item)}"
    return f"{NUMBERS[len(inner)]} {MANY.get(item, item)}"


def _with_article(text: str) -> str:
    return text if text == "anything" else f"a {text}"
