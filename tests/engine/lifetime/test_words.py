"""What Ray says of itself is told in plain words, and nothing that it raises is an internal error."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray.exceptions

from fairsynth.config import ResourcesConfig
from fairsynth.engine.lifetime.words import _MEANING, in_plain_words
from fairsynth.engine.session import session_of
from fairsynth.errors import InfrastructureError


# Fault case 45: memory that runs out, in Ray's words.
def test_the_names_are_rays() -> None:
    assert [name for name in _MEANING if not hasattr(ray.exceptions, name)] == []


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        ("ValueError", "a  b\nc", "ValueError: a b c"),
        ("GetTimeoutError", "timed out", "Ray gave no answer in time (GetTimeoutError: timed out)"),
        (
            "SystemException",
            "x\nTraceback (most recent call last):\n  ^^^^\nImportError: none\n    ~~\n",
            "ImportError: none",
        ),
    ],
)
def test_plain_words(kind: str, message: str, told: str) -> None:
    assert in_plain_words(kind, message) == told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ray.exceptions.GetTimeoutError("late"), "Ray gave no answer in time"),
        (ray.exceptions.RaySystemError("bad"), "Ray itself failed"),
        (ray.exceptions.OutOfMemoryError("killed"), "a machine's memory ran out, and Ray ended a worker there"),
        (ray.exceptions.NodeDiedError("node"), "a machine of the cluster was lost"),
        (ray.exceptions.ActorDiedError(), "a worker's process ended"),
    ],
)
def test_an_error_of_ray_is_one_of_infrastructure(error: Exception, told: str, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=told), session_of(ResourcesConfig(), tmp_path):
        raise error


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(KeyError), session_of(ResourcesConfig(), tmp_path):
        raise KeyError("ours")
