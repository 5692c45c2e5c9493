"""Download from and upload to the Hugging Face Hub, with addresses such as `hf://user/name`."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["FILE", "HubAddress", "download", "is_address", "parse_address", "upload"]

FILE = "model.safetensors"
"""File of a repository if the address names none."""

_SCHEME = "hf://"

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^@/\s]+))?(?:/([^@\s]+\.safetensors))?")


@dataclasses.dataclass(frozen=True)
class HubAddress:
    """A file in a model repository.

    Attributes:
        repo_id: Repository, `user/name`.
        revision: Branch, tag or commit. None is the latest commit of the default branch.
        file: Path of the file in the repository.
    """

    repo_id: str
    revision: str | None = None
    file: str = FILE


def is_address(path: object) -> bool:
    """Return whether a path is an address of the hub, which starts with `hf://`.

    Args:
        path: A path of any type, such as `str` or `pathlib.Path`.

    Returns:
        True for an address.
    """
    return isinstance(path, str) and path.startswith(_SCHEME)


def parse_address(text: str) -> HubAddress:
    """Parse an address `hf://user/name[@revision][/file.safetensors]`.

    Args:
        text: The address. Slashes in a revision are written as `%2F`.

    Returns:
        The file that the address names.

    Raises:
        ValueError: If the text is not such an address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(
            f"expected hf://USER/NAME, optionally followed by @REVISION and /FILE.safetensors, "
            f"got {text!r}. Write slashes in a revision as %2F."
        )
    repo_id, revision, file = match.groups()
    return HubAddress(repo_id, revision and revision.replace("%2F", "/"), file or FILE)


def download(text: str) -> str:
    """Download a file into the cache of the hub's client.

    Args:
        text: Address, as in `parse_address`.

    Returns:
        Path of the local file.

    Raises:
        ValueError: If the text is not an address of the hub.
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the repository, revision or file does not exist, if you have no read access, or
            if the hub cannot be reached.
    """
    address = parse_address(text)
    hub = _import_hub(text)
    with _translate_errors(text):
        return str(hub.hf_hub_download(address.repo_id, address.file, revision=address.revision))


def upload(text: str, path: str, *, overwrite: bool) -> None:
    """Upload a file, and create the repository if it does not exist.

    Args:
        text: Address, as in `parse_address`.
        path: Path of the local file.
        overwrite: Replace an existing file of the repository.

    Raises:
        ValueError: If the text is not an address of the hub.
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the revision does not exist, if you have no write access, or if the hub cannot
            be reached.
        FileExistsError: If the repository has that file and `overwrite` is False.
    """
    address = parse_address(text)
    hub = _import_hub(text)
    with _translate_errors(text):
        api = hub.HfApi()
        if not api.repo_exists(address.repo_id):
            api.create_repo(address.repo_id, exist_ok=True)
        exists = api.file_exists(address.repo_id, address.file, revision=address.revision)
        if exists and not overwrite:
            raise FileExistsError(
                f"{text}: the repository already has {address.file}; choose another file, or pass "
                f"overwrite=True"
            )
        api.upload_file(
            path_or_fileobj=path,
            path_in_repo=address.file,
            repo_id=address.repo_id,
            revision=address.revision,
        )


def _import_hub(text: str) -> Any:
    """Import the hub's client, which is an optional dependency."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"{text}: expected the package huggingface_hub: pip install huggingface_hub, or "
            f"install the extra 'hub'."
        ) from error
    return huggingface_hub


@contextlib.contextmanager
def _translate_errors(text: str) -> Iterator[None]:
    """Raise the errors of the hub's client as `OSError` with advice."""
    from huggingface_hub import errors

    login = "run `hf auth login`, or set HF_TOKEN to a token with access"
    advice: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, f"request access on its page on the hub, then {login}"),
        (
            errors.RepositoryNotFoundError,
            f"the repository does not exist or is private; check the name, or {login}",
        ),
        (errors.RevisionNotFoundError, "the revision does not exist"),
        (errors.LocalEntryNotFoundError, "the hub cannot be reached, and no copy is cached"),
        (errors.EntryNotFoundError, "the file does not exist; name another after a slash"),
        (errors.LocalTokenNotFoundError, login),
    )
    try:
        yield
    except FileExistsError:
        raise
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.LocalTokenNotFoundError) as e:
        why = next((text for error, text in advice if isinstance(e, error)), None)
        if why is None:
            code = getattr(getattr(e, "response", None), "status_code", None)
            why = login if code in (401, 403) else "the hub refused the request"
        raise OSError(f"{text}: {why}. ({type(e).__name__}: {str(e).strip()})") from e
    except Exception as e:
        # Versions of huggingface_hub use different HTTP clients (requests, httpx, httpx2), so
        # compare the names of their error classes.
        if not any(
            cls.__name__ in ("TransportError", "RequestException") for cls in type(e).__mro__
        ):
            raise
        raise OSError(f"{text}: the hub cannot be reached. ({type(e).__name__}: {e})") from e
