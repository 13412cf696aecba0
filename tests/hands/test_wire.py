"""The light line to a bucket: kept connections that were closed, other regions, and who is left to the SDK."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recovery.catalog import S3Endpoint
from recovery.errors import BadInput, Failed
from tasks import s3_trouble, s3_wire
from tasks.aws_line import Lines
from tasks.s3_store import S3Store, open_store
from tasks.s3_wire import Answered, Wire
from tasks.store import AlreadyThere
from tasks.store_place import StorePlace
from tests.hands.faulty_s3 import Faults, faulty_s3

Scene = tuple[S3Store, Faults, S3Endpoint]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "secret")
    with faulty_s3() as (endpoint, faults):
        yield open_store(endpoint, "bucket", region="eu-central-1", patience_seconds=2), faults, endpoint


def test_a_connection_is_kept_and_one_that_was_closed_meanwhile_is_opened_anew_at_once(scene: Scene) -> None:
    store, faults, _ = scene
    store.put("one", b"1")
    assert (store.get("one") or (b"",))[0] == b"1"
    pool = store._client._lines._pool
    assert pool.num_connections == 1
    pool.pool.put(line := pool.pool.get())
    (kept := line.sock).shutdown(socket.SHUT_RD)
    assert (store.get("one") or (b"",))[0] == b"1"
    assert line.sock is not kept
    assert faults.seen == ["PUT /bucket/one", "GET /bucket/one", "GET /bucket/one"]


def test_a_put_that_was_sent_twice_knows_its_own_object(scene: Scene) -> None:
    store, faults, _ = scene
    store.put("one", b"1")
    faults.script = ["lost"]  # written, and the kept connection closed before the answer
    store.put("two", b"2")
    assert faults.seen[1:3] == ["PUT /bucket/two", "PUT /bucket/two"]
    with pytest.raises(AlreadyThere):
        store.put("two", b"2")


def test_a_server_that_accepts_and_never_answers_is_told_within_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = S3Endpoint(endpoint_url=f"http://127.0.0.1:{mute.getsockname()[1]}", credentials="env:FAULTY")
        store = open_store(endpoint, "bucket", region="eu-central-1", patience_seconds=0.3)
        with pytest.raises(Failed, match="within the patience"):
            store.get("one")


@pytest.mark.parametrize("listens", [False, True])
def test_who_does_not_listen_or_hangs_up_is_told_from_who_is_late_so_that_nobody_waits_for_him(
    monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    import socket

    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def hang_up() -> None:
            for _ in range(2):  # a kept connection may have been closed: it is asked twice
                server.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        if listens:
            thread.start()
        else:
            server.close()
        lines = Lines(f"http://127.0.0.1:{port}", "env:FAULTY", region="r", connect_seconds=2, read_seconds=2)
        with pytest.raises(ConnectionResetError if listens else ConnectionRefusedError) as caught:
            lines.exchange("GET", "key")
        assert type(caught.value).__name__ in s3_trouble._REFUSED
        if listens:
            thread.join(5)


def test_an_object_that_moved_to_another_region_is_followed_by_the_sdk(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, faults, _ = scene
    asked: list[dict[str, Any]] = []

    class Sdk:
        def delete_object(self, **words: Any) -> dict[str, Any]:
            asked.append(words)
            return {}

    monkeypatch.setattr(store._client, "_made", Sdk)
    faults.script = ["301 PermanentRedirect"]
    store.delete("one")
    assert asked == [{"Bucket": "bucket", "Key": "one"}]


def test_what_the_environment_orders_of_the_sdk_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text(json.dumps({"access_key_id": "a", "secret_access_key": "b"}))
    real = S3Endpoint(credentials=f"file:{tmp_path}/keys")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def made(region: str = "eu-central-1") -> Any:
        return s3_wire.client(real, "bucket", region=region, patience_seconds=2)

    assert isinstance(made(), Wire)
    assert not isinstance(made("us-iso-east-1"), Wire)
    for name, value in (
        ("HTTPS_PROXY", "http://proxy:1"),
        ("AWS_ENDPOINT_URL_S3", "http://other"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
    ):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert not isinstance(made(), Wire)


def test_aws_own_address_has_the_bucket_in_the_name_unless_no_certificate_fits(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(json.dumps({"access_key_id": "a", "secret_access_key": "b"}))
    real = S3Endpoint(credentials=f"file:{tmp_path}/keys")
    for bucket, region, host, base in (
        ("plain", "eu-central-1", "plain.s3.eu-central-1.amazonaws.com", ""),
        ("with.dots", "eu-central-1", "s3.eu-central-1.amazonaws.com", "/with.dots"),
        ("plain", "cn-north-1", "plain.s3.cn-north-1.amazonaws.com.cn", ""),
    ):
        lines = Wire(real, bucket, region=region, patience_seconds=2)._lines
        assert (lines._host, lines._base) == (host, base)


def test_an_endpoint_that_is_no_url_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(json.dumps({"access_key_id": "a", "secret_access_key": "b"}))
    with pytest.raises(BadInput, match="no client"):
        open_store(S3Endpoint(endpoint_url="not a url", credentials=f"file:{tmp_path}/keys"), "bucket", region="x")


def test_the_requests_that_it_signs_are_the_sdks_own(tmp_path: Path) -> None:
    """The SDK signs the same requests again, at the same moment: header for header the signature is one."""
    (tmp_path / "keys").write_text(json.dumps({"access_key_id": "AKID", "secret_access_key": "secret/+x"}))
    seen: list[tuple[str, str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            said = b"<ListBucketResult></ListBucketResult>"
            self.send_response(200)
            self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(said)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)

        do_GET = do_PUT = do_DELETE = do_HEAD = _any  # noqa: N815 -- http.server's names

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        endpoint = S3Endpoint(
            endpoint_url=f"http://127.0.0.1:{server.server_port}", credentials=f"file:{tmp_path}/keys"
        )
        store = open_store(endpoint, "bucket", "some/prefix", region="eu-central-1")
        store.put("a b+c=d@e:f/ü~.json", b"content", {"note": "two  words"})
        store.get("key")
        store.head("key")
        store.delete("key")
        list(store.list("a b+c/", "a b+c/ü"))
        server.shutdown()
        thread.join()
    assert len(seen) == 5
    for method, path, headers, body in seen:
        assert headers["authorization"] == _signed_by_the_sdk(method, path, headers, body, endpoint), (method, path)


def _signed_by_the_sdk(method: str, path: str, headers: dict[str, str], body: bytes, endpoint: S3Endpoint) -> str:
    from datetime import datetime
    from unittest.mock import patch

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    sent = {name: headers[name] for name in signed if name not in {"host", "x-amz-date", "x-amz-content-sha256"}}
    request = AWSRequest(method=method, url=f"{endpoint.endpoint_url}{path}", headers=sent, data=body)
    at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")  # noqa: DTZ007 -- the SDK's own reading
    with patch("botocore.auth.get_current_datetime", return_value=at):
        S3SigV4Auth(Credentials("AKID", "secret/+x"), "s3", "eu-central-1").add_auth(request)
    return str(request.headers["Authorization"])


def test_the_addresses_that_it_signs_are_the_sdks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.parse import parse_qsl, urlsplit

    from tasks import aws

    (tmp_path / "keys").write_text(
        json.dumps({"access_key_id": "AKID", "secret_access_key": "secret/+x", "session_token": "to/k+en="})
    )
    endpoint = S3Endpoint(endpoint_url="http://127.0.0.1:9/below", credentials=f"file:{tmp_path}/keys")
    asked = {"Bucket": "bucket", "Key": "some/a b+ü.json"}
    wire: Any = Wire(endpoint, "bucket", region="eu-central-1", patience_seconds=2)
    sdk = aws.client("s3", endpoint, region="eu-central-1")
    for _ in range(10):  # both sign the second in which they are asked, each by a clock of its own
        ours, theirs = (
            urlsplit(each.generate_presigned_url("get_object", Params=asked, ExpiresIn=3600)) for each in (wire, sdk)
        )
        told, wanted = dict(parse_qsl(ours.query)), dict(parse_qsl(theirs.query))
        if told["X-Amz-Date"] == wanted["X-Amz-Date"]:
            break
    assert ours[:3] == theirs[:3]
    assert told == wanted


def test_an_error_is_told_by_its_code(scene: Scene) -> None:
    store, faults, _ = scene
    faults.script = ["500 InternalError"]
    with pytest.raises(Answered, match="InternalError: scripted") as caught:
        store._client.get_object(Bucket="bucket", Key="k")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


class Scripted:
    """A server with one answer to all, over TLS with a certificate of its own where one is given."""

    def __init__(self, answer: bytes, certificate: Path | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                return

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> S3Store:
        self.thread.start()
        endpoint = S3Endpoint(endpoint_url=self.url, credentials="env:FAULTY")
        return open_store(endpoint, "bucket", region="eu-central-1", patience_seconds=0.5)

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_keys_are_listed_as_the_sdk_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 writes a space of a key as '+', and a '+' as %2B (docs.aws.amazon.com, ListObjectsV2, encoding-type)."""
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "secret")
    keys = ("a+b", "a%2Bb", "a%2520b", "%C3%BC")
    told = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    with Scripted(f"<ListBucketResult>{told}</ListBucketResult>".encode()) as store:
        assert [each.key for each in store.list("")] == ["a b", "a+b", "a%20b", "ü"]


