"""The routes of statistics: figures of an interval, and the interactions behind each of them."""

from __future__ import annotations

from routing.aio.web import Route

ROUTES: tuple[Route, ...] = ()
