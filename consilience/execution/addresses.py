"""Where a cluster is, and what a process shows to be let in. Imports nothing: settings are read first of all."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Who we are, and who is trusted: three files in PEM form.

    Attributes
    ----------
    ca_file : certificates of those who may vouch for the scheduler and its workers
    cert_file, key_file : our own certificate and its key
    """

    ca_file: Path
    cert_file: Path
    key_file: Path


@dataclass(frozen=True)
class ClusterAddress:
    """The address of a Dask scheduler.

    Attributes
    ----------
    url : ``tls://host:port``, or ``tcp://127.0.0.1:port`` on this machine
    certificate : needed for ``tls://``
    """

    url: str
    certificate: Certificate | None = None
