"""LSNs and segment names in Postgres's own forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.point import lsn_number, lsn_text, segment_name


@given(st.integers(0, 2**64 - 1))
def test_an_lsn_survives_its_text(lsn: int) -> None:
    assert lsn_number(lsn_text(lsn)) == lsn


def test_forms_are_postgres_own() -> None:
    assert lsn_text(0x16B374D848) == "16/B374D848"
    assert segment_name(1, 0x16B374D848) == "0000000100000016000000B3"
    with pytest.raises(ValueError, match="invalid literal"):
        lsn_number("nowhere")
