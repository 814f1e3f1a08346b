"""The console without a page does with the API what the page does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cti.aio.headless import HeadlessConsole, Refused
from tests.cti.house import PASSWORD, house


async def test_a_written_offer_is_accepted_answered_and_closed(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at, HeadlessConsole(at.base, "a1", PASSWORD) as me:
        await me.set_presence("ready")
        chat = str(await at.write("Où est mon colis ?"))
        made = await me.wait_for("offer.made", lambda data: data["interaction"]["id"] == chat)
        await me.accept(made["data"]["id"])
        await me.reply(chat, "Bonjour")
        uploaded = await me.upload(b"Bonjour", "note.txt", "text/plain")
        second = await me.reply(chat, "Le voici", attachments=[uploaded["id"]])
        assert [a["name"] for a in second["attachments"]] == ["note.txt"]
        await me.wait_for("message.added", lambda data: data["message"]["id"] == second["id"])
        case = second["case"]
        await me.look_at(case, "typing")
        await me.wait_for("case.viewers", lambda data: data["case"] == case)
        contact = (await me.get(f"/interactions/{chat}"))["contact"]
        more = [{"kind": "email", "value": "claire@example.org"}]
        person = await me.patch(f"/contacts/{contact}", {"add_addresses": more})
        [address] = [a["id"] for a in person["addresses"] if a["kind"] == "email"]
        mail = await me.write_from_case(case, "post", address, "Il arrive.", subject="Votre colis")
        assert mail["channel"] == "email"
        assert (await me.close_interaction(chat, code="done"))["state"] == "ended"
        assert [row["case"] for row in (await me.inbox())["items"]] == [case]
        other = str(await at.write(who="P2", queue=None))
        with pytest.raises(Refused) as refused:
            await me.reply(other, "x")
        assert refused.value.problem["type"] == "/problems/not-yours"
