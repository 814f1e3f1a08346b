"""The text runner, the desk and a real PostgreSQL: what customers write is answered once, whatever happens between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ivr.events import LookedUp, LookUp
from ivr.tree import Forest
from routing import models as m
from routing.models import T
from routing.site import Queue
from routing.store import Unavailable
from tests.ivr.chats import NEVER, opened, site
from tests.ivr.walks import SHIPPED, forest, shipped


async def test_a_bot_greets_discloses_itself_and_waits_with_buttons(database: str) -> None:
    async with opened(database) as house:
        interaction = await house.write("Bonjour")
        (first, answer) = await house.talk(interaction)
        assert first.direction == "in"
        assert (answer.author, answer.text) == (
            "bot",
            "Je suis Colette, un assistant automatique.\n\nQue puis-je faire pour vous ?",
        )
        assert answer.buttons[0] == ("Suivre un colis", "messages/main/1")
        assert answer.buttons[-1] == ("Un conseiller", "human")
        assert await house.state(interaction) == ("qualifying", None)
        assert house.runner.inside() == {"messages": {1: {"main": 1}}}
        assert house.path() == ["messages.language:done", "messages.open:open"]
        await house.write("", "messages/main/2")
        assert await house.state(interaction) == ("waiting", "reclamations")
        assert (await house.said(interaction))[1:] == ["Un conseiller va vous répondre ici."]
        assert house.refused == []


async def test_a_parcel_is_looked_up_and_its_facts_are_kept(database: str) -> None:
    async with opened(database) as house:
        interaction = await house.write("Où est mon colis 123456789015 ?")
        assert house.lookups.asked == ["http://127.0.0.1:8099/parcels/123456789015"]
        assert "Votre colis a été livré." in (await house.said(interaction))[0]
        pop = await house.stores.timeline.pop(interaction)
        assert pop is not None
        assert (pop.facts["parcel"], pop.facts["status"]) == ("123456789015", "delivered")
        await house.write("c'est tout")
        assert await house.state(interaction) == ("ended", None)
        assert house.runner.inside() == {}
        figures = {f.node: f.exits for f in house.runner.evidence.rows("suivi")}
        assert figures["look"] == {"ok": 1}
        assert house.path()[2:6] == [
            "messages.main:1",
            "suivi.number:done",
            "suivi.look:ok",
            "suivi.remember:done",
        ]


async def test_messages_during_a_look_up_are_taken_in_order_after_it(database: str) -> None:
    async with opened(database) as house:
        interaction = await house.write("Bonjour")
        house.lookups.free.clear()
        await house.do(house.message("mon colis 123456789015"))
        await house.do(house.message("merci"))
        assert len(await house.said(interaction)) == 1
        house.lookups.free.set()
        await house.settled()
        said = await house.said(interaction)
        assert "livré" in said[1]
        assert said[2] == "Merci et à bientôt."
        assert await house.state(interaction) == ("ended", None)


async def test_a_restart_at_any_moment_repeats_nothing_and_loses_nothing(database: str) -> None:
    async with opened(database) as house:
        interaction = await house.write("Bonjour")
        await house.restart()
        assert house.runner.inside() == {"messages": {1: {"main": 1}}}
        await house.write("suivre un colis")
        await house.restart()
        house.lookups.free.clear()
        await house.do(house.message("123456789015"))
        await house.runner.stop(0.0)  # while it looks up
        await house.do(house.message("autre demande"))  # while nobody is there
        house.lookups.free.set()
        await house.restart()
        said = await house.said(interaction)
        assert [s.split("\n")[-1] for s in said] == [
            "Que puis-je faire pour vous ?",
            "Quel est votre numéro de colis (douze chiffres) ?",
            "Puis-je faire autre chose pour vous ?",
            "Que puis-je faire pour vous ?",
        ]
        assert sum("Colette" in s for s in said) == 1, "it says once what it is"
        assert house.refused == []


async def test_the_way_to_a_person_is_noted_once_also_when_we_ended_as_somebody_took_it(
    database: str,
) -> None:
    async with opened(database) as house:
        await house.ready()
        interaction = await house.write("un conseiller")
        await house.runner.stop(0.0)
        await house.accept()
        await house.do(house.message("bonjour ?"))
        for _ in range(2):
            await house.restart()
            assert house.path().count("messages.advisor:accepted") == 1
        assert len(await house.said(interaction)) == 1, "the tree is silent"
        await house.do(m.HandedBack(**house.base(), interaction=interaction, node="main", by="ana"))
        await house.settled()
        assert len(await house.said(interaction)) == 2
        await house.restart()
        assert house.path().count("messages.advisor:accepted") == 1
        assert len(await house.said(interaction)) == 2


async def test_what_was_given_back_while_nobody_heard_goes_on_in_the_tree(database: str) -> None:
    async with opened(database) as house:
        await house.ready()
        interaction = await house.write("un conseiller")
        await house.runner.stop(0.0)
        await house.accept()
        await house.do(m.HandedBack(**house.base(), interaction=interaction, node="main", by="ana"))
        await house.do(house.message("un conseiller"))
        await house.restart()
        said = await house.said(interaction)
        assert said[1].endswith("Que puis-je faire pour vous ?")
        assert len(said) == 3
        assert house.path().count("messages.advisor:accepted") == 1
        assert (await house.state(interaction))[0] in ("waiting", "offered")


async def test_a_walk_goes_on_after_a_restart_in_the_version_it_began_with(database: str) -> None:
    async with opened(database) as house:
        documents = shipped()[0]
        trees = {name: _plain(document) for name, document in documents.items()}
        await house.stores.sites.apply(replace(house.site, trees=trees), base=None, by="ada")
        await house.write("Bonjour")
        newer = replace(SHIPPED.trees["messages"], version=2)
        house.forest = Forest({**SHIPPED.trees, "messages": newer})
        await house.restart()
        assert house.runner.inside() == {"messages": {1: {"main": 1}}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


async def test_an_account_without_a_tree_or_with_one_for_the_phone_leads_to_a_person_at_once(
    database: str,
) -> None:
    async with opened(database) as house:
        bare = await house.write("Bonjour", account="bare")
        assert await house.state(bare) == ("waiting", "general")
        wrong = await house.write("Bonjour", account="phone-tree", address="psid-2")
        assert await house.state(wrong) == ("waiting", "facturation")
        assert await house.said(bare) == []
        await house.restart()
        assert house.refused == []


async def test_the_bot_is_silent_once_a_person_has_it_and_answers_again_when_it_is_handed_back(
    database: str,
) -> None:
    async with opened(database) as house:
        await house.ready()
        interaction = await house.write("un conseiller")
        await house.accept()
        before = len(await house.said(interaction))
        await house.write("bonjour ?")
        assert len(await house.said(interaction)) == before
        assert "messages.advisor:accepted" in house.path()
        assert ("main", "Menu principal") in await house.runner.nodes(interaction)
        await house.do(m.HandedBack(**house.base(), interaction=interaction, node="anything_else", by="ana"))
        await house.settled()
        said = await house.said(interaction)
        assert said[before:] == [
            "Je suis Colette, un assistant automatique.\n\nPuis-je faire autre chose pour vous ?"
        ]
        await house.write("non merci")
        assert await house.state(interaction) == ("ended", "general")
        assert house.refused == []


async def test_the_bot_is_silent_once_somebody_has_answered_elsewhere(database: str) -> None:
    async with opened(database) as house:
        interaction = await house.write("Bonjour")
        elsewhere = m.MessageEchoed(
            **house.base(),
            message=house.ids(),
            account="page",
            external_id="e1",
            address_kind="psid",
            address="psid-1",
            text="Je m'en occupe.",
        )
        await house.do(elsewhere)
        await house.restart()
        assert await house.state(interaction) == ("qualifying", None)
        before = await house.said(interaction)
        assert before[1:] == ["Je m'en occupe."]
        await house.write("Merci ! mon colis 123456789015")
        assert await house.state(interaction) == ("waiting", "general")
        assert await house.said(interaction) == before
        await house.write("Vous êtes là ?")
        assert await house.said(interaction) == before
        await house.ready()
        await house.accept()
        await house.do(m.HandedBack(**house.base(), interaction=interaction, node="main", by="ana"))
        await house.settled()
        assert len(await house.said(interaction)) == 3


async def test_what_is_written_in_a_burst_is_misunderstood_once(database: str) -> None:
    async with opened(database) as house:
        interaction = await house.write("Bonjour")
        await house.runner.stop(0.0)
        for text in ("alors voilà", "c'est compliqué", "bref"):
            await house.do(house.message(text))
        await house.restart()
        assert await house.state(interaction) == ("qualifying", None)
        assert len(await house.said(interaction)) == 2
        await house.write("hum")
        assert (await house.state(interaction))[0] == "waiting"


async def test_an_answer_that_a_person_forestalls_is_never_sent(database: str) -> None:
    async with opened(database) as house:
        interaction = await house.write("Bonjour")

        async def taken(submission: m.Submission) -> None:
            await house.do(
                m.InteractionTaken(**house.base(), interaction=interaction, advisor="ana", by="ana")
            )

        await house.ready()
        house.before = taken
        await house.write("blabla")
        assert house.refused == ["WalkStepped: human_speaks"]
        assert len(await house.said(interaction)) == 1
        assert house.runner.inside() == {}


async def test_a_queue_that_refuses_is_told_by_the_tree_in_the_same_step(database: str) -> None:
    full = site(queues=(Queue("general", "general", hours="bureau"),))
    async with opened(database, full) as house:
        interaction = await house.write("une réclamation")
        assert [r.split(":")[0] for r in house.refused] == ["WalkStepped"]
        assert await house.said(interaction) == [
            "Je suis Colette, un assistant automatique.\n\n"
            "Tous nos conseillers sont occupés. Écrivez-nous de nouveau plus tard."
        ]
        assert await house.state(interaction) == ("ended", None)


async def test_outside_opening_hours_the_customer_is_told_when_and_waits_all_the_same(database: str) -> None:
    async with opened(database, site(NEVER)) as house:
        interaction = await house.write("Bonsoir")
        assert "Un conseiller vous répondra lundi à 8 h." in (await house.said(interaction))[0]
        await house.write("facture")
        assert await house.state(interaction) == ("waiting", "facturation")


async def test_a_day_of_silence_ends_the_walk_also_after_a_restart(database: str) -> None:
    async with opened(database) as house:
        interaction = await house.write("Bonjour")
        house.clock.at += timedelta(hours=23)
        house.runner.tick()
        await house.settled()
        assert (await house.state(interaction))[0] == "qualifying"
        await house.restart()
        house.clock.at += timedelta(hours=1, seconds=1)
        house.runner.tick()
        await house.settled()
        ended = await house.until(T.ENDED)
        assert (ended.interaction, ended.data["outcome"]) == (interaction, "idle")
        assert len(await house.said(interaction)) == 1


async def test_rules_of_a_mailbox_sort_acknowledge_and_archive(database: str) -> None:
    async with opened(database) as house:
        spam = await house.write("Win", account="box", subject="CASINO", address="spam@client.example")
        assert (await house.state(spam))[0] == "ended"
        assert await house.said(spam) == []
        bill = await house.write("Bonjour", account="box", subject="Ma facture")
        assert await house.state(bill) == ("waiting", "facturation")
        assert await house.said(bill) == [
            "Réponse automatique de Colette.\n\n"
            "Nous avons bien reçu votre message au sujet d'une facture. Un conseiller vous répondra."
        ]


async def test_a_mail_address_is_acknowledged_three_times_a_day_and_machines_never(database: str) -> None:
    async with opened(database) as house:
        said: list[Sequence[str]] = []
        for number in range(5):
            mail = await house.write(f"n° {number}", account="box", subject=f"Question {number}")
            said.append(await house.said(mail))
            await house.do(
                m.InteractionClosed(
                    **house.base(), interaction=mail, by="ana", outcome="archived", reason="no_answer_needed"
                )
            )
        assert [len(s) for s in said] == [1, 1, 1, 0, 0]
        house.clock.at += timedelta(hours=25)
        again = await house.write("encore", account="box", subject="Question 6")
        assert len(await house.said(again)) == 1
        before = len(house.told)
        await house.write("Je suis absent", account="box", subject="Absence", automatic=True)
        assert len(house.told) == before


async def test_a_mail_that_must_not_be_answered_waits_without_an_acknowledgement(database: str) -> None:
    async with opened(database) as house:
        unknown: dict[str, Any] = {"extra": {"no_return_path": True}, "address": "who@client.example"}
        mail = await house.write("Bonjour", account="box", subject="Ma facture", **unknown)
        assert (await house.state(mail), await house.said(mail)) == (("waiting", "facturation"), [])
        bomb: dict[str, Any] = {
            "extra": {"quarantined": "nested too deep"},
            "kind": "system",
            "address": "bomb@client.example",
        }
        mail = await house.write("[…]", account="box", subject="Ma facture", **bomb)
        assert (await house.state(mail), await house.said(mail)) == (("waiting", "facturation"), [])


async def test_a_fault_of_ours_leads_to_a_person(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(database) as house:
        interaction = await house.write("Bonjour")

        async def broken(command: LookUp, *, tree: str = "") -> LookedUp:
            raise RuntimeError("a fault for the test")

        monkeypatch.setattr(house.lookups, "ask", broken)
        await house.write("colis 123456789015")
        assert await house.state(interaction) == ("waiting", "general")
        assert house.runner.failures == 1


class Away:
    """A store that is away whenever something is asked for the first time."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        async def ask(*arguments: Any) -> Any:
            if name not in self.asked and name != "live":
                self.asked.add(name)
                raise Unavailable("for the test")
            return await getattr(self._store, name)(*arguments)

        return ask


