"""The titles of trees' nodes, in the version that a customer met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cti.rows import Titles
from routing.store import Step, Trees

VERSIONS_KEPT = 500  # a published version never changes, so each is read once; the oldest gives way


class TreeTitles:
    """Read from the store when first asked for."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self._known: dict[tuple[str, int], Mapping[str, str]] = {}

    async def of(self, steps: Iterable[Step]) -> Titles:
        """The titles of the nodes passed; a node without one is left out."""
        return {
            (tree, version, node): title
            for tree, version in {(step.tree, step.version) for step in steps}
            for node, title in (await self._titles(tree, version)).items()
        }

    async def _titles(self, tree: str, version: int) -> Mapping[str, str]:
        known = self._known.get((tree, version))
        if known is None:
            found = await self._trees.version(tree, version)
            nodes = (found.document.get("nodes") or {}) if found is not None else {}
            known = {name: str(node["title"]) for name, node in nodes.items() if node.get("title")}
            while len(self._known) >= VERSIONS_KEPT:
                del self._known[next(iter(self._known))]
            self._known[tree, version] = known
        return known
