"""What keeps a run from going on at the moment, as its conditions tell it."""

from typing import Final

from mapreduce_operator.core.checkpoint import JournalError, JournalTooNewError, StateLostError
from mapreduce_operator.core.conditions import STATE_LOST
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.engine.dispatcher import LaunchRefused
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.ports import CheckpointNotFoundError, ClusterError, StorageError

_PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0)

LoadError = InputError | StorageError | JournalError | ClusterError
"""Why a run could not be loaded or planned."""


AskedError = InputError | CheckpointNotFoundError | JournalError | StorageError | ClusterError
"""Why something that was asked for could not be done."""


def reason_of(error: AskedError) -> str:
    """The reason of a condition that tells of it."""
    match error:
        case InputError() | StorageError():
            return error.reason
        case CheckpointNotFoundError():
            return "CheckpointNotFound"
        case JournalError():
            return "CheckpointDamaged"
        case ClusterError():
            return "ClusterUnavailable"


class Troubles:
    """Each as (reason, message), or None. Obstacles wait for a person, the others pass by themselves."""

    def __init__(self) -> None:
        self.obstacle: tuple[str, str] | None = None
        self.refusal: tuple[str, str] | None = None
        """Why the last Job could not be created."""
        self.no_launch_before = 0.0
        """In seconds since the epoch."""
        self._refusals = 0
        self._waiting: Final[dict[str, tuple[str, str]]] = {}
        """By what waits for storage, since several things do at the same time and each ends by itself."""

    @property
    def storage(self) -> tuple[str, str] | None:
        """Of what has waited longest."""
        return next(iter(self._waiting.values()), None)

    def waits(self, what: str, error: StorageError) -> None:
        self._waiting[what] = error.reason, f"{what}: {error}"

    def goes_on(self, what: str) -> None:
        self._waiting.pop(what, None)

    @property
    def any(self) -> bool:
        return bool(self.obstacle or self.storage or self.refusal)

    def clear(self) -> None:
        self.obstacle = self.refusal = None
        self._waiting.clear()

    def not_loaded(self, error: LoadError) -> None:
        match error:
            case InputError():
                self.obstacle = error.reason, str(error)
            case StateLostError():
                self.obstacle = STATE_LOST, str(error)
            case JournalTooNewError():
                self.obstacle = "StateTooNew", str(error)
            case JournalError():
                self.obstacle = "StateDamaged", str(error)
            case StorageError():
                self.waits("the run is not loaded yet", error)
            case ClusterError():
                self.refusal = "ClusterUnavailable", str(error)

    def refused(self, refusal: LaunchRefused, now: float) -> None:
        """Nothing is launched for a while, longer each time in a row."""
        self.refusal = refusal.reason, refusal.message
        self.no_launch_before = now + pause_after(self._refusals, _PAUSES)
        self._refusals += 1

    def launched(self) -> None:
        self.refusal, self._refusals = None, 0
