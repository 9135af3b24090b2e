"""Additions to MkDocs: links into the code, notebooks, equations, pages from other folders.

In the repository, links lead to files; here such a file becomes a page of the site. A link to the
package whose text is a name, [`GAE.weights`](../pgjax), leads to that name: in the reference if it
is public, else at its line of the source. So no page states the module of a name.
"""

import ast
import base64
import functools
import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)([^)\s]+)\)")
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
# A README would be the first page of the section.
RENAMED = {"CHANGELOG.md": "changelog.md", "benchmarks/README.md": "benchmarks/measuring.md"}
FOREIGN = [*RENAMED, "benchmarks/MUTANTS.md"]


def on_files(files: Files, config) -> Files:
    """Adds pages for files outside docs/, and for each source file that a page links to."""
    foreign = [ROOT / name for name in FOREIGN] + sorted((ROOT / "benchmarks/results").glob("*.md"))
    texts = {
        _site_path(path): path.read_text(encoding="utf-8")
        for path in [*foreign, *ROOT.glob("docs/**/*.md")]
    }
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        name = _site_path(notebook)
        texts[name], pictures = notebook_page(
            json.loads(notebook.read_text(encoding="utf-8")), name
        )
        for picture, content in pictures.items():
            files.append(File.generated(config, picture, content=content))
    for picture in sorted((ROOT / "benchmarks/results").glob("*.png")):
        files.append(File.generated(config, _site_path(picture), abs_src_path=str(picture)))
    for source in sorted(_linked_sources(texts)):
        texts[_site_path(source)] = source_page(source)
    written = {file.src_uri for file in files}
    for name in sorted(texts.keys() - written):
        files.append(File.generated(config, name, content=texts[name]))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Rewrites links and equations outside of code blocks."""
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    if uri == "reference/README.md":
        markdown = with_names(markdown)
    parts = FENCE.split(markdown)
    for i in range(0, len(parts), 2):
        parts[i] = with_equations(with_links(parts[i], uri))
    return "".join(parts)


def with_links(text: str, uri: str) -> str:
    """The text with links between the repository's files turned into links from the page `uri`."""

    def link(match: re.Match) -> str:
        label, (target, hash_sign, anchor) = match[1], match[2].partition("#")
        if not target:
            return match[0]
        path = _resolved(target, uri)
        if path.is_dir() and path != ROOT / "pgjax":
            return label  # a folder has no page
        if path == ROOT / "pgjax":
            page, hash_sign, anchor = name_link(label.strip("`"))
        else:
            page = _site_path(path)
        return f"[{label}]({posixpath.relpath(page, posixpath.dirname(uri))}{hash_sign}{anchor})"

    return LINK.sub(link, text)


def with_names(text: str) -> str:
    """The reference's table of pages, with links to the names of each."""

    def row(match: re.Match) -> str:
        names = [name for name, page in reference().items() if page == f"reference/{match[1]}"]
        return f"{match[0]}: {', '.join(f'[`{name}`](../../pgjax)' for name in names)}"

    return re.sub(r"^\| \[[^]]+\]\((\w+\.md)\) \|.*?(?= \|$)", row, text, flags=re.MULTILINE)


def name_link(name: str) -> tuple[str, str, str]:
    """The page, "#" and anchor of a name of the package."""
    top = name.partition(".")[0]
    if top in reference() and not re.search(r"\._", name):
        return reference()[top], "#", f"pgjax.{name}"
    path, line = definition(name)
    return _site_path(path), "#", f"__codelineno-0-{line}"


