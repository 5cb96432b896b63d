"""Where a network cannot be compiled it runs as it is; where its own work fails, that is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._inductor import config as inductor

from fairsynth.models.compiled import Compiled, blocks_of, cannot_compile
from fairsynth.models.stacked import shell
from tests.support.lots import tiny_unet


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


class Block(torch.nn.Module):
    """A block that a network repeats, with another one inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer, self.inner = torch.nn.Linear(width, width), torch.nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        return self.inner(torch.nn.functional.gelu(self.layer(x)))


class Repeating(torch.nn.Module):
    """A network of ten blocks of three widths, as a UNet has them."""

    _repeated_blocks = ("Block",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = torch.nn.ModuleList([Block(4 * (1 + i % 3)) for i in range(10)])
        self.blocks[0].inner = Block(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All blocks, each on its width."""
        return torch.cat([block(x[:, : block.layer.in_features]) for block in self.blocks], 1)


@pytest.mark.slow
def test_blocks_that_repeat_are_compiled_once_each_kind_and_give_the_same_bits() -> None:
    torch.compiler.reset()
    counter, network, x = CompileCounter(), Repeating(), torch.randn(2, 12)
    expected = network(x)
    assert len(blocks_of(network)) == 10, "the one inside another counts with it"
    compiled = Compiled(network, by_blocks=True, dynamic=False, backend=counter)
    assert torch.equal(compiled(x), expected) and torch.equal(compiled(x), expected)
    # Three widths, and the block with another one in it.
    assert counter.frame_count == 4 and not compiled.why
    network.blocks[1].layer.weight.data.mul_(2)
    assert not torch.equal(compiled(x), expected), "weights that change in place count"
    assert all(block._compiled_call_impl is None for block in blocks_of(shell(network)))
    torch.compiler.reset()


def test_blocks_run_as_they_are_where_they_cannot_be_compiled(caplog: pytest.LogCaptureFixture) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.")

    torch.compiler.reset()
    network, x = Repeating(), torch.randn(2, 12)
    expected = network(x)
    compiled = Compiled(network, by_blocks=True, backend=broken)
    assert torch.equal(compiled(x), expected) and compiled.why
    assert all(block._compiled_call_impl is None for block in blocks_of(network))
    torch.compiler.reset()


def test_a_unets_blocks_are_its_resnets_and_transformers_and_a_network_without_names_has_none() -> None:
    found = {type(block).__name__ for block in blocks_of(tiny_unet())}
    assert found == {"ResnetBlock2D", "BasicTransformerBlock"} and blocks_of(network()) == []
    # Such a network is compiled whole.
    assert Compiled(network(), by_blocks=True).blocks == []


def test_what_a_graph_gave_without_gradients_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, held = Compiled(network(), mode="reduce-overhead"), torch.ones(2)
    monkeypatch.setattr(compiled, "fast", lambda *args: (held,))
    with torch.no_grad():
        (found,) = compiled(held)
    assert torch.equal(found, held) and found.data_ptr() != held.data_ptr()
    assert compiled(held)[0] is held
