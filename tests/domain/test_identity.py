"""One spelling for all spellings of a phone number, an e-mail address, a postal address; and what is no identity."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.calling_codes import LONG_TRUNKS, PLANS, TRUNK_ZERO
from service.domain.identity import Address, IdentityKind, country_code, identified, normalised, stored


@pytest.mark.parametrize(
    ("written", "country", "phone"),
    [
        pytest.param("+84 912 345 678", "", "+84912345678", id="as it is dialled from abroad"),
        pytest.param("0912345678", "VN", "+84912345678", id="as it is dialled at home"),
        pytest.param("912345678", "VN", "+84912345678", id="a spreadsheet took the 0 away"),
        pytest.param("84912345678", "VN", "+84912345678", id="the + was lost"),
        pytest.param("841234567", "VN", "+84841234567", id="a number that only begins like the code"),
        pytest.param("(+84) 0912.345.678", "SG", "+84912345678", id="code and 0"),
        pytest.param("'+84 912 345 678", "US", "+84912345678", id="as a spreadsheet keeps a +"),
        pytest.param("0084 912 345 678", "DE", "+84912345678", id="00 for +"),
        pytest.param("011 84 912 345 678", "US", "+84912345678", id="011 for + in North America"),
        pytest.param("＋84 ９１２345678", "", "+84912345678", id="full-width signs"),
        pytest.param("٠٩١٢٣٤٥٦٧٨", "VN", "+84912345678", id="digits of another script"),
        pytest.param("(415) 555-0123", "US", "+14155550123", id="North America"),
        pytest.param("1-415-555-0123", "CA", "+14155550123", id="North America with its 1"),
        pytest.param("8 (912) 345-67-89", "RU", "+79123456789", id="Russia with its 8"),
        pytest.param("800 123 45 67", "RU", "+78001234567", id="a Russian number that begins with 8"),
        pytest.param("06 30 123 4567", "HU", "+36301234567", id="Hungary with its 06"),
        pytest.param("06 1234 5678", "IT", "+390612345678", id="Italy keeps its 0"),
        pytest.param("+39 06 1234 5678", "", "+390612345678", id="Italy keeps its 0 abroad"),
        pytest.param("+44 (0)20 7946 0958", "", "+442079460958", id="a 0 in brackets"),
        pytest.param("138 1234 5678", "CN", "+8613812345678", id="China"),
        pytest.param("86 138 1234 5678", "CN", "+8613812345678", id="China, the + was lost"),
        pytest.param("91234567", "SG", "+6591234567", id="Singapore dials no 0"),
        pytest.param("0912345678", "", "+0912345678", id="nobody says where"),
        pytest.param("0912345678", "ZZ", "+0912345678", id="no such country"),
        pytest.param("n/a", "VN", "", id="no digits"),
        pytest.param("(+84)912***678", "VN", "", id="masked"),
        pytest.param("+84 91\u2022\u2022\u2022\u2022678", "VN", "", id="masked with dots"),
    ],
)
def test_a_phone_number_has_one_spelling(written: str, country: str, phone: str) -> None:
    assert normalised("phone", written, country) == phone


def test_calling_codes_tell_each_other_apart() -> None:
    codes = {code for code, _ in PLANS.values()}

    assert not [(one, two) for one in codes for two in codes if one != two and two.startswith(one)]
    assert all(re.fullmatch("[A-Z]{2}", country) and 4 <= longest <= 15 for country, (_, longest) in PLANS.items())
    assert codes >= TRUNK_ZERO | LONG_TRUNKS.keys()
    assert TRUNK_ZERO.isdisjoint(LONG_TRUNKS)
    assert (PLANS["VN"], PLANS["US"], PLANS["SG"]) == (("84", 10), ("1", 10), ("65", 8))


@given(st.sampled_from(IdentityKind), st.text(), st.sampled_from(["", "VN", "US", "RU", "IT"]))
def test_a_spelling_once_found_stays(kind: IdentityKind, value: str, country: str) -> None:
    once = normalised(kind, value, country)

    assert normalised(kind, once, country) == once


@given(
    st.from_regex(r"[1-9][0-9]{8}", fullmatch=True),
    st.lists(st.sampled_from([" ", "-", ".", "(", ")"]), min_size=9, max_size=9),
)
def test_a_vietnamese_number_is_one_however_it_is_written(number: str, signs: list[str]) -> None:
    spread_out = "".join(digit + sign for digit, sign in zip(number, signs, strict=True))

    spellings = {
        normalised("phone", f"+84 {spread_out}"),
        normalised("phone", f"0{spread_out}", "VN"),
        normalised("phone", f"0084{spread_out}", "US"),
        normalised("phone", spread_out, "VN"),
    }

    assert spellings == {f"+84{number}"}


@pytest.mark.parametrize("kind", ["email", "payment", "phone"])
@pytest.mark.parametrize("value", ["j***@x.example", "**** 4242", "\u2022\u2022\u2022\u2022 4242", "091\uff0a\uff0a78"])
def test_what_is_masked_is_nobodys(kind: str, value: str) -> None:
    assert normalised(kind, value) == ""


def test_an_id_is_what_the_shop_says_stars_and_all() -> None:
    assert normalised("id", " c*7 ") == " c*7 "


def test_a_fingerprint_keeps_its_letter_case() -> None:
    assert normalised("payment", " Xt5EWLLDS7FJjR1c\n") == "Xt5EWLLDS7FJjR1c"


IN_SAIGON = Address("12 Lê Lợi", "Phường Bến Nghé", postal_code="700000", city="Hồ Chí Minh", country="VN")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(
            Address("12 LE LOI, PHUONG BEN NGHE", postal_code="700000", country="VN"), id="no accents, one line"
        ),
        pytest.param(
            Address("Lê Lợi", "Phường Bến Nghé", house="12", postal_code="700 000", country="VN"), id="the house apart"
        ),
        pytest.param(
            Address("Lê Lợi 12; phường Bến-Nghé", postal_code="700000", city="Sài Gòn", country="VN"),
            id="house behind the street, another name of the city",
        ),
        pytest.param(
            Address("１２ Le\u0302 Lo\u031b\u0323i", "Phường Bến Nghé", postal_code="700000", country="VN"),
            id="accents apart, full-width digits",
        ),
    ],
)
def test_one_address_is_one_however_it_is_written(other: Address) -> None:
    assert other.text == IN_SAIGON.text != ""


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Address("13 Lê Lợi", "Phường Bến Nghé", postal_code="700000", country="VN"), id="next door"),
        pytest.param(Address("12 Lê Lai", "Phường Bến Nghé", postal_code="700000", country="VN"), id="another street"),
        pytest.param(Address("12 Lê Lợi", "Phường Bến Nghé", postal_code="550000", country="VN"), id="another town"),
        pytest.param(Address("12 Lê Lợi", "Phường Bến Nghé", postal_code="700000", country="SG"), id="another country"),
        pytest.param(Address("1 2 Lê Lợi", "Phường Bến Nghé", postal_code="700000", country="VN"), id="two numbers"),
    ],
)
def test_two_addresses_stay_two(other: Address) -> None:
    assert other.text not in {"", IN_SAIGON.text}


def test_house_and_alley_are_not_taken_for_each_other() -> None:
    houses = {Address(f"{house} Lê Lợi", postal_code="700000", country="VN").text for house in ("12/3", "3/12")}

    assert len(houses) == 2


def test_the_city_counts_only_where_there_is_no_postal_code() -> None:
    here, there = (Address("12 Lê Lợi", city=city, country="VN").text for city in ("Đà Nẵng", "Huế"))

    assert here != there
    assert here == Address("12 le loi", city="DA NANG", country="VN").text


@pytest.mark.parametrize(
    "vague",
    [
        pytest.param(Address("12 Lê Lợi", postal_code="700000"), id="no country"),
        pytest.param(Address("12 Lê Lợi", country="VN"), id="neither postal code nor city"),
        pytest.param(Address("", "-", postal_code="700000", country="VN"), id="no street"),
        pytest.param(Address("1* L** ***", postal_code="700000", country="VN"), id="masked street"),
        pytest.param(Address("12 Lê Lợi", city="H***", country="VN"), id="masked city"),
    ],
)
def test_what_would_fit_many_houses_is_no_address(vague: Address) -> None:
    assert vague.text == ""


@given(st.builds(Address, *[st.text(max_size=20)] * 5, country=st.sampled_from(["VN", ""])))
def test_an_address_is_not_changed_by_its_own_hashing(address: Address) -> None:
    assert normalised("address", address.text) == address.text


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ("VN", "VN"),
        ("vn", "VN"),
        ("Vietnam", ""),
        ("", ""),
        ("V1", ""),
        ("ＶＮ", ""),
        (None, ""),
        (84, ""),
        (["VN"], ""),
    ],
)
def test_a_country_is_two_letters(told: object, code: str) -> None:
    assert country_code(told) == code


PAIRS = st.lists(st.tuples(st.sampled_from([kind.value for kind in IdentityKind]), st.text(min_size=1, max_size=4)))


@given(PAIRS)
def test_identities_come_back_from_their_document(pairs: list[tuple[str, str]]) -> None:
    assert identified(stored(pairs)) == tuple(sorted(set(pairs)))


def test_a_document_of_an_earlier_release_is_read_and_one_of_a_kind_is_written_as_there() -> None:
    document = {"email": "a", "phone": "b"}

    assert identified(document) == (("email", "a"), ("phone", "b"))
    assert stored(identified(document)) == document
    assert stored([("email", "b"), ("email", "a"), ("id", "c")]) == {"email": ["a", "b"], "id": "c"}
