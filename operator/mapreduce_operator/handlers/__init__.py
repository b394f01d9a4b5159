"""The only place that knows Kopf, which is here for the life of the custom resources and sees neither Jobs nor pods.

One event handler and no change handlers: an event costs no write, and nothing of the spec is copied into annotations.
"""

from mapreduce_operator.handlers.kopf_settings import configure
from mapreduce_operator.handlers.registry import build_registry
from mapreduce_operator.handlers.serving import serve_kopf

__all__ = ["build_registry", "configure", "serve_kopf"]
