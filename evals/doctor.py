"""The conformance battery of encoders: what an adapter must do, tried on the encoder at hand."""
