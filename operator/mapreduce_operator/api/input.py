"""Where the items of a job come from."""

from pydantic import Field, JsonValue

from mapreduce_operator.api.enums import EmptyPolicy, InputFormat, OnDuplicate
from mapreduce_operator.api.model import Model
from mapreduce_operator.api.objectmeta import SUBDOMAIN


class ConfigMapInput(Model):
    """Reads the items from a ConfigMap."""

    name: str = Field(min_length=1, max_length=253, pattern=SUBDOMAIN)
    """Name of the ConfigMap, in the namespace of this job."""

    key: str = Field(min_length=1, max_length=253, pattern="^[-._a-zA-Z0-9]+$")
    """Key in the ConfigMap's data whose value holds the items."""

    format: InputFormat = InputFormat.JSON
    """How the value is written. JSON: one array of items. JSONLines: one item, any JSON value, on each line."""


class Input(Model):
    """The items to run the agent over: exactly one source (items or configMapRef), and how to read it.

    Items are read once, when the job is planned. Everything here can be corrected until then and is fixed afterwards.
    A job with forkFrom has its items from there, and no source here.
    """

    items: tuple[JsonValue, ...] | None = Field(default=None, max_length=50_000)
    """The items themselves, any JSON values. Each is handed to its agent as JSON, as /mapreduce/item.json. An object
    in Kubernetes holds about 1.5 MB altogether; apply large lists with `kubectl apply --server-side`, since without it
    256 KiB are the limit.
    """

    config_map_ref: ConfigMapInput | None = None

    id_expression: str | None = Field(default=None, min_length=1, max_length=1024)
    """A CEL expression over `item` that gives each item its id, such as `item.file`. The id must be a string or an
    integer, and stay the same for the same item: results, retries and dead letters are known by it. Without an
    expression the id is a hash of the item's content.
    """

    on_duplicate: OnDuplicate = OnDuplicate.FAIL
    """What happens when two items have the same id. Fail: the job is not planned and says which items they are.
    KeepFirst: the first counts, the others are left out.
    """

    empty_policy: EmptyPolicy = EmptyPolicy.SUCCEED
    """What a job without any items does. Succeed: it is complete at once, without a reduce. Fail: it fails. RunReduce:
    the reduce runs over no results.
    """

    max_items: int | None = Field(default=None, ge=1, le=100_000)
    """The most items that this job may have; with more it is not planned. A guard against a list that grew by
    accident.
    """
