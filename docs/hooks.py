"""Hooks of mkdocs: the site includes pages from the root of the repository, with their links changed to match."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "ARCHITECTURE.md": "architecture.md"}
_LINK = re.compile(r"\[([^\]\n]+)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from the root of the repository."""
    for source, target in PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links to where the files are on the site; a link to a file that is not on the site becomes its text."""
    moved = {target: source for source, target in PAGES.items()}
    here = moved.get(page.file.src_uri) or f"docs/{page.file.src_uri}"

    def changed(link: re.Match[str]) -> str:
        text, address, anchor = link[1], link[2], link[3] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), address))
        on_site = PAGES.get(target) or target.removeprefix("docs/")
        if target not in PAGES and not target.startswith("docs/"):
            if not (ROOT / target).exists():
                raise FileNotFoundError(f"{here}: the link to {address} names no file")
            return text
        start = posixpath.dirname(page.file.src_uri) or "."
        return f"[{text}]({posixpath.relpath(on_site, start)}{anchor})"

    return _LINK.sub(changed, markdown)
