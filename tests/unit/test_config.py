"""Settings: three sources, one order, and every fault at once."""

from datetime import time

import pytest

from upshotd.config import IN_MEMORY, VARIABLES, Settings, load
from upshotd.config_network import Address
from upshotd.domain.breaker import Rules
from upshotd.domain.caps import Cap
from upshotd.domain.errors import InvalidArgument
from upshotd.domain.message import Channel, Purpose
from upshotd.domain.window import Window

DAY_US = 86_400_000_000


def faults(toml: str = "", environ: dict[str, str] | None = None, **overrides: object) -> dict:
    with pytest.raises(InvalidArgument) as refused:
        load(toml, environ or {}, overrides)
    return {fault.field: fault.description for fault in refused.value.violations}


def test_nothing_said_is_loopback_and_a_file_here() -> None:
    settings = load("", {}, {})
    assert settings == Settings()
    assert (str(settings.network.listen), str(settings.network.http)) == (
        "127.0.0.1:7070",
        "127.0.0.1:7071",
    )
    assert (settings.database, settings.lab, settings.channels) == ("upshot.db", False, {})


def test_the_command_line_is_over_variables_and_they_are_over_the_file() -> None:
    toml = 'listen = "127.0.0.1:1"\nhttp = "127.0.0.1:2"\ndatabase = "file.db"'
    environ = {"UPSHOT_LISTEN": "127.0.0.1:3", "UPSHOT_HTTP": "127.0.0.1:4"}
    settings = load(toml, environ, {"listen": "127.0.0.1:5", "http": None})
    assert (settings.network.listen.port, settings.network.http.port) == (5, 4)
    assert settings.database == "file.db"


def test_every_setting_can_be_said_in_the_file_and_as_a_variable() -> None:
    toml = """
        listen = "localhost:0"
        reflection = false
        http = "[::1]:8080"
        public_url = "https://m.example.com/u/"
        database = "sqlite:///data/u.db"
        lab = true
        default_region = "de"
        time_zone = "Europe/Berlin"
        [retention]
        events_days = 40
        outcomes_days = 10
        rejected_days = 8
        [limits]
        inbox = 5000
        batch = 100
        sends = 8
        provider = "5s"
        call = "1.5s"
        reader = "500ms"
        lease = "2s"
        drain = "2m"
        connection = "1h"
        [segment]
        webhook_secret_file = "/run/secrets/segment"
        [tls]
        cert = "c.pem"
        key = "k.pem"
        client_ca = "a.pem"
        [auth]
        required = true
        root_key = "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"
        rate = "250/s"
        [breaker]
        failures = 3
        pause = "1s"
        pause_max = "1m"
        [log]
        level = "debug"
        format = "json"
    """
    said = load(toml, {}, {})
    assert said.network.listen == Address("localhost", 0)
    assert str(said.network.http) == "[::1]:8080"
    assert said.public_url == "https://m.example.com/u"
    assert (said.database, said.lab, said.default_region) == ("data/u.db", True, "DE")
    assert (said.keep.events_us, said.keep.outcomes_us) == (40 * DAY_US, 10 * DAY_US)
    assert (said.limits.batch, said.limits.call_us) == (100, 1_500_000)
    assert (said.limits.reader_us, said.limits.connection_us) == (500_000, 3_600_000_000)
    assert said.network.auth.rate == 250
    assert said.breaker == Rules(3, 1_000_000, 60_000_000, probe_us=6_250_000)
    environ = {
        "UPSHOT_LISTEN": "localhost:0",
        "UPSHOT_HTTP": "[::1]:8080",
        "UPSHOT_PUBLIC_URL": "https://m.example.com/u/",
        "UPSHOT_DATABASE": "data/u.db",
        "UPSHOT_LAB": "yes",
        "UPSHOT_INSECURE": "no",
        "UPSHOT_SEGMENT_WEBHOOK_SECRET_FILE": "/run/secrets/segment",
        "UPSHOT_REFLECTION": "no",
        "UPSHOT_TLS_CERT": "c.pem",
        "UPSHOT_TLS_KEY": "k.pem",
        "UPSHOT_TLS_CLIENT_CA": "a.pem",
        "UPSHOT_AUTH_REQUIRED": "yes",
        "UPSHOT_AUTH_ROOT_KEY": "r" * 32,
        "UPSHOT_AUTH_RATE": "250/s",
        "UPSHOT_DEFAULT_REGION": "DE",
        "UPSHOT_TIME_ZONE": "Europe/Berlin",
        "UPSHOT_RETENTION_EVENTS_DAYS": "40",
        "UPSHOT_RETENTION_OUTCOMES_DAYS": "10",
        "UPSHOT_RETENTION_REJECTED_DAYS": "8",
        "UPSHOT_LIMITS_INBOX": "5000",
        "UPSHOT_LIMITS_BATCH": "100",
        "UPSHOT_LIMITS_SENDS": "8",
        "UPSHOT_LIMITS_PROVIDER": "5s",
        "UPSHOT_LIMITS_CALL": "1.5s",
        "UPSHOT_LIMITS_READER": "500ms",
        "UPSHOT_LIMITS_LEASE": "2s",
        "UPSHOT_LIMITS_DRAIN": "2m",
        "UPSHOT_LIMITS_CONNECTION": "1h",
        "UPSHOT_BREAKER_FAILURES": "3",
        "UPSHOT_BREAKER_PAUSE": "1s",
        "UPSHOT_BREAKER_PAUSE_MAX": "1m",
        "UPSHOT_LOG_LEVEL": "debug",
        "UPSHOT_LOG_FORMAT": "json",
    }
    # Either of the two is said.
    assert {*environ, "UPSHOT_SEGMENT_WEBHOOK_SECRET"} == set(VARIABLES.values())
    assert load("", environ, {}) == said


