"""Trees for tests: the shipped ones, and short ones written as YAML."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from ivr.aio.text import read_texts
from ivr.flowtest import Flow, Result, run
from ivr.text import in_writing
from ivr.tree import Context, Forest, Where, check, parse, plant

ROOT = Path(__file__).parents[2]
TREES = ROOT / "config" / "trees"
SOUNDS = ROOT / "config" / "sounds"
TEXTS = read_texts([SOUNDS])
LEAVE_KEYS = {"reclamations": "*", "facturation": "*", "general": "*"}


def shipped() -> tuple[dict[str, Any], dict[str, Where]]:
    read = [parse(p.read_text("utf-8")) for p in sorted(TREES.glob("*.yaml"))]
    return {d["tree"]: d for d, _ in read}, {d["tree"]: w for d, w in read}


def prompts() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for path in SOUNDS.glob("??/*.wav"):
        found.setdefault(path.stem, set()).add(path.parent.name)
    return {n: frozenset(x) for n, x in found.items()}


def site_context(**more: Any) -> Context:
    return Context(
        queues=frozenset(LEAVE_KEYS),
        hours=frozenset({"bureau"}),
        skills=frozenset({"fr", "en"}),
        phones=frozenset({"101"}),
        trunks=frozenset({"loopback"}),
        prompts=prompts(),
        texts=in_writing(TEXTS),
        **more,
    )


def forest(*texts: str) -> Forest:
    """Checked trees from YAML; nothing in them may be wrong."""
    documents = {}
    for text in texts:
        document, _ = parse(dedent(text))
        documents[document["tree"]] = document
    for document in documents.values():
        mistakes = check(document, site_context(trees=documents))
        assert not mistakes, [str(m) for m in mistakes]
    return plant(documents)


def parse_text(text: str) -> Any:
    return parse(dedent(text))[0]


def walk(trees: Forest, tree: str, keys: str, **more: Any) -> Result:
    """Where these keys lead, with the offices open unless said otherwise."""
    flow = Flow(name=keys, tree=tree, keys=keys.split(), expect=[], **{"hours": {"bureau": True}, **more})
    return run(flow, trees, leave_keys=LEAVE_KEYS)


SHIPPED = plant(shipped()[0])

__all__ = ["SHIPPED", "forest", "parse_text", "prompts", "shipped", "site_context", "walk"]
