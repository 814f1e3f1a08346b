"""How sure the carrier is of a caller's number: A, B or C (SHAKEN, ATIS-1000074; `verstat`, 3GPP TS 24.229 7.2A.20).

Only a trunk's word counts. The signature of an Identity header was checked by the carrier that says `verstat`:
without that word its claim is worth nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping

INDICATORS = ("attestation-info", "p-attestation-indicator")  # 3GPP's header, and its elder
_VERSTAT = re.compile(r";verstat=([A-Za-z0-9-]+)")
_PASSED = "TN-Validation-Passed"


def attested(headers: Mapping[str, str]) -> str | None:
    """ "A", "B" or "C" from the headers of a trunk's INVITE (names in lower case); None when nothing is said.

    A validation that failed, or was not made, outweighs every claim.
    """
    verstat = next(
        (
            found[1]
            for name in ("p-asserted-identity", "from")
            if (found := _VERSTAT.search(headers.get(name, "")))
        ),
        None,
    )
    if verstat is not None and not verstat.startswith(_PASSED):
        return None
    for name in INDICATORS:
        if (level := _level(headers.get(name, ""))) is not None:
            return level
    if verstat is None:
        return None
    return _level(verstat.removeprefix(_PASSED).lstrip("-")) or _level(_claim(headers.get("identity", "")))


def _level(text: str) -> str | None:
    letter = text.strip().upper()
    return letter if letter in ("A", "B", "C") else None


def _claim(identity: str) -> str:
    """The claim `attest` of a PASSporT in full form (RFC 8588), or "" when it cannot be read."""
    parts = identity.partition(";")[0].split(".")
    if len(parts) != 3:
        return ""
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return ""
    claim = payload.get("attest") if isinstance(payload, dict) else None
    return claim if isinstance(claim, str) else ""
