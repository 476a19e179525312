"""Whole reports: what is written, in which order, and that each format is what it claims to be."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import made_up
import pytest
from markdown_it import MarkdownIt

from ablate.errors import PartError, StoreError
from ablate.report import blocks, html, latex, markdown, write
from ablate.report.blocks import Cell, Column, Figure, Panel, Series, Table, Text, decimals, percent, signed
from ablate.report.draw import Drawing

VOID = {"meta", "path", "use", "rect", "br", "img", "wbr"}
FIGURE = Figure("demo", "A line", [Panel("x", "y", [Series("line", [0, 1], [1, 2], name="a_b $x$ <c>")])])


class Balanced(HTMLParser):
    """Refuses tags that close nothing; collects ids, addresses and text."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.addresses, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(page):
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


def headings(evidence):
    return [block.text for block in blocks(evidence) if isinstance(block, Text) and block.style == "heading"]


def test_all_sections_by_their_place(tmp_path):
    expected = [
        "Answer", "Results", "Arms", "Seeds", "Effects", "Classes", "Cost", "Learning curves", "Failures", "Provenance",
    ]  # fmt: skip
    assert headings(made_up.full(tmp_path)) == expected


def test_the_study_itself_stands_in_the_report(tmp_path):
    evidence = made_up.full(tmp_path / "results")
    source = "name: x  # a # comment\n  indent: {a: <b>}\n\\end{document}\n```\n"
    shown = replace(evidence, study=evidence.study.model_copy(update={"source": source}))
    write(shown, tmp_path / "report", formats=("md", "html", "latex"))
    page, markdown, latex = ((tmp_path / "report" / f"report.{kind}").read_text() for kind in ("html", "md", "tex"))
    assert "<pre><code>name: x  # a # comment\n  indent: {a: &lt;b&gt;}\n\\end{document}\n```</code></pre>" in page
    assert "\n    name: x  # a # comment\n      indent: {a: <b>}\n" in markdown
    assert latex.count("\\end{document}") == 1
    assert evidence.command in markdown.replace("\\", "")


def test_the_study_chooses_sections_and_their_order(tmp_path):
    evidence = made_up.full(tmp_path)
    chosen = replace(evidence, study=evidence.study.model_copy(update={"sections": ["failures", "answer"]}))
    assert headings(chosen) == ["Failures", "Answer"]
    unknown = replace(evidence, study=evidence.study.model_copy(update={"sections": ["anwser"]}))
    with pytest.raises(PartError, match="did you mean 'answer'"):
        blocks(unknown)


def test_warnings_come_before_any_number(tmp_path):
    found = blocks(made_up.partial(tmp_path))
    warnings = [block.text for block in found if isinstance(block, Text) and block.style == "warning"]
    for start in ("Partial report: 4 of 12", "2 of 12 trials", "Files that", "Mixed revisions", "Too few seeds"):
        assert any(line.startswith(start) for line in warnings), start
    last = max(at for at, block in enumerate(found) if isinstance(block, Text) and block.style == "warning")
    assert last < min(at for at, block in enumerate(found) if isinstance(block, Table | Figure))


@pytest.mark.parametrize("case", made_up.CASES)
def test_write_leaves_three_documents_whose_figures_exist(case, tmp_path):
    written = write(made_up.CASES[case](tmp_path / "results"), tmp_path / "out")
    names = {str(path.relative_to(tmp_path / "out")) for path in written}
    assert {"report.md", "report.html", "report.tex"} <= names
    linked = re.findall(r"\]\((figures/[^)]+)\)", (tmp_path / "out/report.md").read_text())
    included = re.findall(r"\{(figures/[^}]+)\}", (tmp_path / "out/report.tex").read_text())
    assert {*linked, *included} == {name for name in names if name.startswith("figures/")}
    assert all(path.stat().st_size for path in written)


