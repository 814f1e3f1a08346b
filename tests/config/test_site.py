"""The site file: every mistake with its line, and back again without loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.document import read
from config.mistakes import LANGUAGES, NEAR, WORDS
from config.site import DAYS, SEATS, Checked, check, check_text, differences, export, shipped_sounds
from routing.site import (
    Account,
    Advisor,
    Hours,
    Need,
    Number,
    Queue,
    ReplyTemplate,
    Site,
    Target,
    Trunk,
    WrapupCode,
)

EXAMPLE = Path(__file__).parents[2] / "config" / "site.example.yaml"

BASE = """\
organisation: {id: demo, name: Demo, languages: [fr]}
skills: [fr, billing]
hours:
  office: {week: {mon-fri: "09:00-18:00"}}
queues:
  billing:
    name: Billing
    needs: ["billing>=1"]
    hours: office
advisors:
  lea: {first_name: Léa, last_name: M, skills: {fr: 5}, phone: "101"}
trunks:
  carrier: {hosts: [192.0.2.0/24]}
numbers:
  "3631": {tree: welcome}
wrapup_codes:
  done: {labels: {fr: Fait}}
trees:
  welcome:
    tree: welcome
    start: bye
    nodes:
      bye: {kind: hangup}
"""


def said(text: str) -> list[str]:
    return check_text(text).sentences()


def test_the_base_of_these_tests_has_no_mistake() -> None:
    assert said(BASE) == []


# what is replaced | by what | the line that is told | words that stand in the sentence
MISTAKES = """
organisation: {id: demo,        | organisation: {id: Démo,          | 1  | «Démo» can't be an id
name: Demo,                     | nom: Demo,                        | 1  | «nom» is not known
name: Demo,                     |                                   | 1  | the key «name» is missing
languages: [fr]                 | languages: []                     | 1  | outside what is allowed
languages: [fr]                 | languages: [fr], country: XX      | 1  | no country
languages: [fr]                 | languages: [fr], time_zone: Paris | 1  | write a name like Europe/Paris
languages: [fr]                 | languages: [fr], pop_url: "x:{y}" | 1  | can't be the address of a screen pop
languages: [fr]                 | languages: [fr], reopen_within: x | 1  | not a duration
languages: [fr]                 | languages: [fr, en]               | 17 | the words in en are missing
languages: [fr]                 | languages: [fr], password: x      | 1  | no secret
skills: [fr, billing]           | skills: [fr, billing, fr]         | 2  | already given in line 2
skills: [fr, billing]           | skils: [fr, billing]              | 2  | did you mean «skills»?
skills: [fr, billing]           | skills: fr                        | 2  | a list is expected, not «fr»
{mon-fri: "09:00-18:00"}        | {monday: "9-18"}                  | 4  | not a span of opening hours
{mon-fri: "09:00-18:00"}        | {mon-fri: "22:00-06:00"}          | 4  | split at midnight
{mon-fri: "09:00-18:00"}        | {mon: ["09:00-12:00", "11:00-18:00"]} | 4 | overlaps 09:00-12:00
{mon-fri: "09:00-18:00"}        | {mon-fri: "09:00-18:00", tue: closed} | 4 | given twice
{mon-fri: "09:00-18:00"}        | {someday: "09:00-18:00"}          | 4  | no day of the week
18:00"}}                        | 18:00"}, holidays: ZZ}            | 4  | no country
18:00"}}                        | 18:00"}, closings: [soon]}        | 4  | not a date
  billing:                      | "Ma file":                        | 6  | can't be an id
