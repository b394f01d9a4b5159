"""How Kopf is set up: quiet, cheap, and never writing to our objects by itself."""

from typing import Any

import kopf

from mapreduce_operator.core.names import GROUP


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no copy of the last handled spec.

    There are no handlers that compare, and the copy would be made, deeply, for each event.
    """

    def build(self, *, body: kopf.Body, extra_fields: Any = None, ignored_fields: Any = None) -> kopf.BodyEssence:
        del body, extra_fields, ignored_fields
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing to store."""


def configure(settings: kopf.OperatorSettings) -> None:
    """Sets what differs from Kopf's defaults."""
    settings.posting.enabled = False  # the engine posts Events of its own, about jobs and not about log lines
    settings.scanning.disabled = True  # no watches on CRDs and namespaces, and no rights for them
    # Kopf removes a finalizer of its own name as soon as it sees no use for it: it must not be the engine's.
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.consistency_timeout = 0
    settings.queueing.idle_timeout = 1.0
    settings.queueing.error_delays = (1, 2, 5, 10, 30)
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 5)
    settings.watching.server_timeout = 290
    settings.watching.connect_timeout = 5
    settings.background.cancellation_polling = 5
    settings.execution.default_backoff = 5
