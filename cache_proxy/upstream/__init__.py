"""The way to the upstream: one client per deployment, lanes with limits and retries, flights that are paid once."""
