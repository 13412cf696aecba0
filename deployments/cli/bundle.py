"""`dr bundle`: write, refresh, verify the signed offline bundle; and `--bundle FILE`, by which any command uses one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home, home
from recovery.errors import BadInput

if TYPE_CHECKING:
    from rich.console import RenderableType

ONE, MANY, BARE = ("--bundle", "--home"), ("--key", "--trust"), ("--stale",)
ACTING = ("act", "resume", "watch")


def bundle(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write there; default: HOME/bundle/CATALOG.zip.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option("--verify", metavar="FILE", help="Only check that one: signature, bytes, age.")
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option("--trust", metavar="FINGERPRINT", help="Who may have signed it; default: HOME/keys/engine*.pub."),
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="With --verify: however old it is.")] = False,
    home_: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write or refresh the signed offline bundle: catalog, runbooks, addresses, public keys, printed pages. No secrets.

    Any machine with the package acts by it: dr act DIGEST --glass --bundle FILE. So do plan, approve, show, run.
    """
    if verify is not None:
        _verify(verify, trust or [], home(home_), stale=stale, as_json=as_json)
        return
    from tasks import bundling
    from tasks.home import open_home

    opened = open_home(existing_home(home_))
    made = bundling.make(opened, (out or bundling.default_path(opened)).expanduser().absolute())
    told = {
        "outcome": "changed",
        "file": str(made.path),
        "size_bytes": made.size_bytes,
        **_about(made.manifest.model_dump(mode="json")),
        "silent": list(made.silent),
        "without_page": list(made.without_page),
    }
    emit(as_json, told, lambda: _drawn(told, "written"))


def _verify(path: Path, trust: Sequence[str], own: Path, *, stale: bool, as_json: bool) -> None:
    from tasks import bundle as file
    from tasks.bundled import trusted_by
    from tasks.home import clock

    found = file.read(path.expanduser(), trusted=trusted_by(own, trust), now=clock(), stale=stale)
    about = _about(found.manifest.model_dump(mode="json"))
    told = {"outcome": "passed", "file": str(path), "sha256": found.digest, **about}
    emit(as_json, told, lambda: _drawn(told, "whole, and signed by a key that is trusted here"))


def _about(manifest: dict[str, Any]) -> dict[str, Any]:
    names = ("catalog", "made_at", "made_by", "key", "engine_version", "runbooks", "epochs")
    return {**{name: manifest[name] for name in names}, "files": len(manifest["files"])}


def _drawn(told: dict[str, Any], word: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from deployments.cli.words import moment

    epochs = ", ".join(f"{name} in epoch {each}" for name, each in told["epochs"].items())
    made = f"made {moment(told['made_at'])} by {told['made_by']}"
    lines = [
        Text(f"{told['file']}: {word}", no_wrap=True, overflow="ignore"),
        Text(f"  {told['files']} files of {told['catalog']}, {made}; {epochs}"),
        Text(f"  signed by {told['key']}", no_wrap=True, overflow="ignore"),
    ]
    lines += [
        Text(f"  silent, so only the catalog's word of it is inside: {each}", "yellow")
        for each in told.get("silent", ())
    ]
    lines += [Text(f"  no page: {each}", "dim") for each in told.get("without_page", ())]
    return Group(*lines)


@contextmanager
def by_bundle(words: Sequence[str]) -> Iterator[list[str]]:
    """The command line without the bundle's words, while DR_HOME names the home that the bundle is.

    `words` hold `--bundle FILE`, and perhaps `--home DIR` (the operator's own folder; default DR_HOME), `--key FILE`,
    `--trust FINGERPRINT`, `--stale`. Raises BadInput, Refused.
    """
    from tasks import bundled
    from tasks.home import clock

    given, rest = _taken(words)
    before = os.environ.get("DR_HOME")
    own = home(Path(given["--home"][-1]) if given["--home"] else Path(before) if before else None)
    keys = [Path(each) for each in given["--key"]]
    folder = bundled.unpack(
        Path(given["--bundle"][-1]).expanduser(), own=own, keys=keys, trust=given["--trust"], now=clock(),
        stale=bool(given["--stale"]),
    )  # fmt: skip
    if rest and rest[0] in ACTING and not bundled.can_act(folder):
        raise BadInput(
            f"there is no engine's key in {own / 'keys'}: no agent would obey this machine",
            hint="bring yours with --key FILE; it is made beforehand by 'dr keys make engine-NAME --role engine', and "
            "its public half has to lie in the home's keys/ and in the agents' `trusted`",
        )
    os.environ["DR_HOME"] = str(folder)
    try:
        yield rest
    finally:
        if before is None:
            del os.environ["DR_HOME"]
        else:
            os.environ["DR_HOME"] = before


def _taken(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """What is said about the bundle, and the other words."""
    given: dict[str, list[str]] = {name: [] for name in (*ONE, *MANY, *BARE)}
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        name, joined, value = word.partition("=")
        if word == "--":
            return given, [*rest, word, *left]
        if name in BARE:
            given[name].append("yes")
        elif name in (*ONE, *MANY):
            if not joined and not left:
                raise BadInput(f"{name} names nothing", hint=f"write {name} and what it is")
            given[name].append(value if joined else left.pop(0))
        else:
            rest.append(word)
    return given, rest
