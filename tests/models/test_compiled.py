"""Where a network cannot be compiled it runs as it is; where its own work fails, that is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor import config as inductor

from fairsynth.models.compiled import Compiled, cannot_compile


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU())


@pytest.mark.slow
def test_without_a_compiler_the_network_runs_as_it_is_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    plain, images = network(), torch.ones(2, 4)
    compiled = Compiled(plain)
    with inductor.patch({"cpp.cxx": (None, str(tmp_path / "no-compiler"))}), caplog.at_level(logging.WARNING):
        found = [compiled(images), compiled(images)]
    assert all(torch.equal(one, plain(images)) for one in found)
    assert "No working C++ compiler" in compiled.why and "\n" not in compiled.why
    assert [record.getMessage() for record in caplog.records if record.name == "fairsynth.models.compiled"] == [
        f"the network runs uncompiled, and slower: {compiled.why}; install a C compiler (gcc)"
    ]
    torch.compiler.reset()


def test_errors_of_the_work_itself_are_not_taken_for_the_compilers() -> None:
    others = (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("mat1 and mat2 shapes"), ValueError("gcc"))
    assert not any(map(cannot_compile, others))
    # As Triton says it, which runs on GPUs alone.
    assert cannot_compile(RuntimeError("Failed to find C compiler. Please specify via CC environment variable."))


def test_an_error_of_the_work_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any) -> None:
        raise torch.OutOfMemoryError("pretended")

    compiled = Compiled(network())
    monkeypatch.setattr(compiled, "fast", failing)
    with pytest.raises(torch.OutOfMemoryError):
        compiled(torch.ones(2, 4))
    assert not compiled.why
