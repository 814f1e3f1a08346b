"""What operators of other systems complained about, as tests of the whole server: written channels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from config.graph import Customer
from cti.aio.headless import HeadlessConsole
from tests.e2e.city import City, open_city
from tests.e2e.test_restart import again

PARCEL = "875000000013"


async def test_a_reply_goes_to_the_address_that_wrote_whatever_is_merged_or_undone(
    cluster: Any, tmp_path: Path
) -> None:  # acceptance 2
    tmp_path.chmod(0o755)
    async with open_city(tmp_path, cluster.address) as city, city.signed_in("lea", ready=False) as lea:
        await lea.set_presence("pause", "break")
        one, two = await city.chooses_french("Anne Un"), await city.chooses_french("Anne Deux")
        people = [(await lea.get(f"/cases/{await city.case_of(each)}"))["contact"] for each in (one, two)]
        assert people[0] != people[1]
        for turn in ("first", "second", "third"):
            for contact, into in ((people[0], people[1]), (people[1], people[0])):
                await lea.post(f"/contacts/{contact}/merge", {"into": into, "reason": "the same person"})
                for writer, other in ((one, two), (two, one)):
                    await answered(city, lea, writer, other, f"{turn}, {contact} is merged")
                shown = await lea.get(f"/contacts/{into}")
                assert {each["value"] for each in shown["addresses"]} == {one.psid, two.psid}
                [link] = shown["merged_from"]
                await lea.post(f"/merges/{link['merge']}/undo")
                for writer, other in ((one, two), (two, one)):
                    await answered(city, lea, writer, other, f"{turn}, {contact} is apart")
                for person, customer in zip(people, (one, two), strict=True):
                    addresses = (await lea.get(f"/contacts/{person}"))["addresses"]
                    assert [each["value"] for each in addresses] == [customer.psid]


async def answered(city: City, lea: HeadlessConsole, writer: Customer, other: Customer, words: str) -> None:
    await writer.writes(f"Une question : {words}")
    before = len(other.inbox)
    live = await city.live(writer)
    if (await lea.get(f"/interactions/{live}"))["state"] != "active":
        await lea.take(live)
    await lea.reply(live, f"La réponse : {words}")
    assert (await city.told(writer, f"La réponse : {words}")).psid == writer.psid
    assert len(other.inbox) == before


async def test_after_a_kill_each_chat_is_there_once_with_its_age_and_in_its_order(
    cluster: Any, tmp_path: Path
) -> None:  # acceptance 18
    tmp_path.chmod(0o755)
    states = "SELECT id::text, state, since, opened_at FROM interaction ORDER BY opened_at"
    async with open_city(tmp_path, cluster.address) as city:
        async with city.signed_in("lea") as lea:
            customers = [await city.comes(f"Client {n}") for n in range(6)]
            chats = [await city.live(each) for each in customers]
            for n in range(3):  # she has three seats
                offer = await lea.wait_for("offer.made", partial(_is_of, chats[n]))
                if n == 0:
                    await lea.accept(offer["data"]["id"])
                    await lea.wait_for("interaction.changed", lambda i: i["state"] == "active")
            await city.graph.settled()
            before = await city.hotline.sql(states)
            assert [row["state"] for row in before] == ["active", *["offered"] * 2, *["waiting"] * 3]
            heard = [len(each.inbox) for each in customers]
            password = lea._password
            await again(city.server, city.server.kill)

        after = await city.hotline.sql(states)
        assert [(row["id"], row["since"]) for row in after] == [(row["id"], row["since"]) for row in before]
        async with HeadlessConsole(city.http, "lea", password) as lea:
            await lea.set_presence("ready")
            served = [chats[0]]
            for n in range(1, 6):
                if n >= 3:
                    await lea.close_interaction(served[n - 3], code="renseignement")
                offer = await lea.wait_for("offer.made", partial(_is_of, chats[n]))
                await lea.accept(offer["data"]["id"])
                await lea.wait_for("interaction.changed", partial(_is_active, chats[n]))
                served.append(chats[n])
            offered = [f["data"]["interaction"]["id"] for f in lea.frames if f["type"] == "offer.made"]
            assert list(dict.fromkeys(offered)) == chats[1:], "in the order in which they came"
            assert len(offered) == len(set(offered)), "none is offered twice"
            await lea.reply(chats[5], "Bonjour.")
            await city.told(customers[5], "Bonjour.")
        assert await city.sql("SELECT count(*) FROM interaction") == 6
        await city.graph.settled()
        assert [len(each.inbox) for each in customers[:5]] == heard[:5], "nobody was told anything twice"


def _is_of(interaction: str, offer: Any) -> bool:
    return bool(offer["interaction"]["id"] == interaction)


def _is_active(interaction: str, row: Any) -> bool:
    return bool((row["id"], row["state"]) == (interaction, "active"))


async def test_what_the_bot_still_looks_up_when_a_person_takes_over_is_never_said(
    cluster: Any, tmp_path: Path
) -> None:  # acceptance 19
    tmp_path.chmod(0o755)
    async with open_city(tmp_path, cluster.address) as city, city.signed_in("lea", ready=False) as lea:
        await lea.set_presence("pause", "break")
        paul = await city.chooses_french("Paul Lent")
        await paul.writes("où est mon colis ?")
        await city.told(paul, "numéro de colis")
        await city.graph.settled()
        city.parcels.hold()
        await paul.writes(PARCEL)
        await city.parcels.asked.wait()
        chat = await city.live(paul)
        await lea.take(chat)
        await lea.reply(chat, "Bonjour, je m'en occupe.")
        await city.told(paul, "je m'en occupe")
        heard = len(paul.inbox)
        city.parcels.release()
        await paul.writes("merci")  # what comes after the answer of the parcel service has been taken, too
        await lea.wait_for("message.added", lambda data: data["message"]["text"] == "merci")
        await lea.reply(chat, "Il arrive demain.")
        await city.told(paul, "arrive demain")
        await city.graph.settled()
        assert [m.text for m in paul.inbox[heard:]] == ["Il arrive demain."]
        authors = await city.hotline.sql(
            "SELECT author, status FROM message WHERE interaction = $1::text::uuid AND direction = 'out' "
            "AND seq > (SELECT min(seq) FROM message WHERE interaction = $1::text::uuid AND author = 'advisor')",
            chat,
        )
        assert {row["author"] for row in authors} == {"advisor"}
        assert (await lea.get(f"/interactions/{chat}"))["state"] == "active"
