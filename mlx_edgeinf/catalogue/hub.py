"""What the hub says of a model, and the files of it that mlx-lm needs.

Asked only when somebody wants to download: a list on show asks nobody. The hub's own library
starts a large file anew after a break (huggingface-hub 2.4 keeps no part of one), so files are
fetched here, with its session, its addresses and its token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from httpx2 import HTTPError
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from .refusal import ModelRefused

# What mlx-lm loads, but for Python code, which no model here needs; and what the licence asks for.
WANTED = ["*.json", "model*.safetensors", "tokenizer.model", "*.txt", "*.jinja", "LICENSE*", "README.md"]
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class RemoteFile:
    """A file of a model. sha256: of its content, where the hub knows it."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class RemoteModel:
    """A model of the hub at one revision."""

    repo: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(file.size for file in self.files)


def remote_model(repo: str) -> RemoteModel:
    """Ask the hub.

    Raises:
        ModelRefused: there is no such model, it is not open to everybody, or the hub does not answer.
    """
    with hub_sentences(repo):
        info = HfApi().model_info(repo, files_metadata=True, timeout=ANSWER_SECONDS)
    siblings = {each.rfilename: each for each in info.siblings or ()}
    # mlx-lm's models are flat; so no name leads out of the folder either.
    flat = sorted(name for name in siblings if "/" not in name)
    wanted = filter_repo_objects(flat, allow_patterns=WANTED)
    files = tuple(
        RemoteFile(name, siblings[name].size or 0, siblings[name].lfs and siblings[name].lfs.sha256)
        for name in wanted
    )
    if not any(file.name.endswith(".safetensors") for file in files):
        raise ModelRefused(f"{repo} has no weights that mlx-lm loads: choose one of mlx-community's models.")
    return RemoteModel(repo, info.sha, files)


@contextmanager
def hub_sentences(repo: str) -> Iterator[None]:
    """Errors of the hub and of the way to it, each as one sentence.

    Raises:
        ModelRefused: in place of any of them.
    """
    try:
        yield
    except GatedRepoError as error:
        raise ModelRefused(
            f"{repo} is given only to those who accept its terms: accept them on "
            f"{constants.ENDPOINT}/{repo}, run `hf auth login`, and download it again."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelRefused(f"The hub has no model called {repo}: check how it is spelt.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise ModelRefused(f"The hub refused {repo} (HTTP {status}): try again later.") from error
    except (HTTPError, ConnectionError) as error:
        raise ModelRefused(
            f"The hub could not be reached for {repo}: check the network and try again; what was downloaded "
            "before is kept."
        ) from error
