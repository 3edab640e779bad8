"""What is sealed can be opened by whoever has the keys, and by nobody else."""

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oms_runtime.customer_keys import words_of
from oms_runtime.sealing import KEY_BYTES, NONCE_BYTES, BrokenSeal, Sealer

keys, nonces = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)


@given(keys, keys, nonces, st.binary(), st.text())
def test_what_is_sealed_can_be_opened(installation: bytes, key: bytes, nonce: bytes, data: bytes, purpose: str) -> None:
    sealer = Sealer(installation)
    wrapped = sealer.wrap("k", key, nonce)
    sealed = sealer.seal(sealer.unwrap("k", wrapped), data, nonce, purpose)
    again = Sealer(installation)
    assert again.open(again.unwrap("k", wrapped), sealed, purpose) == data


@given(keys, keys, nonces)
def test_a_key_opens_under_its_own_installation_and_its_own_id_alone(installation: bytes, key: bytes, nonce: bytes) -> None:
    wrapped = Sealer(installation).wrap("k", key, nonce)
    for sealer, key_id in ((Sealer(bytes(b ^ 1 for b in installation)), "k"), (Sealer(installation), "j")):
        with pytest.raises(BrokenSeal):
            sealer.unwrap(key_id, wrapped)


@given(st.binary(min_size=1), st.data())
def test_a_seal_that_was_changed_or_put_elsewhere_is_broken(data: bytes, draw: st.DataObject) -> None:
    sealer = Sealer(bytes(KEY_BYTES))
    key = sealer.unwrap("k", sealer.wrap("k", bytes(KEY_BYTES), bytes(NONCE_BYTES)))
    sealed = sealer.seal(key, data, bytes(NONCE_BYTES), "order 1")
    raw = bytearray(b64decode(sealed))
    raw[draw.draw(st.integers(0, len(raw) - 1))] ^= 1
    for text, purpose in ((sealed, "order 2"), (b64encode(raw).decode(), "order 1"), ("", "order 1"), ("not base64!", "order 1")):
        with pytest.raises(BrokenSeal):
            sealer.open(key, text, purpose)


def test_a_look_up_hash_needs_the_installations_key_and_tells_parts_apart() -> None:
    one, other = Sealer(bytes(KEY_BYTES)), Sealer(b"x" * KEY_BYTES)
    assert one.lookup("email", "a") == one.lookup("email", "a") != other.lookup("email", "a")
    assert one.lookup("customer", "a", "bc") != one.lookup("customer", "ab", "c")


def test_an_installations_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        Sealer(bytes(KEY_BYTES - 1))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Zoë Müller-Straße", ["zoe", "muller", "strasse"]),
        ("ZOE  MULLER", ["zoe", "muller"]),
        ("Quagmire & Sons, Quagmire", ["quagmire", "sons"]),
        ("O'Brien_2", ["o", "brien", "2"]),
        ("李 明", ["李", "明"]),
        ("Ｆｕｌｌ ﬁne", ["full", "fine"]),
        (" - ", list[str]()),
    ],
)
def test_names_are_compared_by_their_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words
    assert words_of(" ".join(words)) == words


@given(st.text())
def test_a_word_of_a_name_is_itself_one_word(name: str) -> None:
    for word in words_of(name):
        assert words_of(word) == [word]
