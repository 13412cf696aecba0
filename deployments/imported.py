"""A run of the ledger as Prefect would tell it: flow run, task runs, log, events, timeline and result. Pure.

Separate from bringing it there (deployments/syncing.py). Every id is derived from the run and the record, so that the
same run is the same documents whoever brings it and however often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import JsonValue

from recovery.evidence import Record
from recovery.journal import BEGUN, ENDED, FAILED, outcome
from recovery.plan import Plan
from recovery.value import rfc3339
from tasks.summary import summary

Document = dict[str, JsonValue]
SPACE = uuid5(NAMESPACE_URL, "standfast/run")
LINE_CHARS = 400
INFO, ERROR = 20, 40
RUNNING: Document = {"type": "RUNNING", "name": "Running", "message": "as it was, when it was"}
_OTHER = {"run.begun": "the run begins", "run.resumed": "the run is taken up again", "run.ended": "the run ends"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One try of a step: `end` None for one that was cut off; `trouble` empty for one that ended well."""

    step: str
    number: int
    begin: datetime
    end: datetime | None = None
    trouble: str = ""
    said: str = ""

    @property
    def word(self) -> str:
        """As Prefect's states are called."""
        return "Crashed" if self.end is None else "Failed" if self.trouble else "Completed"


def doors(records: Sequence[Record]) -> tuple[str, ...]:
    """The doors that the run came through, in order: dr, glass, prefect."""
    said = (str(each.facts.get("door") or "") for each in records if each.kind in ("run.begun", "run.resumed"))
    return tuple(dict.fromkeys(each for each in said if each))


def flow_run(plan: Plan, records: Sequence[Record], flow: str) -> Document:
    """What is created. `labels` have the true times: Prefect takes a flow run's own from the moment of the import."""
    ended = records[-1].end or records[-1].begin
    labels: Document = {
        "standfast.run": plan.run,
        "standfast.outcome": outcome(records) or "",
        "standfast.began_at": rfc3339(records[0].begin),
        "standfast.ended_at": rfc3339(ended),
    }
    return {
        "flow_id": flow,
        "name": f"{plan.runbook}-{plan.run[:12]}",
        "idempotency_key": f"standfast:{plan.run}",
        "parameters": {"service": plan.service, "to": str(plan.pinned.get("to", "")), "digest": plan.digest},
        "tags": ["standfast", "imported", *(each for each in doors(records) if each != "prefect")],
        "labels": labels,
        "state": RUNNING,
    }


def final_state(records: Sequence[Record]) -> Document:
    """How it ended, in Prefect's words: Completed only for what was met."""
    word = outcome(records) or "unproven"
    kind = {"met": "COMPLETED", "held": "COMPLETED", "cancelled": "CANCELLED"}.get(word, "FAILED")
    return {"type": kind, "name": kind.capitalize(), "message": f"{word}; ended {rfc3339(records[-1].begin)}"}


def attempts(records: Sequence[Record]) -> tuple[Attempt, ...]:
    """Every try of every step, in the order of their beginnings."""
    found: dict[tuple[str, int], Attempt] = {}
    for record in records:
        if record.kind not in (BEGUN, ENDED, FAILED):
            continue
        number = record.facts.get("attempt")
        key = (str(record.facts.get("step")), number if isinstance(number, int) else 1)
        before = found.get(key) or Attempt(step=key[0], number=key[1], begin=record.begin)
        match record.kind:
            case "step.begun":
                found[key] = Attempt(step=key[0], number=key[1], begin=record.begin)
            case "step.ended":
                said = _summary(record.facts.get("result"))
                found[key] = Attempt(step=key[0], number=key[1], begin=before.begin, end=record.end, said=said)
            case _:
                trouble = str(record.facts.get("fact") or "failed")
                found[key] = Attempt(
                    step=key[0], number=key[1], begin=before.begin, end=record.end or record.begin, trouble=trouble
                )
    return tuple(sorted(found.values(), key=lambda each: (each.begin, each.step, each.number)))


def task_run_id(run: str, each: Attempt) -> UUID:
    """The task run of an attempt."""
    return uuid5(SPACE, f"{run}/{each.step}/{each.number}")


def task_events(plan: Plan, tried: Sequence[Attempt], flow_run_id: str) -> Iterator[Document]:
    """Two events for each task run, as Prefect's own client sends them: the server makes task runs of them, with the
    times at which things happened."""
    last = {each.step: task_run_id(plan.run, each) for each in tried}
    for each in tried:
        needs = plan.step(each.step).needs if any(step.id == each.step for step in plan.steps) else ()
        yield _task_event(
            plan, each, flow_run_id, "Running", each.begin, [str(last[need]) for need in needs if need in last]
        )
        end = each.end or each.begin
        yield _task_event(plan, each, flow_run_id, each.word, end, [str(last[need]) for need in needs if need in last])


