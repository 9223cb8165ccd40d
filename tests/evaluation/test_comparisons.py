from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import bootstrap, friedmanchisquare, wilcoxon

from molmeta.errors import ConfigError
from molmeta.evaluation.comparisons import (
    bootstrap_interval,
    compare,
    compare_all,
    detectable_gain,
    holm,
    mean_ranks,
    nemenyi,
    paired_differences,
    power_note,
    tasks_needed,
)

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def method(*values: float) -> dict[str, float]:
    return {f"t{i}": float(v) for i, v in enumerate(values)}


def test_the_interval_is_scipy_s_percentile_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.05, 0.1, 30)
    oracle = bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=rng).confidence_interval
    assert bootstrap_interval(values) == (pytest.approx(oracle.low, abs=2e-3), pytest.approx(oracle.high, abs=2e-3))


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = np.random.default_rng(0).normal(size=40)
    narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_a_comparison_takes_the_tasks_that_both_have() -> None:
    rng = np.random.default_rng(0)
    left, right = method(*rng.normal(0.3, 0.1, 30)), method(*rng.normal(0.25, 0.1, 40))
    gaps = np.array([left[t] - right[t] for t in left])
    found = compare(left, right)
    assert found.difference == pytest.approx(gaps.mean())
    assert found.p_value == pytest.approx(wilcoxon(gaps).pvalue)
    assert (found.tasks, found.wins, found.losses, found.ties) == (30, (gaps > 0).sum(), (gaps < 0).sum(), 0)


def test_the_interval_covers_no_difference_for_equal_methods_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [compare(method(*rng.normal(size=30)), method(*rng.normal(size=30)), resamples=500) for _ in range(200)]
    assert 0.88 < np.mean([c.low <= 0 <= c.high for c in found]) < 0.99
    assert 0.01 < np.mean([c.p_value < 0.05 for c in found]) < 0.10


def test_the_effect_is_the_share_of_ranks_won_minus_the_share_lost() -> None:
    found = compare(method(0.5, 0.2, 0.1, 0.4), method(0.1, 0.1, 0.3, 0.4))  # gaps .4 .1 -.2 0: ranks 3, 1, -2
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.effect == pytest.approx((3 + 1 - 2) / 6)
    assert compare(method(2, 3, 4), method(1, 1, 1)).effect == 1


def test_wilcoxon_leaves_ties_out() -> None:
    gaps = [0.3, 0.1, -0.05, 0.2, 0.4, 0.15]
    with_ties = compare(method(*gaps, 0, 0), method(*[0] * 8))
    assert with_ties.p_value == pytest.approx(wilcoxon(gaps).pvalue)
    assert with_ties.ties == 2


def test_a_method_compared_with_itself_differs_by_nothing() -> None:
    same = method(0.5, 0.7, 0.1)
    found = compare(same, same)
    assert (found.difference, found.low, found.high, found.wins, found.losses, found.ties) == (0, 0, 0, 0, 0, 3)
    assert (found.p_value, found.effect) == (1, 0)


def test_rounding_noise_is_a_tie() -> None:
    assert compare(method(0.1 + 0.2, 0.5), method(0.3, 0.5)).ties == 2


def test_turning_a_comparison_round_turns_its_numbers_round() -> None:
    rng = np.random.default_rng(1)
    left, right = method(*rng.normal(size=20)), method(*rng.normal(size=20))
    there, back = compare(left, right), compare(right, left)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert (there.p_value, there.effect) == (pytest.approx(back.p_value), pytest.approx(-back.effect))


def test_a_comparison_prints_in_one_line() -> None:
    gaps = np.linspace(-0.02, 0.08, 40)
    found = str(compare(method(*gaps), method(*[0] * 40)))
    assert found.startswith("+0.030 [+0.021, +0.039], 32/40 tasks higher, Wilcoxon p < 0.0001")
    assert str(compare(method(0.1, 0.2), method(0.1, 0.2))).endswith("Wilcoxon p 1")


