"""What an administrator sets, read from the environment once at the start. The Helm chart's values end here."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

_PREFIX = "MAPREDUCE_"


class SettingsError(Exception):
    """An environment variable that cannot be used; the text names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Each field is the environment variable MAPREDUCE_<FIELD>."""

    storage_url: str = "file:///var/lib/mapreduce-operator"
    watch_namespace: str = ""
    """Empty: all namespaces."""
    max_active_jobs: int = 500
    """Jobs alive at the same time, over all MapReduceJobs; shared fairly."""
    max_items: int = 100_000
    max_item_bytes: int = 32_768
    probe_port: int = 8080
    """Serves /livez, /readyz and /metrics."""
    log_level: str = "INFO"
    log_format: str = "json"
    """json or text."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Raises SettingsError for a value that cannot be used."""
        given: dict[str, str | int] = {}
        for field in fields(cls):
            name = _PREFIX + field.name.upper()
            text = environment.get(name)
            if text is None:
                continue
            if field.type is not int:
                given[field.name] = text
                continue
            try:
                number = int(text)
            except ValueError:
                raise SettingsError(f"{name} is {text!r}, not a whole number") from None
            if number < 1:
                raise SettingsError(f"{name} is {number}; it must be at least 1")
            given[field.name] = number
        settings = cls(**given)  # type: ignore[arg-type]
        if settings.log_format not in {"json", "text"}:
            raise SettingsError(f"{_PREFIX}LOG_FORMAT is {settings.log_format!r}; it must be json or text")
        if settings.log_level.upper() not in logging.getLevelNamesMapping():
            raise SettingsError(
                f"{_PREFIX}LOG_LEVEL is {settings.log_level!r}; it must be DEBUG, INFO, WARNING or ERROR"
            )
        if settings.probe_port > 65_535:
            raise SettingsError(f"{_PREFIX}PROBE_PORT is {settings.probe_port}; it must be at most 65535")
        return settings
