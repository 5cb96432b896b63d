"""The imagefolder's description for dataset search, Croissant 1.1 with its RAI vocabulary 1.0.

Hugging Face writes a dataset's structure itself, but nothing about synthetic, biased or private content. Sources:
mlcommons/croissant, docs/croissant-spec-1.1.md and docs/croissant-rai-spec.md; of the latter ``hasSyntheticData`` is
not yet in version 1.0, but dataset tracks ask for it beside ``prov:wasDerivedFrom``.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairsynth.exports.set_facts import SetFacts, biases, licence, limits, privacy, purpose, sampling
from fairsynth.version import __version__

# The specification's own, in full: programs compare it with theirs.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
} | {
    name: f"cr:{name}"
    for name in (
        "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject",
        "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
        "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
        "source", "subField", "transform",
    )
}  # fmt: skip
_CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
_ENDINGS = {"JPEG": ("jpg", "image/jpeg"), "PNG": ("png", "image/png"), "WEBP": ("webp", "image/webp")}
_TABLE, _IMAGES = "metadata.csv", "images"


def croissant(facts: SetFacts, folder: Path, types: pa.Schema) -> dict[str, Any]:
    """The content of ``croissant.json``, to be written into ``folder`` as JSON.

    ``folder`` is an imagefolder (``fairsynth.exports.formats``), whose metadata.csv gives the columns and a
    checksum; ``types`` those of the columns, by name; a column without one is text.
    Raises OSError if metadata.csv is missing.
    """
    with open(folder / _TABLE, encoding="utf-8", newline="") as handle:
        columns = next(csv.reader(handle))
    with open(folder / _TABLE, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    ending, media = _ENDINGS[facts.file_format]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": facts.name,
        "description": f"{purpose(facts)}.",
        "conformsTo": _CONFORMS_TO,
        "license": licence(facts),
        # A version has three numbers there; the set's own is a hash.
        "version": f"1.0.0+{facts.version}",
        "keywords": ["synthetic", "fairness", "group-balanced"],
        **({"datePublished": facts.created} if facts.created else {}),
        "distribution": [
            {"@type": "cr:FileObject", "@id": _TABLE, "name": _TABLE, "contentUrl": _TABLE}
            | {"encodingFormat": "text/csv", "sha256": digest},
            {"@type": "cr:FileSet", "@id": _IMAGES, "encodingFormat": media, "includes": f"{_IMAGES}/*/*.{ending}"},
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "description": "A row per image.",
                "key": {"@id": "rows/image_id"},
                "field": [_image(), _file(), *(_field(name, types) for name in columns)],
            }
        ],
        **_responsibility(facts),
    }  # fmt: skip


def _image() -> dict[str, Any]:
    source = {"fileSet": {"@id": _IMAGES}, "extract": {"fileProperty": "content"}}
    return {"@type": "cr:Field", "@id": "rows/image", "dataType": "sc:ImageObject", "source": source}


def _file() -> dict[str, Any]:
    """The link from a row to its image. By the bare name, which is unique: mlcroissant 1.1.1 compares no full paths."""
    column = {"extract": {"column": "file_name"}, "transform": {"regex": ".*/([^/]+)$"}}
    return {
        "@type": "cr:Field",
        "@id": "rows/file",
        "dataType": "sc:Text",
        "source": {"fileObject": {"@id": _TABLE}, **column},
        "references": {"fileSet": {"@id": _IMAGES}, "extract": {"fileProperty": "filename"}},
    }


def _field(name: str, types: pa.Schema) -> dict[str, Any]:
    source = {"fileObject": {"@id": _TABLE}, "extract": {"column": name}}
    return {"@type": "cr:Field", "@id": f"rows/{name}", "dataType": _data_type(name, types), "source": source}


def _data_type(name: str, types: pa.Schema) -> str:
    if name == "is_synthetic":
        return "sc:Boolean"
    arrow_type = types.field(name).type if name in types.names else pa.string()
    if pa.types.is_boolean(arrow_type):
        return "sc:Boolean"
    return (
        "sc:Integer"
        if pa.types.is_integer(arrow_type)
        else "sc:Float"
        if pa.types.is_floating(arrow_type)
        else "sc:Text"
    )


def _responsibility(facts: SetFacts) -> dict[str, Any]:
    base = f"{facts.diffusion}, version {facts.diffusion_revision}"
    made = f"generated by {base} ({sampling(facts)})"
    adapters = f"; adapters: {facts.finetune}" if facts.finetune else ""
    return {
        "rai:hasSyntheticData": True,
        "rai:dataCollection": f"All images are synthetic, {made}{adapters}.",
        "rai:dataCollectionType": ["Others"],
        "rai:dataPreprocessingProtocol": [f"Filter: {facts.filter}. {facts.rejected} generated images were rejected."],
        "rai:machineAnnotationTools": [f"{facts.clip}, version {facts.clip_revision}"],
        "rai:dataBiases": [f"{biases(facts)}."],
        "rai:dataLimitations": [f"{line}." for line in limits(facts)],
        "rai:personalSensitiveInformation": [privacy(facts)],
        "rai:dataUseCases": ["Training a classifier whose accuracy does not depend on the attribute."],
        "rai:dataSocialImpact": "Classifiers may serve rare groups better. The images are no record of anything that was, "
        "and may repeat what real images of people show.",
        "prov:wasDerivedFrom": [facts.source_dataset, base],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"fairsynth {__version__}",
            "sc:description": made,
        },
    }
