"""Where the items of a job come from, which of them it runs, and in which order."""

from typing import Final

from pydantic import Field, JsonValue

from mapreduce_operator.api.enums import EmptyPolicy, InputFormat, OnDuplicate, SortOrder
from mapreduce_operator.api.model import Model
from mapreduce_operator.api.objectmeta import SUBDOMAIN

_OBJECT_KEY: Final = r"^[A-Za-z0-9_=-][A-Za-z0-9_=.-]{0,254}(/[A-Za-z0-9_=-][A-Za-z0-9_=.-]{0,254})*$"
"""Parts between single slashes, none of which begins with a dot: no key leads out of its folder."""


class ConfigMapInput(Model):
    """Reads the items from a ConfigMap.

    It holds 1 MiB: 10,000 items of 100 bytes as they are, and some ten times as many when they are compressed, as by
    `gzip items.jsonl; kubectl create configmap files --from-file=items.jsonl.gz`.
    """

    name: str = Field(min_length=1, max_length=253, pattern=SUBDOMAIN)
    """Name of the ConfigMap, in the namespace of this job."""

    key: str = Field(min_length=1, max_length=253, pattern="^[-._a-zA-Z0-9]+$")
    """Key in the ConfigMap's data or binaryData whose value holds the items, in UTF-8. What is compressed by gzip is
    decompressed, whatever the key is called.
    """

    format: InputFormat = InputFormat.JSON
    """How the value is written. JSON: one array of items. JSONLines: one item, any JSON value, on each line. CSV: the
    first line names the columns, and each row is an item, an object of strings.
    """


class ObjectInput(Model):
    """Reads the items from an object in the storage of the operator.

    It may have 64 MiB, before and after it is decompressed.
    """

    key: str = Field(min_length=1, max_length=512, pattern=_OBJECT_KEY)
    """Key of the object, below `_inputs/` and the namespace of this job: with `lists/files.jsonl.gz`, a job in `team-a`
    reads `_inputs/team-a/lists/files.jsonl.gz` below the operator's storage URL. Letters, digits, `_`, `=`, `-` and
    dots, in parts between slashes of which none begins with a dot. The operator never writes there, and never deletes.
    """

    format: InputFormat = InputFormat.JSON
    """How the object is written. JSON: one array of items, at most 8 MiB. JSONLines: one item, any JSON value, on each
    line. CSV: the first line names the columns, and each row is an item, an object of strings. Any of them in UTF-8,
    as it is or compressed by gzip.
    """


class OrderBy(Model):
    """One of the things by which items are put in order."""

    expression: str = Field(min_length=1, max_length=1024)
    """A CEL expression over `item`, such as `item.size`, that gives a boolean, a number, a string or null."""

    order: SortOrder = SortOrder.ASCENDING
    """Ascending: false, true, numbers, strings by their code points. Descending: the reverse of that. Items for which
    the expression gives null, or asks for a field that they do not have, come last in either.
    """


class Input(Model):
    """The items to run the agent over: exactly one source (items, configMapRef or object), and how to read it.

    Items are read once, when the job is planned: they are read, filtered, put in order, given their ids, rid of
    duplicates, and cut by offset and limit, in this order. Everything here can be corrected until then and is fixed
    afterwards. A job with forkFrom has its items from there, and no source here.
    """

    items: tuple[JsonValue, ...] | None = Field(default=None, max_length=50_000)
    """The items themselves, any JSON values. Each is handed to its agent as JSON, as /mapreduce/item.json. An object
    in Kubernetes holds about 1.5 MB altogether; apply large lists with `kubectl apply --server-side`, since without it
    256 KiB are the limit.
    """

    config_map_ref: ConfigMapInput | None = None

    object: ObjectInput | None = None

    filter: str | None = Field(default=None, min_length=1, max_length=2048)
    """A CEL expression over `item` that says which items are run, such as `item.size > 0 && item.lang == 'en'`. Where
    not all items have a field, it asks for that first: `has(item.lang) && …`. An item for which it has no answer is an
    error and not left out.
    """

    order_by: tuple[OrderBy, ...] = Field(default=(), max_length=4)
    """In which order items are run: by the first entry, then, among those that are equal, by the second, and so on.
    What is equal in all of them stays in the order of the input.
    """

    id_expression: str | None = Field(default=None, min_length=1, max_length=1024)
    """A CEL expression over `item` that gives each item its id, such as `item.file`. The id must be a string or an
    integer, and stay the same for the same item: results, retries and dead letters are known by it. Without an
    expression the id is a hash of the item's content.
    """

    on_duplicate: OnDuplicate = OnDuplicate.FAIL
    """What happens when two items have the same id. Fail: the job is not planned and says which items they are.
    KeepFirst: the first counts, the others are left out.
    """

    offset: int = Field(default=0, ge=0, le=200_000)
    """How many items are left out at the beginning."""

    limit: int | None = Field(default=None, ge=1, le=100_000)
    """The most items that are taken; those after them are left out."""

    empty_policy: EmptyPolicy = EmptyPolicy.SUCCEED
    """What a job without any items does. Succeed: it is complete at once, without a reduce. Fail: it fails. RunReduce:
    the reduce runs over no results.
    """

    max_items: int | None = Field(default=None, ge=1, le=100_000)
    """The most items that this job may have; with more it is not planned. A guard against a list that grew by
    accident. It counts what is left after limit.
    """

    @property
    def reference(self) -> ConfigMapInput | ObjectInput | None:
        """What the items are read from, where they stand outside of the job and can change after it was planned."""
        return self.config_map_ref or self.object