name: Billing                   | name: [a]                         | 7  | text is expected, not a list
needs: ["billing>=1"]           | needs: ["billing>=9"]             | 8  | not a need
needs: ["billing>=1"]           | needs: ["biling>=1"]              | 8  | did you mean «billing»?
hours: office                   | hours: ofice                      | 9  | did you mean «office»?
hours: office                   | priority: high                    | 9  | a whole number is expected, not «high»
hours: office                   | priority: 5000                    | 9  | ≤ 1000
hours: office                   | record: perhaps                   | 9  | true or false is expected
hours: office                   | pop: rings                        | 9  | did you mean «ring»?
hours: office                   | offer: {voice: soon}              | 9  | not a duration
hours: office                   | offer: {fax: 10s}                 | 9  | is not one of voice, chat, mail
hours: office                   | targets: {voice: fast}            | 9  | write like 80% in 20s
hours: office                   | leave_key: x                      | 9  | no key of a telephone
hours: office                   | wrapup_codes: [don]               | 9  | did you mean «done»?
hours: office                   | overflow_to: billing              | 9  | no effect alone
hours: office                   | {overflow_to: billing             | 10 | not YAML
phone: "101"                    | phone: "3631"                     | 11 | both a phone and a number
skills: {fr: 5}                 | skills: {fr: 6}                   | 11 | ≤ 5
skills: {fr: 5}                 | skills: {de: 5}                   | 11 | the skill «de» does not exist
skills: {fr: 5}                 | queues: [bling]                   | 11 | did you mean «billing»?
skills: {fr: 5}                 | roles: [boss]                     | 11 | advisor, supervisor, admin
skills: {fr: 5}                 | language: en                      | 11 | no language of this site
skills: {fr: 5}                 | shift_ends: 25h                   | 11 | not a time of day
skills: {fr: 5}                 | mot_de_passe: geheim              | 11 | monofil user passwd
skills: {fr: 5}                 | ha1: 0123                         | 11 | no secret
192.0.2.0/24                    | 192.0.2.300                       | 13 | neither an address nor a network
192.0.2.0/24                    | 0.0.0.0/0                         | 13 | the whole world
hosts: [192.0.2.0/24]           | hosts: []                         | 13 | outside what is allowed
hosts: [192.0.2.0/24]           | hosts: [192.0.2.1], allow: ["("]  | 13 | not an RE2 pattern
hosts: [192.0.2.0/24]           | hosts: [192.0.2.1], allow: ["(?=3)"] | 13 | look-around
hosts: [192.0.2.0/24]           | hosts: [192.0.2.1], caller_id: 012 | 13 | not a full telephone number
hosts: [192.0.2.0/24]           | hosts: [192.0.2.1], target: "a b" | 13 | no SIP target
"3631":                         | "36 31":                          | 15 | can't be dialled
{tree: welcome}                 | {tree: welcom}                    | 15 | did you mean «welcome»?
labels: {fr: Fait}              | labels: {en: Done}                | 17 | no language of this site
labels: {fr: Fait}              | labels: Fait                      | 17 | keys with values is expected
start: bye                      | start: by                         | 21 | bye
kind: hangup                    | kind: hangupp                     | 23 | hangup
tree: welcome\\n    start        | tree: other\\n    start           | 20 | give both the same name
wrapup_codes:                   | skills: [a]\\nwrapup_codes:       | 16 | already given in line 2
"""


def _rows() -> list[tuple[str, str, int, str]]:
    rows = []
    for row in MISTAKES.strip().splitlines():
        before, after, line, words = (part.strip() for part in row.rsplit("|", 3))
        rows.append((before.replace("\\n", "\n"), after.replace("\\n", "\n"), int(line), words))
    return rows


@pytest.mark.parametrize(("before", "after", "line", "words"), _rows())
def test_each_mistake_is_told_at_its_line_with_its_cure(
    before: str, after: str, line: int, words: str
) -> None:
    assert before in BASE, "the table must name what stands in the base"
    checked = check_text(BASE.replace(before, after, 1))
    assert checked.site is None
    hits = [s for s in checked.sentences() if s.startswith(f"site.yaml:{line}:")]
    assert any(words in sentence for sentence in hits), checked.sentences()
    for mistake in checked.mistakes:
        assert mistake.say("fr").startswith(f"site.yaml:{mistake.line}:")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        BASE.replace("hours: office", "hours: ofice")
        .replace("{tree: welcome}", "{tree: nowhere}")
        .replace("skills: {fr: 5}", "skills: {fr: 9}")
    )
    lines = [mistake.line for mistake in check_text(text).mistakes]
    assert lines == [9, 11, 15]


def test_a_wrong_entry_is_told_once_and_not_at_each_of_its_uses() -> None:
    text = BASE.replace('{week: {mon-fri: "09:00-18:00"}}', "{week: {mon-fri: never}}")
    assert [m.code for m in check_text(text).mistakes] == ["hours_range"]


def test_two_advisors_cannot_share_a_phone() -> None:
    text = BASE.replace("trunks:", '  tom: {first_name: T, last_name: G, phone: "101"}\ntrunks:')
    assert said(text) == [
        "site.yaml:12: advisors.tom.phone: the phone 101 already rings for lea; "
        "give each advisor a phone account of their own."
    ]


def test_an_overflow_that_comes_back_is_told() -> None:
    text = BASE.replace(
        "    hours: office\n", "    hours: office\n    overflow_after: 10s\n    overflow_to: billing\n", 1
    )
    assert [m.code for m in check_text(text).mistakes] == ["overflow_self"]


def test_a_bad_liquid_text_is_told() -> None:
    text = BASE + "reply_templates:\n  hi:\n    title: Hi\n    bodies:\n      fr: '{{ name'\n"
    assert [(m.code, m.line) for m in check_text(text).mistakes] == [("template", 28)]


def test_a_tree_file_tells_its_own_mistakes_with_its_own_name(tmp_path: Path) -> None:
    site = BASE[: BASE.index("trees:")] + "trees:\n  welcome: welcome.yaml\n"
    (tmp_path / "site.yaml").write_text(site, encoding="utf-8")
    (tmp_path / "welcome.yaml").write_text(
        "tree: welcome\nstart: here\nnodes:\n  here:\n    kind: say\n    say: hello\n    next: nowhere\n",
        encoding="utf-8",
    )
    checked = check(tmp_path / "site.yaml")
    assert checked.site is None
    assert all(m.file == str(tmp_path / "welcome.yaml") for m in checked.mistakes)
    assert any("nowhere" in sentence for sentence in checked.sentences())


def test_a_tree_file_that_is_missing_is_told_and_the_web_never_opens_one(tmp_path: Path) -> None:
    site = BASE[: BASE.index("trees:")] + "trees:\n  welcome: /etc/passwd\n"
    (tmp_path / "site.yaml").write_text(site.replace("/etc/passwd", "gone.yaml"), encoding="utf-8")
    assert [m.code for m in check(tmp_path / "site.yaml").mistakes] == ["tree_file"]
    assert [m.code for m in check_text(site).mistakes] == ["tree_file"]


def test_a_site_file_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    (sentence,) = check(tmp_path / "no.yaml").sentences()
    assert sentence == (
        f"{tmp_path / 'no.yaml'}: the file can't be read: No such file or directory; mend its path or its rights."
    )


@pytest.mark.parametrize(
    "place", ["../secret.yaml", "{outside}/secret.yaml", "secret.txt", "linked.yaml", "a\\0.yaml"]
)
def test_a_tree_file_elsewhere_is_not_opened_and_nothing_of_it_is_said(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    for file in (tmp_path / "secret.yaml", folder / "secret.txt"):
        file.write_text("root:x:0:0: [treasure", encoding="utf-8")
    (folder / "linked.yaml").symlink_to(tmp_path / "secret.yaml")
    named = place.format(outside=tmp_path)
    site = BASE[: BASE.index("trees:")] + f'trees:\n  welcome: "{named}"\n'
    (folder / "site.yaml").write_text(site, encoding="utf-8")
    checked = check(folder / "site.yaml")
    assert [(m.code, m.where) for m in checked.mistakes] == [("tree_place", "trees.welcome")]
    assert "treasure" not in str(checked)


def test_a_tree_file_may_lie_in_a_folder_below(tmp_path: Path) -> None:
    site = BASE[: BASE.index("trees:")] + "trees:\n  welcome: ./trees/../trees/welcome.yml\n"
    (tmp_path / "site.yaml").write_text(site, encoding="utf-8")
    (tmp_path / "trees").mkdir()
    (tmp_path / "trees" / "welcome.yml").write_text(
        "tree: welcome\nstart: bye\nnodes:\n  bye: {kind: hangup}\n", encoding="utf-8"
    )
    assert check(tmp_path / "site.yaml").sentences() == []


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('phone: "101"}', 'phone: "101", roles: [root]}', "«root» is not one of"),
        ("hosts: [192.0.2.0/24]", "hosts: [nowhere]", "«nowhere»"),
        ('phone: "101"}', 'phone: "101", roles: []}', "(≥ 1)"),
    ],
)
def test_a_wrong_entry_of_a_list_draws_one_sentence(right: str, wrong: str, told: str) -> None:
    (sentence,) = said(BASE.replace(right, wrong))
    assert told in sentence


@pytest.mark.parametrize(
    "text", ["", "- a", "42", "a: &x [*x]", "\x00", "a: !!python/object:os.system x", "? [a]\n: b"]
)
def test_what_is_no_site_at_all_is_told_without_a_traceback(text: str) -> None:
    assert check_text(text).site is None
    assert said(text)


def test_aliases_of_aliases_do_not_eat_the_memory() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    assert "too_deep" in {m.code for m in check_text(bomb).mistakes}


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_the_reader_raise(text: str) -> None:
    assert isinstance(check_text(text), Checked)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_broken_line_makes_the_reader_raise(data: st.DataObject) -> None:
    lines = BASE.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    lines[index] = data.draw(
        st.sampled_from([lines[index][: len(lines[index]) // 2], "", "  x: 1", "- 3", "null"])
    )
    assert isinstance(check_text("\n".join(lines)), Checked)


def test_numbers_keep_their_leading_zero_and_plus() -> None:
    assert read("a: 0800\nb: +33\nc: 12\nd: 1.5\ne: '7'\nf: 08:00", "x").data == {
        "a": "0800", "b": "+33", "c": 12, "d": 1.5, "e": "7", "f": "08:00",
    }  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_mistake_has_its_words_in_every_language(language: str) -> None:
    assert language in NEAR
    for code, words in WORDS.items():
        assert set(words) == set(LANGUAGES), code
        assert all(part.strip() for part in words[language]), code


def test_the_example_is_a_whole_hotline() -> None:
    checked = check(EXAMPLE, shipped_sounds() or None)
    assert checked.sentences() == []
    site = checked.site
    assert site is not None
    assert {queue.id for queue in site.queues} == {"reclamations", "facturation", "general"}
    assert len([advisor for advisor in site.advisors if advisor.phone]) >= 6
    assert {trunk.hosts for trunk in site.trunks} == {("127.0.0.0/8",)}
    assert check_text(export(site)).site == site


NAMES = st.sampled_from(["", "Courrier", "no", "Été : «a»"])
IDS = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,12}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40) | st.sampled_from(
    [
        "",
        "no",
        "0800",
        "+33",
        "null",
        " lead",
        "trail ",
        "a: b",
        "# x",
        "two\nlines\n",
        "two\nlines",
        "'",
        '"',
        "\u2028",
        "1e3",
        "~",
    ]
)
SECONDS = st.integers(0, 100_000).map(float) | st.floats(0.001, 1e6)


def _unique(ids: st.SearchStrategy[str], most: int = 3) -> st.SearchStrategy[list[str]]:
    return st.lists(ids, max_size=most, unique=True)


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """Any Site that can be applied."""
    languages = tuple(draw(st.sampled_from([("fr",), ("fr", "en"), ("de", "fr")])))
    skills = draw(_unique(IDS))
    words = st.fixed_dictionaries(dict.fromkeys(languages, TEXTS))
    codes = tuple(WrapupCode(key, draw(words), draw(st.booleans())) for key in draw(_unique(IDS)))
    spans = st.sampled_from([(), ("09:00-12:00",), ("08:00-12:00", "13:00-24:00")])
    hours = tuple(
        Hours(
            key,
            draw(st.dictionaries(st.integers(0, len(DAYS) - 1), spans, max_size=7)),
            draw(st.sampled_from([None, "FR", "DE"])),
            tuple(draw(_unique(st.dates().map(str)))),
            draw(st.dictionaries(st.dates().map(str), spans, max_size=2)),
        )
        for key in draw(_unique(IDS))
    )
    channels = st.sampled_from(tuple(SEATS))
    queue_ids = draw(_unique(IDS))
    levels = st.tuples(st.sampled_from(skills), st.integers(1, 5)) if skills else None
    needs = (
        st.lists(st.lists(levels, min_size=1, max_size=3).map(lambda n: Need(tuple(n))), max_size=2)
        if levels is not None
        else st.just([])
    )
    target = st.builds(Target, st.floats(0.001, 1), SECONDS)
    queues = tuple(
        Queue(
            id=key,
            name=draw(TEXTS),
            needs=tuple(draw(needs)),
            priority=draw(st.integers(-1000, 1000)),
            ageing_per_minute=draw(st.floats(0, 1000)),
            hours=draw(st.sampled_from([None, *(h.id for h in hours)])),
            at_closing=draw(st.sampled_from(["serve", "announce"])),
            prefer=draw(st.sampled_from(["longest_idle", "skill"])),
            targets=draw(st.dictionaries(channels, target, max_size=3)),
            offer_s=draw(st.fixed_dictionaries(dict.fromkeys(SEATS, st.floats(1, 1000)))),
            related_hold_s=draw(st.fixed_dictionaries(dict.fromkeys(SEATS, SECONDS))),
            wrapup_max_s=draw(SECONDS),
            wrapup_extension_s=draw(SECONDS),
            wrapup_codes=tuple(code.id for code in codes[:2]),
            pop=draw(st.sampled_from(["ring", "answer", "end", "button", "never"])),
            music=draw(TEXTS),
            announce_every_s=draw(st.floats(5, 1e4)),
            announce_place=draw(st.booleans()),
            leave_key=draw(st.sampled_from([None, "0", "*", "#"])),
            max_waiting=draw(st.integers(1, 10_000)),
            overflow_after_s=10.0 if index else None,
            overflow_to=queue_ids[0] if index else None,
            record=draw(st.booleans()),
            after_misses=draw(st.integers(1, 9)),
        )
        for index, key in enumerate(queue_ids)
    )
    phones = [None, "101", "102"]
    advisors = tuple(
        Advisor(
            id=key,
            first_name=draw(TEXTS),
            last_name=draw(TEXTS),
            roles=draw(st.sampled_from([("advisor",), ("admin", "supervisor")])),
            skills=draw(st.dictionaries(st.sampled_from(skills), st.integers(1, 5))) if skills else {},
            seats=draw(st.dictionaries(channels, st.integers(0, 9))),
            queues=draw(st.sampled_from([None, (), tuple(queue_ids)])),
            language=draw(st.sampled_from(languages)),
            phone=phones[index] if index < len(phones) else None,
            shift_ends=draw(st.sampled_from([None, "18:30"])),
        )
        for index, key in enumerate(draw(_unique(IDS)))
    )
    trunks = tuple(
        Trunk(
            key,
            ("192.0.2.1", "2001:db8::/32"),
            draw(st.sampled_from([None, "sip.example.org:5060;transport=tcp"])),
            tuple(draw(st.lists(st.sampled_from([r"\+33[0-9]*", "[a-z]+", "3.*"]), max_size=2))),
            (),
            draw(st.sampled_from([None, "+33123456789"])),
            draw(st.integers(1, 500)),
        )
        for key in draw(_unique(IDS))
    )
    tree_ids = draw(_unique(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)))
    numbers = tuple(
        Number(n, tree_ids[0], draw(TEXTS))
        for n in draw(_unique(st.from_regex(r"\+?[0-9*#]{4,12}", fullmatch=True)))
        if tree_ids
    )
    accounts = tuple(
        Account(
            key,
            "email",
            draw(NAMES),
            tree_ids[0] if tree_ids else None,
            queue_ids[0] if queue_ids else None,
            {"address": f"{key}@postal.example"},
            draw(st.dictionaries(st.sampled_from(languages), st.just("– {{ advisor.first_name }}"))),
            draw(st.sampled_from(["Bot", "Iris"])),
        )
        for key in (draw(_unique(IDS, 2)) if tree_ids or queue_ids else ())
    )
    return Site(
        organisation=draw(IDS),
        name=draw(TEXTS),
        time_zone=draw(st.sampled_from(["Europe/Paris", "UTC"])),
        languages=languages,
        country=draw(st.sampled_from(["FR", "DE"])),
        hours=hours,
        skills=tuple(skills),
        queues=queues,
        advisors=advisors,
        trunks=trunks,
        numbers=numbers,
        wrapup_codes=codes,
        pause_reasons=tuple(draw(_unique(IDS))),
        reply_templates=tuple(
            ReplyTemplate(
                key,
                draw(TEXTS),
                dict.fromkeys(languages, "Hi {{ name }}\nBye"),
                draw(st.sampled_from(["", "bonjour"])),
                tuple(queue_ids[:1]),
            )
            for key in draw(_unique(IDS, 2))
        ),
        accounts=accounts,
        trees={
            key: {
                "tree": key,
                "title": draw(TEXTS),
                "channels": ["voice", "chat", "mail"],
                "start": "bye",
                "human": "bye",
                "nodes": {"bye": {"kind": "hangup"}},
            }
            for key in tree_ids
        },
        pop_url=draw(st.sampled_from([None, "https://crm.example.org/?phone={e164}"])),
        reopen_within_h=draw(st.floats(0, 10_000)),
        recording_notice=draw(TEXTS),
        record_outgoing=draw(st.booleans()),
        vip_priority=draw(st.integers(0, 1000)),
        tags=tuple(draw(_unique(IDS))),
        archive_reasons=tuple(draw(_unique(IDS))),
        weights=draw(st.dictionaries(channels, st.floats(0, 100))),
        conversation_gap_h=draw(st.floats(0.5, 1000)),
        holding_message=draw(st.dictionaries(st.sampled_from(languages), TEXTS)),
    )


@given(sites())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_exported_is_the_same_when_applied(site: Site) -> None:
    text = export(site)
    checked = check_text(text)
    assert checked.sentences() == []
    assert checked.site == site


def test_differences_name_what_is_lost() -> None:
    site = check_text(BASE).site
    other = check_text(BASE.replace("name: Billing", "name: Invoices")).site
    assert site is not None
    assert other is not None
    lines = differences(site, other, "then", "now")
    assert "-    name: Billing" in lines
    assert "+    name: Invoices" in lines


@pytest.mark.parametrize(
    ("said", "share", "seconds"),
    [
        ("80% in 20s", 0.8, 20),
        ("90% in 60s", 0.9, 60),
        ("90% in 90s", 0.9, 90),
        ("99.5% in 10min", 0.995, 600),
        ("95% in 24h", 0.95, 86_400),
        ("100% in 0.5s", 1.0, 0.5),
    ],
)
def test_targets_are_written_as_people_say_them(said: str, share: float, seconds: float) -> None:
    site = check_text(BASE).site
    assert site is not None
    queue = replace(site.queues[0], targets={"mail": Target(share, seconds)})
    assert f'mail: "{said}"' in export(replace(site, queues=(queue,)))


def test_differences_are_blind_to_the_order_of_keys() -> None:
    site = check_text(BASE).site
    assert site is not None

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
        return [turned(item) for item in value] if isinstance(value, list) else value

    other = replace(site, trees=turned(site.trees))
    assert other == site
    assert differences(other, site, "then", "now") == []
    lines = differences(replace(other, name="Other"), site, "then", "now")
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-  name: Other", "+  name: Demo"]


def test_a_tree_behind_an_account_must_be_made_for_its_channel() -> None:
    page = 'channels:\n  page: {channel: messenger, settings: {page_id: "1"}, tree: welcome}\n'
    (wrong,) = said(page + BASE)
    assert "the tree welcome is not made for chat" in wrong
    chat = BASE.replace("    start: bye\n", "    channels: [chat]\n    human: bye\n    start: bye\n")
    assert said(page + chat.replace('numbers:\n  "3631": {tree: welcome}\n', "")) == []


# channel | its settings and more | where | words that stand in the sentence
ACCOUNTS = """
email     | settings: {address: service.example}               | settings.address   | no email address
email     | settings: {address: "<a@b.example>"}               | settings.address   | no email address
email | settings: {address: a@b.example, smtp_port: twentyfive} | settings.smtp_port | is no port; write a number from 1
email     | settings: {address: a@b.example, smtp_port: "99999"} | settings.smtp_port | «99999» is no port
email     | settings: {address: a@b.example, smtp_port: 0}     | settings.smtp_port | «0» is no port
webchat   | settings: {origins: "https://a.example", gone_after_s: soon} | settings.gone_after_s | is no time in seconds
webchat   | settings: {origins: "https://a.example", gone_after_s: "0"}  | settings.gone_after_s | is no time in seconds
email     | settings: {address: a@b.example, imap_host: h, imap_port: "-1"} | settings.imap_port | is no port
email | settings: {address: a@b.example, imap_user: lea} | settings.imap_user | no effect without imap_host
email | settings: {address: a@b.example, smtp_tls: perhaps} | settings.smtp_tls | one of tls, starttls, none
email | settings: {address: a@b.example, own_addresses: "a@b.c, d"} | settings.own_addresses | not all email addresses
email     | settings: {address: a@b.example, smtp_host: " "}   | settings.smtp_host | given, but empty
email | settings: {address: a@b.example, smtp_password: x} | settings.smtp_password | `monofil secret set one smtp_p
email     | settings: {address: a@b.example}, name: ""         | name               | given, but empty
email | settings: {address: a@b.example}, signature: {fr: "{{ advisor.name }}"} | signature.fr | knows no «advisor.name»
email | settings: {address: a@b.example}, signature: {fr: "{{ name }}"} | signature.fr | choose one of: account.name
messenger | settings: {page_id: ""}                            | settings.page_id   | given, but empty
messenger | settings: {page_id: "1", api_base: graph.example}  | settings.api_base  | is no web address
messenger | settings: {page_id: "1", page_token: x} | settings.page_token | `monofil secret set one page_token`
messenger | settings: {page_id: "1"}, signature: {fr: Léa}     | signature.fr       | bear no signature
messenger | settings: {page_id: "1"}, hook: two                 | hook               | account «two» does not exist
messenger | settings: {page_id: "1"}, hook: one                 | hook               | account «one» does not exist
email     | settings: {address: a@b.example}, hook: two        | hook               | share no callback
webchat   | settings: {origins: www.postal.example}            | settings.origins   | write scheme and host
webchat   | settings: {origins: "https://a.example b.example"} | settings.origins   | write scheme and host
webchat   | settings: {origins: "https://a.example/shop"}      | settings.origins   | write scheme and host
webchat | settings: {origins: "https://a.example", hours: ofice} | settings.hours | opening hours «ofice» does not exist
webchat   | settings: {origins: "https://a.example", email: lea} | settings.email     | no email address
"""


@pytest.mark.parametrize("row", ACCOUNTS.strip().splitlines())
def test_a_mistake_in_an_account_is_told_with_its_place_and_cure(row: str) -> None:
    channel, more, where, words = (part.strip() for part in row.split("|", 3))
    text = BASE + f"channels:\n  one: {{channel: {channel}, queue: billing, {more}}}\n"
    (sentence,) = said(text)
    line = len(text.splitlines())
    assert sentence.startswith(f"site.yaml:{line}: channels.one.{where}: ")
    assert words in sentence


def test_right_accounts_have_no_mistake() -> None:
    accounts = """
channels:
  box: {channel: email, queue: billing, settings: {address: Service@postal.example, imap_host: ::1, imap_port: 993,
    smtp_port: "25", listen: "no", own_addresses: "a@b.example, c@d.example"},
    signature: {fr: "{% if case.number %}{{ advisor.first_name }}{% endif %} {{ account.name }}"}}
  page: {channel: messenger, tree: chatty, queue: billing, settings: {page_id: 7, api_base: "http://127.0.0.1:80/x"}}
  site: {channel: webchat, queue: billing, name: Tchat, settings: {hours: office, email: a@b.example,
    gone_after_s: "90", origins: "https://www.postal.example, http://localhost:8080/"}}
"""
    chatty = """  chatty:
    tree: chatty
    channels: [chat]
    human: bye
    start: bye
    nodes:
      bye: {kind: hangup}
"""
    assert said(BASE + chatty + accounts) == []


def test_an_account_takes_its_requests_by_one_of_its_channel_that_has_a_callback_of_its_own() -> None:
    accounts = """
channels:
  box: {channel: email, queue: billing, settings: {address: service@postal.example}}
  a: {channel: messenger, queue: billing, settings: {page_id: "7"}}
  b: {channel: messenger, queue: billing, hook: a, settings: {page_id: "8"}}
  c: {channel: messenger, queue: billing, hook: b, settings: {page_id: "9"}}
  d: {channel: messenger, queue: billing, hook: box, settings: {page_id: "10"}}
"""
    chained, foreign = said(BASE + accounts)
    assert "channels.c.hook: the account «b» does not exist; choose one of: a" in chained
    assert "channels.d.hook: the account «box» does not exist; choose one of: a" in foreign


def test_two_accounts_of_a_channel_are_not_the_same_page_or_mailbox() -> None:
    accounts = """
channels:
  a: {channel: email, queue: billing, settings: {address: service@postal.example}}
  b: {channel: email, queue: billing, settings: {address: Service@Postal.example}}
  c: {channel: messenger, queue: billing, settings: {page_id: "7"}}
  d: {channel: messenger, queue: billing, settings: {page_id: "7"}}
"""
    mailbox, page = said(BASE + accounts)
    assert "channels.b.settings.address: Service@Postal.example is already the account a" in mailbox
    assert "channels.d.settings.page_id: 7 is already the account c" in page
