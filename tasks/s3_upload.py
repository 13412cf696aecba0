"""One large object in the making, as a multipart upload with a checksum for each part and for the whole.

Separate because an upload has a life of its own: parts from several threads, then exactly one end.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Mapping
from typing import Any

from recovery.errors import Failed
from tasks.s3_trouble import Persistence
from tasks.store import AlreadyThere, Stored


class S3Upload:
    """See tasks.store.Upload. The server is told the CRC64NVME of each part, and refuses a damaged one."""

    def __init__(
        self,
        client: Any,
        *,
        bucket: str,
        key: str,
        name: str,
        persist: Persistence,
        head: Callable[[str], Stored | None],
    ) -> None:
        self._client, self._bucket, self._key, self._name = client, bucket, key, name
        self._persist, self._head = persist, head
        self._parts: dict[int, tuple[str, str, int]] = {}
        self._lock = threading.Lock()
        self._ended = False
        self._id: str | None = None

    def part(self, number: int, body: bytes | memoryview) -> None:
        """See Upload.part."""
        from awscrt.checksums import crc64nvme

        view = memoryview(body)
        checksum = base64.b64encode(crc64nvme(view).to_bytes(8, "big")).decode()
        upload_id = self._begun()

        def act() -> None:
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                PartNumber=number,
                Body=_Body(view),
                ChecksumCRC64NVME=checksum,
            )
            with self._lock:
                self._parts[number] = (str(answer["ETag"]), checksum, len(view))

        self._settled(self._persist(f"uploading part {number} of {self._name}", act))

    def complete(self, metadata: Mapping[str, str] | None = None) -> None:
        """See Upload.complete. S3 takes metadata when an upload begins; here they may only be empty."""
        if metadata:
            raise ValueError("an S3 upload takes no metadata at its end; put them into a small object beside it")
        if not self._parts:
            self.part(1, b"")
        upload_id = self._begun()
        parts = [
            {"PartNumber": number, "ETag": etag, "ChecksumCRC64NVME": checksum}
            for number, (etag, checksum, _) in sorted(self._parts.items())
        ]

        def act() -> None:
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                IfNoneMatch="*",
            )

        match self._persist(f"completing {self._name}", act):
            case None:
                self._ended = True
            case ("absent", _) | (_, True) if self._is_ours():
                self._ended = True
            case ("exists" | "conflict", _):
                raise AlreadyThere(self._name)
            case outcome:
                self._settled(outcome)

    def abort(self) -> None:
        """See Upload.abort."""
        if self._ended or self._id is None:
            return
        upload_id = self._id
        self._persist(
            f"forgetting the upload of {self._name}",
            lambda: self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=upload_id),
        )
        self._ended = True

    def _begun(self) -> str:
        with self._lock:
            if self._id is not None:
                return self._id
            made: list[str] = []

            def act() -> None:
                answer = self._client.create_multipart_upload(
                    Bucket=self._bucket, Key=self._key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
                )
                made.append(str(answer["UploadId"]))

            self._settled(self._persist(f"beginning the upload of {self._name}", act))
            self._id = made[-1]
            return self._id

    def _is_ours(self) -> bool:
        """After a lost answer: the object is there with exactly our length."""
        found = self._head(self._name)
        return found is not None and found.size_bytes == sum(size for _, _, size in self._parts.values())

    def _settled(self, outcome: object) -> None:
        if outcome is not None:
            raise Failed(
                f"the upload of {self._name} was ended by someone else",
                hint="see whether a clean-up of unfinished uploads ran meanwhile, then run it again",
            )


class _Body(io.RawIOBase):
    """A view as a file for boto3, which would copy a part (tens of MiB) and send it in pieces of 16 KiB."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def read(self, size: int = -1) -> Any:
        """At least a mebibyte at once, whatever was asked: the sender takes what it gets."""
        if size < 0:
            size = len(self._view)
        piece = self._view[self._at : self._at + max(size, 1 << 20)]
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See io.IOBase.seek."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        return self._at

    def tell(self) -> int:
        """See io.IOBase.tell."""
        return self._at

    def seekable(self) -> bool:
        """It is: a part is sent again from its beginning."""
        return True

    def readable(self) -> bool:
        """It is."""
        return True
