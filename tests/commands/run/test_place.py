"""A run says at once where its results would not stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.commands.run.running import carry_out, checked
from fairsynth.config.load import load_config
from fairsynth.errors import OutputLockedError
from fairsynth.lock import locked

JOB = "ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0123456789abcdef"


@pytest.mark.parametrize(("folder", "told"), [(f"{JOB}/runs/x", True), ("my_ray_pkg_s/x", False)])
def test_a_folder_that_ends_with_rays_session_is_told_before_the_work(folder: str, told: bool, tmp_path: Path) -> None:
    said: list[str] = []
    root = tmp_path / folder
    with locked(root), pytest.raises(OutputLockedError):  # which ends the run
        carry_out(checked(load_config(None, "demo", {"out": str(root)})), None, said.append)
    assert [str(root) in line and "results there end with Ray's session" in line for line in said] == [True] * told