def test_methods_without_a_common_task_have_no_difference() -> None:
    found = compare({"a": 1.0}, {"b": 1.0})
    assert np.isnan([found.difference, found.low, found.high, found.p_value, found.effect]).all()
    assert (found.tasks, found.wins) == (0, 0)


def test_one_task_has_a_difference_and_nothing_more() -> None:
    found = compare({"a": 1.0}, {"a": 0.5})
    assert (found.difference, found.tasks, found.wins) == (0.5, 1, 1)
    assert np.isnan([found.low, found.high, found.p_value, found.effect]).all()
    assert str(found) == "+0.500, 1/1 tasks higher (too few for an interval)"


def test_a_task_without_a_finite_value_is_left_out_and_the_count_says_so() -> None:
    left, right = method(1, 2, NAN, INF, 5), method(0, 0, 0, INF, -INF)
    assert list(paired_differences(left, right)) == [1, 2]
    assert compare(left, right).tasks == 2
    assert bootstrap_interval([1, NAN]) == (pytest.approx(NAN, nan_ok=True), pytest.approx(NAN, nan_ok=True))


def test_holm_steps_down() -> None:
    # sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, the last raised to .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1, 1]
    assert holm([]) == []


def test_holm_does_not_count_a_test_that_was_not_made() -> None:
    assert holm([0.01, NAN, 0.02]) == pytest.approx([0.02, NAN, 0.02], nan_ok=True)


def test_holm_keeps_the_chance_of_any_false_alarm() -> None:
    p = np.random.default_rng(0).uniform(size=(2000, 8))
    assert np.mean([min(holm(row)) < 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)


def test_all_pairs_or_all_against_one_reference() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0.2, 0.1, 50)
    methods = {"a": method(*base), "b": method(*base + 0.02), "c": method(*base + rng.normal(0, 0.05, 50))}
    pairs = compare_all(methods)
    assert [(r.left, r.right) for r in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [r.adjusted_p for r in pairs] == holm([r.comparison.p_value for r in pairs])
    against = compare_all(methods, "a")
    assert [(r.left, r.right) for r in against] == [("b", "a"), ("c", "a")]
    assert str(against[0]).startswith("b - a: +0.020 [+0.020, +0.020], 50/50 tasks higher, Wilcoxon p < 0.0001, Holm p")


def test_an_unknown_reference_is_refused_with_those_in_hand() -> None:
    with pytest.raises(ConfigError, match=r'"x".*a, b'):
        compare_all({"a": method(1), "b": method(2)}, "x")


def test_mean_ranks_average_ties_and_put_the_best_first() -> None:
    found = mean_ranks({"low": method(1, 1, 1), "high": method(3, 3, 2), "mid": method(2, 3, 0)})
    assert found.ranks == {"high": pytest.approx(3.5 / 3), "mid": pytest.approx(6.5 / 3), "low": pytest.approx(8 / 3)}
    assert list(found.ranks) == ["high", "mid", "low"]
    turned = mean_ranks({"low": method(1, 1), "high": method(3, 3)}, higher_is_better=False)
    assert turned.ranks == {"low": 1, "high": 2}


def test_friedman_is_scipy_s() -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.normal([0, 0.3, 0.5, 0.5], size=(25, 4)), 1)  # rounded, so that some tie
    found = mean_ranks({str(j): method(*values[:, j]) for j in range(4)})
    assert found.p_value == pytest.approx(friedmanchisquare(*values.T).pvalue)


@pytest.mark.parametrize(
    ("methods", "q"),
    list(enumerate([1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164], start=2)),
)
def test_the_critical_difference_is_demsar_s_table(methods: int, q: float) -> None:
    assert nemenyi(methods, 30) == pytest.approx(q * np.sqrt(methods * (methods + 1) / (6 * 30)), rel=1e-3)