def test_quiet_hours_leave_the_rest_of_the_day() -> None:
    toml = """
        [quiet_hours]
        marketing = {begin = "20:00", end = "08:00"}
        product = {begin = "22:30", end = "06:00"}
    """
    assert load(toml, {}, {}).policy.hours == {
        Purpose.MARKETING: Window(time(8), time(20)),
        Purpose.PRODUCT: Window(time(6), time(22, 30)),
    }


def test_caps_say_how_many_in_what_time_and_of_what() -> None:
    toml = """
        [caps.weekly]
        max = 3
        period = "7d"
        purposes = ["marketing"]
        [caps.texts]
        max = 1
        period = "24h"
        channels = ["sms"]
        topics = ["news", "tips"]
    """
    weekly, texts = load(toml, {}, {}).policy.caps
    assert weekly == Cap("weekly", 3, 7 * DAY_US, purposes=frozenset({Purpose.MARKETING}))
    topics = frozenset({"news", "tips"})
    assert texts == Cap("texts", 1, DAY_US, frozenset({Channel.SMS}), topics)


def test_faults_of_quiet_hours_and_caps() -> None:
    toml = """
        time_zone = "Berlin"
        [quiet_hours]
        transactional = {begin = "20:00", end = "08:00"}
        marketing = {begin = "20:00"}
        product = {begin = "8", end = "08:00"}
        [caps.none]
        max = 0
        period = "often"
        channels = ["fax"]
        purposes = ["transactional"]
        topics = "news"
        [caps.more]
        max = 1
        period = "1h"
        per = "user"
    """
    assert set(faults(toml)) == {
        *("time_zone", "quiet_hours.transactional", "quiet_hours.marketing"),
        *("quiet_hours.product.begin", "caps.none.max", "caps.none.period", "caps.none.channels"),
        *("caps.none.purposes", "caps.none.topics", "caps.more.per"),
    }
    same = '[quiet_hours]\nmarketing = {begin = "08:00", end = "08:00"}'
    assert faults(same) == {"quiet_hours.marketing": "would leave no time of day"}


def test_channels_name_their_providers() -> None:
    toml = """
        [providers.mail]
        kind = "smtp"
        host = "localhost"
        from = "a@example.com"
        [providers.texts]
        kind = "webhook"
        [channels]
        email = "mail"
        sms = "texts"
        [contact]
        phone_number = ["mobile", "phone"]
        email = "mail_address"
    """
    settings = load(toml, {}, {})
    assert settings.channels == {Channel.EMAIL: ("mail",), Channel.SMS: ("texts",)}
    mail = settings.providers["mail"]
    assert (mail.kind, dict(mail.options)) == (
        "smtp",
        {"host": "localhost", "from": "a@example.com"},
    )
    assert settings.contact["phone_number"] == ("mobile", "phone")
    assert settings.contact["email"] == ("mail_address",)
    assert settings.contact["locale"] == ("locale",), "what is not said stays"


def test_all_faults_are_named_at_once_by_path() -> None:
    toml = """
        listen = "7070"
        lap = true
        default_region = "Germany"
        channels = { fax = "mail", email = "nobody" }
        contact = { shoe_size = "shoe", email = [] }
        log = "loud"
        [providers.Mail]
        kind = "smtp"
        [providers.texts]
        [limits]
        batch = 0
        bacth = 10
        call = "soon"
        [retention]
        events_days = 29
    """
    found = faults(toml, {"UPSHOT_LAB": "perhaps"}, http="example.com:1")
    assert set(found) == {
        *("listen", "lap", "default_region", "channels.fax", "channels.email", "channels"),
        *("contact.shoe_size", "contact.email", "log", "providers.Mail", "providers.texts.kind"),
        *("limits.batch", "limits.bacth", "limits.call", "retention.events_days", "lab", "http"),
    }
    assert found["limits.bacth"] == "is no setting"


