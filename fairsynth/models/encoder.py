"""CLIP as the pipeline uses it: unit vectors of images and of texts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.utils import logging

from fairsynth.config import ModelsConfig
from fairsynth.models.device import pick_device
from fairsynth.models.families.lengths import require_whole
from fairsynth.models.hub.foreign import require_safe
from fairsynth.models.memory import OWN_GPU, Parts
from fairsynth.models.sources import clip_source


class ClipEncoder:
    """Encodes images and texts into one space; vectors are float32 of length 1."""

    def __init__(self, models: ModelsConfig) -> None:
        source, revision = clip_source(models), models.clip_revision
        require_safe("models.clip", source, revision)
        logging.disable_progress_bar()  # no progress bars in a job's log
        self.device = pick_device()
        self.model = CLIPModel.from_pretrained(source, revision=revision, use_safetensors=True).to(self.device).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(source, revision=revision)
        self.processor = CLIPImageProcessorPil.from_pretrained(source, revision=revision)
        self.parts = Parts("an image in models.clip", OWN_GPU)

    @torch.no_grad()
    def images(self, pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 images (N, H, W, 3): float32 (N, D), each row of length 1; fewer at once if memory runs out."""
        return np.concatenate(self.parts(len(pixels_NHW3), lambda part: self._embedded(pixels_NHW3[part])))

    def _embedded(self, pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        prepared = self.processor(images=list(pixels_NHW3), return_tensors="pt").pixel_values
        return self._unit(self.model.get_image_features(pixel_values=prepared.to(self.device)).pooler_output)

    @torch.no_grad()
    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts: float32 (N, D), each row of length 1. Raises DataError for a text that would be cut."""
        limit = min(self.tokenizer.model_max_length, self.model.config.text_config.max_position_embeddings)
        require_whole(self.tokenizer, texts, limit, "models.clip")
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
        return self._unit(self.model.get_text_features(**tokens).pooler_output)

    def _unit(self, features_ND: torch.Tensor) -> NDArray[np.float32]:
        return torch.nn.functional.normalize(features_ND.float(), dim=-1).cpu().numpy().astype(np.float32)  # type: ignore[no-any-return]
