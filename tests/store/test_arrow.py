"""Buckets by pyarrow: a dataset in one is read through a store that refuses now and then, also by who got it from another."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from fairsynth.data.storage import Storage
from fairsynth.errors import DataError
from fairsynth.store.objects import Objects
from tests.support.data.dataset_files import put
from tests.support.store.fault_proxy import FaultProxy
from tests.support.store.many import upload_folder
from tests.support.store.s3_server import Bucket


@pytest.mark.slow
def test_a_dataset_is_read_from_a_store_that_refuses_now_and_then(tmp_path: Path, bucket: Bucket) -> None:
    for number in range(6):
        put(tmp_path / f"{number}.png", f"image {number}" * 30)
    upload_folder(Objects.at(bucket.uri("images")), tmp_path, "")
    proxy = FaultProxy(bucket.endpoint, seed=1, unavailable=0.4, cut_before=0.05)
    with proxy.running():
        storage = Storage(bucket.uri("images", proxy.url))
        sent = pickle.loads(pickle.dumps(storage))  # as Ray does
        for one in (storage, sent):
            assert [file.path for file in one.files()] == [f"{number}.png" for number in range(6)]
            for number in range(6):
                assert one.open(f"{number}.png").read() == (f"image {number}" * 30).encode()
        assert proxy.happened["unavailable"] > 10
        proxy.all = "denied"
        with pytest.raises(DataError, match=r"cannot read .*3\.png: .*ACCESS_DENIED|403"):
            sent.open("3.png")
