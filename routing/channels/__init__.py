"""One file a channel: its manifest and how its payloads are verified, parsed and rendered.

Whatever file lies in this folder is a channel. MANIFESTS holds them all by the name in their manifest, CHANNELS those
that exchange messages through accounts (verify, parse and render are there); voice is not among them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import cast

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
