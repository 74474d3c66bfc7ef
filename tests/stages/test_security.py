"""Keys, ciphertexts and keyed hashes."""

import string
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.identity import normalised
from service.infra.security import (
    CannotDecrypt,
    Security,
    check_api_key,
    hash_api_key,
    new_api_key,
)

SECURITY = Security(bytes(range(32)))
SHOP = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
OTHER_SHOP = UUID("01890a5d-ac96-774b-bcce-b302099a8058")


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_was_encrypted_comes_back(data: bytes, purpose: str) -> None:
    assert SECURITY.decrypt(SECURITY.encrypt(data, purpose=purpose), purpose=purpose) == data


def test_one_text_never_encrypts_to_the_same_bytes_twice() -> None:
    assert len({SECURITY.encrypt(b"whsec", purpose="source") for _ in range(50)}) == 50


def test_a_ciphertext_begins_with_the_number_of_its_key() -> None:
    assert SECURITY.encrypt(b"whsec", purpose="source")[0] == 1


def test_a_changed_byte_anywhere_is_noticed() -> None:
    sealed = SECURITY.encrypt(b"whsec", purpose="source")

    for place in range(len(sealed)):
        changed = sealed[:place] + bytes((sealed[place] ^ 1,)) + sealed[place + 1 :]
        with pytest.raises(CannotDecrypt):
            SECURITY.decrypt(changed, purpose="source")


@pytest.mark.parametrize("length", [0, 1, 13, 28])
def test_a_ciphertext_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(CannotDecrypt):
        SECURITY.decrypt(SECURITY.encrypt(b"whsec", purpose="source")[:length], purpose="source")


def test_a_ciphertext_serves_only_the_purpose_it_was_made_for() -> None:
    with pytest.raises(CannotDecrypt):
        SECURITY.decrypt(SECURITY.encrypt(b"whsec", purpose="source"), purpose="payout-method")


def test_another_master_key_opens_nothing() -> None:
    with pytest.raises(CannotDecrypt):
        Security(bytes(32)).decrypt(SECURITY.encrypt(b"whsec", purpose="source"), purpose="source")


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Security(b"secret")


def test_a_mac_depends_on_key_purpose_and_data() -> None:
    macs = {
        SECURITY.sign("click", b"data", 10),
        SECURITY.sign("click", b"date", 10),
        SECURITY.sign("cursor", b"data", 10),
        Security(bytes(32)).sign("click", b"data", 10),
    }

    assert len(macs) == 4
    assert {len(mac) for mac in macs} == {10}


def test_a_longer_mac_begins_with_the_shorter_one() -> None:
    assert SECURITY.sign("click", b"data", 32).startswith(SECURITY.sign("click", b"data", 8))


@pytest.mark.parametrize("size", [0, 7, 33])
def test_a_mac_has_between_8_and_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="8 to 32"):
        SECURITY.sign("click", b"data", size)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        pytest.param("email", "Ann@Example.com", " ann@example.com\n", id="letter case and blanks of an e-mail"),
        pytest.param("email", "zo\u00eb@example.com", "zoe\u0308@example.com", id="two ways to write one accent"),
        pytest.param("phone", "+84 (91) 234-5678", "+84912345678", id="signs in a phone number"),
        pytest.param("phone", "0084912345678", "+84912345678", id="00 for +"),
        pytest.param("phone", "+\uff18\uff14912345678", "+84912345678", id="full-width digits"),
    ],
)
def test_two_spellings_are_one_identity(kind: str, one: str, other: str) -> None:
    assert SECURITY.identity(SHOP, kind, one) == SECURITY.identity(SHOP, kind, other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        pytest.param("id", "A7", "a7", id="ids are what the shop says"),
        pytest.param("id", " 7", "7", id="blanks in ids"),
        pytest.param("email", "ann@example.com", "an@example.com", id="another e-mail"),
        pytest.param("phone", "+84912345678", "+84912345679", id="another phone"),
    ],
)
def test_two_identities_stay_two(kind: str, one: str, other: str) -> None:
    assert SECURITY.identity(SHOP, kind, one) != SECURITY.identity(SHOP, kind, other)


def test_an_identity_is_32_hex_characters_and_shows_nothing_of_the_value() -> None:
    known = SECURITY.identity(SHOP, "email", "ann@example.com")

    assert len(known) == 32
    assert set(known) <= set(string.hexdigits.lower())


def test_identities_of_two_merchants_or_kinds_never_meet() -> None:
    hashes = {
        SECURITY.identity(SHOP, "email", "7"),
        SECURITY.identity(OTHER_SHOP, "email", "7"),
        SECURITY.identity(SHOP, "id", "7"),
    }

    assert len(hashes) == 3


@pytest.mark.parametrize(("kind", "value"), [("email", "  "), ("phone", "n/a"), ("phone", ""), ("id", "")])
def test_nothing_is_no_identity(kind: str, value: str) -> None:
    assert SECURITY.identity(SHOP, kind, value) == ""


@given(st.text())
def test_a_normal_spelling_is_its_own(value: str) -> None:
    for kind in ("email", "phone", "id"):
        once = normalised(kind, value)
        assert normalised(kind, once) == once


def test_an_account_written_with_blanks_has_the_same_fingerprint() -> None:
    assert SECURITY.fingerprint(SHOP, "sepa", "de89 3704 0044") == SECURITY.fingerprint(SHOP, "sepa", "DE8937040044")


def test_a_fingerprint_depends_on_merchant_rail_and_account() -> None:
    prints = {
        SECURITY.fingerprint(SHOP, "sepa", "DE89"),
        SECURITY.fingerprint(OTHER_SHOP, "sepa", "DE89"),
        SECURITY.fingerprint(SHOP, "sandbox", "DE89"),
        SECURITY.fingerprint(SHOP, "sepa", "DE88"),
        SECURITY.fingerprint(SHOP, "sepaD", "E89"),
    }

    assert len(prints) == 5


def test_an_address_has_one_hash() -> None:
    assert SECURITY.ip_hash("203.0.113.7") == SECURITY.ip_hash("203.0.113.7")
    assert SECURITY.ip_hash("203.0.113.7") != SECURITY.ip_hash("203.0.113.8")
    assert len(SECURITY.ip_hash("203.0.113.7")) == 32


@pytest.mark.parametrize(("is_test", "prefix"), [(True, "koc_test_"), (False, "koc_live_")])
def test_a_new_key_passes_its_own_check(is_test: bool, prefix: str) -> None:
    key = new_api_key(is_test)

    assert key.startswith(prefix)
    assert len(key) == 45
    assert check_api_key(key)


def test_new_keys_differ() -> None:
    assert len({new_api_key(is_test=True) for _ in range(100)}) == 100


def test_a_typo_anywhere_fails_the_check() -> None:
    key = new_api_key(is_test=False)

    for place in range(len(key)):
        typo = "A" if key[place] != "A" else "B"
        assert not check_api_key(key[:place] + typo + key[place + 1 :])


@pytest.mark.parametrize("text", ["", "koc_live_", "sk_live_abc", "koc_live_" + "ä" * 36, "koc_live_" + "0" * 37])
def test_other_texts_are_no_keys(text: str) -> None:
    assert not check_api_key(text)


def test_a_test_key_does_not_pass_as_a_live_one() -> None:
    assert not check_api_key(new_api_key(is_test=True).replace("koc_test_", "koc_live_"))


def test_a_key_is_stored_as_sha_256() -> None:
    assert hash_api_key("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
