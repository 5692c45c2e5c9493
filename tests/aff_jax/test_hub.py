"""Tests of the hub with the real huggingface_hub and a local server in place of the hub."""

import base64
import builtins
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import chex
import numpy as np
import pytest

import aff_jax
from aff_jax.hub import HubAddress, parse_address
from tests.aff_jax.random_variables import random_variables

X = np.float32(np.random.default_rng(0).standard_normal((2, 4, 4, 8)))
COMMIT = "0" * 39 + "1"


class Handler(BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that is needed; repositories have one revision, main."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content_Type"] = "application/json"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code):
        self.answer(404, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        repositories = self.server.repositories
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            if name not in repositories:
                return self.missing("RepoNotFound")
            return self.answer(200, {"id": name, "sha": COMMIT, "private": False})
        name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        if name not in repositories:
            return self.missing("RepoNotFound")
        if revision not in ("main", COMMIT):
            return self.missing("RevisionNotFound")
        if file not in repositories[name]:
            return self.missing("EntryNotFound")
        content = repositories[name][file]
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self.answer(200, content, X_Repo_Commit=COMMIT, ETag=etag)

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_secret":
            return self.answer(401, {"error": "Invalid credentials"})
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            sent = json.loads(body)
            name = f"{sent.get('organization') or 'user'}/{sent['name']}"
            self.server.repositories[name] = {}
            return self.answer(200, {"url": f"{self.server.url}/{name}"})
        name, action = "/".join(parts[2:4]), parts[4]
        if action == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[name][line["value"]["path"]] = content
        url = f"{self.server.url}/{name}/commit/{COMMIT}"
        return self.answer(200, {"success": True, "commitUrl": url, "commitOid": COMMIT})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Start a local hub and return its files, by repository and path."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.repositories = {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)  # HF_ENDPOINT is read on import
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield server.repositories
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def network():
    model = aff_jax.AFF(reduction=2, gain=2.0)
    return model, random_variables(model, X, X, dtype=np.float32)


def test_a_saved_network_is_loaded_from_the_hub(hub, network):
    model, variables = network
    aff_jax.save("hf://user/name", variables, model)
    assert list(hub["user/name"]) == ["model.safetensors"]
    for address in ("hf://user/name", "hf://user/name@main/model.safetensors"):
        loaded_model, loaded = aff_jax.load(address)
        assert loaded_model == model
        chex.assert_trees_all_equal(loaded, variables)

    aff_jax.save(
        "hf://user/name/more/half.safetensors", variables, aff_jax.AFF(reduction=2, gain=0.5)
    )
    assert aff_jax.load("hf://user/name/more/half.safetensors")[0].gain == 0.5
    assert aff_jax.load(f"hf://user/name@{COMMIT}")[0] == model


def test_a_file_on_the_hub_is_overwritten_only_on_request(hub, network):
    model, variables = network
    hub["user/name"] = {"model.safetensors": b"other content"}
    with pytest.raises(FileExistsError, match=r"already has model.safetensors"):
        aff_jax.save("hf://user/name", variables, model)
    assert hub["user/name"]["model.safetensors"] == b"other content"
    aff_jax.save("hf://user/name", variables, model, overwrite=True)
    assert aff_jax.load("hf://user/name")[0] == model


def test_missing_repositories_and_missing_access_raise_oserror(hub, network, monkeypatch):
    hub["user/name"] = {}
    for address, message in (
        ("hf://user/other", "the repository does not exist or is private.*hf auth login"),
        ("hf://user/name@v9", "the revision does not exist"),
        ("hf://user/name", "the file does not exist"),
    ):
        with pytest.raises(OSError, match=message):
            aff_jax.load(address)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(OSError, match=r"hf://user/new.*hf auth login"):
        aff_jax.save("hf://user/new", network[1], network[0])
    assert hub == {"user/name": {}}


def test_an_unreachable_hub_raises_oserror(hub, network, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's retries
    unreachable = "http://127.0.0.1:9"
    template = unreachable + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", unreachable)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(OSError, match=r"hf://user/name: the hub cannot be reached"):
        aff_jax.save("hf://user/name", network[1], network[0])
    with pytest.raises(OSError, match=r"hf://user/name: the hub cannot be reached"):
        aff_jax.load("hf://user/name")


def test_a_file_that_is_not_safetensors_is_refused(hub):
    hub["user/name"] = {"model.safetensors": b"no weights at all"}
    with pytest.raises(ValueError, match=r"not a readable .safetensors file"):
        aff_jax.load("hf://user/name")


def test_addresses():
    assert parse_address("hf://user/name") == HubAddress("user/name")
    assert parse_address("hf://u/n@refs%2Fpr%2F1/a/b.safetensors") == HubAddress(
        "u/n", "refs/pr/1", "a/b.safetensors"
    )
    for text in ("hf://name", "hf://user/name@", "hf://user/name/file.pth", "hf://u/n /x"):
        with pytest.raises(ValueError, match="expected hf://USER/NAME"):
            parse_address(text)
        with pytest.raises(ValueError, match="expected hf://USER/NAME"):
            aff_jax.save(text, {}, aff_jax.AFF())


def test_the_error_without_huggingface_hub_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def without_hub(name, *args, **kwargs):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_hub)
    with pytest.raises(ImportError, match=r"pip install huggingface_hub"):
        aff_jax.load("hf://user/name")