async def test_while_the_database_is_away_the_bot_waits_and_gives_nobody_up(database: str) -> None:
    async with opened(database) as house:
        there = house.stores
        for text in ("Bonjour", "suivre un colis"):
            away = [Away(store) for store in (there.messages, there.walks, there.timeline)]
            house.stores = replace(there, messages=away[0], walks=away[1], timeline=away[2])
            await house.restart()
            interaction = await house.write(text)
            house.stores = there
        assert [store.asked for store in away] == [{"get"}, {"get"}, {"interaction", "events_in"}]
        assert await house.state(interaction) == ("qualifying", None)
        assert len(await house.said(interaction)) == 2
        assert house.runner.failures == 0


async def test_a_hundred_customers_are_served_at_once_without_an_advisor(database: str) -> None:
    async with opened(database) as house:
        await asyncio.gather(
            *(house.do(house.message("colis 123456789015", address=f"psid-{n}")) for n in range(100))
        )
        await house.settled()
        await asyncio.gather(
            *(house.do(house.message("c'est tout", address=f"psid-{n}")) for n in range(100))
        )
        await house.settled()
        ended = [e for e in house.events if e.type is T.ENDED]
        assert len(ended) == 100
        assert all(e.data["outcome"] == "served" for e in ended)
        assert house.refused == []


