"""Hooks of mkdocs.yml: the pages at the root of the checkout, and one API page for each subpackage.

README.md becomes the first page; CONTRIBUTING.md, SECURITY.md and CHANGELOG.md become pages of the site. Links between
them and docs/ are rewritten; a link to a file that is not part of the site becomes its path.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

__all__ = ["api_pages", "on_config", "on_files", "on_page_markdown", "rewrite_links"]

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_MODULES = "api/modules.md"


def rewrite_links(text: str, folder: str) -> str:
    """Return Markdown of the checkout with links as the site has them.

    Args:
        text: Markdown.
        folder: folder of the page in the checkout, relative to its root: `docs`, or empty for the root.
    """

    def place(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if "://" in target or target.startswith(("#", "mailto:")):
            return found[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if path in ROOT_PAGES:
            site = ROOT_PAGES[path]
        elif path.startswith("docs/"):
            site = path.removeprefix("docs/")
        else:
            return f"`{path}`" if words.strip("`") == path else f"{words} (`{path}`)"
        return f"{mark}[{words}]({site}{'#' + anchor if anchor else ''})"

    return _LINK.sub(place, text)


def api_pages(package: Path) -> dict[str, str]:
    """Return the API pages by address: one for the modules at the top, one for each subpackage with its subpackages.

    Args:
        package: folder of the package.
    """
    name = package.name
    pages = {_MODULES: _directives([f"{name}.{file.stem}" for file in sorted(package.glob("[a-z]*.py"))])}
    for folder in sorted(path.parent for path in package.rglob("*/__init__.py")):
        module = ".".join((name, *folder.relative_to(package).parts))
        modules = [f"{module}.{file.stem}" for file in sorted(folder.glob("[a-z]*.py"))]
        title = f"# {module}\n\n"
        pages[f"api/{module.removeprefix(name + '.')}.md"] = title + _directives([module, *modules])
    pages[_MODULES] = f"# {name}\n\n" + pages[_MODULES]
    return pages


def _directives(modules: list[str]) -> str:
    return "".join(f"::: {module}\n\n" for module in modules)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the API pages to the navigation."""
    assert config.nav is not None
    config.nav.append({"API": list(api_pages(ROOT / "medidistill"))})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages at the root of the checkout and the API pages."""
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for page, text in api_pages(ROOT / "medidistill").items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Rewrite the links of a page."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    return rewrite_links(markdown, "" if page.file.src_uri in ROOT_PAGES.values() else "docs")
