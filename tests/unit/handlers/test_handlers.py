"""What Kopf is told must keep it from writing to our objects."""

import kopf

from mapreduce_operator.core.names import FINALIZER
from mapreduce_operator.handlers import configure


def test_kopf_does_not_know_the_engines_finalizer() -> None:
    settings = kopf.OperatorSettings()
    configure(settings)
    assert settings.persistence.finalizer != FINALIZER


def test_kopf_keeps_no_copy_of_the_spec() -> None:
    settings = kopf.OperatorSettings()
    configure(settings)
    body = kopf.Body({"metadata": {"name": "job"}, "spec": {"input": {"items": [1]}}})
    assert settings.persistence.diffbase_storage.build(body=body) == {}
    assert settings.persistence.diffbase_storage.fetch(body=body) is None
