"""The carrier's word on a caller's number."""

from __future__ import annotations

import base64
import json

import pytest

from softphone_bridge.attestation import attested


def passport(**claims: object) -> str:
    parts = [{"alg": "ES256", "ppt": "shaken"}, claims]
    coded = [base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in parts]
    return f"{coded[0]}.{coded[1]}.c2lnbmF0dXJl;info=<https://cert.example/a.pem>;alg=ES256;ppt=shaken"


DEEP = base64.urlsafe_b64encode(b"[" * 99_999).decode()
PASSED = "<sip:+33612345678;verstat=TN-Validation-Passed@carrier.example;user=phone>"


@pytest.mark.parametrize(
    ("headers", "level"),
    [
        ({}, None),
        ({"attestation-info": "A"}, "A"),
        ({"p-attestation-indicator": " b "}, "B"),
        ({"attestation-info": "Z"}, None),
        ({"p-asserted-identity": "<tel:+33612345678;verstat=TN-Validation-Passed-C>"}, "C"),
        ({"from": "<sip:+33612345678;verstat=TN-Validation-Passed-B@carrier.example>;tag=1"}, "B"),
        ({"p-asserted-identity": PASSED}, None),
        ({"p-asserted-identity": PASSED, "identity": passport(attest="A")}, "A"),
        ({"p-asserted-identity": PASSED, "attestation-info": "C", "identity": passport(attest="A")}, "C"),
        ({"identity": passport(attest="A")}, None),
        ({"p-asserted-identity": "<tel:+33612;verstat=TN-Validation-Failed>", "attestation-info": "A"}, None),
        (
            {
                "p-asserted-identity": "<tel:+33612;verstat=No-TN-Validation>",
                "identity": passport(attest="A"),
            },
            None,
        ),
    ],
)
def test_the_level_is_what_a_validation_that_passed_says(headers: dict[str, str], level: str | None) -> None:
    assert attested(headers) == level


@pytest.mark.parametrize(
    "identity",
    [
        "x",
        "a.b.c",
        "..",
        passport(attest=["A"]),
        "e30.W10.x",
        "e30." + base64.urlsafe_b64encode(b"[" * 99_999).decode() + ".x",
    ],
)
def test_an_identity_that_cannot_be_read_claims_nothing(identity: str) -> None:
    assert attested({"p-asserted-identity": PASSED, "identity": identity}) is None
