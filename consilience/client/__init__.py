"""HTTP clients of the service: `consilience.client.sync` and `consilience.client.aio`."""
