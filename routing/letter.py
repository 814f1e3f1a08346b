"""The words of one mail: its HTML made clean, its plain text, and what of it is own, quoted or signature.

Cleaning keeps an allow-list and nothing else; what it gives fetches nothing by itself and is still to be shown in a
sandboxed frame. It is idempotent: cleaned HTML may be stored and cleaned again when somebody asks for its images.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape, unescape

import nh3
from mailparser_reply.parser import EmailMessage  # type: ignore[import-untyped]

MOST_HTML_CHARS = 500_000  # longer letters are shown as text; cleaning that much takes about 50 ms
MOST_DEPTH = 500  # of nested elements: the cleaner's time grows with the square of it (100,000 deep: 19 s)
MOST_FOLDED_CHARS = 200_000
MOST_SIGNATURE_LINES = 12
MOST_PARSED_CHARS = (
    4_000  # for the patterns of mail-parser-reply, which are not linear (20,000 empty lines: 20 s)
)


def _names(told: str) -> frozenset[str]:
    return frozenset(told.split())


_BLOCKS = _names(
    """address article aside blockquote caption center dd details div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6
    header hr li main nav ol p pre section summary table tbody tfoot thead tr ul"""
)
_INLINE = _names(
    """a abbr b bdi bdo big br cite code col colgroup del dfn em font i img ins kbd mark q s samp small span strike
    strong sub sup td th tt u var wbr"""
)
_VOID = _names("area base br col embed hr img input link meta param source track wbr")
_SELF_CLOSING = _names("p li dd dt td th tr option")
_GONE = _names(  # with all that is in them
    """script style noscript noembed noframes template iframe object applet embed svg math title textarea select
    xmp plaintext audio video canvas frameset"""
)
_STYLES = _names(
    """color background-color font-weight font-style font-size font-family text-align text-decoration text-indent
    line-height vertical-align white-space list-style-type margin margin-top margin-right margin-bottom margin-left
    padding padding-top padding-right padding-bottom padding-left border-collapse border-color border-style
    border-width border-spacing width max-width"""
)
_ATTRIBUTES = {
    "*": {"style", "dir", "lang", "title", "align", "valign"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height", "data-remote"},
    "table": {"border", "cellpadding", "cellspacing", "width", "bgcolor"},
    "td": {"colspan", "rowspan", "width", "height", "bgcolor"},
    "th": {"colspan", "rowspan", "width", "height", "bgcolor"},
    "tr": {"bgcolor"},
    "font": {"color", "size", "face"},
    "ol": {"start", "type"},
    "col": {"span", "width"},
}
_FETCHES = re.compile(r"url|image|expression|@|\\|/\*|var\(|attr\(|binding|behavior|<|&", re.IGNORECASE)
_REMOTE = re.compile(r"https?://[^\s]{1,4000}\Z", re.IGNORECASE)
_TAG = re.compile(r'<[a-z][a-z0-9]*(?: [a-z-]+="[^"]*")*>')
_INSIDE = re.compile(r' src="cid:([^"]*)"', re.IGNORECASE)
_OPENED = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]{0,30})")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_TOKEN = re.compile(r"<(/?)([a-z][a-z0-9]*)([^>]*)>|([^<]+)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")


def tidy(text: str) -> str:
    """Without control characters and lone surrogates, with `\\n` as the end of a line."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def file_name(told: str) -> str:
    """A file's name as it may be shown and written: no path, no control characters, no marks of direction."""
    last = re.split(r"[/\\]", re.sub(r"\s+", " ", tidy(told)))[-1].strip(". ")
    return re.sub(r'[<>:"|?*\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]', "_", last)[-150:]


def depth(html: str) -> int:
    """How deep elements are nested at most, about; counted in one pass and rather too high than too low."""
    inside: dict[str, int] = {}
    now = most = 0
    for closing, name in _OPENED.findall(_COMMENT.sub("", html)):
        name = name.lower()
        if name in _VOID or name in _SELF_CLOSING:
            continue
        if not closing:
            inside[name] = inside.get(name, 0) + 1
            now += 1
            most = max(most, now)
        elif inside.get(name):
            inside[name] -= 1
            now -= 1
    return most


def showable(html: str) -> bool:
    return len(html) <= MOST_HTML_CHARS and depth(html) <= MOST_DEPTH


