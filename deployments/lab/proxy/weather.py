"""What a path does to its bytes: delay, cut, reset, black hole, by direction. Values only.

Separate because the proxy obeys them, the control client sends them, and faults are made of them.
"""

from __future__ import annotations

from typing import Literal

from recovery.value import Value

Mode = Literal["pass", "cut", "reset", "blackhole"]


class Weather(Value):
    """One direction of one path. `pass` carries bytes, each delayed by `delay_ms`.

    On both directions: `cut` refuses connections and closes those that are open; `reset` accepts and resets them;
    `blackhole` accepts and hangs. On one direction only: cut and reset strike when a byte goes that way; a black hole
    lets none through, while the other way goes on (half open).
    """

    mode: Mode = "pass"
    delay_ms: float = 0.0


class PathWeather(Value):
    """Both directions: `forth` from source to destination, `back` the answers."""

    forth: Weather = Weather()
    back: Weather = Weather()

    @property
    def refuses(self) -> bool:
        """Whether new connections are refused."""
        return self.forth.mode == self.back.mode == "cut"

    @property
    def resets(self) -> bool:
        """Whether new connections are reset at once."""
        return self.forth.mode == self.back.mode == "reset"


FINE = PathWeather()


class Link(Value):
    """One listening door: a path's address and port, and the real server behind it."""

    path: str
    role: str
    address: str
    port: int
    to_address: str
    to_port: int

    @property
    def name(self) -> str:
        """`engine-east:s3`."""
        return f"{self.path}:{self.role}"


def both(mode: Mode, delay_ms: float = 0.0) -> PathWeather:
    """The same weather in both directions."""
    return PathWeather(forth=Weather(mode=mode, delay_ms=delay_ms), back=Weather(mode=mode, delay_ms=delay_ms))
