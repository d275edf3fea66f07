"""The calls of both clients, a module for each resource."""
