"""Runs a container over every item of a list on Kubernetes, and loses nothing. docs/architecture.md is the map."""

__version__ = "0.1.0"