@pytest.mark.parametrize("given", ['"yes"', '"true"', "1"])
def test_a_truth_of_the_file_is_no_text_and_one_of_the_environment_is(given: str):
    found = faults(f"lab = {given}\ninsecure = {given}\n[auth]\nrequired = {given}\n")
    assert set(found) == {"lab", "insecure", "auth.required"}
    assert found["lab"].endswith("must be true or false")
    assert load("lab = true", {}, {}).lab
    assert load("lab = false", {"UPSHOT_LAB": "yes"}, {}).lab


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.com"])
def test_others_are_let_in_with_keys_and_tls_only(host: str):
    given = {"listen": f"{host}:7070", "http": f"{host}:7071"}
    said = faults(**given)
    assert set(said) == {"listen", "http"}
    assert "auth.required" in said["listen"]
    for half in ({"auth.required": True}, {"tls.cert": "c.pem", "tls.key": "k.pem"}):
        assert set(faults(**given, **half)) == {"listen", "http"}
    both = {"auth.required": True, "tls.cert": "c.pem", "tls.key": "k.pem"}
    assert not load("", {}, {**given, **both}).network.reflected
    assert load("", {}, {**given, "insecure": True, "reflection": True}).network.reflected


def test_certificates_are_whole_and_the_root_key_is_not_shown():
    assert set(faults(**{"tls.cert": "c.pem"})) == {"tls.key"}
    assert set(faults(**{"tls.key": "k.pem"})) == {"tls.cert"}
    assert set(faults(**{"tls.client_ca": "a.pem"})) == {"tls.cert"}
    assert "hush" not in faults(**{"auth.root_key": "hush"})["auth.root_key"]
    settings = load("", {}, {"auth.root_key": "hush" * 10})
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "port"), [("127.0.0.1:0", 0), (":9", 9), (7070, 7070), ("[::1]:65535", 65535)]
)
def test_addresses(given: object, port: int) -> None:
    assert load("", {}, {"listen": given}).network.listen.port == port


@pytest.mark.parametrize("given", ["127.0.0.1", "127.0.0.1:65536", "localhost:x", ":-1", "", 1.5])
def test_no_addresses(given: object) -> None:
    assert "HOST:PORT" in faults(listen=given)["listen"]


def test_the_address_of_a_postgresql_is_shown_without_its_password() -> None:
    address = "postgresql+asyncpg://u:hunter2@db:5432/x?ssl=require"
    settings = load("", {"UPSHOT_DATABASE": address}, {})
    assert settings.database == address
    assert settings.database_shown == "postgresql+asyncpg://u@db:5432/x"
    socket = load("", {"UPSHOT_DATABASE": "postgresql:///x?host=/run"}, {})
    assert socket.database_shown == "postgresql:///x"
    for address in ("postgresql:///x?password=hun@ter2", "postgresql://:hunter2@/x"):
        assert "ter2" not in load("", {"UPSHOT_DATABASE": address}, {}).database_shown


@pytest.mark.parametrize("password", ["hun/ter2", "hun?ter2", "hun#ter2", "hun:ter2", "/ter2"])
def test_no_part_of_a_password_is_shown(password: str) -> None:
    settings = load("", {"UPSHOT_DATABASE": f"postgresql://u:{password}@db:5432/x?a=b@c"}, {})
    assert settings.database_shown == "postgresql://u@db:5432/x"


def test_another_database_is_refused_and_its_password_is_not_repeated() -> None:
    said = faults(database="mysql://u:hunter2@db/x")["database"]
    assert "hunter2" not in said
    assert "postgresql://" in said


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("sqlite+aiosqlite:////var/u.db", "/var/u.db"),
        (":memory:", IN_MEMORY),
        ("memory:", IN_MEMORY),
    ],
)
def test_databases(given: str, path: str) -> None:
    assert load("", {}, {"database": given}).database == path


@pytest.mark.parametrize("given", ["mysql://x/y", "", "sqlite:///", 5])
def test_no_databases(given: object) -> None:
    assert "database" in faults(database=given)


@pytest.mark.parametrize(
    "given", ["example.com", "ftp://x", "http://", "http://x/?a", "http://x:y"]
)
def test_no_public_addresses(given: str) -> None:
    assert "public_url" in faults(public_url=given)


def test_broken_toml_is_one_fault() -> None:
    assert "no TOML" in faults("listen = ")[""]


def test_a_provider_must_answer_within_the_lease_of_its_message() -> None:
    assert "leased" in faults("[limits]\nprovider = '91s'")["limits.provider"]


def test_variables_of_others_are_left_alone() -> None:
    assert load("", {"UPSHOT_SMTP_PASSWORD": "x", "UPSHOT_LISTEN": ""}, {}) == Settings()


def test_sections_of_the_wrong_shape() -> None:
    found = faults('providers = 3\nchannels = "x"\nlimits = 7\n[relay]\nanything = "goes"')
    assert set(found) == {"providers", "channels", "limits"}
    assert load('[relay]\nanything = "goes"', {}, {}).relay == {"anything": "goes"}
