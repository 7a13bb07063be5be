"""What one `medveil-crypto encrypt` does to every file it meets."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto.config import CipherConfig, resolve
from medveil.errors import ConfigError

TRAINING = "training"
ARCHIVE = "archive"
PURPOSES = (TRAINING, ARCHIVE)

REMOVED = "removed"
SEALED = "sealed"
KEPT = "kept"
IDENTITIES = (REMOVED, SEALED, KEPT)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How files are hidden. Plain data: it crosses to worker processes and is written into manifests.

    Parameters
    ----------
    purpose
        ``"training"``: windowed to 8 bit and resized to `size` x `size` before hiding, because neither commutes with
        the cipher. ``"archive"``: the stored samples at full depth, which decrypt bit for bit.
    cipher
        Scheme, block and negation (resolved: no preset).
    size
        Side of a training image in pixels, a multiple of the block; None for archives.
    channels
        Channels of a training image: 1, 3, or None for those of the file.
    window
        Centre and width for grey training images, in the units after rescaling; None for the file's own.
    seal
        Archives only: AES-256-GCM around the hidden file.
    identity
        What becomes of the attributes that PS3.15 Annex E names: ``"removed"`` (de-identified for good), ``"sealed"``
        (de-identified, the originals sealed in the file under the key) or ``"kept"`` (left in the clear).
    keep
        Keywords of attributes that de-identification leaves as they are.
    safe_private
        Private attributes to keep, as ``"CREATOR:GGGG,EE"``.
    """

    purpose: str
    cipher: CipherConfig = field(default_factory=CipherConfig)
    size: int | None = None
    channels: int | None = None
    window: tuple[float, float] | None = None
    seal: bool = False
    identity: str = REMOVED
    keep: tuple[str, ...] = ()
    safe_private: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cipher", resolve(self.cipher))
        self._check_scheme()
        if self.purpose not in PURPOSES:
            raise ConfigError(f"'{self.purpose}' is no purpose", where="--for", cure=f"one of {', '.join(PURPOSES)}")
        if self.identity not in IDENTITIES:
            cure = f"one of {', '.join(IDENTITIES)}"
            raise ConfigError(f"'{self.identity}' is not known", where="--identity", cure=cure)
        if self.purpose == ARCHIVE:
            self._check_archive()
        else:
            self._check_training()

    @property
    def preparation(self) -> int:
        """The way images are prepared before they are hidden, for their headers; 0 for archives, which are not."""
        from crypto.imaging.preprocess import VERSION  # noqa: PLC0415 - the commands read this file and open fast

        return VERSION if self.purpose == TRAINING else 0

    def _check_scheme(self) -> None:
        from crypto.cipher import own_scheme  # noqa: PLC0415 - the commands read this file and open fast

        scheme = own_scheme(self.cipher.scheme)
        if not scheme.needs_key:
            cure = "choose a cipher, or copy the files"
            raise ConfigError(f"'{scheme.scheme}' hides nothing", where="--scheme", cure=cure)
        if scheme.target:
            problem = f"'{scheme.scheme}' is a target for attacks, broken by all of them"
            raise ConfigError(problem, where="--scheme", cure="choose block-pixel")
        if self.purpose == TRAINING and scheme.per_image:
            problem = f"'{scheme.scheme}' hides each image in its own way: nothing is left to learn"
            raise ConfigError(problem, where="--scheme", cure="hide it for an archive, or choose block-pixel")

    def _check_archive(self) -> None:
        for option, value in (("--size", self.size), ("--channels", self.channels), ("--window", self.window)):
            if value is not None:
                cure = "leave it out: an archive keeps what is stored"
                raise ConfigError(f"{option} is for training files", where="--for archive", cure=cure)

    def _check_training(self) -> None:
        if self.seal:
            cure = "hide it for an archive: a sealed file cannot be trained on"
            raise ConfigError("--seal is for archives", where="--for training", cure=cure)
        if self.size is None or self.size < 1 or self.size % self.cipher.block:
            cure = f"a multiple of the block {self.cipher.block}, for example {14 * self.cipher.block}"
            raise ConfigError(f"'{self.size}' is no size", where="--size", cure=cure)
        if self.channels not in {None, 1, 3}:
            raise ConfigError(f"'{self.channels}' channels", where="--channels", cure="1 or 3")
        if self.window is not None and not self.window[1] > 0:
            raise ConfigError(f"a width of {self.window[1]}", where="--window", cure="centre and a width above 0")
