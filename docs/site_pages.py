"""What the site has besides the pages in docs/: pages that lie elsewhere, and the files that pages link to.

A page links to files as the repository has them, so that its links also work where the code is read.
Here each such link is turned into one to the page that shows the file.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# Pages of the site that do not lie in docs/, by their place in the repository.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "editor/README.md": "editor.md",
}
# The place in a link to a file; what stands between fences is no link, and is found first.
LINK = re.compile(r"(?P<fenced>^```.*?^```$)|(?<=\]\()(?![a-z]+:)[^)#\s]+(?=[)#])", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and one for every other file or folder that a page links to."""
    for name, uri in ELSEWHERE.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, uri, content=(ROOT / name).read_text(encoding="utf-8")))
    for path in sorted({path for file in files.documentation_pages() for path in linked(file)}):
        if files.get_file_from_path(uri_of(path)) is None and (ROOT / path).exists():
            files.append(File.generated(config, uri_of(path), content=shown(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """The page with links to pages of the site in place of those to files of the repository."""
    here = PurePosixPath(page.file.src_uri).parent

    def turned(link: re.Match[str]) -> str:
        return link[0] if link["fenced"] else relpath(uri_of(path_of(link[0], page.file)), here)

    return LINK.sub(turned, markdown)


def linked(file: File) -> set[str]:
    """The files of the repository that a page links to."""
    found = LINK.finditer(file.content_string)
    return {path_of(link[0], file) for link in found if not link["fenced"]}


def path_of(link: str, file: File) -> str:
    """The file of the repository that a link on a page leads to."""
    source = {uri: name for name, uri in ELSEWHERE.items()}.get(file.src_uri, f"docs/{file.src_uri}")
    return normpath(PurePosixPath(source).parent / link)


def uri_of(path: str) -> str:
    """The place on the site of a file of the repository."""
    if path.startswith("docs/") and not path.endswith(".py"):
        return path.removeprefix("docs/")
    return ELSEWHERE.get(path, f"source/{path}.md")


def shown(path: str) -> str:
    """A page that shows a file, or all files of a folder."""
    place = ROOT / path
    files = [place] if place.is_file() else sorted(file for file in place.iterdir() if file.is_file())
    title = f"# {path}\n\n"
    return title + "\n\n".join(listing(file, heading=file is not place) for file in files)


def listing(file: Path, *, heading: bool) -> str:
    """The text of a file, under its name where it is one of several."""
    language = "python" if file.suffix == ".py" else "text"
    text = f"```{language}\n{file.read_text(encoding='utf-8').rstrip()}\n```\n"
    return f"## {file.name}\n\n{text}" if heading else text
