"""Every mistake an author can make is named, on its line, with its cure."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

import pytest

from ivr.events import Entered, Left
from ivr.evidence import Evidence
from ivr.picture import picture
from ivr.tree import BadTree, Mistake, check, load, parse, plant
from tests.ivr.walks import LEAVE_KEYS, TREES, prompts, shipped, site_context

GOOD = """\
tree: t
languages: [fr, en]
start: hello
error: bye
nodes:
  hello: {kind: say, say: welcome, next: menu}
  menu:
    kind: menu
    say: {fr: "Un.", en: "One."}
    keys: {1: wait}
    exits: {failed: bye}
  wait: {kind: queue, queue: general, exits: {left: bye}}
  bye: {kind: hangup, say: goodbye}
"""


def mistakes(text: str, **more: object) -> list[Mistake]:
    document, where = parse(text)
    trees = more.pop("trees", {})
    assert isinstance(trees, dict)
    return check(document, site_context(trees={"t": document, **trees}, **more), where)


def test_a_good_tree_has_no_mistake() -> None:
    assert mistakes(GOOD, leave_keys={"general": "*"}) == []


def test_the_shipped_trees_have_no_mistake() -> None:
    documents, wheres = shipped()
    assert set(documents) == {"accueil", "courrier", "messages", "nuit", "suivi"}
    context = site_context(trees=documents, leave_keys=LEAVE_KEYS)
    for name, document in documents.items():
        assert [str(m) for m in check(document, context, wheres[name])] == []


# what is replaced in GOOD | by what | line | what is said | the cure holds
MISTAKES = """
next: menu} | next: menue} | 6 | there is no node 'menue' | did you mean 'menu'?
next: menu} | exits: {done: menu, don: bye}} | 6 | a say node has no exit 'don' | did you mean 'done'?
, next: menu |  | 6 | the exit 'done' leads nowhere | exits: {done: NODE}
error: bye | title: x | 6 | the exit 'error' leads nowhere | error: NODE
start: hello | start: halo | 3 | there is no node 'halo' | did you mean 'hello'?
keys: {1: wait} | keys: {1: bye} | 12 | no caller can come here | wire an exit to it
keys: {1: wait} | keys: {1: wait, "1": bye} | 10 | the key '1' is used twice | a key of its own
keys: {1: wait} | keys: {1: wait, x: bye} | 10 | String should match pattern | change 'x'
exits: {failed: bye} | exits: {no_match: bye} | 7 | the exit 'no_input' leads nowhere | exits: {no_input: NODE}
queue: general | queue: generale | 12 | there is no queue 'generale' | did you mean 'general'?
{left: bye} | {} | 12 | the exit 'left' leads nowhere | exits: {left: NODE}
kind: queue | kind: queu | 12 | there is no kind of node 'queu' | did you mean 'queue'?
kind: queue | kind: callback | 12 | callback is not yet in this version | use queue or hangup
kind: queue | kind: voicemail | 12 | voicemail is not yet in this version | use queue or hangup
say: welcome | say: welcom | 6 | there is no prompt 'welcom' | did you mean 'welcome'?
{fr: "Un.", en: "One."} | {fr: "Un."} | 9 | the text is missing in en | record it or write its text
{fr: "Un.", en: "One."} | {fr: "Un.", en: "One.", de: "Eins."} | 9 | the tree has no language 'de' | known are en, fr
{fr: "Un.", en: "One."} | {fr: "{{ naem }}", en: "One."} | 9 | nothing in this tree is called 'naem' | known are
{fr: "Un.", en: "One."} | {fr: "{{ ", en: "One."} | 9 | the text cannot be used | mend the Liquid text
{fr: "Un.", en: "One."} | {digits: "1 +", number: "2"} | 9 | this part is not understood | a part is a prompt
languages: [fr, en] | languages: [fr, en, de] | 6 | prompt 'welcome' is missing in de | record it
languages: [fr, en] | channels: [voice, mail] | 8 | the channel mail cannot express a menu node | take mail out
kind: say, say | kind: say, sya | 6 | 'sya' is not known here | did you mean 'say'?
say: {fr: "Un.", en: "One."} | tries: 3 | 7 | the menu says nothing | under `say`
kind: queue, queue: general | kind: hours, hours: burau | 12 | there is no opening hours 'burau' | did you mean 'bureau'?
kind: queue, queue: general | kind: transfer | 12 | a transfer goes to a phone or to a number | one of the two
kind: queue, queue: general | kind: transfer, phone: "999" | 12 | there is no phone account '999' | known are 101
kind: queue, queue: general | kind: subtree, tree: t | 12 | the tree t calls itself | leave by an exit
kind: queue, queue: general | kind: subtree, tree: u | 12 | there is no tree 'u' | known are t
kind: queue, queue: general | kind: language, language: de | 12 | the tree has no language 'de' | known are en, fr
kind: queue, queue: general | kind: language | 12 | either asks (keys) or sets (language) | one of the two
kind: queue, queue: general | kind: condition, cases: [{when: "a =", to: bye}] | 12 | the expression cannot be used | mend the CEL
kind: queue, queue: general | kind: condition, cases: [{when: "a == 1", to: bye}] | 12 | nothing in this tree is called 'a' | known are
kind: queue, queue: general | kind: collect, into: x, pattern: "(" | 12 | the pattern cannot be used | RE2
kind: queue, queue: general | kind: collect, into: x, min: 9, max: 2 | 12 | min 9 is more than max 2 | swap them
kind: queue, queue: general | kind: collect, into: caller | 12 | 'caller' is set by the house | another name
kind: queue, queue: general | kind: lookup, into: x, url: "http://x/{{ caller }}" | 12 | 'caller' could change the address | url_encode
"""  # noqa: E501


@pytest.mark.parametrize("row", MISTAKES.strip().splitlines())
def test_each_mistake_is_named_on_its_line_with_its_cure(row: str) -> None:
    old, new, line, what, cure = (cell.strip() for cell in row.split("|"))
    assert old in GOOD
    found = mistakes(GOOD.replace(old, new, 1), leave_keys={"general": "*"})
    shown = "\n".join(map(str, found))
    assert any(m.line == int(line) and what in m.what and cure in m.cure for m in found), shown


def test_all_mistakes_are_named_at_once_in_the_order_of_lines() -> None:
    text = (
        GOOD.replace("next: menu", "next: menue")
        .replace("queue: general", "queue: no")
        .replace("goodbye", "good")
    )
    found = mistakes(text)
    assert [m.line for m in found] == sorted(m.line for m in found)
    assert {m.line for m in found} >= {6, 12, 13}


def test_a_circle_of_subtrees_is_named_with_its_way_round() -> None:
    def calling(name: str, other: str) -> str:
        return dedent(f"""\
            tree: {name}
            start: a
            error: return
            nodes:
              a: {{kind: subtree, tree: {other}, next: return}}
        """)

    trees = {n: parse(calling(n, o))[0] for n, o in (("u", "v"), ("v", "t"))}
    found = mistakes(calling("t", "u"), trees=trees)
    assert [m.what for m in found] == ["the subtrees go in a circle: t -> u -> v -> t"]
    assert found[0].line == 5


def test_what_a_subtree_needs_gives_and_returns_is_checked() -> None:
    called = parse(
        dedent("""\
        tree: u
        languages: [fr]
        start: a
        error: return
        inputs: {number: string}
        results: {status: string}
        nodes:
          a: {kind: hours, hours: bureau, exits: {open: return, closed: "return:late"}}
    """)
    )[0]
    text = GOOD.replace(
        "kind: queue, queue: general, exits: {left: bye}",
        "kind: subtree, tree: u, give: {no: '1'}, take: {x: stat}, next: bye",
    )
    said = {m.what for m in mistakes(text, trees={"u": called})}
    assert said == {
        "the tree u has no input 'no'",
        "the tree u needs the input 'number'",
        "the tree u has no result 'stat'",
        "the tree u does not speak en",
        "the exit 'late' leads nowhere",
    }


def test_a_key_that_stands_twice_in_the_yaml_is_refused_with_its_line() -> None:
    with pytest.raises(BadTree) as caught:
        parse("tree: t\nnodes:\n  a: {kind: hangup}\n  a: {kind: hangup}\n")
    assert caught.value.mistakes[0].line == 4


@pytest.mark.parametrize(
    "text", ["- a\n", "tree: t\n", "tree: t\nstart: a\nnodes: {}\n", "tree: t\nstart: a\nnodes: 7\n", "\n"]
)
def test_what_is_no_tree_is_a_mistake_and_never_an_exception(text: str) -> None:
    document, where = parse(text)
    assert check(document, site_context(), where)
    with pytest.raises(BadTree):
        load(document)


def test_a_version_is_a_value_that_a_later_one_does_not_change() -> None:
    document, _ = parse(GOOD)
    first = load(document, 1)
    document["nodes"]["hello"]["say"] = "closed"
    second = load(document, 2)
    assert first.nodes["hello"] != second.nodes["hello"]
    assert (first.version, second.version) == (1, 2)


def test_the_picture_shows_every_node_exit_and_key() -> None:
    forest = plant(shipped()[0], {"accueil": 7})
    drawn = picture(forest.trees["accueil"], inside={"main": 3})
    assert (drawn["id"], drawn["version"]) == ("accueil", 7)
    nodes = {n["id"]: n for n in drawn["nodes"]}
    assert nodes["main"]["inside"] == 3
    assert {"exit": "1", "key": "1", "label": "Suivi", "to": "tracking", "returns": None} in nodes["main"][
        "exits"
    ]
    assert nodes["notice"]["marks"] == ["legal"]
    known = set(nodes)
    assert all(e["to"] in known for n in drawn["nodes"] for e in n["exits"] if e["to"] is not None)
    assert "Pour suivre" in nodes["main"]["words"]["fr"]


def test_evidence_counts_each_node_and_version_apart() -> None:
    evidence = Evidence()
    for seconds in (1.0, 2.0, 30.0):
        evidence.note(Entered("t", 1, "menu"))
        evidence.note(Left("t", 1, "menu", "1", seconds))
    evidence.note(Entered("t", 2, "menu"))
    evidence.note(Left("t", 2, "menu", "hangup", 4.0))
    evidence.note(Left("t", 2, "look", "error", 4.0, failed=True))
    one, look, two = evidence.rows()
    assert (one.entered, one.exits, one.hung_up) == (3, {"1": 3}, 0)
    assert one.median_s == pytest.approx(2.0, rel=0.07)
    assert (two.entered, two.hung_up, look.failed) == (1, 1, 1)


def test_the_trees_folder_holds_what_it_says() -> None:
    assert sorted(p.name for p in TREES.glob("*")) == [
        "accueil.yaml",
        "courrier.yaml",
        "messages.yaml",
        "nuit.yaml",
        "suivi.yaml",
    ]


CHAT = """\
tree: t
languages: [fr, en]
channels: [voice, chat]
start: menu
error: bye
human: wait
nodes:
  menu:
    kind: menu
    say: {fr: "Un.", en: "One."}
    keys:
      1: {to: wait, label: {fr: Un, en: One}, words: {fr: [premier], en: first}}
    exits: {failed: bye}
  wait: {kind: queue, queue: general, say: connecting, exits: {left: bye}}
  bye: {kind: hangup, say: goodbye}
