"""nginx as a reverse proxy in front of one daemon: what it can pass on it passes on unchanged, over
one connection that all clients share.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.support.process import PATIENCE

_CONFIG = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    large_client_header_buffers 4 64k;
    ignore_invalid_headers off;
    underscores_in_headers on;
    merge_slashes off;
    upstream daemon {{
        server 127.0.0.1:{port};
        keepalive 1;
    }}
    server {{
        listen 127.0.0.1:{listener};
        location / {{
            proxy_pass http://daemon;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_next_upstream off;
            proxy_ignore_client_abort on;
            {more}
        }}
    }}
}}
"""


class Nginx:
    """A running nginx. `more` are further directives for what it passes on."""

    def __init__(self, directory: Path, port: int, more: str = "") -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
            file = directory / "nginx.conf"
            file.write_text(_CONFIG.format(directory=directory, port=port, listener=self.port, more=more))
            self.process = subprocess.Popen(
                ["nginx", "-p", str(directory), "-c", str(file), "-e", str(directory / "error.log")],
                stdin=subprocess.DEVNULL,
                # nginx takes over the sockets of these descriptors, as it does from an older nginx.
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
                pass_fds=[listener.fileno()],
            )

    def stop(self) -> None:
        """Stop nginx and its worker at once."""
        self.process.terminate()
        self.process.wait(PATIENCE)
