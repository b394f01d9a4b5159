"""YAML as kubectl reads it, so that a file means the same to both.

kubectl takes booleans as YAML 1.1 has them (y, n, yes, no, on, off) and numbers as Go does (0o17, 1e3), and leaves
dates and times of the day the texts that they are. A key is a text in JSON: kubectl makes "false" of the key n, which
nobody means. So a key of which it would make another text is refused here.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

_BOOL, _INT, _FLOAT, _NULL, _STR, _MERGE = (
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "str", "merge")
)
_TRUE: Final = frozenset({"y", "yes", "on", "true"})
_FALSE: Final = frozenset({"n", "no", "off", "false"})
_WORDS: Final = (
    dict.fromkeys(("", "~"), _NULL)
    | {"<<": _MERGE}
    | {
        form: tag
        for tag, words in ((_BOOL, _TRUE | _FALSE), (_NULL, {"null"}))
        for word in words
        for form in (word, word.upper(), word.title())
    }
)
_NO_JSON: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
"""Numbers that JSON does not have."""
_WHOLE: Final = re.compile(r"[-+]?(?:0b([01]+)|0o?([0-7]+)|0x([0-9a-f]+)|(0|[1-9][0-9]*))", re.IGNORECASE)
_MARKS: Final = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Of writing direction, which play tricks on a terminal."""
_ONLY_ESCAPED: Final = re.compile(f"[\x85\u2028\u2029]|{_MARKS.pattern}")
"""Besides, line breaks that whoever reads takes for spaces in the other styles."""
_BASES: Final = (2, 8, 16, 10)
_DECIMAL: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:e[-+]?[0-9]+)?", re.IGNORECASE)
_WHOLE_UP_TO: Final = 2**63


def _number(text: str) -> int | float | None:
    """What a text is as a number; None where it is none. A decimal that is whole is a whole number in JSON as well."""
    plain = text if text[:1] in {".", "_"} else text.replace("_", "")
    if found := _WHOLE.fullmatch(plain):
        digits, base = next((group, base) for group, base in zip(found.groups(), _BASES, strict=True) if group)
        value = int(digits, base) * (-1 if plain[0] == "-" else 1)
        if -_WHOLE_UP_TO <= value < 2 * _WHOLE_UP_TO:
            return value
    if not _DECIMAL.fullmatch(plain) or math.isinf(decimal := float(plain)):
        return None
    return int(decimal) if decimal.is_integer() and abs(decimal) < _WHOLE_UP_TO else decimal


def _tag(text: str) -> str:
    """What kubectl takes a text for that is not in quotes."""
    if (word := _WORDS.get(text)) is not None:
        return word
    match _number(text):
        case None:
            return _FLOAT if _NO_JSON.fullmatch(text) else _STR
        case int():
            return _INT
        case float():
            return _FLOAT


class _Loader(yaml.SafeLoader):
    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        plain = kind is yaml.ScalarNode and implicit[0]
        return _tag(value) if plain else super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Before anything is merged (<<) into the mapping, whose keys it may have as well.
        node = super().compose_mapping_node(anchor)
        node.value = [(_key(key), value) for key, value in node.value]
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise _wrong(key, f"the key {key.value!r} is there twice")
            seen.add(key.value)
        return node

    def construct_plain(self, node: yaml.ScalarNode) -> Any:
        """The value of a scalar by its tag, which somebody may have written before it."""
        text = node.value
        if node.tag in {_STR, _MERGE}:
            return text
        found = _tag(text)
        if node.tag == _NULL == found:
            return None
        if node.tag == _BOOL == found:
            return text.lower() in _TRUE
        number = _number(text)
        if node.tag not in {_INT, _FLOAT} or number is None:
            raise _wrong(node, f"{text!r} is no JSON value of the type {node.tag.rpartition(':')[2]}")
        return number


# Without a constructor of its own a tag is refused, such as those of dates and of bytes.
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.endswith((":map", ":seq"))
} | dict.fromkeys((_BOOL, _INT, _FLOAT, _NULL, _STR, _MERGE), _Loader.construct_plain)


def _key(key: yaml.Node) -> yaml.ScalarNode:
    if not isinstance(key, yaml.ScalarNode):
        raise _wrong(key, "a key is a list or a mapping, and has to be a text")
    text, tag = key.value, key.tag
    if tag == _MERGE:
        return key
    # kubectl makes texts of whole numbers and booleans; it refuses null, and rounds numbers with a point.
    as_json = {_INT: str(_number(text)), _BOOL: str(text.lower() in _TRUE).lower(), _STR: text}.get(tag)
    if as_json != text:
        what = "no text" if as_json is None else f"not the text {text!r} but {as_json!r}"
        raise _wrong(key, f"the key {text} is {what} to kubectl: put it in quotes")
    return yaml.ScalarNode(_STR, text, key.start_mark, key.end_mark, key.style)


def _wrong(node: yaml.Node, what: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what kubectl, or a reader of YAML 1.1 by the book, would take for something else."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        found: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        plain = kind is yaml.ScalarNode and implicit[0] and found == _STR
        return _tag(value) if plain else found

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar(_STR, text, style='"' if _ONLY_ESCAPED.search(text) else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def read(text: str) -> Iterator[Any]:
    """The documents in a text, as values of JSON. Raises yaml.YAMLError with the place of what cannot be read."""
    return iter(yaml.load_all(text, _Loader))


def written(value: Any) -> str:
    """A value of JSON as YAML."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return _MARKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
