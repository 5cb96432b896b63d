"""export --format onnx: the file says what the network says, and nothing of anybody else is replaced."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fairsynth.classify.images import MEAN, STD
from fairsynth.data.decode import decode
from tests.support.calling import export, refused
from tests.support.models.classifiers import SIDE, expected_of, put_run

pytestmark = pytest.mark.slow  # each export takes seconds
LABELS = ["0", '<b>"', "dog\n"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = put_run(tmp_path_factory.mktemp("run"), LABELS)
    code, out, err = export(root, "--format", "onnx")
    assert (
        code == 0 and not err and out.startswith(f"{root}/classifier-onnx/model.onnx: its probabilities are PyTorch's")
    )
    return root


def test_onnxruntime_says_what_the_network_says_however_many_images_there_are(run: Path) -> None:
    session = onnxruntime.InferenceSession(run / "classifier-onnx" / "model.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == LABELS and int(facts["image_size"]) == SIDE
    assert (json.loads(facts["image_mean"]), json.loads(facts["image_std"])) == (list(MEAN), list(STD))
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("pixel_values", "tensor(float)", ["batch", 3, SIDE, SIDE])
    assert [(o.name, o.shape) for o in session.get_outputs()] == [
        ("logits", ["batch", len(LABELS)]), ("probabilities", ["batch", len(LABELS)])
    ]  # fmt: skip
    images = [decode(path.read_bytes(), SIDE) for path in sorted((run / "images" / "a").iterdir())]
    pixels = ((np.stack(images) / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    for part in (slice(0, 1), slice(0, 7)):
        _, found = session.run(None, {"pixel_values": pixels[part]})
        assert np.abs(found - expected_of(run)[part]).max() < 1e-5


def test_the_file_tells_its_opset_and_nothing_of_this_machine(run: Path) -> None:
    folder = run / "classifier-onnx"
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "model.onnx", "preprocessor_config.json"
    }  # fmt: skip
    content = (folder / "model.onnx").read_bytes()
    assert [(o.domain, o.version) for o in onnx.load_from_string(content).opset_import] == [("", 18)]
    assert (
        b".py" not in content
        and b"site-packages" not in content
        and str(Path(__file__).parents[3]).encode() not in content
    )


def test_the_cards_own_example_runs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (use,) = re.findall("```python\n(.*?)```", (run / "classifier-onnx" / "README.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes((run / "images" / "a" / "3.png").read_bytes())
    (tmp_path / "model.onnx").write_bytes((run / "classifier-onnx" / "model.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(use, {})
    found = eval(capsys.readouterr().out)
    assert [found[label] for label in LABELS] == pytest.approx(expected_of(run)[3].tolist(), abs=1e-5)


def test_what_is_somebody_elses_stays_and_an_earlier_export_is_replaced(run: Path, tmp_path: Path) -> None:
    folder, file = run / "classifier-onnx", tmp_path / "new.onnx"
    before = (folder / "model.onnx").read_bytes()
    assert export(run / "classifier", "--format", "onnx", "--to", folder)[0] == 0
    assert (folder / "model.onnx").read_bytes() == before
    assert export(run, "--format", "onnx", "--to", file)[0] == 0
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["new.onnx"]
    (folder / "notes.txt").write_text("mine")
    assert "holds other files; give a new folder with --to" in refused(export(run, "--format", "onnx"))
    (folder / "notes.txt").unlink()
    file.write_bytes(b"mine")
    assert "is another file; give a new name" in refused(export(run, "--format", "onnx", "--to", file))
    assert file.read_bytes() == b"mine" and not [path for path in run.iterdir() if path.name.startswith(".")]


def test_wrong_calls_are_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "export which classifier?" in refused(export("--format", "onnx"))
    assert "is no folder" in refused(export(tmp_path / "none", "--format", "onnx"))
    assert "has no classifier/; finish the run first" in refused(export(tmp_path, "--format", "onnx"))
    (tmp_path / "report.json").write_text("{}")
    assert "fairsynth is not among its methods" in refused(export(tmp_path, "--format", "onnx"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    line = refused(export(run, "--format", "onnx", "--to", tmp_path / "x"))
    assert line == "fairsynth: --format onnx needs onnxscript: pip install 'fairsynth[onnx]'\n"
    assert not (tmp_path / "x").exists()
