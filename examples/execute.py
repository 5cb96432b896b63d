"""Executes the notebooks beside this file, and keeps what their cells put out.

``python examples/execute.py`` executes all of them in place; ``--to FOLDER`` leaves them as they are and executes copies
there. Outputs stay as cells put them out, but for three things: paths begin at the notebook's folder, so that they name
neither this machine nor its user; the pieces of one stream are joined; and what Ray logs for itself is left out. Exits
with 1 if a cell fails.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
TIMEOUT = 3600  # seconds that one cell may take
# Such as that a widget's package is missing: remarks for developers, with the hour at which they were made.
RAY_LOG = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+\tINFO .*\n?", re.MULTILINE)


def main() -> int:
    """Execute the notebooks that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in this folder")
    parser.add_argument("--to", type=Path, help="folder for executed copies")
    given = parser.parse_args()
    # Cells call the command, too; what libraries remark is not for readers.
    quiet = {"PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
    os.environ.update(quiet | {"HF_HUB_OFFLINE": "1"})
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for path in given.notebooks or sorted(HERE.glob("*.ipynb")):
        folder = (given.to or path.parent).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        notebook = nbformat.read(path, as_version=4)
        try:
            execute(notebook, folder)
        except CellExecutionError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
        nbformat.write(notebook, folder / path.name)
        print(f"{path.name}: {time.monotonic() - began:.0f} s")
    return 0


def execute(notebook: Any, folder: Path) -> None:
    """Execute a notebook as if it lay in ``folder``. Raises CellExecutionError where a cell fails."""
    for cell in notebook.cells:
        cell.metadata = {}
    with tempfile.TemporaryDirectory() as sockets:
        # Files as sockets: nobody else on the machine can listen.
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        client = NotebookClient(
            notebook, timeout=TIMEOUT, startup_timeout=TIMEOUT, kernel_name="python3", config=config
        )
        client.resources = {"metadata": {"path": str(folder)}}
        client.execute()
    for cell in notebook.cells:
        cell.metadata = {}  # when it was executed
        if "outputs" in cell:
            cell.outputs = [_without_places(output, folder) for output in _shown(cell.outputs)]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def _shown(outputs: list[Any]) -> list[Any]:
    """Outputs with the pieces of a stream in one, each picture once, and without what Ray logs for itself."""
    whole = _joined(outputs)
    for output in whole:
        if output.output_type == "stream":
            output.text = RAY_LOG.sub("", output.text)
        if "image/png" in output.get("data", {}):
            output.data.pop("image/jpeg", None)
    return _joined([output for output in whole if output.get("text") != ""])


def _joined(outputs: list[Any]) -> list[Any]:
    """Outputs with neighbouring pieces of a stream in one."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def _without_places(value: Any, folder: Path) -> Any:
    """Text of outputs, with paths as they are from the notebook's folder."""
    if isinstance(value, str):
        for place, shown in ((folder, ""), (folder.parent, "../"), (HERE.parent, "../"), (Path.home(), "~/")):
            value = value.replace(f"{place}/", shown)
        return value
    if isinstance(value, list):
        return [_without_places(one, folder) for one in value]
    if isinstance(value, dict):
        return type(value)({key: _without_places(one, folder) for key, one in value.items()})
    return value


if __name__ == "__main__":
    sys.exit(main())
