"""Manifests mean to us what they mean to kubectl; and what we write means to it what it means to us."""

import json
import os
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.cli.kubectl_yaml import read, written

VALUES: dict[str, Any] = {}
"""What is written, and what kubectl makes of it."""
for line in """
true   y Y yes Yes YES on On ON true True TRUE !!bool_y
false  n N no No NO off Off OFF false False FALSE
null   null Null NULL ~
""   ''
"n"    "n" 'n' !!str_n
0      0 00 -0 0.0 -0.0
1      1 1_ +1 01 0x_1 0.1e1
5      5 5. 5.0 .5e1 !!int_'5' !!float_5
-5     -5 -05
8      08 010
511    0777 +0777
779    0779
-15    -0o17 -0O17 -0xF -0Xf -0b1111 -0B1111 -0o_17
1000   1000 1_000 1__000 1e3 1E3 1e+3 1.e3
0.5    .5 +.5 0.5 0.5_0
1e-07  1e-7
9223372036854775807    9223372036854775807
-9223372036854775808   -9223372036854775808
9223372036854775808    9223372036854775808
18446744073709551616   18446744073709551616
1e20   1e20 100000000000000000000.0 100000000000000000000
7.777777777777778e24   07777777777777777777777777
itself yEs oN tRue nULL inf -inf nan Infinity = << . + -- 1e e3 1e3.5 0x1p3 1e400 0b 0b12 0x 0xg 0o8 _1 ._5
itself 0xFFFFFFFFFFFFFFFFF 1:30 190:20:30 2026-01-01 2026-01-01T10:00:00Z
""".strip().splitlines():
    head, *forms = line.split()
    VALUES |= {
        form.replace("_", " ", 1) if form[0] == "!" else form: form if head == "itself" else json.loads(head)
        for form in forms
    }
REFUSED = (".inf", "-.inf", "+.Inf", ".INF", ".nan", ".NaN", ".NAN", "!!int a", "!!bool 1")
KEYS = {"a": "a", "1": "1", "-5": "-5", "true": "true", "false": "false", "2026-01-01": "2026-01-01", "1:30": "1:30"}
"""Keys that are read as they are written; of the others this is what kubectl has."""
OTHERS = {"y": "true", "n": "false", "Yes": "true", "off": "false", "True": "true", "0777": "511", "0o17": "15"} | {
    "1_000": "1000", "1e3": "1000", "+5": "5", "08": "8", "1.5": "1.5", "1e6": "1e+06", "123456789.5": "1.2345679e+08",
}  # fmt: skip
NO_KEYS = ("null", "~")
KUBECTL = shutil.which("kubectl")
by_kubectl = pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl")


def is_json(found: object, expected: object) -> bool:
    """Whether they are the same in JSON, where 1 and 1.0 are and 1 and true are not."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return found is expected or found == expected
    return isinstance(expected, int | float) and not isinstance(expected, bool) and float(found) == float(expected)


@pytest.mark.parametrize("text", VALUES)
def test_a_value_is_read_as_kubectl_reads_it(text: str) -> None:
    (found,) = read(f"v: {text}\nw: [{text}]")
    assert is_json(found["v"], VALUES[text])
    assert is_json(found["w"][0], VALUES[text])


@pytest.mark.parametrize("text", KEYS)
def test_a_key_that_kubectl_leaves_as_it_is(text: str) -> None:
    assert list(read(f"{text}: 1")) == [{KEYS[text]: 1}]


@pytest.mark.parametrize("text", [*OTHERS, *NO_KEYS])
def test_a_key_that_kubectl_changes_is_refused_unless_it_is_in_quotes(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"to kubectl: put it in quotes\n.*line 2, column 4"):
        list(read(f"a:\n  {{{text}: 1}}"))
    assert list(read(f'{{"{text}": 1}}')) == [{text: 1}]


@pytest.mark.parametrize("text", [*REFUSED, "!!binary aGk=", "!!timestamp 2026-01-01", "!!set {a}", "!!omap []"])
def test_what_has_no_value_in_json_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="line 1, column 4"):
        list(read(f"v: {text}"))


def test_a_number_and_its_text_are_the_same_key() -> None:
    with pytest.raises(yaml.YAMLError, match="the key '1' is there twice"):
        list(read('{1: a, "1": b}'))


def test_a_key_may_be_said_elsewhere() -> None:
    assert list(read("{a: &x 5, b: {*x : 1}, c: *x}")) == [{"a": 5, "b": {"5": 1}, "c": 5}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from([*VALUES, *REFUSED, *OTHERS, *NO_KEYS]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*VALUES, *OTHERS, *NO_KEYS]), inner),
    max_leaves=10,
)  # fmt: skip


@given(JSON)
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    assert list(read(written(value))) == [value]


# ------------------------------------------------------------------------------------------------------ the real one


def of_kubectl(values: list[str]) -> Any:
    """What kubectl makes of values in a manifest; no cluster is asked."""
    assert KUBECTL is not None
    lines = "".join(f"  - {value}\n" for value in values)
    manifest = f"apiVersion: example.com/v1\nkind: Any\nmetadata: {{name: any}}\nspec:\n{lines}"
    words = [KUBECTL, "annotate", "--local", "--filename=-", "--output=json", "some=thing"]
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": os.devnull}
    done = subprocess.run(words, input=manifest, text=True, capture_output=True, check=True, env=environment)
    return json.loads(done.stdout)["spec"]


@by_kubectl
def test_kubectl_reads_these_values_so() -> None:
    found = dict(zip(VALUES, of_kubectl(list(VALUES)), strict=True))
    assert {text: value for text, value in found.items() if not is_json(value, VALUES[text])} == {}


@by_kubectl
def test_kubectl_reads_these_keys_so() -> None:
    keys = KEYS | OTHERS
    assert of_kubectl([f"{{{text}: 1}}" for text in keys]) == [{key: 1} for key in keys.values()]


@by_kubectl
@pytest.mark.parametrize("value", [*REFUSED[:7], *(f"{{{text}: 1}}" for text in NO_KEYS)])
def test_kubectl_refuses_these_as_well(value: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        of_kubectl([value])


@by_kubectl
def test_kubectl_reads_what_is_written_as_it_was() -> None:
    texts = [*VALUES, *REFUSED, *OTHERS, *NO_KEYS]
    assert of_kubectl([written({"a": text}).strip().removeprefix("a: ") for text in texts]) == texts
    assert of_kubectl([f"{{{written({text: 1}).strip()}}}" for text in texts]) == [{text: 1} for text in texts]
