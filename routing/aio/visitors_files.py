"""Files that visitors have sent and not attached to a message yet."""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from routing import sniff
from routing.aio.visitors_door import Refusal, now

UPLOAD_BYTES = 64 << 20  # of all of them
UPLOAD_S = 600.0
NAME_CHARS = 120

TYPES: Mapping[str, str] = {
    "image/png": "image", "image/jpeg": "image", "image/gif": "image", "image/webp": "image",
    "audio/ogg": "audio", "audio/mpeg": "audio", "audio/mp4": "audio", "audio/webm": "audio",
    "application/pdf": "file", "text/plain": "file", "text/csv": "file",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "file",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "file",
    "application/vnd.oasis.opendocument.text": "file", "application/vnd.oasis.opendocument.spreadsheet": "file",
}  # fmt: skip
"""What may be attached, by what its bytes show, and the kind it then is."""

Owner = tuple[str, str]
"""An account and a visitor of it."""


@dataclass(slots=True)
class _Upload:
    owner: Owner
    name: str
    type: str
    kind: str
    content: bytes
    until: float


class Uploads:
    """Kept for ten minutes, in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Upload] = OrderedDict()
        self._bytes = 0

    def keep(
        self, owner: Owner, name: str, said: str, content: bytes, limits: Mapping[str, int]
    ) -> dict[str, Any]:
        """What the page is told of it. `said` is its type as the page has it, `limits` most bytes by kind."""
        type = sniff.looks(content, said)
        kind = TYPES.get(type, "")
        if not content or kind not in limits:
            raise Refusal("type")
        if len(content) > limits[kind]:
            raise Refusal("too_large")
        self._clear()
        if self._bytes + len(content) > UPLOAD_BYTES:
            raise Refusal("unavailable", 5.0)
        id, name = str(uuid4()), _bare(name)
        self._kept[id] = _Upload(owner, name, type, kind, content, now() + UPLOAD_S)
        self._bytes += len(content)
        return {"upload_id": id, "name": name, "type": type, "bytes": len(content)}

    def attached(self, owner: Owner, id: Any) -> dict[str, Any]:
        """As it stands in the raw body of a message; its owner may attach it, nobody else."""
        self._clear()
        upload = self._kept.get(id) if isinstance(id, str) else None
        if upload is None or upload.owner != owner:
            raise Refusal("unknown_upload")
        content = base64.b64encode(upload.content).decode()
        return {"name": upload.name, "type": upload.type, "kind": upload.kind, "content": content}

    def drop(self, id: str) -> None:
        upload = self._kept.pop(id, None)
        if upload is not None:
            self._bytes -= len(upload.content)

    def _clear(self) -> None:
        while self._kept and next(iter(self._kept.values())).until < now():
            self.drop(next(iter(self._kept)))


def _bare(said: str) -> str:
    name = "".join(sign for sign in re.split(r"[/\\]", said)[-1] if sign.isprintable()).strip(" .")
    return name[-NAME_CHARS:] or "file"
