"""The Kubernetes API by aiohttp and msgspec."""

from mapreduce_operator.adapters.kube.cluster import KubeCluster
from mapreduce_operator.adapters.kube.credentials import (
    Credentials,
    CredentialsError,
    Endpoint,
    InClusterCredentials,
    KubeconfigCredentials,
    find_credentials,
)
from mapreduce_operator.adapters.kube.leases import KubeLeases
from mapreduce_operator.adapters.kube.session import ApiSession

__all__ = [
    "ApiSession",
    "Credentials",
    "CredentialsError",
    "Endpoint",
    "InClusterCredentials",
    "KubeCluster",
    "KubeLeases",
    "KubeconfigCredentials",
    "find_credentials",
]