def _task_event(plan: Plan, each: Attempt, flow_run_id: str, word: str, at: datetime, needs: Sequence[str]) -> Document:
    mark = task_run_id(plan.run, each)
    ended = word != "Running"
    message = (each.trouble or each.said)[:LINE_CHARS] if ended else ""
    waited: list[JsonValue] = [{"input_type": "task_run", "id": need} for need in needs]
    run: Document = {
        "name": each.step if each.number == 1 else f"{each.step} (attempt {each.number})",
        "task_key": each.step,
        "dynamic_key": str(each.number),
        "run_count": 1,
        "flow_run_run_count": 1,
        "expected_start_time": rfc3339(each.begin),
        "start_time": rfc3339(each.begin),
        "tags": ["imported"],
        "task_inputs": {"wait_for": waited} if waited else {},
    }
    if ended:
        seconds = max(0.0, ((each.end or each.begin) - each.begin).total_seconds())
        run |= {"end_time": rfc3339(at), "total_run_time": seconds}
    return {
        "id": str(uuid5(mark, word)),
        "event": f"prefect.task-run.{word}",
        "occurred": rfc3339(at),
        "resource": {
            "prefect.resource.id": f"prefect.task-run.{mark}",
            "prefect.resource.name": each.step,
            "prefect.run-count": "1",
            "prefect.state-message": message,
            "prefect.state-name": word,
            "prefect.state-timestamp": rfc3339(at),
            "prefect.state-type": word.upper(),
            "prefect.orchestration": "client",
        },
        "related": _related(flow_run_id),
        "payload": {
            "intended": {"from": "RUNNING" if ended else "PENDING", "to": word.upper()},
            "initial_state": {"type": "RUNNING", "name": "Running"}
            if ended
            else {"type": "PENDING", "name": "Pending"},
            "validated_state": {
                "type": word.upper(),
                "name": word,
                "message": message,
                "state_details": {},
                "data": None,
            },
            "task_run": run,
        },
    }


def events(run: str, records: Sequence[Record], flow_run_id: str) -> Iterator[Document]:
    """Each record as an event of the run, at its own moment; the whole record is its payload."""
    for record in records:
        yield {
            "id": str(uuid5(SPACE, f"{run}/{record.sequence}/{record.hash}")),
            "event": f"standfast.{record.kind}",
            "occurred": rfc3339(record.begin),
            "resource": {"prefect.resource.id": f"standfast.run.{run}", "prefect.resource.name": record.subject},
            "related": _related(flow_run_id),
            "payload": {"record": record.model_dump(mode="json"), "hash": record.hash},
        }


def logs(records: Sequence[Record], flow_run_id: str, tasks: Mapping[tuple[str, int], str]) -> Iterator[Document]:
    """A line for each record, at its own moment; those of a step belong to its task run, too."""
    for record in records:
        number = record.facts.get("attempt")
        step = (str(record.facts.get("step")), number if isinstance(number, int) else 1)
        yield {
            "name": "standfast",
            "level": ERROR if record.kind in (FAILED, "run.halted") else INFO,
            "message": line(record)[:LINE_CHARS],
            "timestamp": rfc3339(record.end or record.begin),
            "flow_run_id": flow_run_id,
            **({"task_run_id": tasks[step]} if step in tasks else {}),
        }


def line(record: Record) -> str:
    """A record in a line."""
    step = record.facts.get("step")
    who = f" by {record.who}"
    match record.kind:
        case "step.begun":
            return f"{step}: begun, attempt {record.facts.get('attempt', 1)}{who}"
        case "step.ended":
            seconds = record.measures.get("seconds", 0.0)
            return f"{step}: ended after {seconds:.1f} s; {_summary(record.facts.get('result'))}"
        case "step.failed":
            return f"{step}: failed: {record.facts.get('fact')} (hint: {record.facts.get('hint')})"
    door = record.facts.get("door")
    text = _OTHER.get(record.kind, record.kind)
    return text + (f" through the door {door}" if door else f": {_summary(record.facts)}") + who


def timeline(records: Sequence[Record]) -> list[JsonValue]:
    """The rows of the table that has the true times."""
    rows: list[JsonValue] = []
    for record in records:
        end = record.end
        seconds = None if end is None else round((end - record.begin).total_seconds(), 3)
        rows.append(
            {
                "begin": rfc3339(record.begin),
                "seconds": seconds if record.kind in (ENDED, FAILED) else None,
                "what": record.kind,
                "step": str(record.facts.get("step") or ""),
                "said": line(record)[:LINE_CHARS],
                "who": record.who,
                "generation": record.generation,
            }
        )
    return rows


def result(plan: Plan, records: Sequence[Record], place: str) -> str:
    """What came of it, as Markdown, and where the evidence is."""
    told = next((each.facts for each in reversed(records) if each.kind == "run.outcome"), {})
    segments = told.get("rto_segments")
    short = plan.run[:12]
    parts = segments.items() if isinstance(segments, dict) else ()
    rows = {
        "outcome": outcome(records) or "",
        "door": ", ".join(doors(records)) or "dr",
        "began": rfc3339(records[0].begin),
        "ended": rfc3339(records[-1].begin),
        "RTO": f"{_figure(told.get('rto_seconds'))} ({', '.join(f'{name} {_figure(each)}' for name, each in parts)})",
        "RPO": _figure(told.get("rpo_seconds")),
        "lost commits": str(told.get("lost_commits", "unproven")),
        "consent": ", ".join(map(str, consent)) if isinstance(consent := told.get("consent"), list) else "",
        "evidence": f"`{place}`, run `{plan.run}`: `dr show {short}`, `dr evidence verify --run {short}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"## {plan.runbook} of {plan.service}, {plan.pinned.get('from')} → {plan.pinned.get('to')}\n\n"
        f"Driven without Prefect, brought here afterwards from the ledger. The flow run's own times are those of the "
        f"import; those of its task runs, log and timeline are true.\n\n|  |  |\n| --- | --- |\n{table}\n"
    )


def _related(flow_run_id: str) -> list[JsonValue]:
    return [{"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}]


def _figure(value: JsonValue) -> str:
    return (
        f"{value:.2f} s" if isinstance(value, int | float) and not isinstance(value, bool) else str(value or "unproven")
    )


def _summary(found: JsonValue) -> str:
    return summary(found) if isinstance(found, dict) else "done"
