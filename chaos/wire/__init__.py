"""Proxies between clients and servers, and requests that no client has a call for."""
