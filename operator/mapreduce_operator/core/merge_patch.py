"""JSON merge patches: what a Redrive changes of an item, or of the template of its job."""

from typing import Any


def merge_patch(target: Any, patch: Any) -> Any:
    """The target after the patch, as RFC 7386 (now 7396) has it: objects are merged, null removes, all else replaces.

    The target stays as it is; the outcome shares with it what was not changed.
    """
    return _merge(target, patch, by_name=False)


def merge_named(target: Any, patch: Any) -> Any:
    """The same, except for lists of objects with names, such as containers and environment variables.

    There each entry of the patch is merged into the one of its name, which keeps its place; new ones come last. Lists
    in which an entry has no name, or two have the same, are replaced as a whole.
    """
    return _merge(target, patch, by_name=True)


def _merge(target: Any, patch: Any, *, by_name: bool) -> Any:
    if isinstance(patch, dict):
        merged = dict(target) if isinstance(target, dict) else {}
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = _merge(merged.get(key), value, by_name=by_name)
        return merged
    if by_name and isinstance(patch, list) and patch:
        entries, changes = _by_name(target if isinstance(target, list) else []), _by_name(patch)
        if entries is not None and changes is not None:
            for name, change in changes.items():
                entries[name] = _merge(entries.get(name), change, by_name=True)
            return list(entries.values())
    return patch


def _by_name(entries: list[Any]) -> dict[str, Any] | None:
    """The entries by their names, in order; None when these do not tell them apart."""
    named: dict[str, Any] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name in named:
            return None
        named[name] = entry
    return named
