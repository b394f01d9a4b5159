"""What the API counts of its own answers. Labels are of closed sets, never names."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram


class ApiMetrics:
    """Requests by what they asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests: Final = Counter(
            "mapreduce_api_requests", "Requests that were answered.", ["resource", "code"], registry=registry
        )
        self._seconds: Final = Histogram(
            "mapreduce_api_request_duration_seconds",
            "Time from a request to the last byte of its answer.",
            ["resource"],
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
            registry=registry,
        )

    def answered(self, resource: str, code: int, seconds: float) -> None:
        self._requests.labels(resource, f"{code}").inc()
        self._seconds.labels(resource).observe(seconds)
