# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates, tokens and kubeconfigs of one control plane, all of them gone with its temporary directory."""

import base64
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

_USERS = (
    ("admin", "system:masters"),
    ("system:kube-controller-manager", ""),
    ("system:kube-scheduler", ""),
    ("kwok", "system:masters"),
)

_SERVER_EXTENSIONS = """\
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where the files of one control plane lie, and the tokens of its users by name."""

    certificate_authority: Path
    server_certificate: Path
    server_key: Path
    service_account_key: Path
    service_account_public_key: Path
    token_file: Path
    tokens: dict[str, str]


def make_credentials(folder: Path) -> Credentials:
    """Make a certificate authority, a server certificate for loopback, a service-account key and static tokens."""
    folder.mkdir(mode=0o700)
    made = Credentials(
        certificate_authority=folder / "ca.crt",
        server_certificate=folder / "server.crt",
        server_key=folder / "server.key",
        service_account_key=folder / "service-account.key",
        service_account_public_key=folder / "service-account.pub",
        token_file=folder / "tokens.csv",
        tokens={user: secrets.token_hex(16) for user, _ in _USERS},
    )
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    authority_key, request, extensions = folder / "ca.key", folder / "server.csr", folder / "server.ext"
    extensions.write_text(_SERVER_EXTENSIONS, encoding="utf-8")
    _openssl("req", "-x509", *new_key, "-days", "30", "-subj", "/CN=embellie-testbed", "-keyout", authority_key,
             "-out", made.certificate_authority, "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _openssl("req", *new_key, "-subj", "/CN=kube-apiserver", "-keyout", made.server_key, "-out", request)
    _openssl("x509", "-req", "-in", request, "-CA", made.certificate_authority, "-CAkey", authority_key,
             "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", made.server_certificate)  # fmt: skip
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-out", made.service_account_key)  # fmt: skip
    _openssl("pkey", "-in", made.service_account_key, "-pubout", "-out", made.service_account_public_key)
    lines = (f'{made.tokens[user]},{user},{user},"{group}"' for user, group in _USERS)
    made.token_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def write_kubeconfig(
    path: Path, *, server: str, certificate_authority_pem: str, user: str, token: str, namespace: str = "default"
) -> Path:
    """Write a kubeconfig that needs no other file, readable by its owner only."""
    authority = base64.b64encode(certificate_authority_pem.encode()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user, "namespace": namespace}}],
        "current-context": "testbed",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _openssl(*arguments: str | Path) -> None:
    try:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError("`openssl` is needed to make the testbed's certificates, and is not on the PATH.") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"openssl {arguments[0]} failed: {error.stderr.strip()}") from None
