"""What stands between the service and the network: addresses, tokens, log lines."""
