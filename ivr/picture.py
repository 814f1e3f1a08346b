"""A tree as the console draws it: nodes with their words, and exits with the keys that lead out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ivr.evidence import NodeFigures
from ivr.tree import RETURN, ConditionNode, LanguageNode, MenuNode, Node, QueueNode, SubtreeNode, Tree, Words


def picture(
    tree: Tree,
    *,
    published_at: str | None = None,
    author: str | None = None,
    inside: Mapping[str, int] | None = None,
    figures: Mapping[str, NodeFigures] | None = None,
    lookups: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The `Tree` of the console's wire: JSON-able; `words` are by language; `to` is null where the tree ends.

    `inside`, `figures` and `lookups` (asked, failures, p95_s) are by node.
    """
    now = inside or {}
    known = figures or {}
    asked = lookups or {}
    return {
        "id": tree.id,
        "version": tree.version,
        "title": tree.title,
        "published_at": published_at,
        "author": author,
        "languages": list(tree.languages),
        "start": tree.start,
        "anywhere": dict(tree.anywhere),
        "channels": list(tree.channels),
        "human": tree.human,
        "nodes": [
            {
                "id": node.id,
                "kind": node.kind,
                "title": node.title,
                "words": {x: _words(getattr(node, "say", ()), x) for x in tree.languages},
                "exits": _exits(node),
                "inside": now.get(node.id, 0),
                "marks": _marks(node),
                "figures": _figures(known.get(node.id)),
                "lookup": dict(asked[node.id]) if node.id in asked else None,
            }
            for node in tree.nodes.values()
        ],
    }


def _exits(node: Node) -> list[dict[str, Any]]:
    keys = {exit_: key for key, exit_ in node.keys.items()} if isinstance(node, MenuNode) else {}
    labels = (
        {k: next(iter(texts.values()), "") for k, texts in node.labels.items()}
        if isinstance(node, MenuNode)
        else {}
    )
    whens = {exit_: source for source, exit_ in node.cases} if isinstance(node, ConditionNode) else {}
    return [
        {
            "exit": exit_,
            "key": keys.get(exit_),
            "label": labels.get(exit_) or whens.get(exit_) or "",
            "to": None if to == RETURN or to.startswith(RETURN + ":") else to,
            "returns": to.partition(":")[2] or "done" if to.startswith(RETURN) else None,
        }
        for exit_, to in node.exits.items()
    ]


def _marks(node: Node) -> list[str]:
    marks = []
    if getattr(node, "legal", False):
        marks.append("legal")
    if getattr(node, "discloses", False):
        marks.append("discloses")
    if getattr(node, "sensitive", False):
        marks.append("sensitive")
    if isinstance(node, QueueNode):
        marks.append(f"queue:{node.queue}")
    if isinstance(node, SubtreeNode):
        marks.append(f"tree:{node.tree}")
    if isinstance(node, LanguageNode):
        marks += [f"{key}:{language}" for key, language in node.keys.items()]
    return marks


def _words(words: Words, language: str) -> str:
    pieces = []
    for part in words:
        if part.value:
            pieces.append(f"[{part.value}]")
        else:
            written = (part.written or {}).get(language, "")
            pieces.append(part.texts.get(language) or (f"({part.name})" if part.name else written))
    return " ".join(pieces)


def _figures(figures: NodeFigures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "entered": figures.entered,
        "exits": dict(figures.exits),
        "failed": figures.failed,
        "hung_up": figures.hung_up,
        "median_s": figures.median_s,
    }
