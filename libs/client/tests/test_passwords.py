"""Passwords that are made."""

import os

from oms_client.passwords import make_password


def test_a_password_has_128_random_bits_in_a_form_to_be_read_out() -> None:
    assert make_password(bytes) == "aaaaa-aaaaa-aaaaa-aaaaa-aaaaa-a"
    assert len({make_password(os.urandom) for _ in range(100)}) == 100
