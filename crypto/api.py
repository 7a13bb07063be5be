"""A data steward's door from Python: keys, hidden files, and ciphers for arrays.

What `__all__` names is public: it stays as it is, and what changes of it is named in the changelog. Everything else of
``crypto`` may change at any time.

Nothing is printed unless ``quiet=False`` asks for it. Every error is a `medveil.errors.MedVeilError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crypto.base import Geometry, ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.documents import check_free
from crypto.files.recipe import REMOVED, Recipe
from crypto.keyfile import load_keyring, save_keyring
from crypto.keyring import Keyring
from crypto.keys import SimulatedKey, SiteKey
from crypto.tree.either import check_jobs, is_folder, refuse_other_key
from crypto.tree.paths import REPORT
from crypto.tree.plan import Plan
from crypto.tree.run import MakeCrew, Result, run_tree
from crypto.tree.said import said_of
from crypto.tree.single import run_file
from crypto.tree.verify import verify_file, verify_tree
from crypto.tree.workers import Alone, Workers
from medveil import plain
from medveil.called import typed
from medveil.log import unheard

__all__ = [
    "CipherConfig",
    "Done",
    "Geometry",
    "ImageCipher",
    "Keyring",
    "SimulatedKey",
    "SiteKey",
    "describe",
    "hide",
    "make_cipher",
    "new_key",
    "open_keys",
    "show",
    "verify",
]
unheard()


@dataclass(frozen=True, kw_only=True)
class Done:
    """What hiding, showing or checking files came to.

    Attributes
    ----------
    target : Path
        The file or folder that was written; of a check the one that was looked at.
    files, before, passed_over : int
        Files done now, done by an earlier call, and passed over because they are no images.
    failures : int
        Files that failed.
    failed : dict
        What was wrong, by name, of the first that failed; the report has all.
    warnings : list of str
        What a person should look at, of the first files there is something to say of.
    report : Path or None
        Of a folder, the file that names everything.
    """

    target: Path
    files: int = 0
    before: int = 0
    passed_over: int = 0
    failures: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    report: Path | None = None


@typed
def new_key(site: str, file: str | Path, passphrase: str) -> Keyring:
    """Draw a fresh key and seal it in a new file.

    Without this file or without its passphrase nothing hidden under the key can be shown again.

    Parameters
    ----------
    site
        Name of the site that holds the key.
    file
        The key file; one that is there is never overwritten.
    passphrase
        What it is sealed with (scrypt and AES-256-GCM).

    Raises
    ------
    KeyMaterialError
        The passphrase is too short, or the site's name cannot be.
    StorageError
        There is such a file, or the disk refuses.
    """
    check_free(file)
    made = Keyring(SiteKey.generate(site))
    save_keyring(file, made, passphrase)
    return made


@typed
def open_keys(file: str | Path, passphrase: str) -> Keyring:
    """Open a key file: the current key, which hides, and those that rotation retired.

    Raises
    ------
    KeyMaterialError
        The passphrase is wrong.
    StorageError, FormatError, IntegrityError
        There is no such file, it is of another format or newer, or damaged.
    """
    return load_keyring(file, passphrase)


@typed
def hide(
    source: str | Path,
    target: str | Path,
    *,
    keys: Keyring,
    purpose: str,
    size: int | None = None,
    channels: int | None = None,
    window: tuple[float, float] | None = None,
    cipher: CipherConfig | None = None,
    seal: bool = False,
    identity: str = REMOVED,
    keep: Sequence[str] = (),
    safe_private: Sequence[str] = (),
    force: bool = False,
    jobs: int = 1,
    quiet: bool = True,
) -> Done:
    """Hide a file, or every image of a folder. A call over a folder that was interrupted goes on when repeated.

    Parameters
    ----------
    source, target
        DICOM, PNG, TIFF, JPEG or BMP, or a folder of them; and what to write.
    keys
        The site's; the current one hides.
    purpose
        ``"training"``: 8 bit, windowed and resized, to be trained on while hidden. ``"archive"``: every stored bit.
    size
        Side of a training image in pixels, a multiple of the cipher's block.
    channels
        Of a training image: 1 or 3; None for those of the file.
    window
        Centre and width for grey training images, in the units after rescaling; None for the file's own.
    cipher
        Scheme, block and negation; None for the defaults.
    seal
        Archives only: AES-256-GCM around each hidden file, for confidentiality in place of learnability.
    identity
        What becomes of attributes that say who was seen: ``"removed"``, ``"sealed"`` or ``"kept"``.
    keep, safe_private
        DICOM attributes to leave as they are, by keyword, and private ones as ``"CREATOR:GGGG,EE"``.
    force
        Whether files that are there may be replaced.
    jobs
        Processes side by side; with 1 everything is done in this one. With more, a script needs
        ``if __name__ == "__main__":``, as of `multiprocessing`.
    quiet
        False shows progress on a terminal.

    Returns
    -------
    Done
        Also where files of a folder failed: they are counted and named.

    Raises
    ------
    ConfigError
        A setting cannot be, or the target was begun with others.
    DataError
        The one file is no image, or of a sort that is refused.
    StorageError
        There is no source, a file is in the way, or the disk refuses.
    """
    recipe = Recipe(
        purpose=purpose,
        cipher=cipher or CipherConfig(),
        size=size,
        channels=channels,
        window=window,
        seal=seal,
        identity=identity,
        keep=tuple(keep),
        safe_private=tuple(safe_private),
    )
    asked = Plan(source=Path(source), target=Path(target), recipe=recipe, force=force, jobs=jobs)
    return _carried_out(asked, keys, quiet=quiet)


@typed
def show(
    source: str | Path,
    target: str | Path,
    *,
    keys: Keyring,
    renamed: bool = False,
    force: bool = False,
    jobs: int = 1,
    quiet: bool = True,
) -> Done:
    """Show a hidden file, or a folder of them, again; each is checked before it is decrypted.

    Parameters
    ----------
    source, target
        Hidden file or folder, and what to write, readable by its owner alone.
    keys
        The site's, retired ones included.
    renamed
        Whether to take files that were hidden under other names than they have now, and say each.
    force, jobs, quiet
        As for `hide`.

    Returns
    -------
    Done
        As of `hide`.

    Raises
    ------
    KeyMaterialError
        The file, or every file of the folder, was hidden under another key.
    IntegrityError
        The one file, or the folder's manifest, was changed.
    DataError, FormatError, StorageError
        As for `hide`.
    """
    asked = Plan(source=Path(source), target=Path(target), force=force, jobs=jobs, renamed=renamed)
    return _carried_out(asked, keys, quiet=quiet)


@typed
def verify(source: str | Path, *, keys: Keyring, jobs: int = 1, quiet: bool = True) -> Done:
    """Check a hidden file, or a folder against its manifest: missing, added, changed, renamed files are failures.

    Nothing is decrypted or written.

    Raises
    ------
    KeyMaterialError
        It was written under a key that is none of these.
    IntegrityError
        The one file was changed, or the folder has no manifest or one that was changed.
    FormatError, StorageError
        It is no hidden file, or there is none.
    """
    check_jobs(jobs)
    path = Path(source)
    if not is_folder(path):
        verify_file(path, keys)
        return Done(target=path, files=1)
    result = verify_tree(path, keys, jobs=jobs, crew=_crew(jobs), console=_console(quiet))
    refuse_other_key(path, result)
    return _done(path, result, report=None)


@typed
def describe(file: str | Path) -> dict[str, Any]:
    """What a hidden file says openly of itself: kind, purpose, scheme, shape and fingerprint. No key is needed.

    Nothing of it is proven before `verify`.

    Raises
    ------
    FormatError
        It is a folder, or no hidden file.
    StorageError, DataError
        It cannot be read.
    """
    return said_of(Path(file))


def _carried_out(asked: Plan, keys: Keyring, *, quiet: bool) -> Done:
    check_jobs(asked.jobs)
    if is_folder(asked.source):
        result = run_tree(asked, keys, crew=_crew(asked.jobs), console=_console(quiet))
        refuse_other_key(asked.source, result)
        return _done(asked.target, result, report=asked.target / REPORT)
    written, outcome = run_file(asked, keys)
    return Done(target=written, files=1, warnings=list(outcome.report.warnings))


def _done(target: Path, result: Result, *, report: Path | None) -> Done:
    summary = result.summary
    return Done(
        target=target,
        files=summary.done,
        before=summary.already,
        passed_over=summary.skipped,
        failures=summary.failed,
        failed=dict(result.failed),
        warnings=[f"{name}: {text}" for name, text in result.warned],
        report=report,
    )


def _crew(jobs: int) -> MakeCrew:
    return Alone if jobs == 1 else Workers


def _console(quiet: bool) -> Any:
    return plain.nobody() if quiet else plain.stderr_console()
