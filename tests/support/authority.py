"""A certificate authority for tests, made with the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, both PEM files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates for servers and clients."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.cert, self._key = directory / "ca.pem", directory / "ca.key"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", self._key, "-out", self.cert),
        )

    def issue(self, name: str, alternative: str = "", *, days: int = 2, password: str = "") -> Certificate:
        """A certificate for the common name; a negative number of days means that it expired.

        Args:
            name: common name.
            alternative: as of subjectAltName, for servers.
            days: of validity from now.
            password: protects the key.
        """
        stem = self._directory / f"{name}{days}{len(password)}"
        key, request, cert = (stem.with_suffix(suffix) for suffix in (".key", ".csr", ".pem"))
        protection = ["-passout", f"pass:{password}"] if password else ["-nodes"]
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
            *(*protection, "-keyout", key, "-out", request),
        )
        extensions = stem.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={alternative}\n" if alternative else "basicConstraints=CA:FALSE\n")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", str(days), "-extfile", extensions, "-out", cert),
        )
        for path in (key, cert):
            path.chmod(0o644)
        return Certificate(cert, key)
