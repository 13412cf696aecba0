"""Where each member of a tar stream lies, found while the stream flows by; small members of interest are kept.

Separate because it is pure bookkeeping over bytes: packing uses it to build the index, tests feed it torn streams.
Knows what Postgres writes (src/port/tar.c: ustar headers, no long-name extensions) and refuses anything else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from recovery.errors import Failed

BLOCK = 512


class Member(NamedTuple):
    """A member of the tar: where its content begins in the raw stream. `kind` f file, d folder, l symbolic link."""

    name: str
    kind: Literal["f", "d", "l"]
    mode: int
    size_bytes: int
    begin: int
    target: str = ""


_KINDS: dict[bytes, Literal["f", "d", "l"]] = {b"0": "f", b"\0": "f", b"5": "d", b"2": "l"}


@dataclass(slots=True)
class TarIndex:
    """Feed it the stream in pieces of any size; `members` grows, `kept` holds the content of wanted members."""

    wanted: Collection[str]
    members: list[Member]
    kept: dict[str, bytearray]
    position: int = 0
    ended: bool = False
    _next_header: int = 0
    _torn: bytearray | None = None

    def feed(self, piece: memoryview | bytes) -> None:
        """Take the next piece. Raises Failed when it is not a tar that Postgres would write."""
        view, begin = memoryview(piece), self.position
        end = begin + len(view)
        self._keep(view, begin)
        while not self.ended and self._next_header < end:
            torn = self._torn
            if torn is None and self._next_header + BLOCK <= end:
                at = self._next_header - begin
                header = bytes(view[at : at + BLOCK])
            else:
                torn = self._torn = bytearray() if torn is None else torn
                at = self._next_header + len(torn) - begin
                torn += view[at : at + BLOCK - len(torn)]
                if len(torn) < BLOCK:
                    break
                header, self._torn = bytes(torn), None
            self._header(header)
            if self.members:
                self._keep(view, begin, only=self.members[-1])
        self.position = end

    def _keep(self, view: memoryview, begin: int, only: Member | None = None) -> None:
        """Copy what of the piece belongs to a wanted member."""
        for member in (only,) if only else self.members[-1:]:
            if member.name in self.wanted and member.kind == "f":
                kept = self.kept.setdefault(member.name, bytearray())
                at = member.begin + len(kept) - begin
                if 0 <= at < len(view) and len(kept) < member.size_bytes:
                    kept += view[at : at + member.size_bytes - len(kept)]

    def _header(self, header: bytes) -> None:
        at = self._next_header
        if not any(header):
            self.ended = True
            return
        if sum(header[:148]) + 8 * 32 + sum(header[156:]) != _octal(header[148:156], otherwise=-1):
            raise Failed(
                f"the stream of pg_basebackup is no tar at byte {at}",
                hint="see that bin_dir holds the tools of this server's version",
            )
        kind = _KINDS.get(header[156:157])
        name = _text(header[0:100])
        if prefix := _text(header[345:500]):
            name = f"{prefix}/{name}"
        if kind is None:
            raise Failed(
                f"the tar of pg_basebackup holds {name} of the unknown type {header[156:157]!r}",
                hint="remove the special file from the data directory",
            )
        size = _octal(header[124:136]) if kind == "f" else 0
        begin = at + BLOCK
        self.members.append(
            Member(name.rstrip("/"), kind, _octal(header[100:108]) & 0o7777, size, begin, _text(header[157:257]))
        )
        self._next_header = begin + -(-size // BLOCK) * BLOCK


def tar_index(*wanted: str) -> TarIndex:
    """A fresh index that keeps the content of these members."""
    return TarIndex(wanted=frozenset(wanted), members=[], kept={})


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _octal(field: bytes, *, otherwise: int = 0) -> int:
    if field[0] & 0x80:  # base 256, for sizes from 8 GiB
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    digits = field.strip(b"\0 ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else otherwise
