"""What mkdocs needs beyond the pages: CHANGELOG.md and other files of the checkout, which pages link to."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the list of changes as a page."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changes.md", content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at CHANGELOG.md to its page; links out of docs/ become their words."""
    del page, config, files
    markdown = markdown.replace("](../CHANGELOG.md)", "](changes.md)")
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?!how-to|[\w-]+\.md)[^)]*\)", r"\1", markdown)
