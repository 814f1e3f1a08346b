"""A tree that is read: answers in words, the way to a person from any node, and walks that survive a restart."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.events import (
    Enqueue,
    HoursAnswered,
    HungUp,
    Input,
    Key,
    LanguageKnown,
    LookedUp,
    QueueTold,
    Say,
    SayEnded,
    TimedOut,
    TransferEnded,
    Wrote,
)
from ivr.interpreter import Interpreter, Phase
from ivr.turn import SAYS, Turn, go_on
from tests.ivr.walks import LEAVE_KEYS, SHIPPED, forest

ASK = """
    tree: t
    languages: [fr, en]
    channels: [voice, chat]
    start: ask
    error: person
    anywhere: {"0": person}
    nodes:
      ask:
        kind: menu
        say: {fr: "Tapez 1 ou 2.", en: "Press 1 or 2.", written: {fr: "Laquelle ?", en: "Which one?"}}
        keys:
          "1": {to: number, label: {fr: Colis, en: Parcel}, words: {fr: paquet}}
          "2": {to: bye, label: Stop}
        exits: {no_input: bye, no_match: bye}
      number:
        kind: collect
        say: [{prompt: recording, written: false}, {fr: "Combien ?", en: "How many?"}]
        into: count
        max: 3
        read_back: {digits: count}
        next: bye
        exits: {failed: bye}
      bye: {kind: hangup, say: goodbye}
      person: {kind: queue, queue: general, exits: {left: bye}}
