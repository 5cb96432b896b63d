"""The whole pipeline on the demo's flow transformer: what it leaves is for the model's own pipeline in plain diffusers."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from PIL import Image

from fairsynth.models.adapters import FILE_NAME
from tests.conftest import SMALL
from tests.support.calling import called
from tests.support.comparing import stage_folder

# Adapters of six steps draw what they draw; with Euler's steps diffusers' own call makes the same images.
SETTINGS = SMALL | {"synthesize.scheduler": "euler", "filter.min_probability": 0, "finetune.prior": "images"}
# Classifiers are those of every run.
SETTINGS |= {"tune.methods": "[erm, fairsynth]", "evaluate.seeds": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a small run."""
    out = tmp_path_factory.mktemp("flow") / "out"
    words = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]
    result = called("run", "--preset", "demo-flow", "--out", str(out), *words)
    assert result.returncode == 0, result.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def names(run: Path) -> dict[str, Any]:
    """What the code of the adapters' card leaves, run as it stands on the first cluster's adapter."""
    (code,) = re.findall(r"```python\n(.*?)```", (run / "adapters" / "README.md").read_text("utf-8"), re.DOTALL)
    (folder, *_) = sorted(file.parent for file in (run / "adapters").glob(f"*/*/{FILE_NAME}"))
    found: dict[str, Any] = {}
    exec(code.replace("<group>/<cluster>", str(folder)), found)
    return found


def test_every_group_is_made_and_every_image_is_counted(run: Path) -> None:
    report = json.loads((run / "report.json").read_text("utf-8"))
    assert [group["accepted"] for group in report["groups"]] == [SETTINGS["synthesize.per_group"]] * 4
    for stage in report["stages"]:
        assert stage["input"] == stage["used"] + stage["quarantined"] + stage["excluded"]
    assert {method["name"] for method in report["methods"]} >= {"erm", "fairsynth"}


def test_the_cards_code_loads_the_adapters_into_the_models_own_pipeline(names: dict[str, Any]) -> None:
    pipeline = names["pipeline"]
    assert isinstance(pipeline, StableDiffusion3Pipeline)
    adapted = [name for name, _ in pipeline.transformer.named_modules() if name.endswith("lora_A.default_0")]
    assert len(adapted) > 10 and any("add_k_proj" in name for name in adapted)


def test_plain_diffusers_makes_the_sets_images_again(run: Path, names: dict[str, Any]) -> None:
    folder, pipeline = stage_folder(run, "synthesize"), names["pipeline"]
    rows = pq.read_table(folder / "synthetic.parquet").to_pylist()
    own = [row for row in rows if row["adapter"] and not row["second_adapter"] and row["adapter_scale"] == 1][:2]
    assert own
    pipeline.unload_lora_weights()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    limit = pipeline.tokenizer_max_length
    for row in own:
        adapter = stage_folder(run, "finetune") / "units" / row["adapter"]
        pipeline.load_lora_weights(adapter, weight_name=FILE_NAME, adapter_name="again")
        made = pipeline(
            row["prompt"],
            negative_prompt=row["negative_prompt"],
            num_inference_steps=SETTINGS["synthesize.steps"],
            guidance_scale=row["guidance"],
            height=32,
            width=32,
            generator=torch.Generator("cpu").manual_seed(row["seed"]),
            max_sequence_length=limit,
            output_type="np",
        ).images[0]
        pipeline.unload_lora_weights()
        table = pq.read_table(folder / "units" / row["unit"] / "images.parquet").to_pylist()
        kept = next(r["file"] for r in table if r["image_id"] == row["image_id"])
        assert np.abs(np.asarray(Image.open(io.BytesIO(kept)), float) - made * 255).max() <= 1.5
        assert made.std() > 0.01


def test_class_images_are_the_models_own(run: Path) -> None:
    units = stage_folder(run, "finetune") / "units"
    tables = [pq.read_table(file) for file in units.glob("class=*/latents.parquet")]
    assert tables and all(len(table) == SETTINGS["finetune.class_images"] for table in tables)


def test_kohyas_names_are_refused_for_it(run: Path, tmp_path: Path) -> None:
    result = called("export", str(run), "--format", "kohya", "--to", str(tmp_path / "kohya"))
    assert result.returncode == 2 and not (tmp_path / "kohya").exists()
    assert "kohya's format has no names for adapters of Stable Diffusion 3" in result.stderr