def test_an_answer_that_is_no_listing_is_silence_not_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a proxy's page in the place of S3 says it, with 200."""
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "secret")
    with Scripted(b"<html><p>We are back soon</html>") as store, pytest.raises(Failed, match="did not serve"):
        list(store.list(""))


def certificate(folder: Path, *, days: int) -> Path:
    """A certificate for 127.0.0.1 that nobody signed but itself, from yesterday on for so many days, with its key."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(("days", "named", "why"), [(9, False, "self-signed"), (-1, True, "expired"), (9, True, "")])
def test_a_certificate_that_nobody_vouches_for_is_refused_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, named: bool, why: str
) -> None:
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    path = certificate(tmp_path, days=days)
    if named:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    with Scripted(b"content", path) as store:
        if not why:
            assert (store.get("key") or (b"",))[0] == b"content"
            return
        with pytest.raises(Failed, match="certificate") as caught:
            store.get("key")
        assert why in caught.value.fact
        into = bytearray(7)
        with pytest.raises(Failed):
            store.read("key", 0, 7, memoryview(into))
        assert bytes(into) == bytes(7)


def test_credentials_that_the_sdk_cannot_fetch_now_are_a_failure_not_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's role is asked again and again, and sometimes not answered: a leash's question must outlive that."""
    import botocore.session
    from botocore.exceptions import CredentialRetrievalError

    def away(self: object) -> None:
        raise CredentialRetrievalError(provider="iam-role", error_msg="no answer")

    monkeypatch.setattr(botocore.session.Session, "get_credentials", away)
    place = StorePlace(site="witness", bucket="leases", endpoint_url="http://127.0.0.1:9", credentials="default")
    with pytest.raises(Failed, match="no credentials"):
        place.small(0.5).get("key")
