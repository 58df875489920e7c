"""Telling the others: from the stream to each endpoint."""
