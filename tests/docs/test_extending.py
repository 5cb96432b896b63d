"""What the page on extending says works: its patches and its reader, in a copy of the package, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.datasets import picture
from tests.support.docs.pages import ROOT, Block, blocks, read_pages

pytestmark = pytest.mark.slow

PAGE = read_pages()["docs/extending.md"]
TRIED = """
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForImageClassification, ConvNextConfig, ConvNextModel

import fairsynth
from fairsynth.classify.images import normalised, to_tensor
from fairsynth.classify.training import Training
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.exports.classifier import write_classifier
from fairsynth.models.classifier import save_classifier
from fairsynth.models.device import pick_device
from fairsynth.stages.tune.search_space import setting
from tests.support.training import CONFIG, SETTING, images
from fairsynth.classify.images import Data

assert Path(fairsynth.__file__).is_relative_to(Path.cwd()), fairsynth.__file__
data = Data(images((24, 4, 8, 24), 0), images((8,) * 4, 1), images((12,) * 4, 2), 2, 4)


def trained(method, config=CONFIG, **changed):
    run = Training(method, SETTING | {"epochs": 1} | changed, data, config, 0)
    assert len(list(run.epochs())) == 1
    return run


# The rival: named, searched, trained, and without gamma the same as ERM.
config = load_config(None, "demo", {"tune.methods": ["erm", "focal", "fairsynth"]})
assert "focal" in RunConfig().bench.methods
assert setting("focal", 0, config.classify, 0)["gamma"] == 2 and 0.5 <= setting("focal", 3, config.classify, 0)["gamma"] <= 5
erm, same, focal = trained("erm"), trained("focal", gamma=0.0), trained("focal", gamma=2.0)
for one, two in zip(erm.model.parameters(), same.model.parameters(), strict=True):
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
assert same.history[0].loss > focal.history[0].loss

# The backbones: one of another architecture, the page's own and the built-in ones are trained and come out for transformers.
ConvNextModel(ConvNextConfig(depths=[1, 1], hidden_sizes=[8, 16], num_stages=2)).save_pretrained("convnext")
sys.path.insert(0, ".")
import page_backbone  # noqa: E402, F401
for backbone in ("./convnext", "./my-resnet", "small"):
    run = trained("erm", CONFIG.model_copy(update={"backbone": backbone}))
    save_classifier(run.model, Path("saved"))
    write_classifier(Path("saved"), Path("published"), ["low", "high"], 32)
    model = AutoModelForImageClassification.from_pretrained("published").eval().to(pick_device())
    with torch.no_grad():
        pixels = normalised(to_tensor(data.validation.pixels, pick_device()))
        found = model(pixel_values=pixels).logits.softmax(1).cpu().numpy()
    np.testing.assert_allclose(found, run.probabilities(data.validation), atol=1e-4)
print("tried")
"""

# A base model of another family, as a reader would try it: a tiny pipeline of the real classes with random weights.
AURA = """
from pathlib import Path

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, AutoencoderKL, FlowMatchEulerDiscreteScheduler
from transformers import UMT5Config, UMT5EncoderModel

import fairsynth
from fairsynth.commands.settled import settled
from fairsynth.config import ModelsConfig
from fairsynth.config.load import load_config
from fairsynth.exports.base_facts import base_facts
from fairsynth.models.diffusion import load_denoiser, load_pipeline
from fairsynth.models.families.table import family_named
from tests.support.models.family_checks import AGAINST, PROMPTS, SIDE, from_peft, furthest, ours, theirs, with_adapters
from tests.support.models.tiny_sd3 import livelier, t5_tokenizer

assert Path(fairsynth.__file__).is_relative_to(Path.cwd()), fairsynth.__file__
torch.manual_seed(0)
pipeline = AuraFlowPipeline(
    tokenizer=t5_tokenizer(),
    text_encoder=UMT5EncoderModel(
        UMT5Config(vocab_size=32, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2, is_encoder_decoder=False)
    ),
    vae=AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        scaling_factor=0.13025,
    ),
    transformer=AuraFlowTransformer2DModel(
        sample_size=16,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        caption_projection_dim=16,
        pos_embed_max_size=256,
    ),
    scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
)
for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
    part.eval().requires_grad_(False)
livelier(pipeline.transformer)
pipeline.set_progress_bar_config(disable=True)
pipeline.save_pretrained("aura")

