"""What an administrator may set, and what is refused with the name of the variable."""

import pytest

from mapreduce_operator.settings import Settings, SettingsError


def test_nothing_needs_to_be_set() -> None:
    settings = Settings.from_environment({})

    assert settings == Settings(
        storage_url="file:///var/lib/mapreduce-operator",
        s3_endpoint="",
        s3_region="",
        s3_path_style=None,
        watch_namespace="",
        max_active_jobs=500,
        max_items=100_000,
        max_item_bytes=32_768,
        probe_port=8080,
        lease_namespace="",
        lease_name="mapreduce-operator",
        lease_seconds=15,
        copied_labels=(),
        identity="",
        per_job_metrics=False,
        log_level="INFO",
        log_format="json",
    )


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("MAPREDUCE_STORAGE_URL", "file:///data", "storage_url", "file:///data"),
        ("MAPREDUCE_S3_ENDPOINT", "http://seaweedfs:8333", "s3_endpoint", "http://seaweedfs:8333"),
        ("MAPREDUCE_S3_REGION", "eu-central-1", "s3_region", "eu-central-1"),
        ("MAPREDUCE_S3_PATH_STYLE", "true", "s3_path_style", True),
        ("MAPREDUCE_S3_PATH_STYLE", "false", "s3_path_style", False),
        ("MAPREDUCE_WATCH_NAMESPACE", "team-a", "watch_namespace", "team-a"),
        ("MAPREDUCE_WATCH_NAMESPACE", "", "watch_namespace", ""),
        ("MAPREDUCE_MAX_ACTIVE_JOBS", "1", "max_active_jobs", 1),
        ("MAPREDUCE_MAX_ITEMS", "1000", "max_items", 1000),
        ("MAPREDUCE_MAX_ITEM_BYTES", "1024", "max_item_bytes", 1024),
        ("MAPREDUCE_PROBE_PORT", "9090", "probe_port", 9090),
        ("MAPREDUCE_LEASE_NAMESPACE", "operators", "lease_namespace", "operators"),
        ("MAPREDUCE_LEASE_NAME", "second", "lease_name", "second"),
        ("MAPREDUCE_LEASE_SECONDS", "5", "lease_seconds", 5),
        ("MAPREDUCE_COPIED_LABELS", "team", "copied_labels", ("team",)),
        ("MAPREDUCE_COPIED_LABELS", "team, example.com/Cost_1,", "copied_labels", ("team", "example.com/Cost_1")),
        ("MAPREDUCE_COPIED_LABELS", "kueue.x-k8s.io/queue-name", "copied_labels", ("kueue.x-k8s.io/queue-name",)),
        ("MAPREDUCE_COPIED_LABELS", "", "copied_labels", ()),
        ("MAPREDUCE_IDENTITY", "operator-0", "identity", "operator-0"),
        ("MAPREDUCE_PER_JOB_METRICS", "true", "per_job_metrics", True),
        ("MAPREDUCE_LOG_LEVEL", "DEBUG", "log_level", "DEBUG"),
        ("MAPREDUCE_LOG_LEVEL", "debug", "log_level", "debug"),
        ("MAPREDUCE_LOG_FORMAT", "text", "log_format", "text"),
    ],
)
def test_a_variable_sets_its_field_and_no_other(variable: str, text: str, field: str, value: object) -> None:
    settings = Settings.from_environment({variable: text})

    differing = {name for name in Settings.__dataclass_fields__ if getattr(settings, name) != getattr(Settings(), name)}
    assert getattr(settings, field) == value
    assert differing <= {field}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MAPREDUCE_MAX_ACTIVE_JOBS", "0"),
        ("MAPREDUCE_MAX_ACTIVE_JOBS", "-5"),
        ("MAPREDUCE_MAX_ACTIVE_JOBS", "many"),
        ("MAPREDUCE_MAX_ACTIVE_JOBS", ""),
        ("MAPREDUCE_MAX_ITEMS", "1e5"),
        ("MAPREDUCE_MAX_ITEMS", "100.000"),
        ("MAPREDUCE_MAX_ITEM_BYTES", "32Ki"),
        ("MAPREDUCE_MAX_ITEM_BYTES", "0"),
        ("MAPREDUCE_PROBE_PORT", "http"),
        ("MAPREDUCE_PROBE_PORT", "0"),
        ("MAPREDUCE_PROBE_PORT", "65536"),
        ("MAPREDUCE_S3_PATH_STYLE", "yes"),
        ("MAPREDUCE_S3_PATH_STYLE", "True"),
        ("MAPREDUCE_S3_PATH_STYLE", ""),
        ("MAPREDUCE_LEASE_SECONDS", "4"),
        ("MAPREDUCE_LEASE_SECONDS", "15s"),
        ("MAPREDUCE_COPIED_LABELS", "team costs"),
        ("MAPREDUCE_COPIED_LABELS", "-team"),
        ("MAPREDUCE_COPIED_LABELS", "a" * 64),
        ("MAPREDUCE_COPIED_LABELS", "Example.com/team"),
        ("MAPREDUCE_COPIED_LABELS", "example.com/"),
        ("MAPREDUCE_COPIED_LABELS", "*"),
        ("MAPREDUCE_COPIED_LABELS", "app.kubernetes.io/instance"),
        ("MAPREDUCE_COPIED_LABELS", "argocd.argoproj.io/instance"),
        ("MAPREDUCE_COPIED_LABELS", "kustomize.toolkit.fluxcd.io/name"),
        ("MAPREDUCE_COPIED_LABELS", "helm.toolkit.fluxcd.io/name"),
        ("MAPREDUCE_COPIED_LABELS", "mapreduce.dev/job"),
        ("MAPREDUCE_COPIED_LABELS", "app.kubernetes.io/managed-by"),
        ("MAPREDUCE_COPIED_LABELS", "batch.kubernetes.io/job-name"),
        ("MAPREDUCE_COPIED_LABELS", "job-name"),
        ("MAPREDUCE_LOG_FORMAT", "yaml"),
        ("MAPREDUCE_LOG_FORMAT", "JSON"),
        ("MAPREDUCE_LOG_FORMAT", ""),
        ("MAPREDUCE_LOG_LEVEL", "LOUD"),
        ("MAPREDUCE_LOG_LEVEL", ""),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_name_and_its_value(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({variable: text})

    assert variable in str(refused.value)
    assert text in str(refused.value)


def test_variables_of_others_are_no_hindrance() -> None:
    assert Settings.from_environment({"PATH": "/bin", "MAX_ITEMS": "7", "HOME": "/"}) == Settings()
