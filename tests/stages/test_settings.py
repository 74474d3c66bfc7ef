"""What the service refuses to start with, and what it makes for itself."""

import base64
import stat
from pathlib import Path

import pytest

from service.infra.settings import Settings, SettingsError, load

KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_embedded_mode_makes_its_secret_once_and_keeps_it_private(tmp_path: Path) -> None:
    first = load()
    second = load()

    assert first.secret_key == second.secret_key
    assert stat.S_IMODE((tmp_path / ".koc-data" / "secret_key").stat().st_mode) == 0o600
    assert first.database_url is None


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o750)
    monkeypatch.setenv("KOC_DATA_DIR", str(folder))

    load()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_with_a_database_of_its_own_a_missing_secret_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://koc@db/koc")

    with pytest.raises(SettingsError, match="KOC_SECRET_KEY is not set"):
        load()

    assert not Path(".koc-data").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("KOC_SECRET_KEY", "changeme", id="no key"),
        pytest.param("KOC_SECRET_KEY", base64.b64encode(b"short").decode(), id="short key"),
        pytest.param("KOC_PORT", "99999", id="no port"),
        pytest.param("DATABASE_URL", "mysql://koc@db/koc", id="another database"),
        pytest.param("KOC_PUBLIC_URL", "koc.example", id="no scheme"),
        pytest.param("KOC_DB_ADMISSION", "16", id="nothing left for the batchers"),
        pytest.param("KOC_STRIPE_WEBHOOK_SECRET", "sk_test_abcdefghijkl", id="a key is no signing secret"),
        pytest.param("KOC_STRIPE_WEBHOOK_SECRET", "whsec_abcdefghijklmnop,", id="one secret and a comma too many"),
        pytest.param("KOC_STRIPE_FINANCIAL_ACCOUNT", "acct_1", id="not a financial account"),
    ],
)
def test_a_senseless_value_is_named_but_not_repeated(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOC_SECRET_KEY", KEY)
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=variable) as caught:
        load()

    assert value not in str(caught.value).replace("KOC_", "") or value == "16"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_scheme_is_understood(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_SECRET_KEY", KEY)
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://koc:s%40@db:5432/koc")

    assert load().database_url == "postgresql+psycopg://koc:s%40@db:5432/koc"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("KOC_PORT", "")

    assert (load().database_url, load().port) == (None, 8000)


def test_another_process_loads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        secret_key=KEY,
        database_url="postgresql://koc@db/koc",
        port=9000,
        stripe_secret_key="sk_test_1",
        stripe_webhook_secret="whsec_of_one_endpoint,whsec_of_another_one",
        stripe_financial_account="fa_test_1",
        data_dir=Path("/x"),
    )

    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    assert load() == settings


def test_secrets_stay_out_of_the_printed_settings() -> None:
    settings = Settings(
        secret_key=KEY,
        database_url="postgresql://koc:hush@db/koc",
        stripe_secret_key="sk_live_1",
        stripe_webhook_secret="whsec_of_one_endpoint, whsec_of_another_one",
    )

    printed = repr(settings) + str(settings)

    assert settings.stripe_webhook_secrets == ("whsec_of_one_endpoint", "whsec_of_another_one")
    assert all(secret not in printed for secret in (KEY, "hush", "sk_live_1", *settings.stripe_webhook_secrets))
    assert {"sk_live_1", *settings.stripe_webhook_secrets} <= set(settings.secrets())
