"""Folders of classifiers and of base models: code in them, pickles, headers that lie, facts that make no sense."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.hostile.cases import Case, Place, an_image, refused, sparse
from tests.support.data.dataset_files import put

_CODE = "import os, pathlib\npathlib.Path('{outside}/ran/model').touch()\n"
_PICKLE = b"\x80\x04cposix\nsystem\n(S'touch {outside}/ran/pickle'\ntR."
_PREDICT = ("predict", "{data}/images", "--run", "{data}/classifier", "--to", "{out}.csv")
_PLAN = ("plan", "--preset", "demo", "--out", "{out}", "--models.clip", "{data}", "--models.diffusion", "{data}")
_DOCTOR = ("doctor", "--no-cluster", "--out", "{out}", "--models.clip", "{data}", "--models.diffusion", "{data}")
Change = Callable[[Path, Place], object]


def _classifier(change: Change, place: Place) -> None:
    shutil.copytree(place.run / "classifier", place.data / "classifier")
    put(place.data / "images" / "a.png", an_image())
    change(place.data / "classifier", place)


def _facts(name: str, changes: dict[str, Any], folder: Path, place: Place) -> None:
    facts = json.loads((folder / name).read_text("utf-8"))
    put(folder / name, json.dumps(facts | changes))
    put(folder / "modeling_x.py", _CODE.replace("{outside}", str(place.outside)))


def _file(name: str, content: bytes | None, folder: Path, place: Place) -> None:
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        put(folder / name, content.replace(b"{outside}", os.fsencode(place.outside)))


def _weights(length: int, header: bytes, folder: Path, _: Place) -> None:
    put(folder / "model.safetensors", struct.pack("<Q", length) + header)


def _sparse(size: int, header: bytes, folder: Path, _: Place) -> None:
    sparse(folder / "model.safetensors", size, struct.pack("<Q", len(header)) + header)


def _pickled(folder: Path, place: Place) -> None:
    _file("model.safetensors", None, folder, place)
    _file("pytorch_model.bin", _PICKLE, folder, place)


def _shards(folder: Path, place: Place) -> None:
    put(
        folder / "model.safetensors.index.json",
        json.dumps({"weight_map": {"x": "evil.bin", "y": "../../outside/secret.txt"}}),
    )
    _file("evil.bin", _PICKLE, folder, place)


def _linked(folder: Path, place: Place) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def _base(changes: dict[str, object], place: Place) -> None:
    """A base model's folder as far as it is looked at before a run."""
    files: dict[str, object] = {
        "config.json": {"model_type": "clip"}, "model_index.json": {"_class_name": "StableDiffusionPipeline"},
        "scheduler/scheduler_config.json": {"prediction_type": "epsilon"}, "vae/config.json": {"block_out_channels": [1, 2]},
        "unet/config.json": {}, "text_encoder/config.json": {}, "tokenizer/vocab.json": {}, **changes,
    }  # fmt: skip
    for name, content in files.items():
        put(place.data / name, content if isinstance(content, bytes) else json.dumps(content))
    put(place.data / "evil.py", _CODE.replace("{outside}", str(place.outside)))


