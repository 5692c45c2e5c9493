"""Networks on the Hugging Face Hub: files of `aff_jax.save`, by `hf://user/name`."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["FILE", "HubAddress", "download", "is_address", "parse_address", "upload"]

FILE = "model.safetensors"
"""The file of a repository that is meant where an address names none."""

SCHEME = "hf://"

ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^@/\s]+))?(?:/([^@\s]+\.safetensors))?")


@dataclasses.dataclass(frozen=True)
class HubAddress:
    """A file of a repository of models; `revision` is a branch, tag or commit, None the newest."""

    repo_id: str
    revision: str | None = None
    file: str = FILE


def is_address(path: object) -> bool:
    """Whether a path is meant for the hub."""
    return isinstance(path, str) and path.startswith(SCHEME)


def parse_address(text: str) -> HubAddress:
    """What `hf://user/name[@revision][/file.safetensors]` stands for.

    Raises:
        ValueError: the text is no such address.
    """
    match = ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(
            f"expected hf://USER/NAME, with @REVISION and /FILE.safetensors after it if need be, "
            f"got {text!r}. In a revision that is a path, write its slashes as %2F."
        )
    repo_id, revision, file = match.groups()
    return HubAddress(repo_id, revision and revision.replace("%2F", "/"), file or FILE)


def download(text: str) -> str:
    """The path of a local copy, which the hub's cache keeps for the next time.

    Raises:
        ValueError: the text is no address of the hub.
        ImportError: `huggingface_hub` is missing.
        OSError: there is no such repository, revision or file, it may not be read, or the hub
            cannot be reached.
    """
    address = parse_address(text)
    hub = _import_hub(text)
    with _explained(text):
        return str(hub.hf_hub_download(address.repo_id, address.file, revision=address.revision))


def upload(text: str, path: str, *, overwrite: bool) -> None:
    """Make the file at `path` that of the address, in a new repository where there is none.

    Raises:
        ValueError, ImportError, OSError: as `download`; or you may not write there.
        FileExistsError: the repository has that file, and not `overwrite`.
    """
    address = parse_address(text)
    hub = _import_hub(text)
    with _explained(text):
        api = hub.HfApi()
        if not api.repo_exists(address.repo_id):
            api.create_repo(address.repo_id, exist_ok=True)
        there = api.file_exists(address.repo_id, address.file, revision=address.revision)
        if there and not overwrite:
            raise FileExistsError(
                f"{text}: the repository has {address.file} already; name another, or overwrite "
                f"it with intent"
            )
        api.upload_file(
            path_or_fileobj=path,
            path_in_repo=address.file,
            repo_id=address.repo_id,
            revision=address.revision,
        )


def _import_hub(text: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"{text}: expected the package huggingface_hub: pip install huggingface_hub, or the "
            f"extra 'hub'."
        ) from error
    return huggingface_hub


@contextlib.contextmanager
def _explained(text: str) -> Iterator[None]:
    """The hub's errors as `OSError`s that say what to do."""
    from huggingface_hub import errors

    login = "run `hf auth login`, or set HF_TOKEN to a token that may do this"
    advice: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, f"access is granted on its page on the hub; then {login}"),
        (
            errors.RepositoryNotFoundError,
            f"no such repository, or a private one; check the name, or {login}",
        ),
        (errors.RevisionNotFoundError, "the repository has no such revision"),
        (errors.LocalEntryNotFoundError, "the hub cannot be reached, and there is no copy here"),
        (errors.EntryNotFoundError, "the repository has no such file; name it after a slash"),
        (errors.LocalTokenNotFoundError, login),
    )
    try:
        yield
    except FileExistsError:
        raise
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.LocalTokenNotFoundError) as e:
        why = next((words for kind, words in advice if isinstance(e, kind)), None)
        if why is None:
            code = getattr(getattr(e, "response", None), "status_code", None)
            why = login if code in (401, 403) else "the hub refused"
        raise OSError(f"{text}: {why}. ({type(e).__name__}: {str(e).strip()})") from e
    except Exception as e:
        # The client's own, whose package has changed its name between versions of the hub's.
        if not any(
            kind.__name__ in ("TransportError", "RequestException") for kind in type(e).__mro__
        ):
            raise
        raise OSError(f"{text}: the hub cannot be reached. ({type(e).__name__}: {e})") from e
