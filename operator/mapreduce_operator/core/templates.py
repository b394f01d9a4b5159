"""The templates of a run on trial: nothing is dispatched with one that the API server would refuse.

All stages are tried before the first Job, so that nobody pays for a map whose reduce cannot even start. A correction is
tried at once; a refusal is tried again by itself, since what the template refers to may have been mended.
"""

from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from mapreduce_operator.api import MapReduceJobSpec, ResultContract, Work
from mapreduce_operator.core.contract import PARAMS_BYTES, ResultRule
from mapreduce_operator.core.effects import Announce, Effect, VerifyTemplate
from mapreduce_operator.core.expressions import Expression, ExpressionError
from mapreduce_operator.core.jobs import Revision, prepare
from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.plan import canonical
from mapreduce_operator.core.redrives import patched_template

REVERIFY_SECONDS: Final = 30.0
"""How often a template that the API server refused is tried again."""


def rule_of(stage: Stage, text: str) -> Expression:
    """The rule for the results of a stage. Raises ExpressionError for one that no result could keep."""
    rule = Expression(text)
    rule.check_names(("result", "item") if stage is Stage.MAP else ("result",))
    return rule


@dataclass(frozen=True, slots=True)
class _Rejection:
    """The API server's word against a template, and when to ask again."""

    message: str
    again_at: float


class Templates:
    """Revisions and result rules of the stages, and what the API server thinks of them."""

    def __init__(self, ref: RunRef, spec: MapReduceJobSpec) -> None:
        self._ref: Final = ref
        self.labels: dict[str, str] = {}
        """Labels of the MapReduceJob that its Jobs and pods get as well; other ones make no other revision."""
        self._verified: dict[Stage, str] = {}
        self._verifying: dict[Stage, str] = {}
        self._rules: dict[Stage, ResultRule] = {}
        self._redriven: dict[str, tuple[Revision, Revision | None]] = {}
        """What Redrives make of the map's revision, and of which, by the uids of the Redrives."""
        self.respec(spec)

    def respec(self, spec: MapReduceJobSpec) -> None:
        """The spec changed; what was refused before may be right now."""
        self._map = spec.map
        self._params = spec.params
        self._redriven.clear()
        works: dict[Stage, Work | None] = {Stage.MAP: spec.map, Stage.REDUCE: spec.reduce}
        self._rejected: dict[Stage, _Rejection] = {}
        self._revisions = {
            stage: prepare(stage, work, self._ref, spec.params) for stage, work in works.items() if work is not None
        }
        size = len(canonical(spec.params))
        self._params_too_large = (
            f"spec.params are {size:,} bytes as JSON, and at most {PARAMS_BYTES:,} go to the agents. "
            "Make them smaller, or mount a ConfigMap by the template; the job goes on by itself"
            if size > PARAMS_BYTES
            else ""
        )
        self._invalid_rule = ""
        for stage, work in works.items():
            contract = work.result if work is not None else ResultContract()
            try:
                rule = rule_of(stage, contract.rule) if contract.rule else None
                self._rules[stage] = ResultRule(contract.required, rule)
            except ExpressionError as error:
                # Agents that end meanwhile are judged by the last rule that was one.
                self._rules.setdefault(stage, ResultRule(contract.required))
                self._invalid_rule = f"spec.{stage}.result.rule: {error}. Correct it; the job goes on by itself"

    def revision(self, stage: Stage) -> Revision | None:
        return self._revisions.get(stage)

    def redriven(self, accepted: Accepted) -> Revision | None:
        """The template of the map as a Redrive patches it; None where the patch makes no template of it."""
        current = self._revisions[Stage.MAP]
        if not accepted.patches_template:
            return current
        known = self._redriven.get(accepted.uid)
        if known is None or known[0] is not current:
            try:
                template = patched_template(accepted, self._map)
                revision = prepare(
                    Stage.MAP, self._map.model_copy(update={"template": template}), self._ref, self._params
                )
            except ValidationError:
                revision = None
            known = self._redriven[accepted.uid] = current, revision
        return known[1]

    def rule(self, stage: Stage) -> ResultRule:
        return self._rules[stage]

    @property
    def obstacle(self) -> tuple[str, str] | None:
        """(reason, message) of what the user has to mend before anything is dispatched."""
        if self._params_too_large:
            return "ParamsTooLarge", self._params_too_large
        if self._invalid_rule:
            return "InvalidResultRule", self._invalid_rule
        if self._rejected:
            return "TemplateRejected", "; ".join(rejection.message for rejection in self._rejected.values())
        return None

    @property
    def good(self) -> bool:
        """The API server takes all templates as they are now."""
        tried = all(self._verified.get(stage) == revision.hash for stage, revision in self._revisions.items())
        return tried and self.obstacle is None

    def next_trial(self) -> float | None:
        """When a refused template is tried again, in seconds since the epoch."""
        return min(
            (one.again_at for stage, one in self._rejected.items() if stage not in self._verifying), default=None
        )

    def try_out(self, now: float) -> list[Effect]:
        """What has to be tried now."""
        effects: list[Effect] = []
        if self._params_too_large:
            # The API server would blame the template.
            return effects
        for stage, revision in self._revisions.items():
            rejection = self._rejected.get(stage)
            if revision.hash in {self._verified.get(stage), self._verifying.get(stage)}:
                continue
            if rejection is None or rejection.again_at <= now:
                self._verifying[stage] = revision.hash
                effects.append(VerifyTemplate(stage))
        return effects

    def tried(self, stage: Stage, revision: str, rejection: str | None, now: float) -> list[Effect]:
        """The API server tried a revision; `rejection` is its word against it."""
        if self._verifying.get(stage) == revision:
            del self._verifying[stage]
        current = self._revisions.get(stage)
        if current is None or current.hash != revision:
            return []
        before = self._rejected.pop(stage, None)
        if rejection is None:
            self._verified[stage] = revision
            return []
        self._verified.pop(stage, None)
        message = (
            f"the API server refuses spec.{stage}.template: {rejection}. "
            "Correct the template, or what it refers to; the job goes on by itself"
        )
        self._rejected[stage] = _Rejection(message, now + REVERIFY_SECONDS)
        if before is not None and before.message == message:
            return []
        return [Announce("Warning", "TemplateRejected", message)]
