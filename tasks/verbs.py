"""Prefect's door to the loop: each move a task run named after its step. The only file here that imports Prefect.

Separate so that the engine, `dr` and break glass never need Prefect. The door adds nothing that decides: no cache, no
retries, no stored results; the journal is the truth (HOUSE.md, law 4). When the API is gone, the move is made all the
same and the run says so loudly.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID, uuid4

from prefect import Task, get_run_logger
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import SyncClientContext
from prefect.exceptions import FlowPauseTimeout, MissingContextError, TerminationSignal
from prefect.flow_runs import apause_flow_run, aresume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State
from pydantic import Field

from recovery.drive import Move
from recovery.errors import DrError
from tasks import form, waiting
from tasks.engine import Act
from tasks.form import Answer, Decision, Wanted
from tasks.home import Home
from tasks.kind import Facts
from tasks.pages import Page, Told, several
from tasks.summary import summary
from tasks.telling import Log, Teller

API_SECONDS = 10.0
"""The patience with Prefect's API beside a run: for people it is a screen, and the run does not wait for one."""
OUTLASTS_SECONDS = 60
GIVE_BACK_SECONDS = 25.0
"""A worker waits 30 s before it kills a flow run that was cancelled."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRuns:
    """The door. Made inside a flow run; `context` is that run's, and carries it into the loop's threads."""

    context: Context
    log: Log
    _states: dict[str, State[Any]] = field(default_factory=dict)
    _silent: threading.Event = field(default_factory=threading.Event)
    _shared: list[tuple[Context, SyncClientContext]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, move: Move, perform: Callable[[], Facts]) -> Facts:
        """See tasks.loop.Door. A server that hangs costs one patience before a move and one after it, and is left
        alone for the rest of the run."""
        made = _Made(perform=perform)
        if self._silent.is_set():
            return made.facts()
        follower = threading.Thread(target=self._follow, args=(move, made), name="prefect", daemon=True)
        follower.start()
        made.settled.wait(API_SECONDS)
        made.call()
        follower.join(API_SECONDS)
        if follower.is_alive():
            self._silent.set()
            self.log.error("Prefect does not answer at step %s: the run goes on without it", move.step.id)
        return made.facts()

    def _follow(self, move: Move, made: _Made) -> None:
        try:
            self._states[move.step.id] = self._with_client().run(self._run, move, made)
        except Exception as trouble:  # noqa: BLE001 -- whatever Prefect's machinery raises, the move decides, not it
            self.log.error("Prefect could not follow step %s: %s", move.step.id, _line(trouble))  # noqa: TRY400
        finally:
            made.settled.set()

    def _with_client(self) -> Context:
        """The run's context with one client of the API in it: each task run would else make its own, which costs more
        than all the rest of it."""
        with self._lock:
            if not self._shared:
                context = self.context.copy()
                self._shared.append((context, context.run(lambda: SyncClientContext().__enter__())))
            return self._shared[0][0].copy()

    def close(self) -> None:
        """No move comes any more: let go of the client, but not of one in which Prefect still hangs."""
        with self._lock:
            if self._shared and not self._silent.is_set():
                context, client = self._shared.pop()
                context.run(lambda: client.__exit__(None, None, None))

    def _run(self, move: Move, made: _Made) -> State[Any]:
        """The task run. It is drawn after the steps it needs; only completed ones, or Prefect would not begin it.
        Without tags: a limit on one would stand in the way of a failover, and is asked for before each task run."""
        task = Task(
            fn=made.state,
            name=move.step.id,
            task_run_name=move.step.id,
            description=f"{move.step.verb} {move.step.resource}",
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=0,
            log_prints=False,
        )
        before = [self._states[need] for need in move.step.needs if need in self._states]
        state: State[Any] = task(return_state=True, wait_for=[each for each in before if each.is_completed()])
        return state


class _Made:
    """One call of `perform`, by whoever comes first, whatever goes on around it: what it gave or raised is kept.
    `settled`: it was called, or Prefect will not call it."""

    def __init__(self, *, perform: Callable[[], Facts]) -> None:
        self.settled = threading.Event()
        self._perform = perform
        self._lock = threading.Lock()
        self._called = False
        self._facts: Facts = {}
        self._trouble: BaseException | None = None

    def state(self) -> State[None]:
        """Call it, as a task's body: its trouble becomes the state's message."""
        self.call()
        match self._trouble:
            case None:
                return Completed(message=summary(self._facts))
            case DrError() as trouble:
                return Failed(message=str(trouble))
            case other:
                raise other

    def facts(self) -> Facts:
        """What it gave; calls it when Prefect never came to it. Raises what it raised."""
        self.call()
        if self._trouble is not None:
            raise self._trouble
        return self._facts

    def call(self) -> None:
        """Call it, or wait until it was called."""
        self.settled.set()
        with self._lock:
            if self._called:
                return
            self._called = True
            try:
                self._facts = self._perform()
            except BaseException as trouble:  # noqa: BLE001 -- kept, and raised again by `facts`
                self._trouble = trouble


async def carried_out(
    work: Callable[[Act], Told], *, home: Callable[[], Home], cancel: Callable[[], str] | None = None
) -> State[Told]:
    """Do the work in a thread with Prefect as its door; its end as a state, its pages as artifacts.

    Completed when it held, else Failed with the reason; what stopped it with a DrError is its fact and hint. `cancel`
    tells the work to stop, for when the flow run is cancelled, and gives the command that goes on with it: a thread
    does not end with whoever waits for it.
    """
    log = get_run_logger()
    logging.getLogger("prefect.task_runs").addFilter(_has_something_to_say)

    def done() -> Told:
        with closing(TaskRuns(context=copy_context(), log=log)) as door:
            return work(Act(home=home(), door=door, tell=Teller(log=lambda: _log_here(log)), via="prefect"))

    working = asyncio.get_running_loop().run_in_executor(None, copy_context().run, done)
    try:
        told = await asyncio.shield(working)
    except DrError as trouble:
        return _stopped(trouble)
    except (asyncio.CancelledError, TerminationSignal):
        if cancel is not None:
            await _give_back(working, cancel, log)
        raise
    return await ended(told)


async def _give_back(working: asyncio.Future[Told], cancel: Callable[[], str], log: Log) -> None:
    """This process is told to end. When people cancelled the flow run in Prefect, the work is told so and given the
    time that a worker gives; else (a worker that stops, a machine that goes down) the run is left to be resumed."""
    on = "'dr resume'"
    try:
        async with asyncio.timeout(GIVE_BACK_SECONDS):
            if not await asyncio.to_thread(_is_cancelled, UUID(str(flow_run.id))):
                log.error("this process was told to end; the run is not cancelled: run the flow again, or 'dr resume'")
                return
            log.warning("cancelled in Prefect: the run is told to stop and to give back what can be given back")
            on = await asyncio.to_thread(cancel)
            told = await asyncio.shield(working)
            await _keep(told.pages, log)
            log.warning("%s", told.text)
    except Exception as trouble:  # noqa: BLE001 -- whatever happens here, the order is kept and the process ends
        why = str(trouble) or f"it takes longer than the {GIVE_BACK_SECONDS:g} s that a cancelled flow run has"
        log.error("the run is cancelled and not ended: %s; go on with giving back by %s", why, on)  # noqa: TRY400


def _is_cancelled(run: UUID) -> bool:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _stopped(trouble: DrError) -> State[Told]:
    get_run_logger().error("%s (hint: %s)", trouble.fact, trouble.hint)
    return Failed(message=str(trouble), data=Told(held=False, text=str(trouble)))


async def ended(told: Told) -> State[Told]:
    """The state that says how a run ended, after its pages were kept."""
    log = get_run_logger()
    await _keep(told.pages, log)
    log.log(logging.INFO if told.held else logging.ERROR, "%s", told.text)
    return Completed(message=told.text, data=told) if told.held else Failed(message=told.text, data=told)


async def one_by_one(
    parts: Callable[[], Sequence[T]], run: Callable[[T], Awaitable[State[Told]]], *, key: str, title: str
) -> State[Told]:
    """Run the parts as runs of their own, each after the other whatever became of the others; one end for all."""
    try:
        chosen = await asyncio.to_thread(parts)
    except DrError as trouble:
        return _stopped(trouble)
    return await ended(several([await _told(await run(part)) for part in chosen], key=key, title=title))


async def _told(state: State[Told]) -> Told:
    """What a part said; of one that crashed, what Prefect says of it."""
    found = await state.aresult(raise_on_failure=False)
    return found if isinstance(found, Told) else Told(held=False, text=state.message or state.name)


class Consent(RunInput):  # type: ignore[misc,unused-ignore]
    """What a paused change asks. It is judged by tasks/form.py; what is wrong is asked again with its reason."""

    decision: Decision = Field(
        description="approve begins the plan; reject ends this run and leaves a refusal on record"
    )
    accept: str = Field(
        default="",
        description="the hazards that you accept: classes or figures, 'data-loss <= 10 s, split-brain', or all",
    )
    approvals: str = Field(
        default="",
        description="signed approvals, as 'dr approve DIGEST --as NAME --json' writes them, one after the other",
    )


def run_name() -> str:
    """The name of a run of a flow that changes roles: `failover-platform-west`, or with the digest taken up."""
    asked = flow_run.parameters
    parts = [flow_run.flow_name, asked.get("service"), asked.get("to"), str(asked.get("digest") or "")[:8]]
    return "-".join(str(each) for each in parts if each)


async def changed(wanted: Wanted, *, home: Callable[[], Home], wait_minutes: int) -> State[Told]:
    """Plan (or find the plan), show it, wait for consent, act, tell. A run that has begun is gone on with."""
    log = get_run_logger()
    try:
        case = await asyncio.to_thread(lambda: form.opened(home(), wanted))
        if isinstance(case, Told):
            return await ended(case)
        await _keep([case.page()], log)
        if case.noted:
            log.warning("plan %s: %s", case.plan.digest[:12], case.noted)
        log.info("plan %s; without Prefect: dr act %s", case.plan.digest, case.plan.digest[:12])
        await waiting.consented(case, Paused(), wait_seconds=wait_minutes * 60.0, log=log)
    except DrError as trouble:
        return _stopped(trouble)
    return await carried_out(case.act, home=lambda: case.home, cancel=case.cancel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paused:
    """The screen: the flow run is paused, and its form is answered by Resume. Made inside a flow run."""

    async def ask(self, text: str, patience_seconds: float) -> Answer | None:
        """See tasks.waiting.Screen. The text stands beside the fields; prefilled ones would lose their limits."""
        asked = Consent.with_initial_data(description=text)
        key = f"consent-{uuid4().hex[:8]}"
        try:
            # Longer than the patience: who waits ends the run with its own reason, before Prefect fails it with none.
            timeout = int(patience_seconds) + OUTLASTS_SECONDS
            given = await apause_flow_run(asked, timeout=timeout, poll_interval=1, key=key)
        except FlowPauseTimeout:
            return None
        if not isinstance(given, Consent):
            raise TypeError("the run was resumed without an answer, which is no consent")
        return Answer(decision=given.decision, accept=given.accept, approvals=given.approvals)

    async def close(self) -> None:
        """See tasks.waiting.Screen."""
        await aresume_flow_run(UUID(str(flow_run.id)), run_input={"decision": Decision.APPROVE.value})


async def _keep(pages: Sequence[Page], log: Log) -> None:
    """Artifacts are for people; the evidence is in the ledger. An API that is gone never fails a run."""
    for page in pages:
        try:
            async with asyncio.timeout(API_SECONDS):
                if page.rows:
                    await acreate_table_artifact(table=list(page.rows), key=page.key, description=page.title)
                else:
                    await acreate_markdown_artifact(page.markdown, key=page.key, description=page.title)
        except TimeoutError:
            log.error("Prefect does not answer: artifact %s and those after it are not kept", page.key)  # noqa: TRY400
            return
        except Exception as trouble:  # noqa: BLE001 -- as above
            log.error("artifact %s could not be kept: %s", page.key, _line(trouble))  # noqa: TRY400


def _log_here(otherwise: Log) -> Log:
    """The task run's own log where there is one."""
    try:
        found: Log = get_run_logger()
    except MissingContextError:
        return otherwise
    return found


def _has_something_to_say(record: logging.LogRecord) -> bool:
    """Of a failed state Prefect prints its representation and an empty trace ("NoneType: None"), and then says how the
    task run finished: the second line is enough."""
    return record.exc_info != (None, None, None)


def _line(trouble: BaseException) -> str:
    return f"{type(trouble).__name__}: {trouble}".splitlines()[0]
