"""The certificates of a stack: kept while they are valid, renewed in time, and closed to other users."""

import stat
import subprocess
from pathlib import Path

import pytest
from oms_provision import certificates
from oms_provision.certificates import AUTHORITY_DAYS, CERTIFICATE_DAYS, load_or_issue, load_or_make_authority
from oms_provision.errors import ProvisionError

DAY_SECONDS = 24 * 3600


def is_signed_by(authority: Path, certificate: Path) -> bool:
    return subprocess.run(["openssl", "verify", "-CAfile", authority, certificate], check=False, capture_output=True).returncode == 0


def test_a_certificate_is_kept_until_shortly_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = load_or_make_authority(tmp_path)
    made = load_or_issue(authority, "kafka", ("localhost",))
    first, signer = made.certificate.read_text(), authority.certificate.read_text()
    load_or_issue(load_or_make_authority(tmp_path), "kafka", ("localhost",))
    assert (made.certificate.read_text(), authority.certificate.read_text()) == (first, signer)

    monkeypatch.setattr(certificates, "RENEWAL_SECONDS", (CERTIFICATE_DAYS + 1) * DAY_SECONDS)
    load_or_issue(load_or_make_authority(tmp_path), "kafka", ("localhost",))
    assert authority.certificate.read_text() == signer
    assert made.certificate.read_text() != first
    assert is_signed_by(authority.certificate, made.certificate)


def test_a_new_authority_signs_every_certificate_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load_or_issue(load_or_make_authority(tmp_path), "kafka", ("localhost",))
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "RENEWAL_SECONDS", (AUTHORITY_DAYS + 1) * DAY_SECONDS)
        authority = load_or_make_authority(tmp_path)
    load_or_issue(authority, "kafka", ("localhost",))
    assert is_signed_by(authority.certificate, made.certificate)


def test_private_keys_are_closed_to_others_and_nothing_else_is_left(tmp_path: Path) -> None:
    load_or_issue(load_or_make_authority(tmp_path), "kafka", ("localhost",))
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {
        "ca.pem": 0o644,
        "ca.key": 0o600,
        "kafka.pem": 0o644,
        "kafka.key": 0o600,
    }


def test_a_machine_without_openssl_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProvisionError, match=r"the program openssl, .* Install it"):
        load_or_make_authority(tmp_path)
