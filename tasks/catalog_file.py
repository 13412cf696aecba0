"""Reads the catalog's file and tells everything that is wrong with it at once, each with line, fact and hint.

Separate from recovery/catalog.py because files and positions are the world's. A catalog with wrong values still has its
contradictions told: wrong values are replaced by stand-ins, and what rests on a stand-in is left out.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path as File
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from recovery.catalog import Catalog
from recovery.contradictions import Contradiction, contradictions
from recovery.errors import BadInput
from tasks.yaml_positions import Document, Path, Problem, read

_STAND_INS: tuple[JsonValue, ...] = (
    "1 h", "50 %", "1 GB", "1 MB/s", "1 Gbps", "1 requests/s", "x", 1, True, [], {},
)  # fmt: skip
_SIZE_LIMIT_BYTES = 1_000_000
_REFERENCES = frozenset({"credentials", "encryption", "notify"})
"""Fields whose text refers to a secret that lies elsewhere."""


class CatalogWrong(BadInput):
    """A catalog with problems; `problems` in the order of the file."""

    def __init__(self, file: File, problems: Sequence[Problem]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        lines = (f"  {file}:{each.at.line}:{each.at.column}: {each.fact}; {each.hint}" for each in problems)
        super().__init__("\n".join((f"the catalog has {count}", *lines)), hint="mend the file and run `dr check` again")
        self.file = file
        self.problems = tuple(problems)


def load(file: File) -> Catalog:
    """The catalog of a file. Raises CatalogWrong with all its problems, BadInput when there is no readable file.

    References to files (`file:PATH`) that are relative count from the catalog's folder, the home, whoever reads them
    and from wherever.
    """
    document = read(_text(file))
    catalog, problems = judge(document)
    if problems or catalog is None:
        raise CatalogWrong(file, problems)
    anchored: Catalog = _anchored(catalog, file.absolute().parent)
    return anchored


def _anchored(value: Any, home: File, *, reference: bool = False) -> Any:
    """The value with every relative `file:PATH` of a field that holds references made absolute."""
    match value:
        case str() if reference and value.startswith("file:"):
            return f"file:{home / value.removeprefix('file:')}"
        case BaseModel():
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            made = {name: _anchored(each, home, reference=name in _REFERENCES) for name, each in fields.items()}
            changed = {name: each for name, each in made.items() if each is not fields[name] and each != fields[name]}
            return value.model_copy(update=changed) if changed else value
        case dict():
            return {key: _anchored(each, home, reference=reference) for key, each in value.items()}
        case tuple():
            return tuple(_anchored(each, home, reference=reference) for each in value)
    return value


def judge(document: Document) -> tuple[Catalog | None, tuple[Problem, ...]]:
    """The catalog, if it is one, and everything wrong with it in the order of the file."""
    problems = list(document.problems)
    if document.data is None and problems:
        return None, tuple(problems)
    catalog: Catalog | None
    try:
        catalog, doubtful = Catalog.model_validate(document.data), frozenset[Path]()
    except ValidationError as error:
        problems += [_told(each, document) for each in error.errors(include_url=False)]
        catalog, doubtful = _salvage(document.data, error)
    if catalog is not None:
        problems += [
            Problem(at=document.at(each.path), fact=each.fact, hint=each.hint)
            for each in contradictions(catalog)
            if not _rests_on(each, doubtful)
        ]
    return (None if problems else catalog), tuple(sorted(set(problems)))


def _text(file: File) -> str:
    hint = "name the home with --home DIR or DR_HOME; deployments/catalog.example.yaml is a catalog to begin with"
    try:
        with file.open("rb") as source:
            raw = source.read(_SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read the catalog {file}: {(error.strerror or 'unknown').lower()}", hint=hint) from None
    if len(raw) > _SIZE_LIMIT_BYTES:
        raise BadInput(f"{file} is larger than {_SIZE_LIMIT_BYTES} bytes", hint="is this the catalog?")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None


def _told(error: ErrorDetails, document: Document) -> Problem:
    """One of pydantic's errors in our words, at the place it is about."""
    path, message = _path(error["loc"], document.data), error["msg"]
    name = f"`{path[-1]}`" if path else "the catalog"
    match error["type"]:
        case "missing":
            return Problem(at=document.at(path[:-1]), fact=f"{name} is missing", hint=f"add {name}")
        case "extra_forbidden":
            near = _meant(path)
            known = ", ".join(_fields(path[:-1]))
            hint = f"did you mean `{near[0]}`?" if near else f"what is known here: {known}"
            return Problem(at=document.at(path), fact=f"unknown key {name}", hint=hint)
        case "string_pattern_mismatch" if error["loc"][-1] == "[key]":
            return Problem(at=document.at(path), fact=f"{name} is no name", hint="use a-z, 0-9 and -, at most 63")
        case "value_error":
            fact, _, hint = message.removeprefix("Value error, ").partition("; ")
            at = document.values.get(path, document.at(path))
            return Problem(at=at, fact=f"{name}: {fact}", hint=hint or "see deployments/catalog.example.yaml")
        case _:
            at = document.values.get(path, document.at(path))
            return Problem(at=at, fact=f"{name}: {message[:1].lower()}{message[1:]}", hint=_hint(error))