"""
TREES = forest(ASK)


class Talk:
    """One written walk, with the offices open."""

    def __init__(self, trees: Any = TREES, tree: str = "t", opening: str = "", **more: Any) -> None:
        self.walk = Interpreter(trees, tree, written=True, opening=opening, **more)
        self.turn = self._on(self.walk.start(0.0))

    def _on(self, commands: Any) -> Turn:
        turn = Turn()
        need = go_on(self.walk, commands, turn, 0.0, lambda name: (True, None))
        assert need is None
        return turn

    def write(self, text: str, payload: str = "") -> Turn:
        self.turn = self._on(self.walk.step(Wrote(text, payload), 0.0))
        return self.turn

    @property
    def node(self) -> str:
        return self.walk.at[2]

    @property
    def said(self) -> list[str]:
        return [p.name or p.text for say in self.turn.says for p in say.parts]


def test_a_written_part_replaces_what_is_spoken_and_only_in_writing() -> None:
    assert Talk().said == ["Laquelle ?"]
    spoken = [c for c in Interpreter(TREES, "t").start(0.0) if isinstance(c, Say)]
    assert [p.text for p in spoken[0].parts] == ["Tapez 1 ou 2."]
    talk = Talk()
    talk.write("1")
    assert talk.said == ["Combien ?"], "the recording notice is left out"


def test_the_choices_are_shown_with_labels_of_the_language_and_a_way_to_a_person() -> None:
    assert [(c.key, c.title, c.payload) for c in Talk().turn.asked] == [
        ("1", "Colis", "t/ask/1"),
        ("2", "Stop", "t/ask/2"),
        ("0", "Un conseiller", "human"),
    ]
    assert [c.title for c in Talk(language="en").turn.asked] == ["Parcel", "Stop", "An advisor"]


@pytest.mark.parametrize(
    ("text", "payload", "node"),
    [
        ("", "t/ask/1", "number"),
        ("Stop", "t/ask/1", "number"),  # the payload says it exactly
        ("1", "", "number"),
        (" 1. ", "", "number"),
        ("mon paquet", "", "number"),
        ("PARCEL", "", "number"),  # in another language of the tree
        ("Stop", "t/other/1", "bye"),  # a button of another node counts as its title
        ("0", "", "person"),
        ("", "human", "person"),
        ("un conseiller !", "", "person"),
        ("paquet stop", "", "number"),  # the longest word
        ("bonjour", "", "ask"),
        ("", "", "ask"),
    ],
)
def test_an_answer_is_taken_by_payload_number_and_words(text: str, payload: str, node: str) -> None:
    talk = Talk()
    talk.write(text, payload)
    assert talk.node == node


def test_two_misunderstandings_take_the_exit_and_where_there_is_none_lead_to_a_person() -> None:
    talk = Talk()
    talk.write("hm")
    assert talk.said == ["no-match", "Laquelle ?"]
    talk.write("hm")
    assert talk.node == "bye"
    unwired = forest(ASK)
    menu: Any = unwired.trees["t"].nodes["ask"]
    menu.exits.pop("no_match")
    talk = Talk(unwired)
    talk.write("hm")
    talk.write("hm")
    assert talk.node == "person"


def test_a_number_is_taken_from_a_sentence_and_not_read_back() -> None:
    talk = Talk()
    talk.write("1")
    talk.write("environ 42 je crois")
    assert talk.turn.facts == {"count": "42"}
    assert talk.turn.ended == "served"


def test_a_small_number_in_a_sentence_that_answered_something_else_is_left_alone() -> None:
    talk = Talk()
    talk.write("j'ai 2 paquets... enfin, paquet")
    assert talk.node == "number", "2 was not taken as the count"
    assert talk.turn.facts == {}


def test_the_first_words_answer_the_first_question_or_are_no_mistake() -> None:
    assert Talk(opening="Bonjour").node == "ask"
    assert Talk(opening="Bonjour").said == ["Laquelle ?"]
    assert Talk(opening="mon paquet svp").node == "number"
    assert Talk(opening="1").node == "ask", "a number is no answer to a question that nobody has seen"
    assert Talk(opening="je veux un humain").node == "person"


def test_whoever_waits_is_heard_by_the_advisor_only() -> None:
    talk = Talk(opening="conseiller")
    assert isinstance(talk.turn.enqueue, Enqueue)
    talk.write("vous êtes là ?")
    assert (talk.turn.says, talk.turn.passed, talk.walk.phase) == ([], [], Phase.WAITING)


def test_a_walk_is_entered_at_a_node_with_its_variables_kept() -> None:
    talk = Talk()
    talk.write("1")
    talk.write("42")
    assert talk.walk.done
    turn = talk._on(talk.walk.enter("ask", 0.0))
    assert talk.walk.facts()["count"] == "42"
    assert [c.key for c in turn.asked] == ["1", "2", "0"]
    with pytest.raises(KeyError):
        talk.walk.enter("nowhere", 0.0)


def test_a_tree_that_says_on_and_on_is_given_up() -> None:
    trees = forest("""
        tree: t
        languages: [fr]
        channels: [chat]
        human: a
        start: a
        error: a
        nodes:
          a: {kind: say, say: {fr: "A"}, next: b}
          b: {kind: say, say: {fr: "B"}, next: a}
    """)
    talk = Talk(trees)
    assert talk.turn.ended == "failed"
    assert len(talk.turn.says) < SAYS


TEXT = (
    "",
    "1",
    "2",
    "0",
    "oui",
    "colis",
    "english",
    "conseiller",
    "123456789015",
    "blabla",
    "\x00é",
    "c'est tout",
)


def _input(chance: random.Random, written: bool) -> Input:
    told: list[Input] = [
        SayEnded(),
        SayEnded(),
        HoursAnswered(chance.choice([True, False, None])),
        LanguageKnown(chance.choice([None, "en"])),
        LookedUp("ok", chance.choice([{"status": "transit", "days": 3}, {"status": 1.5}, [1], None])),
        LookedUp("timeout"),
        QueueTold(chance.choice(["accepted", "closing", "overflow", "refused"])),
        TransferEnded("failed"),
        TimedOut(),
    ]
    if written:
        told += [
            Wrote(chance.choice(TEXT), chance.choice(["", "", "messages/main/1", "human"])) for _ in range(9)
        ]
    else:
        told += [Key(chance.choice("0123456789*#")) for _ in range(9)]
    return HungUp() if chance.random() < 0.01 else chance.choice(told)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["accueil", "messages", "courrier"]))
def test_saving_and_restoring_between_any_two_inputs_changes_nothing(seed: int, tree: str) -> None:
    chance = random.Random(seed)
    written = tree != "accueil"
    facts = {"sender": "a@b.example", "subject": chance.choice(TEXT), "box": "x@y"}
    walk = Interpreter(
        SHIPPED,
        tree,
        facts,
        leave_keys=LEAVE_KEYS,
        written=written,
        opening=chance.choice(TEXT) if written else "",
    )
    twin = Interpreter.restored(SHIPPED, json.loads(json.dumps(walk.saved())), leave_keys=LEAVE_KEYS)
    assert walk.start(0.0) == twin.start(0.0)
    for i in range(60):
        saved = json.loads(json.dumps(twin.saved(), allow_nan=False))
        twin = Interpreter.restored(SHIPPED, saved, leave_keys=LEAVE_KEYS)
        assert twin.saved() == walk.saved() == saved
        told = _input(chance, written)
        assert walk.step(told, float(i)) == twin.step(told, float(i)), told
        assert walk.choices() == twin.choices()
        if i % 20 == 19:
            node = chance.choice(sorted(SHIPPED.trees[tree].nodes))
            assert walk.enter(node, float(i)) == twin.enter(node, float(i))
