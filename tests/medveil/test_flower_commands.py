"""What a coordinator asks its SuperLink, by Flower's own client: nodes, runs, and refusals in our words."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from superlink_here import HERE, SuperLinkHere, superlink

from medveil.errors import FederationError
from medveil.fab import hash_of
from medveil.flower_commands import Commands, _reason, _Shown


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLinkHere]:
    with superlink(tmp_path_factory.mktemp("superlink")) as made:
        yield made


@pytest.fixture
def commands(link: SuperLinkHere) -> Iterator[Commands]:
    with Commands(f"{HERE}:{link.inner}", link.folder) as made:
        yield made


def public_key() -> str:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_a_node_is_let_in_listed_and_cut_off(commands: Commands) -> None:
    key = public_key()
    number = commands.register(key, "st-anna")
    (listed,) = [node for node in commands.nodes() if node.node == number]
    assert (listed.status, listed.online_since, listed.offline_since) == ("registered", "", "")
    with pytest.raises(FederationError, match=r"'register' failed: .*already in use"):
        commands.register(key, "mercy")
    commands.unregister(number)
    (listed,) = [node for node in commands.nodes() if node.node == number]
    assert listed.status == "unregistered"


def test_a_run_says_what_became_of_it(commands: Commands, link: SuperLinkHere) -> None:
    number = link.run()
    state = commands.run(number)
    assert not state.finished
    commands.stop(number)
    assert commands.run(number).status == "finished:stopped"
    assert commands.run(number).finished
    with pytest.raises(FederationError, match=r"'list' failed|knows no run"):
        commands.run(number + 1)


def test_no_other_app_is_begun(commands: Commands) -> None:
    content = b"PK another app"
    with pytest.raises(FederationError, match="'run' failed: this server runs the installed MedVeil, and no other app"):
        commands.begin(content, hash_of(content), {})


def test_without_the_secret_nothing_is_answered(link: SuperLinkHere, tmp_path: Path) -> None:
    with Commands(f"{HERE}:{link.inner}", tmp_path) as strange, pytest.raises(FederationError, match="'list' failed"):
        strange.nodes()


@pytest.mark.parametrize("text", ["", "[1, 2]", "flower.account-auth.x: 3", "a: b: c", "\x00", "%s: '%%%%'"])
def test_a_damaged_file_of_secrets_shows_none(link: SuperLinkHere, tmp_path: Path, text: str) -> None:
    (tmp_path / "credentials.yaml").write_text(text)
    with pytest.raises(Exception, match=r"credentials\.yaml|'list' failed") as raised:  # noqa: SIM117
        with Commands(f"{HERE}:{link.inner}", tmp_path) as strange:
            strange.nodes()
    assert raised.type.__module__ == "medveil.errors"


def test_no_proxy_is_asked_for_this_machine(link: SuperLinkHere, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Commands(f"{HERE}:{link.inner}", link.folder) as made:
        assert isinstance(made.nodes(), list)


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        address = f"{HERE}:{probe.getsockname()[1]}"
    with (
        Commands(address, tmp_path) as nobody,
        pytest.raises(FederationError, match="'list' failed: Connect") as caught,
    ):
        nobody.nodes()
    assert address in str(caught.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"detail": "no\\nway"}', "no way"),
        *((body, "status 418") for body in ("no way", "[]", '{"detail": "x" "x"', "[" * 60_000, '{"a":' * 60_000)),
    ],
)
def test_what_is_refused_is_said_in_one_line(body: str, says: str) -> None:
    import httpx  # noqa: PLC0415

    assert _reason(httpx.Response(418, text=body)) == says


def test_a_long_reason_is_cut() -> None:
    import httpx  # noqa: PLC0415

    assert len(_reason(httpx.Response(500, json={"detail": "x" * 10_000}))) == 300


def test_the_secret_is_shown_as_flowers_command_shows_it() -> None:
    import httpx  # noqa: PLC0415
    from flwr.supercore.protobuf.client import ProtobufRequestContext  # noqa: PLC0415

    seen: list[str] = []
    request = httpx.Request("POST", "http://127.0.0.1/")
    context = ProtobufRequestContext("list", None, request)  # type: ignore[arg-type]

    def send(given: ProtobufRequestContext) -> httpx.Response:
        seen.append(given.request.headers["authorization"])
        return httpx.Response(200)

    _Shown("x").intercept(context, send)
    assert seen == ["Bearer x"]
