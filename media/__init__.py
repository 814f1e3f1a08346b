"""Sound on the wire: SDP, RTP, codecs, rooms and recordings."""
