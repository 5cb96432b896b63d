"""What lies in a file's place where the file itself was not fetched: pointers of Git LFS and git-annex, web pages.

Sources: the Git LFS specification (pointers: text of less than 1024 bytes, version first); git-annex, pointer file.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePath

LONGEST_POINTER = 1024
_LFS = re.compile(rb"version https?://\S+\n(.+\n)*oid sha256:[0-9a-f]{64}\nsize \d+\n?")
_ANNEX = re.compile(rb"(\.\./)*(\.git)?/annex/objects/\S+\s*")
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
_ANNEX_HINT = "a git-annex pointer: run git annex get"


def pointer_hint(content: bytes) -> str:
    """What the content points to and how to get that; empty if it is no pointer. The first 1024 bytes suffice."""
    if len(content) > LONGEST_POINTER:
        return ""
    if _LFS.fullmatch(content):
        return "a Git LFS pointer: run git lfs pull"
    return _ANNEX_HINT if _ANNEX.fullmatch(content) else ""


def is_html(content: bytes) -> bool:
    """True for a web page, such as a server sends in place of a file."""
    start = content[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(_HTML) or (start.startswith((b"<?xml", b"<!--")) and b"<html" in start)


def absence_hint(full: str, root: str) -> str:
    """Why a file on a disk is not there, if git-annex or DVC has it elsewhere; empty if neither has.

    ``full``: its path; ``root``: the dataset's folder, above which DVC's files are not looked for.
    """
    if os.path.islink(full) and "/annex/objects/" in os.readlink(full):
        return _ANNEX_HINT
    for path in (PurePath(full), *PurePath(full).parents):
        if path == PurePath(root):
            break
        if os.path.isfile(f"{path}.dvc"):
            return f"DVC has it ({path.name}.dvc): run dvc pull"
    return ""
