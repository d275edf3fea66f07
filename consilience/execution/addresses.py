"""Address and certificates of a Dask cluster. Imports nothing, since settings are read first."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Certificates for TLS: three PEM files.

    Attributes
    ----------
    ca_file : certificates of the authorities that sign the certificates of the scheduler and its workers
    cert_file, key_file : certificate of this process, and its key
    """

    ca_file: Path
    cert_file: Path
    key_file: Path


@dataclass(frozen=True)
class ClusterAddress:
    """Address of a Dask scheduler.

    Attributes
    ----------
    url : ``tls://host:port``, or ``tcp://127.0.0.1:port`` on this machine
    certificate : required for ``tls://``
    """

    url: str
    certificate: Certificate | None = None
