"""Addresses of outputs: those that are taken, those that are refused, and that no secret in one is repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.fs as fs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.errors import ConfigError
from fairsynth.store.address import Address, is_bucket
from fairsynth.store.client import client, region
from fairsynth.store.objects import Objects
from tests.support.store.s3_server import Bucket

SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    ("text", "bucket", "prefix", "uri"),
    [
        ("s3://bucket", "bucket", "", "s3://bucket"),
        ("s3://bucket/", "bucket", "", "s3://bucket"),
        ("gs://my_bucket.x/a/b-1=2/", "my_bucket.x", "a/b-1=2", "gs://my_bucket.x/a/b-1=2"),
        ("s3://bucket/x?", "bucket", "x", "s3://bucket/x"),
        (
            "s3://bucket/x?region=eu-west-1&endpoint_override=http%3A%2F%2Fhost%3A9000&allow_bucket_creation=true",
            "bucket",
            "x",
            "s3://bucket/x?region=eu-west-1&endpoint_override=http://host:9000&allow_bucket_creation=true",
        ),
    ],
)
def test_addresses_that_are_taken(text: str, bucket: str, prefix: str, uri: str) -> None:
    address = Address.parse(text)
    assert is_bucket(text) and (address.bucket, address.prefix, address.uri) == (bucket, prefix, uri)
    assert Address.parse(address.uri) == address and str(address) == uri.partition("?")[0]
    assert Address.parse(address.below("ray/tune").uri).prefix == "/".join(filter(None, (prefix, "ray/tune")))


@pytest.mark.parametrize("path", ["runs/x", "/a/b:c", "./s3:/x", "~/out", "s3", "s3/x", "a b", "out?x", "x@y", ""])
def test_a_path_is_a_folder(path: str) -> None:
    assert not is_bucket(path)
    with pytest.raises(ConfigError, match="is a folder, not a bucket's address"):
        Address.parse(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3:/bucket/x", "is s3:// meant"),
        ("S3://bucket/x", "is s3:// meant"),
        ("s3:bucket/x", "is s3:// meant"),
        ("s3//bucket/x", "is s3:// meant"),
        ("GS://bucket", "is gs:// meant"),
        ("s3a://bucket/x", "give s3://BUCKET/PREFIX"),
        ("az://bucket/x", "give s3://BUCKET/PREFIX"),
        ("http://host/x", "give s3://BUCKET/PREFIX"),
        ("file:///x", "give s3://BUCKET/PREFIX"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("s3://b", "has no bucket's name"),
        ("s3://a..b/x", "has no bucket's name"),
        ("s3://bücket/x", "has no bucket's name"),
        ("s3://bucket//x", "has a part that is empty"),
        ("s3://bucket/x//", "has a part that is empty"),
        ("s3://bucket/../x", "has a part that is empty"),
        ("s3://bucket/./x", "has a part that is empty"),
        ("s3://bucket/a b", "has a part that is empty"),
        ("s3://bucket/a%20b", "has a part that is empty"),
        ("s3://bucket/a#b", "has a part that is empty"),
        ("s3://bucket/a\nb", "has a part that is empty"),
        ("s3://bucket/x?foo", "not of the form"),
        ("s3://bucket/x?reggion=a", "unknown option reggion; allowed: endpoint_override, scheme, region"),
        ("gs://bucket/x?region=a", "unknown option region; allowed: endpoint_override, scheme, project_id"),
        ("s3://bucket/x?region=", "option region has no value"),
        ("s3://bucket/x?region=a&region=b", "an option twice"),
        ("s3://bucket/x?scheme=ftp", "neither http nor https"),
        ("s3://bucket/x?endpoint_override=ftp://host", "not HOST:PORT"),
        ("s3://bucket/x?" + "&".join(f"a{n}=1" for n in range(99)), "not of the form"),
    ],
)
def test_addresses_that_are_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        Address.parse(text)
    assert caught.value.exit_code == 2 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        f"s3://key:{SECRET}@bucket/x",
        f"s3://key:{SECRET}/more@bucket/x",
        f"s3://{SECRET}@bucket/x",
        f"s3://key:{SECRET}/bucket",
        f"s3:/key:{SECRET}@bucket/x",
        f"s3:key:{SECRET}@bucket/x",
        f"S3://key:{SECRET}/bucket",
        f"http://user:{SECRET}@host/bucket",
        f"s3://bucket/x?secret_key={SECRET}",
        f"s3://bucket/x?access_key=AKIAIOSFODNN7EXAMPLE&secret_key={SECRET}",
        f"s3://bucket/x?{SECRET}=1",
        f"s3://bucket/x?endpoint_override=http://user:{SECRET}@host",
        f"s3://bucket/x?endpoint_override=http%3A%2F%2Fuser%3A{SECRET}%40host",
        f"s3://bucket/x?region={SECRET}@",
        f"s3:/bucket/x?secret_key={SECRET}",
        f"s3://bucket//x?secret_key={SECRET}",
    ],
)
def test_no_secret_is_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Address.parse(text)
    assert SECRET not in str(caught.value) and "AKIA" not in str(caught.value)


def test_an_endpoint_with_a_password_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET}@host")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL") as caught:
        Objects.at("s3://bucket/x").read("a")
    assert SECRET not in str(caught.value)


@settings(max_examples=60)
@given(st.text(max_size=60), st.sampled_from(["", "s3://", "gs://", "s3://bucket/", "s3://bucket/x?"]))
def test_any_text_is_an_address_or_a_folder_or_refused(text: str, start: str) -> None:
    try:
        if is_bucket(start + text):
            address = Address.parse(start + text)
            assert Address.parse(address.uri) == address
    except ConfigError as error:
        assert str(error).isprintable()


def test_pyarrow_finds_the_same_objects_by_the_same_address(bucket: Bucket) -> None:
    objects = Objects.at(bucket.uri("runs/one"))
    objects.write("a", b"1")
    filesystem, base = fs.FileSystem.from_uri(objects.uri)
    with filesystem.open_input_stream(f"{base}/a") as file:
        assert file.read() == b"1"
    with filesystem.open_output_stream(f"{base}/ray/b") as file:
        file.write(b"2")
    assert objects.read("ray/b") == b"2"


def test_where_the_service_is(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    Objects.at(bucket.uri()).write("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    assert Objects.at(f"s3://{bucket.name}/out").read("a") == b"1"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert Objects.at(bucket.uri()).read("a") == b"1"  # the address goes before the environment


def test_keys_and_region_come_from_a_profile(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = no\n[lab]\naws_access_key_id = yes\naws_secret_access_key = s\n", "utf-8"
    )
    (tmp_path / "config").write_text("[profile lab]\nregion = eu-north-1\n", "utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    plain = Address.parse("s3://bucket/x")
    assert "access_key_id" not in client(plain, 9).config  # those of the environment are used
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    config = client(plain, 9).config
    assert (config["access_key_id"], config["region"]) == ("yes", "eu-north-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert region(plain, {"region": "eu-north-1"}) == "us-west-2"
    assert region(Address.parse("s3://bucket/x?region=ap-south-1"), {}) == "ap-south-1"
    (tmp_path / "credentials").write_text("no table", "utf-8")
    assert "access_key_id" not in client(plain, 9).config


def test_help_knows_nothing_of_stores() -> None:
    code = "import sys; from fairsynth.cli import app; import fairsynth.store.address; print('obstore' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
