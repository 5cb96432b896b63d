"""doctor: an output in a bucket is tried as a run uses it, from here and from each node."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fairsynth.commands.doctor.bucket import bucket_check
from fairsynth.commands.doctor.node import look, node_checks
from fairsynth.commands.doctor.probe import leave, note, notes, probe_in
from fairsynth.config.load import load_config
from fairsynth.engine.each_node import Answer
from fairsynth.store.address import Address
from fairsynth.store.lease import Lease
from fairsynth.store.objects import Objects
from tests.support.calling import call
from tests.support.store.fault_proxy import FaultProxy
from tests.support.store.s3_server import Bucket

DEMO = load_config(None, "demo")


def test_a_usable_bucket_is_ok_and_nothing_is_left(bucket: Bucket) -> None:
    check = bucket_check(Address.parse(bucket.uri()))
    assert check.status == "ok" and check.found.endswith(f"s3://{bucket.name}/out") and not check.do
    assert list(Objects.at(bucket.uri("")).walk()) == []


def test_a_run_there_is_told(bucket: Bucket) -> None:
    with Lease(Objects.at(bucket.uri())).held():
        check = bucket_check(Address.parse(bucket.uri()))
    assert check.status == "warning" and "is in use by process" in check.found and "--out" in check.do
    assert bucket_check(Address.parse(bucket.uri())).status == "ok"


def test_a_copy_that_cannot_be_written_is_told(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "file" / "below"))
    check = bucket_check(Address.parse(bucket.uri()))
    assert check.status == "failed" and check.found.endswith("file/below: Not a directory")
    assert check.do.startswith("set FAIRSYNTH_CACHE to a folder that can")
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    assert bucket_check(Address.parse(bucket.uri())).status == "ok" and not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("faults", "found", "do"),
    [
        ({"all": "refused"}, "403 AccessDenied", "right to list, read, write and delete"),
        ({"all": "refused", "answer": (404, "NoSuchBucket")}, "there is no such bucket", "make it"),
        ({"conditions": "ignore"}, "has no conditional writes", "use Amazon S3"),
        ({"conditions": "501"}, "has no conditional writes", "use Amazon S3"),
    ],
)
def test_a_bucket_of_no_use_fails_with_what_to_do(
    bucket: Bucket, faults: dict[str, object], found: str, do: str
) -> None:
    with FaultProxy(bucket.endpoint, **faults).running() as proxy:  # type: ignore[arg-type]
        check = bucket_check(Address.parse(bucket.uri("out", proxy.url)))
    assert check.status == "failed" and found in check.found and do in check.do


def test_the_command_takes_an_address_and_refuses_what_is_none(bucket: Bucket) -> None:
    code, stdout, _ = call("doctor", "--no-cluster", "--out", bucket.uri())
    assert code in (0, 5) and "output bucket" in stdout and "disk space" not in stdout
    code, _, stderr = call("doctor", "--no-cluster", "--out", "s3:/bucket/x")
    assert code == 2 and "is s3:// meant" in stderr


def test_nodes_leave_notes_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    address = Address.parse(bucket.uri())
    with probe_in(address) as probe:
        leave(probe, "token", "secret")
        seen = look(DEMO.model_dump(mode="json"), probe, "secret", False)
        assert seen["output"] == "" and len(notes(probe)) == 2 and note(probe, "token") == "secret"
        now = time.time()
        answers = [Answer("node", now, now, seen)]
        checks = {check.name: check for check in node_checks(DEMO, answers, probe)}
        assert checks["output folder on nodes"].status == "ok"
        with FaultProxy(bucket.endpoint, all="denied").running() as proxy:
            denied = look(DEMO.model_dump(mode="json"), probe.replace(bucket.endpoint[7:], proxy.url[7:]), "x", False)
        assert "403 AccessDenied" in denied["output"]
        answers = [Answer("node", now, now, denied)]
        checks = {check.name: check for check in node_checks(DEMO, answers, probe)}
        check = checks["output folder on nodes"]
        assert check.status == "failed" and "rights to the bucket" in check.do
    assert list(Objects.at(bucket.uri("")).walk()) == []
