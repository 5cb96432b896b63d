"""What stands round a command: modules in its folder, variables, a home that is none."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.cases import CANARY, INGEST, INSPECT, Case, Place, good
from tests.support.data.dataset_files import put

_CODE = "import os, pathlib\npathlib.Path(os.environ['RAN'], '{name}').touch()\n"
_MODULES = ("pandas", "pyarrow", "PIL", "numpy", "yaml", "torch", "fairsynth", "sitecustomize", "json", "random", "ray")


def _modules(place: Place) -> None:
    good(place)
    for name in _MODULES:
        put(place.data / f"{name}.py", _CODE.replace("{name}", name))
    put(place.data / "conftest.py", _CODE.replace("{name}", "conftest"))
    put(place.data / "pyproject.toml", "[tool.fairsynth]\nseed = 'x'\n")
    put(place.data / ".env", f"AWS_SECRET_ACCESS_KEY={CANARY}\n")


def _good(place: Place) -> None:
    good(place)


def cases() -> Iterator[Case]:
    """All of this kind."""
    for words in (INSPECT, INGEST):
        here = ["." if word == "{data}" else word for word in words]
        yield Case("environment", f"modules where one stands, {words[0]}", _modules, here, inside=True)
    variables = {
        "secrets": {"AWS_SECRET_ACCESS_KEY": CANARY, "HF_TOKEN": CANARY, "WANDB_API_KEY": CANARY},
        "a home that is missing": {"HOME": "/nonexistent/x"},
        "a home that is a device": {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"},
        "no folder for temporary files": {"TMPDIR": "/nonexistent"},
        "a locale that there is not": {"LC_ALL": "xx_XX.UTF-99", "LANG": "\x1b[2J"},
        "columns": {"COLUMNS": "-5", "LINES": "99999999999", "TERM": "\x1b[2J"},
        "Python's start": {"PYTHONSTARTUP": "{data}/pandas.py", "PYTHONBREAKPOINT": "os.system", "PYTHONINSPECT": "1"},
        "Ray": {"RAY_ADDRESS": "ray://\x1b[2J", "RAY_TMPDIR": "/nonexistent"},
        "proxies": {"HTTPS_PROXY": f"http://u:{CANARY}@127.0.0.1:9", "http_proxy": f"http://u:{CANARY}@127.0.0.1:9"},
        "hub": {"HF_ENDPOINT": f"http://u:{CANARY}@127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": "/nonexistent"},
        "a long one": {"COLUMNS": "9" * 100_000},
    }
    for name, env in variables.items():
        yield Case("environment", name, _modules, INSPECT, env=env)
    yield Case("environment", "a secret as a column", _good, (*INSPECT, "--data.label_column", CANARY), env={"AWS_SECRET_ACCESS_KEY": CANARY})  # fmt: skip
    yield Case(
        "environment",
        "a secret as a format",
        _good,
        ("inspect", "{data}", "--format", CANARY),
        env={"HF_TOKEN": CANARY},
    )
    yield Case(
        "environment",
        "a secret as a word",
        _good,
        ("inspect", "{data}", "--data.max_bad_fraction", CANARY),
        env={"HF_TOKEN": CANARY},
    )
    yield Case("environment", "a secret as a command", _good, (CANARY,), env={"HF_TOKEN": CANARY})
