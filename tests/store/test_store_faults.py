"""A store that refuses, throttles, hangs or cuts off: what passes is tried again, what does not is told within seconds."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairsynth.errors import InfrastructureError
from fairsynth.store.objects import Objects
from tests.support.store.fault_proxy import Fate, FaultProxy
from tests.support.store.many import download_all, upload
from tests.support.store.s3_server import KEYS, Bucket

# Fault case 56: a store that refuses, is slow, or fails for a while.
FEW = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SECRET = KEYS["AWS_SECRET_ACCESS_KEY"]


def through(proxy: FaultProxy, bucket: Bucket, patience: float = 30.0) -> Objects:
    return Objects.at(bucket.uri("out", proxy.url), patience)


@pytest.mark.slow
@FEW
@given(seed=st.integers(0, 2**32))
def test_work_through_a_failing_network_is_what_it_is_without(bucket: Bucket, tmp_path: Path, seed: int) -> None:
    proxy = FaultProxy(
        bucket.endpoint, seed, unavailable=0.1, cut_before=0.05, cut_after=0.1, cut_during=0.1, delayed=0.02, delay=0.3
    )
    straight = Objects.at(bucket.uri())
    straight.delete([entry.key for entry in straight.walk()])
    with proxy.running():
        objects = through(proxy, bucket)
        files: dict[str, Path | bytes] = {f"units/{n}/file": os.urandom(1 + 1000 * n) for n in range(12)}
        upload(objects, files)
        assert [e.key for e in objects.walk("units")] == sorted(files)
        back = {key: tmp_path / key for key in files}
        assert download_all(objects, back) == []
        assert {key: path.read_bytes() for key, path in back.items()} == files
        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(lambda who: objects.create("record", b"%d" % who), range(4)))
        assert won.count(True) == 1 and straight.read("record") == b"%d" % won.index(True)
        for n in range(6):
            found = objects.read_versioned("record")
            assert found is not None
            version = objects.swap("record", b"swap %d" % n, found[1])
            assert version is not None and straight.read_versioned("record") == (b"swap %d" % n, version)
        objects.delete([*files, "record"])
    assert list(straight.walk()) == []


@pytest.mark.parametrize("fate", ["cut_after", "cut_before", "cut_during", "unavailable"])
def test_an_answer_that_is_lost_does_not_lose_the_write(bucket: Bucket, fate: Fate) -> None:
    with FaultProxy(bucket.endpoint).running() as proxy:
        objects = through(proxy, bucket)
        proxy.next = [fate]
        assert objects.create("a", b"mine")
        found = objects.read_versioned("a")
        assert found is not None
        proxy.next = [fate]
        version = objects.swap("a", b"second", found[1])
        assert version is not None and objects.read_versioned("a") == (b"second", version)
        proxy.next = [fate]
        assert not objects.create("a", b"other") and objects.swap("a", b"third", found[1]) is None
        assert proxy.happened[fate] == 3


@pytest.mark.slow
def test_a_download_that_breaks_off_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20)
    with FaultProxy(bucket.endpoint).running() as proxy:
        objects = through(proxy, bucket)
        objects.write("large", content)
        proxy.next = ["cut_during"] * 8  # more often than the client itself tries
        assert objects.download("large", tmp_path / "large") and (tmp_path / "large").read_bytes() == content
        assert proxy.happened["cut_during"] == 8


@pytest.mark.slow
def test_an_object_that_changes_while_it_is_fetched_is_fetched_whole(bucket: Bucket, tmp_path: Path) -> None:
    with FaultProxy(bucket.endpoint).running() as proxy:
        objects = through(proxy, bucket)
        objects.write("a", bytes(2**20))
        proxy.next, proxy.delay = ["cut_during"] * 5, 0.5
        with ThreadPoolExecutor(1) as pool:
            fetched = pool.submit(objects.download, "a", tmp_path / "a")
            while proxy.happened["cut_during"] < 5:
                time.sleep(0.01)
            Objects.at(bucket.uri()).write("a", b"\1" * 2**20)
            assert fetched.result()
    assert (tmp_path / "a").read_bytes() in (bytes(2**20), b"\1" * 2**20)


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "AccessDenied", "the right to list, read, write and delete"),
        (403, "InvalidAccessKeyId", "the access key is not known there"),
        (403, "SignatureDoesNotMatch", "the secret key does not fit"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (400, "ExpiredToken", "the access keys have expired"),
        (400, "AuthorizationHeaderMalformed", r"another region.*\?region=NAME"),
        (301, "PermanentRedirect", r"another region.*\?region=NAME"),
        (404, "NoSuchBucket", "there is no such bucket"),
        (405, "MethodNotAllowed", "405 MethodNotAllowed"),
    ],
)
def test_what_is_refused_for_good_is_told_at_once(bucket: Bucket, status: int, code: str, told: str) -> None:
    with FaultProxy(bucket.endpoint, all="refused", answer=(status, code)).running() as proxy:
        objects = through(proxy, bucket, 120)
        uses = (
            lambda: objects.read("a"),
            lambda: objects.write("a", b"1"),
            lambda: objects.create("a", b"1"),
            lambda: objects.swap("a", b"1", '"x"'),
            lambda: objects.names("a"),
            lambda: list(objects.walk("a")),
            lambda: objects.delete(["a"]),
            objects.probe,
        )
        start = time.monotonic()
        for use in uses:
            with pytest.raises(InfrastructureError, match=told) as caught:
                use()
            assert caught.value.exit_code == 5 and "\n" not in str(caught.value) and SECRET not in str(caught.value)
            assert str(caught.value).startswith("cannot ") and f"s3://{bucket.name}/out" in str(caught.value)
        assert time.monotonic() - start < 5


@pytest.mark.slow
def test_a_store_that_stays_away_is_given_up(bucket: Bucket) -> None:
    with FaultProxy(bucket.endpoint).running() as proxy:
        objects = through(proxy, bucket, 2.0)
        objects.write("a", b"1")
        for fate in ("unavailable", "cut_before", "hang"):
            proxy.all = fate  # type: ignore[assignment]
            start = time.monotonic()
            with pytest.raises(InfrastructureError, match="the same command goes on once the store answers") as caught:
                objects.read("a")
            assert time.monotonic() - start < 8 and "tried for" in str(caught.value)
        proxy.all = None
        assert objects.read("a") == b"1"


@pytest.mark.slow
def test_an_address_where_nothing_answers_is_told(bucket: Bucket) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InfrastructureError, match="nothing listens there"):
        Objects.at(bucket.uri("out", nowhere), 1.5).read("a")
    with pytest.raises(InfrastructureError, match="its host name is not known"):
        Objects.at(bucket.uri("out", "http://no-such-host.invalid"), 1.5).read("a")
    uri = bucket.uri().replace("scheme=http&", "")
    with pytest.raises(InfrastructureError, match=r"does not speak https; .*scheme=http"):
        Objects.at(uri, 1.5).read("a")


def test_missing_keys_are_told(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InfrastructureError, match="no access keys were found; give this machine"):
        Objects.at(bucket.uri()).read("a")


@pytest.mark.slow
def test_an_upload_that_fails_leaves_no_parts(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(20 * 2**20))
    listing = f"{bucket.endpoint}/{bucket.name}?uploads"
    with FaultProxy(bucket.endpoint).running() as proxy:
        objects = through(proxy, bucket, 2.0)
        proxy.next = ["pass", "refused"]
        with pytest.raises(InfrastructureError, match="403"):
            objects.write("large", tmp_path / "large")
    deadline = time.monotonic() + 10
    while b"<Upload>" in (there := urllib.request.urlopen(listing, timeout=20).read()):
        assert time.monotonic() < deadline, there
        time.sleep(0.1)
    assert Objects.at(bucket.uri()).read("large") is None


def test_an_upload_whose_parts_are_gone_is_made_again(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(9 * 2**20))
    with FaultProxy(bucket.endpoint, answer=(404, "NoSuchUpload")).running() as proxy:
        proxy.next = ["pass", "pass", "pass", "refused"]  # begun, two parts, completed
        through(proxy, bucket).write("large", tmp_path / "large")
        assert proxy.happened["refused"] == 1
    assert [entry.size for entry in Objects.at(bucket.uri()).walk()] == [9 * 2**20]


def test_objects_that_others_made_with_odd_names_are_told(bucket: Bucket) -> None:
    address = f"{bucket.endpoint}/{bucket.name}/{quote('out/a//b')}"
    urllib.request.urlopen(urllib.request.Request(address, b"1", method="PUT"), timeout=20).close()
    with pytest.raises(InfrastructureError, match=r"names fairsynth does not make.*--out"):
        list(Objects.at(bucket.uri()).walk())


@pytest.mark.slow
def test_the_patience_for_a_download_counts_from_when_it_stood_still(bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(8 * 2**20)
    with FaultProxy(bucket.endpoint).running() as proxy:
        objects = through(proxy, bucket, 2.0)
        Objects.at(bucket.uri()).write("large", content)
        # Each answer comes late, is cut, and brings a half of the rest: longer in all than the patience.
        fates = iter(range(10**6))
        proxy.fate = lambda: "cut_during" if next(fates) < 4 and not time.sleep(1.4) else "pass"  # type: ignore[method-assign]
        start = time.monotonic()
        assert objects.download("large", tmp_path / "large") and (tmp_path / "large").read_bytes() == content
        assert time.monotonic() - start > 4


def test_a_part_that_fails_late_gets_new_attempts(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(20 * 2**20))
    with FaultProxy(bucket.endpoint).running() as proxy:
        proxy.next = ["pass", "pass", *["unavailable"] * 5]  # more often than a small request is tried
        through(proxy, bucket).write("large", tmp_path / "large")
        begun = proxy.happened["pass"]
    assert begun == 5, "begun once, three parts, completed"
    assert Objects.at(bucket.uri()).read("large") == (tmp_path / "large").read_bytes()
