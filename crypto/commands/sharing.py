"""The commands that bring a key to another site: recipient, share and open."""

from __future__ import annotations

import argparse

from crypto.commands.common import Commands, add_passphrase, advise, new_passphrase, show
from crypto.passphrase import read_passphrase
from medveil.cli import subcommand

_PROG = "medveil-crypto"


def add_recipient(commands: Commands) -> argparse.ArgumentParser:
    """Add `recipient`."""
    made = subcommand(
        commands,
        "recipient",
        text="Draw a key pair for receiving shared keys.",
        example=f"{_PROG} recipient --name county --out county.recipient",
    )
    made.description = f"{made.description} The private half is sealed; the public half is for who shares with you."
    made.add_argument("--name", metavar="NAME", required=True, help="name of the site that receives")
    made.add_argument("--out", metavar="FILE", required=True, help="file to write, and FILE.pub; never overwritten")
    add_passphrase(made)
    made.set_defaults(command=_recipient)
    return made


def _recipient(arguments: argparse.Namespace) -> int:
    from crypto.documents import check_free  # noqa: PLC0415 - a door opens fast
    from crypto.recipient import PUBLIC_SUFFIX, RecipientKey, save_recipient  # noqa: PLC0415

    key = RecipientKey.generate(arguments.name)
    for file in (arguments.out, arguments.out + PUBLIC_SUFFIX):
        check_free(file)
    public = save_recipient(arguments.out, key, read_passphrase(arguments.passphrase_file, confirm=True))
    show(
        {
            "file": arguments.out,
            "public": str(public),
            "name": key.public.name,
            "fingerprint": key.public.fingerprint,
        },
        as_json=arguments.json,
    )
    advise(f"Send {public} to who shares a key with you, and read them the fingerprint over another channel.")
    return 0


def add_share(commands: Commands) -> argparse.ArgumentParser:
    """Add `share`."""
    made = subcommand(
        commands,
        "share",
        text="Wrap a key to a recipient by HPKE (RFC 9180).",
        example=f"{_PROG} share --key consortium.key --to county.recipient.pub --out county.shared",
    )
    made.description = (
        f"{made.description} The recipient's fingerprint must be confirmed: by --fingerprint, as you have it over "
        "another channel than the file, or at the terminal."
    )
    made.add_argument("--key", metavar="FILE", required=True, help="key file to share from")
    made.add_argument("--to", metavar="FILE.pub", required=True, help="public half of the recipient")
    made.add_argument("--fingerprint", metavar="HEX", help="the recipient's fingerprint, 32 hex digits")
    made.add_argument("--with-retired", action="store_true", help="also share the keys that rotation retired")
    made.add_argument("--out", metavar="FILE", required=True, help="file to write; never overwritten")
    add_passphrase(made)
    made.set_defaults(command=_share)
    return made


def _share(arguments: argparse.Namespace) -> int:
    from crypto.documents import check_free  # noqa: PLC0415
    from crypto.fingerprints import confirm_fingerprint  # noqa: PLC0415
    from crypto.keyfile import inspect_key, load_keyring  # noqa: PLC0415
    from crypto.recipient import load_recipient  # noqa: PLC0415
    from crypto.sharing import share_keyring  # noqa: PLC0415

    check_free(arguments.out)
    inspect_key(arguments.key)
    to = load_recipient(arguments.to)
    whose = f"the recipient {to.name}"
    confirmed = confirm_fingerprint(to.fingerprint, arguments.fingerprint, whose=whose, source=to.name)
    ring = load_keyring(arguments.key, read_passphrase(arguments.passphrase_file))
    share_keyring(arguments.out, ring, to, confirmed, with_retired=arguments.with_retired)
    show(
        {
            "file": arguments.out,
            "name": to.name,
            "recipient": to.fingerprint,
            "fingerprint": ring.current.fingerprint,
            "retired": [key.fingerprint for key in ring.retired] if arguments.with_retired else [],
        },
        as_json=arguments.json,
    )
    advise(f"Read {to.name} the key's fingerprint {ring.current.fingerprint} over another channel.")
    if ring.retired and not arguments.with_retired:
        advise(
            "The retired keys stay here: what they hid does not open with what was shared; --with-retired adds them."
        )
    return 0


def add_open(commands: Commands) -> argparse.ArgumentParser:
    """Add `open`."""
    made = subcommand(
        commands,
        "open",
        text="Open a key that was shared with you, and seal it in a new key file.",
        example=f"{_PROG} open county.shared --recipient county.recipient --out consortium.key",
    )
    made.description = (
        f"{made.description} The shared key does not prove who sent it: its fingerprint must be confirmed, by "
        "--fingerprint, as you have it over another channel, or at the terminal."
    )
    made.add_argument("shared", metavar="SHARED", help="the shared key")
    made.add_argument("--recipient", metavar="FILE", required=True, help="your recipient file (not its .pub)")
    made.add_argument("--fingerprint", metavar="HEX", help="the fingerprint of the key you expect, 32 hex digits")
    made.add_argument(
        "--site", metavar="NAME", help="site that holds the key from now on; default: the recipient's name"
    )
    made.add_argument("--out", metavar="FILE", required=True, help="key file to write; never overwritten")
    add_passphrase(made)
    made.add_argument(
        "--new-passphrase-file",
        metavar="FILE",
        help="seal the key file with the passphrase in this file; without it, with the recipient's",
    )
    made.set_defaults(command=_open)
    return made


def _open(arguments: argparse.Namespace) -> int:
    from crypto.documents import check_free  # noqa: PLC0415
    from crypto.fingerprints import confirm_fingerprint  # noqa: PLC0415
    from crypto.keyfile import save_keyring  # noqa: PLC0415
    from crypto.keys import check_site  # noqa: PLC0415
    from crypto.recipient import inspect_recipient_key, load_recipient_key  # noqa: PLC0415
    from crypto.sharing import inspect_shared, open_shared  # noqa: PLC0415

    check_free(arguments.out)
    if arguments.site is not None:
        check_site(arguments.site)
    inspect_recipient_key(arguments.recipient)
    found = inspect_shared(arguments.shared)["fingerprint"]
    whose = f"the key in {arguments.shared}"
    confirmed = confirm_fingerprint(found, arguments.fingerprint, whose=whose, source="who shared it")
    passphrase = read_passphrase(arguments.passphrase_file)
    key = load_recipient_key(arguments.recipient, passphrase)
    ring = open_shared(arguments.shared, key, confirmed, site=arguments.site)
    save_keyring(arguments.out, ring, new_passphrase(arguments) or passphrase)
    show(
        {
            "file": arguments.out,
            "site": ring.current.site,
            "fingerprint": ring.current.fingerprint,
            "retired": [each.fingerprint for each in ring.retired],
        },
        as_json=arguments.json,
    )
    advise(f"The key file names {ring.current.site} as its site, which holds this copy; --site names another.")
    return 0
