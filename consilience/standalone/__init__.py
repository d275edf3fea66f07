"""The whole service on one machine: an embedded Redis, the API and workers, kept running by one process."""
