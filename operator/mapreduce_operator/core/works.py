"""What the stages of a run run at present, and how they are retried: the spec as it serves decisions."""

from mapreduce_operator.api import MapReduceJobSpec, Retry, Work
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.plan import canonical


class Works:
    """The spec of a run, which its user may change at any time."""

    def __init__(self, spec: MapReduceJobSpec) -> None:
        self._last_reduce = spec.reduce
        self.respec(spec)

    def respec(self, spec: MapReduceJobSpec) -> None:
        self.spec = spec
        self._last_reduce = spec.reduce or self._last_reduce
        self.text = canonical(spec.work_as_written())
        """What is run, as it is kept with the checkpoints."""

    def of(self, stage: Stage) -> Work | None:
        """What a stage runs, or None for a job without reduce."""
        return self.spec.map if stage is Stage.MAP else self.spec.reduce

    def retry(self, stage: Stage) -> Retry:
        """The retry policy of a stage. A reduce that was taken out of the spec while it runs is judged by its own."""
        return (self.of(stage) or self._last_reduce or self.spec.map).retry