"""
WRITTEN = """
{fr: Un, en: One} | {fr: Un} | 11 | the choice '1' has no label in en | label: {LANGUAGE: TEXT}
label: {fr: Un, en: One}, words | words | 11 | the choice '1' has no label in fr, en | label: {LANGUAGE: TEXT}
label: {fr: Un, en: One} | label: {fr: Un, en: One, de: Eins} | 11 | the tree has no language 'de' | known are en, fr
words: {fr: [premier] | words: {de: [premier] | 11 | the tree has no language 'de' | known are en, fr
human: wait | human: wiat | 6 | there is no node 'wiat' | did you mean 'wait'?
human: wait | title: x | 3 | a chat without a way to a person | human: NODE
channels: [voice, chat] | channels: [chat, mail] | 9 | the channel mail cannot express a menu node | take mail out
kind: queue, queue: general, say: connecting | kind: transfer, phone: "101" | 14 | the channel chat cannot express a transfer node | take chat out
kind: queue, queue: general, say: connecting | kind: collect, into: pin, sensitive: true | 14 | must not be asked for in writing | ask by phone
kind: queue, queue: general, say: connecting | kind: collect, into: text | 14 | 'text' is set by the house | another name
kind: queue, queue: general, say: connecting | kind: subtree, tree: u | 14 | the tree u is not made for chat | add it to its `channels`
say: connecting | say: my-own | 14 | there is no prompt 'my-own' | known are
say: connecting | say: welcome-back | 14 | prompt 'welcome-back' cannot be written in fr, en | written: false
say: connecting | say: {fr: A, en: B, written: {fr: C}} | 14 | what is written is missing in en | write its text
say: connecting | say: {fr: A, en: B, written: {fr: C, en: "{{ nobody }}"}} | 14 | nothing in this tree is called 'nobody' | known are
"""  # noqa: E501


@pytest.mark.parametrize("row", WRITTEN.strip().splitlines())
def test_what_an_enabled_channel_cannot_express_is_refused_by_name(row: str) -> None:
    old, new, line, what, cure = (cell.strip() for cell in row.split("|"))
    assert old in CHAT
    text = CHAT.replace(old, new, 1)
    document, where = parse(text)
    called = parse("tree: u\nlanguages: [fr, en]\nstart: a\nnodes: {a: {kind: hangup}}")[0]
    context = replace(
        site_context(trees={"t": document, "u": called}, leave_keys={"general": "*"}),
        prompts={**prompts(), "welcome-back": frozenset({"fr", "en"})},
    )
    found = check(document, context, where)
    shown = "\n".join(map(str, found))
    assert any(m.line == int(line) and what in m.what and cure in m.cure for m in found), shown


def test_a_chat_tree_is_clean_and_its_picture_tells_labels_and_channels() -> None:
    document, where = parse(CHAT)
    assert check(document, site_context(trees={"t": document}, leave_keys={"general": "*"}), where) == []
    shown = picture(load(document))
    assert (shown["channels"], shown["human"]) == (["voice", "chat"], "wait")
    assert shown["nodes"][0]["exits"][0]["label"] == "Un"
