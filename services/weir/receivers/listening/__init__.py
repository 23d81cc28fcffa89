"""What all listeners share: sockets, limits, TLS, the PROXY protocol."""
