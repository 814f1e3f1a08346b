"""Settings, site files, the command line, and the wiring of the house."""
