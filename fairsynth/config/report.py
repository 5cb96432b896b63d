"""The configuration's section of the report."""

from __future__ import annotations

from typing import Literal

from fairsynth.config.types import Section

Faces = Literal["shown", "blurred", "hidden"]


class ReportConfig(Section):
    """How report.html shows what it has; the figures are the same."""

    faces: Faces = "shown"
    """How report.html shows images, real, synthetic and rejected ones alike. shown: as they are; blurred: each as a few large squares of colour, so that nobody is recognised; hidden: not at all. The presets celeba and utkface blur."""
