"""The synchronous decision API: a transaction in, by HTTP or gRPC, and its decision out of the journal."""
