"""The table of published studies in README.md, from what their reports say; `python reports/index.py` writes it."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
START, END = "<!-- made by reports/index.py -->\n", "<!-- until here -->\n"
VERDICT = re.compile(r"\S+ is (higher|lower) with |No difference in |Whether \S+ differs from |Nothing can be ")
RESERVED = re.compile(
    r"(Training had not converged\.|No plan is stored with these results|At chance in [^;]*|Hardly learned in [^;]*"
    r"|Whether scores still rise at the end is not known)"
)


def table(folder: Path) -> str:
    """One row for each folder with a report: question, verdict, when and of which revision, links. In Markdown."""
    rows = [_row(report) for report in sorted(folder.glob("*/report.md"))]
    return "\n".join(["| study | question | verdict | made |", "|---|---|---|---|", *rows]) + "\n"


def written(page: str, rows: str) -> str:
    """The page with that table between its marks."""
    before, rest = page.split(START)
    return f"{before}{START}\n{rows}\n{END}{rest.split(END)[1]}"


def _row(report: Path) -> str:
    text, name = report.read_text(encoding="utf-8"), report.parent.name
    title, question = _found(r"^# (.*)$", text), _found(r"^\*([^*].*)\*$", text)
    answer = re.findall(r"^\*\*(.*)\*\*$", text.split("## Answer\n")[1].split("\n## ")[0], flags=re.MULTILINE)
    verdict = " ".join(line for line in answer if VERDICT.match(line))
    verdict += "".join(f" {found[0].rstrip('.')}." for line in answer if (found := RESERVED.match(line)))
    day, revisions = _fact("finished", text).rpartition(" to ")[2][:10], _fact("revision", text)
    links = f"[{title}]({name}/report.md), [page]({name}/report.html), [interactive]({name}/interactive.html)"
    made = (
        f"{day}, {_fact('device', text)}, revision {' and '.join(re.findall('([0-9a-f]{10})[0-9a-f]{30}', revisions))}"
    )
    return f"| {links} | {question} | {verdict} | {made} |"


def _fact(name: str, text: str) -> str:
    return _found(rf"^\| {name} \| (.*) \|$", text)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, flags=re.MULTILINE)
    if not match:
        raise SystemExit(f"a report has no line that matches {pattern}")
    return match[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), table(HERE)), encoding="utf-8")
