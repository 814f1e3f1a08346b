"""Why a word for a customer was not taken, in a sentence with its cure, in the language of who asked."""

from __future__ import annotations

from collections.abc import Mapping

SENTENCES: Mapping[str, tuple[str, str]] = {
    # kind of problem: English, French; {names} are given by who refuses
    "taken": (
        "{holder} has this interaction. Write a note, ask for help, or let them finish.",
        "{holder} a déjà cette interaction. Écrivez une note, demandez de l’aide, ou laissez terminer.",
    ),
    "not-yours": (
        "Nobody has this interaction yet: take it first, then answer.",
        "Personne n’a encore cette interaction : prenez-la d’abord, puis répondez.",
    ),
    "newer-reply": (
        "{who} has answered meanwhile: «{text}». Read it, then send again if yours is still needed.",
        "{who} a répondu entre-temps : « {text} ». Lisez, puis renvoyez si votre réponse reste utile.",
    ),
    "known-message": (
        "Other words were sent under this id already. Read the conversation, then send yours as a new message.",
        "D’autres mots sont déjà partis sous cet identifiant. Relisez la conversation, puis envoyez les vôtres "
        "dans un nouveau message.",
    ),
    "window-closed": (
        "This channel let us answer until {until}. Send an email or call the customer instead.",
        "Ce canal permettait de répondre jusqu’au {until}. Envoyez un e-mail ou appelez le client.",
    ),
    "nobody-wrote": (
        "Nobody has written to us from this address, so this channel lets us send nothing there. "
        "Send an email or call the customer instead.",
        "Personne ne nous a écrit depuis cette adresse : ce canal ne permet pas d’y écrire. "
        "Envoyez un e-mail ou appelez le client.",
    ),
    "over": (
        "This interaction is over. Write from the case to begin a new one.",
        "Cette interaction est terminée. Écrivez depuis le dossier pour en commencer une nouvelle.",
    ),
    "lives-there": (
        "In that case another conversation of the same thread goes on already. Finish one of the two first, "
        "or merge the cases.",
        "Dans ce dossier, une autre conversation du même fil est déjà en cours. Terminez d’abord l’une des deux, "
        "ou fusionnez les dossiers.",
    ),
    "not-written": (
        "This is a call: nothing can be written into it.",
        "C’est un appel : on ne peut rien y écrire.",
    ),
    "unknown-variable": (
        "The text still has places to fill: {names}. Fill them in, then send.",
        "Le texte a encore des champs à remplir : {names}. Remplissez-les, puis envoyez.",
    ),
    "too-long": (
        "The text has {length} {unit}; this channel takes {most} in one message. Shorten it, or send two.",
        "Le texte a {length} {unit} ; ce canal en accepte {most} par message. Raccourcissez, ou envoyez-en deux.",
    ),
    "empty": (
        "There is nothing to send: write a text, or attach a file.",
        "Il n’y a rien à envoyer : écrivez un texte, ou joignez un fichier.",
    ),
    "not-on-this-channel": (
        "This channel has no {what}.",
        "Ce canal ne connaît pas : {what}.",
    ),
    "not-attached": (
        "A file of this message is not there any more. Attach it again.",
        "Un fichier de ce message n’est plus là. Joignez-le à nouveau.",
    ),
    "attachment-refused": (
        "This channel takes no file of the kind «{what}» of {bytes} bytes.",
        "Ce canal n’accepte pas un fichier « {what} » de {bytes} octets.",
    ),
    "not-retryable": (
        "Only a message that failed, or was perhaps sent, can be sent again.",
        "On ne peut renvoyer qu’un message en échec, ou peut-être envoyé.",
    ),
    "unknown-address": (
        "This person has no such address on this channel.",
        "Cette personne n’a pas cette adresse sur ce canal.",
    ),
    "human-speaks": (
        "An advisor speaks with the customer now.",
        "Un conseiller parle avec le client.",
    ),
    "no-free-seat": (
        "There is no free seat for this: finish something first.",
        "Il n’y a pas de place libre pour cela : terminez d’abord autre chose.",
    ),
    "offline": (
        "This person is offline. Choose somebody who is there.",
        "Cette personne est hors ligne. Choisissez quelqu’un de présent.",
    ),
    "no-tree": (
        "This interaction has met no tree, so it cannot be handed back to one.",
        "Cette interaction n’a connu aucun arbre : elle ne peut y être rendue.",
    ),
    "not-talking": (
        "You are not talking on this call.",
        "Vous n’êtes pas en ligne sur cet appel.",
    ),
    "not-held": (
        "This call is not on hold.",
        "Cet appel n’est pas en attente.",
    ),
    "not-your-call": (
        "This call is not yours.",
        "Cet appel n’est pas le vôtre.",
    ),
    "busy": (
        "You are on a call already: end it first.",
        "Vous êtes déjà en ligne : terminez d’abord cet appel.",
    ),
    "no-phone": (
        "You have no phone account; an admin gives you one.",
        "Vous n’avez pas de téléphone : un administrateur vous en donne un.",
    ),
    "phone-not-registered": (
        "Your phone is not registered; check that it is switched on.",
        "Votre téléphone n’est pas enregistré : vérifiez qu’il est allumé.",
    ),
    "answer-your-phone": (
        "Answer your phone: that accepts the call.",
        "Décrochez votre téléphone : cela accepte l’appel.",
    ),
    "no-seat-to-lend": (
        "Only a written interaction that you are in can lend its seat.",
        "Seule une interaction écrite qui est la vôtre peut prêter sa place.",
    ),
    "stopping": (
        "The server is stopping. Try again in a moment.",
        "Le serveur s’arrête. Réessayez dans un instant.",
    ),
    "no-tree-node": (
        "There is no such node in the tree.",
        "Ce nœud n’existe pas dans l’arbre.",
    ),
    "not-allowed-number": (
        "The dial plan does not let us call this number.",
        "Le plan de numérotation interdit d’appeler ce numéro.",
    ),
}


def sentence(kind: str, language: str, **values: object) -> str:
    """`language` is fr or en. A kind that nobody has put into words is its own name."""
    told = SENTENCES.get(kind)
    if told is None:
        return kind.replace("-", " ")
    return told[1 if language == "fr" else 0].format_map(_Known(values))


class _Known(dict[str, object]):
    """What nobody has said is left open in the sentence."""

    def __missing__(self, name: str) -> str:
        return "…"
