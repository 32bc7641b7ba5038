"""The SDK: the same engine in this process, on the same disk store, with LiteLLM's calls."""
