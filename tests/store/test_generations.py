"""gs://: the same objects and leases, where a version is a generation's number."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fairsynth.errors import OutputLockedError, TakenOverError
from fairsynth.store.lease import KEY, Lease
from fairsynth.store.objects import Objects
from fairsynth.store.tenant import Tenant
from tests.support.store.generations import ENVIRONMENT, generations
from tests.support.store.many import upload


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with generations() as uri:
        yield Objects.at(uri)


def test_what_is_written_is_read_listed_and_deleted(objects: Objects) -> None:
    keys = [f"units/{n}/a #%+?ü{n}" for n in range(30)]
    upload(objects, {key: key.encode() for key in keys})
    assert all(objects.read(key) == key.encode() for key in keys) and objects.read("a") is None
    assert objects.folders("units") == sorted(f"units/{n}" for n in range(30)) and objects.names("units") == []
    assert [entry.key for entry in objects.walk()] == sorted(keys)
    objects.delete([*keys, "not there", "nor this"])
    assert list(objects.walk()) == []


def test_of_many_who_create_one_wins_and_no_swap_is_lost(objects: Objects) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda who: objects.create("a", b"%d" % who), range(8)))
    assert won.count(True) == 1 and objects.read("a") == b"%d" % won.index(True)
    found = objects.read_versioned("a")
    assert found is not None and found[1].isdigit()
    after = objects.swap("a", b"second", found[1])
    assert after is not None and objects.swap("a", b"third", found[1]) is None
    assert objects.read_versioned("a") == (b"second", after)
    assert objects.swap("b", b"1", "5") is None


def test_one_run_at_a_time(objects: Objects) -> None:
    with Lease(objects, seconds=1).held() as lease:
        with pytest.raises(OutputLockedError, match="is in use by process"), Lease(objects).held():
            pytest.fail("two runs in one output")
        lease.fence.check()
        objects.write(KEY, Tenant("other", 1, "there", 0.0, "", 0, 2, 0, 9.0).content())
        time.sleep(0.2)
        with pytest.raises(TakenOverError):
            lease.fence.check()