def test_equal_evidence_gives_equal_files(tmp_path):
    evidence = made_up.few_seeds(tmp_path / "results")
    first, second = (write(evidence, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len(first) == len(second) == 4 + 2 * 4


def test_formats_can_be_chosen_and_a_file_is_no_folder(tmp_path):
    evidence = made_up.empty(tmp_path / "results")
    assert [path.name for path in write(evidence, tmp_path / "out", formats=("html",))] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        write(evidence, tmp_path / "file")


@pytest.mark.parametrize(("results", "report"), [("results", "results/reports/x"), ("a b/rés(1) %41?#", "out [y]")])
def test_ids_lead_to_the_documents_of_their_trials(results, report, tmp_path):
    evidence = made_up.partial(tmp_path / results)
    write(evidence, tmp_path / report, formats=("md", "html"))
    page = MarkdownIt("commonmark").enable("table").render((tmp_path / report / "report.md").read_text())
    written = (page, (tmp_path / report / "report.html").read_text())
    for links in (re.findall(r'<a href="([^"]+)"><code>([^<]+)</code></a>', text) for text in written):
        assert {trial for _, trial in links} == set(evidence.results)
        for address, trial in links:
            document = json.loads((tmp_path / report / unquote(address)).read_text())
            assert document["result"]["id"] == trial


def test_ids_of_an_object_store_lead_nowhere(tmp_path):
    evidence = replace(made_up.few_seeds(tmp_path / "results"), place="s3://bucket/prefix")
    write(evidence, tmp_path, formats=("md", "html"))
    assert "trials/" not in (tmp_path / "report.md").read_text()
    assert "<a " not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("case", made_up.CASES)
def test_html_is_balanced_and_fetches_nothing(case, tmp_path):
    page = html.render(blocks(made_up.CASES[case](tmp_path)))
    found = parsed(page)
    assert len(found.ids) == len(set(found.ids))
    assert all(address.startswith(("#", "trials/")) for address in found.addresses)
    assert not re.search(r"<script|@import|url\((?!#)", page)


def test_html_shows_any_text_as_itself():
    table = Table(made_up.NASTY, [Column(made_up.NASTY)], [[Cell(made_up.NASTY, made_up.NASTY)]])
    page = parsed(html.render([Text(made_up.NASTY, "question"), table, FIGURE]))
    assert page.text.count(made_up.NASTY) == 1 + 5  # the page's title; then question, caption, column and cell twice


def test_markdown_shows_any_text_as_itself():
    table = Table("t", [Column("a"), Column(made_up.NASTY)], [[Cell("1"), Cell(made_up.NASTY, strong=True)]])
    for opening in ("", "1. ", "- ", "+ ", "# ", "> ", "--- "):
        page = (
            MarkdownIt("commonmark")
            .enable("table")
            .render(markdown.render([Text(opening + made_up.NASTY), table], str))
        )
        found = parsed(page)
        assert found.text.count(made_up.NASTY) == 3
        assert (opening + made_up.NASTY) in found.text
        assert page.count("<td") == 2


def test_latex_escapes_what_has_a_meaning():
    assert latex.escape("50% & a_b #1 $x") == r"50\% \& a\_b \#1 \$x"
    assert latex.escape("± − Δ ≥ é") == r"$\pm$ $-$ $\Delta$ $\geq$ é"
    assert latex.escape("中 ﬁ ő") == "{[}U+4E2D] fi o"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("case", ["full", "empty", "all_failed", "single_seed"])
def test_latex_compiles(case, tmp_path):
    write(made_up.CASES[case](tmp_path / "results"), tmp_path, formats=("latex",))
    compile_latex(tmp_path)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_any_character_and_many_rows(tmp_path):
    text = "".join(map(chr, [*range(0x20, 0x250), *range(0x370, 0x3FF), *range(0x2000, 0x2300), 0x1F600]))
    rows = [[Cell(f"{row}", "minor"), Cell("0123456789abcdef" * 8)] for row in range(100)]
    rows[1] = [Cell("β = 1"), Cell("σ")]  # an opening bracket after the end of a row would be read as its height
    columns = [Column(text[:200], minor="m"), Column("b", "left", wide=True)]
    page = latex.render([Text(text), Text(text, "warning"), Table(text, columns, rows, [text])], str)
    (tmp_path / "report.tex").write_text(page)
    compile_latex(tmp_path)


def compile_latex(folder):
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    run = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout.decode(errors="replace")[-2000:]
    assert (folder / "report.pdf").stat().st_size > 10_000


@pytest.mark.parametrize("kinds", [("svg", "pdf"), ("pdf", "svg")])
def test_drawings_repeat_and_carry_no_date(kinds):
    first, second = (getattr(Drawing(FIGURE), kind)() for kind in kinds)
    again = Drawing(FIGURE)  # both of one layout, in either order
    assert (getattr(again, kinds[0])(), getattr(again, kinds[1])()) == (first, second)
    assert b"Date" not in first
    other = Drawing(replace(FIGURE, name="other", panels=FIGURE.panels * 2))
    assert first != getattr(other, kinds[0])()


def test_scores_are_printed_as_the_papers_do():
    assert percent(0.7344, 1) == "73.4"
    assert percent(float("nan"), 1) == "–"
    assert signed(-0.026, 1) == "−2.6"
    assert signed(0.004, 1) == "+0.4"
    assert decimals([0.01, -0.2]) == 1
    assert decimals([0.01, -0.0004]) == 2  # one decimal would print −0.0
