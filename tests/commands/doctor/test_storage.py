"""doctor: the output folder, the disk and the dataset are refused where a run could not use them."""

from __future__ import annotations

import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest

from fairsynth.commands.doctor import storage
from fairsynth.commands.doctor.check import Check, within
from fairsynth.commands.doctor.storage import dataset_check, output_checks, rough_need, space_check
from fairsynth.config.load import load_config
from fairsynth.lock import locked
from tests.support.datasets import tiny_folder_dataset, unchanged

DEMO = load_config(None, "demo")


def output(root: Path) -> Check:
    (check,) = output_checks(root)
    return check


def test_a_usable_folder_is_ok_and_nothing_is_left_there(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert output(tmp_path / "x").status == "ok" and not list((tmp_path / "x").iterdir())
    check = output(tmp_path / "new" / "deep")
    assert check.status == "ok" and f"made in {tmp_path}" in check.found and not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_not(tmp_path: Path) -> None:
    check = output(Path("/proc/fairsynth"))  # where not even root can make anything
    assert check.status == "failed" and check.found.startswith("/proc: ") and "--out" in check.do
    (tmp_path / "file").write_text("x")
    assert output(tmp_path / "file").status == "failed"
    assert output(Path("/here/s3:/bucket/runs")).do.startswith("give a folder")


def test_a_folder_in_use_is_told(tmp_path: Path) -> None:
    with locked(tmp_path):
        check = output(tmp_path)
    assert check.status == "warning" and "is in use by process" in check.found and check.do


@pytest.mark.parametrize(("share", "status"), [(0.5, "failed"), (1.5, "warning"), (2.5, "ok")])
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, status: str) -> None:
    Usage = namedtuple("Usage", "total used free")
    need = rough_need(DEMO)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * need, 0, share * need))
    check = space_check(DEMO, tmp_path)
    assert check.status == status and f"at {tmp_path}" in check.found and bool(check.do) == (status != "ok")


def test_more_and_larger_images_need_more_room() -> None:
    real = load_config(None, "celeba")
    assert rough_need(real) > 10 * rough_need(DEMO) > 2**27


def test_the_dataset_is_listed_and_read(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data")
    config = load_config(None, None, {"data.root": str(root)})
    with unchanged(root):
        assert dataset_check(config) == Check(
            "dataset", "ok", f"{root} can be listed and read (layout folder, 4 entries at its top)"
        )
    gone = dataset_check(load_config(None, None, {"data.root": str(tmp_path / "no")}))
    assert gone.status == "failed" and "does not exist" in gone.found
    assert dataset_check(DEMO).status == "ok" and dataset_check(load_config()).status == "warning"


def test_a_password_in_an_address_is_not_repeated() -> None:
    check = dataset_check(load_config(None, None, {"data.root": "s3://me:verysecret@bucket/x"}))
    assert check.status == "failed" and "verysecret" not in str(check) and "s3:ListBucket" in check.do


def test_a_store_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(storage, "_read", lambda config: time.sleep(5))
    began = time.monotonic()
    check = dataset_check(load_config(None, None, {"data.root": "s3://bucket/x?region=x&access_key=verysecret"}))
    assert check.status == "failed" and "no answer within 0.2 seconds" in check.found and time.monotonic() - began < 3
    assert "verysecret" not in str(check)


def test_what_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    assert within(5, lambda: 3) == 3
