"""What the bot says fits its channel: buttons or a list, cut where a reader pauses, never empty, never a file name."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from ivr.events import Choice, Say, Spoken
from ivr.text import cut, disclosure, moment, render
from routing.channel import Manifest
from routing.channels import messenger
from tests.ivr.walks import TEXTS

MESSENGER = messenger.MANIFEST
PLAIN = Manifest(name="sms", seat="chat", address_kind="phone", labels={}, text_chars=160)
CHOICES = (
    Choice("1", "Suivre un colis", "t/main/1"),
    Choice("2", "Une réclamation sur une livraison", "t/main/2"),
)


def say(*parts: Spoken, language: str = "fr", discloses: bool = False) -> Say:
    return Say(parts, language, discloses=discloses)


HELLO = say(Spoken("text", text="Bonjour."))


def test_choices_are_buttons_where_the_channel_has_them() -> None:
    (message,) = render([HELLO], CHOICES, MESSENGER, TEXTS)
    assert message.text == "Bonjour."
    assert message.buttons == (("Suivre un colis", "t/main/1"), ("Une réclamation sur…", "t/main/2"))
    assert all(len(title) <= MESSENGER.quick_reply_chars for title, _ in message.buttons)


def test_choices_are_a_numbered_list_where_it_has_none_or_too_few() -> None:
    (message,) = render([HELLO], CHOICES, PLAIN, TEXTS)
    assert message.text == "Bonjour.\n\n1. Suivre un colis\n2. Une réclamation sur une livraison"
    assert message.buttons == ()
    many = tuple(Choice(str(i), f"choice {i}", "") for i in range(14))
    (message,) = render([HELLO], many, MESSENGER, TEXTS)
    assert message.buttons == ()
    assert "13. choice 13" in message.text


def test_a_recording_is_its_text_and_never_its_file_name() -> None:
    for name, words in TEXTS.items():
        for language in ("fr", "en"):
            made = render([say(Spoken("prompt", name=name), language=language)], (), MESSENGER, TEXTS)
            assert [m.text for m in made] == ([words[language]] if words else [])
    assert render([say(Spoken("prompt", name="my-own-recording"))], (), MESSENGER, TEXTS) == []


def test_values_are_written_as_they_are_said() -> None:
    parts = (Spoken("text", text="Encore"), Spoken("duration", value="190"), Spoken("digits", value="0412"))
    assert render([say(*parts)], (), MESSENGER, TEXTS)[0].text == "Encore 3 minutes 0412"


def test_nothing_said_is_no_message_even_with_choices_or_a_disclosure() -> None:
    assert render([], CHOICES, MESSENGER, TEXTS, disclose="I am a bot.") == []
    assert render([say(Spoken("text", text="  "))], CHOICES, MESSENGER, TEXTS, disclose="I am a bot.") == []


def test_the_bot_says_what_it_is_unless_the_author_does() -> None:
    line = disclosure("Colette", ("fr",), "chat")
    assert render([HELLO], (), MESSENGER, TEXTS, disclose=line)[0].text == (
        "Je suis Colette, un assistant automatique.\n\nBonjour."
    )
    own = say(Spoken("text", text="Bonjour, ici le robot Colette."), discloses=True)
    assert render([own], (), MESSENGER, TEXTS, disclose=line)[0].text == "Bonjour, ici le robot Colette."
    assert disclosure("Colette", ("de",), "chat") == "I am Colette, an automated assistant."


def test_a_long_text_is_cut_between_sentences_and_the_buttons_stand_under_its_end() -> None:
    text = "Une phrase qui dit quelque chose. " * 120
    made = render([say(Spoken("text", text=text))], CHOICES, MESSENGER, TEXTS)
    assert len(made) == 3
    assert all(len(m.text) <= 2000 for m in made)
    assert all(m.text.endswith(".") for m in made)
    assert [bool(m.buttons) for m in made] == [False, False, True]


@given(st.text(max_size=300), st.integers(1, 40), st.none() | st.integers(4, 60))
def test_pieces_fit_and_together_say_everything(text: str, chars: int, octets: int | None) -> None:
    pieces = cut(text, chars, octets)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(p) <= chars for p in pieces)
    assert all(len(p.encode()) <= octets for p in pieces if octets is not None)


def test_a_time_to_come_is_told_as_people_say_it() -> None:
    def at(text: str) -> float:
        return datetime.fromisoformat(text).timestamp()

    now = at("2026-11-20T21:00:00+01:00")  # a Friday
    for then, fr, en in (
        ("2026-11-20T22:00:00+01:00", "aujourd'hui à 22 h", "today at 22:00"),
        ("2026-11-21T08:30:00+01:00", "demain à 8 h 30", "tomorrow at 8:30"),
        ("2026-11-23T08:00:00+01:00", "lundi à 8 h", "on Monday at 8:00"),
        ("2026-12-01T08:00:00+01:00", "le 1 décembre à 8 h", "on 1 December at 8:00"),
    ):
        assert moment(at(then), now, "Europe/Paris", "fr") == fr
        assert moment(at(then), now, "Europe/Paris", "en") == en