def test_cliques_are_the_largest_groups_that_are_not_separated() -> None:
    # Mean ranks 1.5, 1.5, 3.5, 3.5, and 5 on 20 tasks: the critical difference is 1.36
    odd, even = method(*[5, 4] * 10), method(*[4, 5] * 10)
    low_odd, low_even = method(*[3, 2] * 10), method(*[2, 3] * 10)
    found = mean_ranks({"a": odd, "b": even, "c": low_odd, "d": low_even, "e": method(*[1] * 20)})
    assert list(found.ranks.values()) == [1.5, 1.5, 3.5, 3.5, 5]
    assert found.critical_difference == pytest.approx(1.364, abs=1e-3)
    assert found.cliques == (("a", "b"), ("c", "d"))
    assert "mean rank over 20 tasks (1 is best): a 1.50, b 1.50, c 3.50" in str(found)
    assert "critical difference 1.36; not separated: a = b; c = d" in str(found)


def test_cliques_overlap_where_the_middle_is_near_both_ends() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=30)
    found = mean_ranks({k: method(*base + rng.normal(shift, 1, 30)) for k, shift in [("a", 0.9), ("b", 0.5), ("c", 0)]})
    first, middle, last = found.ranks.values()
    assert last - first >= found.critical_difference > max(middle - first, last - middle)
    assert found.cliques == (tuple(found.ranks)[:2], tuple(found.ranks)[1:])


def test_methods_that_always_tie_are_not_told_apart() -> None:
    found = mean_ranks({"a": method(1, 2, 3), "b": method(1, 2, 3)})
    assert found.ranks == {"a": 1.5, "b": 1.5}
    assert (found.p_value, found.cliques) == (1, (("a", "b"),))


@pytest.mark.parametrize(
    ("methods", "tasks"),
    [({}, 0), ({"a": method(1, 2)}, 2), ({"a": method(1), "b": method(2)}, 1), ({"a": method(NAN), "b": method(2)}, 0)],
)
def test_too_few_tasks_or_methods_give_no_test(methods: dict[str, dict[str, float]], tasks: int) -> None:
    found = mean_ranks(methods)
    assert found.tasks == tasks
    assert np.isnan([found.p_value, found.critical_difference]).all()
    assert found.cliques == ()
    assert "not separated: none" in str(found)


def test_the_tasks_that_are_said_to_be_needed_find_the_gain_as_often_as_said() -> None:
    rng = np.random.default_rng(0)
    pilot = rng.normal(0, 1, 400)
    pilot = 0.03 * (pilot - pilot.mean()) / pilot.std(ddof=1)
    needed = tasks_needed(pilot, gain=0.01, power=0.8)
    assert needed == 74  # pi / 3 x (1.960 + 0.842)^2 x 9 = 74.0
    drawn = rng.normal(0.01, 0.03, (1500, needed))
    assert np.mean(wilcoxon(drawn, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.03)
    assert tasks_needed([0.01, 0.0101], gain=0.01) == 6  # fewer cannot reach 5 % however alike they are


def test_the_detectable_gain_turns_the_needed_tasks_round() -> None:
    gaps = np.random.default_rng(0).normal(0, 0.05, 39)
    needed = tasks_needed(gaps, gain=0.012)
    assert needed is not None
    assert detectable_gain(gaps, needed) <= 0.012 < detectable_gain(gaps, needed - 1)
    assert detectable_gain(gaps) == detectable_gain(gaps, 39)
    assert power_note(gaps).startswith("power: these 39 tasks tell a mean difference of 0.0")


def test_power_of_too_little_is_not_said() -> None:
    assert tasks_needed([0.1]) is None
    assert tasks_needed([0.1, NAN]) is None
    assert tasks_needed([0.1, 0.2], gain=0) is None
    assert np.isnan([detectable_gain([]), detectable_gain([0.1]), detectable_gain([0.1, 0.2], 0)]).all()
    assert "too few" in power_note([0.1])
