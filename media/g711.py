"""G.711: µ-law (PCMU, payload type 0) and A-law (PCMA, payload type 8), by tables made once.

Samples are int16 at 8 kHz; codes are bytes as they stand in RTP.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
Codes = npt.NDArray[np.uint8]

PCMU = 0  # RFC 3551 table 4
PCMA = 8
SILENCE = {PCMU: 0xFF, PCMA: 0xD5}  # codes of the smallest positive level


def _ulaw_decoded() -> Pcm:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_decoded() -> Pcm:
    code = np.arange(256) ^ 0x55
    segment, step = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)  # sign bit set is positive


def _samples() -> npt.NDArray[np.int64]:
    """Every int16 in the order of its unsigned twin: 0 … 32767, -32768 … -1."""
    return np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int64)


def _ulaw_encoded() -> Codes:
    value = _samples() >> 2  # 14 bits
    magnitude = np.minimum(np.abs(value), 8158) + 33
    segment = np.floor(np.log2(magnitude)).astype(np.int64) - 5
    code = segment << 4 | magnitude >> (segment + 1) & 0x0F
    codes: Codes = (code ^ np.where(value < 0, 0x7F, 0xFF)).astype(np.uint8)
    return codes


def _alaw_encoded() -> Codes:
    value = _samples() >> 3  # 13 bits
    magnitude = np.where(value < 0, -value - 1, value)
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64) - 4, 0)
    code = segment << 4 | magnitude >> np.maximum(segment, 1) & 0x0F
    codes: Codes = (code ^ np.where(value < 0, 0x55, 0xD5)).astype(np.uint8)
    return codes


DECODED = {PCMU: _ulaw_decoded(), PCMA: _alaw_decoded()}  # int16[256]
ENCODED = {PCMU: _ulaw_encoded(), PCMA: _alaw_encoded()}  # uint8[65536], by the sample's unsigned twin

# bytes.translate tables from one law to the other, through the linear value as G.711 table 3 and 4 do
TRANSLATION = {
    (PCMU, PCMA): ENCODED[PCMA][DECODED[PCMU].view(np.uint16)].tobytes(),
    (PCMA, PCMU): ENCODED[PCMU][DECODED[PCMA].view(np.uint16)].tobytes(),
}


def decode(codes: bytes | bytearray | memoryview, payload_type: int) -> Pcm:
    return DECODED[payload_type].take(np.frombuffer(codes, np.uint8))


def encode(pcm: Pcm, payload_type: int) -> bytes:
    codes: Codes = ENCODED[payload_type].take(np.ascontiguousarray(pcm, np.int16).view(np.uint16))
    return codes.tobytes()
