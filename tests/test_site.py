"""The site builds without a warning, has every public name, and no broken link."""

import ast
import dataclasses
import html
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import pgjax

ROOT = Path(__file__).parents[1]
NEEDED = ("mkdocs", "material", "mkdocstrings_handlers", "latex2mathml")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(missing), reason=f"{missing} not installed: pip install -e '.[docs]'"
)


class Page(HTMLParser):
    """A page's anchors, the addresses that it names, and those that a browser loads by itself."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        address = attributes.get("href") or attributes.get("src")
        if address:
            self.links.add(address)
            if tag != "a":
                self.loaded.add(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, and its pages by file."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    assert "WARNING  -" not in log
    files = [file for file in folder.rglob("*.html") if file.name != "404.html"]
    return folder, {file: Page(file.read_text(encoding="utf-8")) for file in files}


@pytest.mark.slow
def test_the_references_first_page_leads_to_every_public_name(site):
    folder, _ = site
    text = (folder / "reference/index.html").read_text("utf-8")
    for name in pgjax.__all__:
        assert re.search(rf'href="[\w./]+#pgjax\.{name}"', text), name


def test_every_public_name_is_in_the_reference(site):
    folder, pages = site
    anchors = set()
    for file, page in pages.items():
        if file.parent == folder / "reference":
            anchors |= page.anchors
    assert {f"pgjax.{name}" for name in pgjax.__all__} <= anchors


def is_component(value):
    """Whether it is a class of config components that can be made, or `Config`."""
    made = inspect.isclass(value) and dataclasses.is_dataclass(value)
    return made and issubclass(value, pgjax.Component) and not inspect.isabstract(value)


COMPONENTS = [cls for cls in map(pgjax.__getattr__, pgjax.__all__) if is_component(cls)]


@pytest.mark.parametrize("cls", COMPONENTS, ids=lambda cls: cls.__name__)
def test_constructors_are_shown_with_their_parameters(site, cls):
    folder, _ = site
    text = "".join(file.read_text("utf-8") for file in (folder / "reference").glob("*.html"))
    section = text.partition(f'<h2 id="pgjax.{cls.__name__}"')[2].partition("<h2 id=")[0]
    shown = re.search(r'<div class="doc-signature.*?</div>', section, re.DOTALL)[0]
    shown = html.unescape(re.sub("<[^>]+>", "", shown)).strip()
    function = ast.parse(f"def {shown}: ...").body[0]
    assert function.name == cls.__name__
    parameters = inspect.signature(cls).parameters
    assert [argument.arg for argument in function.args.args] == list(parameters)
    optional = [
        name for name, parameter in parameters.items() if parameter.default != parameter.empty
    ]
    assert len(function.args.defaults) == len(optional)


def test_links_lead_to_files_and_anchors_that_are_there(site):
    _, pages = site
    broken = []
    for file, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (file.parent / unquote(address.path)).resolve() if address.path else file
            anchor = unquote(address.fragment)
            if not target.is_file() or (
                anchor and target in pages and anchor not in pages[target].anchors
            ):
                broken.append(f"{file.name}: {link}")
    assert not broken


def test_doctests_are_blocks_of_code(site):
    folder, _ = site
    for file in (folder / "reference").glob("*.html"):
        assert "<blockquote>" not in file.read_text("utf-8"), file


def test_nothing_is_fetched_from_elsewhere(site):
    _, pages = site
    for file, page in pages.items():
        assert not [link for link in page.loaded if urlsplit(link).netloc], file


def test_every_page_is_in_the_navigation(site):
    folder, _ = site
    shown = {(folder / unquote(urlsplit(link).path)).resolve() for link in nav_links(folder)}
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert folder / name.parent / name.name.replace("README", "index") in shown, page


def nav_links(folder):
    """The addresses in the navigation of the first page."""
    text = (folder / "index.html").read_text(encoding="utf-8")
    nav = re.search(r'<nav class="md-nav md-nav--primary.*', text, re.DOTALL)
    return Page(nav[0]).links


@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_notebooks_have_their_pictures_and_equations(site, notebook):
    folder, _ = site
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    text = (folder / "notebooks" / f"{notebook.stem}.html").read_text(encoding="utf-8")
    for number in range(1, pictures + 1):
        name = f"{notebook.stem}_{number}.png"
        assert name in text
        assert (folder / "notebooks" / name).read_bytes().startswith(b"\x89PNG")


def test_equations_are_drawn_by_the_browser(site):
    folder, _ = site
    text = (folder / "estimators" / "gae.html").read_text(encoding="utf-8")
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in text
    for file in folder.rglob("*.html"):
        prose = re.sub(
            r"<(code|script)\b.*?</\1>", "", file.read_text(encoding="utf-8"), flags=re.S
        )
        assert "$$" not in prose, file
