"""Results that are kept in memory for a while."""

from __future__ import annotations

from custom.workbench.serve.results import Results


def test_a_result_is_kept_for_its_time_and_the_oldest_goes_first():
    now = 0.0
    results = Results(most=2, seconds=10, clock=lambda: now)
    first = results.add("a")
    now = 5.0
    second = results.add("b")
    assert (results.get(first), results.get(second)) == ("a", "b")
    now = 9.0
    third = results.add("c")
    assert results.get(first) is None
    assert (results.get(second), results.get(third)) == ("b", "c")
    now = 15.0
    assert results.get(second) is None and results.get(third) == "c"


def test_keys_are_long_and_differ():
    results = Results(most=100, seconds=10)
    keys = {results.add("a") for _ in range(100)}
    assert len(keys) == 100
    assert min(map(len, keys)) >= 22  # 128 bits
    assert results.get("") is None and results.get("../results") is None
