"""Amounts of memory: read as Kubernetes reads them, and raised without ever doing harm."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.core.quantities import parse_memory, raised_memory

MI: Final = 1024**2
GI: Final = 1024**3

amounts: Final = st.builds(
    "{}{}".format,
    st.integers(0, 10_000) | st.decimals(0, 10_000, places=3),
    st.sampled_from(["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "e3", "E9"]),
)
"""What may stand in a template."""

maxima: Final = st.builds(
    "{}{}".format,
    st.integers(0, 10_000) | st.decimals(0, 10_000, places=3),
    st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]),
)
"""What the API server lets through as maxMemory."""

factors: Final = st.floats(1, 10, exclude_min=True)

# -------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        (512, 512),
        (1.5e9, 1_500_000_000),
        (1e22, 10**22),
        ("1k", 10**3),
        ("1M", 10**6),
        ("1G", 10**9),
        ("1T", 10**12),
        ("1P", 10**15),
        ("1E", 10**18),
        ("1Ki", 2**10),
        ("1Mi", 2**20),
        ("1Gi", 2**30),
        ("1Ti", 2**40),
        ("1Pi", 2**50),
        ("1Ei", 2**60),
        ("128974848000m", 128_974_848),
        ("1500m", 2),
        ("1u", 1),
        ("1n", 1),
        ("1e9", 10**9),
        ("1E9", 10**9),
        ("1.5e+9", 1_500_000_000),
        ("1500e-3", 2),
        ("1.5Gi", 1536 * MI),
        ("0.1Gi", 107_374_183),
        (".5Gi", 512 * MI),
        ("1.", 1),
        ("+1Gi", GI),
        ("00512Mi", 512 * MI),
        (" 1Gi ", GI),
    ],
)
def test_an_amount_is_read_as_kubernetes_reads_it(text: str | float, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "Gi",
        "1 Gi",
        "1gi",
        "1K",
        "1GB",
        "1KiB",
        "1mi",
        "1e",
        "1e2.5",
        "1e3Mi",
        "1e1000000000",
        "1.2.3",
        "1,5Gi",
        "-1Gi",
        "--1",
        "0x10",
        "1_000",
        "\u0661Mi",
        "\u00bdGi",
        "nan",
        "lots",
        "$(MEMORY)",
        -1,
        float("inf"),
        float("nan"),
        True,
    ],
)
def test_what_is_no_amount_is_told(text: str | float) -> None:
    with pytest.raises(ValueError, match="is not an amount of memory; write it as Kubernetes does, such as 512Mi"):
        parse_memory(text)


@given(st.integers(0, 2**63))
def test_whole_bytes_are_read_to_the_byte(size: int) -> None:
    assert parse_memory(size) == parse_memory(str(size)) == size


@given(st.text())
def test_any_text_is_an_amount_or_a_value_error(text: str) -> None:
    try:
        assert parse_memory(text) >= 0
    except ValueError:
        assert not text.isascii() or not text.isdigit()


# -------------------------------------------------------------------------------------------------------------- raising


def resources(request: Any, limit: Any) -> dict[str, Any]:
    return {"requests": {"cpu": "1", "memory": request}, "limits": {"cpu": "2", "memory": limit}}


@pytest.mark.parametrize(
    ("times", "request_memory", "limit_memory"),
    [(0, "256Mi", "0.5Gi"), (1, "384Mi", "768Mi"), (2, "576Mi", "1152Mi"), (3, "864Mi", "1728Mi")],
)
def test_request_and_limit_grow_each_time(times: int, request_memory: str, limit_memory: str) -> None:
    raised = raised_memory(resources("256Mi", "0.5Gi"), 1.5, "8Gi", times)

    assert raised == resources(request_memory, limit_memory)


@pytest.mark.parametrize(
    ("written", "factor", "times", "raised"),
    [
        ("1000Mi", 1.1, 2, "1210Mi"),  # 1.1 * 1.1 of floats is more than 1.21
        ("1G", 1.5, 1, "1431Mi"),
        ("1", 1.5, 1, "1Mi"),
        (GI, 2.0, 1, "2048Mi"),
        ("1e9", 2.0, 1, "1908Mi"),
        ("0", 2.0, 1, "0Mi"),
    ],
)
def test_what_is_raised_is_rounded_up_to_whole_mi(written: Any, factor: float, times: int, raised: str) -> None:
    assert raised_memory({"limits": {"memory": written}}, factor, "8Gi", times) == {"limits": {"memory": raised}}


@pytest.mark.parametrize(
    ("written", "maximum", "raised"),
    [
        ("3Gi", "8Gi", "6144Mi"),
        ("4Gi", "8Gi", "8192Mi"),
        ("5Gi", "8Gi", "8Gi"),
        ("5G", "8G", "8G"),  # not 7630Mi, which is more
        ("8Gi", "8Gi", "8Gi"),
        ("8192Mi", "8Gi", "8192Mi"),
        ("9Gi", "8Gi", "9Gi"),
        ("64G", "8Gi", "64G"),
    ],
)
def test_the_maximum_is_not_exceeded_and_nothing_is_taken_away(written: str, maximum: str, raised: str) -> None:
    assert raised_memory({"limits": {"memory": written}}, 2.0, maximum, 1) == {"limits": {"memory": raised}}


@pytest.mark.parametrize("times", [1000, 100_000])
def test_any_number_of_times_is_no_trouble(times: int) -> None:
    assert raised_memory({"limits": {"memory": "1Mi"}}, 9.75, "8Gi", times) == {"limits": {"memory": "8Gi"}}


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"limits": {}},
        {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
        {"limits": None, "requests": None},
        {"claims": [{"name": "gpu"}]},
    ],
)
def test_what_is_absent_stays_absent(written: dict[str, Any]) -> None:
    assert raised_memory(written, 2.0, "8Gi", 1) == written


def test_only_what_is_given_is_raised() -> None:
    assert raised_memory({"requests": {"memory": "1Gi"}}, 2.0, "8Gi", 1) == {"requests": {"memory": "2048Mi"}}
    assert raised_memory({"limits": {"memory": "1Gi"}}, 2.0, "8Gi", 1) == {"limits": {"memory": "2048Mi"}}


@pytest.mark.parametrize("malformed", [None, True, "lots", "1GB", "-1Gi", [], {"of": "1Gi"}])
def test_what_is_malformed_is_left_for_the_api_server_to_refuse(malformed: Any) -> None:
    assert raised_memory(resources("1Gi", malformed), 2.0, "8Gi", 1) == resources("2048Mi", malformed)
    assert raised_memory({"limits": malformed}, 2.0, "8Gi", 1) == {"limits": malformed}


def test_the_template_itself_is_not_changed() -> None:
    written = resources("256Mi", "512Mi")

    raised_memory(written, 2.0, "8Gi", 3)

    assert written == resources("256Mi", "512Mi")


def test_a_maximum_that_is_no_amount_is_told() -> None:
    with pytest.raises(ValueError, match="'much' is not an amount of memory"):
        raised_memory({"limits": {"memory": "1Gi"}}, 2.0, "much", 1)


def memory(resources: dict[str, Any], section: str) -> int:
    return parse_memory(resources[section]["memory"])


@given(amounts, amounts, factors, maxima, st.integers(0, 20))
def test_memory_is_never_lowered_and_never_beyond_the_maximum(
    request: str, limit: str, factor: float, maximum: str, times: int
) -> None:
    written = resources(request, limit)
    raised = raised_memory(written, factor, maximum, times)

    for section in ("requests", "limits"):
        assert memory(written, section) <= memory(raised, section)
        assert memory(raised, section) <= max(memory(written, section), parse_memory(maximum))


@given(amounts, amounts, factors, maxima, st.integers(0, 20))
def test_a_request_within_its_limit_stays_there(one: str, other: str, factor: float, maximum: str, times: int) -> None:
    request, limit = sorted([one, other], key=parse_memory)
    raised = raised_memory(resources(request, limit), factor, maximum, times)

    assert memory(raised, "requests") <= memory(raised, "limits")


@given(amounts, factors, maxima, st.integers(0, 19))
def test_each_time_gives_as_much_as_the_one_before_or_more(
    written: str, factor: float, maximum: str, times: int
) -> None:
    limits = {"limits": {"memory": written}}

    assert memory(raised_memory(limits, factor, maximum, times), "limits") <= memory(
        raised_memory(limits, factor, maximum, times + 1), "limits"
    )
