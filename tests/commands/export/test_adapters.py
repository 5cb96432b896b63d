"""Export of a run's adapters: every one under its name, the same image in diffusers, and nothing of others is lost."""

from __future__ import annotations

import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from fairsynth.commands.export.adapters import export_kohya
from fairsynth.config.load import load_config
from fairsynth.groups import Group
from fairsynth.models import adapters
from fairsynth.models.diffusion import load_pipeline
from fairsynth.stages.finetune.adapter_files import save_trained
from fairsynth.stages.finetune.lot_state import Progress, Trained
from tests.conftest import fairsynth
from tests.support.calling import export, refused
from tests.support.datasets import tree
from tests.support.lots import changed, denoiser_of, jobs, stack_of
from tests.support.models.plain_images import generate

DEMO, FORMAT = load_config(preset="demo"), ("--format", "kohya")
LOW, ODD = Group("low", "flower"), Group("low/../x", "a b")
# Of group, cluster: one has failed.
MADE, FAILED = [(LOW, 0), (LOW, 10), (ODD, 0)], (LOW, 1)
NAMES = {"low--flower--0.safetensors", "low--flower--10.safetensors", f"{ODD.slug}--0.safetensors"}
pipeline = cache(partial(load_pipeline, DEMO.models))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The output folder of a run, as far as export looks at it."""
    folder, unet = tmp_path / "runs" / "one", pipeline().unet
    stack = stack_of(unet, DEMO.finetune)
    for seed, (group, cluster) in enumerate([*MADE, FAILED]):
        job = changed(jobs([1])[0], group=group, cluster=cluster)
        row = torch.randn(stack.size, generator=torch.Generator().manual_seed(seed)) * 0.05
        state = None if (group, cluster) == FAILED else stack.state(row)
        trained, place = Trained(job, Progress(job.name, 1), state, "loss"), file(folder, group, cluster).parent
        place.mkdir(parents=True)
        save_trained(trained, DEMO.finetune, DEMO.models, denoiser_of(unet), place)
    (folder / "adapters" / "README.md").write_text("a card")
    return folder


def file(run: Path, group: Group, cluster: int) -> Path:
    return run / "adapters" / group.slug / str(cluster) / adapters.FILE_NAME


def image(path: Path | None = None) -> NDArray[Any]:
    """What diffusers makes of a file by itself, values in 0..255."""
    if path is not None:
        pipeline().load_lora_weights(path.parent, weight_name=path.name)
    pixels = generate(pipeline(), ["a photo of a low number"], [""], [7], 32, 4, 2.0).astype(int)
    pipeline().unload_lora_weights()
    return pixels


@pytest.mark.slow
def test_every_adapter_is_written_under_its_name_and_gives_the_same_image_in_diffusers(run: Path) -> None:
    result, target, plain = fairsynth("export", str(run), *FORMAT), run / "adapters-kohya", image()
    assert (result.returncode, result.stdout, result.stderr) == (0, f"3 adapters in {target}\n", "")
    assert set(os.listdir(target)) == NAMES and set(os.listdir(run)) == {"adapters", target.name}
    for group, cluster in MADE:
        original, exported = file(run, group, cluster), target / f"{group.slug}--{cluster}.safetensors"
        assert abs(image(exported) - image(original)).max() <= 1
        assert abs(image(original) - plain).max() > 10, "an adapter that changes nothing proves nothing"
        assert adapters.read_provenance(exported) == adapters.read_provenance(original)


def test_they_are_written_where_one_says(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link = tmp_path / "a" / "b", tmp_path / "link"
    link.symlink_to(real)
    for place, target in ((tmp_path, "a/b"), (tmp_path, "link"), (real, ".")):
        monkeypatch.chdir(place)
        assert export(run, *FORMAT, "--to", target) == (0, f"3 adapters in {target}\n", "")
        assert (set(os.listdir(real)), os.listdir(real.parent), os.listdir(run)) == (NAMES, ["b"], ["adapters"])
        for path in real.iterdir():
            path.unlink()
    assert link.is_symlink()


def test_an_export_replaces_the_one_before(run: Path) -> None:
    target = run / "adapters-kohya"
    assert export(run, *FORMAT)[0] == 0
    ten = (target / "low--flower--10.safetensors").read_bytes()
    file(run, ODD, 0).unlink()
    file(run, LOW, 0).write_bytes(file(run, LOW, 10).read_bytes())
    assert export(run, *FORMAT) == (0, f"2 adapters in {target}\n", "")
    found = {path.name: path.read_bytes() for path in target.iterdir()}
    assert found == {"low--flower--0.safetensors": ten, "low--flower--10.safetensors": ten}


def test_an_export_that_fails_half_way_leaves_the_old_one(run: Path) -> None:
    export_kohya(run, run / "adapters-kohya")
    before = tree(run / "adapters-kohya")
    # The last in order.
    file(run, ODD, 0).write_bytes(file(run, LOW, 0).read_bytes()[:1000])
    code, out, complaint = export(run, *FORMAT)
    assert (code, out) == (3, "") and f"{file(run, ODD, 0)} is damaged" in complaint
    assert tree(run / "adapters-kohya") == before and set(os.listdir(run)) == {"adapters", "adapters-kohya"}


def test_a_folder_with_files_of_others_stays_as_it_is(run: Path, tmp_path: Path) -> None:
    others = {"a.txt": b"mine", "a--0.safetensors": b"half", adapters.FILE_NAME: file(run, LOW, 0).read_bytes()}
    others["my--style.safetensors"] = save({"x": torch.ones(1)}, {"ss_network_dim": "4"})
    for name, content in others.items():
        target = tmp_path / f"with {name}"
        export_kohya(run, target)
        (target / name).write_bytes(content)
        before = tree(target)
        assert "holds other files; give a new folder" in refused(export(run, *FORMAT, "--to", target))
        assert tree(target) == before
    assert len(os.listdir(tmp_path)) == 1 + len(others), "something else was left"


def test_what_cannot_be_exported_is_said_in_one_line(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "file"
    other.write_text("mine")
    before = tree(tmp_path)
    assert f"{tmp_path} has no adapters to export" in refused(export(tmp_path, *FORMAT))
    for missing in (tmp_path / "nowhere", other):
        assert f"{missing} is no folder" in refused(export(missing, *FORMAT))
    assert "kohya" in refused(export(run, "--format", "koyha"))
    assert "--format" in refused(export(run))
    assert "holds other files" in refused(export(run, *FORMAT, "--to", other))
    assert "cannot write to" in refused(export(run, *FORMAT, "--to", other / "below"))
    assert tree(tmp_path) == before


def test_the_adapter_that_all_groups_share_is_exported_too(run: Path, tmp_path: Path) -> None:
    shared = run / "adapters" / "shared" / adapters.FILE_NAME
    shared.parent.mkdir()
    shared.write_bytes(file(run, LOW, 10).read_bytes())
    assert export_kohya(run, tmp_path / "out") == (len(NAMES) + 1, {})
    assert {path.name for path in (tmp_path / "out").iterdir()} == NAMES | {"shared--0.safetensors"}
    twins = [(tmp_path / "out" / f"{name}.safetensors").read_bytes() for name in ("shared--0", "low--flower--10")]
    assert twins[0] == twins[1]
    # And again, over what is known to be an earlier export.
    assert export_kohya(run, tmp_path / "out") == (len(NAMES) + 1, {})


def put_shared(run: Path, targets: tuple[str, ...]) -> Path:
    """Give the run a shared adapter of these layers; returns its file."""
    stack = stack_of(pipeline().unet, DEMO.finetune.model_copy(update={"target_modules": targets}))
    row, folder = (
        torch.randn(stack.size, generator=torch.Generator().manual_seed(9)) * 0.05,
        run / "adapters" / "shared",
    )
    folder.mkdir()
    adapters.save_adapter(stack.state(row), folder, DEMO.finetune.rank, DEMO.finetune.alpha, targets, {"cluster": 0})
    return folder / adapters.FILE_NAME


def test_layers_that_kohyas_scripts_pass_over_are_written_and_named(run: Path) -> None:
    """sd-scripts looks into attentions, resnets and samplers alone; the shared adapter of the demo has more."""
    target = run / "adapters-kohya"
    shared = put_shared(run, (*DEMO.shared.target_modules, "linear_1", "linear_2"))
    code, out, complaints = export(run, *FORMAT)
    (count, warned) = out.splitlines()
    assert (code, count, complaints) == (0, f"4 adapters in {target}", "")
    layers = "conv_in, conv_out, time_embedding.linear_1, time_embedding.linear_2"
    assert warned.startswith(f"warning: kohya's own scripts pass over {layers} of 1 adapters (shared--0), ")
    assert "shared.target_modules" in warned
    written = load_file(target / "shared--0.safetensors")
    assert {f"lora_unet_{layer.replace('.', '_')}.lora_up.weight" for layer in layers.split(", ")} <= written.keys()
    assert len(written) == len(load_file(shared)) * 3 / 2


@pytest.mark.slow
def test_those_layers_count_in_diffusers(run: Path) -> None:
    original = put_shared(run, ("conv_in", "conv_out", "linear_1", "linear_2"))
    export_kohya(run, run / "adapters-kohya")
    exported, plain = run / "adapters-kohya" / "shared--0.safetensors", image()
    assert abs(image(exported) - image(original)).max() <= 1 and abs(image(original) - plain).max() > 10


def test_of_many_adapters_the_first_are_named(run: Path, tmp_path: Path) -> None:
    source = put_shared(run, ("conv_in",))
    for group, cluster in MADE:
        file(run, group, cluster).write_bytes(source.read_bytes())
    assert "pass over conv_in of 4 adapters (low--flower--0, low--flower--10, " in export(run, *FORMAT)[1]
    assert " and 1 more), so" in export(run, *FORMAT)[1]
