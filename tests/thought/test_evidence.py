"""A chain tells of every change, gap and reordering; a ledger is only as good as its worst run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.check import Outcome
from recovery.evidence import (
    GENESIS,
    Link,
    Manifest,
    Record,
    Signature,
    chain_troubles,
    comes_behind,
    link_troubles,
    manifest_key,
    read_link,
    read_manifest,
    signed_bytes_of,
)
from recovery.value import canonical
from recovery.verification import Checked, Report, Signed, judge_run, removed

T0 = datetime(2026, 11, 24, 3, tzinfo=UTC)
RUN = "a" * 64


def chain(length: int, *, run: str = RUN, generations: list[int] | None = None) -> list[Link]:
    links: list[Link] = []
    for n in range(length):
        record = Record(
            run=run,
            sequence=n,
            previous=links[-1].hash if links else GENESIS,
            kind="step.begun",
            subject="db",
            begin=T0 + timedelta(seconds=n),
            who="engine",
            generation=(generations or [1] * length)[n],
            facts={"step": "s", "n": n},
        )
        links.append(Link(key=record.key, record=record, hash=record.hash))
    return links


def closing(links: list[Link], **changes: object) -> Manifest:
    made = Manifest(run=RUN, records=len(links), head=links[-1].hash, outcome="held", ended_at=T0)
    return made.model_copy(update=changes)


def facts(links: list[Link], manifest: Manifest | None = None) -> str:
    return " | ".join(trouble.fact for trouble in link_troubles(RUN, links, manifest))


def test_a_whole_chain_has_no_trouble() -> None:
    links = chain(4)
    assert link_troubles(RUN, links, closing(links)) == ()
    assert chain_troubles(RUN, [(link.key, link.record) for link in links], closing(links)) == ()


@given(length=st.integers(2, 6), data=st.data())
def test_any_record_that_is_dropped_but_the_last_is_found(length: int, data: st.DataObject) -> None:
    links = chain(length)
    del links[data.draw(st.integers(0, length - 2))]
    assert "gap" in facts(links)


@given(length=st.integers(2, 6), data=st.data())
def test_any_two_records_that_change_places_are_found(length: int, data: st.DataObject) -> None:
    links = chain(length)
    one, other = data.draw(st.lists(st.integers(0, length - 1), min_size=2, max_size=2, unique=True))
    links[one], links[other] = links[other], links[one]
    assert facts(links)


@given(length=st.integers(1, 5), data=st.data())
def test_any_byte_that_is_changed_in_any_record_is_found(length: int, data: st.DataObject) -> None:
    links = chain(length)
    bodies = [canonical(link.record) for link in links]
    at = data.draw(st.integers(0, length - 1))
    place = data.draw(st.integers(0, len(bodies[at]) - 1))
    other = data.draw(st.integers(32, 126).filter(lambda byte: byte != bodies[at][place]))
    changed = bodies[at][:place] + bytes([other]) + bodies[at][place + 1 :]
    read = [
        read_link(link.key, changed if n == at else body)
        for n, (link, body) in enumerate(zip(links, bodies, strict=True))
    ]
    whole = [link for link in read if isinstance(link, Link)]
    assert len(whole) < length or link_troubles(RUN, whole, closing(links))


def test_the_last_record_cut_off_is_found_by_the_manifest_only() -> None:
    links = chain(3)
    assert facts(links[:2]) == ""
    assert "another chain" in facts(links[:2], closing(links))


def test_a_record_of_another_run_is_found() -> None:
    stray = chain(2, run="b" * 64)
    assert "at runs/" in facts(stray)


def test_a_stale_owner_in_the_chain_is_found() -> None:
    assert "stale owner: generation 1 after 2" in facts(chain(3, generations=[1, 2, 1]))


def test_a_record_that_was_written_by_a_later_schema_keeps_its_hash() -> None:
    body = canonical(chain(1)[0].record)
    link = read_link("k", body)
    assert isinstance(link, Link)
    assert canonical(link.record) == body


def test_each_document_of_a_run_names_the_one_that_it_comes_behind() -> None:
    links = chain(3)
    bodies = [canonical(each.record) for each in links]
    assert comes_behind(links[0].key, bodies[0]) is None
    assert comes_behind(links[2].key, bodies[2]) == (links[1].key, links[1].hash)
    closing_key = manifest_key(RUN)
    assert comes_behind(closing_key, canonical(closing(links))) == (links[2].key, links[2].hash)
    assert comes_behind(closing_key, b"torn") is None
    assert comes_behind(links[2].key, b"torn") is None
    assert comes_behind("plans/any.json", bodies[2]) is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"not json", canonical(chain(1)[0].record) + b" "])
def test_what_is_no_record_is_said_to_be_none(body: bytes) -> None:
    assert isinstance(read_link("runs/x/00000000.json", body), str)


def test_what_is_no_manifest_is_said_to_be_none() -> None:
    assert manifest_key(RUN) in str(read_manifest(RUN, b"{}"))
    assert read_manifest(RUN, canonical(closing(chain(1)))) == closing(chain(1))


def test_signed_bytes_are_the_manifest_without_its_signature_whatever_the_schema() -> None:
    manifest = closing(chain(1))
    signed = manifest.model_copy(update={"signature": Signature(who="e", key="k", ed25519="0" * 128)})
    assert signed_bytes_of(canonical(signed)) == manifest.signed_bytes() == signed.signed_bytes()
    later = {**json.loads(canonical(signed)), "added": 1}
    assert b'"added":1' in signed_bytes_of(canonical(later))


def judged(
    links: list[Link], signed: Signed, manifest: Manifest | None, unreadable: list[str] | None = None
) -> Checked:
    return judge_run(RUN, links, unreadable or [], manifest, signed)


@pytest.mark.parametrize(
    ("signed", "outcome"),
    [
        (Signed.VALID, Outcome.PASSED),
        (Signed.NO_ANCHOR, Outcome.UNPROVEN),
        (Signed.INVALID, Outcome.FAILED),
        (Signed.MISSING, Outcome.FAILED),
        (Signed.UNKNOWN_KEY, Outcome.FAILED),
        (Signed.UNTRUSTED, Outcome.FAILED),
    ],
)
def test_a_closed_run_is_as_good_as_its_signature(signed: Signed, outcome: Outcome) -> None:
    links = chain(2)
    checked = judged(links, signed, closing(links))
    assert (checked.outcome, checked.closed) == (outcome, "held")
    assert bool(checked.why) is (outcome is not Outcome.PASSED)


def test_an_open_run_is_unproven_and_says_why() -> None:
    checked = judged(chain(2), Signed.MISSING, None)
    assert checked.outcome is Outcome.UNPROVEN
    assert "unsigned" in checked.why


def test_an_unreadable_document_fails_the_run() -> None:
    links = chain(2)
    assert judged(links, Signed.VALID, closing(links), ["rubbish at x"]).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        ([], Outcome.UNPROVEN),  # one that was emptied looks like a new one
        ([Outcome.PASSED, Outcome.PASSED], Outcome.PASSED),
        ([Outcome.PASSED, Outcome.UNPROVEN], Outcome.UNPROVEN),
        ([Outcome.FAILED, Outcome.UNPROVEN], Outcome.FAILED),
    ],
)
def test_a_ledger_is_as_good_as_its_worst_run(outcomes: list[Outcome], whole: Outcome) -> None:
    runs = tuple(Checked(run=str(n), records=1, outcome=outcome) for n, outcome in enumerate(outcomes))
    assert Report(place="here", runs=runs).outcome is whole


def test_two_copies_that_disagree_fail_the_ledger() -> None:
    checked = judged(chain(1), Signed.MISSING, closing(chain(1)))
    assert Report(place="here", troubles=checked.troubles).outcome is Outcome.FAILED


def test_a_copy_of_the_ledger_that_was_silent_leaves_the_report_unproven() -> None:
    runs = (Checked(run="a" * 64, records=1, outcome=Outcome.PASSED),)
    assert Report(place="p", runs=runs).outcome is Outcome.PASSED
    assert Report(place="p", runs=runs, silent={"s3://west": "it does not answer"}).outcome is Outcome.UNPROVEN


def test_a_run_that_was_removed_whole_or_replaced_is_missed_by_the_one_after_it() -> None:
    first = Checked(run="a" * 64, records=3, outcome=Outcome.PASSED, head="h1")
    second = Checked(run="b" * 64, records=3, outcome=Outcome.PASSED, head="h2", after="a" * 64, after_head="h1")
    third = Checked(run="c" * 64, records=3, outcome=Outcome.PASSED, head="h3", after="b" * 64)
    assert removed((first, second, third)) == ()
    (absent,) = removed((second, third))
    assert (absent.run, "is absent" in absent.fact) == ("a" * 64, True)
    (replaced,) = removed((first.but(head="other"), second, third))
    assert (replaced.run, "another" in replaced.fact) == ("a" * 64, True)
