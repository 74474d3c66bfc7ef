"""Each kind of key has a form and a checksum of its own."""

import pytest

from service.infra.security import check_api_key, check_publishable_key, new_api_key, new_publishable_key


@pytest.mark.parametrize(("is_test", "prefix"), [(True, "koc_pub_test_"), (False, "koc_pub_live_")])
def test_a_publishable_key_says_what_it_is(is_test: bool, prefix: str) -> None:
    key = new_publishable_key(is_test)

    assert key.startswith(prefix)
    assert len(key) == len(prefix) + 36


def test_no_key_passes_for_one_of_another_kind() -> None:
    for is_test in (True, False):
        secret, publishable = new_api_key(is_test), new_publishable_key(is_test)

        assert (check_api_key(secret), check_publishable_key(secret)) == (True, False)
        assert (check_api_key(publishable), check_publishable_key(publishable)) == (False, True)
        # The checksum covers the kind: what follows it is of no use under another name.
        assert not check_publishable_key(secret.replace("koc_", "koc_pub_"))
        assert not check_api_key(publishable.replace("koc_pub_", "koc_"))


def test_a_typo_in_a_publishable_key_is_noticed() -> None:
    key = new_publishable_key(is_test=True)
    other = "a" if key[20] != "a" else "b"

    assert not check_publishable_key(key[:20] + other + key[21:])
