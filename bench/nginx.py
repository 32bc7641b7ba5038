"""nginx as a cache: what a server that knows nothing of embeddings can do at most."""

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers import free_port, wait_for_port

_CONFIG = """
user {user};
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log {home}/nginx.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    client_body_buffer_size 64k;
    keepalive_requests 10000000;
    proxy_cache_path {home}/nginx keys_zone=zone:16m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_set_header Authorization "Bearer jina_bench";
            proxy_cache zone;
            proxy_cache_methods POST;
            proxy_cache_key $request_body;
            proxy_cache_valid 200 1h;
        }}
    }}
}}
"""


@contextmanager
def caching(upstream: str, home: Path) -> Iterator[str]:
    """nginx with ``proxy_cache``, one worker, keyed on the body. Yields its URL."""
    port = free_port()
    config = home / "nginx.conf"
    # Its worker must be able to write here; only root may choose another user than itself.
    user = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"
    config.write_text(_CONFIG.format(home=home, port=port, upstream=upstream, user=user))
    command = [shutil.which("nginx") or "nginx", "-c", str(config), "-e", str(home / "nginx.log")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