PATIENCE = """
    tree: messages
    languages: [fr]
    channels: [chat]
    start: wait
    error: wait
    human: wait
    nodes:
      wait: {kind: queue, queue: reclamations, say: connecting, exits: {overflow: elsewhere, left: bye}}
      elsewhere: {kind: queue, queue: general, say: {fr: "Nous vous passons à une autre équipe."}, exits: {left: bye}}
      bye: {kind: hangup}
"""


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("offered", [False, True])
async def test_an_overflow_is_told_by_the_tree_unless_somebody_is_being_asked(
    database: str, restarted: bool, offered: bool
) -> None:
    rules = site()
    queues = tuple(
        replace(q, overflow_after_s=60.0, overflow_to="facturation") if q.id == "reclamations" else q
        for q in rules.queues
    )
    async with opened(database, replace(rules, queues=queues)) as house:
        house.forest = forest(PATIENCE)
        interaction = await house.write("Bonjour")
        assert await house.state(interaction) == ("waiting", "reclamations")
        if restarted:
            await house.runner.stop(0.0)
        house.clock.at += timedelta(seconds=61)
        presence = m.Presence.READY if offered else m.Presence.OFFLINE
        await house.do(m.PresenceSet(**house.base(), advisor="ana", presence=presence))
        await house.until(T.ENQUEUED, 2)
        if restarted:
            await house.restart()
        await house.settled()
        said = await house.said(interaction)
        if offered:
            assert (said[1:], await house.state(interaction)) == ([], ("offered", "facturation"))
        else:
            assert said[1:] == ["Nous vous passons à une autre équipe."]
            assert await house.state(interaction) == ("waiting", "general")
            assert house.refused == []


async def test_what_a_person_is_writing_about_is_not_read_by_the_tree_after_a_restart(database: str) -> None:
    async with opened(database) as house:
        await house.ready()
        interaction = await house.write("un conseiller")
        await house.accept()
        await house.restart()
        await house.write("colis 123456789015")
        assert len(await house.said(interaction)) == 1
        await house.do(m.HandedBack(**house.base(), interaction=interaction, node="main", by="ana"))
        await house.settled()
        await house.restart()
        await house.write("facture")
        assert await house.state(interaction) == ("offered", "facturation")
        assert house.refused == []


async def test_a_desk_that_does_not_answer_is_told_again_and_nothing_is_said_twice(database: str) -> None:
    async with opened(database) as house:

        def away(submission: m.Submission) -> None:
            raise ConnectionError("for the test")

        house.before = away
        interaction = await house.write("Bonjour")
        assert len(await house.said(interaction)) == 1
        keys = [s.key for s in house.told if isinstance(s, m.WalkStepped)]
        assert len(keys) == 2
        assert len(set(keys)) == 1
