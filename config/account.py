"""What is wrong in one account of the site file, as the manifest of its channel tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from urllib.parse import urlsplit

from config.document import Path
from ivr.expressions import template
from routing.channel import Manifest

Wrong = tuple[Path, str, dict[str, object]]
"""Where (below the account), the code of the mistake, and what fills its words."""

_ADDRESS = re.compile(r"[^\s@<>,;:\"]+@[A-Za-z0-9À-￿-]+(\.[A-Za-z0-9À-￿-]+)*")


def wrong_settings(
    manifest: Manifest, settings: Mapping[str, str], hours: Collection[str]
) -> Iterator[Wrong]:
    """Settings that are there and cannot be. `hours`: the ids of all opening hours."""
    for key, value in settings.items():
        if key not in (*manifest.settings, *manifest.optional):
            continue  # told as unknown
        place, kind = ("settings", key), manifest.kinds.get(key, "text")
        goes_with = manifest.useless_without.get(key)
        if not value.strip():
            yield place, "blank", {"got": key}
        elif goes_with is not None and goes_with not in settings:
            yield place, "setting_half", {"got": key, "expected": goes_with}
        elif "|" in kind:
            if value not in (words := tuple(kind.split("|"))):
                yield place, "choice", {"got": f"«{value}»", "expected": words}
        elif kind == "hours":
            if value not in hours:
                yield place, "reference", {"kind": "hours", "got": value, "expected": tuple(hours)[:20]}
        elif kind in _RIGHT and not _RIGHT[kind](value):
            yield place, f"account_{kind}", {"got": f"«{value}»"}


def wrong_signatures(manifest: Manifest, signatures: Mapping[str, str]) -> Iterator[Wrong]:
    """Signatures that name what the channel does not tell them; all, where its messages bear none."""
    for language, words in signatures.items():
        place = ("signature", language)
        if not manifest.signs_with:
            yield place, "signature", {"got": manifest.name}
            continue
        for name in sorted(template(words).paths - manifest.signs_with):
            yield place, "variable", {"got": name, "expected": tuple(sorted(manifest.signs_with))}


def _is_port(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", value) is not None and 1 <= int(value) <= 65_535


def _is_address(value: str) -> bool:
    return _ADDRESS.fullmatch(value) is not None


def _are_addresses(value: str) -> bool:
    return all(map(_is_address, value.replace(",", " ").split()))


def _is_url(value: str, bare: bool = False) -> bool:
    """An http or https URL; `bare`: without a path or anything after it."""
    try:
        parts = urlsplit(value)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return right and not re.search(r"\s", value) and not (bare and (parts.path.strip("/") or parts.query))


def _is_seconds(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}", value) is not None and int(value) > 0


def _are_origins(value: str) -> bool:
    return all(_is_url(word, bare=True) for word in value.replace(",", " ").split())


_RIGHT: Mapping[str, Callable[[str], bool]] = {
    "port": _is_port,
    "address": _is_address,
    "addresses": _are_addresses,
    "url": _is_url,
    "origins": _are_origins,
    "seconds": _is_seconds,
}
KINDS = frozenset({"hours", *_RIGHT})
"""What a manifest's `kinds` can say, besides words between bars."""
