"""The advisor's and the supervisor's side: sessions, screen pops, call control, console."""
