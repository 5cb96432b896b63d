"""What the plan says of base models on which nothing was timed: their work and sizes are counted again here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fairsynth.commands.plan.rates import OF_MODELS, stated
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.models.families.table import FAMILIES, family_named
from tests.support.data.planning import ROOT, planned, stage, waterbirds
from tests.support.models.pipelines import Wide, described

RATES = json.loads((ROOT / "fairsynth" / "commands" / "plan" / "rates.json").read_text("utf-8"))
Call = Callable[[Any, int], Any]
# The networks as they are published, and a call for one image of a side in latents of 8 pixels.
XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
SD3 = {
    **{"sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24},
    **{"attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096, "qk_norm": "rms_norm"},
    **{"caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 384},
    "dual_attention_layers": tuple(range(13)),
}
KLEIN = {
    **{"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "attention_head_dim": 128},
    **{"joint_attention_dim": 7680, "in_channels": 128, "guidance_embeds": False},
}
E = torch.empty
NETWORKS: dict[str, tuple[str, dict[str, Any], Call]] = {
    "sdxl": (
        "UNet2DConditionModel",
        XL,
        lambda net, n: net(
            *(E(1, 4, n, n), E(1), E(1, 77, 2048)),
            added_cond_kwargs={"text_embeds": E(1, 1280), "time_ids": E(1, 6)},
        ),
    ),
    "sd3": ("SD3Transformer2DModel", SD3, lambda net, n: net(E(1, 16, n, n), E(1, 154, 4096), E(1, 2048), E(1))),
    "flux2": (
        "Flux2Transformer2DModel",
        KLEIN,
        lambda net, n: net(
            *(E(1, n * n // 4, 128), E(1, 512, 7680), E(1)), img_ids=E(1, n * n // 4, 4), txt_ids=E(1, 512, 4)
        ),
    ),
    "zimage": ("ZImageTransformer2DModel", {}, lambda net, n: net([E(16, 1, n, n)], E(1), [E(64, 2560)])),
}


def network_of(name: str) -> Any:
    class_name, shape, _ = NETWORKS[name]
    with torch.device("meta"):
        return getattr(diffusers, class_name)(**shape)


def bytes_per_rank(network: Any, targets: Sequence[str]) -> int:
    """Of an adapter in float32."""
    width = 0
    for name, module in network.named_modules():
        if any(f".{name}".endswith(f".{target}") for target in targets):
            out, *inner = module.weight.shape
            width += out + torch.Size(inner).numel()
    return 4 * width


@pytest.mark.slow
@pytest.mark.parametrize("name", RATES["families"])
def test_work_and_sizes_are_those_of_the_published_networks(name: str) -> None:
    known, network, family = RATES["families"][name], network_of(name), family_named(name)
    sizes = known["bytes"]
    assert sizes["full_unet"] == 4 * sum(weight.numel() for weight in network.parameters())
    assert sizes["adapter_per_rank"] == bytes_per_rank(network, family.targets)
    assert sizes["shared_per_rank"] == bytes_per_rank(network, family.shared_targets)
    for side, tflop in known["tflop"].items():
        with FlopCounterMode(display=False) as counted, torch.no_grad(), torch.device("meta"):
            NETWORKS[name][2](network, int(side) // 8)
        assert counted.get_total_flops() / 1e12 == pytest.approx(tflop, rel=1e-3), side


def test_every_family_has_figures_or_the_plan_says_that_it_has_none() -> None:
    assert {*RATES["families"], "sd"} >= {family.name for family in FAMILIES.values()}


def config_of(folder: Path, class_name: str, **given: Any) -> RunConfig:
    return load_config(None, None, {"models.diffusion": str(described(folder, class_name)), **given})


def test_nothing_is_scaled_for_stable_diffusion(tmp_path: Path) -> None:
    usual = stated(RunConfig())
    assert stated(config_of(tmp_path / "sd", "StableDiffusionPipeline")) == usual and usual.scale("finetune", 1024) == 4


def test_a_family_of_which_nothing_is_known_is_taken_as_stable_diffusion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "WidePipeline", Wide())  # type: ignore[arg-type]
    usual, wide = stated(RunConfig()), stated(config_of(tmp_path / "wide", "WidePipeline"))
    assert wide.scale("synthesize", 1024) == usual.scale("synthesize", 1024) and wide.sizes == usual.sizes
    assert "for Wide Diffusion taken as they are" in wide.machine


XL_PARTS = {
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}


def test_a_plan_for_another_family_says_that_it_is_an_estimate(tmp_path: Path) -> None:
    xl = described(tmp_path / "xl", "StableDiffusionXLPipeline", **XL_PARTS)
    data = {"data__root": str(waterbirds(tmp_path / "data")), "models__diffusion_revision": None}
    plans = {
        name: planned(tmp_path / "out", None, models__diffusion=model, models__clip="demo", **data)
        for name, model in (("sd", str(described(tmp_path / "sd"))), ("xl", str(xl)))
    }
    sd, other = plans["sd"], plans["xl"]
    for name in OF_MODELS:
        source = stage(other, name)["rate"]["source"]
        assert "scaled by the work of a forward pass: estimated" in source
        assert stage(other, name)["rate"]["spread"] == 1.5 * stage(sd, name)["rate"]["spread"]
    # 1024 pixels are the model's own: 6.76 TFLOP in place of 0.80.
    took = {name: stage(plan, "finetune") for name, plan in plans.items()}
    start = took["sd"]["rate"]["start_seconds"]
    ratio = (took["xl"]["seconds"]["likely"] - start) / (took["sd"]["seconds"]["likely"] - start)
    assert ratio == pytest.approx(6.761 / 0.803, rel=1e-2)
    assert took["xl"]["disk_bytes"] > 2 * took["sd"]["disk_bytes"]
    assert stage(other, "tune")["rate"] == stage(sd, "tune")["rate"]
