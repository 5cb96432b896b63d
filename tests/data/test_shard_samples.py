"""Members of a shard that belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.data.metadata import Found
from fairsynth.data.shard_samples import samples_of
from fairsynth.data.storage import Storage
from tests.data.readers.test_webdataset import refusal, sample
from tests.support.data.dataset_files import load, write_tar


@pytest.mark.parametrize("name", ["a.jpg", "a.json", "a.cls"])
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "train.tar", [*sample("a"), ("a.cls", b"x"), *sample("b"), (name, b"y")])
    assert f"train.tar has the member '{name}' twice; keep one" in refusal(tmp_path)


def test_which_of_several_images_is_meant_must_be_said(tmp_path: Path) -> None:
    members = [*sample("a"), ("a.mask.png", b"x"), *sample("b"), ("b.mask.png", b"y")]
    write_tar(tmp_path / "train.tar", members)
    message = refusal(tmp_path)
    assert (
        "train.tar, a has several images: jpg, mask.png; say which is meant: --data.options '{image: jpg}'" in message
    )
    metadata = load(tmp_path, options={"image": "JPG"})
    assert [e.path for e in metadata.entries] == ["train.tar/a.jpg", "train.tar/b.jpg"]
    assert [(a.path, a.reason) for a in metadata.excluded] == [
        (f"train.tar/{key}.mask.png", "other_image") for key in "ab"
    ]
    write_tar(tmp_path / "train.tar", [*members, ("c.png", b"x"), ("c.json", b"{}")])
    assert load(tmp_path, options={"image": "jpg"}).quarantined[0].path == "train.tar/c"


def test_members_of_a_key_come_together(tmp_path: Path) -> None:
    members = [
        ("x/v1.0.JPG", b"i"),
        ("x/v1.0.json", b'{"label": "c", "more": [1]}'),
        ("x/v1.0.cls", b" 3\n"),
        ("x/v1.npy", b"n"),
    ]
    write_tar(tmp_path / "a.tar", [*members, ("y.txt", b"caf\xe9"), (".jpg", b""), ("jpg", b"")])
    found = Found()
    by_last = samples_of(Storage(str(tmp_path)), "a.tar", ("label",), "last dot", found)
    assert [*by_last] == ["x/v1.0", "x/v1", "y"] and found.quarantined == []
    one = by_last["x/v1.0"]
    assert [*one.images] == ["jpg"] and one.images["jpg"][0] == "a.tar/x/v1.0.JPG"
    assert (one.row, one.label, one.others, one.says_nothing) == ({"label": "c", "more": ""}, "3", False, False)
    assert by_last["x/v1"].others and not by_last["x/v1"].says_nothing
    assert by_last["y"].txt == "caf\ufffd" and by_last["y"].says_nothing
    by_first = samples_of(Storage(str(tmp_path)), "a.tar", ("label",), "first dot", found)
    assert [*by_first] == ["x/v1", "y"] and by_first["x/v1"].dotted and [*by_first["x/v1"].images] == ["0.jpg"]
