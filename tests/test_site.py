"""The documentation as one site: built without a warning and without network, with no link that leads nowhere."""

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import FunctionType
from urllib.parse import unquote, urlsplit

import pytest

from ablate.cli import COMMANDS

ROOT = Path(__file__).parent.parent
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src"}  # what a browser fetches by itself
NOWHERE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}  # a port that nobody listens on


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that others may link to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places = {""}
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and LOADED[tag] in found and found.get("rel") not in ("canonical", "index", "search"):
            self.loads.append(found[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-E", "-d", out / "trees"]
    environment = os.environ | NOWHERE | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, ROOT / "docs", out / "html"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return out / "html"


@pytest.mark.slow
def test_every_link_inside_the_site_leads_somewhere(site):
    pages = {file: Page(file) for file in site.rglob("*.html")}
    wrong, checked = [], 0
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists() or (target in pages and unquote(parts.fragment) not in pages[target].places):
                wrong.append(f"{file.relative_to(site)}: {link}")
    assert not wrong
    assert checked > 200


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site):
    for file in site.rglob("*.html"):
        assert not [place for place in Page(file).loads if urlsplit(place).netloc], file
    for file in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", file.read_text()), file


@pytest.mark.slow
def test_the_site_has_all_pages_commands_and_public_names(site):
    assert {file.stem for file in (ROOT / "docs").glob("*.md")} <= {file.stem for file in site.glob("*.html")}
    places = {place for file in site.rglob("*.html") for place in Page(file).places}
    assert {f"ablate-{name}" for name in COMMANDS} <= places
    for face in ("ablate", "ablate.analysis", "ablate.datasets", "hrnet_core"):
        module = importlib.import_module(face)
        things = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
        named = {f"{face}.{name}" for name, thing in things.items() if isinstance(thing, type | FunctionType)}
        assert named <= places


def markdown() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "reports").glob("*.md")]


@pytest.mark.parametrize("file", markdown(), ids=lambda file: str(file.relative_to(ROOT)))
def test_links_between_files_lead_somewhere_on_a_code_host(file):
    for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
        parts = urlsplit(link)
        if not parts.scheme and parts.path:
            assert (file.parent / unquote(parts.path)).exists(), link
