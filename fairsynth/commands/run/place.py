"""Output folders that do not stay."""

from __future__ import annotations

from pathlib import Path

# Where Ray unpacks the code of a job, inside its session's temporary folder.
_OF_A_JOB = "working_dir_files"
_PACKAGE = "_ray_pkg_"


def remark(root: Path) -> str:
    """What to say of an output folder before work begins in it; empty: nothing."""
    if not any(part == _OF_A_JOB or part.startswith(_PACKAGE) for part in root.parts):
        return ""
    return (
        f"note: the output folder {root} lies in the temporary folder of Ray's job: results there end with Ray's session; "
        "give --out the absolute path of a folder on a disk that all nodes share"
    )
