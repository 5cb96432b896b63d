"""WebDataset shards: tars that somebody else made, read by their headers and never unpacked."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from fairsynth.data import tar
from fairsynth.data.location import ImageReader
from fairsynth.data.metadata import SetAside
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError
from tests.support.data.dataset_files import GROUPS, SPLITS, image, load, write_tar
from tests.support.data.layouts import webdataset


def sample(key: str, number: int = 0, **fields: object) -> list[tuple[str, bytes]]:
    """The members of one good sample."""
    label, attribute = GROUPS[number % 4]
    values = {"label": label, "attribute": attribute} | fields
    return [(f"{key}.jpg", image(number)), (f"{key}.json", json.dumps(values).encode())]


def refusal(path: Path, **options: Any) -> str:
    """The message with which the dataset is refused."""
    with pytest.raises(DataError) as caught:
        load(path, format="webdataset", **options)
    return str(caught.value)


def add(path: Path, name: str, member_type: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> None:
    """Append a member of any type to a shard."""
    with tarfile.open(path, "a") as shard:
        header = tarfile.TarInfo(name)
        header.type, header.linkname, header.size = member_type, link, len(content)
        shard.addfile(header, io.BytesIO(content))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_become_entries_with_their_images(tmp_path: Path, form: int) -> None:
    keys = [f"{'deep/' * depth}日本 {i}" for i, depth in enumerate((0, 1, 15 if form == tarfile.USTAR_FORMAT else 60))]
    write_tar(tmp_path / "train-0.tar", [m for i, key in enumerate(keys) for m in sample(key, i)], format=form)
    found = load(tmp_path, format="webdataset").entries
    assert [(e.path, e.split, e.label, e.attribute) for e in found] == [
        (f"train-0.tar/{key}.jpg", "train", *GROUPS[i]) for i, key in enumerate(keys)
    ]
    reader = ImageReader(Storage(str(tmp_path)))
    assert [reader.read(e.path, e.location).content for e in found] == [image(i) for i in range(3)]


def test_members_may_come_in_any_order(tmp_path: Path) -> None:
    members = [m for i in range(8) for m in sample(f"{i}", i)]
    write_tar(tmp_path / "a" / "train.tar", members)
    write_tar(tmp_path / "b" / "train.tar", random.Random(0).sample(members, len(members)))
    one, other = (load(tmp_path / name).entries for name in "ab")
    assert sorted(e[:4] for e in one) == sorted(e[:4] for e in other)


def test_the_split_comes_from_the_json_the_shard_or_its_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0000.tar", [*sample("a"), *sample("b", split="validation"), *sample("c", split=None)])
    write_tar(tmp_path / "test" / "0000.tar", sample("d"))
    assert [(e.path, e.split) for e in load(tmp_path).entries] == [
        ("test/0000.tar/d.jpg", "test"), ("train-0000.tar/a.jpg", "train"), ("train-0000.tar/b.jpg", "val"), ("train-0000.tar/c.jpg", "train")
    ]  # fmt: skip
    write_tar(tmp_path / "train-0000.tar", sample("a", split="holdout"))
    assert "split is 'holdout'; allowed: train" in refusal(tmp_path)
    write_tar(tmp_path / "train-0000.tar", sample("a"))
    assert "the JSON in" in refusal(tmp_path, split_column="part")
    write_tar(tmp_path / "00.tar", sample("a"))
    assert "1 images have no split, the others have one" in refusal(tmp_path)


def test_a_label_may_be_in_cls_or_txt(tmp_path: Path) -> None:
    members = [
        ("a.jpg", image(0)), ("a.cls", b"3\n"), ("a.txt", b"a caption"),
        ("b.jpg", image(1)), ("b.txt", "ein Bär".encode()),
        ("c.jpg", image(2)), ("c.cls", b"3"), ("c.json", b'{"label": 7, "attribute": "x"}'),
        ("d.jpg", image(3)), ("d.seg.txt", b"no"), ("d.cls", b"4"), ("d.seg.cls", b"9"),
    ]  # fmt: skip
    for split in SPLITS:
        write_tar(tmp_path / f"{split}.tar", members)
    found = load(tmp_path, attribute="discover").entries
    assert [e.label for e in found][:4] == ["3", "ein Bär", "7", "4"]
    assert "9 rows have an empty attribute" in refusal(tmp_path)


def test_fields_that_no_sample_has_are_named_with_a_guess(tmp_path: Path) -> None:
    webdataset(tmp_path)
    assert "has no column 'lable' (did you mean 'label'?); it has: label, attribute, width" in refusal(
        tmp_path, label_column="lable"
    )
    write_tar(tmp_path / "train-0000.tar", [*sample("a"), ("b.jpg", image(0)), ("b.json", b'{"attribute": "indoor"}')])
    assert "1 rows have an empty label" in refusal(tmp_path)


def test_samples_without_an_image_and_images_without_use(tmp_path: Path) -> None:
    members = [
        *sample("a"),
        ("b.json", b"{}"),
        ("c.npy", b"x"),
        *sample("d"),
        ("e.json", b'{"label": "x"}'),
    ]
    others = [
        ("README.txt", b"x"),
        ("x/._a.jpg", b"x"),
        (".hidden.jpg", b"x"),
        ("__MACOSX/a.jpg", b"x"),
        ("inner.tar", b"x" * 600),
    ]
    write_tar(tmp_path / "train.tar", members + others)
    metadata = load(tmp_path)
    assert [e.path for e in metadata.entries] == ["train.tar/a.jpg", "train.tar/d.jpg"]
    assert [(a.path, a.reason) for a in metadata.quarantined] == [
        (f"train.tar/{key}", "missing_file") for key in ("c", "e", "inner")
    ]
    assert metadata.remarks == ["2 texts belong to no image and were ignored: train.tar/b, train.tar/README"]


@pytest.mark.parametrize(
    ("name", "member_type", "link"),
    [
        ("x.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ("x.jpg", tarfile.LNKTYPE, "a.jpg"),
        ("x.jpg", tarfile.CHRTYPE, ""),
        ("x.jpg", tarfile.BLKTYPE, ""),
        ("x.jpg", tarfile.FIFOTYPE, ""),
        ("/etc/x.jpg", tarfile.REGTYPE, ""),
        ("../x.jpg", tarfile.REGTYPE, ""),
        ("a/../../x.jpg", tarfile.REGTYPE, ""),
        ("../x.json", tarfile.REGTYPE, ""),
        ("x.json", tarfile.SYMTYPE, "/etc/passwd"),
    ],
)
def test_members_that_are_no_plain_files_inside_are_set_aside(
    tmp_path: Path, name: str, member_type: bytes, link: str
) -> None:
    add(write_tar(tmp_path / "train.tar", sample("a")), name, member_type, link)
    metadata = load(tmp_path)
    assert metadata.quarantined == [SetAside(f"train.tar/{name}", "unsafe_member")]
    assert [e.path for e in metadata.entries] == ["train.tar/a.jpg"]


def test_sparse_members_are_set_aside(tmp_path: Path) -> None:
    with open(tmp_path / "x.jpg", "wb") as handle:
        handle.truncate(1 << 20)
        handle.seek(1 << 19)
        handle.write(b"x")
    for form in ("gnu", "pax"):
        shard = tmp_path / "shards" / "train.tar"
        write_tar(shard, [])
        command = ["tar", "--sparse", "-cf", str(shard), f"--format={form}", "x.jpg"]
        subprocess.run(command, check=True, cwd=tmp_path)
        for name, content in sample("a"):
            add(shard, name, content=content)
        assert [a.reason for a in load(tmp_path / "shards").quarantined] == ["unsafe_member"]


def test_names_that_are_not_utf_8_are_shown_escaped(tmp_path: Path) -> None:
    members = [("caf\udce9.jpg", image(1)), ("caf\udce9.json", b'{"label": "x", "attribute": "p"}')]
    write_tar(tmp_path / "train.tar", members)
    (found,) = load(tmp_path).entries
    assert found.path.startswith("train.tar/caf\\xe9.jpg~") and (found.label, found.attribute) == ("x", "p")
    assert ImageReader(Storage(str(tmp_path))).read(found.path, found.location).content == image(1)


def test_every_cut_of_a_shard_is_refused(tmp_path: Path) -> None:
    content = write_tar(tmp_path / "train.tar", [m for i in range(3) for m in sample(str(i), i)]).read_bytes()
    end = len(content.rstrip(b"\0"))
    end += -end % 512
    for cut in [*range(0, end + 1, 512), *range(100, end, 700), end + 511]:
        (tmp_path / "train.tar").write_bytes(content[:cut])
        assert "train.tar is truncated, damaged or no tar" in refusal(tmp_path)
    (tmp_path / "train.tar").write_bytes(content[: end + 1024])
    assert len(load(tmp_path).entries) == 3


def test_damage_is_refused_or_changes_nothing_but_content(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "train.tar", [m for i in range(3) for m in sample(str(i), i)], format=tarfile.PAX_FORMAT
    )
    content, rng = shard.read_bytes(), random.Random(0)
    for _ in range(300):
        broken = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(content))] = rng.randrange(256)
        shard.write_bytes(broken)
        try:
            found = load(tmp_path, unknown="drop").entries
        except DataError:
            continue
        assert len(found) <= 3


def header(name: str, size: bytes, member_type: bytes = b"0") -> bytes:
    """A tar header with any size field."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[156:157], block[148:156] = size, member_type, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "content",
    [
        header("a.jpg", b"\xff" * 12) + bytes(1024),
        header("a.jpg", b"0" * 11 + b"\0") + header("b.jpg", b"\xff" * 10 + b"\xfe\0") + bytes(1024),
        header("a.jpg", b"\xff" * 10 + b"\xfa\x00") + bytes(1024),
        header("a.jpg", b"\x80" + b"\x7f" * 11) + bytes(1024),
        header("././@LongLink", b"\xff" * 12, b"L") + bytes(1024),
        header("././@LongLink", b"\x80" + bytes(5) + b"\x7f" * 6, b"L") + bytes(1024),
        header("x", b"\xff" * 12, b"x") + bytes(1024),
        (header("x", b"%011o\0" % 512, b"x") + b"12 size=-512\n".ljust(512, b"\0")) + header("a.jpg", b"0" * 11 + b"\0") + bytes(1024),
        header("././@LongLink", b"%011o\0" % 512, b"L") * 5000 + bytes(1024),
        (header("x", b"%011o\0" % 512, b"x") + b"9 path=x\n".ljust(512, b"\0")) * 5000 + bytes(1024),
        header("a.jpg", b"0" * 11 + b"\0", b"S")[:482] + b"\1" + header("a.jpg", b"0" * 12)[483:] + bytes(1024),
    ],
)  # fmt: skip
def test_headers_made_to_do_harm_are_refused_quickly(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.tar").write_bytes(content)
    start = time.perf_counter()
    refusal(tmp_path)
    assert time.perf_counter() - start < 5


def test_a_tar_that_goes_on_after_its_end_is_refused(tmp_path: Path) -> None:
    one = write_tar(tmp_path / "train.tar", sample("a")).read_bytes()
    (tmp_path / "train.tar").write_bytes(one + one)
    assert "no end mark at byte" in refusal(tmp_path)


def test_compressed_shards_are_refused(tmp_path: Path) -> None:
    content = write_tar(tmp_path / "train.tar", sample("a")).read_bytes()
    (tmp_path / "train.tar").write_bytes(gzip.compress(content))
    assert "train.tar is compressed; unpack it, or make plain .tar shards of it" in refusal(tmp_path)
    (tmp_path / "train.tar").rename(tmp_path / "train.tar.gz")
    assert "train.tar.gz is compressed" in refusal(tmp_path)


def test_texts_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, expected in (
        (b'{"label": "' + b"x" * (1 << 20) + b'"}', "has 1048589 bytes; at most 1048576 are read"),
        (b"{", "train.tar, a.json: not valid JSON"),
        (b"[" * 100_000, "train.tar, a.json: not valid JSON"),
        (b"[]", "train.tar, a.json: must be an object"),
        (b"\xff", "a.json is not UTF-8"),
    ):
        write_tar(tmp_path / "train.tar", [("a.jpg", image(0)), ("a.json", content)])
        assert expected in refusal(tmp_path)
    write_tar(tmp_path / "train.tar", [m for i in range(3) for m in sample(str(i))])
    assert tar.MAX_MEMBERS >= 405_000, "CelebA in one file: an image and a text each"
    monkeypatch.setattr(tar, "MAX_MEMBERS", 6)
    assert len(load(tmp_path).entries) == 3
    monkeypatch.setattr(tar, "MAX_MEMBERS", 5)
    assert "more than 5 members" in refusal(tmp_path)


def test_headers_do_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, following = [], tarfile.TarFile.next

    def watched(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        kept.append(len(self.members))  # type: ignore[attr-defined]
        return following(self)

    webdataset(tmp_path)
    monkeypatch.setattr(tarfile.TarFile, "next", watched)
    load(tmp_path)
    assert len(kept) > 48 and max(kept) <= 1


def test_reading_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    webdataset(tmp_path / "shards")
    monkeypatch.setattr(tarfile.TarFile, "extract", None)
    monkeypatch.setattr(tarfile.TarFile, "extractall", None)
    monkeypatch.setattr(tarfile.TarFile, "extractfile", None)
    assert len(load(tmp_path / "shards").entries) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
