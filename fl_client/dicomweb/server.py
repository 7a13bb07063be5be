"""Which DICOMweb server, and how to be let in: a YAML file in which no secret stands, only where one lies."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from crypto.passphrase import CREDENTIALS
from medveil.config import check_setting, load_config
from medveil.errors import ConfigError, KeyMaterialError
from medveil.files import storage_error

CREDENTIAL = "credential:"
"""What stands before the name of a systemd credential (systemd.exec(5), LoadCredential=)."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MIB, GIB = 2**20, 2**30
MOST = 200_000
"""Instances of one query at the very most: the sealed list of what was pulled is read whole."""
_LONGEST_SECRET = 2**16
_FROM = f"the name of a file, or '{CREDENTIAL}NAME'"


@dataclass
class ServerConfig:
    """A DICOMweb server. Paths count from this file's folder; a secret is in a file or a credential, never here."""

    url: str = field(default="", metadata={"help": "Where its services begin: https://pacs.example/dicom-web."})
    ca: str | None = field(default=None, metadata={"help": "PEM file of the only authority trusted; null: certifi's."})
    token: str | None = field(
        default=None, metadata={"help": "Where the bearer token lies: a file, or credential:NAME of systemd."}
    )
    login: str | None = field(
        default=None, metadata={"help": "Where 'user:password' lies, for HTTP Basic: a file, or credential:NAME."}
    )
    certificate: str | None = field(
        default=None, metadata={"help": "Client certificate, PEM: a file, or credential:NAME."}
    )
    certificate_key: str | None = field(
        default=None, metadata={"help": "Its private key, PEM without a passphrase; null: in the same file."}
    )
    rate: float = field(default=10.0, metadata={"help": "Most requests a second."})
    page: int = field(default=500, metadata={"help": "Most instances asked for in one answer to a query."})
    timeout: float = field(default=60.0, metadata={"help": "Seconds to wait for an answer, and for each piece of it."})
    patience: float = field(
        default=120.0, metadata={"help": "Seconds a request is tried again for while the server is away or overloaded."}
    )
    most_instances: int = field(default=50_000, metadata={"help": f"Most instances a query may find, up to {MOST}."})
    most_megabytes: float = field(default=512.0, metadata={"help": "Most megabytes of one instance."})
    most_gigabytes: float = field(default=100.0, metadata={"help": "Most gigabytes of all instances of a query."})

    def check(self, *, where: str | Path) -> None:
        """Refuse what could not be asked, or not safely (ConfigError)."""
        parts = _parts(self.url)
        right = parts is not None and parts.scheme in {"http", "https"} and bool(parts.hostname)
        cure = "https://HOST[:PORT]/PATH, without a login, a '?' or a '#'"
        if not right or parts is None or parts.username is not None or parts.query or parts.fragment:
            # It may hold a password, which no error shows.
            raise ConfigError("'url' is no address of a server", where=where, cure=cure)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            cure = "https://, by a proxy in front of the server if it speaks no TLS"
            raise ConfigError(
                "'url' is http:// to another machine: images would cross in clear", where=where, cure=cure
            )
        if self.token is not None and self.login is not None:
            raise ConfigError("has a 'token' and a 'login'", where=where, cure="keep the one the server asks for")
        if self.certificate_key is not None and self.certificate is None:
            raise ConfigError("has a 'certificate_key' and no 'certificate'", where=where, cure="name the certificate")
        for name, least, most in (
            ("rate", 0.01, 1000.0),
            ("page", 1, 10_000),
            ("timeout", 0.1, 3600.0),
            ("patience", 0.0, 86_400.0),
            ("most_instances", 1, MOST),
            ("most_megabytes", 0.001, 16_384.0),
            ("most_gigabytes", 0.001, 1_000_000.0),
        ):
            value = getattr(self, name)
            check_setting(least <= value <= most, name, value, f"{least} to {most}", where)


@dataclass(frozen=True)
class Server:
    """A server's file, read and checked."""

    config: ServerConfig
    file: Path

    @property
    def url(self) -> str:
        """Where its services begin, without a slash at the end."""
        return self.config.url.rstrip("/")

    def path(self, named: str) -> Path:
        """The file a setting names: a credential's, or one that counts from the server's file (ConfigError)."""
        if not named.startswith(CREDENTIAL):
            return (self.file.parent / Path(named).expanduser()).resolve()
        name, folder = named.removeprefix(CREDENTIAL), os.environ.get(CREDENTIALS)
        if not name or name != Path(name).name or name in {".", ".."}:
            raise ConfigError("a credential's name is no name", where=self.file, cure=f"{CREDENTIAL}NAME")
        if not folder:
            cure = "LoadCredential= in the unit, or the name of a file"
            raise ConfigError("names a credential, and systemd gave this process none", where=self.file, cure=cure)
        return Path(folder) / name

    def secret(self, setting: str) -> str:
        """What lies in the file that a setting names, one line of ASCII; no error shows it, nor the setting's value.

        Raises
        ------
        ConfigError
            There is no such file.
        KeyMaterialError
            Others may read it, or it is empty, too long, or of several lines.
        StorageError
            It cannot be read.
        """
        named = str(getattr(self.config, setting))
        path, where = self.path(named), f"{self.file}: '{setting}'"
        try:
            with open(path, "rb") as stream:
                mode, data = os.fstat(stream.fileno()).st_mode, stream.read(_LONGEST_SECRET + 1)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            # It may be the secret itself, written where its file's name belongs.
            raise ConfigError("names no file that is there", where=where, cure=_FROM) from None
        except OSError as error:
            raise storage_error(error, where, "read the file") from None
        self.refuse_open(setting, mode)
        text = data.decode("ascii", "replace").removesuffix("\n").removesuffix("\r")
        if not text or len(data) > _LONGEST_SECRET or not text.isascii() or not text.isprintable():
            raise KeyMaterialError(
                "names a file that holds no secret", where=where, cure="one line of ASCII, and alone"
            )
        return text

    def refuse_open(self, setting: str, mode: int) -> None:
        """Refuse a file of this mode that others may open; a credential's mode is systemd's (KeyMaterialError)."""
        if not str(getattr(self.config, setting)).startswith(CREDENTIAL) and mode & (stat.S_IRWXG | stat.S_IRWXO):
            where = f"{self.file}: '{setting}'"
            raise KeyMaterialError("names a file that others than its owner may open", where=where, cure="chmod 600 it")


def read_server(file: Path) -> Server:
    """Read a server's file.

    Raises
    ------
    ConfigError
        There is none, or it says what no server is; no value of it is shown.
    """
    if not file.is_file():
        raise ConfigError("no such file", where=file, cure="a YAML file with the server's 'url'")
    config = load_config(ServerConfig, file)
    config.check(where=file)
    return Server(config, file)


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        # A port that is no number raises where it is asked for.
        _ = parts.port
    except ValueError:
        return None
    return parts
