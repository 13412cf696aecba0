"""S3 that is down, slow, denies, cuts or loses answers: retried within the patience, or a fact with a hint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recovery.catalog import S3Endpoint
from recovery.errors import BadInput, DrError, Failed
from tasks import aws
from tasks.s3_store import S3Store, open_store
from tasks.s3_trouble import Persistence, Place
from tasks.store import AlreadyThere
from tests.hands.faulty_s3 import Faults, faulty_s3

SECRET = "very-secret-indeed"
Scene = tuple[S3Store, Faults]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", SECRET)
    with faulty_s3() as (endpoint, faults):
        yield open_store(endpoint, "bucket", region="eu-central-1", patience_seconds=3), faults


@pytest.mark.parametrize(
    "fault", ["503 SlowDown", "500 InternalError", "503 ServiceUnavailable", "409 OperationAborted"]
)
def test_a_storm_that_passes_is_waited_out(scene: Scene, fault: str) -> None:
    store, faults = scene
    faults.script = [fault] * 4
    store.put("key", b"content")
    faults.script = [fault] * 3
    into = bytearray(7)
    store.read("key", 0, 7, memoryview(into))
    assert bytes(into) == b"content"


def test_an_endless_storm_ends_with_the_patience(scene: Scene) -> None:
    store, faults = scene
    faults.always = "503 SlowDown"
    begun = time.monotonic()
    with pytest.raises(Failed, match="SlowDown") as caught:
        store.put("key", b"content")
    assert time.monotonic() - begun < 10
    assert "bucket" in caught.value.fact
    assert "127.0.0.1" in caught.value.fact


@pytest.mark.parametrize("cut", [["cut"], ["cut", "503 SlowDown", "cut"]])
def test_a_cut_answer_is_asked_again(scene: Scene, cut: list[str]) -> None:
    store, faults = scene
    body = bytes(range(256)) * 40
    store.put("key", body)
    faults.script = list(cut)
    into = bytearray(5000)
    store.read("key", 100, 5000, memoryview(into))
    assert bytes(into) == body[100:5100]
    faults.script = ["cut"]
    assert (store.get("key") or (b"",))[0] == body


def test_a_put_whose_answer_was_lost_is_recognised_as_ours(scene: Scene) -> None:
    store, faults = scene
    faults.script = ["lost"]
    store.put("key", b"content")
    assert len([one for one in faults.seen if one.startswith("PUT")]) >= 2
    with pytest.raises(AlreadyThere):
        store.put("key", b"content")


def test_a_lost_answer_does_not_hide_that_another_was_there(scene: Scene) -> None:
    store, faults = scene
    faults.objects["/bucket/key"] = b"theirs"
    faults.script = ["503 SlowDown"]
    with pytest.raises(AlreadyThere):
        store.put("key", b"ours")


def test_a_replace_whose_answer_was_lost_gives_the_etag(scene: Scene) -> None:
    store, faults = scene
    faults.script = ["lost"]
    etag = store.replace("key", b"content", None)
    assert etag == (store.get("key") or pytest.fail("absent"))[1].etag


@pytest.mark.parametrize("code", ["403 AccessDenied", "403 SignatureDoesNotMatch", "403 InvalidAccessKeyId", "401 X"])
def test_denial_is_bad_input_at_once_and_shows_no_secret(scene: Scene, code: str) -> None:
    store, faults = scene
    faults.always = code
    for act in (lambda: store.put("key", b"x"), lambda: store.read("key", 0, 1, memoryview(bytearray(1)))):
        begun = time.monotonic()
        with pytest.raises(BadInput, match="refused the credentials") as caught:
            act()
        assert time.monotonic() - begun < 2
        assert SECRET not in str(caught.value)
        assert "Signature=" not in str(caught.value)


def test_an_absent_bucket_is_bad_input(scene: Scene) -> None:
    store, faults = scene
    faults.always = "404 NoSuchBucket"
    with pytest.raises(BadInput, match="there is no bucket") as caught:
        store.get("key")
    assert "create the bucket" in caught.value.hint


def test_a_dead_endpoint_is_told_within_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", SECRET)
    nobody = S3Endpoint(endpoint_url="http://127.0.0.1:9", credentials="env:FAULTY")
    store = open_store(nobody, "bucket", region="eu-central-1", patience_seconds=1)
    for act in (lambda: store.put("k", b""), lambda: list(store.list("")), lambda: store.upload("k").part(1, b"")):
        begun = time.monotonic()
        with pytest.raises(Failed, match="did not serve") as caught:
            act()
        assert time.monotonic() - begun < 8
        assert "127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize(("patience", "gone_at"), [(2.0, 0.1), (20.0, 20.0)])
def test_where_there_is_another_place_a_refusal_is_believed_at_its_hour_and_nobody_sleeps_beyond_it(
    monkeypatch: pytest.MonkeyPatch, patience: float, gone_at: float
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + max(seconds, 1e-4)))
    persist = Persistence(place=Place(endpoint="http://127.0.0.1:9", bucket="b"), patience_seconds=patience)

    def refused() -> None:
        raise ConnectionRefusedError(111, "refused")

    for _ in range(20):
        clock[0] = 1000.0
        with pytest.raises(Failed, match="did not serve"):
            persist("reading", refused)
        if patience < 3:
            assert clock[0] - 1000.0 <= gone_at + 0.001
        else:
            assert clock[0] - 1000.0 >= gone_at


def test_credentials_are_found_by_reference_and_wrong_ones_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good").write_text(json.dumps({"access_key_id": "a", "secret_access_key": SECRET}))
    (tmp_path / "bad").write_text(SECRET)
    found = aws.credentials(f"file:{tmp_path / 'good'}")
    assert found.secret_access_key == SECRET
    assert SECRET not in repr(found)
    monkeypatch.delenv("ABSENT_ACCESS_KEY_ID", raising=False)
    for wrong in (f"file:{tmp_path / 'bad'}", f"file:{tmp_path / 'none'}", "env:ABSENT", "vault:x"):
        with pytest.raises(BadInput) as caught:
            aws.credentials(wrong)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("reference", ["profile:no-such-profile"])
def test_a_client_that_cannot_be_made_is_bad_input(reference: str) -> None:
    with pytest.raises(DrError, match="no client"):
        aws.client("s3", S3Endpoint(credentials=reference), region="eu-central-1")


def test_an_endpoint_that_is_no_url_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "good").write_text(json.dumps({"access_key_id": "a", "secret_access_key": "b"}))
    with pytest.raises(BadInput, match="no client"):
        aws.client("s3", S3Endpoint(endpoint_url="not a url", credentials=f"file:{tmp_path}/good"), region="x")


def test_boto3_is_not_imported_before_a_client_is_made() -> None:
    import subprocess
    import sys

    code = "import sys, tasks.s3_store, tasks.aws; sys.exit(any(m in sys.modules for m in ('boto3', 'urllib3')))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
