"""``python -m bench.hosting MODULE:FACTORY PORT``: an app on uvicorn, set up as ``cache-proxy serve`` sets it up."""

import sys

import uvicorn

from cache_proxy.serving import OPTIONS

if __name__ == "__main__":
    app, port = sys.argv[1:]
    options = {**OPTIONS, "lifespan": "off"}
    uvicorn.run(app, factory=True, host="127.0.0.1", port=int(port), **options)
