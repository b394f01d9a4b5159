"""Runs in scenes: what tests tell a run of Jobs and pods. Times are seconds since NOW."""

from typing import Any, Final

from mapreduce_operator.api import MapReduceJobSpec, Phase
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.checkpoint import SCHEMA_VERSION, Checkpoint, CommitReason, PlanInfo, digest
from mapreduce_operator.core.effects import Effect, FindPod, Launch
from mapreduce_operator.core.journal import Record, Segment, SegmentHeader, Start, decode_segment, encode_segment
from mapreduce_operator.core.names import RunRef, Stage, item_key, job_name
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, JobSeen, PodSeen

NOW: Final = 1_800_000_000.0
RUN: Final = RunRef("default", "demo", "run-1")
REDUCE_KEY: Final = item_key("run-1", Stage.REDUCE, "reduce")
PLANNED: Final = Turn(Phase.MAP, "Planned", "the items are planned")
TEMPLATE: Final[dict[str, Any]] = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
OTHER_TEMPLATE: Final[dict[str, Any]] = {"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}

CHECKPOINT: Final = Checkpoint(
    SCHEMA_VERSION, RUN.uid, PLANNED.phase, PLANNED.reason, PLANNED.message, PlanInfo(0, 0, "ab" * 32)
)
"""Of a run that has just been planned."""

DONE: Final = ContainerEnd(0, message='{"ok": true}')
CRASHED: Final = ContainerEnd(1, message="boom")


def spec(map_: dict[str, Any] | None = None, **more: Any) -> MapReduceJobSpec:
    """A spec whose failed attempts are retried after exactly 10 s, and that commits after 5 outcomes or 5 s."""
    backoff = {"type": "Fixed", "initialSeconds": 10, "jitter": 0}
    return MapReduceJobSpec.model_validate(
        {
            "input": {"items": []},
            "map": {"template": TEMPLATE, "retry": {"backoff": backoff}} | (map_ or {}),
            "checkpoint": {"everyItems": 5, "everySeconds": 5},
        }
        | more
    )


def new_run(keys: str, of: MapReduceJobSpec | None = None, turn: Turn = PLANNED) -> RunState:
    """A run whose items have single letters as keys; its templates are not verified yet."""
    return RunState(RUN, of or spec(), list(keys), turn)


def verified_run(keys: str, of: MapReduceJobSpec | None = None, turn: Turn = PLANNED) -> RunState:
    run = new_run(keys, of, turn)
    take_templates(run)
    return run


def launch(run: RunState, seconds: float = 0.0) -> list[str]:
    """Starts what the run wants; returns the names of the Jobs, such as `demo-a-d1` for the first dispatch of `a`."""
    run.decide(NOW + seconds)
    names = []
    for effect in run.dispatching.launch(1000, NOW + seconds):
        assert isinstance(effect, Launch)
        name = job_name(RUN, effect.dispatch.item_key, effect.dispatch.number)
        assert run.agents.started(effect.stage, effect.position, effect.dispatch.number, f"uid-{name}", NOW + seconds)
        names.append(name)
    return names


def carried(name: str) -> Carried:
    key, _, number = name.removeprefix("demo-").rpartition("-d")
    stage = Stage.REDUCE if key == REDUCE_KEY else Stage.MAP
    return Carried("run-1", stage, (Dispatch(key, int(number)),), "5f1c")


def job(name: str, **more: Any) -> JobSeen:
    return JobSeen("default", name, f"uid-{name}", "run-1", carried(name), **more)


def pod(name: str, agent: ContainerEnd | None = None, **more: Any) -> PodSeen:
    """The pod of a Job; it runs, or its agent ended."""
    phase = "Running" if agent is None else "Succeeded" if agent.exit_code == 0 else "Failed"
    known: dict[str, Any] = {"job": name, "job_uid": f"uid-{name}", "phase": phase, "agent": agent, "started": True}
    return PodSeen("default", f"{name}-x7k2p", f"pod-{name}", carried=carried(name), **known | more)


def observe(run: RunState, seen: PodSeen, seconds: float = 0.0) -> list[Effect]:
    return run.agents.observe_pod(seen, run.templates.rule(seen.carried.stage), NOW + seconds)


def all_run(run: RunState, names: list[str], seconds: float = 0.0) -> None:
    """The pods of these Jobs are seen to run, so that nothing is expected of them."""
    for name in names:
        assert observe(run, pod(name), seconds) == []


def find_no_pod(run: RunState, seconds: float) -> list[str]:
    """Lets the run ask for the pods that it misses, and there are none; returns the names of their Jobs."""
    asked = [effect.job for effect in run.decide(NOW + seconds) if isinstance(effect, FindPod)]
    for missing in asked:
        run.agents.no_pod(missing, NOW + seconds)
    return [missing.name for missing in asked]


def commit(run: RunState, seconds: float = 0.0) -> list[Effect]:
    """Storage takes everything that is not durable yet."""
    return run.commits.done(run.commits.begin(CommitReason.ITEMS, NOW), NOW + seconds)


def segment(*records: Record, starts: tuple[Start, ...] = ()) -> Segment:
    """What one commit made durable."""
    return Segment(SegmentHeader(1, "", Phase.MAP, NOW, CommitReason.ITEMS, starts=starts), list(records))


def landed(batch: Batch) -> Segment:
    """A batch as it is read back when it has become durable."""
    data = encode_segment(batch.header(1, 0, "", epoch=0), batch.records)
    return decode_segment(data, digest(data), "segment")


def take_templates(run: RunState) -> None:
    """The API server takes all templates as they are now."""
    for stage in Stage:
        revision = run.templates.revision(stage)
        if revision is not None:
            run.templates.tried(stage, revision.hash, None, NOW)
