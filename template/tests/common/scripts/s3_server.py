"""s3_server.py: an S3 server on a free port of the loopback, until the standard input closes. Prints its address."""

import logging
import sys

try:
    from moto.server import ThreadedMotoServer
except ImportError as error:
    sys.exit(f"{sys.executable} has no S3 server ({error}): pip install --require-hashes -r tests/requirements.txt")

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
sys.stdin.read()
