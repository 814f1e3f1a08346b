"""How callers walk: text tables of keys and nodes, the product of phases and inputs, and chance."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.events import (
    Command,
    Enqueue,
    Entered,
    HangUp,
    HoursAnswered,
    HungUp,
    Hush,
    Input,
    Key,
    LanguageKnown,
    Learn,
    Leave,
    Left,
    LookedUp,
    LookUp,
    QueueTold,
    Say,
    SayEnded,
    Spoken,
    TimedOut,
    TransferEnded,
    Wait,
    Wrote,
)
from ivr.interpreter import IGNORED, TABLE, Interpreter, Phase, luhn, mod97, s10
from ivr.tree import Forest
from tests.ivr.walks import LEAVE_KEYS, SHIPPED, forest, walk

INPUTS: tuple[type, ...] = (
    Key,
    SayEnded,
    TimedOut,
    LookedUp,
    HoursAnswered,
    LanguageKnown,
    QueueTold,
    TransferEnded,
    HungUp,
    Wrote,
)
PARCEL = "123456789015"  # twelve digits, Luhn


def check(trees: Forest, tree: str, table: str, **more: object) -> None:
    """Rows `keys | nodes | how it ends`; the first row names the columns."""
    for row in table.strip().splitlines()[1:]:
        keys, nodes, ends = (cell.strip() for cell in row.split("|"))
        result = walk(trees, tree, keys, **more)
        assert (" ".join(result.nodes), result.ends) == (nodes, ends), row


def test_every_input_in_every_phase_is_decided_or_ignored_with_a_reason() -> None:
    product = {(p, i) for p in Phase for i in INPUTS}
    assert product == set(TABLE) | set(IGNORED)
    assert not set(TABLE) & set(IGNORED)


def test_the_front_door_leads_where_the_keys_say() -> None:
    check(
        SHIPPED,
        "accueil",
        """
        keys    | nodes                                                     | ends
        1 2     | language notice open main complaints                      | queue reclamations
        2 3     | language notice open main billing                         | queue facturation
        2 0     | language notice open main operator                        | queue general
        - - 3   | language notice open main billing                         | queue facturation
        1 - - - | language notice open main operator                        | queue general
        1 9 9 9 | language notice open main operator                        | queue general
        1 9 2   | language notice open main complaints                      | queue reclamations
        1 .     | language notice open main                                 | left
        .       | language                                                  | left
        1 2 *   | language notice open main complaints goodbye              | hangup served
        """,
    )


def test_outside_opening_hours_the_night_tree_speaks_and_the_call_ends() -> None:
    result = walk(SHIPPED, "accueil", "1", hours={"bureau": False})
    assert result.nodes == ["language", "notice", "open", "night", "closed", "goodbye"]
    assert result.ends == "hangup served"


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ({"ok": {"status": "delivered"}}, "remember which delivered anything_else goodbye"),
        ({"ok": {"status": "transit", "days": 3}}, "remember which transit anything_else goodbye"),
        ({"ok": {"status": "lost"}}, "remember which complaints"),
        ({"ok": {"state": "?"}}, "remember complaints"),
        ("empty", "unknown complaints"),
        ("timeout", "late complaints"),
        ("error", "late complaints"),
    ],
)
def test_a_parcel_is_looked_up_and_what_fails_leads_to_a_person(answer: object, end: str) -> None:
    result = walk(SHIPPED, "accueil", f"2 1 {PARCEL} 1", http={"look": answer})
    assert result.nodes[-len(end.split()) - 1 :] == ["look", *end.split()]
    assert result.facts["parcel"] == PARCEL


def test_values_go_into_a_subtree_and_come_back_by_name() -> None:
    result = walk(
        SHIPPED, "accueil", f"2 1 {PARCEL} 1", http={"look": {"ok": {"status": "transit", "days": 4}}}
    )
    assert "Your parcel is on its way. It should arrive in 4 days." in result.said
    assert result.facts["status"] == "transit"


def test_a_number_with_a_wrong_check_digit_is_asked_for_again() -> None:
    result = walk(
        SHIPPED, "accueil", f"1 1 123456789010 {PARCEL} 1", http={"look": {"ok": {"status": "delivered"}}}
    )
    assert "Ce numéro n'est pas valable." in result.said
    assert result.nodes[5:7] == ["number", "look"]


def test_a_refused_read_back_starts_again_and_star_wipes_what_was_typed() -> None:
    result = walk(
        SHIPPED, "accueil", f"1 1 {PARCEL} 2 99*{PARCEL} 1", http={"look": {"ok": {"status": "delivered"}}}
    )
    assert result.facts["parcel"] == PARCEL
    assert result.said.count("Tapez les douze chiffres de votre numéro de colis.") == 2


MENU = """
    tree: t
    start: hello
    error: bye
    nodes:
      hello: {kind: say, say: welcome, next: law}
      law: {kind: say, say: recording, legal: true, next: menu}
      menu:
        kind: menu
        say: {fr: "Tapez 1 ou 2."}
        no_input: {fr: "Rien."}
        no_match: {fr: "Non."}
        keys: {1: one, 2: number}
        exits: {no_input: silent, no_match: wrong}
      one: {kind: queue, queue: general, exits: {left: bye}}
      number: {kind: collect, into: n, min: 2, max: 4, say: {fr: "Numéro ?"}, next: bye, exits: {failed: wrong}}
      silent: {kind: hangup, outcome: silent}
      wrong: {kind: hangup, outcome: wrong}
      bye: {kind: hangup, say: goodbye}
