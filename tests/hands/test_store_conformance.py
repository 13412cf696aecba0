"""Every store keeps the port's contract; what a backend's server does not keep is said in data and skipped aloud."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from recovery.errors import Failed
from tasks.dir_store import DirStore
from tasks.s3_store import S3Store
from tasks.s3_wire import LARGE_BYTES, Answered
from tasks.store import AlreadyThere, Changed
from tests.hands.store_backends import PROMISES, stores

Any = DirStore | S3Store


@pytest.fixture(scope="module", params=list(PROMISES))
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    with stores(request.param, tmp_path_factory.mktemp(request.param)) as store:
        yield request.param, store


@pytest.fixture
def store(backend: tuple[str, Any]) -> Any:
    return backend[1]


@pytest.fixture
def key() -> str:
    return f"folder-{os.urandom(4).hex()}/name"


def test_what_was_put_is_got_with_its_head(store: Any, key: str) -> None:
    store.put(key, b"content", {"sha256": "abc", "Size": "7"})
    body, head = store.get(key) or (b"", None)
    assert body == b"content"
    assert head is not None
    assert (head.key, head.size_bytes, dict(head.metadata)) == (key, 7, {"sha256": "abc", "size": "7"})
    assert store.head(key) == head


def test_a_key_is_listed_as_it_was_put(store: Any, key: str) -> None:
    names = [f"{key}/{name}" for name in ("a b", "a%20b", "a+b", "a=b", "ü~")]
    for name in names:
        store.put(name, b"content")
    assert [each.key for each in store.list(f"{key}/")] == names
    assert [each.key for each in store.list(f"{key}/a+")] == names[2:3]


def test_absence_is_none_and_never_an_error(store: Any, key: str) -> None:
    assert store.get(key) is None
    assert store.head(key) is None
    assert list(store.list(key)) == []
    store.delete(key)


def test_putting_twice_is_refused_even_with_the_same_content(store: Any, key: str) -> None:
    store.put(key, b"one")
    for body in (b"one", b"two"):
        with pytest.raises(AlreadyThere):
            store.put(key, body)
    assert (store.get(key) or (b"",))[0] == b"one"


def test_of_many_writers_at_once_exactly_one_creates(store: Any, key: str) -> None:
    def create(number: int) -> str:
        try:
            store.put(key, str(number).encode())
        except AlreadyThere:
            return ""
        return str(number)

    with ThreadPoolExecutor(8) as pool:
        created = [one for one in pool.map(create, range(8)) if one]
    assert [(store.get(key) or (b"",))[0].decode()] == created


def test_replace_compares_and_gives_the_next_etag(store: Any, key: str) -> None:
    first = store.replace(key, b"1", None)
    second = store.replace(key, b"2", first)
    for stale in (None, first):
        with pytest.raises(Changed):
            store.replace(key, b"3", stale)
    assert (store.get(key) or (b"",))[0] == b"2"
    assert (store.head(key) or pytest.fail("absent")).etag == second


def test_replace_of_an_absent_object_is_refused_when_an_etag_is_expected(store: Any, key: str) -> None:
    etag = store.replace(key, b"1", None)
    store.delete(key)
    with pytest.raises(Changed):
        store.replace(key, b"2", etag)


def test_lists_are_in_key_order_below_the_prefix_and_behind_after(backend: tuple[str, Any], key: str) -> None:
    name, store = backend
    names = ["a/b", "a/c/d", "a0", "ab", "b"]
    names += ["a-b"] if PROMISES[name].orders_across_folders else []
    for name in names:
        store.put(f"{key}/{name}", b"x")
    listed = [one.key.removeprefix(f"{key}/") for one in store.list(f"{key}/")]
    assert listed == sorted(names)
    assert [one.key for one in store.list(f"{key}/a/")] == [f"{key}/a/b", f"{key}/a/c/d"]
    assert [one.key for one in store.list(f"{key}/", f"{key}/a0")] == [f"{key}/ab", f"{key}/b"]


def test_deleted_is_gone_and_can_be_put_again(store: Any, key: str) -> None:
    store.put(key, b"1", {"a": "b"})
    store.delete(key)
    assert store.get(key) is None
    store.put(key, b"2")
    assert (store.head(key) or pytest.fail("absent")).metadata == {}


def test_ranges_fill_exactly_the_buffer_from_many_threads(store: Any, key: str) -> None:
    body = os.urandom(300_000)
    store.put(key, body)

    def read(begin: int) -> bool:
        into = bytearray(10_000)
        store.read(key, begin, 5_000, memoryview(into))
        return bytes(into[:5_000]) == body[begin : begin + 5_000] and not any(into[5_000:])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(0, 295_001, 29_500)))


def test_a_range_beyond_the_end_fails_with_a_hint(store: Any, key: str) -> None:
    store.put(key, b"0123456789")
    for begin in (5, 10, 500):
        with pytest.raises(Failed, match="shorter") as caught:
            store.read(key, begin, 8, memoryview(bytearray(8)))
        assert caught.value.hint


def test_a_range_of_an_absent_object_fails(store: Any, key: str) -> None:
    with pytest.raises(Failed, match="absent"):
        store.read(key, 0, 8, memoryview(bytearray(8)))


def test_an_upload_is_invisible_until_complete_and_whole_then(store: Any, key: str) -> None:
    parts = [os.urandom(5 * 1024 * 1024), os.urandom(5 * 1024 * 1024), b"end"]
    upload = store.upload(key)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(upload.part, (3, 1, 2), (parts[2], parts[0], parts[1])))
    assert store.head(key) is None
    assert [one[0] for one in store.uploads(key)] == [key]
    upload.complete()
    assert (store.get(key) or (b"",))[0] == b"".join(parts)
    assert list(store.uploads(key)) == []
    upload.abort()
    assert store.head(key) is not None


def test_an_upload_onto_an_existing_object_is_refused_and_leaves_it(store: Any, key: str) -> None:
    store.put(key, b"first")
    upload = store.upload(key)
    upload.part(1, b"second")
    with pytest.raises(AlreadyThere):
        upload.complete()
    upload.abort()
    assert (store.get(key) or (b"",))[0] == b"first"
    assert list(store.uploads(key)) == []


def test_an_aborted_or_forgotten_upload_leaves_nothing(store: Any, key: str) -> None:
    upload = store.upload(key)
    upload.part(1, b"x" * 1000)
    upload.abort()
    upload.abort()
    other = store.upload(key)
    other.part(1, b"y" * 1000)
    for name, upload_id, begun in store.uploads(key):
        assert begun.tzinfo is not None
        store.forget_upload(name, upload_id)
        store.forget_upload(name, upload_id)
    assert list(store.uploads(key)) == []
    assert store.head(key) is None


def test_a_damaged_body_is_refused_by_a_server_that_checks(backend: tuple[str, Any], key: str) -> None:
    name, store = backend
    if not PROMISES[name].refuses_wrong_checksum:
        pytest.skip(f"{name} does not compare checksums")
    assert isinstance(store, S3Store)
    from botocore.exceptions import ClientError

    told = {**store._body(key, b"content"), "Body": b"contenu"}
    with pytest.raises(Answered, match=r"BadDigest|Checksum"):
        store._client.put_object(**told)
    large = {**store._body(key, bytes(LARGE_BYTES)), "Body": bytes(LARGE_BYTES - 1) + b"x"}
    assert large["ChecksumAlgorithm"] == "CRC64NVME"
    with pytest.raises(Answered, match=r"BadDigest|Checksum"):
        store._client.put_object(**large)
    assert store.head(key) is None
    made = store._client.create_multipart_upload(
        Bucket=store._bucket, Key=f"damaged/{key}", ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
    )
    where = {"Bucket": store._bucket, "Key": f"damaged/{key}", "UploadId": made["UploadId"]}
    with pytest.raises(ClientError, match=r"BadDigest|Checksum"):
        store._client.upload_part(**where, PartNumber=1, Body=b"contenu", ChecksumCRC64NVME="AAAAAAAAAAA=")
    store._client.abort_multipart_upload(**where)
