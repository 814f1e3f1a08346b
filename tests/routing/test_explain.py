"""Explanations: complete, recomputable, storable, readable."""

from __future__ import annotations

import json

import pytest

from routing import steps as s
from routing.distribution import Distribution
from routing.explain import Explanation, from_json, recomputed, sentences, to_json, waiting_sentence
from routing.site import Advisor, Need, Queue


def explained() -> list[Explanation]:
    model = Distribution()
    long = {"voice": 300.0}
    french = Queue("help", "Help", (Need((("fr", 2),)),), priority=1, ageing_per_minute=2.0, offer_s=long)
    sales = Queue("sales", "Sales", (Need((("fr", 1),)),), prefer="skill", offer_s=long)
    model.step(s.RulesSet((french, sales)), 0)
    for n, (id, level) in enumerate({"ana": 3, "bob": 2, "cyd": 1, "dan": 5, "eve": 4}.items()):
        model.step(s.AdvisorSet(Advisor(id, id, id, skills={"fr": level}, seats={"voice": 1})), 0)
        model.step(s.ReachSet(id, "voice", id != "dan"), 0)
        model.step(s.PresenceSet(id, "pause" if id == "eve" else "ready"), n + 1)
    told = model.step(s.Enqueue("A", "help", "voice", 10), 100)
    told += model.step(s.Enqueue("B", "sales", "voice", 100), 100)
    told += model.step(s.Enqueue("C", "help", "voice", 110, related="eve"), 110)
    told += model.step(s.Enqueue("D", "help", "voice", 120), 120)
    told += model.step(s.Enqueue("E", "sales", "voice", 120), 121)
    told += model.step(s.PresenceSet("eve", "ready"), 130)
    return [d.why for d in told if isinstance(d, s.Offered)]


def test_it_names_the_best_and_counts_the_rest() -> None:
    first, second, third, fourth = explained()
    assert (first.interaction, first.advisor, first.rule, first.score) == ("A", "ana", "longest_idle", 4.0)
    assert [c.advisor for c in first.candidates] == ["ana", "bob"]
    assert first.excluded == {"skill fr<2": 1, "unreachable": 1, "pause": 1}
    assert (second.advisor, second.rule) == ("bob", "skill")
    assert [(c.advisor, c.skill) for c in second.candidates] == [("bob", 2), ("cyd", 1)]
    assert (third.interaction, third.advisor, third.rule) == ("E", "cyd", "only")
    assert (fourth.interaction, fourth.advisor, fourth.rule) == ("C", "eve", "held")
    assert [r.interaction for r in fourth.rivals] == ["C", "D"]


@pytest.mark.parametrize("n", range(4))
def test_it_is_complete_and_can_be_recomputed_from_what_is_stored(n: int) -> None:
    why = explained()[n]
    assert sum(why.excluded.values()) + why.available == 5
    stored = json.loads(json.dumps(to_json(why)))
    assert from_json(stored) == why
    assert recomputed(why) == pytest.approx(why.score, abs=1e-6)
    assert [r.score for r in why.rivals] == sorted((r.score for r in why.rivals), reverse=True)


def test_it_reads_as_sentences_in_both_languages() -> None:
    first, _, _, held = explained()
    assert sentences(first, "en") == [
        "A (voice, queue help) was offered to ana after 1 min 30 s.",
        "Its score was 4.00: priority 1 + 2 a minute × 1.50 min of waiting.",
        "Of the 2 who could take it, ana came first: least work in hand, then longest idle.",
        "  1. ana: 0 in hand, idle for 1 min 39 s",
        "  2. bob: 0 in hand, idle for 1 min 38 s",
        "Not chosen: 1 without the skill (fr<2), 1 on a pause, 1 without a registered phone.",
    ]
    assert sentences(held, "fr") == [
        "C (voice, file help) a été proposé à eve après 20 s.",
        "Son score était 1.67 : priorité 1 + 2 par minute × 0.33 min d’attente.",
        "Il était réservé à eve, le conseiller attitré, qui venait de se libérer.",
        "eve aurait pu recevoir 2 interactions en attente (la première de chaque file) ; les meilleures étaient :",
        "  1. C : score 1.67, attend depuis 20 s",
        "  2. D : score 1.33, attend depuis 10 s",
        "Non retenus : 1 sans la compétence (fr<2), 1 sans téléphone enregistré, 2 sans place libre.",
    ]
    assert (
        waiting_sentence({"held for ana": 2}, "fr")
        == "L’interaction attend : 2 parce qu’il est réservé à ana."
    )
    assert waiting_sentence({}, "en") == "It waits, and there is no advisor."
    names = {"A": "This call", "voice": "call", "help": "Help desk", "ana": "Ana", "bob": "Bob"}
    told = sentences(first, "en", names)
    assert told[0] == "This call (call, queue Help desk) was offered to Ana after 1 min 30 s."
    assert told[2].startswith("Of the 2 who could take it, Ana came first")
    assert told[4].startswith("  2. Bob:")
    assert waiting_sentence({"held for ana": 2}, "fr", names).endswith("réservé à Ana.")
