"""Texts of studies and results are text in every format: no element, attribute, link or command of theirs comes out."""

# ruff: noqa: E501  (tables of cases)

import re
from html.parser import HTMLParser

import pytest
from made_up import fill, study
from markdown_it import MarkdownIt

from ablate.analysis import gather
from ablate.report import blocks, html, latex, markdown
from ablate.report.blocks import Cell, Column, Figure, Panel, Series, Table, Text
from ablate.report.draw import Drawing
from ablate.storage import Store
from ablate.study import Design

MARKUP = [
    "<script>alert(1)</script>", "</title><script>x</script>", "--><img src=x onerror=alert(1)>", '" onmouseover="alert(1)',
    "'><svg onload=alert(1)>", "]]><b>", "&lt;b&gt;", "<style>*{}</style>", "javascript:alert(1)", "{{7*7}}", "\x00<b\x00>",
]  # fmt: skip
MARKDOWN = [
    "[a](javascript:alert(1))", "![a](http://x/y.png)", "<http://x>", "# head", "`code`", "a | b", "***", "- item", "1. item",
    "> quote", "```\nfence\n```", "[a]: http://x", "|---|", "\n\n<b>x</b>", "$x$", "    indented", "a\\", "\\`", "=====",
]  # fmt: skip
TEX = [
    r"\input{/etc/hostname}", r"\write18{touch x}", r"\immediate\write18{x}", r"\def\x{\x}\x", "^^5cinput{x}", "$x$", "%", "#1", "&",
    r"\end{document}", r"\\[9cm]", "[9cm]", "*", "{", "}", "~", "_", "^", '"', r"\verb|x|", r"\csname input\endcsname", "\\\n\\", "--",
    r"\catcode`\@=11", "x\x7f\x1b\x08",
]  # fmt: skip
HOSTILE = [*MARKUP, *MARKDOWN, *TEX]
ALL = " ".join(HOSTILE)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(attrs)))

    def handle_data(self, data):
        self.text += data


def content(text: str) -> list:
    """Blocks with one text in every place that takes any."""
    table = Table(
        text, [Column(text, "left", minor=text), Column(text, wide=True, minor=text)],
        [[Cell(text, text, strong=True), Cell(text)], [Cell(text), Cell(text, text)]], [text],
    )  # fmt: skip
    styles = ("title", "question", "heading", "answer", "paragraph", "warning")
    series = [
        Series("points", [1.0], [1.0], colour=1, name=text[:60]),
        Series("points", [2.0], [1.0], colour=2, name="b"),
    ]
    figure = Figure("toy", text, [Panel(text[:30], text[:30], series, rows=[text[:60], "b"])])
    return [*(Text(text, style) for style in styles), table, figure]


PLAIN = content("word")


@pytest.mark.parametrize("text", [*HOSTILE, ALL])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_page_has_the_elements_of_a_plain_one(text):
    """But for what the drawing of other letters needs, which has outlines and places only."""

    def shape(page: str) -> list:
        page = re.sub(r"<svg.*?</svg>", "<svg>", page, flags=re.DOTALL)
        return Elements(page.replace("<wbr>", "")).found  # where a line may end depends on the text

    page = html.render(content(text))
    assert shape(page) == shape(html.render(PLAIN))
    tags = {tag for tag, _ in Elements(page).found}
    assert tags <= {tag for tag, _ in Elements(html.render(PLAIN)).found} | {"g", "path", "use", "defs", "svg", "wbr"}
    attributes = {name for _, attributes in Elements(page).found for name, _ in attributes}
    assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r'(href|src)="(?!#)', page)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_page_runs_and_fetches_nothing():
    assert "default-src 'none'" in html.render(PLAIN)


@pytest.mark.parametrize("text", [*HOSTILE, ALL])
def test_markdown_has_the_elements_of_a_plain_document(text):
    def shape(document: str) -> list:
        return Elements(MarkdownIt("commonmark", {"html": True}).enable("table").render(document)).found

    def place(figure):
        return "figures/toy.svg"

    alt = [
        (tag, tuple(a for a in attributes if a[0] != "alt"))
        for tag, attributes in shape(markdown.render(content(text), place))
    ]
    plain = [
        (tag, tuple(a for a in attributes if a[0] != "alt")) for tag, attributes in shape(markdown.render(PLAIN, place))
    ]
    assert alt == plain


COMMAND = re.compile(r"\\([a-zA-Z@]+\*?|.)", re.DOTALL)
OURS = {
    "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "textquotedbl", "{", "}", "$", "&", "#",
    "%", "_", "dots", "pm", "times", "Delta", "alpha", "geq", "leq", "frac", "textdegree", "mu", "allowbreak",
}  # fmt: skip


@pytest.mark.parametrize("text", [*HOSTILE, ALL])
def test_latex_has_no_command_of_the_text(text):
    """Taken out of the document: what is left of each place is letters, and commands that print one letter."""
    escaped = latex.escape(text)
    assert set(COMMAND.findall(escaped)) <= OURS
    without = COMMAND.sub("", escaped)
    assert not set("#$%&_^~\\\x00\x1b") & set(without)
    depth = 0
    for mark in re.findall(r"[{}]", without):
        depth += 1 if mark == "{" else -1
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize("text", [*HOSTILE, ALL])
def test_latex_has_the_commands_of_a_plain_document(text):
    def commands(document: str) -> list[str]:
        return [name for name in COMMAND.findall(document) if name not in OURS]

    def place(figure):
        return "figures/toy.pdf"

    document = latex.render(content(text), place)
    assert commands(document) == commands(latex.render(PLAIN, place))
    assert not re.search(r"(\\\\|\\toprule|\\midrule)\s*[\[*](?!3pt\])", document)  # no option for a line's end


@pytest.mark.parametrize("text", ["$\\frac$", "$x", "$$", r"$\undefined{$", "a_b^c", "\\"])
def test_a_drawing_takes_dollars_for_dollars(text):
    """matplotlib would read mathematics, and stop at what is none."""
    for kind in ("svg", "pdf"):
        assert getattr(Drawing(content(text)[-1]), kind)()


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.filterwarnings("ignore:constrained_layout")
def test_a_study_and_results_full_of_it_give_a_report(tmp_path):
    def hostile(trial):
        if trial.seed:
            return {"env": {"revision": ALL[:200], "dirty": ALL, "torch": ALL, ALL: ALL}, "finished": ALL}
        return {"status": "failed", "reason": ALL, "cost": None, "curve": []}

    chosen = study(
        seeds=4, question=ALL, note=ALL, scale=ALL,
        factors={ALL: {"at": "model.fusions", "levels": {"<b>$x": {"model.fusions": "within"}, ALL: {"model.fusions": "final"}}}},
    )  # fmt: skip
    store = Store(tmp_path / "results")
    fill(store, chosen, hostile)
    made = blocks(gather(Design(chosen), store))
    page = Elements(re.sub(r"<svg.*?</svg>", "<svg>", html.render(made), flags=re.DOTALL))
    assert not {tag for tag, _ in page.found} & {"script", "img", "b", "style2", "iframe"}
    links = [attributes for tag, attributes in page.found if tag == "a"]
    assert all(re.fullmatch(r"trials/[0-9a-f]{16}/result\.json", address) for ((_, address),) in links)
    assert [tag for tag, _ in page.found].count("style") == 1
    assert "alert(1)" in page.text
    document = latex.render(made, lambda figure: figure.name)
    assert "\\input" not in document
    assert "\\write" not in document
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.render(made, lambda f: f.name))
    assert not {tag for tag, _ in Elements(rendered).found} & {"script", "b", "style", "iframe", "svg"}
