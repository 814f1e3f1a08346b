"""What authors may write, what is refused, and what it costs (faults.md row 30)."""

from __future__ import annotations

import time

import pytest

from ivr.expressions import BadExpression, Expression, Pattern, Template

STEP_S = 0.05


@pytest.mark.parametrize(
    "source",
    [
        "().__class__",
        "x.__class__.__mro__",
        "'%s'.format([1])",
        "open('/etc/passwd')",
        "2 ** 99999",
        "'a' * 1000000",
        "[1].map(a, [1].map(b, a))",
        "[1].all(a, [1].exists(b, a == b))",
        "import os",
        "lambda: 1",
        "x; y",
        "duration('1s')",
        "1 +",
        "x" * 501,
        "(" * 300 + "1" + ")" * 300,
    ],
)
def test_dangerous_and_broken_expressions_are_refused_or_fail_in_time(source: str) -> None:
    began = time.perf_counter()
    with pytest.raises(BadExpression):
        Expression(source).value({"x": "text", "y": 1})
    assert time.perf_counter() - began < STEP_S


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("lang == 'fr' && n > 2", True),
        ("n in [1, 3] || lang.startsWith('e')", True),
        ("has(o.status) ? o.status : 'none'", "late"),
        ("['a', 'b'].exists(x, x == lang)", False),
        ("string(n) + 'x'", "3x"),
        ("missing == null", True),
        ("size(lang)", 2),
    ],
)
def test_usual_expressions_give_their_values(source: str, value: object) -> None:
    assert Expression(source).value({"lang": "fr", "n": 3, "o": {"status": "late"}}) == value


@pytest.mark.parametrize(
    "facts",
    [
        {"x": "a" * 3_000},
        {"x": 1 << 70},
        {"x": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}},
        {"x": list(range(1_000))},
        {"x": object()},
    ],
)
def test_values_too_large_to_be_safe_do_not_enter(facts: dict[str, object]) -> None:
    with pytest.raises(BadExpression):
        Expression("x == x").value(facts)
    with pytest.raises(BadExpression):
        Template("{{ x }}").render(facts)


def test_the_dearest_allowed_expression_stays_within_a_step() -> None:
    facts = {"x": ["b" * 1_000] * 200}
    expression = Expression(
        "x.filter(a, a.matches('(b+)+c') || a.contains('bbbbbbbbbbbbbbbbbc')).size() == 0"
    )
    began = time.perf_counter()
    assert expression.value(facts) is True
    assert time.perf_counter() - began < STEP_S


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in (1..1000000) %}x{% endfor %}",
        "{% include 'x' %}",
        "{% assign a = 1 %}",
        "{{ 'now' | date: '%s' }}",
        "{{ x | base64_encode }}",
        "{{ x",
        "{% if x %}",
        "y" * 2_001,
    ],
)
def test_texts_that_loop_include_or_are_broken_are_refused(source: str) -> None:
    with pytest.raises(BadExpression):
        Template(source)


def test_a_text_cannot_reach_into_objects() -> None:
    assert Template("{{ x.__class__ }}{{ x.upper }}").render({"x": "text"}) == ""


def test_a_text_shows_facts_and_chooses() -> None:
    made = Template("Bonjour {{ name | capitalize }}{% if vip %}, cher client{% endif %}.")
    assert made.render({"name": "léa", "vip": True}) == "Bonjour Léa, cher client."
    assert made.variables == {"name", "vip"}
    assert not made.fixed


@pytest.mark.parametrize("source", ["(a+)+$", "(a|aa)+$", "(.*a){20}$", "([a-z]+)*$"])
def test_patterns_that_stop_other_engines_cost_nothing(source: str) -> None:
    began = time.perf_counter()
    assert not Pattern(source).matches("a" * 5_000 + "!")
    assert time.perf_counter() - began < STEP_S


@pytest.mark.parametrize("source", ["(a", "a{2000}", r"(?=a)", r"(a)\1", "a" * 201])
def test_patterns_that_are_no_re2_or_too_large_are_refused(source: str) -> None:
    with pytest.raises(BadExpression):
        Pattern(source)