def _hint(error: ErrorDetails) -> str:
    expected = error.get("ctx", {}).get("expected")
    return f"write {expected}" if expected else "see deployments/catalog.example.yaml"


def _path(location: Sequence[str | int], data: JsonValue) -> Path:
    """Pydantic's location as a path into the data: its own words (a union's tag, `[key]`) are left out."""
    path: list[str | int] = []
    here: Any = data
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if part in (here if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()):
            path.append(part)
            here = here[part]
        elif last and part != "[key]":
            path.append(part)
    return tuple(path)


def _meant(path: Path) -> list[str]:
    """The known key that an unknown one is nearest to, if any is near."""
    return difflib.get_close_matches(str(path[-1]), _fields(path[:-1]), n=1)


def _fields(path: Path) -> list[str]:
    """The keys that the catalog knows at `path`; empty where keys are free."""
    kind: Any = Catalog
    for part in path:
        kind = _below(kind, part)
    if not _is_model(kind):
        return []
    return [info.alias or name for name, info in kind.model_fields.items()]


def _below(kind: Any, part: str | int) -> Any:
    if _is_model(kind):
        named = {info.alias or name: info.annotation for name, info in kind.model_fields.items()}
        return _bare(named.get(str(part)))
    inner = get_args(kind)
    return _bare(inner[-1] if get_origin(kind) is dict else inner[0]) if inner else None


def _bare(kind: Any) -> Any:
    """A type without its Annotated and its None."""
    while get_origin(kind) in (Union, UnionType) or hasattr(kind, "__metadata__"):
        kind = next(each for each in get_args(kind) if each is not type(None))
    return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _salvage(data: JsonValue, error: ValidationError) -> tuple[Catalog | None, frozenset[Path]]:
    """A catalog with stand-ins for what is wrong, and where those stand; None when there is no helping it."""
    if not isinstance(data, dict):
        return None, frozenset()
    mended, doubtful, tried = copy.deepcopy(data), set[Path](), dict[Path, Iterator[JsonValue]]()
    for _ in range(3 * len(_STAND_INS)):
        for each in error.errors(include_url=False):
            path = _path(each["loc"], mended)
            if each["type"] == "extra_forbidden" or each["loc"][-1] == "[key]":
                doubtful.update((*path[:-1], name) for name in _meant(path))
                _remove(mended, path)
            else:
                doubtful.add(path)
                allowed = each.get("ctx", {}).get("expected", "")
                words = [word.strip("'") for word in str(allowed).replace(" or ", ", ").split(", ") if "'" in word]
                _put(mended, path, next(tried.setdefault(path, iter((*words, *_STAND_INS))), None))
        try:
            return Catalog.model_validate(mended), frozenset(doubtful)
        except ValidationError as again:
            error = again
    return None, frozenset(doubtful)


def _holder(data: Any, path: Path) -> Any:
    for part in path[:-1]:
        data = data[part]
    return data


def _remove(data: JsonValue, path: Path) -> None:
    holder = _holder(data, path)
    if path and isinstance(holder, dict):
        holder.pop(str(path[-1]), None)


def _put(data: JsonValue, path: Path, stand_in: JsonValue) -> None:
    holder = _holder(data, path)
    if path and isinstance(holder, dict | list):
        holder[path[-1]] = copy.deepcopy(stand_in)  # type: ignore[index]  # a key or an index, as the path says


def _rests_on(found: Contradiction, doubtful: frozenset[Path]) -> bool:
    """Whether a contradiction compares anything with a stand-in."""
    places = (found.path, *found.rests_on)
    return any(place[: len(each)] == each or each[: len(place)] == place for place in places for each in doubtful)