_TENSOR = b'{"x":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}'
_CHANGES: dict[str, Change] = {
    "code by auto_map": partial(_facts, "config.json", {"auto_map": {"AutoConfig": "modeling_x.X", "AutoModelForImageClassification": "modeling_x.X"}}),
    "code by auto_map, unknown kind": partial(_facts, "config.json", {"model_type": "x", "auto_map": {"AutoConfig": "modeling_x.X"}}),
    "an attention of the hub": partial(_facts, "config.json", {"attn_implementation": "evil/kernel"}),
    "a quantisation": partial(_facts, "config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
    "another kind": partial(_facts, "config.json", {"model_type": "vit"}),
    "no kind": partial(_facts, "config.json", {"model_type": None}),
    "a billion labels": partial(_facts, "config.json", {"id2label": None, "num_labels": 10**9}),
    "300,000 labels": partial(_facts, "config.json", {"id2label": {str(i): "x" for i in range(300_000)}}),
    "labels that steer": partial(_facts, "config.json", {"id2label": {"0": "\x1b[2J\x07", "1": "\u202ex"}}),
    "labels that are numbers": partial(_facts, "config.json", {"id2label": {"0": 1, "1": [2]}}),
    "gaps in the labels": partial(_facts, "config.json", {"id2label": {"0": "a", "7": "b"}}),
    "more labels than outputs": partial(_facts, "config.json", {"id2label": {str(i): f"l{i}" for i in range(50)}}),
    "layers of 10^9": partial(_facts, "config.json", {"hidden_sizes": [10**9] * 4, "embedding_size": 10**9}),
    "100,000 layers": partial(_facts, "config.json", {"depths": [100_000] * 4}),
    "sizes that are words": partial(_facts, "config.json", {"hidden_sizes": "x", "depths": None}),
    "a side of 10^9": partial(_facts, "preprocessor_config.json", {"crop_size": {"height": 10**9}}),
    "a side of -1": partial(_facts, "preprocessor_config.json", {"crop_size": {"height": -1}}),
    "no side": partial(_facts, "preprocessor_config.json", {"crop_size": None}),
    "deep JSON": partial(_file, "config.json", b"[" * 100_000),
    "a list for a configuration": partial(_file, "config.json", b"[]"),
    "bytes for a configuration": partial(_file, "config.json", b"\xff\xfe\0"),
    "no preprocessing": partial(_file, "preprocessor_config.json", None),
    "a pickle for weights": partial(_file, "model.safetensors", _PICKLE),
    "a pickle beside no weights": _pickled,
    "shards of pickles": _shards,
    "a pipe for a configuration": _linked,
    "empty weights": partial(_file, "model.safetensors", b""),
    "a header of 2^62": partial(_weights, 2**62, b"{}"),
    "a header of 2^64-1": partial(_weights, 2**64 - 1, b"{}"),
    "a header of 99 MB that is not there": partial(_weights, 99_000_000, b"{}"),
    "a header that is a list": partial(_weights, 2, b"[]"),
    "a deep header": partial(_weights, 100_000, b"[" * 100_000),
    "a tensor of 2^60": partial(_weights, len(_TENSOR % (2**58, 2**60)), _TENSOR % (2**58, 2**60)),
    "20 GB of zeros": partial(_sparse, 20 << 30, b"{}"),
    "a tensor of 3 GB of zeros": partial(_sparse, 8 + len(_TENSOR % (800_000_000, 3_200_000_000)) + 3_200_000_000, _TENSOR % (800_000_000, 3_200_000_000)),
}  # fmt: skip
_BASES: dict[str, dict[str, object]] = {
    "a class of one's own": {"model_index.json": {"_class_name": ["evil", "X"], "unet": ["evil", "X"]}},
    "a pipeline of the hub": {"model_index.json": {"_class_name": "X", "custom_pipeline": "evil"}},
    "an unknown prediction": {"scheduler/scheduler_config.json": {"prediction_type": "\x1b[2J"}},
    "a scheduler that is a list": {"scheduler/scheduler_config.json": []},
    "deep JSON": {"scheduler/scheduler_config.json": b"[" * 100_000, "vae/config.json": b"[" * 100_000, "config.json": b"{" * 9},
    "a VAE without end": {"vae/config.json": {"block_out_channels": [1] * 5000}},
    "a VAE of words": {"vae/config.json": {"block_out_channels": "x" * 4000}},
    "shards that lead elsewhere": {"unet/diffusion_pytorch_model.safetensors.index.json": {"weight_map": {"a": "../../../outside/secret.txt"}}},
    "shards that are numbers": {"model.safetensors.index.json": {"weight_map": [1, 2]}},
    "shards of lists": {"model.safetensors.index.json": {"weight_map": {"a": ["x"], "b": {}}}},
    "a header of 2^62": {"model.safetensors": struct.pack("<Q", 2**62) + b"{}"},
    "pickles": {"pytorch_model.bin": _PICKLE, "unet/diffusion_pytorch_model.bin": _PICKLE},
}  # fmt: skip


def cases() -> Iterator[Case]:
    """All of this kind."""
    for name, change in _CHANGES.items():
        yield Case("classifier", name, partial(_classifier, change), _PREDICT, codes=refused(0, 2, 3), torch=True)
    for number, (name, changes) in enumerate(_BASES.items()):
        words = (_PLAN, _DOCTOR)[number % 2]
        yield Case("base model", name, partial(_base, changes), words, codes=refused(0, 2, 3, 5))
        yield Case("base model", f"{name}, the other way", partial(_base, changes), (_DOCTOR, _PLAN)[number % 2])