def clean(html: str, *, images: bool = False, cid: Callable[[str], str | None] | None = None) -> str:
    """HTML by the allow-list; "" when it is too long or too deep to be cleaned.

    The address of a remote image stands in `data-remote` until `images` asks for it (then in `src`).
    `cid` gives the URL of an image inside the mail by its Content-ID, or None when there is none; without `cid` such
    an address is left as it is, for a later cleaning.
    """
    if not showable(html):
        return ""

    def judged(tag: str, name: str, value: str) -> str | None:
        if name == "style":
            return None if _FETCHES.search(value) else value
        if tag == "img" and name == "data-remote":
            return value if _REMOTE.match(value) else None
        if tag == "img" and name == "src":
            if value[:4].lower() == "cid:":
                return value
            if not _REMOTE.match(value):
                return None
            return value if images else "remote:" + value
        return value

    cleaned = nh3.clean(
        tidy(html),
        tags=set(_BLOCKS | _INLINE),
        clean_content_tags=set(_GONE),
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        attribute_filter=judged,
        strip_comments=True,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        url_schemes={"http", "https", "mailto", "tel", "cid"},
        url_relative="deny",
        filter_style_properties=set(_STYLES),
    )

    def placed(found: re.Match[str]) -> str:
        tag = found.group()
        if not tag.startswith("<img "):
            return tag
        if cid is not None and (inside := _INSIDE.search(tag)):
            url = cid(unescape(inside.group(1)))
            return tag.replace(inside.group(), f' src="{escape(url)}"' if url else "", 1)
        if ' src="remote:' in tag:
            return re.sub(r' data-remote="[^"]*"', "", tag).replace(' src="remote:', ' data-remote="', 1)
        if images and ' src="' not in tag:
            return tag.replace(' data-remote="', ' src="', 1)
        return tag

    cleaned = _TAG.sub(placed, cleaned)
    return cleaned if showable(cleaned) else ""


def remote_images(cleaned: str) -> int:
    """How many images of cleaned HTML are not shown until somebody asks."""
    return sum(' data-remote="' in tag for tag in _TAG.findall(cleaned) if tag.startswith("<img "))


def as_text(html: str) -> str:
    """The text of HTML: lines as blocks end, `- ` before items, `> ` before what it quotes, links with their target."""
    cleaned = clean(html[:MOST_HTML_CHARS])
    if not cleaned:
        return _squeezed(unescape(re.sub(r"<[^<>]{0,2000}>", "\n", tidy(html[:MOST_HTML_CHARS]))))
    out: list[str] = []
    quotes = pre = 0
    line: list[str] = []
    link, words = "", ""

    def end() -> None:
        text = "".join(line)
        text = text.rstrip() if pre else re.sub(r"[ \t\n]+", " ", text).strip()
        line.clear()
        out.append("> " * quotes + text if text else ">" * quotes)

    for closing, tag, attributes, text in _TOKEN.findall(cleaned):
        if text:
            told = unescape(text).replace("\u200b", "").replace("\u00a0", " ")
            words += told
            if pre:
                first, *more = told.split("\n")
                line.append(first)
                for one in more:
                    end()
                    line.append(one)
            else:
                line.append(told)
        elif tag == "br":
            end()
        elif tag == "a" and not closing:
            found = re.search(r' href="(https?:[^"]*)"', attributes)
            link, words = unescape(found.group(1)) if found else "", ""
        elif tag == "a" and link:
            if words.strip() and words.strip().rstrip("/") not in (
                link.rstrip("/"), link.split("://", 1)[-1].rstrip("/")
            ):  # fmt: skip
                line.append(f" <{link}>")
            link = ""
        elif tag in ("td", "th") and closing:
            line.append(" ")
        elif tag in _BLOCKS:
            if "".join(line).strip():
                end()
            if tag == "li" and not closing:
                line.append("- ")
            elif tag == "p" and closing:
                out.append(">" * quotes)
            elif tag == "blockquote":
                quotes = max(0, quotes + (-1 if closing else 1))
            elif tag == "pre":
                pre = max(0, pre + (-1 if closing else 1))
    if "".join(line).strip():
        end()
    return _squeezed("\n".join(out))


def _squeezed(text: str) -> str:
    return re.sub(r"\n[ \t]*(?:\n[ \t]*)+", "\n\n", text).strip()


_LINK = re.compile(r"https?://[^\s<>\"']{1,2000}[^\s<>\"'.,;:!?)\]]")


def of_text(text: str) -> str:
    """Simple HTML of plain text: paragraphs, line breaks and links; everything else stands as it was typed."""
    paragraphs = []
    for paragraph in re.split(r"\n{2,}", tidy(text).strip("\n")):
        parts, last = [], 0
        for found in _LINK.finditer(paragraph):
            url = escape(found.group())
            parts += [escape(paragraph[last : found.start()]), f'<a href="{url}">{url}</a>']
            last = found.end()
        parts.append(escape(paragraph[last:]))
        paragraphs.append("<p>" + "".join(parts).replace("\n", "<br>\n") + "</p>")
    return "\n".join(paragraphs)


@dataclass(frozen=True, slots=True)
class Folded:
    """A text in its parts; put together they say everything that it said."""

    own: str
    quoted: str = ""
    signature: str = ""


