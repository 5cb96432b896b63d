"""The set's description for dataset search: right structure over the table that is there, and what is synthetic in it."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fairsynth.exports.croissant import croissant
from fairsynth.exports.formats import write_folder
from fairsynth.exports.set_facts import GroupFacts
from tests.support.cards import HOSTILE, facts
from tests.support.datasets import encoded, picture

TYPES = pa.schema(
    [
        ("seed", pa.int64()),
        ("score", pa.float64()),
        ("flipped", pa.bool_()),
        ("label", pa.string()),
        ("gone", pa.int8()),
    ]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {
            "image_id": f"i{i}",
            "label": HOSTILE[i],
            "attribute": "a",
            "seed": i,
            "score": 0.5,
            "flipped": True,
            "c, d": "x",
        }
        for i in range(5)
    ]
    write_folder(tmp_path, ((row, encoded(picture(0, 0, i))) for i, row in enumerate(rows)), ".png")
    return tmp_path


def described(folder: Path, **changed: Any) -> dict[str, Any]:
    """The description after a way through JSON."""
    content = croissant(facts(file_format="PNG", **changed), folder, TYPES)
    return json.loads(json.dumps(content, allow_nan=False))


def expanded(name: str, context: dict[str, Any]) -> str:
    """The full name of a JSON-LD key or type."""
    term = context.get(name, name)
    term = term.get("@id", name) if isinstance(term, dict) else term
    prefix, colon, rest = term.partition(":")
    if not colon:
        return f"{context['@vocab']}{term}"
    return f"{context[prefix]}{rest}" if isinstance(context.get(prefix), str) else term


def keys_of(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(keys_of, node), set())
    if isinstance(node, dict):
        return {key for key in node if key[0] != "@"} | keys_of([v for k, v in node.items() if k != "@context"])
    return set()


def test_it_conforms_to_croissant_and_rai_in_known_words(folder: Path) -> None:
    content = described(folder)
    context = content["@context"]
    assert content["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    assert (context["@vocab"], context["cr"]) == ("https://schema.org/", "http://mlcommons.org/croissant/")
    assert context["rai"] == "http://mlcommons.org/croissant/RAI/"
    assert expanded(content["@type"], context) == "https://schema.org/Dataset"
    full = {key: expanded(key, context) for key in keys_of({k: v for k, v in content.items() if k != "@context"})}
    for key in ("recordSet", "field", "source", "extract", "column", "fileObject", "fileSet", "includes", "references"):
        assert full[key] == f"http://mlcommons.org/croissant/{key}"
    assert full["conformsTo"] == "http://purl.org/dc/terms/conformsTo"
    assert full["rai:hasSyntheticData"] == "http://mlcommons.org/croissant/RAI/hasSyntheticData"
    assert full["prov:wasDerivedFrom"] == "http://www.w3.org/ns/prov#wasDerivedFrom"
    for key in ("name", "description", "license", "version", "distribution", "sha256", "contentUrl"):
        assert full[key] == f"https://schema.org/{key}"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\+\w+)?", content["version"])


def test_every_field_s_source_is_there(folder: Path) -> None:
    content = described(folder)
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as handle:
        columns = next(csv.reader(handle))
    resources = {resource["@id"]: resource for resource in content["distribution"]}
    (records,) = content["recordSet"]
    seen = []
    for field in records["field"]:
        source = field["source"]
        (origin,) = set(source) & {"fileObject", "fileSet"}
        assert (
            resources[source[origin]["@id"]]["@type"]
            == {"fileObject": "cr:FileObject", "fileSet": "cr:FileSet"}[origin]
        )
        if origin == "fileObject":
            assert source["extract"]["column"] in columns
            seen.append(source["extract"]["column"])
        else:
            assert source["extract"] == {"fileProperty": "content"} and field["dataType"] == "sc:ImageObject"
    assert set(seen) == set(columns), "a column is not described"
    names = [field["@id"] for field in records["field"]]
    assert len(set(names)) == len(names) and records["key"]["@id"] in names


def test_the_files_are_those_of_the_folder(folder: Path) -> None:
    table, images = described(folder)["distribution"]
    assert table["sha256"] == hashlib.sha256((folder / table["contentUrl"]).read_bytes()).hexdigest()
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*.png")]
    assert len(found) == 5 and all(fnmatch.fnmatch(name, images["includes"]) for name in found)
    assert (table["encodingFormat"], images["encodingFormat"]) == ("text/csv", "image/png")
    for format, expected in (("JPEG", ("images/*/*.jpg", "image/jpeg")), ("WEBP", ("images/*/*.webp", "image/webp"))):
        files = croissant(replace(facts(), file_format=format), folder, TYPES)["distribution"][1]
        assert (files["includes"], files["encodingFormat"]) == expected


def test_a_row_leads_to_its_image(folder: Path) -> None:
    (way,) = [field for field in described(folder)["recordSet"][0]["field"] if "references" in field]
    assert way["references"] == {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "filename"}}
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    names = [re.match(way["source"]["transform"]["regex"], row["file_name"]) for row in rows]  # type: ignore[union-attr]
    assert {match[1] for match in names if match} == {path.name for path in folder.rglob("*.png")}


def test_columns_have_their_types(folder: Path) -> None:
    types = {field["@id"]: field["dataType"] for field in described(folder)["recordSet"][0]["field"]}
    expected = {"seed": "Integer", "score": "Float", "flipped": "Boolean", "is_synthetic": "Boolean", "label": "Text"}
    expected |= {"c, d": "Text", "image_id": "Text"}
    assert {name: types[f"rows/{name}"] for name in expected} == {
        name: f"sc:{data_type}" for name, data_type in expected.items()
    }


def test_what_is_synthetic_biased_and_private_is_told(folder: Path) -> None:
    content = described(folder, audit={"copies": 3}, created="2026-11-25")
    assert content["rai:hasSyntheticData"] is True and content["datePublished"] == "2026-11-25"
    assert "must confirm" in content["license"] and "no licence was stated" in content["license"]
    assert "copies: 3" in content["rai:personalSensitiveInformation"][0]
    assert "(low, flower): 15 real, 300 synthetic" in content["rai:dataBiases"][0]
    assert any("(high, sea) has 120 of 300" in line for line in content["rai:dataLimitations"])
    assert content["prov:wasDerivedFrom"] == ["demo digits", "org/diffusion, version abc123"]
    assert "100 generated images were rejected" in content["rai:dataPreprocessingProtocol"][0]
    unmeasured = described(folder)
    assert "Privacy not measured" in unmeasured["rai:personalSensitiveInformation"][0]
    assert "datePublished" not in unmeasured


def test_hostile_text_is_text(folder: Path) -> None:
    groups = tuple(GroupFacts(expected, expected, 1, 1, 2, "own", {expected: 1}) for expected in HOSTILE)
    content = described(folder, groups=groups, name=HOSTILE[0])
    assert content.keys() == described(folder).keys() and content["name"] == HOSTILE[0]
    assert all(f"({expected}, {expected}): 1 real" in content["rai:dataBiases"][0] for expected in HOSTILE)
