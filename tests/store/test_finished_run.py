"""Whatever takes a run's output takes one in a bucket: the same is read as from a disk, on a machine that has nothing of it."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import fairsynth as fs
from fairsynth.errors import ConfigError, DataError
from fairsynth.store import mirror as mirrors
from fairsynth.store import place
from fairsynth.store.mirror import cache_folder
from fairsynth.store.objects import Objects
from tests.support.calling import call, refused
from tests.support.store.s3_server import KEYS, new_bucket
from tests.support.store.uploaded import uploaded

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uri(s3_server: str, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a finished run, and a machine that has no copy of it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setenv("FAIRSYNTH_CACHE", str(tmp_path_factory.mktemp("cache")))
        address = new_bucket(s3_server).uri("runs/a")
        uploaded(finished_run, address)
        patch.setattr(mirrors, "_MIRRORS", {})
        patch.setattr(place, "_KNOWN", {})
        patch.setenv("FAIRSYNTH_CACHE", str(tmp_path_factory.mktemp("other")))
        yield address


@pytest.fixture(autouse=True)
def unchanged(uri: str) -> Iterator[None]:
    """Nobody here writes to the bucket."""
    before = [entry[:3] for entry in Objects.at(uri).walk()]
    yield
    assert [entry[:3] for entry in Objects.at(uri).walk()] == before


def test_status_and_logs_tell_the_same(uri: str, finished_run: Path) -> None:
    there, here = (json.loads(call("status", out, "--json")[1]) for out in (uri, finished_run))
    for name in ("out", "report"):
        assert there[name] == here[name].replace(str(finished_run), uri.partition("?")[0])
        del there[name], here[name]
    assert there == here and there["state"] == "finished" and there["bench"] is None
    code, out, err = call("status", uri)
    assert (code, err) == (0, "") and f"the report: {uri.partition('?')[0]}/report.html" in out
    assert str(cache_folder()) not in out
    assert call("logs", uri) == call("logs", finished_run) and call("logs", uri, "--follow") == call("logs", uri)


def test_a_run_is_opened_and_read_as_from_a_disk(uri: str, finished_run: Path, tmp_path: Path) -> None:
    there, here = fs.open_run(uri), fs.open_run(finished_run)
    assert f"{there.root}" == uri.partition("?")[0]
    assert repr(there) == f"<Run in {uri.partition('?')[0]}: {here.report.verdict}>"
    assert there.report.content == here.report.content
    assert there.predictions.equals(here.predictions) and there.manifest.equals(here.manifest)
    images = list(there.root.glob("synthetic/images/*/*"))
    assert images == [], "images are fetched when they are read"
    assert [one.file for one in there.synthetic] == [one.file for one in here.synthetic]
    assert there.synthetic[0].path.startswith(f"{uri.partition('?')[0]}/synthetic/images/")
    assert pickle.loads(pickle.dumps(there.synthetic))[1].file == here.synthetic[1].file
    assert [one.file for one in there.real[:3]] == [one.file for one in here.real[:3]]
    assert list(there.adapters) == list(here.adapters)
    for key in there.adapters:
        names = sorted(path.name for path in here.adapters[key].iterdir())
        assert sorted(path.name for path in there.adapters[key].iterdir()) == names
    image = there.synthetic[0].image
    assert there.classifier(image) == here.classifier(image)
    # By hash: what another run laid out in this machine's copy is not taken for this run's.
    changed = next(there.root.glob("synthetic/images/*/*"))
    kept = next(one for one in there.synthetic if one.path.endswith(changed.name))
    changed.write_bytes(b"something else")
    assert kept.file != b"something else" and changed.read_bytes() == kept.file


def test_there_is_no_run_to_open(uri: str) -> None:
    with pytest.raises(ConfigError, match="no run of fairsynth is in s3://"):
        fs.open_run(uri.replace("runs/a", "runs/none"))
    with pytest.raises(ConfigError, match="is s3:// meant"):
        fs.open_run(Path(uri.partition("?")[0]))
    Objects.at(uri.replace("runs/a", "foreign")).write("fairsynth.json", b"[]")
    with pytest.raises(DataError, match=r"fairsynth.json is not fairsynth's"):
        fs.open_run(uri.replace("runs/a", "foreign"))


def test_predict_writes_the_same_table(uri: str, finished_run: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, path in enumerate(sorted(finished_run.glob("synthetic/images/*/*"))[:5]):
        shutil.copyfile(path, pictures / f"{number}{path.suffix}")
    tables = []
    for number, run in enumerate((uri, uri.replace("runs/a", "runs/a/classifier"), str(finished_run))):
        code, _, err = call("predict", pictures, "--run", run, "--to", tmp_path / f"{number}.csv")
        assert (code, err) == (0, ""), err
        tables.append((tmp_path / f"{number}.csv").read_bytes())
    assert tables[0] == tables[1] == tables[2]


def test_export_writes_to_this_machine_what_it_writes_of_a_disk(uri: str, finished_run: Path, tmp_path: Path) -> None:
    for words in (["--format", "kohya"], ["--format", "onnx"]):
        said = refused(call("export", uri, *words))
        assert "is in a bucket, where export writes nothing; give a folder of this machine with --to" in said
    for run, folder in ((uri, "there"), (str(finished_run), "here")):
        code, out, err = call("export", run, "--format", "kohya", "--to", tmp_path / folder)
        assert (code, err) == (0, "") and str(cache_folder()) not in out
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names and sorted(path.name for path in (tmp_path / "there").iterdir()) == names
    for name in names:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_plan_takes_the_speed_of_a_run_in_a_bucket(uri: str, finished_run: Path) -> None:
    plans = []
    for run in (uri, str(finished_run)):
        code, out, err = call("plan", "--preset", "demo", "--out", "nothing-there", "--rates-from", run, "--json")
        assert (code, err) == (0, "") and str(cache_folder()) not in out
        plans.append(out.replace(str(finished_run), uri.partition("?")[0]))
    assert plans[0] == plans[1] and "measured" in plans[0]
