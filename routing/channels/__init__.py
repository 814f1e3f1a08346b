"""One file a channel: its manifest and how its payloads are verified, parsed and rendered."""
