"""What can be wrong in a site or tree file: the place of each mistake, what was expected and the cure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LANGUAGES = ("en", "fr")

# code -> language -> (what is wrong and what was expected, the cure)
WORDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "yaml": {
        "en": (
            "this is not YAML: {got}",
            "look at the indentation, colons and quotes of this line and the one before",
        ),
        "fr": (
            "ceci n'est pas du YAML : {got}",
            "regardez l'indentation, les deux-points et les guillemets de cette ligne et de la précédente",
        ),
    },
    "unreadable": {
        "en": ("the file can't be read: {got}", "mend its path or its rights"),
        "fr": ("le fichier est illisible : {got}", "corrigez son chemin ou ses droits"),
    },
    "empty": {
        "en": ("the file is empty", "begin with config/site.example.yaml"),
        "fr": ("le fichier est vide", "partez de config/site.example.yaml"),
    },
    "too_large": {
        "en": ("the file has more than {limit} characters", "split trees into files of their own"),
        "fr": ("le fichier dépasse {limit} caractères", "mettez les arbres dans leurs propres fichiers"),
    },
    "too_deep": {
        "en": ("the file is nested without end or far too large", "remove aliases that contain themselves"),
        "fr": ("le fichier est imbriqué sans fin ou bien trop grand", "ôtez les alias qui se contiennent"),
    },
    "tag": {
        "en": ("the tag {got} is not known here", "remove it"),
        "fr": ("l'étiquette {got} n'est pas connue ici", "ôtez-la"),
    },
    "key_not_text": {
        "en": ("a key must be one word or text", "put the key into quotes"),
        "fr": ("une clé doit être un mot ou un texte", "mettez la clé entre guillemets"),
    },
    "twice": {
        "en": ("«{got}» is already given in line {first}", "remove one of them or give it another id"),
        "fr": ("«{got}» figure déjà à la ligne {first}", "ôtez l'un des deux ou changez son identifiant"),
    },
    "unknown_key": {
        "en": ("the key «{got}» is not known here; expected {expected}", "{near}"),
        "fr": ("la clé «{got}» est inconnue ici ; attendu : {expected}", "{near}"),
    },
    "missing": {
        "en": ("the key «{got}» is missing", "add it"),
        "fr": ("la clé «{got}» manque", "ajoutez-la"),
    },
    "type": {
        "en": ("{expected} is expected, not {got}", "write {expected}"),
        "fr": ("il faut {expected}, pas {got}", "écrivez {expected}"),
    },
    "range": {
        "en": ("{got} is outside what is allowed ({expected})", "choose a value that is {expected}"),
        "fr": ("{got} est hors des bornes ({expected})", "choisissez une valeur {expected}"),
    },
    "choice": {
        "en": ("{got} is not one of {expected}", "{near}"),
        "fr": ("{got} ne fait pas partie de {expected}", "{near}"),
    },
    "id": {
        "en": (
            "{got} can't be an id: small letters without accents, digits, - _ and . are expected, at most 40",
            "rename it, and put the words for people under name",
        ),
        "fr": (
            "{got} ne peut être un identifiant : minuscules sans accents, chiffres, - _ et ., 40 au plus",
            "renommez-le et mettez les mots pour le public sous name",
        ),
    },
    "duration": {
        "en": ("{got} is not a duration", "write a number with s, min, h or d, like 15s or 1min30s"),
        "fr": ("{got} n'est pas une durée", "écrivez un nombre avec s, min, h ou d, comme 15s ou 1min30s"),
    },
    "time": {
        "en": ("{got} is not a time of day", 'write HH:MM in quotes, like "18:30"'),
        "fr": ("{got} n'est pas une heure", 'écrivez HH:MM entre guillemets, comme "18:30"'),
    },
    "hours_range": {
        "en": (
            "{got} is not a span of opening hours",
            "write HH:MM-HH:MM with the end after the start; split at midnight: 22:00-24:00, then 00:00-06:00",
        ),
        "fr": (
            "{got} n'est pas une plage horaire",
            "écrivez HH:MM-HH:MM, fin après début ; coupez à minuit : 22:00-24:00, puis 00:00-06:00",
        ),
    },
    "hours_overlap": {
        "en": ("{got} overlaps {first}", "join the two spans into one"),
        "fr": ("{got} chevauche {first}", "réunissez les deux plages"),
    },
    "weekday": {
        "en": ("{got} is no day of the week", "write mon tue wed thu fri sat sun, or a span like mon-fri"),
        "fr": ("{got} n'est pas un jour", "écrivez lun mar mer jeu ven sam dim, ou une suite comme lun-ven"),
    },
    "weekday_twice": {
        "en": ("{got} is given twice", "name each day once"),
        "fr": ("{got} est donné deux fois", "nommez chaque jour une fois"),
    },
    "date": {
        "en": ("{got} is not a date", "write YYYY-MM-DD, like 2026-12-24"),
        "fr": ("{got} n'est pas une date", "écrivez AAAA-MM-JJ, comme 2026-12-24"),
    },
    "time_zone": {
        "en": ("{got} is no time zone", "write a name like Europe/Paris. {near}"),
        "fr": ("{got} n'est pas un fuseau horaire", "écrivez un nom comme Europe/Paris. {near}"),
    },
    "country": {
        "en": ("{got} is no country known here", "write two capital letters (ISO 3166), like FR"),
        "fr": ("{got} n'est pas un pays connu ici", "écrivez deux capitales (ISO 3166), comme FR"),
    },
    "language": {
        "en": (
            "{got} is no language of this site ({expected})",
            "add it under organisation.languages, or change it",
        ),
        "fr": ("{got} n'est pas une langue du site ({expected})", "ajoutez-la sous organisation.languages"),
    },
    "language_missing": {
        "en": ("the words in {got} are missing", "add them: the site speaks {expected}"),
        "fr": ("le texte en {got} manque", "ajoutez-le : le site parle {expected}"),
    },
    "need": {
        "en": (
            "{got} is not a need",
            "write skill>=level with a level of 1 to 5; join alternatives with |, like fr>=2 | en>=3",
        ),
        "fr": (
            "{got} n'est pas une exigence",
            "écrivez compétence>=niveau, niveau de 1 à 5 ; séparez les choix par |, comme fr>=2 | en>=3",
        ),
    },
    "target": {
        "en": ("{got} is not a target", "write like 80% in 20s"),
        "fr": ("{got} n'est pas un objectif", "écrivez par exemple 80% in 20s"),
    },
    "digit": {
        "en": ("{got} is no key of a telephone", "write one of 0-9, * or #, in quotes"),
        "fr": ("{got} n'est pas une touche de téléphone", "écrivez 0-9, * ou #, entre guillemets"),
    },
    "number": {
        "en": (
            "{got} can't be dialled",
            "write digits, * and #, with + in front if need be, in quotes; or a SIP user name",
        ),
        "fr": (
            "{got} ne se compose pas",
            "écrivez des chiffres, * et #, avec + devant au besoin, entre guillemets",
        ),
    },
    "e164": {
        "en": (
            "{got} is not a full telephone number",
            'write it with + and the country, like "+33123456789"',
        ),
        "fr": ("{got} n'est pas un numéro complet", 'écrivez-le avec + et le pays, comme "+33123456789"'),
    },
    "network": {
        "en": ("{got} is neither an address nor a network", "write like 192.0.2.10 or 192.0.2.0/24"),
        "fr": ("{got} n'est ni une adresse ni un réseau", "écrivez par exemple 192.0.2.10 ou 192.0.2.0/24"),
    },
    "network_open": {
        "en": ("{got} lets the whole world call in as a carrier", "name the carrier's own networks"),
        "fr": ("{got} laisse le monde entier appeler comme opérateur", "nommez les réseaux de l'opérateur"),
    },
    "target_address": {
        "en": ("{got} is no SIP target", "write host:port;transport=udp, or tcp"),
        "fr": ("{got} n'est pas une destination SIP", "écrivez hôte:port;transport=udp, ou tcp"),
    },
    "pattern": {
        "en": (
            "{got} is not an RE2 pattern: {reason}",
            "mend it; look-around and back references do not exist",
        ),
        "fr": (
            "{got} n'est pas un motif RE2 : {reason}",
            "corrigez-le ; ni assertions ni renvois n'existent",
        ),
    },
    "template": {
        "en": ("this is not a Liquid text: {reason}", "look at the braces"),
        "fr": ("ce n'est pas un texte Liquid : {reason}", "regardez les accolades"),
    },
    "url": {
        "en": (
            "{got} can't be the address of a screen pop",
            "write https://host/…, with {expected} at most as places",
        ),
        "fr": (
            "{got} ne peut servir d'adresse",
            "écrivez https://hôte/…, avec au plus les champs {expected}",
        ),
    },
    "account_nowhere": {
        "en": ("messages to «{got}» would lead nowhere", "give it a tree, or a queue"),
        "fr": ("les messages à «{got}» ne mèneraient nulle part", "donnez-lui un arbre ou une file"),
    },
    "blank": {
        "en": ("«{got}» is given, but empty", "write it, or remove the key"),
        "fr": ("«{got}» est donné, mais vide", "écrivez-le ou ôtez la clé"),
    },
    "setting_half": {
        "en": ("«{got}» has no effect without {expected}", "give both, or remove it"),
        "fr": ("«{got}» est sans effet sans {expected}", "donnez les deux, ou ôtez-le"),
    },
    "account_port": {
        "en": ("{got} is no port", "write a number from 1 to 65535"),
        "fr": ("{got} n'est pas un port", "écrivez un nombre de 1 à 65535"),
    },
    "account_address": {
        "en": ("{got} is no email address", "write it like service@postal.example"),
        "fr": ("{got} n'est pas une adresse e-mail", "écrivez par exemple service@postal.example"),
    },
    "account_addresses": {
        "en": (
            "{got} are not all email addresses",
            "write them with blanks between, like a@b.example c@d.example",
        ),
        "fr": (
            "{got} ne sont pas toutes des adresses e-mail",
            "séparez-les par des blancs, comme a@b.example c@d.example",
        ),
    },
    "account_url": {
        "en": ("{got} is no web address", "write https://host/…"),
        "fr": ("{got} n'est pas une adresse web", "écrivez https://hôte/…"),
    },
    "account_seconds": {
        "en": ("{got} is no time in seconds", "write a whole number, such as 60"),
        "fr": ("{got} n'est pas une durée en secondes", "écrivez un nombre entier, par exemple 60"),
    },
    "account_origins": {
        "en": (
            "{got} does not say from which pages visitors may come",
            "write scheme and host of each, with blanks between, like https://www.postal.example",
        ),
        "fr": (
            "{got} ne dit pas de quelles pages viennent les visiteurs",
            "écrivez protocole et hôte de chacune, séparés par des blancs, comme https://www.postal.example",
        ),
    },
    "account_twice": {
        "en": ("{got} is already the account {first}", "remove one of them"),
        "fr": ("{got} est déjà le compte {first}", "ôtez l'un des deux"),
    },
    "hook": {
        "en": ("accounts of {got} share no callback", "remove it"),
        "fr": ("les comptes de {got} ne partagent pas d'adresse de rappel", "ôtez-la"),
    },
    "account_secret": {
        "en": (
            "a site file holds no secret: «{got}»",
            "remove it, and use `monofil secret set {account} {got}`, or the environment",
        ),
        "fr": (
            "pas de secret dans ce fichier : «{got}»",
            "ôtez-le et utilisez `monofil secret set {account} {got}` ou l'environnement",
        ),
    },
    "signature": {
        "en": ("messages of {got} bear no signature", "remove it"),
        "fr": ("les messages de {got} ne portent pas de signature", "ôtez-la"),
    },
    "variable": {
        "en": ("a signature knows no «{got}»", "{near}"),
        "fr": ("une signature ne connaît pas «{got}»", "{near}"),
    },
    "secret": {
        "en": (
            "a site file holds no secret: «{got}»",
            "remove it, and use `monofil user passwd LOGIN`, or the environment",
        ),
        "fr": (
            "pas de secret dans ce fichier : «{got}»",
            "ôtez-le et utilisez `monofil user passwd LOGIN` ou l'environnement",
        ),
    },
    "reference": {
        "en": ("the {kind} «{got}» does not exist", "{near}"),
        "fr": ("{kind} «{got}» n'existe pas", "{near}"),
    },
    "phone_twice": {
        "en": ("the phone {got} already rings for {first}", "give each advisor a phone account of their own"),
        "fr": ("le téléphone {got} sonne déjà chez {first}", "donnez à chacun son propre compte"),
    },
    "phone_is_number": {
        "en": ("{got} is both a phone and a number that callers dial", "change one of them"),
        "fr": ("{got} est à la fois un poste et un numéro public", "changez l'un des deux"),
    },
    "overflow_self": {
        "en": ("the overflow comes back to «{got}»", "let it end in another queue"),
        "fr": ("le débordement revient à «{got}»", "faites-le aboutir ailleurs"),
    },
    "overflow_half": {
        "en": ("«{got}» has no effect alone", "give both overflow_after and overflow_to"),
        "fr": ("«{got}» est sans effet seul", "donnez overflow_after et overflow_to"),
    },
    "tree_place": {
        "en": (
            "the tree's file {got} is not opened: only .yaml and .yml files at or below the site file's folder are",
            "put it there and give its path from the folder of the site file",
        ),
        "fr": (
            "le fichier d'arbre {got} n'est pas ouvert : seuls le sont les .yaml et .yml du dossier du site ou dessous",
            "mettez-le là et donnez son chemin depuis le dossier du site",
        ),
    },
    "tree_file": {
        "en": (
            "the tree's file {got} can't be read: {reason}",
            "give its path from the folder of the site file",
        ),
        "fr": (
            "le fichier d'arbre {got} est illisible : {reason}",
            "donnez son chemin depuis le dossier du site",
        ),
    },
    "tree_id": {
        "en": ("the tree calls itself {got}, the site calls it {expected}", "give both the same name"),
        "fr": ("l'arbre se nomme {got}, le site le nomme {expected}", "donnez-leur le même nom"),
    },
    "tree": {
        "en": ("{reason}", "{cure}"),
        "fr": ("{reason}", "{cure}"),
    },
}

NEAR = {
    "en": ("did you mean «{near}»?", "choose one of: {all}", "declare it first"),
    "fr": ("vouliez-vous dire «{near}» ?", "choisissez parmi : {all}", "déclarez-le d'abord"),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, at `path` in `file` (line 0: the whole file); `args` fill the words of `code`."""

    file: str
    line: int
    path: tuple[str | int, ...]
    code: str
    args: Mapping[str, object]
    warning: bool = False  # told, but does not forbid applying

    @property
    def where(self) -> str:
        return ".".join(str(step) for step in self.path)

    def say(self, language: str = "en") -> str:
        """One line: file:line: where: what is wrong and was expected; the cure."""
        what, cure = self.words(language)
        line = f"{self.line}:" if self.line else ""
        place = f" {self.where}:" if self.path else ""
        return f"{self.file}:{line}{place} {what}; {cure}{'' if cure.endswith('?') else '.'}"

    def words(self, language: str = "en") -> tuple[str, str]:
        """(what is wrong and was expected, the cure)"""
        language = language if language in LANGUAGES else "en"
        what, cure = WORDS[self.code][language]
        fill = {name: _told(value, language) for name, value in self.args.items()}
        fill["near"] = self._near(language)
        return what.format_map(fill), cure.format_map(fill).rstrip(". ")

    def _near(self, language: str) -> str:
        near, choices = self.args.get("near"), self.args.get("expected")
        meant, choose, declare = NEAR[language]
        if near:
            return meant.format(near=near)
        if isinstance(choices, tuple) and choices:
            return choose.format(all=", ".join(map(str, choices)))
        return declare


# what was expected, by stable word
KINDS: Mapping[str, tuple[str, str]] = {
    "text": ("text", "un texte"),
    "whole number": ("a whole number", "un nombre entier"),
    "number": ("a number", "un nombre"),
    "yes or no": ("true or false", "true ou false"),
    "list": ("a list", "une liste"),
    "mapping": ("keys with values", "des clés avec valeurs"),
    "nothing": ("nothing", "rien"),
    "queue": ("queue", "la file"),
    "hours": ("opening hours", "l'horaire"),
    "skill": ("skill", "la compétence"),
    "tree": ("tree", "l'arbre"),
    "account": ("account", "le compte"),
    "wrapup code": ("wrap-up code", "le code de clôture"),
    "sound": ("sound", "le son"),
}


def _told(value: object, language: str) -> str:
    if isinstance(value, str) and value in KINDS:
        return KINDS[value][LANGUAGES.index(language)]
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)
