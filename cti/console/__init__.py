"""The web application, built into dist/."""
