"""Reads runbook files and tells everything that is wrong with them at once, each with line, fact and hint.

Separate from recovery/runbook.py because files and positions are the world's. Each step is read by itself, so that one
bad step hides nothing that is wrong with the others; rules are only judged on a runbook whose steps can all be reached.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as File

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from recovery.binding import data_dirs, moved_by, unbound
from recovery.breach import breaches
from recovery.catalog import Catalog
from recovery.errors import BadInput
from recovery.runbook import ROLES, Head, Runbook, RunbookStep, flat, nested, troubles
from tasks.yaml_positions import Document, Path, Position, Problem, read

SHIPPED = File(__file__).resolve().parent.parent / "runbooks"
_SIZE_LIMIT_BYTES = 1_000_000


class RunbookWrong(BadInput):
    """Runbooks with problems: pairs of file and problem, in the order of the files."""

    def __init__(self, problems: Sequence[tuple[File, Problem]]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        lines = (f"  {file}:{each.at.line}:{each.at.column}: {each.fact}; {each.hint}" for file, each in problems)
        hint = "mend the file and run `dr runbook validate` again"
        super().__init__("\n".join((f"the runbook has {count}", *lines)), hint=hint)
        self.problems = tuple(problems)


_Judged = tuple[Runbook | None, Document, tuple[Problem, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """The runbooks of an installation: those that ship, and those of the home, which win by name."""

    files: Mapping[str, File]

    def file(self, named: str) -> File:
        """The file of a runbook. Raises BadInput with the names that there are."""
        if named not in self.files:
            raise BadInput(f"there is no runbook {named!r}", hint=f"the runbooks are {', '.join(self.files)}")
        return self.files[named]


def library(home: File | None) -> Library:
    """The runbooks that ship and, above them, HOME/runbooks/*.yaml."""
    folders = [SHIPPED, *([home / "runbooks"] if home is not None else [])]
    found = {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}
    return Library(files=dict(sorted(found.items())))


def load(named: str, books: Library, catalog: Catalog | None = None) -> Runbook:
    """A runbook with its nested ones opened. Raises RunbookWrong with all problems of it and of those it contains."""
    return load_all([named], books, catalog)[named]


def load_all(named: Sequence[str], books: Library, catalog: Catalog | None = None) -> dict[str, Runbook]:
    """Several runbooks, opened. Raises RunbookWrong with all problems of all of them."""
    raw = _judge_each(named, books)
    whole = {name: book for name, (book, _, _) in raw.items() if book is not None}
    opened: dict[str, Runbook] = {}
    wrong: list[tuple[File, Problem]] = []
    for name in named:
        file = books.file(name)
        book, document, problems = raw[name]
        wrong += [(file, each) for each in problems]
        if book is None:
            wrong += [(file, each) for each in _missing(document, catalog)]
            continue
        try:
            opened[name] = flat(book, whole, tuple(books.files))
        except ValueError as error:
            fact, _, hint = str(error).partition("; ")
            at = _nested_at(book, document)
            wrong.append((file, Problem(at=at, fact=fact, hint=hint or "a runbook may not contain itself")))
            continue
        wrong += [(file, each) for each in _judge_whole(opened[name], book, document, catalog)]
    if wrong:
        raise RunbookWrong(sorted(set(wrong)))
    return opened


def _judge_each(named: Sequence[str], books: Library) -> dict[str, _Judged]:
    """Those runbooks and all that they contain, each by itself."""
    found: dict[str, _Judged] = {}
    left = list(named)
    while left:
        name = left.pop()
        if name not in found:
            file = books.file(name)
            found[name] = _judge_alone(file, read(_text(file)))
            left += [inner for inner in nested(found[name][0]) if inner in books.files]
    return found


def _judge_alone(file: File, document: Document) -> _Judged:
    """The runbook, if it is one, and everything that is wrong with it by itself."""
    problems = list(document.problems)
    data = document.data
    if not isinstance(data, dict):
        if not problems:
            at = Position(line=1, column=1)
            problems.append(Problem(at=at, fact="this is no runbook", hint="write its keys: schema, name, steps"))
        return None, document, tuple(problems)
    head = _head({name: value for name, value in data.items() if name != "steps"}, document, problems)
    steps, ids = _steps(data, document, problems)
    stand_in = Head(name="x", version="x", title="x", purpose="x")
    for path, fact, hint in troubles(head or stand_in, steps, ids):
        problems.append(Problem(at=_at(document, path), fact=fact, hint=hint))
    if head is not None and head.name != file.stem:
        fact = f"its name is `{head.name}`, its file {file.name}"
        problems.append(Problem(at=_at(document, ("name",)), fact=fact, hint="give both one name"))
    if problems or head is None:
        return None, document, tuple(sorted(set(problems)))
    fields = {name: getattr(head, name) for name in Head.model_fields}
    book = Runbook.model_validate({**fields, "steps": [step for _, step in steps]}, by_name=True)
    return book, document, ()


def _head(data: dict[str, JsonValue], document: Document, problems: list[Problem]) -> Head | None:
    try:
        return Head.model_validate(data)
    except ValidationError as error:
        known = [*_fields(Head), "steps"]
        problems += [_told(each, (), known, document, "the runbook") for each in error.errors(include_url=False)]
        return None


def _steps(
    data: dict[str, JsonValue], document: Document, problems: list[Problem]
) -> tuple[list[tuple[int, RunbookStep]], list[str]]:
    """The steps that could be read, with their places, and the ids of all."""
    found: list[tuple[int, RunbookStep]] = []
    written = data.get("steps")
    if not isinstance(written, list) or not written:
        top = _at(document, ("steps",))
        problems.append(Problem(at=top, fact="a runbook without steps", hint="add `steps`: a list with at least one"))
        return [], []
    for at, each in enumerate(written):
        try:
            found.append((at, RunbookStep.model_validate(each)))
        except ValidationError as error:
            named = f"the step `{each['id']}`" if isinstance(each, dict) and "id" in each else "the step"
            problems += [
                _told(one, ("steps", at), _fields(RunbookStep), document, named)
                for one in error.errors(include_url=False)
            ]
    ids = [str(each["id"]) for each in written if isinstance(each, dict) and "id" in each]
    return found, ids


def _missing(document: Document, catalog: Catalog | None) -> Iterator[Problem]:
    """What nothing in the catalog is called, of a runbook that is wrong otherwise, too: told with the rest."""
    data = document.data
    steps = data.get("steps") if isinstance(data, dict) else None
    known = () if catalog is None else (*ROLES, *catalog.resources, *catalog.dns)
    for at, each in enumerate(steps if isinstance(steps, list) else ()):
        named = each.get("resource") if isinstance(each, dict) else None
        if known and isinstance(named, str) and named not in known:
            place = _at(document, ("steps", at, "resource"))
            yield Problem(at=place, fact=f"there is no resource `{named}`", hint=f"name one of {', '.join(known)}")


def _judge_whole(opened: Runbook, book: Runbook, document: Document, catalog: Catalog | None) -> Iterator[Problem]:
    """Rules, and what the catalog does not have. A nested step's problem is told where its runbook is named."""
    place = {step.id: at for at, step in enumerate(book.steps)}

    def at(step: str, *below: str | int) -> Position:
        outer = max((name for name in place if step == name or step.startswith(f"{name}-")), key=len)
        return _at(document, ("steps", place[outer], *(below if outer == step else ())))

    known = (moved_by(catalog), data_dirs(catalog)) if catalog is not None else ()
    for breach in breaches(opened, *known):
        yield Problem(at=at(breach.step), fact=breach.words, hint=breach.hint)
    if catalog is not None:
        for step, field, fact, hint in unbound(opened, catalog):
            yield Problem(at=at(step, field), fact=fact, hint=hint)


def _told(error: ErrorDetails, above: Path, known: Sequence[str], document: Document, whole: str) -> Problem:
    """One of pydantic's errors in our words, at the place it is about."""
    path: Path = (*above, *(part for part in error["loc"] if part != "[key]"))
    name, message = f"`{path[-1]}`" if error["loc"] else whole, error["msg"]
    at = document.values.get(path, _at(document, path))
    match error["type"]:
        case "missing":
            return Problem(at=_at(document, above), fact=f"{whole} has no {name}", hint=f"add {name}")
        case "extra_forbidden":
            near = difflib.get_close_matches(str(path[-1]), known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"what is known here: {', '.join(known)}"
            return Problem(at=_at(document, path), fact=f"unknown key {name}", hint=hint)
        case "model_type":
            return Problem(at=at, fact=f"{whole} is no mapping", hint=f"write its keys: {', '.join(known[:3])}…")
        case "string_pattern_mismatch":
            return Problem(at=at, fact=f"{name} is no name", hint="use a-z, 0-9 and -, at most 63")
        case "value_error":
            fact, _, hint = message.removeprefix("Value error, ").partition("; ")
            return Problem(at=at, fact=f"{name}: {fact}", hint=hint or "see the runbooks that ship with the engine")
        case _:
            expected = error.get("ctx", {}).get("expected")
            hint = f"write {expected}" if expected else "see the runbooks that ship with the engine"
            return Problem(at=at, fact=f"{name}: {message[:1].lower()}{message[1:]}", hint=hint)


def _fields(kind: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in kind.model_fields.items()]


def _at(document: Document, path: Path) -> Position:
    return document.at(path)


def _nested_at(book: Runbook, document: Document) -> Position:
    nested = next(at for at, step in enumerate(book.steps) if step.verb == "runbook")
    return _at(document, ("steps", nested, "arguments", "runbook"))


def _text(file: File) -> str:
    try:
        with file.open("rb") as source:
            raw = source.read(_SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        what = (error.strerror or "unknown").lower()
        raise BadInput(f"cannot read the runbook {file}: {what}", hint="see `dr runbook list`") from None
    if len(raw) > _SIZE_LIMIT_BYTES:
        raise BadInput(f"{file} is larger than {_SIZE_LIMIT_BYTES} bytes", hint="is this a runbook?")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