# It is known by its folder, and brings its own values.
config = settled(load_config(None, None, {"models.diffusion": "aura"}))
assert (config.models.image_size, config.synthesize.scheduler) == (1024, "euler")
assert base_facts(config).pipeline == "AuraFlowPipeline"

# Images are those of its own pipeline, with adapters and without, and diffusers reads the adapters.
models, family = ModelsConfig(diffusion="aura", clip="demo", image_size=SIDE), family_named("auraflow")
loaded = load_pipeline(models)
for guidance in (1.0, 3.5):
    assert furthest(ours(loaded, guidance), theirs(pipeline, guidance, negative_prompt=list(AGAINST))) <= 1
adapted = with_adapters(loaded, family.targets, Path("adapters"), 3.5)
for n in range(3):
    pipeline.load_lora_weights(f"adapters/{n}")
    found = theirs(pipeline, 3.5, slice(n, n + 1), negative_prompt=[AGAINST[n]])
    assert furthest(adapted[n : n + 1], found) <= 1
    pipeline.unload_lora_weights()
assert furthest(adapted, ours(loaded, 3.5)) > 3


# Training is that of peft alone, by the loss of a flow.
def by_hand(network, draw, told):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.73)
    sigmas = scheduler.sigmas[draw.levels].to(torch.float64)[:, None, None, None]
    noisy = (1 - sigmas) * draw.clean + sigmas * draw.noise
    times = scheduler.timesteps[draw.levels].to(torch.float64) / 1000
    predicted = network(noisy, told["text"], times, return_dict=False)[0]
    return (predicted - (draw.noise - draw.clean)).square().mean()


for targets in (family.targets, family.shared_targets):
    apart = from_peft(family, load_pipeline(models), load_denoiser(models).noise, targets, (4, 16, 16), by_hand)
    assert max(apart) < 1e-8, apart
print("tried")
"""


def block(start: str) -> Block:
    """The one block of code that begins so."""
    (found,) = [one for one in blocks(PAGE) if one.code.startswith(start)]
    return found


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with all that the page adds."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "fairsynth", folder / "fairsynth", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copytree(ROOT / "tests" / "support", folder / "tests" / "support")
    (folder / "tests" / "__init__.py").touch()
    for patch in (one.code for one in blocks(PAGE) if one.language == "diff"):
        subprocess.run(["git", "apply", "-"], cwd=folder, input=patch, text=True, check=True)
    reader = folder / "fairsynth" / "data" / "readers" / "imagelist.py"
    reader.write_text(block('"""The layout of one project').code, "utf-8")
    family = folder / "fairsynth" / "models" / "families" / "auraflow.py"
    family.write_text(block('"""AuraFlow').code, "utf-8")
    (folder / "page_backbone.py").write_text(block("from transformers import ResNetConfig").code, "utf-8")
    return folder


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_the_rival_and_the_backbones_of_the_page_work(extended: Path) -> None:
    done = python(extended, "-c", TRIED)
    assert (done.returncode, done.stdout) == (0, "tried\n"), done.stderr


def test_the_base_model_of_the_page_works(extended: Path) -> None:
    done = python(extended, "-c", AURA)
    assert (done.returncode, done.stdout) == (0, "tried\n"), done.stderr


def test_the_reader_of_the_page_works(extended: Path, tmp_path: Path) -> None:
    rows: dict[str, object] = {}
    for number, split in enumerate(("train", "val", "test") * 8):
        label, attribute = number % 2, number // 2 % 2
        name = f"{number}.png"
        picture(label, attribute, number).save(tmp_path / name)
        rows[name] = [["cat", "dog"][label], ["indoors", "outdoors"][attribute], split]
    (tmp_path / "images.json").write_text(json.dumps(rows), "utf-8")
    command = (
        "-c",
        "import sys; from fairsynth.cli import main; sys.exit(main(sys.argv[1:]))",
        "inspect",
        str(tmp_path),
    )
    done = python(extended, *command, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["format"] == "imagelist"
    assert {(group["label"], group["attribute"]) for group in found["groups"]} == {
        (label, attribute) for label in ("cat", "dog") for attribute in ("indoors", "outdoors")
    }
    rows |= {"../outside.png": ["cat", "indoors", "train"], "short.png": ["cat"]}
    (tmp_path / "images.json").write_text(json.dumps(rows), "utf-8")
    done = python(extended, *command)
    assert (
        done.returncode == 3 and "short.png: ['cat']; allowed: [label, attribute, split]" in done.stdout + done.stderr
    )
    assert "outside" in done.stdout + done.stderr and "Traceback" not in done.stderr
