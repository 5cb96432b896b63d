"""The recipe's steps by name, each reading what the earlier ones finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPModel, CLIPTokenizer

from fairsynth.demo.pretrain.corpus import cached_corpus, draw_corpus
from fairsynth.models.sources import demo_folder


def run(name: str, folder: Path, steps: int, count: int, seed: int, threads: int) -> None:
    """Train one step unless its model lies in ``folder`` already; print its quality."""
    finished = {"unet": "diffusion/model_index.json", "flow": "flow/model_index.json"}.get(name, f"{name}/config.json")
    if (folder / finished).exists():
        print(f"{name}: finished before", flush=True)
        return
    corpus = cached_corpus(folder, count, seed, threads)
    made = {"vae": _vae, "clip": _clip, "vision": _vision, "unet": _unet, "flow": _flow, "judge": _judge}
    made[name](corpus, folder, steps, seed)


def _vae(corpus, folder: Path, steps: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    from fairsynth.demo.pretrain import vae

    model = vae.train_vae(corpus, folder, steps, seed)
    held_out = draw_corpus(512, seed + 10_000, held_out=True)
    print(
        f"vae: PSNR on held-out drawn images {vae.psnr(model, held_out.images(np.arange(len(held_out)))):.2f} dB",
        flush=True,
    )
    model.save_pretrained(folder / "vae")


def _clip(corpus, folder: Path, steps: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    from fairsynth.demo.pretrain import clip

    model, tokenizer = clip.train_clip(corpus, folder, steps, seed)
    held_out = draw_corpus(1000, seed + 10_000, held_out=True)
    print(
        f"clip: digit word right on {clip.digit_accuracy(model, tokenizer, held_out):.1%} of held-out images",
        flush=True,
    )
    tokenizer.save_pretrained(folder / "clip")
    clip.build_image_processor().save_pretrained(folder / "clip")
    model.save_pretrained(folder / "clip")


def _vision(_corpus, folder: Path, steps: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    from fairsynth.demo.pretrain import clip

    model, tokenizer = CLIPModel.from_pretrained(folder / "clip"), CLIPTokenizer.from_pretrained(folder / "clip")
    fresh = cached_corpus(folder, 60_000, seed + 500, 1)
    model = clip.train_vision(model, tokenizer, fresh, folder, steps, seed)
    for held_out in (False, True):
        unseen = draw_corpus(1000, seed + 10_000, held_out=held_out)
        print(
            f"vision: digit word right on {clip.digit_accuracy(model, tokenizer, unseen):.1%} of new images (new fonts: {held_out})",
            flush=True,
        )
    tokenizer.save_pretrained(folder / "vision")
    clip.build_image_processor().save_pretrained(folder / "vision")
    model.save_pretrained(folder / "vision")


def _unet(corpus, folder: Path, steps: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    from fairsynth.demo.pretrain import unet

    autoencoder = AutoencoderKL.from_pretrained(folder / "vae")
    clip, tokenizer = CLIPModel.from_pretrained(folder / "clip"), CLIPTokenizer.from_pretrained(folder / "clip")
    unet.train_unet(corpus, autoencoder, clip, tokenizer, folder, steps, seed).save_pretrained(folder / "diffusion")


def _flow(corpus, folder: Path, steps: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    from fairsynth.demo.pretrain import flow

    # Both CLIPs have the same text tower.
    base, tower = _made(folder, "diffusion"), _made(folder, "clip")
    teacher = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipeline = flow.assemble(AutoencoderKL.from_pretrained(base / "vae"), CLIPModel.from_pretrained(tower), tower)
    flow.train_flow(corpus, pipeline, teacher, folder, steps, seed)
    flow.save(pipeline, folder / "flow")


def _made(folder: Path, name: str) -> Path:
    """What an earlier step made; the package's own where it was not run."""
    return folder / name if (folder / name).is_dir() else demo_folder(name)


def _judge(corpus, folder: Path, steps: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    from fairsynth.demo.pretrain import judge

    model = judge.train_judge(corpus, folder, steps, seed)
    held_out = draw_corpus(1000, seed + 10_000, held_out=True)
    print(f"judge: right on {judge.accuracy(model, held_out):.1%} of held-out images", flush=True)
    model.save_pretrained(folder / "judge")
