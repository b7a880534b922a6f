"""A server of S3's protocol on this machine, with a bucket; it forgets everything when it ends."""

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from xml.etree import ElementTree

from tests.crash.servers import Server
from tests.ports import free_port

BUCKET = "studies"
SECRET = "8c5f0e63d5b14f0e"  # a secret access key; the server takes any


@dataclass(frozen=True)
class Buckets:
    """The server, and its bucket as it is seen from outside."""

    address: str

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "study",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def keys(self, prefix: str = "") -> list[str]:
        """The names of the bucket's objects below a prefix; far fewer than a server lists at once."""
        with urllib.request.urlopen(f"{self.address}/{BUCKET}?list-type=2&prefix={prefix}", timeout=60) as answer:
            tree = ElementTree.fromstring(answer.read())
        return sorted(str(each.text) for each in tree.iter() if each.tag.endswith("}Key"))


@contextmanager
def buckets(folder: Path) -> Iterator[Buckets]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with suppress(HTTPError, OSError), urllib.request.urlopen(f"{address}/moto-api/", timeout=5):
            return True
        return False

    with Server([sys.executable, "-m", "moto.server", "-p", str(port)], folder / "moto.log", ready):
        urllib.request.urlopen(urllib.request.Request(f"{address}/{BUCKET}", method="PUT"), timeout=60).close()
        yield Buckets(address)