"""


def steps(walk: Interpreter, *told: Input) -> list[Command]:
    made: list[Command] = []
    for i, one in enumerate(told):
        made = walk.step(one, float(i))
    return made


def test_no_input_and_no_match_have_texts_counts_and_exits_of_their_own() -> None:
    trees = forest(MENU)
    check(
        trees,
        "t",
        """
        keys        | nodes                 | ends
        - - -       | hello law menu silent | hangup silent
        9 9 9       | hello law menu wrong  | hangup wrong
        9 - 9 - 9   | hello law menu wrong  | hangup wrong
        9 - 9 - -   | hello law menu silent | hangup silent
        9 - 9 - 1   | hello law menu one    | queue general
        2 123 -     | hello law menu number bye | hangup served
        2 1234      | hello law menu number bye | hangup served
        2 12#       | hello law menu number bye | hangup served
        2 1# 1# 1#  | hello law menu number wrong | hangup wrong
        """,
    )


def test_a_key_stops_an_announcement_and_feeds_the_next_menu() -> None:
    walk = Interpreter(forest(MENU), "t")
    walk.start(0.0)
    out = steps(walk, Key("1"))
    assert out[0] == Hush()
    assert walk.at[2] == "law"
    out = steps(walk, SayEnded())
    assert Enqueue("general", None, (), "fr") in out
    assert not any(isinstance(c, Say) for c in out), "the menu's words are skipped: its key is already there"


def test_a_legal_announcement_is_heard_to_its_end_whatever_is_pressed() -> None:
    walk = Interpreter(forest(MENU), "t")
    walk.start(0.0)
    assert steps(walk, SayEnded())[-1] == Say((Spoken("prompt", "recording"),), "fr", interruptible=False)
    assert steps(walk, Key("2"), Key("7")) == []
    out = steps(walk, SayEnded())
    assert walk.at[2] == "number"
    assert out[-1] == Wait(4.0), "7 was typed ahead into the number"


def test_keys_typed_ahead_do_not_leave_the_queue() -> None:
    walk = Interpreter(forest(MENU), "t", leave_keys={"general": "*"})
    walk.start(0.0)
    steps(walk, Key("1"), Key("*"), SayEnded())
    assert walk.queue == "general"
    out = steps(walk, Key("*"))
    assert Leave() in out
    assert walk.at[2] == "bye"


def test_the_step_in_which_the_caller_hangs_up_says_where() -> None:
    walk = Interpreter(forest(MENU), "t")
    walk.start(0.0)
    assert walk.step(HungUp(), 2.5) == [Left("t", 1, "hello", "hangup", 2.5)]
    assert walk.done
    assert walk.step(Key("1"), 3.0) == []


def test_digits_marked_sensitive_are_masked_in_path_and_facts() -> None:
    trees = forest("""
        tree: t
        start: pin
        error: bye
        nodes:
          pin:
            {kind: collect, into: pin, min: 4, max: 4, sensitive: true, say: {fr: "?"}, next: bye, exits: {failed: bye}}
          bye: {kind: hangup}
    """)
    walk = Interpreter(trees, "t")
    walk.start(0.0)
    steps(walk, Key("1"), Key("2"), Key("3"))
    out = steps(walk, Key("4"))
    assert Learn({"pin": "****"}) in out
    assert next(c.keys for c in out if isinstance(c, Left)) == "****"
    assert walk.facts()["pin"] == "1234"


def test_a_tree_that_goes_in_circles_ends_with_an_apology() -> None:
    trees = forest("""
        tree: t
        start: a
        error: a
        variables: {n: 0}
        nodes:
          a: {kind: set, set: {n: "n + 1"}, next: b}
          b: {kind: condition, cases: [{when: "n < 0", to: c}], otherwise: a}
          c: {kind: hangup}
    """)
    walk = Interpreter(trees, "t")
    began = time.perf_counter()
    out = walk.start(0.0)
    assert time.perf_counter() - began < 0.05
    assert isinstance(out[-1], Say)
    assert steps(walk, SayEnded()) == [
        HangUp("failed", "the tree goes in circles without waiting for anything")
    ]


def test_a_failing_expression_takes_the_error_exit() -> None:
    trees = forest("""
        tree: t
        start: a
        variables: {n: 0, text: abc}
        nodes:
          a: {kind: set, set: {n: "int(text)"}, next: b, exits: {error: b}}
          b: {kind: condition, cases: [{when: "1 / n > 1", to: d}], otherwise: d, exits: {error: c}}
          c: {kind: say, say: [{number: text}], next: d, exits: {error: d}}
          d: {kind: hangup, outcome: done}
    """)
    result = walk(trees, "t", "")
    assert result.nodes == ["a", "b", "c", "d"]
    assert result.ends == "hangup done"


def test_a_transfer_that_fails_goes_on_in_the_tree() -> None:
    trees = forest("""
        tree: t
        start: a
        error: no
        nodes:
          a: {kind: transfer, phone: "101", say: connecting, exits: {failed: no}}
          no: {kind: hangup, outcome: nobody}
    """)
    assert walk(trees, "t", "", transfer="failed").ends == "hangup nobody"
    assert walk(trees, "t", "").ends == "transfer"


def test_0_leads_out_of_a_subtree_too() -> None:
    trees = forest(
        """
        tree: t
        start: a
        error: b
        anywhere: {0: b}
        nodes:
          a: {kind: subtree, tree: u, next: b}
          b: {kind: hangup, outcome: person}
    """,
        """
        tree: u
        start: m
        error: return
        nodes:
          m: {kind: menu, say: {fr: "Un ?"}, keys: {1: return}, exits: {failed: return}}
    """,
    )
    walk_ = Interpreter(trees, "t")
    walk_.start(0.0)
    steps(walk_, Key("0"))
    assert walk_.at == ("t", 1, "b")


def test_checksums_know_right_from_wrong() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398710")
    assert mod97("794" + "44")
    assert not mod97("79445")
    assert s10("473124829")
    assert not s10("473124820")


ANY_INPUT: st.SearchStrategy[Input] = st.one_of(
    st.sampled_from("0123456789*#A").map(Key),
    st.just(SayEnded()),
    st.just(SayEnded()),
    st.just(TimedOut()),
    st.builds(
        LookedUp,
        st.sampled_from(["ok", "empty", "error", "timeout", "?"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["status", "days", "x"]), inner)
            ),
            max_leaves=8,
        ),
    ),
    st.builds(HoursAnswered, st.sampled_from([True, False, None])),
    st.builds(LanguageKnown, st.sampled_from(["fr", "en", "de", None])),
    st.builds(QueueTold, st.sampled_from(["accepted", "left", "closing", "overflow", "refused"])),
    st.builds(TransferEnded, st.sampled_from(["connected", "failed"])),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ANY_INPUT, max_size=40), st.booleans())
def test_no_sequence_of_inputs_spins_or_raises(inputs: list[Input], gone: bool) -> None:
    walk = Interpreter(SHIPPED, "accueil", leave_keys=LEAVE_KEYS)
    entered = left = 0
    queued = False
    for commands in [walk.start(0.0)] + [walk.step(told, float(i)) for i, told in enumerate(inputs)]:
        assert len(commands) < 400
        entered += sum(isinstance(c, Entered) for c in commands)
        left += sum(isinstance(c, Left) for c in commands)
        queued |= any(isinstance(c, Enqueue) for c in commands)
        assert sum(isinstance(c, Wait | LookUp | HangUp) for c in commands) <= 1, (
            "one thing is waited for at a time"
        )
    if gone:
        walk.step(HungUp(), 99.0)
        assert walk.done
    if walk.phase is Phase.WAITING:
        assert queued


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("0123456789*#"), max_size=60))
def test_every_patient_caller_reaches_an_end(keys: list[str]) -> None:
    """Whatever is pressed: then silence; the tree itself must come to an end."""
    walk = Interpreter(SHIPPED, "accueil", leave_keys=LEAVE_KEYS)
    walk.start(0.0)
    for key in keys:
        walk.step(Key(key), 1.0)
    for _ in range(200):
        if walk.done:
            return
        for told in (
            LanguageKnown(None),
            HoursAnswered(True),
            LookedUp("timeout"),
            SayEnded(),
            TimedOut(),
            QueueTold("accepted"),
        ):
            walk.step(told, 2.0)
    pytest.fail(f"still at {walk.at} in {walk.phase}")
