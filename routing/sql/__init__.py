"""Named SQL and numbered migrations."""
