"""What the site needs beside docs/: the pages and pictures that lie outside, links to them, and the order of the pages.

The front page is README.md, and its table of pages is the site's navigation. Links to other files of the repository lead
to its address.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_ROW = re.compile(r"^\| (?:\*\*(?P<group>.+?)\*\*|\[(?P<title>.+?)\]\(docs/(?P<page>.+?)\)) \|", re.MULTILINE)


def on_config(config: Any) -> Any:
    """The navigation: README's table of pages, group by group, then what is beside them; and GitHub's anchors."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    nav: list[dict[str, Any]] = [{"front page": "index.md"}]
    table = (ROOT / "README.md").read_text("utf-8").partition("## Read on")[2]
    for row in _ROW.finditer(table):
        if row["group"]:
            nav.append({row["group"]: []})
        else:
            (pages,) = nav[-1].values()
            pages.append({row["title"]: row["page"]})
    config.nav = [*nav, {"The project": [{"contributing": "contributing.md"}, {"changes": "changelog.md"}]}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Pages and pictures from outside docs/ become files of the site."""
    pictures = {f"benchmarks/{path.name}": f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.png")}
    for source, name in {**OUTSIDE, **pictures, "docs/site/site.css": "site.css"}.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as the site needs them; the pages have those that GitHub needs."""
    outside = {name: source for source, name in OUTSIDE.items()}
    folder = (ROOT / outside.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent

    def moved(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if not target.exists() or not target.is_relative_to(ROOT):
            return link[0]
        return link[1] + _place(target.relative_to(ROOT).as_posix(), files) + (link[3] or "") + link[4]

    return _LINK.sub(moved, markdown)


def _place(path: str, files: Files) -> str:
    """Where the site has a file of the repository: all its pages lie at its top."""
    name = OUTSIDE.get(path, path.removeprefix("docs/"))
    if files.get_file_from_path(name):
        return name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return f"{project['urls']['Repository']}/blob/main/{path}"
