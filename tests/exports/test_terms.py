"""Base models whose licence forbids what is not research are refused unless it is accepted by name; what it says stands in cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError
from fairsynth.exports.terms import check_licence, model_terms, terms_in_words
from tests.support.models.pipelines import described

FLUX, STABILITY = "flux-non-commercial", "stability-non-commercial"


def config(model: str | Path, accept: str | None = None) -> RunConfig:
    return load_config(None, "demo", {"models.diffusion": str(model), "models.accept_licence": accept})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("black-forest-labs/FLUX.1-dev", FLUX),
        ("black-forest-labs/FLUX.1-Krea-dev", FLUX),
        ("black-forest-labs/FLUX.2-dev", FLUX),
        ("black-forest-labs/FLUX.2-klein-base-9B", FLUX),
        ("stabilityai/sd-turbo", STABILITY),
        ("stabilityai/sdxl-turbo", STABILITY),
    ],
)
def test_a_licence_for_research_alone_has_to_be_accepted(model: str, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_licence(config(model))
    told = str(caught.value)
    assert told.startswith(f"models.diffusion: '{model}' is under the ") and f"--models.accept_licence {name};" in told
    check_licence(config(model, name))
    check_licence(config(model, name.upper()))
    with pytest.raises(ConfigError, match=r"models\.accept_licence is 'apache-2.0', which is not that licence"):
        check_licence(config(model, "apache-2.0"))


@pytest.mark.parametrize(
    "model",
    [
        *("demo", "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0"),
        *("stabilityai/stable-diffusion-3.5-medium", "black-forest-labs/FLUX.2-klein-base-4B", "Tongyi-MAI/Z-Image"),
        *("Qwen/Qwen-Image", "someone/their-model"),
    ],
)
def test_others_are_not_refused(model: str) -> None:
    check_licence(config(model))


CARD = "---\nlicense: other\nlicense_name: {}\nlicense_link: LICENSE.md\n---\n# A model\n"


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("flux-1-dev-non-commercial-license", FLUX),
        ("flux-dev-non-commercial-license", FLUX),
        ("sai-nc-community", STABILITY),
        ("stabilityai-ai-community", ""),
        ("their-own", ""),
    ],
)
def test_a_folder_is_known_by_its_card_and_by_its_origin(stated: str, name: str, tmp_path: Path) -> None:
    folder = described(tmp_path / "model")
    (folder / "README.md").write_text(CARD.format(stated), "utf-8")
    if name:
        with pytest.raises(ConfigError, match=f"'model' is under .*--models.accept_licence {name}"):
            check_licence(config(folder))
    check_licence(config(folder, name or None))
    other = described(tmp_path / "other", _name_or_path="black-forest-labs/FLUX.1-dev")
    with pytest.raises(ConfigError, match=FLUX):
        check_licence(config(other))


def test_a_card_that_names_no_licence_leaves_it_to_the_origin(tmp_path: Path) -> None:
    folder = described(tmp_path / "model", _name_or_path="stabilityai/sdxl-turbo")
    (folder / "README.md").write_text("---\nlicense: other\n---\n", "utf-8")
    with pytest.raises(ConfigError, match=STABILITY):
        check_licence(config(folder))


def test_the_clause_on_what_is_made_from_images_is_told(tmp_path: Path) -> None:
    folder = described(tmp_path / "sd35")
    (folder / "README.md").write_text(CARD.format("stabilityai-ai-community"), "utf-8")
    for model in ("stabilityai/stable-diffusion-3.5-medium", folder):
        told = terms_in_words(config(model))
        for said in ("derivative work", "the classifier is one", "1 million US dollars", "Powered by Stability AI"):
            assert said in told
    assert terms_in_words(config("someone/their-model")).endswith("for models trained on them")


def test_the_file_of_terms_is_whole() -> None:
    content = json.loads((Path(model_terms.__code__.co_filename).parent / "terms.json").read_text("utf-8"))
    for entry in content["models"]:
        assert {"name", "ids", "licence", "generated", "trained"} <= entry.keys()
        assert ("refused" in entry) == ("accept" in entry)
        assert all(
            name == name.casefold() for name in [*entry["ids"], *entry.get("licences", ()), entry.get("accept", "")]
        )
