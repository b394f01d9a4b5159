"""Runs scripts as Argo CD does (util/lua of argoproj/argo-cd): in Lua 5.1, with few of its libraries.

An object loses something on its way through Lua, there as here: null is not known, an empty object cannot be told from
an empty list, and all numbers are floating-point.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import lupa.lua51 as lupa

Body = dict[str, Any]

_SANDBOX: Final = """
  for _, name in ipairs({"io", "string", "math", "coroutine", "debug", "module", "require", "dofile", "loadfile"}) do
    _G[name] = nil
  end
  os = { time = os.time, date = os.date }
"""
"""What is open to scripts in argocd-cm unless an administrator sets useOpenLibs."""


def run(script: Path, body: Mapping[str, Any]) -> Any:
    """What a script makes of an object."""
    lua = lupa.LuaRuntime(register_eval=False, register_builtins=False)
    lua.eval("getmetatable('')").__index = None
    lua.execute(_SANDBOX)
    lua.globals().obj = _to_lua(lua, body)
    return _to_json(lua.execute(script.read_text()))


def health(kind: Path, body: Mapping[str, Any]) -> Body:
    found: Body = run(kind / "health.lua", body)
    assert found["status"] in {"Healthy", "Progressing", "Degraded", "Suspended"}
    return found


def discovered(kind: Path, body: Mapping[str, Any]) -> list[Body]:
    """The actions that are shown for an object, as Argo CD lists them."""
    found = run(kind / "actions" / "discovery.lua", body) or {}
    return [{"name": name, **fields} for name, fields in sorted(found.items())]


def patched(kind: Path, action: str, body: Mapping[str, Any]) -> Body:
    """The object as an action leaves it: what Argo CD makes a merge patch of."""
    found = run(kind / "actions" / action / "action.lua", body)
    assert isinstance(found, dict)
    restored: Body = _restored(found, body)
    return restored


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Body:
    """What makes one object of another, by RFC 7396: what Argo CD sends to the API server."""
    patch: Body = dict.fromkeys(old.keys() - new.keys())
    for key in new:
        if isinstance(old.get(key), Mapping) and isinstance(new[key], Mapping):
            below = merge_patch(old[key], new[key])
            patch |= {key: below} if below else {}
        elif key not in old or old[key] != new[key]:
            patch[key] = new[key]
    return patch


def created(kind: Path, action: str, body: Mapping[str, Any]) -> Body:
    """The one object that an action creates."""
    (impact,) = run(kind / "actions" / action / "action.lua", body)
    assert impact["operation"] == "create"
    resource: Body = impact["resource"]
    return resource


def _to_lua(lua: lupa.LuaRuntime, value: Any) -> Any:
    if isinstance(value, Mapping):
        return lua.table_from({key: _to_lua(lua, below) for key, below in value.items() if below is not None})
    if isinstance(value, list):
        return lua.table_from([_to_lua(lua, below) for below in value if below is not None])
    return value if isinstance(value, bool | str) or value is None else float(value)


def _to_json(value: Any) -> Any:
    if lupa.lua_type(value) == "table":
        keys = list(value.keys())
        if all(isinstance(key, str) for key in keys) and keys:
            return {key: _to_json(value[key]) for key in keys}
        assert keys == list(range(1, len(keys) + 1)), f"neither a list nor an object: {keys}"
        return [_to_json(value[key]) for key in keys]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _restored(new: Any, old: Any) -> Any:
    """Empty objects that came back as empty lists are objects again, where the other object shows that they were."""
    if isinstance(new, dict) and isinstance(old, Mapping):
        return {key: _restored(below, old.get(key)) for key, below in new.items()}
    if isinstance(new, list) and isinstance(old, Mapping) and not new:
        return dict(old)
    if isinstance(new, list) and isinstance(old, list):
        # Directly in a list it is not restored.
        return [_restored(one, was) if type(one) is type(was) else one for one, was in zip(new, old, strict=False)]
    return new
