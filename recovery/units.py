"""Figures with their units, as people write them: percentages, sizes, rates. Pure.

Separate from durations (objective.py) because only the platform's figures use them. A bare number is refused: 70 could
be a percentage or a count, and a catalog must not leave that to guessing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BYTES_PER_SECOND = {f"{unit}/s": factor for unit, factor in _BYTES.items()}
_BITS_PER_SECOND = {"kbps": 10**3, "Mbps": 10**6, "Gbps": 10**9}


def _reader(what: str, units: Mapping[str, int], example: str) -> Callable[[object], object]:
    def read(text: object) -> object:
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(\S+)", text) if isinstance(text, str) else None
        if found is None or found[2] not in units:
            raise ValueError(f"{text!r} is not {what}; write a number and one of {', '.join(units)}, like '{example}'")
        return float(found[1]) * units[found[2]]

    return read


def _writer(units: Mapping[str, int]) -> Callable[[float], str]:
    def write(figure: float) -> str:
        whole = [unit for unit in units if figure >= units[unit] and figure % units[unit] == 0]
        unit = max(whole, key=units.__getitem__, default=next(iter(units)))
        return f"{figure / units[unit]:.15g} {unit}"

    return write


def percent(text: object) -> float:
    """`99.9 %` as 99.9. Raises ValueError for a bare number and for what lies outside 0 to 100."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text) if isinstance(text, str) else None
    if found is None or float(found[1]) > 100:
        raise ValueError(f"{text!r} is not a percentage; write a number from 0 to 100 and %, like '99.9 %'")
    return float(found[1])


Percent = Annotated[
    float, BeforeValidator(percent), PlainSerializer(lambda figure: f"{figure:g} %", return_type=str, when_used="json")
]
"""Held as the number before the sign: 99.9."""


def _figure(what: str, units: Mapping[str, int], example: str) -> tuple[BeforeValidator, PlainSerializer]:
    return (
        BeforeValidator(_reader(what, units, example)),
        PlainSerializer(_writer(units), return_type=str, when_used="json"),
    )


_size = _figure("a size", _BYTES, "2 GB")
_flow = _figure("a rate", _BYTES_PER_SECOND, "100 MB/s")
_line = _figure("a line speed", _BITS_PER_SECOND, "1 Gbps")
_calls = _figure("a call rate", {"requests/s": 1}, "1000 requests/s")

Bytes = Annotated[float, _size[0], _size[1]]
BytesPerSecond = Annotated[float, _flow[0], _flow[1]]
BitsPerSecond = Annotated[float, _line[0], _line[1]]
RequestsPerSecond = Annotated[float, _calls[0], _calls[1]]
