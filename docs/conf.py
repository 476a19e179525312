"""How Sphinx makes one site of these pages and the docstrings: `make docs`. It fetches nothing."""

import ast
import inspect
import re
import textwrap
from importlib import metadata
from typing import Any

project = "ablate"
version = release = metadata.version("ablate-backbones")
html_title = f"ablate {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
root_doc = "index"
exclude_patterns = ["_build"]
html_theme = "furo"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
maximum_signature_line_length = 100
default_role = "code"  # docstrings mark code as Markdown does

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
# Types without a page here: those of other packages and of rooms that a reader does not call, and type variables.
nitpick_ignore_regex = [
    ("py:.*", r"(?!ablate|hrnet_core).*"),
    ("py:.*", r"ablate\.(machine|storage|beside|training|planning|running)\..*"),
    ("py:.*", r"ablate\.[\w.]+\.(\w+_co|\w+_contra|[A-Z]|Builder|_\w+|_held_out\.Images)"),
    ("py:.*", r"ablate\.study\.schema\.Key"),
]


def links_stay_inside(app: Any, page: str, source: list[str]) -> None:
    """A link to a document outside docs/ leads there on a code host; the site has no such page, and shows its text."""
    source[0] = re.sub(r"\[([^]]*)\]\(\s*\.\./[^)]*\.md[^)]*\)", r"\1", source[0])


def comments_document_fields(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """The comment on a field's line is its documentation, as in `ablate list keys`."""
    if what != "class":
        return
    try:
        source = textwrap.dedent(inspect.getsource(thing)).splitlines()
    except (OSError, TypeError):  # not a class of a file
        return
    node = ast.parse("\n".join(source)).body[0]
    for field in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(field, ast.AnnAssign):
            comment = source[field.lineno - 1].partition("  # ")[2]
            plain = re.sub(r"([*_|\\])", r"\\\1", comment)
            lines += [f":var {ast.unparse(field.target)}: {plain}"] if comment else []


def examples_stand_alone(app: Any, context: Any, lines: list[str]) -> None:
    """The last sentence of a command's help is an example: a block of its own."""
    text, *example = re.split(r"\s+Example:\s+", "\n".join(lines).rstrip())
    lines[:] = text.splitlines()
    for command in example:
        lines += ["", ".. code-block:: shell", "", f"   {' '.join(command.split())}", ""]


def defaults_are_plain(app: Any, context: Any, lines: list[str]) -> None:
    """No quotes in quotes."""
    lines[:] = [re.sub(r"``'(.*)'``", r"``\1``", line) for line in lines]


def setup(app: Any) -> None:
    app.connect("source-read", links_stay_inside)
    app.connect("autodoc-process-docstring", comments_document_fields)
    app.connect("sphinx-click-process-description", examples_stand_alone)
    app.connect("sphinx-click-process-options", defaults_are_plain)
