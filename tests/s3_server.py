"""An S3 server on loopback, for tests: `with serving() as url`. Run as a program it prints its port and serves.

It keeps all in memory. Its library looks whether an object is there and then writes it, in threads of its own; a real
store does both at once, so here one lock stands around the requests that create.
"""

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "none", "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server that is killed at the end."""
    environment = os.environ | KEYS
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", Path(__file__)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=environment, text=True,
    )  # fmt: skip
    try:
        assert server.stdout
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def new_bucket() -> str:
    """The URL of a prefix in a bucket of its own."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # a session remembers the server and keys that it was made with
    name = f"tests-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}/some/results"


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def serve(environ: dict, start_response: object) -> object:
        if environ.get("HTTP_IF_NONE_MATCH"):
            with one_at_a_time:
                return application(environ, start_response)
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, serve, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
