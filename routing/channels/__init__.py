"""One file a channel: its manifest and how its payloads are verified, parsed and rendered.

Whatever file lies in this folder is a channel. MANIFESTS holds them all by the name in their manifest, CHANNELS those
that exchange messages through accounts (verify, parse and render are there); voice is not among them. MAY_ANSWER holds
the rules of those where a machine may not answer everything: (automatic, automatic answers to that address in the last
24 hours, the message's extra) -> may it?
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

from routing.channel import Channel, Manifest

_FILES = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
MANIFESTS: Mapping[str, Manifest] = {
    file.MANIFEST.name: file.MANIFEST for file in _FILES if hasattr(file, "MANIFEST")
}
CHANNELS: Mapping[str, Channel] = {
    file.MANIFEST.name: cast(Channel, file)
    for file in _FILES
    if hasattr(file, "MANIFEST") and hasattr(file, "parse")
}
MAY_ANSWER: Mapping[str, Callable[[bool, int, Mapping[str, Any]], bool]] = {
    file.MANIFEST.name: file.may_answer for file in _FILES if hasattr(file, "may_answer")
}
