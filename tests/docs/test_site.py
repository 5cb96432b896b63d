"""The pages as a site: built with warnings as errors, whole, and nothing in it is loaded from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.docs.pages import ROOT, anchors, read_pages

pytestmark = pytest.mark.slow

CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
# What a browser loads by itself; a link in the text is only followed by a person.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What an HTML page loads and links to, its ids, and its text outside blocks of code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.parts: set[str] = set()
        self.text = ""
        self._code = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {given["id"] or ""} if "id" in given else set()
        self.parts |= {given.get("data-md-component") or "", *(given.get("class") or "").split()}
        self.loaded += [given[LOADED[tag]] or ""] if LOADED.get(tag, "") in given else []
        self.links += [given["href"] or ""] if tag == "a" and "href" in given else []
        self._code += tag in ("pre", "code", "script")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("pre", "code", "script")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._code else data


def build(folder: Path, config: Path = CONFIG) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    return subprocess.run(
        [*command, "--site-dir", str(folder)],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    folder = tmp_path_factory.mktemp("site") / "site"
    built = build(folder)
    assert built.returncode == 0, built.stderr
    for style in folder.rglob("*.css"):
        text = style.read_text("utf-8")
        assert not re.search(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", text), style
    return {path.name: Page(path.read_text("utf-8")) for path in folder.glob("*.html")} | {
        path.relative_to(folder).as_posix(): Page("") for path in folder.rglob("*") if path.suffix != ".html"
    }


def html(site: dict[str, Page]) -> dict[str, Page]:
    return {name: page for name, page in site.items() if name.endswith(".html")}


def test_every_page_is_in_the_site_with_the_headings_that_github_shows(site: dict[str, Page]) -> None:
    names = {"README.md": "index", "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog"}
    for path, text in read_pages().items():
        page = site[f"{names.get(path, Path(path).stem)}.html"]
        assert anchors(text) <= page.ids, path


def test_nothing_is_loaded_from_other_hosts(site: dict[str, Page]) -> None:
    for name, page in html(site).items():
        assert page.loaded and [address for address in page.loaded if re.match(r"(?:\w+:)?//", address)] == [], name
        # What would make the theme's script ask other hosts: a repository's figures, and diagrams.
        assert not page.parts & {"source", "mermaid"}, name


def test_all_that_is_loaded_and_all_links_are_there(site: dict[str, Page]) -> None:
    for name, page in html(site).items():
        for address in [*page.loaded, *page.links]:
            file, _, anchor = address.partition("#")
            if re.match(r"\w+:", address) or name == "404.html":
                continue
            target = site.get(os.path.normpath(file) if file else name)
            assert target is not None, (name, address)
            assert not anchor or anchor in target.ids, (name, address)


def test_markdown_is_read_as_github_reads_it(site: dict[str, Page]) -> None:
    for name, page in html(site).items():
        assert re.findall(r"\n(?:[-*] |\d+\. |\||```|#+ ).*|\]\(.*|\*\*", page.text) == [], name


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "site").mkdir(parents=True)
    for path in CONFIG.parent.iterdir():
        if path.is_file():
            (docs / "site" / path.name).write_text(path.read_text("utf-8"), "utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml"):
        (tmp_path / name).write_text("# A\n\n## Read on\n\n| **Use** | |\n| [b](docs/b.md) | |\n", "utf-8")
    (docs / "b.md").write_text("# B\n\n[to A](../README.md#read-on)\n", "utf-8")
    assert build(tmp_path / "out", docs / "site" / "mkdocs.yml").returncode == 0
    (docs / "b.md").write_text("# B\n\n[to A](../README.md#read-off) [c](c.md)\n", "utf-8")
    built = build(tmp_path / "out", docs / "site" / "mkdocs.yml")
    assert built.returncode != 0 and "c.md" in built.stderr + built.stdout
    (docs / "b.md").write_text("# B\n\n[to A](../README.md#read-off)\n", "utf-8")
    built = build(tmp_path / "out", docs / "site" / "mkdocs.yml")
    assert built.returncode != 0 and "#read-off" in built.stderr + built.stdout
