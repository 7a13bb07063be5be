"""The inner door: commands show a secret, runs their own tokens, and of all apps the installed MedVeil is run."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import tomli_w
from flwr.proto.control_pb2 import ListNodesRequest, StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from google.protobuf.message import Message
from superlink_here import HERE, SuperLinkHere, superlink

from medveil.doors import CONTROL, RUNTIME
from medveil.environment import flower_environment
from medveil.flower_control import CONTROL_ASKED, CREDENTIALS, RUNTIME_ASKED, Control


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLinkHere]:
    with superlink(tmp_path_factory.mktemp("superlink")) as made:
        yield made


def ask(link: SuperLinkHere, path: str, request: Message, **headers: str) -> int:
    with httpx.Client(base_url=f"http://{HERE}:{link.inner}", timeout=20) as client:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = {"content-type": "application/protobuf"}
        return client.post(path, content=request.SerializeToString(), headers={**content, **given}).status_code


def test_a_command_shows_the_secret_of_the_servers_account(link: SuperLinkHere) -> None:
    path = "/v1/control/list-nodes"
    assert ask(link, path, ListNodesRequest()) == 401
    for wrong in ("Bearer", f"Bearer {'0' * 64}", f"Basic {link.secret}", f"Bearer {link.secret[:-1]}"):
        assert ask(link, path, ListNodesRequest(), authorization=wrong) == 401, wrong
    assert ask(link, path, ListNodesRequest(), authorization=f"Bearer {link.secret}") == 200
    for asked in sorted(CONTROL_ASKED):
        assert ask(link, CONTROL + asked, ListNodesRequest()) == 401, asked


def test_the_secrets_are_for_the_servers_account_alone(link: SuperLinkHere) -> None:
    for name in (CREDENTIALS, "superexec.secret"):
        assert (link.folder / name).stat().st_mode & 0o777 == 0o600, name


def test_flowers_own_command_finds_the_secret_where_it_looks(link: SuperLinkHere, tmp_path: Path) -> None:
    """Stock ``flwr`` with this home is let in, and one with another home is not: no patch of ours in between."""
    homes = {"own": link.folder, "other": tmp_path}
    codes = {}
    for name, home in homes.items():
        connection = {"veil": {"address": f"{HERE}:{link.inner}", "insecure": True}}
        (home / "config.toml").write_text(tomli_w.dumps({"superlink": {"default": "veil", **connection}}))
        command = ["flwr", "supernode", "list", "veil", "--format", "json"]
        done = subprocess.run(
            command, env=flower_environment(home), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        codes[name] = '"success": true' in done.stdout
    assert codes == {"own": True, "other": False}


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/control/start-automation", "/v1/control/add-app", "/v1/control/pull-artifacts", "/v1/control/x"),
        *("/v1/runtime/create-task", "/v1/runtime/responses", "/v1/fleet/pull-messages", "/docs", "/openapi.json", "/"),
        *("/v1/control/get-login-details", "/v1/control/refresh-auth-tokens"),
    ],
)
def test_what_a_consortium_does_not_need_is_not_served(link: SuperLinkHere, path: str) -> None:
    assert ask(link, path, ListNodesRequest(), authorization=f"Bearer {link.secret}") == 404


def test_no_other_app_is_run(link: SuperLinkHere) -> None:
    secret = f"Bearer {link.secret}"
    before = len(link.state.get_run_info())
    content = b"PK another app"
    other = Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)
    for request in (
        StartRunRequest(fab=other),
        StartRunRequest(),
        StartRunRequest(app_spec="@flwrlabs/quickstart"),
        StartRunRequest(fab=Fab(hash_str="0" * 64)),
    ):
        assert ask(link, "/v1/control/start-run", request, authorization=secret) == 403
    assert len(link.state.get_run_info()) == before


def test_the_installed_app_is_run_without_connectors() -> None:
    content = b"the app"
    handed: list[Any] = []
    handlers = SimpleNamespace(start_run=handed.append, list_runs="as it is")
    control = Control(handlers, lambda: hashlib.sha256(content).hexdigest())
    right = StartRunRequest(fab=Fab(content=content))
    control.start_run(right)
    assert handed == [right]
    assert control.list_runs == "as it is"
    for more in ({"connector_refs": ["x"]}, {"connector_ids": [1]}, {"app_spec": "@a/b"}):
        with pytest.raises(Exception, match="403"):
            control.start_run(StartRunRequest(fab=Fab(content=content), **more))


def test_the_work_of_a_run_is_for_whom_the_server_started(link: SuperLinkHere) -> None:
    run = link.run()
    for asked in sorted(RUNTIME_ASKED - {"acquire-task"}):
        assert ask(link, RUNTIME + asked, PushObjectRequest()) == 401, asked
        assert ask(link, RUNTIME + asked, PushObjectRequest(), flwr_task_token="0" * 64) == 401, asked
    assert run


@pytest.mark.parametrize("signed", [False, True])
def test_a_task_is_taken_by_the_superexec_alone(link: SuperLinkHere, *, signed: bool) -> None:
    """Flower leaves this open where it starts the SuperExec itself: any account could take a run's work, and be it."""
    for secret in (b"another" * 8, link.superexec) if signed else ():
        client = RuntimeHttpClient.from_server_address(
            server_address=f"{HERE}:{link.inner}",
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}
                ),
            ],
        )
        request = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
        if secret == link.superexec:
            client.AcquireTask(request)
        else:
            with pytest.raises(httpx.HTTPStatusError):
                client.AcquireTask(request)
    if not signed:
        assert ask(link, "/v1/runtime/acquire-task", AcquireTaskRequest()) == 401
        assert ask(link, "/v1/runtime/acquire-task", AcquireTaskRequest(supported_task_types=["x" * 10**5])) == 401
        assert any("without the secret of who does it" in each for each in link.said)


def test_health_is_all_that_a_stranger_sees(link: SuperLinkHere) -> None:
    assert httpx.get(f"http://{HERE}:{link.inner}/health").status_code == 200
    assert os.stat(link.database)
