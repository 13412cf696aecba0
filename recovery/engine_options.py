"""The options of the engines that an estate may already have, and what is wrong with some that were written. Pure.

Separate from catalog.py because each engine has words of its own; secrets are in none of them: pgBackRest reads its own
configuration file, barman-cloud gets the credentials of the site.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, ValidationError

from recovery.value import Value


class PgBackRestOptions(Value):
    """`stanza` and the estate's own `config` file; `bin_dir` None: on PATH; `repo` None: pgBackRest's choice.

    `incremental` is what an incremental of the policy becomes: `diff` needs one full to be restored, `incr` a chain.
    """

    stanza: str
    config: str | None = None
    bin_dir: str | None = None
    repo: Annotated[int, Field(ge=1, le=256)] | None = None
    process_max: Annotated[int, Field(ge=1, le=999)] = 2
    incremental: Literal["diff", "incr"] = "diff"
    segment_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 30)] = 16 * 1024 * 1024


Retention = Annotated[str, Field(pattern=r"^(REDUNDANCY \d+|RECOVERY WINDOW OF \d+ (DAYS|WEEKS|MONTHS))$")]


class BarmanCloudOptions(Value):
    """`server` is the name under the bucket's prefix. `retention` is barman's own language; None: the policy's days."""

    server: str
    bin_dir: str | None = None
    compression: Literal["none", "gzip", "bzip2", "snappy", "lz4"] = "gzip"
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    retention: Retention | None = None


class NativeOptions(Value):
    """Our own engine has none."""


OPTIONS: Mapping[str, type[Value]] = {
    "native": NativeOptions,
    "pgbackrest": PgBackRestOptions,
    "barman-cloud": BarmanCloudOptions,
}


TAKES_INCREMENTALS = frozenset({"native", "pgbackrest"})


class Wrong(Value):
    """One thing that is wrong: the option's name (empty: all of them), the fact, what to do."""

    option: str
    fact: str
    hint: str


def wrong(engine: str, options: Mapping[str, JsonValue]) -> tuple[Wrong, ...]:
    """Everything that is wrong with the options of that engine. Empty: nothing."""
    return tuple(_wrong(engine, options))


def _wrong(engine: str, options: Mapping[str, JsonValue]) -> Iterator[Wrong]:
    model = OPTIONS[engine]
    known = ", ".join(model.model_fields) or "none"
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        for each in error.errors(include_url=False):
            name = str(each["loc"][0])
            if each["type"] == "extra_forbidden":
                near = difflib.get_close_matches(name, model.model_fields, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"options of {engine}: {known}"
                yield Wrong(option=name, fact=f"{engine} has no option `{name}`", hint=hint)
            elif each["type"] == "missing":
                yield Wrong(option="", fact=f"{engine} needs the option `{name}`", hint=f"add `{name}`")
            else:
                fact = each["msg"]
                yield Wrong(option=name, fact=f"`{name}`: {fact[:1].lower()}{fact[1:]}", hint=f"options: {known}")
