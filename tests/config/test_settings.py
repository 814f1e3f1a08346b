"""The settings: defaults, mistakes in one sentence each, secrets from files and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import PREFIX, PortRange, Settings, SettingsError, describe, load

MISTAKES = """
MONOFIL_HTTP_PROT=1                    | MONOFIL_HTTP_PROT is not a setting: did you mean MONOFIL_HTTP_PORT?
MONOFIL_WHATEVER=1                     | MONOFIL_WHATEVER is not a setting: unset it; `monofil settings` lists all.
MONOFIL_TYPO=1                         | MONOFIL_TYPO is not a setting: unset it; `monofil settings` lists all.
MONOFIL_HTTP_PORT=eighty               | MONOFIL_HTTP_PORT=eighty can't be used: give a whole number.
MONOFIL_SIP_PORT=70000                 | MONOFIL_SIP_PORT=70000 can't be used: give at most 65535.
MONOFIL_RTP_PORTS=20000                | give two ports with a dash between them, like 20000-29999.
MONOFIL_RTP_PORTS=30000-20000          | give a rising range inside 1024-65535, like 20000-29999.
MONOFIL_HTTP_HOST=localhost            | give an IP address, like 127.0.0.1 or 0.0.0.0.
MONOFIL_SIP_HOST=0.0.0.0               | set MONOFIL_ADVERTISED_IP.
MONOFIL_DATABASE_URL=mysql://u:hush@h  | MONOFIL_DATABASE_URL=its value can't be used: give a URL that begins with postgresql://.
MONOFIL_DATABASE_URL_FILE=/nowhere     | names /nowhere, which can't be read (No such file or directory)
MONOFIL_HTTP_PORT_FILE=/nowhere        | MONOFIL_HTTP_PORT_FILE is not a setting
MONOFIL_LOG_LEVEL=loud                 | give one of 'debug', 'info', 'warning' or 'error'.
MONOFIL_LOG_PERSONAL=perhaps           | give true or false.
MONOFIL_PUBLIC_URL=desk.example.org    | give scheme and host only, like https://desk.example.org.
MONOFIL_TRUSTED_PROXIES=10.0.0.0/8,me  | give addresses or networks with commas between them, like 10.0.0.0/8.
MONOFIL_DRAIN_S=-1                     | give at least 0.
MONOFIL_SIP_REGISTER_MIN_S=3600 MONOFIL_SIP_REGISTER_MAX_S=60 | MONOFIL_SIP_REGISTER_MIN_S is above
"""


@pytest.mark.parametrize("row", MISTAKES.strip().splitlines())
def test_each_mistake_is_one_sentence_with_its_cure(row: str) -> None:
    given, words = (part.strip() for part in row.split("|"))
    environ = dict(pair.split("=", 1) for pair in given.split())
    with pytest.raises(SettingsError) as caught:
        load(environ)
    (sentence,) = caught.value.sentences
    assert words in sentence
    assert sentence.endswith((".", "?"))
    assert "hush" not in sentence


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"MONOFIL_X": "1", "MONOFIL_HTTP_PORT": "x", "MONOFIL_SIP_PORT": "-1"})
    assert len(caught.value.sentences) == 3


def test_defaults_are_those_that_are_promised() -> None:
    settings = load({"PATH": "/bin", "MONOFILE": "not ours"})
    assert (settings.http_port, settings.sip_port) == (8080, 5060)
    assert settings.rtp_ports == PortRange(20000, 29999)
    assert settings.told_ip == settings.sip_host == "127.0.0.1"
    assert settings.workers >= 1
    assert not settings.secure_cookies
    assert settings.dsn is None


def test_values_are_read_and_an_empty_one_is_the_default() -> None:
    settings = load(
        {
            "MONOFIL_HTTP_PORT": "",
            "MONOFIL_SIP_PORT": "0",
            "MONOFIL_SIP_HOST": "0.0.0.0",
            "MONOFIL_ADVERTISED_IP": "192.0.2.7",
            "MONOFIL_PUBLIC_URL": "https://desk.example.org/",
            "MONOFIL_LOOKUP_ALLOW": "crm.internal:8443, 10.0.0.0/8",
            "MONOFIL_DATA_DIR": "/srv/monofil",
            "MONOFIL_MEDIA_WORKERS": "3",
        }
    )
    assert (settings.http_port, settings.sip_port, settings.told_ip) == (8080, 0, "192.0.2.7")
    assert settings.public_url == "https://desk.example.org"
    assert settings.secure_cookies
    assert settings.lookup_allow == ("crm.internal:8443", "10.0.0.0/8")
    assert settings.workers == 3


def test_a_secret_may_come_from_a_file_but_not_from_both(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://u:hush@h/d\n", encoding="utf-8")
    assert load({"MONOFIL_DATABASE_URL_FILE": str(file)}).dsn == "postgresql://u:hush@h/d"
    with pytest.raises(SettingsError, match="both set"):
        load({"MONOFIL_DATABASE_URL_FILE": str(file), "MONOFIL_DATABASE_URL": "postgresql://h/d"})


def test_a_secret_is_never_printed() -> None:
    settings = load({"MONOFIL_DATABASE_URL": "postgresql://u:hush@h/d"})
    assert "hush" not in repr(settings)
    assert "hush" not in str(list(describe(settings)))


def test_every_setting_says_what_it_means() -> None:
    described = list(describe(load({})))
    assert [item.variable for item in described] == [PREFIX + name.upper() for name in Settings.model_fields]
    for item in described:
        assert item.meaning.endswith("."), item
        assert item.unit, item
        assert item.group, item