@functools.cache
def reference() -> dict[str, str]:
    """The page of each public name."""
    return {
        name: _site_path(page)
        for page in sorted((ROOT / "docs/reference").glob("*.md"))
        for name in re.findall(
            r"^::: pgjax\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    }


def definition(name: str) -> tuple[Path, int]:
    """The file and line where the package defines a name, "Class.method" or "module.function".

    Raises:
      PluginError: it is defined nowhere, or more than once.
    """
    places = definitions().get(name, [])
    if len(places) != 1:
        files = ", ".join(sorted(str(path.relative_to(ROOT)) for path, _ in places)) or "no file"
        raise PluginError(f"[`{name}`]: one definition is needed, and it is in {files}")
    return places[0]


@functools.cache
def definitions() -> dict[str, list[tuple[Path, int]]]:
    """The files and lines that define each function, class, method and constant of the package."""
    places: dict[str, list[tuple[Path, int]]] = {}
    for path in sorted((ROOT / "pgjax").rglob("*.py")):
        for name, line in _names(ast.parse(path.read_text(encoding="utf-8"))):
            for spelled in (name, f"{path.stem}.{name}"):
                places.setdefault(spelled, []).append((path, line))
    return places


def _names(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
            yield prefix + child.name, child.lineno
            if isinstance(child, ast.ClassDef):
                yield from _names(child, f"{child.name}.")
        elif isinstance(child, (ast.Assign, ast.AnnAssign)):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            names = (target.id for target in targets if isinstance(target, ast.Name))
            yield from ((prefix + name, child.lineno) for name in names)


def with_equations(text: str) -> str:
    """TeX between dollar signs as MathML, which browsers draw without a script."""

    def equation(match: re.Match) -> str:
        block, inline = match[1], match[2]
        if block:
            mathml = convert(block.strip(), display="block")
            return f'<div class="equation">{mathml}</div>'
        if inline:
            return f'<span class="equation">{convert(inline.strip())}</span>'
        return match[0]

    return re.sub(r"`[^`]+`|\$\$(.+?)\$\$|\$([^$]+?)\$", equation, text, flags=re.DOTALL)


def notebook_page(notebook: dict, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by the names of their files."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                printed = f"{''.join(output['text']).rstrip()}\n```"
                if parts[-1].startswith("```text"):  # output that continues the last one
                    parts[-1] = parts[-1].removesuffix("```") + printed
                else:
                    parts.append(f"```text\n{printed}")
            elif "image/png" in output.get("data", {}):
                picture = f"{name.removesuffix('.md')}_{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode("".join(output["data"]["image/png"]))
                file = f"../notebooks/{posixpath.basename(picture)}"
                parts.append(f"![Output of the cell above]({file})")
    return "\n\n".join(parts) + "\n", pictures


def source_page(path: Path) -> str:
    """The page of a file of code, with numbered lines; the search leaves it out."""
    title, code = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    language = {".py": "python", ".sh": "sh"}.get(path.suffix, "text")
    front = "---\nsearch: {exclude: true}\nhide: [toc]\n---\n"
    return f'{front}# `{title}`\n\n``````{language} linenums="1"\n{code}\n``````\n'


def _linked_sources(texts: dict[str, str]) -> Iterator[Path]:
    """Files of code that the pages link to, those of names among them."""
    for uri, text in texts.items():
        for label, target in LINK.findall("".join(FENCE.split(text)[::2])):
            path = _resolved(target.partition("#")[0], uri)
            name = label.strip("`")
            if path == ROOT / "pgjax" and "source/" in name_link(name)[0]:
                yield definition(name)[0]
            elif path.is_file() and _site_path(path).startswith("source/"):
                yield path


def _site_path(path: Path) -> str:
    """The path of a repository's file on the site."""
    name = Path(os.path.normpath(path)).relative_to(ROOT).as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name in RENAMED:
        return RENAMED[name]
    if name.endswith(".ipynb"):
        return name.removesuffix(".ipynb") + ".md"
    if name in FOREIGN or name.startswith(("benchmarks/results/", "notebooks/")):
        return name
    return f"source/{name}.md"


def _resolved(target: str, uri: str) -> Path:
    """The file of the repository that a link on the page `uri` of the site means."""
    outside = uri.partition("/")[0] in ("changelog.md", "notebooks", "benchmarks")
    folder = ROOT if outside else ROOT / "docs"
    return Path(os.path.normpath(folder / posixpath.dirname(uri) / target))
