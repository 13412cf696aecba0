"""Reads a YAML document as plain data with the position of every key and value.

Separate from the catalog because runbooks need it too. Only what JSON could say is accepted: no tags, no merge keys.
All duplicate keys are found, where a YAML library stops at the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]
_LIMIT = 50_000
_MOST_DEPTH = 50
_TOO_DEEP = f"it is nested deeper than {_MOST_DEPTH} levels"
_DEEP_HINT = "write it flatter; does an alias (*) stand inside of its own anchor (&)?"
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Position:
    """A place in a file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Problem:
    """Something wrong at a place of a file."""

    at: Position
    fact: str
    hint: str


@dataclass(kw_only=True, slots=True)
class Document:
    """What was read: plain data, the position of each key (a list's item: of the item) and value, and problems."""

    data: JsonValue = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def at(self, path: Path) -> Position:
        """Where `path` is, or else the nearest place above it that exists."""
        while path and path not in self.keys:
            path = path[:-1]
        return self.keys.get(path, Position(line=1, column=1))


def read(text: str) -> Document:
    """Read one document. What is no YAML at all comes as a problem with `data` None."""
    document = Document()
    try:
        root = _composed(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(line=mark.line + 1, column=mark.column + 1) if mark else Position(line=1, column=1)
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        document.problems.append(Problem(at=at, fact=f"not YAML: {what}", hint="mend the YAML; two spaces a level"))
        return document
    except YAMLError as error:
        fact = f"not YAML: {' '.join(str(error).split())}"
        document.problems.append(Problem(at=Position(line=1, column=1), fact=fact, hint="save it as UTF-8 text"))
        return document
    except RecursionError:
        document.problems.append(Problem(at=Position(line=1, column=1), fact=_TOO_DEEP, hint=_DEEP_HINT))
        return document
    if root is not None:
        document.data = _value(root, (), document)
    return document


def _composed(text: str) -> Node | None:
    """The document's root. libyaml reads it five times as fast, where it is there; where it does not like the text, the
    other's words are told, which are those that people have always got."""
    root: Node | None
    try:
        root = YAML(typ="safe").compose(text)
    except (YAMLError, UnicodeError):
        root = YAML(typ="safe", pure=True).compose(text)
    return root


def _value(node: Node, path: Path, document: Document) -> JsonValue:
    document.nodes += 1
    document.values[path] = _position(node)
    document.keys.setdefault(path, document.values[path])
    if document.nodes > _LIMIT:  # aliases of aliases can say more than any memory holds
        if document.nodes == _LIMIT + 1:
            _complain(document, node, f"more than {_LIMIT} values", "write out fewer; do aliases repeat each other?")
        return None
    if len(path) > _MOST_DEPTH:  # an alias inside of its own anchor has no end
        if not any(each.fact == _TOO_DEEP for each in document.problems):
            _complain(document, node, _TOO_DEEP, _DEEP_HINT)
        return None
    match node:
        case MappingNode():
            return _mapping(node, path, document)
        case SequenceNode():
            return [_value(each, (*path, index), document) for index, each in enumerate(node.value)]
        case _:
            return _scalar(node, document)


def _mapping(node: MappingNode, path: Path, document: Document) -> JsonValue:
    found: dict[str, JsonValue] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode) or key_node.tag == f"{_TAG}merge":
            _complain(document, key_node, "a key that is not a word", "write plain keys; merge keys (<<) are not read")
            continue
        key = key_node.value
        if key in found:
            first = document.keys[(*path, key)].line
            _complain(document, key_node, f"`{key}` is written twice, first in line {first}", "keep one of them")
            continue
        document.keys[(*path, key)] = _position(key_node)
        found[key] = _value(value_node, (*path, key), document)
    return found


def _scalar(node: Node, document: Document) -> JsonValue:
    text, tag = str(node.value), str(node.tag).removeprefix(_TAG)
    match tag:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" | "float":
            return _number(text, whole=tag == "int")
        case "str" | "timestamp":
            if any("\ud800" <= each <= "\udfff" for each in text):  # no UTF-8 can say it, so no record could hold it
                _complain(document, node, "half of a character (a lone surrogate)", "write the character itself")
                return None
            return text
    _complain(document, node, f"the tag {node.tag} is not read here", "write plain text, numbers, lists and mappings")
    return None


def _number(text: str, *, whole: bool) -> JsonValue:
    plain = text.replace("_", "")
    try:
        return int(plain, 0) if whole else float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:  # 007 and the like: digits, but no number that all readers agree on
        return text


def _position(node: Node) -> Position:
    return Position(line=node.start_mark.line + 1, column=node.start_mark.column + 1)


def _complain(document: Document, node: Node, fact: str, hint: str) -> None:
    document.problems.append(Problem(at=_position(node), fact=fact, hint=hint))