_WROTE = re.compile(
    r"[> ]*(?:Le\b.{3,300}\ba écrit(?: ?:)?|On\b.{3,300}\bwrote ?:|Am\b.{3,300}\bschrieb\b.{0,120}:"
    r"|El\b.{3,300}\bescribió ?:)\s*\Z",
    re.IGNORECASE,
)
_WROTE_BEGINS = re.compile(r"[> ]*(?:Le|On|Am|El)\s\S", re.IGNORECASE)
_SEPARATOR = re.compile(
    r"\s*-{2,}\s*(?:Message d['’]origine|Original Message|Message transféré|Forwarded message"
    r"|Ursprüngliche Nachricht|Mensaje original)\s*-{2,}\s*\Z",
    re.IGNORECASE,
)
_FROM = re.compile(r"[*\s]*(?:De|From|Von|Expéditeur)\s?:[*\s]*\S", re.IGNORECASE)
_SENT = re.compile(
    r"[*\s]*(?:Envoyé(?: le)?|Date|Sent|À|A|To|Objet|Subject|Gesendet|An|Betreff|Cc|Destinataire)\s?:",
    re.IGNORECASE,
)
_DASHES = re.compile(r"--\s?\Z")
_DEVICE = re.compile(
    r"\s*(?:Envoyé (?:de|depuis|à partir de)\b|Sent from\b|Get Outlook for|Télécharger Outlook pour"
    r"|Obtenir Outlook pour|Provenance : Courrier|Gesendet von\b).{0,120}\Z",
    re.IGNORECASE,
)


def _quote_starts(lines: list[str]) -> int | None:
    """The number of the line where somebody else's words begin."""
    for at, line in enumerate(lines):
        if _SEPARATOR.match(line):
            return at
        if _WROTE_BEGINS.match(line):
            for span in (1, 2, 3):
                joined = " ".join(part.strip() for part in lines[at : at + span])
                if len(joined) < 700 and _WROTE.match(joined):
                    return at
        if _FROM.match(line) and sum(bool(_SENT.match(next_)) for next_ in lines[at + 1 : at + 6]) >= 2:
            before = at
            while before and (
                not lines[before - 1].strip() or re.fullmatch(r"\s*[_-]{5,}\s*", lines[before - 1])
            ):
                before -= 1
            return before
    first = next((at for at, line in enumerate(lines) if line.lstrip().startswith(">")), None)
    if first is not None and all(not line.strip() or line.lstrip().startswith(">") for line in lines[first:]):
        return first
    return None


def _signature_starts(lines: list[str]) -> int | None:
    for at, line in enumerate(lines):
        if at and (_DASHES.match(line) or _DEVICE.match(line)):
            return at
    return None


def _by_reader(lines: list[str], most: int | None) -> tuple[int | None, int | None]:
    """(line where the quoted part begins, where the signature does), as mail-parser-reply sees the first `most`."""
    told = [" ".join(line[:200].split()) for line in lines[:most]]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(told))
    if len(text) > MOST_PARSED_CHARS:
        return None, None
    message = EmailMessage(text=text, languages=["fr", "en"], keep_hyphen_lists=True).read()
    first, *more = message.replies or [None]

    def line_of(part: str | None) -> int | None:
        head = next((line.strip() for line in (part or "").split("\n") if line.strip()), "")
        return told.index(head) if head in told and told.index(head) else None

    return line_of(more[0].headers) if more else None, line_of(first.signatures) if first else None


def fold(text: str) -> Folded:
    """What somebody wrote, what they quote below it, and how they signed.

    Answers written between quoted lines, or below them, stay whole. Nothing is folded when nothing would be left.
    """
    text = tidy(text)
    if len(text) > MOST_FOLDED_CHARS:
        return Folded(own=text)
    lines = text.split("\n")
    start = _quote_starts(lines)
    seen = _by_reader(lines, start)
    if start is None:
        start = seen[0]
    own, quoted = lines, list[str]()
    if start is not None:
        rest = lines[start + 1 :]
        marked = [at for at, line in enumerate(rest) if line.lstrip().startswith(">")]
        after = rest[marked[-1] + 1 :] if marked else []
        cut = _signature_starts(["", *after])
        answered = any(line.strip() for line in (after if cut is None else after[: max(0, cut - 1)]))
        if not (marked and answered) and any(line.strip() for line in lines[:start]):
            own, quoted = lines[:start], lines[start:]
    signed = _signature_starts(own)
    if signed is None and seen[1] is not None and seen[1] < len(own) <= seen[1] + MOST_SIGNATURE_LINES:
        signed = seen[1]
    signature: list[str] = []
    if signed is not None and any(line.strip() for line in own[:signed]):
        own, signature = own[:signed], own[signed:]
    return Folded(
        own="\n".join(own).strip("\n"),
        quoted="\n".join(quoted).strip("\n"),
        signature="\n".join(signature).strip("\n"),
    )
