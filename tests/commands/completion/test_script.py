"""completion: what bash offers at a tab, with the script sourced and no Python started."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fairsynth.cli import STAGES
from tests.support.calling import call, refused

# What bash does at a tab; the names of files are bash's own (compgen).
_AT_A_TAB = (
    """source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fairsynth; printf '%s\\n' "${COMPREPLY[@]}\""""
)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    code, out, err = call("completion", "bash")
    assert (code, err) == (0, "")
    path = tmp_path_factory.mktemp("completion") / "fairsynth.bash"
    path.write_text(out, encoding="utf-8")
    return path


def offered(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word; without a PATH, so that nothing can be started."""
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "--norc", "-c", _AT_A_TAB, "bash", str(script), "fairsynth", *words],
        capture_output=True, text=True, timeout=60, check=False, env={"PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ins"], {"inspect"}),
        (["in"], {"init", "inspect", "ingest"}),
        (["run", "--prese"], {"--preset"}),
        (["run", "--preset", ""], {"demo", "demo-flow", "waterbirds", "celeba", "utkface"}),
        (["finetune", "--preset", "d"], {"demo", "demo-flow"}),
        (["run", "--cluster.max"], {"--cluster.max_k"}),
        (["bench", "--preset", "demo", "--synthesize.routi"], {"--synthesize.routing"}),
        (["run", "--models.dtype", "b"], {"bfloat16"}),
        (["run", "--data.images.fr"], {"--data.images.frames"}),
        (["run", "--classify.flip", ""], {"true", "false"}),
        (["inspect", "--format", "par"], {"parquet"}),
        (["export", "--format", "k"], {"kohya"}),
        (["doctor", "--no-"], {"--no-cluster"}),
        (["completion", "z"], {"zsh"}),
        (["inspect", "--js"], {"--json"}),
        (["predict", "--cluster.k"], set()),
    ],
)
def test_bash_completes(script: Path, words: list[str], expected: set[str]) -> None:
    assert set(offered(script, *words)) == expected


def test_every_command_is_offered(script: Path) -> None:
    assert {"run", "init", "doctor", "inspect", *STAGES} <= set(offered(script, ""))


@pytest.mark.parametrize(("shell", "beginning"), [("zsh", "#compdef fairsynth"), ("fish", "")])
def test_the_other_shells_scripts_have_commands_settings_and_presets(shell: str, beginning: str) -> None:
    code, out, _ = call("completion", shell)
    assert (
        code == 0 and out.startswith(beginning) and all(word in out for word in ("inspect", "cluster.k", "waterbirds"))
    )
    if program := shutil.which(shell):
        done = subprocess.run([program, "-n"], input=out, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_another_shell_is_refused() -> None:
    assert 'Choose from: "bash", "zsh", "fish"' in refused(call("completion", "bsh"))
